//! Virtual machines: runs as libvirt domains the Pods that the scheduler binds to this node.
//!
//! Reads: Pods bound to this node and the Secrets and ConfigMaps they name, node config, images, network, `/data/images`.
//! Owns: domains tagged as ours, `/data/vms`, files it makes in `/data/disks`, the packet filter's tables `bridge sheaf`
//! and `inet sheaf`, the channel `leases`, status and deletion of these Pods.
//! Never touches: domains that are not ours, the Node object, links, images.
//!
//! observe ([`observe`], [`lookups`], [`record`], [`facts`]) → [`plan`] (with [`admission`]) → [`apply`] ([`contents`],
//! [`files`], [`filters`], [`domain_xml`], [`memory`], [`cpus`], [`host_devices`], [`credentials`]) → [`report`] through [`api`], [`status_page`]. No state is
//! kept that cannot be observed again: after a crash of the agent its successor finds the domains by their tags and continues.

pub mod admission;
pub mod api;
pub mod apply;
mod block_sizes;
pub mod console_tail;
pub mod contents;
pub mod controller;
pub mod cpus;
pub mod credentials;
pub mod domain_xml;
pub mod facts;
pub mod files;
pub mod filters;
#[cfg(test)]
mod fuzz_tests;
pub mod guest;
pub mod held;
pub mod host_devices;
mod interfaces;
pub mod iso9660;
mod lookups;
pub mod memory;
mod observe;
pub mod plan;
mod pressure;
pub mod record;
pub mod report;
pub mod seed;
pub mod state_copies;
mod status_page;
#[cfg(test)]
pub(crate) mod testing;

pub use interfaces::is_reachable;

use crate::channels::{Context, Hypervisor, Leases};
use crate::listed::{self, Listed};
use crate::reconcile::blocking;
use crate::status::{PortSection, Section, VmSection};
use domain_xml::DomainType;
use k8s_openapi::api::core::v1::Pod;
use sheaf_host::cpus::CpuReport;
use sheaf_host::libvirt::VmHost;
use sheaf_host::nft::Filter;
use sheaf_host::pci::PciReport;
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
    /// The node's processors.
    pub cpus: Arc<dyn CpuReport>,
    /// Its PCI devices.
    pub pci: Arc<dyn PciReport>,
    /// KVM, or emulation in tests.
    pub domain_type: DomainType,
}

impl<V> Clone for Hosts<V> {
    fn clone(&self) -> Self {
        let Self { vms, run, filter, segments, cpus, pci, domain_type } = self;
        Self {
            vms: vms.clone(),
            run: run.clone(),
            filter: filter.clone(),
            segments: segments.clone(),
            cpus: cpus.clone(),
            pci: pci.clone(),
            domain_type: *domain_type,
        }
    }
}

impl<V> Hosts<V> {
    /// Whether VMs of this agent's type can run.
    fn has_kvm(&self) -> bool {
        // A device that exists may still be unusable: only opening it shows that.
        let opens = || std::fs::File::options().read(true).write(true).open("/dev/kvm").is_ok();
        self.domain_type == DomainType::Qemu || opens()
    }

    /// Whether KVM lets guests run guests.
    fn has_nested(&self) -> bool {
        let of = |module: &str| std::fs::read_to_string(format!("/sys/module/{module}/parameters/nested"));
        let is_on = |text: std::io::Result<String>| text.is_ok_and(|text| matches!(text.trim(), "1" | "Y"));
        self.domain_type == DomainType::Kvm && ["kvm_amd", "kvm_intel"].into_iter().map(of).any(is_on)
    }
}

/// What this controller writes of the status.
pub struct Sections {
    /// VMs.
    pub vms: Section<Vec<VmSection>>,
    /// Ports of bridges with VMs behind them.
    pub ports: Section<Vec<PortSection>>,
}

/// Runs until shutdown, and keeps `listed` equal to the Pods of this node, by UID, for others to read.
pub async fn run<V: VmHost>(
    ctx: Context,
    listed: Arc<watch::Sender<Listed<Pod>>>,
    hypervisor: watch::Sender<Hypervisor>,
    leases: watch::Sender<Leases>,
    sections: Sections,
    hosts: Hosts<V>,
) -> anyhow::Result<()> {
    let cluster = Arc::new(api::Kube::new(ctx.cluster.clone()));
    let follow = listed::follow(ctx.cluster.clone(), &listed, listed::by_uid, listed::Scope::ThisNode);
    finish_removals(&ctx).await;
    let control =
        controller::Controller::new(ctx, hosts, cluster, listed.clone(), hypervisor, leases, sections).run();
    tokio::select! {
        ended = control => ended,
        () = follow => Ok(()),
    }
}

/// An agent that was killed while it removed a VM's folder left the rest; that it cannot be removed stops nothing.
async fn finish_removals(ctx: &Context) {
    let vms = ctx.paths.data.join("vms");
    if let Err(error) = blocking(move || files::sweep(&vms)).await {
        tracing::warn!("{error:#}");
    }
}
