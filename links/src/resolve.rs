//! Which NIC of a machine a text of the config means.
//!
//! Why here: the loader's check against an inventory, the installer, and the agent's boot, merge, verification and status
//! page ask the same. Route in: a name of the config, a MAC or a kernel name; the [`FoundNic`]s of the machine. Route out: the
//! NIC, or none.

use crate::{Link, Links, Nic};

/// A NIC of the machine.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FoundNic {
    /// Kernel name, `enp1s0`.
    pub name: String,
    /// Its permanent MAC, in lowercase.
    pub permanent_mac: Option<String>,
    /// Its place on the bus, udev's `ID_PATH`.
    pub path: Option<String>,
}

/// As people find it: `enp1s0 (52:54:00:00:00:01)`, or its kernel name alone.
impl std::fmt::Display for FoundNic {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.permanent_mac {
            Some(mac) => write!(f, "{} ({mac})", self.name),
            None => f.write_str(&self.name),
        }
    }
}

/// How a NIC is recognised: all that is given must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selector {
    /// Its permanent MAC, in lowercase.
    pub mac: Option<String>,
    /// Its place on the bus.
    pub path: Option<String>,
    /// Its kernel name.
    pub name: Option<String>,
}

impl Selector {
    /// By what `text` is, a MAC or a kernel name.
    pub fn of_text(text: &str) -> Self {
        match text.contains(':') {
            true => Self { mac: Some(text.to_ascii_lowercase()), ..Self::default() },
            false => Self { name: Some(text.to_owned()), ..Self::default() },
        }
    }

    /// Whether it means `found_nic`.
    pub fn is(&self, found_nic: &FoundNic) -> bool {
        let has_mac =
            |mac: &String| found_nic.permanent_mac.as_ref().is_some_and(|has| has.eq_ignore_ascii_case(mac));
        self.mac.as_ref().is_none_or(has_mac)
            && self.path.as_ref().is_none_or(|path| found_nic.path.as_ref() == Some(path))
            && self.name.as_ref().is_none_or(|name| found_nic.name == *name)
    }

    /// The NIC that it means.
    pub fn find<'c>(&self, found_nics: &'c [FoundNic]) -> Option<&'c FoundNic> {
        found_nics.iter().find(|found_nic| self.is(found_nic))
    }
}

impl Nic {
    /// How its NIC is recognised: by MAC and place where they are given, else by its name.
    pub fn selector(&self) -> Selector {
        let is_named = self.mac.is_none() && self.path.is_none();
        Selector {
            mac: self.mac.as_ref().map(|mac| mac.to_ascii_lowercase()),
            path: self.path.clone(),
            name: is_named.then(|| self.name.clone()),
        }
    }
}

impl Links {
    /// The NIC of the config that `text` means, by its name or its MAC.
    pub fn nic(&self, text: &str) -> Option<&Nic> {
        let has_mac = |nic: &&Nic| nic.mac.as_deref().is_some_and(|mac| mac.eq_ignore_ascii_case(text));
        self.nics.iter().find(|nic| nic.name == text).or_else(|| self.nics.iter().find(has_mac))
    }

    /// How the NIC that `text` means is recognised: as its NIC of the config says, else by `text` itself.
    pub fn selector(&self, text: &str) -> Selector {
        self.nic(text).map_or_else(|| Selector::of_text(text), Nic::selector)
    }

