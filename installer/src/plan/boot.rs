//! What starts the disk: systemd-boot on UEFI, GRUB on BIOS, one UKI for both.
//!
//! Why both on every disk: a board may be replaced, or its firmware reset, without installing again.
//! Route in: release, layout, firmware of this machine. Route out: files and texts of the EFI system partition, GRUB's
//! images, the firmware's entry; or why this disk cannot be started here.

use super::{Layout, MediumFile, PlanError, Role, Step, plain};
use crate::inventory::{Disk, Firmware};
use sheaf_config::grub;
use sheaf_config::manifest::Manifest;
use sheaf_release::boot::{self, Slot};

/// systemd-boot under its own name; firmware without an entry for it takes EFI/BOOT/BOOTX64.EFI.
const LOADER: &str = "/EFI/systemd/systemd-bootx64.efi";
/// No menu, no editor: who may change the kernel's arguments owns the node.
const LOADER_CONF: &str = "timeout 0\neditor no\n";

/// Refuses a disk that this machine's firmware cannot start.
pub(super) fn check(firmware: Firmware, disk: &Disk, layout: &Layout, errors: &mut Vec<PlanError>) {
    if firmware == Firmware::Bios && !starts_by_bios(layout) {
        errors.push(PlanError::Bios { disk: disk.path.clone() });
    }
}

/// Longest kernel command line on x86, in bytes, less its final zero: COMMAND_LINE_SIZE.
const LONGEST_COMMAND_LINE: usize = 2047;

/// Refuses arguments of node.toml that the kernel would cut off, or that the firmware would not hand over: no signature
/// covers the arguments of one node.
pub(super) fn check_arguments(
    manifest: &Manifest,
    arguments: &[String],
    secure_boot: bool,
    errors: &mut Vec<PlanError>,
) {
    if secure_boot && !arguments.is_empty() {
        errors.push(PlanError::Arguments {
            reason: "Secure Boot is on, and the firmware would ignore them".into(),
            remedy: "remove them, put them into the recipe of the release, or switch Secure Boot off".into(),
        });
    }
    let own = manifest.node_uki.command_line.len();
    let length = arguments.iter().fold(own, |length, argument| length + 1 + argument.len());
    if !arguments.is_empty() && length > LONGEST_COMMAND_LINE {
        errors.push(PlanError::Arguments {
            reason: format!(
                "with the release's own {own} bytes they make a command line of {length}, the kernel takes \
                 {LONGEST_COMMAND_LINE}"
            ),
            remedy: "shorten them".into(),
        });
    }
}

/// Interrupt 13h and GRUB's first sector know sectors of 512 bytes alone.
fn starts_by_bios(layout: &Layout) -> bool {
    layout.sector_size == 512
}

/// Files of the medium and their paths on the EFI system partition. The version in the UKI's name lets systemd-boot
/// sort; no counter: a first boot has nothing to fall back to.
pub(super) fn files(manifest: &Manifest) -> Vec<(MediumFile, String)> {
    let loader = plain(&manifest.boot_loader);
    vec![
        (loader.clone(), "/EFI/BOOT/BOOTX64.EFI".into()),
        (loader, LOADER.into()),
        (plain(&manifest.node_uki.plain()), format!("/{}/{}", boot::UKIS, boot::good(&manifest.version))),
        (plain(&manifest.bios.menu), "/grub/grub.cfg".into()),
        (plain(&manifest.installer_uki.plain()), format!("/{}", boot::RECOVERY)),
    ]
}

/// What else lies on it: settings of both boot loaders. A UKI may lie under a name with systemd-boot's counter when a
/// BIOS starts it, so GRUB looks for all of them.
pub(super) fn texts(manifest: &Manifest, layout: &Layout, arguments: &[String]) -> Vec<(String, String)> {
    let esp = layout.partition(Role::Esp).uuid.to_string();
    let entry = boot::entry(&manifest.node_uki, &manifest.version, arguments);
    vec![
        ("/loader/loader.conf".into(), LOADER_CONF.into()),
        (format!("/{}", Slot::A.entry()), entry),
        (format!("/{}", boot::ENVIRONMENT), grub::environment(&[("order", "a b")])),
        (format!("/{}", boot::RECOVERY_ENTRY), boot::recovery_entry(&manifest.installer_uki, &esp)),
        (format!("/{}", boot::RECOVERY_SCRIPT), boot::recovery_script(&manifest.installer_uki)),
    ]
}

/// GRUB's core and the MBR's code, for disks that a BIOS can start.
pub(super) fn bios(manifest: &Manifest, layout: &Layout) -> Option<(MediumFile, MediumFile)> {
    starts_by_bios(layout).then(|| (plain(&manifest.bios.core), plain(&manifest.bios.boot)))
}

/// The firmware's first choice; a BIOS has no order that a program could change.
pub(super) fn prefer(firmware: Firmware, layout: &Layout) -> Option<Step> {
    (firmware == Firmware::Uefi).then(|| Step::PreferDisk {
        esp: layout.partition(Role::Esp).clone(),
        sector_size: layout.sector_size,
        loader: LOADER.into(),
    })
}
