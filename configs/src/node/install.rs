//! `[install]`: which disk, what may be erased, what is kept, what follows, which webhooks are called.
//!
//! Route in: `load`. Route out: the installer's plan; [`super::webhook`] says whom it tells.

use super::{DataDisk, DiskSelector, Size, Webhook};
use schemars::JsonSchema;
use serde::Serialize;

/// How the machine is installed.
#[derive(Clone, Debug, Default, PartialEq, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(deny_unknown_fields)]
pub struct Install {
    /// Picks the one disk to install on: every key that is given must hold, and exactly one disk of the machine must be
    /// left. None, or several, is an error that lists the disks. The medium itself, disks in use, read-only and too small
    /// ones are never taken.
    pub disk: DiskSelector,
    /// Serial number of that disk, once more: whatever is on it may be erased. Without it only an empty disk is taken.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wipe: Option<String>,
    /// `"keep-data"`: that disk holds an installation of Sheaf, whose data partition and pool stay as they are; the system
    /// and its state are written again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reinstall: Option<Reinstall>,
    /// Size of the state partition (journal, certificates, etcd), a multiple of 1 MiB. Default: what the disk allows,
    /// at most 32 GiB.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(example = &"32GiB")]
    pub state_size: Option<Size>,
    /// Size of the data partition (images, disk files of VMs), a multiple of 1 MiB. What is left is the pool `default`,
    /// which holds volumes; less than 1 GiB makes no pool, and data has it. Default: a quarter of what the state partition
    /// leaves, 1 GiB to 64 GiB.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(example = &"64GiB")]
    pub data_size: Option<Size>,
    /// Further disks that must be there and that the installer leaves empty, for `[[storage.pool]]`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(default)]
    pub data_disks: Vec<DataDisk>,
    /// What follows a successful installation.
    #[schemars(default)]
    pub then: Then,
    /// Servers that are called as the installation continues.
    #[serde(rename = "webhook", skip_serializing_if = "Vec::is_empty")]
    #[schemars(default)]
    pub webhooks: Vec<Webhook>,
}

/// What an installation keeps of the one before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(inline)]
pub enum Reinstall {
    /// The data partition, with images and disks of VMs, and the pool with their volumes.
    KeepData,
}

/// What follows a successful installation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(inline)]
#[allow(missing_docs)] // the names say it
pub enum Then {
    #[default]
    Reboot,
    PowerOff,
}
