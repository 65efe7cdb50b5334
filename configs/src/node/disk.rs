//! Which disk: by what it says of itself, never by what the kernel happens to call it.
//!
//! Route in: `[install.disk]`, `install.data-disks`, `[[storage.pool]]`. Route out: selectors that `crate::select`
//! resolves against a machine's disks.

use super::Size;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Every key that is given must hold, and exactly one disk of the machine must be left. None, or several, is an error
/// that lists the disks. The medium itself, disks in use, read-only and too small ones are never taken.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(deny_unknown_fields)]
pub struct DiskSelector {
    /// Serial number, exactly as `lsblk -o NAME,SERIAL` shows it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(example = &"S6B0NL0W123456")]
    pub serial: Option<String>,
    /// World-wide name, as `lsblk -o NAME,WWN` shows it: `eui.…`, `naa.…` or `0x…`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(example = &"eui.0025385b11b2aa01")]
    pub wwn: Option<String>,
    /// A device, or better one of its stable links: `/dev/disk/by-path/…`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(example = &"/dev/disk/by-path/pci-0000:00:17.0-ata-1")]
    pub path: Option<String>,
    /// How it is attached.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bus: Option<Bus>,
    /// Model name, exactly as `lsblk -o NAME,MODEL` shows it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(example = &"SAMSUNG MZQL2960HCJR")]
    pub model: Option<String>,
    /// Smallest size: MB, GB, TB (thousands), MiB, GiB, TiB (1024) or bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(example = &"200GB")]
    pub min_size: Option<Size>,
    /// Largest size.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(example = &"465GiB")]
    pub max_size: Option<Size>,
}

/// How a disk is attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
#[allow(missing_docs)] // the names say it
pub enum Bus {
    Nvme,
    Sata,
    Sas,
    Scsi,
    Usb,
    Virtio,
}

/// A disk besides the one that is installed on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(deny_unknown_fields)]
pub struct DataDisk {
    /// Selects exactly one disk.
    #[serde(flatten)]
    pub disk: DiskSelector,
    /// Serial number of that disk, once more: whatever is on it may be erased. Without it only an empty disk is taken.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wipe: Option<String>,
}
