//! Which VM has which processors, and what is left.
//!
//! Why here: pure; what decides that no processor is given twice. It is no state of its own: a VM has what its domain's tag
//! or its record says, or the start that is under way, from before QEMU runs until this node reported that it is gone. A record
//! lives in the VM's folder, so an agent that starts again moves nothing. Route in: everything at one moment. Route out: a
//! [`Placement`] for a VM that starts, the processors that all others share.

use super::{NodeCpus, Own, Placement, Wanted, choose};
use crate::vms::domain_xml::{TAG_CPUS, TAG_POD_UID};
use crate::vms::plan::Observed;
use sheaf_host::cpus::CpuSet;
use sheaf_host::libvirt::Domain;
use std::collections::BTreeMap;

/// Who has what, by Pod UID.
#[derive(Debug)]
pub struct Ledger<'a> {
    node: Option<&'a NodeCpus>,
    held: BTreeMap<String, CpuSet>,
}

impl<'a> Ledger<'a> {
    /// As it is at the moment of `o`.
    pub fn of(o: &Observed<'a>) -> Self {
        let mut ledger = Self { node: o.facts.cpus.as_ref(), held: BTreeMap::new() };
        for (uid, record) in o.records.iter().filter(|(uid, _)| !o.has_ended(uid)) {
            ledger.hold(uid, &record.cpus.clone().unwrap_or_default());
        }
        for (uid, guest) in &o.memory.starting {
            ledger.hold(uid, &guest.placement.own().unwrap_or_default());
        }
        for domain in o.domains {
            if let Some((uid, cpus)) = domain.tags.get(TAG_POD_UID).zip(own(domain)) {
                ledger.hold(uid, &cpus);
            }
        }
        ledger
    }

    fn hold(&mut self, uid: &str, cpus: &CpuSet) {
        let held = self.held.entry(uid.to_owned()).or_default();
        *held = held.with(cpus);
    }

    /// Processors that no VM has to itself; nothing if the node gives VMs none of their own.
    pub fn shared(&self) -> Option<CpuSet> {
        Some(self.held.values().fold(self.node?.topology.all(), |left, held| left.without(held)))
    }

    /// Processors for the VM of Pod `uid`, which is to be started: those that an earlier try to start it had, if they are
    /// still right. Nothing if there are too few.
    pub fn place(&mut self, uid: &str, wanted: Option<Wanted>) -> Option<Placement> {
        let Some(node) = self.node else {
            // A VM that asks for its own was refused before.
            return wanted.is_none().then_some(Placement::Anywhere);
        };
        let before = self.held.remove(uid).unwrap_or_default();
        let Some(wanted) = wanted else { return self.shared().map(Placement::Shared) };
        let free = self.shared()?.without(&node.reserved);
        let again = choose(&node.topology, &before.common(&free), wanted);
        let own: Own = again.or_else(|| choose(&node.topology, &free, wanted))?;
        self.hold(uid, &own.all());
        Some(Placement::Own(own))
    }

    /// Processors that the VM of `domain` is to run on and does not; nothing for one that has its own, which never change.
    pub fn moved(&self, uid: &str, domain: &Domain) -> Option<CpuSet> {
        let shared = self.shared().filter(|_| self.held.get(uid).is_none_or(CpuSet::is_empty))?;
        (!domain.pins.are(&shared, domain.cpus.most)).then_some(shared)
    }

    /// How many are free for VMs that ask for their own.
    pub fn free(&self) -> usize {
        let shared = self.shared().unwrap_or_default();
        self.node.map_or(0, |node| shared.without(&node.reserved).len())
    }
}

/// What the VM of `domain` has to itself, by its tag.
pub fn own(domain: &Domain) -> Option<CpuSet> {
    CpuSet::parse(domain.tags.get(TAG_CPUS)?)
}

#[cfg(test)]
mod tests;
