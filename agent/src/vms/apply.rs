//! Carries out one action of the plan; takes no decisions.
//!
//! Route in: an [`Action`] and the Pod it is about. Route out: files, domains, requests to the API server; an
//! [`Effect`] that the controller remembers.

use super::Hosts;
use super::api::Cluster;
use super::contents;
use super::credentials;
use super::domain_xml::{self, DomainType};
use super::files;
use super::filters::{self, Guard, Port};
use super::guest::{Folder, Guest, Nic};
use super::memory;
use super::plan::{Action, rfc3339};
use super::record::{Record, Started};
use super::report::{Paused, Phase, Report, State};
use crate::reconcile::blocking;
use anyhow::{Context as _, ensure};
use k8s_openapi::api::core::v1::Pod;
use serde_json::Value;
use sheaf_host::libvirt::VmHost;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use tokio::sync::{Semaphore, watch};

/// What an action needs besides itself.
pub struct Env<V, C> {
    /// The machine.
    pub hosts: Hosts<V>,
    /// The API server.
    pub cluster: Arc<C>,
    /// `/data/vms`.
    pub vms: PathBuf,
    /// The kernel's random identifier of this boot.
    pub boot_id: String,
    /// Address of the node.
    pub host_ip: Option<IpAddr>,
    /// The Pod, unless it is not listed.
    pub pod: Option<Arc<Pod>>,
    /// Now, in seconds since 1970.
    pub now: i64,
    /// Turns of guests' agents: each holds a thread of libvirtd.
    pub agents: Arc<Semaphore>,
    /// What guests must not claim; nothing before the node's networks were observed.
    pub guard: Option<Guard>,
    /// VMs are being stopped for a restart of the machine, or because it is going down.
    pub stopping: [watch::Receiver<bool>; 2],
}

/// What came of an action.
#[derive(Debug)]
pub enum Effect {
    /// Nothing to remember.
    Done,
    /// The Pod is like this now.
    Patched(Box<Pod>),
    /// Whether the Pod is gone.
    Gone(bool),
}

/// Does `action`.
pub async fn apply<V: VmHost, C: Cluster>(env: &Env<V, C>, action: &Action) -> anyhow::Result<Effect> {
    let pod = || env.pod.as_deref().context("the Pod is not listed any more");
    match action {
        Action::Start(guest) => start(env, guest).await?,
        Action::Adopt(record) => record.write(&env.vms)?,
        Action::Report(report) => return report_to(env, pod()?, report).await,
        Action::PressPowerButton(uuid) => env.hosts.vms.press_power_button(uuid).await?,
        Action::Resume(uuid) => env.hosts.vms.resume(uuid).await?,
        Action::ResizeDisk { uuid, disk, bytes } => env.hosts.vms.resize_disk(uuid, disk, *bytes).await?,
        Action::Attach { uuid, disk, target, .. } => {
            env.hosts.vms.attach_disk(uuid, &domain_xml::render_attached(disk, target)).await?;
        }
        Action::Detach { uuid, volume, target, device } => {
            env.hosts.vms.detach_disk(uuid, &domain_xml::render_detached(volume, target, device)).await?;
        }
        Action::AttachNic { uuid, nic, queues, record, .. } => {
            attach_nic(env, uuid, nic, *queues, record).await?;
        }
        Action::DetachNic { uuid, tap, .. } => env.hosts.vms.detach_nic(uuid, tap).await?,
        Action::SetLink { uuid, tap, down } => env.hosts.vms.set_link(uuid, tap, *down).await?,
        Action::Insert { uuid, drive, target, .. } => {
            env.hosts.vms.change_medium(uuid, &domain_xml::render_medium(drive, target), false).await?;
        }
        Action::Eject { uuid, drive, target, force, .. } => {
            env.hosts.vms.change_medium(uuid, &domain_xml::render_medium(drive, target), *force).await?;
        }
        Action::SetSize { uuid, memory, cpus, limit } => set_size(env, uuid, *memory, *cpus, *limit).await?,
        Action::Pin { uuid, cpus } => env.hosts.vms.pin(uuid, cpus).await?,
        Action::SetCredentials { uuid, wanted } => {
            let _turn = env.agents.acquire().await?;
            credentials::set(&*env.hosts.vms, uuid, wanted).await?;
        }
        Action::Destroy(uuid) => env.hosts.vms.destroy(uuid).await?,
        Action::ConfirmGone(id) => return Ok(Effect::Gone(env.cluster.is_gone(id).await?)),
        Action::DeletePod => env.cluster.delete(pod()?).await?,
        Action::RemoveFolder(record) => {
            // The folder last: it is what a later agent knows the VM by.
            env.hosts.vms.remove_log(&record.id().domain()).await?;
            let folder = Folder::of(&env.vms, &record.vmi_uid);
            blocking(move || files::remove(&folder)).await?;
        }
        Action::Filter(commands) => change_filter(env, commands.clone()).await?,
    }
    Ok(Effect::Done)
}

