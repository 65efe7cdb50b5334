//! What there is on a disk, as far as it decides about a boot.
//!
//! Why a value: what the two boot loaders decide from it is pure, and can be tried on any. Route in: a disk. Route out:
//! [`Facts`].

use super::fat::{Broken, Fat, File};
use super::gpt::Tables;
use super::slots::{Fit, SLOTS, Slots};
use super::{Layout, Read, bytes};
use crate::content::{Contents, Known};
use crate::disk::Disk;
use crate::release::{CODE, Release};
use sheaf_config::grub;
use sheaf_release::boot::{ENVIRONMENT, RECOVERY, RECOVERY_ENTRY, RECOVERY_SCRIPT, Slot, UKIS};

/// Where firmware looks for a loader that no variable names.
const FALLBACK: &str = "EFI/BOOT/BOOTX64.EFI";
/// Where the installer puts systemd-boot under its own name, which the firmware's entry names.
const LOADER: &str = "EFI/systemd/systemd-bootx64.efi";
/// GRUB's script.
const MENU: &str = "grub/grub.cfg";
/// How an environment file of GRUB begins (grub-core/lib/envblk.c).
const SIGNATURE: &str = "# GRUB Environment Block\n";

/// A UKI on the EFI system partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Uki {
    /// Its name.
    pub name: String,
    /// Number of the release whose UKI it is, byte by byte; or what it is.
    pub release: Result<usize, Broken>,
}

/// The EFI system partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Esp {
    /// systemd-boot is there, byte by byte.
    pub loader: Result<(), Broken>,
    /// UKIs, in the order of their folder.
    pub ukis: Vec<Uki>,
    /// GRUB's script is there, byte by byte.
    pub menu: Result<(), Broken>,
    /// GRUB's scripts for slots A and B: of which release; none where there is no file.
    pub entries: [Option<Result<usize, Broken>>; 2],
    /// The recovery, as systemd-boot and as GRUB start it; none where the boot loader finds no entry of it.
    pub recovery: [Option<Result<(), Broken>>; 2],
    /// GRUB's variables; none when it has no file that it takes for one.
    pub variables: Option<Vec<(String, String)>>,
}

/// Everything.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// Versions of the releases, by number.
    pub versions: Vec<String>,
    /// Partition tables.
    pub tables: Tables,
    /// GRUB's code in the MBR and its core are there, byte by byte.
    pub grub: Result<(), Broken>,
    /// The EFI system partition.
    pub esp: Result<Esp, Broken>,
    /// For slots A and B: how each compares with each release.
    pub fits: [Vec<Fit>; 2],
}

impl Facts {
    /// The slot from which the root of release number `release` is mounted, or why it is not. The kernel takes the
    /// partition that has its UUID; where both have, either may be taken, so both have to be right.
    pub fn slot_of(&self, release: usize) -> Result<Slot, String> {
        let version = &self.versions[release];
        let named: Vec<(Slot, &Fit)> = SLOTS
            .iter()
            .zip(&self.fits)
            .map(|(slot, fits)| (*slot, &fits[release]))
            .filter(|(_, fit)| fit.is_named)
            .collect();
        let wrong = named.iter().find(|(_, fit)| fit.root > 0 || fit.tree > 0);
        match (named.first(), wrong) {
            (None, _) => Err(format!("no slot has a root of {version}")),
            (Some(_), Some((slot, Fit { root, tree, .. }))) => Err(format!(
                "slot {} of {version}: {root} blocks of its root and {tree} of its tree are not those of the release",
                slot.name()
            )),
            (Some((slot, _)), None) => Ok(*slot),
        }
    }
}

/// Reads everything.
pub(super) fn read(
    disk: &Disk<'_>,
    tables: Tables,
    contents: &Contents,
    releases: &[Release],
    layout: &Layout,
    slots: &Slots<'_>,
) -> Read<Facts> {
    let esp = match Fat::open(disk, contents, layout.esp.0, layout.esp.1)? {
        Ok(fat) => esp(&fat, releases)?,
        Err(broken) => Err(format!("the EFI system partition cannot be read: {broken}")),
    };
    let fits = |slot| (0..releases.len()).map(|release| slots.fit(slot, release)).collect();
    Ok(Facts {
        versions: releases.iter().map(|release| release.version.clone()).collect(),
        grub: grub_images(disk, releases, layout, &tables)?,
        tables,
        esp,
        fits: [fits(Slot::A), fits(Slot::B)],
    })
}

