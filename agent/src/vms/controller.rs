//! The loop: observe, plan, apply, report, again whenever something changed.
//!
//! Why here: the one place that holds what the controller remembers. Nothing in a round waits for the API server, a guest
//! or a disk: those answer through [`Lookups`], and actions are tasks. Route in: Pods, libvirt's events, other controllers'
//! channels, answers, time. Route out: actions, one a Pod at a time and many Pods at once; the hypervisor's state; the
//! status page.

mod ask;
mod ports;
mod remember;

use super::api::Cluster;
use super::apply::{Effect, Env, apply};
use super::cpus::{self, NodeCpus};
use super::domain_xml::HOTPLUG_NIC;
use super::facts::{ClaimFact, Facts, Resources};
use super::filters::leases;
use super::host_devices;
use super::lookups::{Filter, Found, Key, Lookups};
use super::observe::{self, Files};
use super::plan::{Action, FailedStart, Memory, Observed, Stopping, plan};
use super::record::Record;
use super::{Hosts, Sections, status_page};
use crate::channels::{Context, Hypervisor, Leases};
use crate::listed::Listed;
use crate::reconcile::{Next, blocking, publish};
use anyhow::anyhow;
use futures::StreamExt;
use k8s_openapi::api::core::v1::Pod;
use sheaf_api::cluster_config::ClusterConfigSpec;
use sheaf_host::libvirt::{Event, Interface, Stop, VmHost};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

/// Everything is observed again at least so often, in seconds: signals may be missed.
const RESYNC: i64 = 10;

/// A round that found libvirt not answering is followed by another after so many seconds.
const LIBVIRT_RETRY: i64 = 2;

/// A Pod whose action failed is left alone for so many seconds.
const HOLD: i64 = 5;

/// A VM that could not be moved to other processors is tried again after so many seconds.
const MOVE_AGAIN: i64 = 30;

/// A failed start is tried again after so many seconds; doubled at each failure in a row, up to [`START_HOLD_MOST`].
const START_HOLD: i64 = 5;

/// Longest time between two tries to start a VM, in seconds.
const START_HOLD_MOST: i64 = 300;

/// Longest time for what is asked of the API server: what is to be done with the VM next waits for it.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

/// Longest time for a guest's agent that is to set credentials: what is to be done with the VM next waits for it.
const AGENT_TIMEOUT: Duration = Duration::from_secs(30);

/// Guests' agents that set credentials at a time, beside those that are asked for addresses.
const AGENTS: usize = 2;

/// Longest time for anything else but a start, which makes files and boots QEMU; each of its parts has a timeout of its own.
const ACTION_TIMEOUT: Duration = Duration::from_secs(150);

/// In the place of a Pod's UID: the packet filter, of which one change is made at a time.
const FILTER: &str = "packet filter";

/// The controller's state.
pub struct Controller<V, C> {
    ctx: Context,
    hosts: Hosts<V>,
    cluster: Arc<C>,
    listed: Arc<watch::Sender<Listed<Pod>>>,
    hypervisor: watch::Sender<Hypervisor>,
    leases: watch::Sender<Leases>,
    sections: Sections,
    memory: Memory,
    lookups: Lookups,
    answers: Answers,
    /// Pod UID by UUID of domain: an event names the domain alone, and may come after it is gone.
    owners: BTreeMap<String, String>,
    tasks: JoinSet<(String, Action, anyhow::Result<Effect>)>,
    boot_id: String,
    agents: Arc<Semaphore>,
    /// Why VMs cannot have processors of their own, as it was logged last.
    cpus_problem: Option<String>,
}

/// What lookups answered last.
#[derive(Default)]
struct Answers {
    allocatable: Option<Resources>,
    cluster: ClusterConfigSpec,
    /// Why that was not answered.
    allocatable_problem: Option<String>,
    /// The packet filter; nothing before the first answer.
    filter: Option<Box<Filter>>,
    /// It was observed since the last round, so that it may be compared with the records of this one.
    filter_is_new: bool,
    /// It could not be observed.
    filter_failed: bool,
    /// Addresses of API servers that the node config names, as last resolved.
    api_servers: BTreeSet<IpAddr>,
    /// By namespace and name.
    claims: BTreeMap<(String, String), ClaimFact>,
    /// By UUID of domain: from the ARP table, from the guest's agent.
    addresses: BTreeMap<Key, Vec<Interface>>,
}

