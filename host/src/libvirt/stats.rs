//! Counters of domains, as libvirt gives them for all domains at once.
//!
//! Why here: one question for any number of domains, and one that a hanging QEMU does not hold up. Route in: libvirt's
//! record, named values on the bus. Route out: [`DomainStats`], whole numbers by libvirt's names (`net.0.rx.bytes`) and the
//! names of devices.

use std::collections::{BTreeMap, HashMap};
use zbus::OwnedVariant;

/// `VIR_DOMAIN_STATS_` STATE, CPU_TOTAL, BALLOON, VCPU, INTERFACE, BLOCK
pub const GROUPS: u32 = 1 | 2 | 4 | 8 | 16 | 32;
/// `VIR_CONNECT_GET_ALL_DOMAINS_STATS_NOWAIT`: a domain that is busy comes without what only its QEMU knows.
pub const NO_WAIT: u32 = 1 << 29;

/// Counters of one domain.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct DomainStats {
    /// Name of the domain.
    pub name: String,
    /// Numbers by libvirt's names.
    pub numbers: BTreeMap<String, u64>,
    /// Texts by libvirt's names: `block.0.name`.
    pub texts: BTreeMap<String, String>,
}

impl DomainStats {
    /// The number called `name`.
    pub fn number(&self, name: &str) -> Option<u64> {
        self.numbers.get(name).copied()
    }

    /// The text called `name`.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.texts.get(name).map(String::as_str)
    }
}

/// One record as it is on the bus. Values of other types are left out.
pub fn read(name: String, values: HashMap<String, OwnedVariant>) -> DomainStats {
    let mut stats = DomainStats { name, ..DomainStats::default() };
    for (key, value) in values {
        let value: &zbus::Variant<'_> = &value;
        let number = value
            .downcast_ref::<u64>()
            .ok()
            .or_else(|| value.downcast_ref::<u32>().ok().map(u64::from))
            .or_else(|| value.downcast_ref::<i64>().ok().and_then(|number| u64::try_from(number).ok()))
            .or_else(|| value.downcast_ref::<i32>().ok().and_then(|number| u64::try_from(number).ok()))
            .or_else(|| value.downcast_ref::<bool>().ok().map(u64::from));
        if let Some(number) = number {
            stats.numbers.insert(key, number);
        } else if let Ok(text) = value.downcast_ref::<&str>() {
            stats.texts.insert(key, text.to_owned());
        }
    }
    stats
}
