//! Disks of the machine: what they are and how they are, and the one thing that is done to them.
//!
//! Why here: anyone who observes holds [`DiskReport`], with which nothing can be erased. Route in: nothing. Route out:
//! [`Programs`]: lsblk, wipefs, smartctl; in tests over a [`crate::fakes::FakeRun`].

use crate::block::{self, Device, ProbeError, Signature};
use crate::run::{Run, RunError};
use crate::smart::{self, Health};
use std::path::Path;
use std::sync::Arc;

/// What disks say of themselves.
pub trait DiskReport: Send + Sync {
    /// All block devices.
    fn devices(&self) -> Result<Vec<Device>, ProbeError>;
    /// Signatures of file systems and tables on `disk` and below it.
    fn signatures(&self, disk: &Device) -> Result<Vec<Signature>, ProbeError>;
    /// What the disk says of its health; asking wakes it.
    fn health(&self, device: &Path) -> Result<Health, RunError>;
}

/// What is done to disks besides.
pub trait Disks: DiskReport {
    /// Erases every signature on `disk` and below it.
    fn wipe(&self, disk: &Device) -> Result<(), RunError>;
}

/// The machine's programs.
pub struct Programs(pub Arc<dyn Run>);

impl DiskReport for Programs {
    fn devices(&self) -> Result<Vec<Device>, ProbeError> {
        block::devices(&*self.0)
    }

    fn signatures(&self, disk: &Device) -> Result<Vec<Signature>, ProbeError> {
        block::signatures(&*self.0, disk)
    }

    fn health(&self, device: &Path) -> Result<Health, RunError> {
        smart::health(&*self.0, device)
    }
}

impl Disks for Programs {
    fn wipe(&self, disk: &Device) -> Result<(), RunError> {
        block::wipe(&*self.0, disk)
    }
}