impl<V: VmHost, C: Cluster> Controller<V, C> {
    /// A controller that has observed nothing yet.
    pub fn new(
        ctx: Context,
        hosts: Hosts<V>,
        cluster: Arc<C>,
        listed: Arc<watch::Sender<Listed<Pod>>>,
        hypervisor: watch::Sender<Hypervisor>,
        leases: watch::Sender<Leases>,
        sections: Sections,
    ) -> Self {
        let boot_id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        Self {
            ctx,
            hosts,
            cluster,
            listed,
            hypervisor,
            leases,
            sections,
            memory: Memory::default(),
            lookups: Lookups::default(),
            answers: Answers::default(),
            owners: BTreeMap::new(),
            tasks: JoinSet::new(),
            boot_id: boot_id.trim().to_owned(),
            agents: Arc::new(Semaphore::new(AGENTS)),
            cpus_problem: None,
        }
    }

    /// Until shutdown. An error means that the bus is gone; the agent's next life connects again.
    pub async fn run(mut self) -> anyhow::Result<()> {
        let mut events = self.hosts.vms.events().await?;
        let mut listed = self.listed.subscribe();
        let (mut images, mut network) = (self.ctx.images.clone(), self.ctx.network.clone());
        let mut volumes = self.ctx.volumes.clone();
        let mut container_disks = self.ctx.container_disks.clone();
        let mut shutdown = self.ctx.shutdown.clone();
        let handle = self.ctx.controllers.register("vms");
        loop {
            let round = async {
                let wake = self.reconcile().await;
                let rest = Duration::from_secs(wake.saturating_sub(now()).clamp(0, RESYNC) as u64);
                let answers = self.hypervisor.borrow().answers;
                if answers { Next::after(rest) } else { Next::after(rest).waiting_for("libvirt") }
            };
            let rest = handle.round(round).await.after.unwrap_or_default();
            tokio::select! {
                () = shutdown.requested() => return Ok(()),
                event = events.next() => match event {
                    Some(event) => self.on_event(event),
                    None => return Err(anyhow!("the D-Bus connection to libvirt ended")),
                },
                () = changed(&mut listed) => {}
                () = changed(&mut images) => {}
                // Addresses of the node that changed are guarded at once.
                () = changed(&mut network) => self.lookups.expire(&Key::Filter),
                () = changed(&mut volumes) => {}
                () = changed(&mut container_disks) => {}
                (key, answer) = self.lookups.next() => self.on_answer(key, answer),
                Some(done) = self.tasks.join_next() => match done {
                    Ok((uid, action, result)) => self.done(&uid, action, result),
                    Err(error) => return Err(anyhow!(error).context("an action panicked")),
                },
                () = tokio::time::sleep(rest) => {}
            }
        }
    }

    fn on_event(&mut self, event: Event) {
        if let (Some(stop), Some(uid)) = (event.stopped, self.owners.get(&event.uuid)) {
            tracing::info!(pod = uid, domain = event.uuid, ?stop, "domain ended");
            self.memory.stops.insert(uid.clone(), stop);
        }
    }

