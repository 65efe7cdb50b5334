//! The end of the program at a chosen moment, as by `kill -9`: effects of fakes count, before and after each.

use std::sync::{Mutex, PoisonError};
use tokio::sync::Notify;

/// Strikes at one of the moments that [`Self::moment`] counts: the caller that comes to it never continues, and no later one does.
#[derive(Debug, Default)]
pub struct Kill {
    /// Moments until then; never without it.
    left: Mutex<Option<usize>>,
    struck: Notify,
}

impl Kill {
    /// It strikes after `moments` have passed.
    #[must_use]
    pub fn after(moments: usize) -> Self {
        Self { left: Mutex::new(Some(moments)), struck: Notify::new() }
    }

    /// It strikes no more: the program was started again.
    pub fn over(&self) {
        *self.left() = None;
    }

    /// Returns when it has struck.
    pub async fn struck(&self) {
        self.struck.notified().await;
    }

    /// Passes, or never returns.
    pub async fn moment(&self) {
        let passes = match &mut *self.left() {
            None => true,
            Some(0) => false,
            Some(left) => {
                *left -= 1;
                true
            }
        };
        if !passes {
            self.struck.notify_one();
            std::future::pending::<()>().await;
        }
    }

    fn left(&self) -> std::sync::MutexGuard<'_, Option<usize>> {
        self.left.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
