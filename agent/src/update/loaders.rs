//! Boot loaders and recovery on the EFI system partition: which they are, and how those of a good release take their place.
//!
//! Why after the health gate: a release that goes back leaves the disk as it was. Why in this order: each file is replaced by a
//! rename, so a power cut leaves the old one or the new one. Firmware that knows no entry starts `EFI/BOOT/BOOTX64.EFI`: it gets
//! the systemd-boot that started this boot, never one that has started nothing yet. GRUB's script of the recovery names places in
//! its UKI, so it is away while that is replaced. GRUB's core and the MBR's code are not files and stay (docs/decisions/0044).
//! Route in: files of the release that is kept. Route out: [`Files`], steps of the plan.

use super::bundle::hash;
use super::observed::Observed;
use super::plan::Step;
use super::records::Records;
use anyhow::{Context as _, bail};
use sheaf_config::manifest::{Manifest, Plain};
use sheaf_host::esp::{BootFiles, EspError};
use sheaf_release::boot::{self, FALLBACK, LOADER, MENU, RECOVERY};
use std::fmt;
use std::fs;
use std::io::Read as _;

/// What systemd-boot writes around its version into its program (`src/boot/efi/boot.c`, read by bootctl(1)).
const INFO: (&[u8], &[u8]) = (b"#### LoaderInfo: ", b" ####");
/// A program that is larger is not systemd-boot, in bytes.
const LARGEST_LOADER: u64 = 16 << 20;

/// One of the files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum File {
    /// The installer's UKI, which is the recovery.
    Recovery,
    /// systemd-boot.
    Loader,
    /// GRUB's script that chooses a slot.
    Menu,
}

impl File {
    /// All of them, in the order in which they are refreshed: the recovery is there before a boot loader asks for it.
    pub const ALL: [Self; 3] = [Self::Recovery, Self::Loader, Self::Menu];

    /// Where it is on the EFI system partition.
    pub fn path(self) -> &'static str {
        match self {
            Self::Recovery => RECOVERY,
            Self::Loader => LOADER,
            Self::Menu => MENU,
        }
    }

    /// Its name in the updater's folder, whatever the release calls it.
    pub fn kept(self) -> &'static str {
        match self {
            Self::Recovery => "recovery.efi",
            Self::Loader => "loader.efi",
            Self::Menu => "grub.cfg",
        }
    }

    /// What the release of `manifest` has for it.
    pub fn of(self, manifest: &Manifest) -> Plain {
        match self {
            Self::Recovery => manifest.installer_uki.plain(),
            Self::Loader => manifest.boot_loader.clone(),
            Self::Menu => manifest.bios.menu.clone(),
        }
    }
}

impl fmt::Display for File {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Recovery => "recovery",
            Self::Loader => "systemd-boot",
            Self::Menu => "GRUB's script",
        })
    }
}

/// The files as they are on the disk.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Files {
    /// SHA-256 of each, in the order of [`File::ALL`], hex; none where it is missing.
    pub sha256: [Option<String>; 3],
    /// The recovery has its entry and its script.
    pub has_recovery: bool,
    /// Version of systemd-boot, `systemd-boot 257.9-1`.
    pub loader: Option<String>,
}

impl Files {
    /// SHA-256 of `file`.
    pub fn sha256(&self, file: File) -> Option<&str> {
        self.sha256[file as usize].as_deref()
    }

    /// Whether `file` is that of `manifest`.
    pub fn is_of(&self, file: File, manifest: &Manifest) -> bool {
        let is_same = self.sha256(file) == Some(file.of(manifest).sha256.to_lowercase().as_str());
        is_same && (file != File::Recovery || self.has_recovery)
    }
}

