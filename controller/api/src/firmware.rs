//! Firmware of a VM, and what its SMBIOS tables say of the machine: BIOS or UEFI, serial numbers, chassis.
//!
//! Why here: names, meanings and defaults are KubeVirt's. Route in: `spec.domain.firmware` and `.chassis` of a VMI. Route out:
//! the agent's domain XML, and the folder in which persistent UEFI variables outlive an instance.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Firmware settings.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Firmware {
    /// UUID that the guest reads from its firmware. Default: derived from the VM's UID, the same at every start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(
        pattern = r"^[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}$"
    ))]
    pub uuid: Option<String>,
    /// Serial number of the system in SMBIOS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = r"^[ -~]{0,128}$"))]
    pub serial: Option<String>,
    /// BIOS or UEFI. Default: BIOS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bootloader: Option<Bootloader>,
}

impl Firmware {
    /// UEFI, if that is asked for.
    pub fn efi(&self) -> Option<&Efi> {
        self.bootloader.as_ref()?.efi.as_ref()
    }
}

/// What boots the guest; at most one of bios and efi.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Bootloader {
    /// SeaBIOS. The default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bios: Option<Bios>,
    /// UEFI (OVMF).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub efi: Option<Efi>,
}

/// SeaBIOS.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Bios {
    /// Sends the output of the BIOS to the serial port too. Default: false.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub use_serial: Option<bool>,
}

/// UEFI (OVMF).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Efi {
    /// Boots only what Microsoft's keys signed; needs features.smm. Default: true.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secure_boot: Option<bool>,
    /// Keeps the UEFI variables between two instances, on the node that the VM runs on. Default: false.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub persistent: Option<bool>,
}

impl Efi {
    /// Whether only signed programs boot.
    pub fn is_secure(&self) -> bool {
        self.secure_boot.unwrap_or(true)
    }

    /// Whether the variables outlive an instance.
    pub fn is_persistent(&self) -> bool {
        self.persistent.unwrap_or(false)
    }
}

/// The chassis that SMBIOS describes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Chassis {
    /// Its manufacturer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = r"^[ -~]{0,128}$"))]
    pub manufacturer: Option<String>,
    /// Its version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = r"^[ -~]{0,128}$"))]
    pub version: Option<String>,
    /// Its serial number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = r"^[ -~]{0,128}$"))]
    pub serial: Option<String>,
    /// Its asset tag.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = r"^[ -~]{0,128}$"))]
    pub asset: Option<String>,
    /// Its stock keeping unit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = r"^[ -~]{0,128}$"))]
    pub sku: Option<String>,
}