fn grub_images(
    disk: &Disk<'_>,
    releases: &[Release],
    layout: &Layout,
    tables: &Tables,
) -> Read<Result<(), Broken>> {
    let mut code = [0; 512];
    disk.read(0, &mut code)?;
    if !releases.iter().any(|release| release.code(layout.bios.0) == code[..CODE]) {
        return Ok(Err("the MBR's code is not GRUB's".into()));
    }
    let mut core = vec![0; bytes(layout.bios.1)];
    disk.read(layout.bios.0, &mut core)?;
    if !releases.iter().any(|release| core.starts_with(&release.core(layout.bios.0))) {
        return Ok(Err("the core of GRUB is not in the partition bios".into()));
    }
    let finds_esp = tables.unchecked.as_ref().and_then(|table| table.named("esp")).map(|esp| esp.first);
    Ok(match finds_esp == Some(layout.esp.0) {
        true => Ok(()),
        false => Err("GRUB finds no EFI system partition in the table".into()),
    })
}

/// Number of the first of `known` that `file` is, byte by byte.
fn which<'k>(
    fat: &Fat<'_, '_>,
    file: &File,
    known: impl Iterator<Item = &'k Known>,
) -> Read<Result<usize, Broken>> {
    let mut why = "nothing is known".to_owned();
    for (number, known) in known.enumerate() {
        match fat.compare(file, known)? {
            Ok(()) => return Ok(Ok(number)),
            Err(broken) => why = broken,
        }
    }
    Ok(Err(why))
}

fn is_known<'k>(
    fat: &Fat<'_, '_>,
    path: &str,
    known: impl Iterator<Item = &'k Known>,
) -> Read<Option<Result<usize, Broken>>> {
    Ok(match fat.file(path)? {
        Ok(None) => None,
        Ok(Some(file)) => {
            let which = which(fat, &file, known)?;
            Some(which.map_err(|why| format!("{path} is not that of a release: {why}")))
        }
        Err(broken) => Some(Err(broken)),
    })
}

fn esp(fat: &Fat<'_, '_>, releases: &[Release]) -> Read<Result<Esp, Broken>> {
    let loaders = || releases.iter().map(|release| &release.loader);
    let missing = |path: &str| Err(format!("{path} is not there"));
    let fallback = is_known(fat, FALLBACK, loaders())?.unwrap_or_else(|| missing(FALLBACK));
    // Firmware with an entry for it takes this one; where it is damaged, it is not to be relied on.
    let named = is_known(fat, LOADER, loaders())?.unwrap_or(Ok(0));
    let menu = is_known(fat, MENU, releases.iter().map(|release| &release.menu))?;
    let entry = |slot: Slot| is_known(fat, &slot.entry(), releases.iter().map(|release| &release.entry));
    let mut ukis = Vec::new();
    match fat.folder(UKIS)? {
        Err(broken) => return Ok(Err(broken)),
        Ok(files) => {
            for file in files.into_iter().filter(|file| !file.is_folder) {
                // Both loaders pass over names with a dot, and over all that is not called so.
                if file.name.starts_with('.') || !file.name.to_ascii_lowercase().ends_with(".efi") {
                    continue;
                }
                let release = which(fat, &file, releases.iter().map(|release| &release.uki))?;
                let release =
                    release.map_err(|why| format!("{UKIS}/{} is not the UKI of a release: {why}", file.name));
                ukis.push(Uki { name: file.name, release });
            }
        }
    }
    let variables = match fat.file(ENVIRONMENT)? {
        Ok(Some(file)) => fat.read(&file)?.ok(),
        _ => None,
    };
    let variables = variables
        .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
        .filter(|text| text.starts_with(SIGNATURE))
        .map(|text| grub::variables(&text));
    Ok(Ok(Esp {
        loader: fallback.and(named).map(drop),
        ukis,
        menu: menu.unwrap_or_else(|| missing(MENU)).map(drop),
        entries: [entry(Slot::A)?, entry(Slot::B)?],
        recovery: recovery(fat, releases)?,
        variables,
    }))
}

/// The recovery. systemd-boot passes over an entry whose file is missing; the entry itself names nothing else that could be
/// wrong. GRUB's script names places in the UKI, so both have to be of one release.
fn recovery(fat: &Fat<'_, '_>, releases: &[Release]) -> Read<[Option<Result<(), Broken>>; 2]> {
    let uki = is_known(fat, RECOVERY, releases.iter().map(|release| &release.recovery))?;
    let scripts = releases.iter().map(|release| &release.recovery_script);
    let script = is_known(fat, RECOVERY_SCRIPT, scripts)?;
    let by_systemd_boot = match fat.file(RECOVERY_ENTRY)? {
        Ok(Some(_)) => uki.clone().map(|uki| uki.map(drop)),
        _ => None,
    };
    let by_grub = script.map(|script| {
        match (script?, uki.unwrap_or_else(|| Err(format!("{RECOVERY} is not there")))?) {
            (script, uki)
                if releases[script].recovery_script.bytes() == releases[uki].recovery_script.bytes() =>
            {
                Ok(())
            }
            (script, uki) => Err(format!(
                "{RECOVERY_SCRIPT} is of {}, {RECOVERY} of {}",
                releases[script].version, releases[uki].version
            )),
        }
    });
    Ok([by_systemd_boot, by_grub])
}
