//! Hosts in memory: the same traits as the real ones, able to fail on demand.
//!
//! Route in: a test that scripts answers and failures. Route out: what was asked, for its assertions.

mod run;

pub use run::FakeRun;