async fn start<V: VmHost, C: Cluster>(env: &Env<V, C>, guest: &Guest) -> anyhow::Result<()> {
    let folder = Folder::of(&env.vms, &guest.id.vmi_uid);
    let ports: Vec<Port> = guest.interfaces.iter().map(|nic| nic.port.clone()).collect();
    let cpus = guest.placement.own();
    let devices = guest.host_devices.iter().map(|device| device.address.clone()).collect();
    let space = guest.space;
    let mut record = Record { ports: ports.clone(), space, cpus, devices, ..Record::made(&guest.id) };
    let guard = env.guard.clone().context("the networks of the node are not known yet")?;
    // The record first, or a later agent would not know the ports; then the filter, before the guest can send.
    record.write(&env.vms)?;
    if !ports.is_empty() {
        let put = filters::put(&ports, &guard);
        change_filter(env, put).await.context("the packet filter of its interfaces")?;
    }
    let images = contents::read(&*env.cluster, guest).await?;
    let (making, into, run) = (guest.clone(), folder.clone(), env.hosts.run.clone());
    blocking(move || files::make(&making, &into, &images, &*run)).await?;
    // Its files may have taken long.
    ensure!(!env.stopping.iter().any(|stopping| *stopping.borrow()), "the node is going down");
    let xml = domain_xml::render(guest, &folder, env.hosts.domain_type);
    let uuid = env.hosts.vms.start(&xml, guest.hardware.paused).await?;
    record.started = Some(Started { boot_id: env.boot_id.clone(), uuid: uuid.clone(), at: rfc3339(env.now) });
    record.write(&env.vms)?;
    limit_memory(env, guest, &uuid).await;
    Ok(())
}

/// Adds a NIC to a VM that runs, as at a start: the record first, or a later agent would not know the port; then the filter, before
/// the guest can send.
async fn attach_nic<V: VmHost, C: Cluster>(
    env: &Env<V, C>,
    uuid: &str,
    nic: &Nic,
    queues: Option<u32>,
    record: &Record,
) -> anyhow::Result<()> {
    let guard = env.guard.clone().context("the networks of the node are not known yet")?;
    record.write(&env.vms)?;
    let put = filters::put([&nic.port], &guard);
    change_filter(env, put).await.context("the packet filter of the NIC")?;
    env.hosts.vms.attach_nic(uuid, &domain_xml::render_nic(nic, queues)).await?;
    Ok(())
}

/// Changes the size of a VM that runs: first what its control group may take, or the kernel kills it while it grows.
async fn set_size<V: VmHost, C: Cluster>(
    env: &Env<V, C>,
    uuid: &str,
    memory: Option<u64>,
    cpus: Option<u32>,
    limit: u64,
) -> anyhow::Result<()> {
    if env.hosts.domain_type != DomainType::Qemu {
        env.hosts.vms.limit_memory(uuid, limit >> 10).await?;
    }
    if let Some(bytes) = memory {
        env.hosts.vms.offer_memory(uuid, bytes).await?;
    }
    if let Some(count) = cpus {
        env.hosts.vms.set_cpus(uuid, count).await?;
    }
    Ok(())
}

/// Sets the limit of the VM's control group. A VM that runs without one is not ended for it: the journal and an Event
/// show it.
async fn limit_memory<V: VmHost, C: Cluster>(env: &Env<V, C>, guest: &Guest, uuid: &str) {
    // Emulation keeps translated code in memory of its own, however small the guest.
    if env.hosts.domain_type == DomainType::Qemu {
        return;
    }
    let Err(error) = env.hosts.vms.limit_memory(uuid, memory::limit(guest) >> 10).await else { return };
    let message = format!("QEMU runs without a memory limit: {:#}", anyhow::Error::from(error));
    tracing::warn!(domain = uuid, "{message}");
    if let Some(pod) = &env.pod
        && let Err(error) = env.cluster.event(pod, "Warning", "NoMemoryLimit", &message).await
    {
        tracing::warn!("{error:#}");
    }
}

async fn change_filter<V, C>(env: &Env<V, C>, commands: Vec<Value>) -> anyhow::Result<()> {
    let filter = env.hosts.filter.clone();
    blocking(move || Ok(filter.apply(&commands)?)).await
}

async fn report_to<V, C: Cluster>(env: &Env<V, C>, pod: &Pod, report: &Report) -> anyhow::Result<Effect> {
    let patch = report.patch(pod, env.host_ip, &rfc3339(env.now));
    let patched = env.cluster.patch(pod, patch).await?;
    if let Some((kind, reason, message)) = event_of(pod, report)
        && let Err(error) = env.cluster.event(pod, kind, reason, message).await
    {
        tracing::warn!("{error:#}");
    }
    Ok(Effect::Patched(Box::new(patched)))
}

/// Type, reason and message of the Event for a change of the Pod's status, if it is worth one.
fn event_of<'a>(pod: &Pod, report: &'a Report) -> Option<(&'static str, &'a str, &'a str)> {
    let before = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    match (&report.paused, super::report::is_paused(pod)) {
        (Some(why @ Paused::ByDisk), false) => return Some(("Warning", why.reason(), why.message())),
        (Some(why @ Paused::ByUser), false) => return Some(("Normal", why.reason(), why.message())),
        (None, true) => return Some(("Normal", "Resumed", "the VM was resumed")),
        _ => {}
    }
    let is_attachment = super::admission::is_attachment(pod);
    match (&report.state, report.phase) {
        (State::Running { .. }, _) if is_attachment => {
            let is_nic = super::admission::is_nic(pod);
            let message = if is_nic { "the VM has the NIC" } else { "the VM has the disk" };
            (before != Some("Running")).then_some(("Normal", "Attached", message))
        }
        (State::Running { .. }, _) => {
            (before != Some("Running")).then_some(("Normal", "Started", "the VM was started"))
        }
        (State::Waiting { reason, message }, _) => Some(("Warning", reason, message)),
        (State::Terminated { reason, message, .. }, Phase::Succeeded) => Some(("Normal", reason, message)),
        (State::Terminated { reason, message, .. }, _) => Some(("Warning", reason, message)),
    }
}
