//! Faults of a control plane with three members, under a load of changes, and a judge of what clients were told.
//!
//! Why here: a promise like "no acknowledged write is lost" is about every moment, so faults, load and judge run side by side and
//! outlast a single case. Everything that judges is pure and has planted losses ([`writes`], [`terms`], [`leads`], [`silence`],
//! [`starts`]); what does harm is in [`strike`], and [`rig`] measures it. The clocks of agents and sheaf-controller are right: what they
//! decide by them is handed in (`tests/certificates.rs`). Route in: `tests/control_plane_faults.rs`. Route out: a [`report::Report`] for
//! docs/reliability.md, or the first thing that was wrong.

pub mod client;
pub mod clock;
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
pub(crate) mod strike;
pub mod terms;
pub mod writes;

use std::sync::{Mutex, MutexGuard, PoisonError};

/// What is judged while others write to it.
pub(crate) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
