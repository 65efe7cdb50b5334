//! Observes what runs, what the boot loaders would start, and what the updater keeps.
//!
//! Route in: boot.env, os-release, the mounted EFI system partition, `/state/update`. Route out: [`Observed`]. Blocks.

use super::observed::{Esp, Kept, Observed, Running};
use super::records::Records;
use super::{bundle, loaders};
use crate::cluster::node_status::API_LEVEL;
use anyhow::Context as _;
use sheaf_config::grub;
use sheaf_config::manifest::STATE;
use sheaf_host::disk::Disk;
use sheaf_host::esp::BootFiles;
use sheaf_release::boot::{ENVIRONMENT, Slot, UKIS, UkiName};
use std::path::{Path, PathBuf};

/// Number of the partitions of a slot in every installation: root, verity.
const fn numbers(slot: Slot) -> (u8, u8) {
    match slot {
        Slot::A => (5, 3),
        Slot::B => (6, 4),
    }
}

/// What this boot is, as the initrd and the image say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Machine {
    /// What runs.
    pub running: Running,
    /// UUID of the installation, by which its partitions are named.
    pub install: String,
}

/// Value of `name` in a file of `NAME=value` lines.
fn variable(text: &str, name: &str) -> Option<String> {
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='))?;
    Some(value.trim_matches(['"', '\'']).to_owned()).filter(|value| !value.is_empty())
}

impl Machine {
    /// From `boot_env` of the initrd and `os_release` of the image.
    pub fn read(boot_env: &str, os_release: &str, boot_id: &str, is_uefi: bool) -> anyhow::Result<Self> {
        let boot = |name: &str| variable(boot_env, name).with_context(|| format!("boot.env has no {name}"));
        let image =
            |name: &str| variable(os_release, name).with_context(|| format!("os-release has no {name}"));
        let slot = boot("SLOT")?;
        let running = Running {
            slot: Slot::named(&slot).with_context(|| format!("boot.env names the slot \"{slot}\""))?,
            version: image("IMAGE_VERSION")?,
            name: image("IMAGE_ID")?,
            boot_id: boot_id.trim().to_owned(),
            is_uefi,
            kubernetes: API_LEVEL.trim_start_matches('v').to_owned(),
            state: STATE,
        };
        Ok(Self { running, install: boot("INSTALL_ID")? })
    }

    /// PARTUUID of the EFI system partition: partition 2.
    pub fn esp(&self) -> String {
        format!("{}02", self.install.get(..self.install.len().saturating_sub(2)).unwrap_or_default())
    }

    /// Paths of root and hash tree of `slot`, below `devices` (`/dev/disk/by-partuuid`).
    pub fn partitions(&self, devices: &Path, slot: Slot) -> (PathBuf, PathBuf) {
        let (root, verity) = numbers(slot);
        let stem = self.install.get(..self.install.len().saturating_sub(2)).unwrap_or_default();
        let path = |number: u8| devices.join(format!("{stem}{number:02x}"));
        (path(root), path(verity))
    }
}

/// What the EFI system partition says.
pub fn esp(files: &dyn BootFiles) -> anyhow::Result<Esp> {
    let names = files.list(UKIS)?;
    let environment = files.read(ENVIRONMENT)?.unwrap_or_default();
    Ok(Esp {
        ukis: names.iter().filter_map(|name| UkiName::parse(name)).collect(),
        leftovers: names.into_iter().filter(|name| name.starts_with('.') && name.ends_with(".new")).collect(),
        environment: grub::variables(&String::from_utf8_lossy(&environment)),
        files: loaders::observe(files)?,
    })
}

/// Everything but whether the node has an etcd, which its config says; `room` are the partitions of the other slot, `clock` is the time in seconds since 1970 where it is known.
pub fn observe(
    machine: &Machine,
    files: &dyn BootFiles,
    room: (&dyn Disk, &dyn Disk),
    records: &Records,
    key: &Path,
    arguments: &[String],
    clock: Option<u64>,
) -> anyhow::Result<Observed> {
    Ok(Observed {
        running: machine.running.clone(),
        esp: esp(files)?,
        room: (room.0.size(), room.1.size()),
        kept: bundle::kept(records, key).map(|(manifest, fetched)| Kept {
            manifest,
            fetched,
            files: loaders::kept(records),
        }),
        trial: records.trial(),
        outcome: records.outcome(),
        floor: records.floor(),
        oldest: records.oldest(),
        seen: records.seen(),
        clock,
        arguments: arguments.to_vec(),
        has_etcd: false,
        snapshot: records.snapshot(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOOT: &str = "SLOT=a\nBOOT_DISK=/dev/vda\nINSTALL_ID=6b1f7a3e-93c2-4d55-8f10-012345678900\n";
    const RELEASE: &str = "NAME=\"Sheaf\"\nIMAGE_ID=sheaf\nIMAGE_VERSION=0.1.0\n";

    #[test]
    fn partitions_of_a_slot_are_named_by_the_installation_and_their_number() {
        let machine = Machine::read(BOOT, RELEASE, "boot\n", true).unwrap();
        let (root, verity) = machine.partitions("/dev/disk/by-partuuid".as_ref(), Slot::B);
        assert_eq!(root.file_name().unwrap(), "6b1f7a3e-93c2-4d55-8f10-012345678906");
        assert_eq!(verity.file_name().unwrap(), "6b1f7a3e-93c2-4d55-8f10-012345678904");
        assert_eq!((machine.running.slot, machine.running.version.as_str()), (Slot::A, "0.1.0"));
    }

    #[test]
    fn a_boot_whose_slot_is_unknown_is_not_updated() {
        let error = Machine::read(&BOOT.replace("SLOT=a", "SLOT="), RELEASE, "", true).unwrap_err();
        assert_eq!(error.to_string(), "boot.env has no SLOT");
    }
}
