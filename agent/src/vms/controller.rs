//! The loop: observe, plan, apply, again whenever something changed.
//!
//! Route in: Pods, libvirt's events, other controllers' channels, time. Route out: actions, one a Pod at a time and
//! many Pods at once; the hypervisor's state; the status page.

use super::api::Cluster;
use super::apply::{Effect, Scene, apply};
use super::console_tail;
use super::domain_xml::{TAG_POD_UID, TAG_VMI_UID};
use super::facts::{ClaimFact, Facts, Resources, look_at_files};
use super::filters::leases;
use super::filters::{self, Guard, masquerade};
use super::guest::{Folder, Guest};
use super::interfaces;
use super::plan::{Action, FailedStart, Memory, Observed, Stopping, plan};
use super::record::{self, Record};
use super::{Hosts, Sections, report};
use crate::channels::{Context, Hypervisor, Leases};
use crate::listed::Listed;
use crate::status::VmSection;
use anyhow::anyhow;
use futures::StreamExt;
use k8s_openapi::api::core::v1::Pod;
use sheaf_api::names::MASQUERADE_BRIDGE;
use sheaf_host::libvirt::{Domain, Event, Interface, Source, Stop, VmHost};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// Everything is looked at anew at least so often, in seconds: signals may be missed.
const RESYNC: i64 = 10;

/// libvirt counts as not answering after this time.
const ANSWER_TIME: Duration = Duration::from_secs(20);

/// Longest time for a guest's agent to answer: a guest must not hold up what is done for others.
const AGENT_TIME: Duration = Duration::from_secs(3);

/// Longest time to resolve the name of the API server; its last addresses count until then.
const RESOLVE_TIME: Duration = Duration::from_secs(3);

/// A Pod whose action failed is left alone for so many seconds.
const HOLD: i64 = 5;

/// A failed start is tried again after so many seconds; doubled at each failure in a row, up to [`START_HOLD_MOST`].
const START_HOLD: i64 = 5;

/// Longest time between two tries to start a VM, in seconds.
const START_HOLD_MOST: i64 = 300;

/// The controller's state.
pub struct Controller<V, C> {
    ctx: Context,
    hosts: Hosts<V>,
    cluster: Arc<C>,
    listed: Arc<watch::Sender<Listed<Pod>>>,
    hypervisor: watch::Sender<Hypervisor>,
    sections: Sections,
    memory: Memory,
    /// Pod UID by UUID of domain: an event names the domain alone, and may come after it is gone.
    owners: BTreeMap<String, String>,
    allocatable: Option<Resources>,
    looked_closer: i64,
    leases: watch::Sender<Leases>,
    /// The packet filter as it was last observed; nothing before that.
    ports: Option<filters::State>,
    /// What guests must not claim, as last observed.
    guard: Option<Guard>,
    /// Addresses of API servers that the node config names, as last resolved.
    api_servers: BTreeSet<IpAddr>,
    tasks: JoinSet<(String, Action, anyhow::Result<Effect>)>,
    boot_id: String,
}

