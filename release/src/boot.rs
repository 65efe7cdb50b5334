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

#[cfg(test)]
mod tests {
    use super::*;

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