    fn on_answer(&mut self, key: Key, answer: anyhow::Result<Found>) {
        self.lookups.answered(now(), &key, answer.is_ok());
        match (key, answer) {
            (_, Ok(Found::Allocatable(resources, cluster))) => {
                (self.answers.allocatable, self.answers.cluster) = (Some(resources), cluster);
            }
            (_, Ok(Found::Filter(filter))) => self.on_filter(filter),
            (_, Ok(Found::ApiServers(addresses))) => self.answers.api_servers = addresses,
            (Key::Claim(namespace, name), Ok(Found::Claim(fact))) => {
                self.answers.claims.insert((namespace, name), fact);
            }
            (key, Ok(Found::Addresses(addresses))) => {
                self.answers.addresses.insert(key, addresses);
            }
            (Key::Stop(uid), Ok(Found::Stop(stop))) if stop != Stop::Unknown => {
                self.memory.stops.entry(uid).or_insert(stop);
            }
            (Key::Credentials(uid), Ok(Found::Credentials(wanted))) => {
                let of = self.memory.credentials.entry(uid).or_default();
                (of.wanted, of.unreadable) = (Some(wanted), None);
            }
            (_, Ok(_)) => {}
            (Key::Credentials(uid), Err(error)) => {
                self.memory.credentials.entry(uid).or_default().unreadable = Some(format!("{error:#}"));
            }
            (Key::Allocatable, Err(error)) => self.answers.allocatable_problem = Some(format!("{error:#}")),
            (Key::Claim(namespace, name), Err(error)) => {
                let fact = ClaimFact::Unreadable(format!("{error:#}"));
                self.answers.claims.entry((namespace, name)).or_insert(fact);
            }
            (Key::Filter, Err(error)) => {
                self.answers.filter_failed = true;
                tracing::warn!("packet filter: {error:#}");
            }
            (key, Err(error)) => tracing::debug!(?key, "{error:#}"),
        }
    }

    fn on_filter(&mut self, filter: Box<Filter>) {
        if self.answers.filter.as_ref().is_some_and(|before| filter.ports.unknown > before.ports.unknown) {
            tracing::warn!(
                frames = filter.ports.unknown,
                "the network traffic of a VM whose record cannot be read is dropped; its folder is under {}",
                self.vms().display()
            );
        }
        (self.answers.filter, self.answers.filter_is_new) = (Some(filter), true);
        self.answers.filter_failed = false;
    }

    /// One round; when the next is due at the latest.
    async fn reconcile(&mut self) -> i64 {
        let now = now();
        let soon = now.saturating_add(RESYNC);
        let listed = self.listed.borrow().clone();
        let (cpus, cpus_problem) = self.observe_cpus().await;
        let (config, pci) = (self.answers.cluster.clone(), self.hosts.pci.clone());
        let devices = blocking(move || Ok(host_devices::observe(&config, &*pci))).await.unwrap_or_default();
        let (state, domains) =
            observe::hypervisor(&self.hosts, &self.ctx.paths, &listed, (cpus.as_ref(), &devices)).await;
        self.report_hypervisor(state);
        let Some(domains) = domains else { return now.saturating_add(LIBVIRT_RETRY) };
        // A VM that is stopped for a restart of the machine ends with it; its controller starts it again.
        if !listed.synced || *self.ctx.leaving.borrow() {
            return soon;
        }
        let volumes = self.ctx.volumes.borrow().clone();
        let files = match observe::files(&self.ctx.paths, &listed, &domains, volumes).await {
            Ok(files) => files,
            Err(error) => {
                tracing::warn!("{error:#}");
                return soon;
            }
        };
        let Files { records, named, blocks, tails, without_lease } = files;
        self.remember(now, &listed, &domains, &records, tails);
        self.ask(now, &listed, &domains, &records);
        let facts = Facts {
            allocatable: self.answers.allocatable,
            allocatable_problem: self.answers.allocatable_problem.clone(),
            cluster: self.answers.cluster.clone(),
            files: named,
            blocks,
            without_lease,
            claims: self.answers.claims.clone(),
            cpus,
            cpus_problem,
            devices,
            ..observe::facts(&self.ctx, &self.boot_id, &self.ctx.paths.data)
        };
        let planned = plan(&Observed {
            pods: &listed.objects,
            domains: &domains,
            records: &records,
            facts: &facts,
            memory: &self.memory,
            now,
        });
        let guard = self.guard();
        if let Some(commands) = self.plan_filter(&records, guard.as_ref()) {
            self.dispatch(now, FILTER.to_owned(), Action::Filter(commands), &listed, &facts, &records);
        }
        // A port's rules are put in place by its start: not before it is known what they guard, nor while another change may
        // remove what it has just put there.
        let is_early = guard.is_none() && !self.answers.filter_failed || self.memory.busy.contains(FILTER);
        for (uid, action) in planned.actions {
            if !(is_early && matches!(action, Action::Start(_) | Action::AttachNic { .. })) {
                self.dispatch(now, uid, action, &listed, &facts, &records);
            }
        }
        let of_records = records.values().flat_map(|record| &record.ports);
        publish(&self.leases, leases::leases(of_records.chain(self.starting_ports())));
        self.sections.vms.set(status_page::vms(&listed, &domains, &self.memory));
        let filter = self.answers.filter.as_ref().map(|filter| &filter.ports);
        self.sections.ports.set(status_page::ports(&records, &self.memory, filter));
        planned.wake.unwrap_or(soon).min(soon)
    }

