//! Virtual machines: runs as libvirt domains the Pods that the scheduler binds to this node.
//!
//! Reads: Pods bound to this node and the Secrets they name, node config, images, network, `/data/images`.
//! Owns: domains tagged as ours, `/data/vms`, files it makes in `/data/disks`, the packet filter's tables `bridge sheaf`
//! and `inet sheaf`, the channel `leases`, status and deletion of these Pods.
//! Never touches: domains that are not ours, the Node object, links, images.
//!
//! observe ([`controller`], [`listed`], [`record`], [`facts`]) → [`plan`] (with [`admission`]) → [`apply`] ([`files`],
//! [`filters`], [`domain_xml`], [`report`] through [`api`]). No state is kept that can not be seen again: after a crash of the
//! agent the next look finds the domains by their tags and goes on.

pub mod admission;
pub mod api;
pub mod apply;
pub mod console_tail;
pub mod controller;
pub mod domain_xml;
pub mod facts;
pub mod files;
pub mod filters;
pub mod guest;
mod interfaces;
pub mod iso9660;
pub mod plan;
pub mod record;
pub mod report;
pub mod seed;
#[cfg(test)]
pub(crate) mod testing;

use crate::channels::{Context, Hypervisor, Leases};
use crate::listed;
use crate::status::{PortSection, Section, VmSection};
use domain_xml::DomainType;
use k8s_openapi::api::core::v1::Pod;
use sheaf_api::network::SeenInterface;
use sheaf_host::libvirt::VmHost;
use sheaf_host::nft::Filter;
use sheaf_host::run::Run;
use sheaf_host::segment::Segments;
use std::sync::Arc;
use tokio::sync::watch;

/// What this controller does to the machine.
pub struct Hosts<V> {
    /// Domains.
    pub vms: Arc<V>,
    /// Runs qemu-img.
    pub run: Arc<dyn Run>,
    /// Packet filter.
    pub filter: Arc<dyn Filter>,
    /// The node's own place on its networks.
    pub segments: Arc<dyn Segments>,
    /// KVM, or emulation in tests.
    pub domain_type: DomainType,
}

impl<V> Clone for Hosts<V> {
    fn clone(&self) -> Self {
        let Self { vms, run, filter, segments, domain_type } = self;
        Self {
            vms: vms.clone(),
            run: run.clone(),
            filter: filter.clone(),
            segments: segments.clone(),
            domain_type: *domain_type,
        }
    }
}

impl<V> Hosts<V> {
    /// Whether VMs of this agent's type can run.
    fn has_kvm(&self) -> bool {
        // A device that is there may still be unusable: opening tells.
        let opens = || std::fs::File::options().read(true).write(true).open("/dev/kvm").is_ok();
        self.domain_type == DomainType::Qemu || opens()
    }
}

/// What this controller writes of the status.
pub struct Sections {
    /// VMs.
    pub vms: Section<Vec<VmSection>>,
    /// Ports of bridges with VMs behind them.
    pub ports: Section<Vec<PortSection>>,
}

/// Runs until shutdown.
pub async fn run<V: VmHost>(
    ctx: Context,
    hypervisor: watch::Sender<Hypervisor>,
    leases: watch::Sender<Leases>,
    sections: Sections,
    hosts: Hosts<V>,
) -> anyhow::Result<()> {
    let cluster = Arc::new(api::Kube::new(ctx.cluster.clone()));
    let listed = Arc::new(watch::Sender::new(listed::Listed::default()));
    let follow = listed::follow(ctx.cluster.clone(), &listed, listed::by_uid, listed::Scope::ThisNode);
    let control =
        controller::Controller::new(ctx, hosts, cluster, listed.clone(), hypervisor, leases, sections).run();
    tokio::select! {
        ended = control => ended,
        () = follow => Ok(()),
    }
}

/// What the status says of a port.
fn port_section(
    record: &record::Record,
    port: &filters::Port,
    interfaces: Option<&Vec<SeenInterface>>,
    filter: Option<&filters::State>,
) -> PortSection {
    let interface = interfaces.into_iter().flatten().find(|interface| interface.name == port.interface);
    let dropped = filter.and_then(|seen| seen.ports.get(&port.tap)).map(|seen| seen.dropped.clone());
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

/// What the status page says of a VM.
fn section_of(pod: &Pod, failure: Option<&plan::FailedStart>) -> VmSection {
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
        uid: label(sheaf_api::names::CREATED_BY_LABEL).unwrap_or_default(),
        phase: match (&meta.deletion_timestamp, status.phase.as_deref()) {
            (None, Some("Running")) if report::says_paused(pod) => "Paused".into(),
            (Some(_), Some("Running")) => "Stopping".into(),
            (_, Some("Pending")) => "Starting".into(),
            (_, phase) => phase.unwrap_or("Starting").into(),
        },
        problem: failure.map(|failure| failure.why.clone()).or(waiting).or(status.message),
    }
}
