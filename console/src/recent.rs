//! What was read a moment ago: however many ask, the API server is asked at most so often.
//!
//! Why here: an open claim and the identity provider are read for people who have shown nothing yet. Route in: how to read. Route
//! out: what was read, or its error, which is not kept.

use std::time::{Duration, Instant};
use tokio::sync::Mutex;

/// The last answer, for a while.
pub struct Recent<T> {
    kept: Duration,
    last: Mutex<Option<(Instant, T)>>,
}

impl<T: Clone> Recent<T> {
    /// An answer counts for `kept`.
    pub fn new(kept: Duration) -> Self {
        Self { kept, last: Mutex::new(None) }
    }

    /// The last answer, or what `read` gives now. While one reads, the others wait and get its answer.
    pub async fn get<E>(&self, read: impl Future<Output = Result<T, E>>) -> Result<T, E> {
        let mut last = self.last.lock().await;
        if let Some((_, value)) = last.as_ref().filter(|(at, _)| at.elapsed() < self.kept) {
            return Ok(value.clone());
        }
        let value = read.await?;
        *last = Some((Instant::now(), value.clone()));
        Ok(value)
    }

    /// The next one reads.
    pub async fn forget(&self) {
        *self.last.lock().await = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_answer_counts_until_it_is_forgotten_and_an_error_never() {
        let recent = Recent::new(Duration::from_secs(3600));
        assert_eq!(recent.get(async { Err::<u8, _>("no") }).await, Err("no"));
        assert_eq!(recent.get(async { Ok::<_, &str>(1) }).await, Ok(1));
        assert_eq!(recent.get(async { Ok::<_, &str>(2) }).await, Ok(1));
        recent.forget().await;
        assert_eq!(recent.get(async { Ok::<_, &str>(3) }).await, Ok(3));
    }

    #[tokio::test]
    async fn an_answer_that_is_too_old_is_read_again() {
        let recent = Recent::new(Duration::ZERO);
        assert_eq!(recent.get(async { Ok::<_, &str>(1) }).await, Ok(1));
        assert_eq!(recent.get(async { Ok::<_, &str>(2) }).await, Ok(2));
    }
}
