//! Carries out one action of the plan; takes no decisions.
//!
//! Route in: an [`Action`] and the Pod it is about. Route out: files, domains, requests to the API server; an
//! [`Effect`] that the controller remembers.

use super::Hosts;
use super::api::Cluster;
use super::domain_xml;
use super::files;
use super::filters::{self, Guard, Port};
use super::guest::{Folder, Guest, Seed, Source, Text};
use super::plan::{Action, rfc3339};
use super::record::{Record, Started};
use super::report::{Phase, Report, State};
use super::seed::Texts;
use anyhow::Context as _;
use k8s_openapi::api::core::v1::Pod;
use sheaf_host::libvirt::VmHost;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;

/// What an action needs besides itself.
pub struct Scene<V, C> {
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
    /// What guests must not claim; nothing before the node's networks were observed.
    pub guard: Option<Guard>,
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
pub async fn apply<V: VmHost, C: Cluster>(scene: &Scene<V, C>, action: &Action) -> anyhow::Result<Effect> {
    let pod = || scene.pod.as_deref().context("the Pod is not listed any more");
    match action {
        Action::Start(guest) => start(scene, guest).await?,
        Action::Adopt(record) => record.write(&scene.vms)?,
        Action::Report(report) => return report_to(scene, pod()?, report).await,
        Action::PressPowerButton(uuid) => scene.hosts.vms.press_power_button(uuid).await?,
        Action::Resume(uuid) => scene.hosts.vms.resume(uuid).await?,
        Action::ResizeDisk { uuid, disk, bytes } => scene.hosts.vms.resize_disk(uuid, disk, *bytes).await?,
        Action::Destroy(uuid) => scene.hosts.vms.destroy(uuid).await?,
        Action::ConfirmGone(id) => return Ok(Effect::Gone(scene.cluster.is_gone(id).await?)),
        Action::DeletePod => scene.cluster.delete(pod()?).await?,
        Action::RemoveFolder(record) => {
            let folder = Folder::of(&scene.vms, &record.vmi_uid);
            blocking(move || files::remove(&folder)).await?;
        }
    }
    Ok(Effect::Done)
}

async fn start<V: VmHost, C: Cluster>(scene: &Scene<V, C>, guest: &Guest) -> anyhow::Result<()> {
    let folder = Folder::of(&scene.vms, &guest.id.vmi_uid);
    let ports: Vec<Port> = guest.interfaces.iter().map(|nic| nic.port.clone()).collect();
    let mut record = Record { ports: ports.clone(), ..Record::made(&guest.id) };
    let guard = scene.guard.clone().context("the networks of the node are not known yet")?;
    // First what was seen once is not forgotten; then what the guest may send is said before it can send.
    record.write(&scene.vms)?;
    let filter = scene.hosts.filter.clone();
    blocking(move || {
        let commands = filters::put(&ports, &guard);
        if ports.is_empty() { Ok(()) } else { Ok(filter.apply(&commands)?) }
    })
    .await
    .context("the packet filter of its interfaces")?;
    let mut texts = BTreeMap::new();
    for disk in &guest.disks {
        if let Source::Seed(seed) = &disk.source {
            texts.insert(disk.name.clone(), read_texts(scene, guest, seed).await?);
        }
    }
    let (making, into, run) = (guest.clone(), folder.clone(), scene.hosts.run.clone());
    blocking(move || files::make(&making, &into, &texts, &*run)).await?;
    let xml = domain_xml::render(guest, &folder, scene.hosts.domain_type);
    let uuid = scene.hosts.vms.start(&xml).await?;
    record.started = Some(Started { boot_id: scene.boot_id.clone(), uuid, at: rfc3339(scene.now) });
    record.write(&scene.vms)?;
    Ok(())
}

async fn read_texts<V, C: Cluster>(scene: &Scene<V, C>, guest: &Guest, seed: &Seed) -> anyhow::Result<Texts> {
    let read = async |text: &Option<Text>| match text {
        None => Ok(None),
        Some(Text::Plain(bytes)) => Ok(Some(bytes.clone())),
        Some(Text::Secret { name, keys }) => {
            scene.cluster.secret(&guest.id.namespace, name, *keys).await.map(Some)
        }
    };
    Ok(Texts { user_data: read(&seed.user_data).await?, network_data: read(&seed.network_data).await? })
}

async fn report_to<V, C: Cluster>(scene: &Scene<V, C>, pod: &Pod, report: &Report) -> anyhow::Result<Effect> {
    let patch = report.patch(pod, scene.host_ip, &rfc3339(scene.now));
    let patched = scene.cluster.patch(pod, patch).await?;
    if let Some((kind, reason, message)) = worth_telling(pod, report)
        && let Err(error) = scene.cluster.event(pod, kind, reason, message).await
    {
        tracing::warn!("{error:#}");
    }
    Ok(Effect::Patched(Box::new(patched)))
}

/// Kind, reason and message of an Event, at a change that people look for.
fn worth_telling<'a>(pod: &Pod, report: &'a Report) -> Option<(&'static str, &'a str, &'a str)> {
    let before = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    match (&report.paused, super::report::says_paused(pod)) {
        (Some(why), false) => return Some(("Warning", "PausedIOError", why)),
        (None, true) => return Some(("Normal", "Resumed", "the VM goes on")),
        _ => {}
    }
    match (&report.state, report.phase) {
        (State::Running { .. }, _) => {
            (before != Some("Running")).then_some(("Normal", "Started", "the VM was started"))
        }
        (State::Waiting { reason, message }, _) => Some(("Warning", reason, message)),
        (State::Terminated { reason, message, .. }, Phase::Succeeded) => Some(("Normal", reason, message)),
        (State::Terminated { reason, message, .. }, _) => Some(("Warning", reason, message)),
    }
}

async fn blocking(work: impl FnOnce() -> anyhow::Result<()> + Send + 'static) -> anyhow::Result<()> {
    tokio::task::spawn_blocking(work).await.context("a worker thread failed")?
}
