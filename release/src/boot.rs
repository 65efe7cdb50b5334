//! Names and contents of the files on the EFI system partition that belong to one slot.
//!
//! Why here: the installer writes them first, the updater later, and both boot loaders read them by these names. A UKI has
//! the tries it has left in its name, as systemd-boot counts them: `sheaf_0.2.0+3.efi`, after a first try
//! `sheaf_0.2.0+2-1.efi`; without them it is known to be good. GRUB counts in its environment. Pure.

use sheaf_config::grub;
use sheaf_config::manifest;

/// Folder of the UKIs.
pub const UKIS: &str = "EFI/Linux";
/// GRUB's environment: order of the slots, tries that are left.
pub const ENVIRONMENT: &str = "grub/grubenv";
/// How often a new release is tried, by either boot loader.
pub const TRIES: u32 = 3;

/// systemd-boot where firmware looks for a loader that no variable names.
pub const FALLBACK: &str = "EFI/BOOT/BOOTX64.EFI";
/// systemd-boot under its own name, which the firmware's entry names.
pub const LOADER: &str = "EFI/systemd/systemd-bootx64.efi";
/// GRUB's script, which chooses a slot.
pub const MENU: &str = "grub/grub.cfg";
/// The recovery: the UKI of the installer, which starts when no slot can be started any more. Not among [`UKIS`]: it has no
/// slot and no counter.
pub const RECOVERY: &str = "EFI/sheaf/recovery.efi";
/// systemd-boot's entry for it.
pub const RECOVERY_ENTRY: &str = "loader/entries/sheaf-recovery.conf";
/// GRUB's script that starts it.
pub const RECOVERY_SCRIPT: &str = "grub/recovery.cfg";
/// The kernel argument by which the installer is the recovery.
pub const RECOVERY_ARGUMENT: &str = "sheaf.recovery=1";

/// One of the two slots.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[allow(missing_docs)] // the names say it
pub enum Slot {
    A,
    B,
}

impl Slot {
    /// Its name: `a` or `b`.
    pub fn name(self) -> &'static str {
        match self {
            Self::A => "a",
            Self::B => "b",
        }
    }

    /// The slot called `name`.
    pub fn named(name: &str) -> Option<Self> {
        [Self::A, Self::B].into_iter().find(|slot| slot.name() == name)
    }

    /// The other one.
    pub fn other(self) -> Self {
        match self {
            Self::A => Self::B,
            Self::B => Self::A,
        }
    }

    /// GRUB's script that starts it, on the EFI system partition.
    pub fn entry(self) -> String {
        format!("grub/{}.cfg", self.name())
    }
}

/// A UKI by its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UkiName {
    /// The file's name.
    pub file: String,
    /// Version of its release.
    pub version: String,
    /// Tries that are left; none for one that is known to be good.
    pub left: Option<u32>,
}

impl UkiName {
    /// The UKI that `file` names, if it is one of ours.
    pub fn parse(file: &str) -> Option<Self> {
        let name = file.strip_prefix("sheaf_")?.strip_suffix(".efi")?;
        let (version, left) = match name.split_once('+') {
            None => (name, None),
            Some((version, tries)) => {
                let left = tries.split_once('-').map_or(tries, |(left, _)| left);
                (version, Some(left.parse().ok()?))
            }
        };
        Some(Self { file: file.to_owned(), version: version.to_owned(), left })
    }
}

/// Name of the UKI of `version` that is known to be good.
pub fn good(version: &str) -> String {
    format!("sheaf_{version}.efi")
}

/// Name of the UKI of `version` with `left` tries.
pub fn counted(version: &str, left: u32) -> String {
    format!("sheaf_{version}+{left}.efi")
}

/// GRUB's script of a slot: finds the UKI of `version` under whatever name its counter gives it, and loads it.
/// `arguments` are the node's own kernel arguments.
pub fn entry(uki: &manifest::Uki, version: &str, arguments: &[String]) -> String {
    let name = format!("/{UKIS}/sheaf_{version}");
    let find = format!(
        "unset file\nfor name in {name}.efi {name}+*.efi; do if [ -f $name ]; then file=$name; fi; done\n"
    );
    let more: String = arguments.iter().map(|word| format!(" '{}'", word.replace('\'', "'\\''"))).collect();
    find + &grub::load(uki, "$file", &format!("sheaf.esp=$esp{more}"))
}

