//! Firmware [`Variables`] in memory.

use crate::efi::{EfiError, Variables};
use std::collections::BTreeMap;
use std::io;
use std::sync::{Mutex, MutexGuard};

/// Holds what was written; refuses writes when told to.
#[derive(Default)]
pub struct FakeVariables {
    set: Mutex<BTreeMap<String, Vec<u8>>>,
    full: bool,
}

impl FakeVariables {
    /// Firmware without room for a further variable.
    pub fn full() -> Self {
        Self { full: true, ..Self::default() }
    }

    /// `name` is set to `contents`.
    #[must_use]
    pub fn with(self, name: &str, contents: &[u8]) -> Self {
        self.set().insert(name.into(), contents.into());
        self
    }

    fn set(&self) -> MutexGuard<'_, BTreeMap<String, Vec<u8>>> {
        self.set.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

impl Variables for FakeVariables {
    fn names(&self) -> Result<Vec<String>, EfiError> {
        Ok(self.set().keys().cloned().collect())
    }

    fn read(&self, name: &str) -> Result<Option<Vec<u8>>, EfiError> {
        Ok(self.set().get(name).cloned())
    }

    fn write(&self, name: &str, contents: &[u8]) -> Result<(), EfiError> {
        if self.full {
            return Err(EfiError::new(name, "writing", io::ErrorKind::StorageFull.into()));
        }
        self.set().insert(name.into(), contents.into());
        Ok(())
    }
}