    /// The node's processors if VMs may have some to themselves, and why they may not though the config says so.
    async fn observe_cpus(&mut self) -> (Option<NodeCpus>, Option<String>) {
        let reserved = self.ctx.config.borrow().vms.reserved_cpus.clone();
        let host = self.hosts.cpus.clone();
        let observed = blocking(move || Ok(cpus::observe(reserved.as_deref(), &*host))).await;
        let problem = match observed.unwrap_or_else(|error| Err(format!("{error:#}"))) {
            Ok(cpus) => {
                self.cpus_problem = None;
                return (cpus, None);
            }
            Err(problem) => problem,
        };
        if self.cpus_problem.as_ref() != Some(&problem) {
            tracing::warn!("no VM gets processors of its own: {problem}");
            self.cpus_problem = Some(problem.clone());
        }
        (None, Some(problem))
    }

    fn vms(&self) -> PathBuf {
        self.ctx.paths.data.join("vms")
    }

    fn report_hypervisor(&self, state: Hypervisor) {
        self.hypervisor.send_if_modified(|before| {
            if before.answers && !state.answers {
                tracing::warn!("{}", state.problem.as_deref().unwrap_or_default());
            }
            let differs = *before != state;
            *before = state;
            differs
        });
    }

    fn dispatch(
        &mut self,
        now: i64,
        uid: String,
        mut action: Action,
        listed: &Listed<Pod>,
        facts: &Facts,
        records: &BTreeMap<String, Record>,
    ) {
        let pod = listed.objects.get(&uid).cloned();
        let name = pod.as_ref().and_then(|pod| pod.metadata.name.clone());
        let assigned = match &mut action {
            Action::Start(guest) => self.assign(&uid, guest, records),
            _ => Ok(()),
        };
        match &action {
            Action::Start(guest) => {
                tracing::info!(pod = name, domain = guest.uuid, "start");
                self.owners.insert(guest.uuid.clone(), uid.clone());
                self.memory.starting.insert(uid.clone(), (**guest).clone());
            }
            Action::Resume(_) => {
                self.memory.resumed.insert(uid.clone(), now);
            }
            Action::ResizeDisk { disk, bytes, .. } => {
                tracing::info!(pod = name, disk, bytes, "disk has grown")
            }
            Action::Attach { disk, target, .. } => {
                tracing::info!(pod = name, volume = disk.name, disk = target, "add disk");
                self.memory.attaching.insert(uid.clone(), (**disk).clone());
            }
            Action::Insert { drive, target, .. } => {
                tracing::info!(pod = name, volume = drive.name, disk = target, "insert medium");
                self.memory.attaching.insert(uid.clone(), (**drive).clone());
            }
            Action::Eject { drive, target, force, .. } => {
                tracing::info!(pod = name, volume = drive.name, disk = target, force, "eject medium");
                let of = (uid.clone(), drive.name.clone());
                self.memory.ejecting.entry(of.clone()).or_insert(now);
                self.memory.detached.insert(of, now);
            }
            Action::Detach { volume, target, .. } => {
                tracing::info!(pod = name, volume, disk = target, "remove disk");
                self.memory.detached.insert((uid.clone(), volume.clone()), now);
            }
            Action::AttachNic { nic, .. } => {
                tracing::info!(pod = name, interface = nic.port.interface, tap = nic.port.tap, "add NIC");
                self.memory.connecting.insert(uid.clone(), nic.port.clone());
            }
            Action::DetachNic { interface, tap, .. } => {
                tracing::info!(pod = name, interface, tap, "remove NIC");
                self.memory.detached.insert((uid.clone(), format!("{HOTPLUG_NIC}{interface}")), now);
            }
            Action::SetLink { tap, down, .. } => {
                tracing::info!(pod = name, tap, down, "set link");
                self.memory.links.insert((uid.clone(), tap.clone()), now);
            }
            Action::SetSize { memory, cpus, .. } => {
                tracing::info!(pod = name, memory, cpus, "change size");
            }
            Action::PressPowerButton(_) | Action::Destroy(_) => {
                tracing::info!(pod = name, uid, ?action, "stop");
                let stopping = self.memory.stopping.entry(uid.clone());
                stopping.or_insert(Stopping { since: now, pressed: now }).pressed = now;
            }
            Action::RemoveFolder(record) => {
                tracing::info!(pod = record.pod, vmi = record.vmi, "remove folder")
            }
            Action::Pin { cpus, .. } => tracing::info!(pod = name, %cpus, "change shared processors"),
            Action::Filter(_)
            | Action::Adopt(_)
            | Action::Report(_)
            | Action::ConfirmGone(_)
            | Action::SetCredentials { .. }
            | Action::DeletePod => {}
        }
        self.memory.busy.insert(uid.clone());
        let env = Env {
            hosts: self.hosts.clone(),
            cluster: self.cluster.clone(),
            vms: self.vms(),
            boot_id: self.boot_id.clone(),
            host_ip: facts.host_ip,
            pod,
            now,
            agents: self.agents.clone(),
            guard: self.guard(),
            stopping: [self.ctx.leaving.clone(), self.ctx.shutting_down.clone()],
        };
        self.tasks.spawn(async move {
            let timeout = match &action {
                Action::Start(_) => Duration::MAX,
                Action::Report(_) | Action::ConfirmGone(_) | Action::DeletePod => REQUEST_TIMEOUT,
                Action::SetCredentials { .. } => AGENT_TIMEOUT,
                _ => ACTION_TIMEOUT,
            };
            let result = match assigned {
                Ok(()) => tokio::time::timeout(timeout, apply(&env, &action)).await,
                Err(exhausted) => Ok(Err(exhausted.into())),
            };
            let result = result.unwrap_or_else(|_| Err(anyhow!("not done within {} s", timeout.as_secs())));
            (uid, action, result)
        });
    }

