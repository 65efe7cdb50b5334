//! Selectors against a machine: which disk; its NICs, as [`sheaf_links`] selects among them.
//!
//! Why here: the installer decides by it beside the machine, `sheaf config check --against` far from it, alike.
//! Pure. Route in: a selector and an [`crate::inventory`]. Route out: why a disk does not fit.

use crate::inventory::{Disk, Nic};
use crate::node::{Bus, DiskSelector};
use sheaf_links::FoundNic;
use std::fmt;

impl fmt::Display for Bus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Nvme => "nvme",
            Self::Sata => "sata",
            Self::Sas => "sas",
            Self::Scsi => "scsi",
            Self::Usb => "usb",
            Self::Virtio => "virtio",
        })
    }
}

impl fmt::Display for DiskSelector {
    /// `serial = "A" and bus = "nvme"`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let keys = [
            ("serial", self.serial.clone()),
            ("wwn", self.wwn.clone()),
            ("path", self.path.clone()),
            ("bus", self.bus.map(|bus| bus.to_string())),
            ("model", self.model.clone()),
            ("min-size", self.min_size.map(|size| size.to_string())),
            ("max-size", self.max_size.map(|size| size.to_string())),
        ];
        let given = keys.into_iter().filter_map(|(key, value)| Some(format!("{key} = \"{}\"", value?)));
        f.write_str(&given.collect::<Vec<_>>().join(" and "))
    }
}

/// Why `disk` does not fit `selector`; empty when it does.
pub fn mismatches(selector: &DiskSelector, disk: &Disk) -> Vec<String> {
    let mut reasons = Vec::new();
    if disk.is_medium {
        reasons.push("is the install medium".into());
    }
    let mut differs = |key: &str, has: &Option<String>, same: bool| {
        if !same {
            reasons.push(match has {
                Some(has) => format!("its {key} is {has}"),
                None => format!("it has no {key}"),
            });
        }
    };
    if let Some(serial) = &selector.serial {
        differs("serial", &disk.serial, disk.serial.as_ref() == Some(serial));
    }
    if let Some(wwn) = &selector.wwn {
        differs("wwn", &disk.wwn, disk.wwn.as_ref().is_some_and(|has| wwn_digits(has) == wwn_digits(wwn)));
    }
    if let Some(bus) = selector.bus {
        differs("bus", &disk.bus.map(|bus| bus.to_string()), disk.bus == Some(bus));
    }
    if let Some(model) = &selector.model {
        differs("model", &disk.model, disk.model.as_ref() == Some(model));
    }
    if let Some(path) = &selector.path
        && !disk.links.iter().chain([&disk.path]).any(|link| link.as_os_str() == path.as_str())
    {
        reasons.push("its path is another".into());
    }
    if selector.min_size.is_some_and(|min| disk.size < min.0) {
        reasons.push("is smaller than min-size".into());
    }
    if selector.max_size.is_some_and(|max| disk.size > max.0) {
        reasons.push("is larger than max-size".into());
    }
    reasons
}

/// The same name is written `naa.5000…` on labels and `0x5000…` by the kernel.
fn wwn_digits(wwn: &str) -> String {
    let lower = wwn.to_lowercase();
    lower.trim_start_matches("naa.").trim_start_matches("0x").to_owned()
}

impl From<&Nic> for FoundNic {
    fn from(nic: &Nic) -> Self {
        Self { name: nic.name.clone(), permanent_mac: nic.permanent_mac.clone(), path: nic.path.clone() }
    }
}

/// `nics` as links know them.
pub fn found_nics(nics: &[Nic]) -> Vec<FoundNic> {
    nics.iter().map(FoundNic::from).collect()
}
