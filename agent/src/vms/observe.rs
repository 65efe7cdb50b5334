//! What the controller observes at the start of a round: domains, folders, files, other controllers' channels.
//!
//! Why here: it changes nothing, and waits for nothing but libvirt, without which there is nothing to decide. Answers of
//! others come through [`super::lookups`]. Route in: libvirt, `/data`, channels. Route out: values for the plan.

use super::console_tail;
use super::cpus::NodeCpus;
use super::domain_xml::{TAG_POD_UID, TAG_VMI_UID};
use super::facts::{Facts, FileFact, observe_files};
use super::guest::{Blocks, Folder};
use super::host_devices::Offer;
use super::record::{self, Record};
use super::{Hosts, block_sizes, held, pressure, report};
use crate::channels::{Context, Hypervisor, Volumes};
use crate::listed::Listed;
use crate::paths::Paths;
use crate::reconcile::blocking;
use crate::without_lease;
use anyhow::{Context as _, anyhow};
use k8s_openapi::api::core::v1::Pod;
use sheaf_api::names::MASQUERADE_BRIDGE;
use sheaf_host::libvirt::{Domain, VmHost};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// libvirt counts as not answering after this.
const LIBVIRT_TIMEOUT: Duration = Duration::from_secs(20);

/// What libvirt answers, its version and all domains, and what the node can and is short of.
pub async fn hypervisor<V: VmHost>(
    hosts: &Hosts<V>,
    paths: &Paths,
    listed: &Listed<Pod>,
    (cpus, devices): (Option<&NodeCpus>, &Offer),
) -> (Hypervisor, Option<Vec<Domain>>) {
    let ask = async { anyhow::Ok((hosts.vms.version().await?, hosts.vms.domains().await?)) };
    let answer = tokio::time::timeout(LIBVIRT_TIMEOUT, ask).await;
    let answer = answer
        .unwrap_or_else(|_| Err(anyhow!("libvirt does not answer within {} s", LIBVIRT_TIMEOUT.as_secs())));
    let (data, pods): (_, Vec<_>) = (paths.data.clone(), listed.objects.values().cloned().collect());
    // Before the list of Pods is complete, disks that Pods ask for count twice for a moment.
    let held = blocking(move || Ok(held::bytes(&data, pods.iter().map(|pod| &**pod)))).await;
    let node = Hypervisor {
        held: held.unwrap_or(u64::MAX),
        kvm: hosts.has_kvm(),
        nested: hosts.has_nested(),
        reserved_cpus: cpus.map(|cpus| cpus.reserved.common(&cpus.topology.all()).len() as u64),
        devices: devices
            .resources
            .iter()
            .map(|(name, resource)| (name.clone(), (resource.count, resource.usable.len() as u64)))
            .collect(),
        device_problems: devices.problems.clone(),
        pressure: pressure::observe(paths),
        ..Hypervisor::default()
    };
    match answer {
        Ok((version, domains)) => {
            (Hypervisor { answers: true, version: Some(version), ..node }, Some(domains))
        }
        Err(error) => (Hypervisor { problem: Some(format!("{error:#}")), ..node }, None),
    }
}

/// What lies below `/data`, and what is noted about VMs in `/run`.
pub struct Files {
    /// Records of VMs, by Pod UID.
    pub records: BTreeMap<String, Record>,
    /// Files that Pods name which are yet to start.
    pub named: BTreeMap<String, FileFact>,
    /// Block sizes of volumes and of `/data`, if a VM that is yet to start wants to know.
    pub blocks: BTreeMap<PathBuf, Blocks>,
    /// Last lines of serial consoles, by Pod UID.
    pub tails: BTreeMap<String, String>,
    /// UIDs of Pods whose VMs this node stopped because its lease was not renewed.
    pub without_lease: BTreeSet<String>,
}

/// Reads them, on a thread of its own: a disk may be slow.
pub async fn files(
    paths: &Paths,
    listed: &Listed<Pod>,
    domains: &[Domain],
    volumes: Volumes,
) -> anyhow::Result<Files> {
    // Only a VM that is yet to be started is checked against files.
    let is_waiting = |pod: &&Arc<Pod>| !report::is_terminal(pod) && !report::was_started(pod);
    let waiting: Vec<Arc<Pod>> = listed.objects.values().filter(is_waiting).cloned().collect();
    let tag = |domain: &Domain, name: &str| domain.tags.get(name).cloned();
    let consoles: Vec<(String, String)> = domains
        .iter()
        .filter_map(|domain| Some((tag(domain, TAG_POD_UID)?, tag(domain, TAG_VMI_UID)?)))
        .collect();
    let (paths, data) = (paths.clone(), paths.data.clone());
    let read = move || {
        let vms = data.join("vms");
        let records = record::read_all(&vms).with_context(|| format!("{}: cannot be read", vms.display()))?;
        let tail = |vmi_uid: &str| console_tail::read(&Folder::of(&vms, vmi_uid).console_log());
        let tails = consoles.into_iter().filter_map(|(uid, vmi_uid)| Some((uid, tail(&vmi_uid)?))).collect();
        let waiting = || waiting.iter().map(|pod| &**pod);
        let blocks = block_sizes::observe(waiting(), &volumes, &data);
        let without_lease = without_lease::stopped(&paths);
        Ok(Files { records, named: observe_files(waiting(), &data), blocks, tails, without_lease })
    };
    blocking(read).await
}

/// What other controllers know, as facts about the node; `files`, `claims` and `allocatable` are the caller's.
pub fn facts(ctx: &Context, boot_id: &str, data: &Path) -> Facts {
    let config = ctx.config.borrow().clone();
    let network = ctx.network.borrow().clone();
    let own = config.network.links.bridges.iter().map(|bridge| bridge.name.clone());
    Facts {
        boot_id: boot_id.to_owned(),
        host_ip: network.addresses.first().copied(),
        images: ctx.images.borrow().iter().map(|image| (image.name.clone(), image.virtual_bytes)).collect(),
        container_disks: ctx.container_disks.borrow().of_pods.clone(),
        expected_images: config.images.iter().map(|image| image.name.clone()).collect(),
        bridges: network.bridges.iter().cloned().collect(),
        vlan_bridges: network.vlan_bridges.iter().cloned().collect(),
        expected_bridges: own.chain([MASQUERADE_BRIDGE.to_owned()]).collect(),
        disks: data.join("disks"),
        data: data.to_owned(),
        states: data.join("state"),
        volumes: ctx.volumes.borrow().clone(),
        shutting_down: *ctx.shutting_down.borrow(),
        ..Facts::default()
    }
}
