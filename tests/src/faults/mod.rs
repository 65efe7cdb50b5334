//! Faults of a control plane with three members, under a load of changes, and a judge of what clients were told.
//!
//! Why here: a promise like "no acknowledged write is lost" is about every moment, so faults, load and judge run side by side and
//! outlast a single case. Everything that judges is pure and has planted losses ([`writes`], [`terms`], [`leads`], [`silence`],
//! [`starts`]); everything that acts is in [`rig`]. What is not here: a clock that is wrong. A time namespace moves the monotonic
//! and the boot clock only (time_namespaces(7)), and Go programs read the time by the vDSO, which no preloaded library replaces;
//! `tests/certificates.rs` tests years by clocks that are handed in. Route in: `tests/control_plane_faults.rs`. Route out: a
//! [`report::Report`] for docs/reliability.md, or the first thing that was wrong.

pub mod client;
pub mod controller;
pub mod disk;
pub mod judge;
pub mod leads;
pub mod load;
pub mod machine;
pub mod observe;
pub mod plan;
pub mod report;
pub mod rig;
pub mod silence;
pub mod starts;
pub mod terms;
pub mod writes;

use std::sync::{Mutex, MutexGuard, PoisonError};

/// What is judged while others write to it.
pub(crate) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
