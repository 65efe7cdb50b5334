//! A service manager that remembers what it was told.

use crate::notify::Notify;
use std::io;
use std::sync::{Mutex, PoisonError};

/// Remembers messages.
#[derive(Default)]
pub struct FakeNotify(Mutex<Vec<String>>);

impl FakeNotify {
    /// Takes all messages so far.
    pub fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Notify for FakeNotify {
    fn notify(&self, message: &str) -> io::Result<()> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(message.to_owned());
        Ok(())
    }
}
