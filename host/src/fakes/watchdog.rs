//! A watchdog in memory.

use crate::systemd::Answer;
use crate::watchdog::Watchdog;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// One that takes every timeout; or none, on a machine that has no watchdog.
pub struct FakeWatchdog(Mutex<State>);

struct State {
    timeout: Option<Duration>,
    is_there: bool,
    set: Vec<Duration>,
}

impl Default for FakeWatchdog {
    /// As systemd of the image feeds it.
    fn default() -> Self {
        Self(Mutex::new(State { timeout: Some(Duration::from_secs(60)), is_there: true, set: Vec::new() }))
    }
}

impl FakeWatchdog {
    /// On a machine without one.
    pub fn missing() -> Self {
        Self(Mutex::new(State { timeout: None, is_there: false, set: Vec::new() }))
    }

    /// Every timeout that was asked for.
    pub fn asked(&self) -> Vec<Duration> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).set.clone()
    }
}

impl Watchdog for FakeWatchdog {
    fn timeout(&self) -> Option<Duration> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).timeout
    }

    fn set(&self, timeout: Duration) -> Answer<'_, ()> {
        Box::pin(async move {
            let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            state.set.push(timeout);
            if state.is_there {
                state.timeout = Some(timeout);
            }
            Ok(())
        })
    }
}
