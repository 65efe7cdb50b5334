//! A [`PciReport`] that a test sets.

use crate::pci::{PciDevice, PciError, PciReport};
use std::io;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

/// Devices that a test sets; fails when told so.
#[derive(Default)]
pub struct FakePci(Mutex<(Vec<PciDevice>, bool)>);

impl FakePci {
    /// From now on it has `devices`.
    pub fn set(&self, devices: Vec<PciDevice>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).0 = devices;
    }

    /// Whether every observation fails from now on.
    pub fn fails(&self, fails: bool) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).1 = fails;
    }
}

impl PciReport for FakePci {
    fn devices(&self) -> Result<Vec<PciDevice>, PciError> {
        let inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match inner.1 {
            true => Err(PciError::new(Path::new("bus/pci/devices"), io::Error::other("injected failure"))),
            false => Ok(inner.0.clone()),
        }
    }
}
