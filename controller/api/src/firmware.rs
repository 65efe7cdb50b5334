//! Firmware of a VM, and what its SMBIOS tables say of the machine: BIOS or UEFI, serial numbers, chassis.
//!
//! Why here: names, meanings and defaults are KubeVirt's. Route in: `spec.domain.firmware` and `.chassis` of a VMI. Route out:
//! the agent's domain XML, and the folder in which persistent UEFI variables outlive an instance.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::volumes::{ContainerDisk, PullPolicy};

/// Firmware settings.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
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
    /// A kernel that the firmware starts in the place of a boot loader.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kernel_boot: Option<KernelBoot>,
}

/// A kernel from an image of a registry, and its arguments.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct KernelBoot {
    /// Arguments of the kernel; they need a kernel.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = r"^[ -~]*$"), length(max = 2047))]
    pub kernel_args: Option<String>,
    /// The image with the kernel.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container: Option<KernelBootContainer>,
}

/// An image of a registry with a kernel, and an initrd if the kernel needs one; each of at most 128Mi.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct KernelBootContainer {
    /// The image, as container runtimes name it.
    #[schemars(length(min = 1, max = 512))]
    pub image: String,
    /// When the registry is asked. Default: Always for the tag `latest` or none, IfNotPresent otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image_pull_policy: Option<PullPolicy>,
    /// Secret of the same namespace with the login of the registry (`kubectl create secret docker-registry`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub image_pull_secret: Option<String>,
    /// The kernel in the image, `/boot/vmlinuz`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub kernel_path: Option<String>,
    /// The initrd in the image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub initrd_path: Option<String>,
}

/// The largest kernel or initrd, in bytes: each VM has files of its own, which are set aside on its node.
pub const BOOT_FILE_BYTES: u64 = 128 << 20;

/// Which file of a [`KernelBootContainer`]. Its name tells it from a volume, whose name has no dot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BootFile {
    /// The kernel.
    Kernel,
    /// The initrd.
    Initrd,
}

impl BootFile {
    /// Its name among what a Pod waits for.
    pub fn name(self) -> &'static str {
        match self {
            Self::Kernel => "kernelBoot.kernel",
            Self::Initrd => "kernelBoot.initrd",
        }
    }
}

impl KernelBootContainer {
    /// The files that are named, as the disk of a container disk would be.
    pub fn files(&self) -> impl Iterator<Item = (BootFile, ContainerDisk)> {
        let named = [(BootFile::Kernel, &self.kernel_path), (BootFile::Initrd, &self.initrd_path)];
        let of = |(file, path): (BootFile, &Option<String>)| {
            let path = path.clone().filter(|path| !path.is_empty())?;
            let disk = ContainerDisk {
                image: self.image.clone(),
                image_pull_policy: self.image_pull_policy,
                image_pull_secret: self.image_pull_secret.clone(),
                path: Some(path),
            };
            Some((file, disk))
        };
        named.into_iter().filter_map(of).collect::<Vec<_>>().into_iter()
    }
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
