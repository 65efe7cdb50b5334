//! Which NIC of a machine a text of the config means.
//!
//! Why here: the loader's check against an inventory, the installer, and the agent's boot, merge, verification and status
//! page ask the same. Route in: a name of the config, a MAC or a kernel name; the [`Card`]s of the machine. Route out: the
//! card, or none.

use crate::{Link, Links, Nic};

/// A NIC of the machine.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Card {
    /// Kernel name, `enp1s0`.
    pub name: String,
    /// The MAC it was made with, in small letters.
    pub permanent_mac: Option<String>,
    /// Its place on the bus, udev's `ID_PATH`.
    pub path: Option<String>,
}

/// How a card is recognised: all that is given must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selector {
    /// The MAC it was made with, in small letters.
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

    /// Whether it means `card`.
    pub fn is(&self, card: &Card) -> bool {
        let has_mac =
            |mac: &String| card.permanent_mac.as_ref().is_some_and(|has| has.eq_ignore_ascii_case(mac));
        self.mac.as_ref().is_none_or(has_mac)
            && self.path.as_ref().is_none_or(|path| card.path.as_ref() == Some(path))
            && self.name.as_ref().is_none_or(|name| card.name == *name)
    }

    /// The card that it means.
    pub fn find<'c>(&self, cards: &'c [Card]) -> Option<&'c Card> {
        cards.iter().find(|card| self.is(card))
    }
}

impl Nic {
    /// How its card is recognised: by MAC and place where they are given, else by its name.
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

    /// How the card that `text` means is recognised: as its NIC of the config says, else by `text` itself.
    pub fn selector(&self, text: &str) -> Selector {
        self.nic(text).map_or_else(|| Selector::of_text(text), Nic::selector)
    }

    /// The card that `text` means.
    pub fn find<'c>(&self, text: &str, cards: &'c [Card]) -> Option<&'c Card> {
        self.selector(text).find(cards)
    }

    /// The bond, VLAN or bridge of that name; none for a card.
    pub fn made(&self, name: &str) -> Option<Link<'_>> {
        let bridge = self.bridges.iter().find(|link| link.name == name).map(Link::Bridge);
        let bond = || self.bonds.iter().find(|link| link.name == name).map(Link::Bond);
        let vlan = || self.vlans.iter().find(|link| link.name == name).map(Link::Vlan);
        bridge.or_else(bond).or_else(vlan)
    }

    /// The cards at the bottom of the link `name`, whatever lies between. `usual` as in [`default_card`].
    pub fn under<'c>(&self, name: &str, cards: &'c [Card], usual: Option<&str>) -> Vec<&'c Card> {
        // Links of a config that passed the rules are three deep at most: VLAN over bond, in a bridge, with a VLAN on it.
        self.under_within(name, cards, usual, 8)
    }

    fn under_within<'c>(
        &self,
        name: &str,
        cards: &'c [Card],
        usual: Option<&str>,
        depth: u8,
    ) -> Vec<&'c Card> {
        let Some(depth) = depth.checked_sub(1) else { return Vec::new() };
        let all = |ports: &[String]| {
            ports.iter().flat_map(|port| self.under_within(port, cards, usual, depth)).collect()
        };
        match self.made(name) {
            Some(Link::Bridge(bridge)) if bridge.ports.is_empty() => {
                default_card(cards, usual).into_iter().collect()
            }
            Some(Link::Bridge(bridge)) => all(&bridge.ports),
            Some(Link::Bond(bond)) => all(&bond.ports),
            Some(Link::Vlan(vlan)) => self.under_within(&vlan.parent, cards, usual, depth),
            Some(Link::Nic(_)) | None => self.find(name, cards).into_iter().collect(),
        }
    }
}

/// The card of a bridge that names none: the machine's only one. Where there are several it is the one of an earlier boot,
/// whose MAC is `usual`, else the first by name, and never all of them: two cables into one switch and a bridge that joins
/// them stop a whole network.
pub fn default_card<'c>(cards: &'c [Card], usual: Option<&str>) -> Option<&'c Card> {
    let is_usual = |card: &&Card| usual.is_some() && card.permanent_mac.as_deref() == usual;
    cards.iter().find(is_usual).or_else(|| cards.iter().min_by_key(|card| &card.name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_card_is_found_by_every_way_of_naming_it_and_by_no_other() {
        let card = |number: u8| Card {
            name: format!("enp{number}s0"),
            permanent_mac: Some(format!("52:54:00:00:00:0{number}")),
            path: Some(format!("pci-0000:0{number}:00.0")),
        };
        let cards = [card(1), card(2)];
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
        let find = |text: &str| links.find(text, &cards).map(|card| card.name.as_str());
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
    fn a_bridge_without_ports_has_the_usual_card_else_the_first_and_never_two() {
        let card =
            |name: &str, mac: &str| Card { name: name.into(), permanent_mac: Some(mac.into()), path: None };
        let cards = [card("b", "2"), card("a", "1")];
        let links = Links::only_nic();
        let under = |usual| {
            links.under("br0", &cards, usual).iter().map(|card| card.name.clone()).collect::<Vec<_>>()
        };
        assert_eq!(
            (under(None), under(Some("2")), under(Some("9"))),
            (vec!["a".into()], vec!["b".into()], vec!["a".into()])
        );
    }
}
