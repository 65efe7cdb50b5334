//! What a build tells its user while it runs.
//!
//! Route in: each stage at its start and end. Route out: a terminal, a log, or [`Silent`].

use std::time::Duration;

/// How a stage ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was done before with the same inputs.
    Cached,
    /// It was done now.
    Done,
    /// It failed; the error follows.
    Failed,
}

/// Shows one line for each stage.
pub trait Progress {
    /// The stage `name` starts.
    fn started(&self, name: &str);
    /// It ended after `elapsed`.
    fn ended(&self, name: &str, outcome: Outcome, elapsed: Duration);
}

/// Says nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Silent;

impl Progress for Silent {
    fn started(&self, _: &str) {}
    fn ended(&self, _: &str, _: Outcome, _: Duration) {}
}
