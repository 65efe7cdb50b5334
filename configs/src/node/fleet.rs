//! `[[node]]`: one file for many machines.
//!
//! A table `[[node]]` names a machine and holds keys that overlay the rest of the file. Route in: `load::fleet`.
//! Route out: the config of one machine.

use schemars::JsonSchema;
use serde::Serialize;

/// What a machine says of itself, by which a `[[node]]` is chosen and host names are made.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct Identity {
    /// Serial number of the machine (DMI `product_serial`).
    pub serial: Option<String>,
    /// UUID of the machine (DMI `product_uuid`), in lowercase.
    pub uuid: Option<String>,
    /// Permanent MACs of its wired NICs, lowercase with colons, by kernel name.
    pub macs: Vec<String>,
}

/// By what a machine is recognised. Every key that is given must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(deny_unknown_fields)]
pub struct Match {
    /// Permanent MAC of one of its NICs.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(example = &"52:54:00:12:34:56")]
    pub mac: Option<String>,
    /// Serial number of the machine, as `dmidecode -s system-serial-number` prints it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub serial: Option<String>,
    /// UUID of the machine, as `dmidecode -s system-uuid` prints it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uuid: Option<String>,
}

impl Match {
    /// Whether `machine` is meant.
    pub fn holds(&self, machine: &Identity) -> bool {
        let same = |wanted: &Option<String>, has: &Option<String>| {
            wanted
                .as_ref()
                .is_none_or(|wanted| has.as_ref().is_some_and(|has| has.eq_ignore_ascii_case(wanted)))
        };
        same(&self.serial, &machine.serial)
            && same(&self.uuid, &machine.uuid)
            && self
                .mac
                .as_ref()
                .is_none_or(|mac| machine.macs.iter().any(|has| has.eq_ignore_ascii_case(mac)))
    }
}

impl std::fmt::Display for Match {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let facts = [("mac", &self.mac), ("serial", &self.serial), ("uuid", &self.uuid)];
        let given = facts.iter().filter_map(|(key, value)| Some(format!("{key} \"{}\"", value.as_ref()?)));
        f.write_str(&given.collect::<Vec<_>>().join(" and "))
    }
}
