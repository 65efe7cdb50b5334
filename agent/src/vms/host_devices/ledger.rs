//! Which VM has which devices.
//!
//! Why here: pure; as for processors ([`crate::vms::cpus::Ledger`]), a VM has what its domain's tag or its record says, or the
//! start that is under way, until this node reported that it is gone. Devices of one IOMMU group go to one VM. Route in:
//! everything at one moment. Route out: the devices of a VM that starts.

use super::{HostDevice, Offer, Wanted};
use crate::vms::domain_xml::{TAG_DEVICES, TAG_POD_UID};
use crate::vms::plan::Observed;
use sheaf_host::libvirt::Domain;
use std::collections::{BTreeMap, BTreeSet};

/// Who has what, by Pod UID.
#[derive(Debug)]
pub struct Ledger<'a> {
    offer: &'a Offer,
    held: BTreeMap<String, BTreeSet<String>>,
}

impl<'a> Ledger<'a> {
    /// As it is at the moment of `o`.
    pub fn of(o: &Observed<'a>) -> Self {
        let mut ledger = Self { offer: &o.facts.devices, held: BTreeMap::new() };
        for (uid, record) in o.records.iter().filter(|(uid, _)| !o.has_ended(uid)) {
            ledger.hold(uid, record.devices.iter().cloned());
        }
        for (uid, guest) in &o.memory.starting {
            ledger.hold(uid, guest.host_devices.iter().map(|device| device.address.clone()));
        }
        for domain in o.domains {
            if let Some(uid) = domain.tags.get(TAG_POD_UID) {
                ledger.hold(uid, own(domain).into_iter());
            }
        }
        ledger
    }

    fn hold(&mut self, uid: &str, addresses: impl Iterator<Item = String>) {
        self.held.entry(uid.to_owned()).or_default().extend(addresses);
    }

    /// IOMMU groups of which other VMs than the one of Pod `uid` have a device.
    fn taken(&self, uid: &str) -> BTreeSet<u32> {
        let others = self.held.iter().filter(|(other, _)| *other != uid).flat_map(|(_, held)| held);
        let others: BTreeSet<&String> = others.collect();
        let all = self.offer.resources.values().flat_map(|resource| &resource.usable);
        all.filter(|(address, _)| others.contains(address)).map(|(_, group)| *group).collect()
    }

    /// Devices for the VM of Pod `uid`, which is to be started: those that an earlier try to start it had, if they are still
    /// free. Otherwise the resource of which too few are.
    pub fn place(&mut self, uid: &str, wanted: &[Wanted]) -> Result<Vec<HostDevice>, String> {
        let before = self.held.remove(uid).unwrap_or_default();
        let taken = self.taken(uid);
        let mut given: BTreeSet<String> = BTreeSet::new();
        let mut devices = Vec::new();
        for Wanted { name, resource, role } in wanted {
            let usable = self.offer.resources.get(resource).map(|resource| &resource.usable);
            let free = usable
                .into_iter()
                .flatten()
                .filter(|(address, group)| !taken.contains(*group) && !given.contains(*address));
            let mut free: Vec<&String> = free.map(|(address, _)| address).collect();
            free.sort_by_key(|address| !before.contains(*address));
            let address = (*free.first().ok_or_else(|| resource.clone())?).clone();
            given.insert(address.clone());
            devices.push(HostDevice { name: name.clone(), address, role: role.clone() });
        }
        self.held.insert(uid.to_owned(), given);
        Ok(devices)
    }
}

/// What the VM of `domain` has to itself, by its tag.
pub fn own(domain: &Domain) -> Vec<String> {
    let tag = domain.tags.get(TAG_DEVICES).map(String::as_str).unwrap_or_default();
    tag.split(' ').filter(|address| !address.is_empty()).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vms::facts::Facts;
    use crate::vms::host_devices::{Resource, Role};
    use crate::vms::plan::Memory;
    use crate::vms::record::Record;
    use crate::vms::testing::{domain, identity, pod};
    use serde_json::json;
    use std::sync::Arc;

    /// Three GPUs, of which the first two are one IOMMU group.
    fn facts() -> Facts {
        let usable = [("0000:01:00.0", 1), ("0000:01:00.1", 1), ("0000:02:00.0", 2)];
        let usable = usable.map(|(address, group)| (address.to_owned(), group)).into();
        let resources = [("nvidia.com/T4".to_owned(), Resource { count: 3, usable })].into();
        Facts { devices: Offer { resources, problems: Vec::new() }, ..Facts::default() }
    }

    fn wanted(count: usize) -> Vec<Wanted> {
        let one = |number| Wanted {
            name: format!("gpu{number}"),
            resource: "nvidia.com/T4".into(),
            role: Role::Gpu,
        };
        (0..count).map(one).collect()
    }

    fn record(uid: &str, address: &str) -> (String, Record) {
        (uid.to_owned(), Record { devices: vec![address.to_owned()], ..Record::made(&identity(uid)) })
    }

    /// Addresses that the VM of `p2` gets beside what `records` and `domains` have.
    fn place(
        records: &[(String, Record)],
        domains: &[Domain],
        ended: bool,
        count: usize,
    ) -> Result<Vec<String>, String> {
        let records = records.iter().cloned().collect();
        let mut first = pod("p1");
        if ended {
            let status = json!({"phase": "Failed", "containerStatuses": [{"name": "compute", "image": "", "imageID": "",
                "ready": false, "restartCount": 0, "state": {"terminated": {"exitCode": 1}}}]});
            first.status = serde_json::from_value(status).unwrap();
        }
        let pods = [("p1".to_owned(), Arc::new(first)), ("p2".to_owned(), Arc::new(pod("p2")))].into();
        let (facts, memory) = (facts(), Memory::default());
        let o = Observed { pods: &pods, domains, records: &records, facts: &facts, memory: &memory, now: 0 };
        let devices = Ledger::of(&o).place("p2", &wanted(count))?;
        Ok(devices.into_iter().map(|device| device.address).collect())
    }

    #[test]
    fn devices_of_one_group_go_to_one_vm() {
        assert_eq!(place(&[], &[], false, 3).unwrap().len(), 3);
        let first = [record("p1", "0000:01:00.0")];
        assert_eq!(place(&first, &[], false, 1), Ok(vec!["0000:02:00.0".into()]));
        assert_eq!(place(&first, &[], false, 2), Err("nvidia.com/T4".into()));
        assert_eq!(place(&[], &[], false, 4), Err("nvidia.com/T4".into()));
    }

    #[test]
    fn a_device_is_of_a_vm_until_the_node_said_that_it_is_gone() {
        let first = [record("p1", "0000:02:00.0")];
        assert_eq!(place(&first, &[], false, 3), Err("nvidia.com/T4".into()));
        assert_eq!(place(&first, &[], true, 3).unwrap().len(), 3);
        let mut running = domain("p1");
        running.tags.insert(TAG_DEVICES.into(), "0000:02:00.0 0000:01:00.1".into());
        assert_eq!(place(&[], &[running], true, 1), Err("nvidia.com/T4".into()), "its domain is still there");
    }

    #[test]
    fn a_start_that_is_tried_again_has_the_same_devices() {
        assert_eq!(place(&[record("p2", "0000:02:00.0")], &[], false, 1), Ok(vec!["0000:02:00.0".into()]));
    }
}