/// Version of the release that `entry` starts, a script made by [`entry`].
pub fn version_of_entry(entry: &str) -> Option<String> {
    let names = entry.lines().find_map(|line| line.strip_prefix(&format!("for name in /{UKIS}/sheaf_")))?;
    let (version, _) = names.split_once(".efi ")?;
    (!version.is_empty()).then(|| version.to_owned())
}

/// systemd-boot's entry for the recovery, whose UKI is `uki`; `esp` is the PARTUUID of the partition that it is on.
///
/// Its key sorts behind those of UKIs, which have the release's name; entries without a try left come after both
/// (boot_entry_compare of systemd 257). So it is started when no slot has a try left, and at no other time. An `efi` entry is
/// not counted (LOADER_TYPE_BUMP_COUNTERS). Its options replace those in the UKI, so they repeat them.
pub fn recovery_entry(uki: &manifest::Uki, esp: &str) -> String {
    format!(
        "title Sheaf recovery\nsort-key ~sheaf-recovery\nefi /{RECOVERY}\noptions {} {RECOVERY_ARGUMENT} sheaf.esp={esp}\n",
        uki.command_line.trim()
    )
}

/// GRUB's script for it. Where parts of the UKI are is in it: it is of this very UKI.
pub fn recovery_script(uki: &manifest::Uki) -> String {
    grub::load(uki, &format!("/{RECOVERY}"), &format!("{RECOVERY_ARGUMENT} sheaf.esp=$esp"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn installer() -> manifest::Uki {
        let section = |offset, size| manifest::Section { offset, size };
        manifest::Uki {
            file: "installer.efi".into(),
            size: 4096,
            sha256: String::new(),
            linux: section(512, 1024),
            initrd: section(1536, 512),
            command_line: "rd.systemd.unit=sheaf-installer.target quiet".into(),
        }
    }

    #[test]
    fn the_version_of_a_script_is_read_back_from_it() {
        for version in ["0.1.0", "1.2.3-rc.1"] {
            assert_eq!(version_of_entry(&entry(&installer(), version, &[])).as_deref(), Some(version));
        }
        assert_eq!(version_of_entry("loopback uki /x.efi\n"), None);
    }

    #[test]
    fn the_recovery_is_the_installer_with_an_argument_more_and_sorts_behind_every_slot() {
        let entry = recovery_entry(&installer(), "6b1f7a3e-93c2-4d55-8f10-012345678902");
        assert_eq!(
            entry,
            "title Sheaf recovery\nsort-key ~sheaf-recovery\nefi /EFI/sheaf/recovery.efi\noptions \
             rd.systemd.unit=sheaf-installer.target quiet sheaf.recovery=1 sheaf.esp=6b1f7a3e-93c2-4d55-8f10-012345678902\n"
        );
        let key = entry.lines().find_map(|line| line.strip_prefix("sort-key ")).unwrap();
        // Names of releases are lowercase letters, digits and dashes.
        assert!(["sheaf", "zz-top", "0"].iter().all(|name| *name < key));
        assert_eq!(
            recovery_script(&installer()),
            "loopback uki /EFI/sheaf/recovery.efi\nlinux (uki)1+2 rd.systemd.unit=sheaf-installer.target quiet \
             sheaf.recovery=1 sheaf.esp=$esp\ninitrd (uki)3+1\n"
        );
    }

    #[test]
    fn a_uki_is_known_by_version_and_tries() {
        let name = |file: &str| UkiName::parse(file).map(|name| (name.version, name.left));
        assert_eq!(name("sheaf_0.1.0.efi"), Some(("0.1.0".into(), None)));
        assert_eq!(name(&counted("0.2.0-rc.1", 3)), Some(("0.2.0-rc.1".into(), Some(3))));
        assert_eq!(name("sheaf_0.2.0+2-1.efi"), Some(("0.2.0".into(), Some(2))));
        assert_eq!(name(&good("0.2.0")), Some(("0.2.0".into(), None)));
        for other in ["memtest.efi", ".sheaf_0.2.0+3.efi.new", "sheaf_0.2.0+x.efi", "sheaf_0.2.0+3.efi.new"] {
            assert_eq!(name(other), None, "{other}");
        }
    }
}
