//! VMs and their ports on the node's status page.
//!
//! Pure. Route in: what the controller observed and remembers. Route out: sections of the status document.

use super::domain_xml::TAG_POD_UID;
use super::filters::{Port, State};
use super::plan::{FailedStart, Memory};
use super::record::Record;
use super::{admission, report};
use crate::listed::Listed;
use crate::status::{PortSection, VmSection};
use k8s_openapi::api::core::v1::Pod;
use sheaf_api::names::CREATED_BY_LABEL;
use sheaf_api::network::SeenInterface;
use sheaf_host::libvirt::Domain;
use std::collections::BTreeMap;

/// All VMs: those of Pods, and domains that are not Sheaf's.
pub fn vms(listed: &Listed<Pod>, domains: &[Domain], memory: &Memory) -> Vec<VmSection> {
    let pods = listed.objects.iter().filter(|(_uid, pod)| admission::is_vm(pod));
    let foreign = domains.iter().filter(|domain| !domain.tags.contains_key(TAG_POD_UID));
    pods.map(|(uid, pod)| of_pod(pod, memory.failures.get(uid))).chain(foreign.map(of_foreign)).collect()
}

/// All ports of VMs.
pub fn ports(
    records: &BTreeMap<String, Record>,
    memory: &Memory,
    filter: Option<&State>,
) -> Vec<PortSection> {
    let of_record = |record: &Record| -> Vec<PortSection> {
        let interfaces = memory.interfaces.get(&record.pod_uid).map(Vec::as_slice).unwrap_or_default();
        record.ports.iter().map(|port| of_port(record, port, interfaces, filter)).collect()
    };
    records.values().flat_map(of_record).collect()
}

fn of_port(
    record: &Record,
    port: &Port,
    interfaces: &[SeenInterface],
    filter: Option<&State>,
) -> PortSection {
    let interface = interfaces.iter().find(|interface| interface.name == port.interface);
    let dropped = filter.and_then(|filter| filter.ports.get(&port.tap)).map(|state| state.dropped.clone());
    PortSection {
        name: port.tap.clone(),
        vm: format!("{}/{}", record.namespace, record.vmi),
        interface: port.interface.clone(),
        bridge: port.bridge.clone(),
        vlans: port.vlans(),
        mac: port.mac.clone(),
        addresses: interface.map(|interface| interface.ip_addresses.clone()).unwrap_or_default(),
        dropped: dropped.unwrap_or_default(),
    }
}

fn of_foreign(domain: &Domain) -> VmSection {
    VmSection {
        name: domain.name.clone(),
        uid: domain.uuid.clone(),
        phase: "Foreign".into(),
        problem: Some("not started by Sheaf; ignored".into()),
    }
}

fn of_pod(pod: &Pod, failure: Option<&FailedStart>) -> VmSection {
    let meta = &pod.metadata;
    let label = |name: &str| meta.labels.as_ref().and_then(|labels| labels.get(name)).cloned();
    let owner = meta.owner_references.iter().flatten().find(|owner| owner.kind == "VirtualMachineInstance");
    let name = owner.map(|owner| owner.name.clone()).or_else(|| meta.name.clone()).unwrap_or_default();
    let status = pod.status.clone().unwrap_or_default();
    let waiting = status.container_statuses.iter().flatten().find_map(|container| {
        let waiting = container.state.as_ref()?.waiting.as_ref()?;
        waiting.message.clone().or_else(|| waiting.reason.clone())
    });
    VmSection {
        name: format!("{}/{name}", meta.namespace.as_deref().unwrap_or_default()),
        uid: label(CREATED_BY_LABEL).unwrap_or_default(),
        phase: match (&meta.deletion_timestamp, status.phase.as_deref()) {
            (None, Some("Running")) if report::is_paused(pod) => "Paused".into(),
            (Some(_), Some("Running")) => "Stopping".into(),
            (_, Some("Pending")) => "Starting".into(),
            (_, phase) => phase.unwrap_or("Starting").into(),
        },
        problem: failure.map(|failure| failure.why.clone()).or(waiting).or(status.message),
    }
}
