//! Says on standard error what a long wait is for.
//!
//! Why here: a case or a demo that stands still for a minute must not look dead. Route in: [`Notice::tick`] at each
//! poll. Route out: one line when the wait has become long, and none for a short one.

use std::time::{Duration, Instant};

/// A wait this long is worth a line.
const LONG: Duration = Duration::from_secs(20);

/// One wait.
#[derive(Debug)]
pub struct Notice<'a> {
    what: &'a str,
    deadline: Duration,
    begin: Instant,
    said: bool,
}

impl<'a> Notice<'a> {
    /// A wait for `what` that begins now and ends within `deadline`.
    pub fn new(what: &'a str, deadline: Duration) -> Self {
        Self { what, deadline, begin: Instant::now(), said: false }
    }

    /// To be called at each poll.
    pub fn tick(&mut self) {
        if !self.said && self.begin.elapsed() >= LONG {
            self.said = true;
            eprintln!("        waiting for {} (at most {} s)", self.what, self.deadline.as_secs());
        }
    }
}