/// Reads them.
pub fn observe(files: &dyn BootFiles) -> anyhow::Result<Files> {
    let mut found = Files::default();
    for file in File::ALL {
        let Some(mut reader) = files.open(file.path())? else { continue };
        let read = |source| EspError { path: file.path().into(), verb: "read", source };
        if file == File::Loader {
            let mut bytes = Vec::new();
            (&mut reader).take(LARGEST_LOADER).read_to_end(&mut bytes).map_err(read)?;
            found.loader = version(&bytes);
            found.sha256[file as usize] = Some(hash(&mut &bytes[..]).map_err(read)?);
        } else {
            found.sha256[file as usize] = Some(hash(&mut reader).map_err(read)?);
        }
    }
    let is_there = |file: &str| anyhow::Ok(files.open(file)?.is_some());
    found.has_recovery = is_there(boot::RECOVERY_ENTRY)? && is_there(boot::RECOVERY_SCRIPT)?;
    Ok(found)
}

/// The version in the program `loader`.
fn version(loader: &[u8]) -> Option<String> {
    let place = |bytes: &[u8], of: &[u8]| bytes.windows(of.len()).position(|window| window == of);
    let rest = loader.get(place(loader, INFO.0)? + INFO.0.len()..)?;
    let text = rest.get(..place(rest, INFO.1)?)?;
    Some(String::from_utf8_lossy(text).into_owned()).filter(|text| text.len() < 64)
}

/// What is to be refreshed once the running release is good: files of the release that is kept, which differ.
pub fn refresh(observed: &Observed) -> Vec<Step> {
    let Some(kept) = observed.kept.as_ref().filter(|kept| kept.manifest.version == observed.running.version)
    else {
        return Vec::new();
    };
    let differs = |file: &File| kept.files.contains(file) && !observed.esp.files.is_of(*file, &kept.manifest);
    File::ALL.into_iter().filter(differs).map(Step::Refresh).collect()
}

/// Which of the files the updater's folder has.
pub fn kept(records: &Records) -> Vec<File> {
    File::ALL.into_iter().filter(|file| records.release().join(file.kept()).exists()).collect()
}

/// Puts `file` of the release that is kept in its place. `esp` is the PARTUUID of the partition.
pub fn apply(
    files: &dyn BootFiles,
    records: &Records,
    manifest: &Manifest,
    file: File,
    esp: &str,
) -> anyhow::Result<()> {
    let path = records.release().join(file.kept());
    let mut source = fs::File::open(&path).with_context(|| format!("{}: cannot be read", path.display()))?;
    let sha256 = file.of(manifest).sha256;
    match file {
        File::Recovery => {
            files.remove(boot::RECOVERY_SCRIPT)?;
            replace(files, RECOVERY, &mut source, &sha256)?;
            let uki = &manifest.installer_uki;
            files.replace(boot::RECOVERY_ENTRY, &mut boot::recovery_entry(uki, esp).as_bytes())?;
            files.replace(boot::RECOVERY_SCRIPT, &mut boot::recovery_script(uki).as_bytes())?;
            Ok(())
        }
        File::Loader => {
            let now = files.read(LOADER)?;
            if let Some(now) = now.as_ref().filter(|now| version(now).is_some()) {
                replace(files, FALLBACK, &mut &now[..], &hash(&mut &now[..])?)?;
            }
            replace(files, LOADER, &mut source, &sha256)
        }
        File::Menu => replace(files, MENU, &mut source, &sha256),
    }
}

/// Replaces `path`, and reads it back.
fn replace(
    files: &dyn BootFiles,
    path: &str,
    source: &mut dyn std::io::Read,
    sha256: &str,
) -> anyhow::Result<()> {
    files.replace(path, source)?;
    let mut written = files.open(path)?.with_context(|| format!("{path} is gone"))?;
    if hash(&mut written)? != sha256.to_lowercase() {
        bail!("{path} differs from what was written when it is read back; the boot disk may be failing");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_of_systemd_boot_is_read_from_its_program() {
        let program = b"MZ..#### LoaderInfo: systemd-boot 257.9-1 ####\0..";
        assert_eq!(version(program).as_deref(), Some("systemd-boot 257.9-1"));
        for other in [&b"MZ"[..], b"#### LoaderInfo: ", b""] {
            assert_eq!(version(other), None);
        }
    }
}
