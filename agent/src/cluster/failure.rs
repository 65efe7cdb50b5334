//! A step of the way into the cluster that failed: which one, why, and what the operator can do.
//!
//! Why here: tty1 and the journal name every failing step with its remedy. Route in: [`Remedy::remedy`] at each step.
//! Route out: the `cluster` section of the status.

use std::fmt;

/// A failed step.
#[derive(Debug)]
pub struct Failure {
    /// What was being done, `fetching cluster-info`.
    pub step: String,
    /// What the operator can do about it.
    pub remedy: String,
    /// Why it failed.
    pub cause: anyhow::Error,
}

impl Failure {
    /// `step` failed because of `cause`; `remedy` helps.
    pub fn new(step: impl Into<String>, cause: impl Into<anyhow::Error>, remedy: impl Into<String>) -> Self {
        Self { step: step.into(), remedy: remedy.into(), cause: cause.into() }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {:#}; {}", self.step, self.cause, self.remedy)
    }
}

impl std::error::Error for Failure {}

/// Turns an error into a [`Failure`].
pub trait Remedy<T> {
    /// Names the step that failed and what helps.
    fn remedy(self, step: &str, remedy: impl Into<String>) -> Result<T, Failure>;
}

impl<T, E: Into<anyhow::Error>> Remedy<T> for Result<T, E> {
    fn remedy(self, step: &str, remedy: impl Into<String>) -> Result<T, Failure> {
        self.map_err(|cause| Failure::new(step, cause, remedy))
    }
}
