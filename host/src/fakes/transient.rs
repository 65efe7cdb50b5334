//! Transient units that are none: the program is run by another [`Run`], and the unit it was to be in is remembered.

use crate::run::{Command, Output, Run, RunError};
use crate::transient::{TransientUnit, TransientUnits};
use std::sync::{Arc, Mutex, PoisonError};

/// Runs programs by `run`: a [`super::FakeRun`], or [`crate::run::System`] on a machine whose systemd is not ours.
pub struct FakeTransientUnits {
    run: Arc<dyn Run>,
    units: Mutex<Vec<TransientUnit>>,
}

impl FakeTransientUnits {
    /// One that runs its programs by `run`.
    pub fn over(run: Arc<dyn Run>) -> Self {
        Self { run, units: Mutex::default() }
    }

    /// The units that programs were to be run in, in order.
    pub fn units(&self) -> Vec<TransientUnit> {
        self.units.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl TransientUnits for FakeTransientUnits {
    fn run_in(&self, unit: &TransientUnit, command: &Command) -> Result<Output, RunError> {
        self.units.lock().unwrap_or_else(PoisonError::into_inner).push(unit.clone());
        self.run.run(command)
    }
}
