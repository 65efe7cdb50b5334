//! Ports of VMs: the packet filter that fits them, and addresses on the private network.
//!
//! Pure but for noting that an observation was used. Route in: answers, records, VMs that are being started. Route out:
//! commands for nft, leases.

use super::{Controller, FILTER};
use crate::vms::api::Cluster;
use crate::vms::filters::{self, Guard, Port, leases, masquerade};
use crate::vms::guest::Guest;
use crate::vms::record::Record;
use sheaf_host::libvirt::VmHost;
use std::collections::BTreeMap;

impl<V: VmHost, C: Cluster> Controller<V, C> {
    /// What guests must not claim; nothing before the node's networks were observed.
    pub(super) fn guard(&self) -> Option<Guard> {
        Some(Guard::of(&self.answers.filter.as_ref()?.segment, &self.answers.api_servers))
    }

    /// The change that makes the packet filter fit the VMs and the networks of this node, if it needs one.
    pub(super) fn plan_filter(
        &mut self,
        records: &BTreeMap<String, Record>,
        guard: Option<&Guard>,
    ) -> Option<Vec<serde_json::Value>> {
        // Records are read after the filter: a port that it has is recorded by then, or its VM is gone.
        if !std::mem::take(&mut self.answers.filter_is_new) || self.memory.busy.contains(FILTER) {
            return None;
        }
        let (guard, filter) = (guard?, self.answers.filter.as_ref()?);
        let recorded = records.values().flat_map(|record| &record.ports);
        let wanted: BTreeMap<String, Port> =
            recorded.chain(self.starting_ports()).map(|port| (port.tap.clone(), port.clone())).collect();
        let mut commands = filters::changes(&wanted, guard, &filter.ports);
        commands.extend(masquerade::changes(guard, &filter.forwarded));
        (!commands.is_empty()).then_some(commands)
    }

    /// Ports that are being put in place, with a VM that is started or by themselves.
    pub(super) fn starting_ports(&self) -> impl Iterator<Item = &Port> {
        let starting = self.memory.starting.values().flat_map(|guest| &guest.interfaces);
        starting.map(|nic| &nic.port).chain(self.memory.connecting.values())
    }

    /// Gives the interfaces of `guest`, of Pod `uid`, that are behind the node their addresses.
    pub(super) fn assign(
        &self,
        uid: &str,
        guest: &mut Guest,
        records: &BTreeMap<String, Record>,
    ) -> Result<(), leases::Exhausted> {
        let others = records.iter().filter(|(other, _)| *other != uid).flat_map(|(_, record)| &record.ports);
        let taken = others.chain(self.starting_ports()).filter_map(leases::lease).collect();
        let mut ports: Vec<_> = guest.interfaces.iter().map(|nic| nic.port.clone()).collect();
        leases::assign(&mut ports, &taken)?;
        for (nic, port) in guest.interfaces.iter_mut().zip(ports) {
            nic.port = port;
        }
        Ok(())
    }
}