    fn done(&mut self, uid: &str, action: Action, result: anyhow::Result<Effect>) {
        self.memory.busy.remove(uid);
        self.memory.starting.remove(uid);
        self.memory.attaching.remove(uid);
        self.memory.connecting.remove(uid);
        match (action, result) {
            (_, Ok(Effect::Patched(pod))) => self.listed.send_modify(|listed| {
                if let Some(known) = listed.objects.get_mut(uid) {
                    *known = Arc::new(*pod);
                }
            }),
            (_, Ok(Effect::Gone(true))) => {
                self.memory.gone.insert(uid.to_owned());
            }
            // The next list or event shows it.
            (_, Ok(Effect::Gone(false))) => self.hold(uid, RESYNC),
            (Action::DeletePod, Ok(_)) => self.listed.send_modify(|listed| {
                listed.objects.remove(uid);
            }),
            (Action::Start(_) | Action::SetSize { .. }, Ok(_)) => {
                self.memory.failures.remove(uid);
            }
            (
                Action::Attach { attachment, .. }
                | Action::AttachNic { attachment, .. }
                | Action::Insert { attachment, .. },
                Ok(_),
            ) => {
                self.memory.failures.remove(&attachment);
            }
            (Action::Eject { attachment, drive, .. }, Ok(_)) => {
                self.memory.failures.remove(&attachment);
                self.memory.ejecting.remove(&(uid.to_owned(), drive.name));
            }
            (Action::ResizeDisk { uuid, disk, bytes }, Ok(_)) => {
                self.memory.told.insert((uuid, disk), bytes);
            }
            (Action::SetCredentials { wanted, .. }, Ok(_)) => {
                let of = self.memory.credentials.entry(uid.to_owned()).or_default();
                (of.set, of.failed) = (Some((wanted, now())), None);
            }
            // Nothing else waits for it: it is reported, and tried again later.
            (Action::SetCredentials { .. }, Err(error)) => {
                let of = self.memory.credentials.entry(uid.to_owned()).or_default();
                of.failed = Some((format!("{error:#}"), now()));
            }
            // What it has now is read again at the next round.
            (Action::Filter(_), Ok(_)) => self.lookups.expire(&Key::Filter),
            (_, Ok(Effect::Done)) => {}
            (Action::Start(guest), Err(error)) => {
                tracing::warn!(pod = guest.id.pod, "start failed: {error:#}");
                self.failed(uid, &error);
            }
            (Action::Attach { attachment, disk, .. }, Err(error)) => {
                tracing::warn!(uid, volume = disk.name, "adding a disk failed: {error:#}");
                self.failed(&attachment, &error);
            }
            (Action::SetSize { .. }, Err(error)) => {
                tracing::warn!(uid, "changing the size of a VM failed: {error:#}");
                self.failed(uid, &error);
            }
            (Action::Insert { attachment, drive, .. }, Err(error)) => {
                tracing::warn!(uid, volume = drive.name, "inserting a medium failed: {error:#}");
                self.failed(&attachment, &error);
            }
            (Action::Eject { attachment, drive, .. }, Err(error)) => {
                tracing::warn!(uid, volume = drive.name, "ejecting a medium failed: {error:#}");
                self.failed(&attachment, &error);
            }
            (Action::AttachNic { attachment, nic, .. }, Err(error)) => {
                tracing::warn!(uid, interface = nic.port.interface, "adding a NIC failed: {error:#}");
                self.failed(&attachment, &error);
            }
            (Action::DetachNic { interface, .. }, Err(error)) => {
                tracing::warn!(uid, interface, "removing a NIC failed: {error:#}");
            }
            (Action::SetLink { tap, down, .. }, Err(error)) => {
                tracing::warn!(uid, tap, down, "setting a link failed: {error:#}");
            }
            (Action::Pin { cpus, .. }, Err(error)) => {
                tracing::warn!(uid, %cpus, "moving a VM to other processors failed: {error:#}");
                self.memory.unmoved.insert(uid.to_owned(), now() + MOVE_AGAIN);
            }
            // Nothing else of the VM waits for a guest that keeps its disk.
            (Action::Detach { volume, .. }, Err(error)) => {
                tracing::warn!(uid, volume, "removing a disk failed: {error:#}");
            }
            (action, Err(error)) => {
                tracing::warn!(uid, ?action, "failed: {error:#}");
                self.hold(uid, HOLD);
            }
        }
    }

    /// Notes that what Pod `uid` is for could not be done: it is tried again, each time later.
    fn failed(&mut self, uid: &str, error: &anyhow::Error) {
        let times = self.memory.failures.get(uid).map_or(1, |before| before.times.saturating_add(1));
        let hold = (START_HOLD << times.saturating_sub(1).min(10)).min(START_HOLD_MOST);
        let failure = FailedStart { times, why: format!("{error:#}"), until: now() + hold };
        self.memory.failures.insert(uid.to_owned(), failure);
    }

    fn hold(&mut self, uid: &str, seconds: i64) {
        self.memory.held.insert(uid.to_owned(), now() + seconds);
    }
}

/// Waits for a change; pending once its writer is gone.
async fn changed<T>(receiver: &mut watch::Receiver<T>) {
    if receiver.changed().await.is_err() {
        std::future::pending().await
    }
}

fn now() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs() as i64)
}

#[cfg(test)]
mod tests;