    /// The NIC that `text` means.
    pub fn find<'c>(&self, text: &str, found_nics: &'c [FoundNic]) -> Option<&'c FoundNic> {
        self.selector(text).find(found_nics)
    }

    /// The bond, VLAN or bridge of that name; none for a NIC.
    pub fn made(&self, name: &str) -> Option<Link<'_>> {
        let bridge = self.bridges.iter().find(|link| link.name == name).map(Link::Bridge);
        let bond = || self.bonds.iter().find(|link| link.name == name).map(Link::Bond);
        let vlan = || self.vlans.iter().find(|link| link.name == name).map(Link::Vlan);
        bridge.or_else(bond).or_else(vlan)
    }

    /// The NICs at the bottom of the link `name`, whatever lies between. `usual` as in [`default_nic`].
    pub fn under<'c>(
        &self,
        name: &str,
        found_nics: &'c [FoundNic],
        usual: Option<&str>,
    ) -> Vec<&'c FoundNic> {
        // Links of a config that passed the rules are three deep at most: VLAN over bond, in a bridge, with a VLAN on it.
        self.under_within(name, found_nics, usual, 8)
    }

    fn under_within<'c>(
        &self,
        name: &str,
        found_nics: &'c [FoundNic],
        usual: Option<&str>,
        depth: u8,
    ) -> Vec<&'c FoundNic> {
        let Some(depth) = depth.checked_sub(1) else { return Vec::new() };
        let all = |ports: &[String]| {
            ports.iter().flat_map(|port| self.under_within(port, found_nics, usual, depth)).collect()
        };
        match self.made(name) {
            Some(Link::Bridge(bridge)) if bridge.ports.is_empty() => {
                default_nic(found_nics, usual).into_iter().collect()
            }
            Some(Link::Bridge(bridge)) => all(&bridge.ports),
            Some(Link::Bond(bond)) => all(&bond.ports),
            Some(Link::Vlan(vlan)) => self.under_within(&vlan.parent, found_nics, usual, depth),
            Some(Link::Nic(_)) | None => self.find(name, found_nics).into_iter().collect(),
        }
    }
}

/// The NIC of a bridge that names none: the machine's only one. Where there are several it is the one of an earlier boot,
/// whose MAC is `usual`, else the first by name, and never all of them: two cables into one switch and a bridge that joins
/// them stop a whole network.
pub fn default_nic<'c>(found_nics: &'c [FoundNic], usual: Option<&str>) -> Option<&'c FoundNic> {
    let is_usual = |found_nic: &&FoundNic| usual.is_some() && found_nic.permanent_mac.as_deref() == usual;
    found_nics.iter().find(is_usual).or_else(|| found_nics.iter().min_by_key(|found_nic| &found_nic.name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_nic_is_found_by_every_way_of_naming_it_and_by_no_other() {
        let found_nic = |number: u8| FoundNic {
            name: format!("enp{number}s0"),
            permanent_mac: Some(format!("52:54:00:00:00:0{number}")),
            path: Some(format!("pci-0000:0{number}:00.0")),
        };
        let found_nics = [found_nic(1), found_nic(2)];
        let nic = |name: &str, mac: Option<&str>, path: Option<&str>| Nic {
            name: name.into(),
            mac: mac.map(str::to_owned),
            path: path.map(str::to_owned),
            ..Nic::default()
        };
        let links = Links {
            nics: vec![
                nic("by-mac", Some("52:54:00:00:00:01"), None),
                nic("by-path", None, Some("pci-0000:02:00.0")),
                nic("both", Some("52:54:00:00:00:01"), Some("pci-0000:02:00.0")),
                nic("enp2s0", None, None),
            ],
            ..Links::default()
        };
        let find = |text: &str| links.find(text, &found_nics).map(|found_nic| found_nic.name.as_str());
        for text in ["by-mac", "52:54:00:00:00:01", "enp1s0"] {
            assert_eq!(find(text), Some("enp1s0"), "{text}");
        }
        for text in ["by-path", "52:54:00:00:00:02", "enp2s0"] {
            assert_eq!(find(text), Some("enp2s0"), "{text}");
        }
        for text in ["both", "52:54:00:00:00:09", "enp9s0", ""] {
            assert_eq!(find(text), None, "{text}");
        }
    }

    #[test]
    fn a_bridge_without_ports_has_the_usual_nic_else_the_first_and_never_two() {
        let found_nic = |name: &str, mac: &str| FoundNic {
            name: name.into(),
            permanent_mac: Some(mac.into()),
            path: None,
        };
        let found_nics = [found_nic("b", "2"), found_nic("a", "1")];
        let links = Links::only_nic();
        let under = |usual| {
            links
                .under("br0", &found_nics, usual)
                .iter()
                .map(|found_nic| found_nic.name.clone())
                .collect::<Vec<_>>()
        };
        assert_eq!(
            (under(None), under(Some("2")), under(Some("9"))),
            (vec!["a".into()], vec!["b".into()], vec!["a".into()])
        );
    }
}