impl<V: VmHost, C: Cluster> Controller<V, C> {
    /// A controller that has seen nothing yet.
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
            sections,
            memory: Memory::default(),
            owners: BTreeMap::new(),
            allocatable: None,
            looked_closer: 0,
            leases,
            ports: None,
            guard: None,
            api_servers: BTreeSet::new(),
            tasks: JoinSet::new(),
            boot_id: boot_id.trim().to_owned(),
        }
    }

    /// Until shutdown. An error means that the bus is gone; the agent's next life connects anew.
    pub async fn run(mut self) -> anyhow::Result<()> {
        let mut events = self.hosts.vms.events().await?;
        let mut listed = self.listed.subscribe();
        let (mut images, mut network) = (self.ctx.images.clone(), self.ctx.network.clone());
        let mut volumes = self.ctx.volumes.clone();
        let mut shutdown = self.ctx.shutdown.clone();
        loop {
            let wake = self.reconcile().await;
            let rest = Duration::from_secs(wake.saturating_sub(now()).clamp(0, RESYNC) as u64);
            tokio::select! {
                () = shutdown.requested() => return Ok(()),
                event = events.next() => match event {
                    Some(event) => self.heard(event),
                    None => return Err(anyhow!("the D-Bus connection to libvirt ended")),
                },
                () = changed(&mut listed) => {}
                () = changed(&mut images) => {}
                // Addresses of the node that changed are guarded at once.
                () = changed(&mut network) => self.looked_closer = 0,
                () = changed(&mut volumes) => {}
                Some(done) = self.tasks.join_next() => match done {
                    Ok((uid, action, result)) => self.done(&uid, action, result),
                    Err(error) => return Err(anyhow!(error).context("an action panicked")),
                },
                () = tokio::time::sleep(rest) => {}
            }
        }
    }

    fn heard(&mut self, event: Event) {
        if let (Some(stop), Some(uid)) = (event.stopped, self.owners.get(&event.uuid)) {
            tracing::info!(pod = uid, domain = event.uuid, ?stop, "domain ended");
            self.memory.stops.insert(uid.clone(), stop);
        }
    }

    /// One round; when the next is due at the latest.
    async fn reconcile(&mut self) -> i64 {
        let now = now();
        let soon = now + RESYNC;
        let Some(domains) = self.observe_hypervisor().await else { return now + 2 };
        let listed = self.listed.borrow().clone();
        if !listed.synced {
            return soon;
        }
        let records = match record::read_all(&self.vms()) {
            Ok(records) => records,
            Err(error) => {
                tracing::warn!("{}: can not be read: {error}", self.vms().display());
                return soon;
            }
        };
        self.look_closer(now, &domains, &records).await;
        let claims = self.look_at_claims(&listed).await;
        self.remember(now, &listed, &domains, &records);
        let facts = Facts { claims, ..self.facts(&listed) };
        let planned = plan(&Observed {
            pods: &listed.objects,
            domains: &domains,
            records: &records,
            facts: &facts,
            memory: &self.memory,
            now,
        });
        for (uid, action) in planned.actions {
            self.dispatch(now, uid, action, &listed, &facts, &records);
        }
        self.publish_leases(&records);
        self.publish(&listed, &domains, &records);
        planned.wake.unwrap_or(soon).min(soon)
    }

    fn vms(&self) -> PathBuf {
        self.ctx.paths.data.join("vms")
    }

    /// All domains, when libvirt answers; says so on the channel either way.
    async fn observe_hypervisor(&self) -> Option<Vec<Domain>> {
        let ask = async { Ok((self.hosts.vms.version().await?, self.hosts.vms.domains().await?)) };
        let answer = match tokio::time::timeout(ANSWER_TIME, ask).await {
            Ok(answer) => answer.map_err(|error: sheaf_host::libvirt::VmError| anyhow!(error)),
            Err(_) => Err(anyhow!("libvirt does not answer within {} s", ANSWER_TIME.as_secs())),
        };
        let (state, domains) = match answer {
            Ok((version, domains)) => (
                Hypervisor {
                    answers: true,
                    kvm: self.hosts.has_kvm(),
                    version: Some(version),
                    problem: None,
                },
                Some(domains),
            ),
            Err(error) => {
                let problem = Some(format!("{error:#}"));
                (Hypervisor { answers: false, kvm: self.hosts.has_kvm(), version: None, problem }, None)
            }
        };
        self.hypervisor.send_if_modified(|before| {
            if before.answers && !state.answers {
                tracing::warn!("{}", state.problem.as_deref().unwrap_or_default());
            }
            let differs = *before != state;
            *before = state;
            differs
        });
        domains
    }

    /// What costs a request each: at every resync, not at every change.
    async fn look_closer(&mut self, now: i64, domains: &[Domain], records: &BTreeMap<String, Record>) {
        if now < self.looked_closer + RESYNC && self.allocatable.is_some() {
            return;
        }
        self.looked_closer = now;
        match self.cluster.allocatable().await {
            Ok(resources) => self.allocatable = Some(resources),
            Err(error) => tracing::debug!("{error:#}"),
        }
        self.look_at_ports().await;
        let asked = domains.iter().map(|domain| self.ask_for_interfaces(domain));
        let answers = futures::future::join_all(asked).await;
        for (domain, (arp, agent)) in domains.iter().zip(answers) {
            let (Some(uid), Some(vmi_uid)) = (domain.tags.get(TAG_POD_UID), domain.tags.get(TAG_VMI_UID))
            else {
                continue;
            };
            if let Some(tail) = console_tail::read(&Folder::of(&self.vms(), vmi_uid).console_log()) {
                self.memory.tails.insert(uid.clone(), tail);
            }
            let ports = records.get(uid).map(|record| record.ports.as_slice()).unwrap_or_default();
            // What was reported before stays while the filter cannot be observed.
            let Some(filter) = &self.ports else { continue };
            let seen = interfaces::seen(ports, filter, &arp, &agent);
            let addresses = interfaces::of_pod(&seen);
            if !addresses.is_empty() {
                self.memory.addresses.insert(uid.clone(), addresses);
            }
            self.memory.interfaces.insert(uid.clone(), seen);
        }
    }

    /// What the node's ARP table and the guest's agent know of a guest's interfaces.
    async fn ask_for_interfaces(&self, domain: &Domain) -> (Vec<Interface>, Vec<Interface>) {
        let arp = self.hosts.vms.interfaces(&domain.uuid, Source::Arp).await.unwrap_or_default();
        let agent = async {
            let ask = self.hosts.vms.interfaces(&domain.uuid, Source::Agent);
            tokio::time::timeout(AGENT_TIME, ask).await.ok()?.ok()
        };
        let agent = if domain.agent { agent.await.unwrap_or_default() } else { Vec::new() };
        (arp, agent)
    }

    /// Observes the packet filter and what it guards, and makes it fit the records.
    async fn look_at_ports(&mut self) {
        let server = self.ctx.config.borrow().cluster.as_ref().and_then(|cluster| cluster.server.clone());
        if let Some(server) = server
            && let Some(addresses) = resolve(&server).await
        {
            self.api_servers = addresses;
        }
        let (hosts, vms, api_servers) = (self.hosts.clone(), self.vms(), self.api_servers.clone());
        let look = move || {
            let guard = Guard::of(&hosts.segments.observe()?, &api_servers);
            let list = |family, table| hosts.filter.table(family, table);
            let state = filters::State::read(&list(filters::FAMILY, filters::TABLE)?);
            let forwarded = masquerade::State::read(&list(masquerade::FAMILY, masquerade::TABLE)?);
            // After the table: a port that is in it has its record by then, or is over.
            let ports = record::read_all(&vms)?.into_values().flat_map(|record| record.ports);
            let wanted = ports.map(|port| (port.tap.clone(), port)).collect();
            let mut commands = filters::changes(&wanted, &guard, &state);
            commands.extend(masquerade::changes(&guard, &forwarded));
            if !commands.is_empty() {
                tracing::info!(commands = commands.len(), "packet filter changed");
                hosts.filter.apply(&commands)?;
            }
            anyhow::Ok((guard, state))
        };
        match tokio::task::spawn_blocking(look).await.map_err(anyhow::Error::from).flatten() {
            Ok((guard, state)) => {
                if self.ports.as_ref().is_some_and(|before| state.unknown > before.unknown) {
                    tracing::warn!(
                        frames = state.unknown,
                        "frames of a VM without a readable record are dropped; its folder is under {}",
                        self.vms().display()
                    );
                }
                (self.guard, self.ports) = (Some(guard), Some(state));
            }
            Err(error) => tracing::warn!("packet filter: {error:#}"),
        }
    }

    /// Addresses of the private network that are taken: by records but that of Pod `but`, and by VMs that are being
    /// started.
    fn taken(&self, records: &BTreeMap<String, Record>, but: &str) -> BTreeSet<Ipv4Addr> {
        let of_records = records.iter().filter(|(uid, _)| *uid != but).flat_map(|(_, record)| &record.ports);
        of_records.chain(self.starting_ports()).filter_map(leases::lease).collect()
    }

    fn starting_ports(&self) -> impl Iterator<Item = &filters::Port> {
        self.memory.starting.values().flat_map(|guest| guest.interfaces.iter().map(|nic| &nic.port))
    }

    fn publish_leases(&self, records: &BTreeMap<String, Record>) {
        let of_records = records.values().flat_map(|record| &record.ports);
        let leases = leases::leases(of_records.chain(self.starting_ports()));
        self.leases.send_if_modified(|before| {
            let differs = *before != leases;
            *before = leases;
            differs
        });
    }

    /// What is behind the claims of Pods that are yet to start. Once a claim is bound that stays, as long as the Pod
    /// that refers to it is there.
    async fn look_at_claims(&mut self, listed: &Listed<Pod>) -> BTreeMap<(String, String), ClaimFact> {
        let mut facts = BTreeMap::new();
        for (uid, pod) in &listed.objects {
            if !super::admission::is_vm(pod) || report::is_terminal(pod) || report::was_started(pod) {
                continue;
            }
            let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
            let volumes = pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten());
            let claims = volumes.filter_map(|volume| volume.persistent_volume_claim.as_ref());
            for name in claims.map(|claim| &claim.claim_name) {
                let known = self.memory.claims.get(uid).and_then(|claims| claims.get(name));
                let fact = match known {
                    Some(volume) => Ok(ClaimFact::Volume(volume.clone())),
                    None => self.cluster.claim(namespace, name).await,
                };
                match fact {
                    Ok(fact) => {
                        if let ClaimFact::Volume(volume) = &fact {
                            let claims = self.memory.claims.entry(uid.clone()).or_default();
                            claims.insert(name.clone(), volume.clone());
                        }
                        facts.insert((namespace.to_owned(), name.clone()), fact);
                    }
                    Err(error) => tracing::debug!("{error:#}"),
                }
            }
        }
        facts
    }

    fn remember(
        &mut self,
        now: i64,
        listed: &Listed<Pod>,
        domains: &[Domain],
        records: &BTreeMap<String, Record>,
    ) {
        let alive = |uid: &str| {
            domains.iter().any(|domain| domain.tags.get(TAG_POD_UID).is_some_and(|tag| tag == uid))
        };
        for domain in domains {
            if let Some(uid) = domain.tags.get(TAG_POD_UID) {
                self.owners.insert(domain.uuid.clone(), uid.clone());
            }
        }
        for (uid, record) in records.iter().filter(|(_uid, record)| record.started.is_some()) {
            if alive(uid) {
                self.memory.missing.remove(uid);
                continue;
            }
            self.memory.missing.entry(uid.clone()).or_insert(now);
            if !self.memory.stops.contains_key(uid) {
                // It ended while the agent did not run, or its event is still on the way: the log says the same.
                let stop = self.hosts.vms.recorded_stop(&record.id().domain());
                if stop != Stop::Unknown {
                    self.memory.stops.insert(uid.clone(), stop);
                }
            }
        }
        self.memory.told.retain(|(uuid, _), _| domains.iter().any(|domain| domain.uuid == *uuid));
        let known = |uid: &str| listed.objects.contains_key(uid) || records.contains_key(uid) || alive(uid);
        self.memory.retain(known);
        let busy = &self.memory.busy;
        self.owners.retain(|_uuid, uid| known(uid) || busy.contains(uid));
    }

    fn facts(&self, listed: &Listed<Pod>) -> Facts {
        let config = self.ctx.config.borrow().clone();
        let network = self.ctx.network.borrow().clone();
        let data = &self.ctx.paths.data;
        // Only a VM that is yet to be started is checked against files.
        let waiting =
            listed.objects.values().filter(|pod| !report::is_terminal(pod) && !report::was_started(pod));
        Facts {
            boot_id: self.boot_id.clone(),
            host_ip: network.addresses.first().copied(),
            allocatable: self.allocatable,
            images: self.ctx.images.borrow().iter().map(|image| image.name.clone()).collect(),
            expected_images: config.images.iter().map(|image| image.name.clone()).collect(),
            bridges: network.bridges.iter().cloned().collect(),
            vlan_bridges: network.vlan_bridges.iter().cloned().collect(),
            expected_bridges: config
                .network
                .bridges
                .iter()
                .map(|bridge| bridge.name.clone())
                .chain([MASQUERADE_BRIDGE.to_owned()])
                .collect(),
            files: look_at_files(waiting.map(|pod| &**pod), data),
            disks: data.join("disks"),
            claims: BTreeMap::new(),
            volumes: self.ctx.volumes.borrow().clone(),
        }
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
            Action::PressPowerButton(_) | Action::Destroy(_) => {
                tracing::info!(pod = name, uid, ?action, "stop");
                let stopping = self.memory.stopping.entry(uid.clone());
                stopping.or_insert(Stopping { since: now, pressed: now }).pressed = now;
            }
            Action::RemoveFolder(record) => {
                tracing::info!(pod = record.pod, vmi = record.vmi, "remove folder")
            }
            Action::Adopt(_) | Action::Report(_) | Action::ConfirmGone(_) | Action::DeletePod => {}
        }
        self.memory.busy.insert(uid.clone());
        let scene = Scene {
            hosts: self.hosts.clone(),
            cluster: self.cluster.clone(),
            vms: self.vms(),
            boot_id: self.boot_id.clone(),
            host_ip: facts.host_ip,
            pod,
            now,
            guard: self.guard.clone(),
        };
        self.tasks.spawn(async move {
            let result = match assigned {
                Ok(()) => apply(&scene, &action).await,
                Err(exhausted) => Err(exhausted.into()),
            };
            (uid, action, result)
        });
    }

    /// Gives the interfaces of `guest` that are behind the node their addresses.
    fn assign(
        &self,
        uid: &str,
        guest: &mut Guest,
        records: &BTreeMap<String, Record>,
    ) -> Result<(), leases::Exhausted> {
        let mut ports: Vec<_> = guest.interfaces.iter().map(|nic| nic.port.clone()).collect();
        leases::assign(&mut ports, &self.taken(records, uid))?;
        for (nic, port) in guest.interfaces.iter_mut().zip(ports) {
            nic.port = port;
        }
        Ok(())
    }

    fn done(&mut self, uid: &str, action: Action, result: anyhow::Result<Effect>) {
        self.memory.busy.remove(uid);
        self.memory.starting.remove(uid);
        match (action, result) {
            (_, Ok(Effect::Patched(pod))) => self.listed.send_modify(|listed| {
                if let Some(known) = listed.objects.get_mut(uid) {
                    *known = Arc::new(*pod);
                }
            }),
            (_, Ok(Effect::Gone(true))) => {
                self.memory.gone.insert(uid.to_owned());
            }
            // The list will have it in a moment.
            (_, Ok(Effect::Gone(false))) => self.hold(uid, RESYNC),
            (Action::DeletePod, Ok(_)) => self.listed.send_modify(|listed| {
                listed.objects.remove(uid);
            }),
            (Action::Start(_), Ok(_)) => {
                self.memory.failures.remove(uid);
            }
            (Action::ResizeDisk { uuid, disk, bytes }, Ok(_)) => {
                self.memory.told.insert((uuid, disk), bytes);
            }
            (_, Ok(Effect::Done)) => {}
            (Action::Start(guest), Err(error)) => {
                tracing::warn!(pod = guest.id.pod, "start failed: {error:#}");
                let times = self.memory.failures.get(uid).map_or(1, |before| before.times.saturating_add(1));
                let hold = (START_HOLD << (times.min(10) - 1)).min(START_HOLD_MOST);
                let failure = FailedStart { times, why: format!("{error:#}"), until: now() + hold };
                self.memory.failures.insert(uid.to_owned(), failure);
            }
            (action, Err(error)) => {
                tracing::warn!(uid, ?action, "failed: {error:#}");
                self.hold(uid, HOLD);
            }
        }
    }

    fn hold(&mut self, uid: &str, seconds: i64) {
        self.memory.held.insert(uid.to_owned(), now() + seconds);
    }

    fn publish(&self, listed: &Listed<Pod>, domains: &[Domain], records: &BTreeMap<String, Record>) {
        let mut sections: Vec<VmSection> = listed
            .objects
            .values()
            .filter(|pod| super::admission::is_vm(pod))
            .map(|pod| {
                super::section_of(
                    pod,
                    self.memory.failures.get(pod.metadata.uid.as_deref().unwrap_or_default()),
                )
            })
            .collect();
        sections.extend(domains.iter().filter(|domain| !domain.tags.contains_key(TAG_POD_UID)).map(
            |domain| VmSection {
                name: domain.name.clone(),
                uid: domain.uuid.clone(),
                phase: "Foreign".into(),
                problem: Some("not started by Sheaf; left alone".into()),
            },
        ));
        let ports = records.values().flat_map(|record| {
            let interfaces = self.memory.interfaces.get(&record.pod_uid);
            let filter = self.ports.as_ref();
            record.ports.iter().map(move |port| super::port_section(record, port, interfaces, filter))
        });
        let ports = ports.collect();
        self.sections.vms.set(sections);
        self.sections.ports.set(ports);
    }
}

/// Addresses of the API server at `server`, an `https://` URL; none when its name cannot be resolved now.
async fn resolve(server: &str) -> Option<BTreeSet<IpAddr>> {
    let place = server.trim_start_matches("https://").trim_end_matches('/');
    let place = if place.rsplit(']').next()?.contains(':') { place.into() } else { format!("{place}:443") };
    match tokio::time::timeout(RESOLVE_TIME, tokio::net::lookup_host(place)).await {
        Ok(Ok(found)) => Some(found.map(|address| address.ip()).collect()),
        Ok(Err(_)) | Err(_) => None,
    }
}

/// Waits for a change; for ever when its writer is gone.
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
