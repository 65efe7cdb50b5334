//! A [`Segments`] that a test sets.

use crate::segment::{Segment, Segments};
use std::io;
use std::sync::{Mutex, PoisonError};

/// Networks that a test sets; fails when told so.
#[derive(Default)]
pub struct FakeSegments(Mutex<(Segment, bool)>);

impl FakeSegments {
    /// From now on it is `segment`.
    pub fn set(&self, segment: Segment) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).0 = segment;
    }

    /// Whether every observation fails from now on.
    pub fn fails(&self, fails: bool) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).1 = fails;
    }
}

impl Segments for FakeSegments {
    fn observe(&self) -> io::Result<Segment> {
        let inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if inner.1 { Err(io::Error::other("injected failure")) } else { Ok(inner.0.clone()) }
    }
}
