//! A [`VmHost`] in memory: domains that run until a test or a caller ends them.

use super::Kill;
use crate::cpus::CpuSet;
use crate::libvirt::{
    Domain, DomainStats, Event, GuestInfo, Interface, Source, State, Stop, VmError, VmHost, read_disk,
    read_nic,
};
use futures::channel::mpsc::{UnboundedSender, unbounded};
use futures::stream::{BoxStream, StreamExt};
use std::collections::BTreeMap;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Starts nothing. Guests ignore the power button unless told otherwise.
#[derive(Default)]
pub struct FakeVms {
    inner: Mutex<Inner>,
    kill: Arc<Kill>,
}

#[derive(Default)]
struct Inner {
    domains: BTreeMap<String, Domain>,
    recorded: BTreeMap<String, Stop>,
    listeners: Vec<UnboundedSender<Event>>,
    asked: Vec<String>,
    interfaces: Vec<Interface>,
    silent_agents: bool,
    agent_queries: usize,
    limits: BTreeMap<String, u64>,
    fails: BTreeMap<String, String>,
    obeys_power_button: bool,
    keeps_disks: bool,
    keeps_nics: bool,
    locks_trays: bool,
    ignores_memory: bool,
    info: GuestInfo,
    stats: Vec<DomainStats>,
    displays: Vec<UnixStream>,
    /// By user: authorized keys, or the password.
    credentials: BTreeMap<String, String>,
}

impl FakeVms {
    /// Guests' agents report this of themselves.
    pub fn agents_describe(&self, info: GuestInfo) {
        self.inner().info = info;
    }

    /// Domains have these counters.
    pub fn count(&self, stats: Vec<DomainStats>) {
        self.inner().stats = stats;
    }

    /// The VNC server's end of the display that was opened last.
    pub fn display(&self) -> Option<UnixStream> {
        self.inner().displays.pop()
    }

    /// What guests' agents have set last for each user.
    pub fn credentials(&self) -> BTreeMap<String, String> {
        self.inner().credentials.clone()
    }

    /// Guests power off when asked.
    #[must_use]
    pub fn obeying_the_power_button(self) -> Self {
        self.inner().obeys_power_button = true;
        self
    }

    /// Guests do not release disks, or do from now on.
    pub fn keep_disks(&self, keep: bool) {
        self.inner().keeps_disks = keep;
    }

    /// Guests do not release NICs, or do from now on.
    pub fn keep_nics(&self, keep: bool) {
        self.inner().keeps_nics = keep;
    }

    /// Guests open the trays of their drives only by force, or when asked from now on.
    pub fn lock_trays(&self, lock: bool) {
        self.inner().locks_trays = lock;
    }

    /// Guests take up no memory and give none back: they have no driver.
    pub fn ignore_memory(&self) {
        self.inner().ignores_memory = true;
    }

    /// Its caller ends where `kill` strikes: before a request, or after it was done.
    #[must_use]
    pub fn killed_by(self, kill: Arc<Kill>) -> Self {
        Self { kill, ..self }
    }

    /// The domain is like this from now on.
    pub fn set_state(&self, uuid: &str, state: State) {
        if let Some(domain) = self.inner().domains.get_mut(uuid) {
            domain.state = state;
        }
    }

    /// Requests named `doing` (`version`, `list`, `start`, `shutdown`, `resume`, `resize`, `attach`, `detach`, `attach-nic`, `detach-nic`, `link`, `medium`, `memory`, `cpus`, `pin`, `destroy`, `limit`, `log`, `pause`,
    /// `reset`, `reboot`, `graphics`, `freeze`, `thaw`, `keys`, `password`, `info`, `stats`) fail with `why`
    /// until [`Self::heal`].
    pub fn fail(&self, doing: &str, why: &str) {
        self.inner().fails.insert(doing.to_owned(), why.to_owned());
    }

    /// Ends all failures.
    pub fn heal(&self) {
        self.inner().fails.clear();
    }

    /// Puts a domain there that somebody else started.
    pub fn add(&self, domain: Domain) {
        self.inner().domains.insert(domain.uuid.clone(), domain);
    }

    /// The domain ends, for `stop`, and listeners hear of it.
    pub fn end(&self, uuid: &str, stop: Stop) {
        self.inner().end(uuid, Some(stop));
    }

    /// The domain ends while nobody listens: only the log knows why.
    pub fn end_unseen(&self, uuid: &str, stop: Stop) {
        let mut inner = self.inner();
        if let Some(domain) = inner.domains.remove(uuid) {
            inner.recorded.insert(domain.name, stop);
        }
    }

    /// Guests' agents report these interfaces; ARP knows none.
    pub fn agents_report(&self, interfaces: Vec<Interface>) {
        self.inner().interfaces = interfaces;
    }

    /// Guests' agents never answer: each query takes for good, as one that nothing bounds would.
    pub fn silence_agents(&self) {
        self.inner().silent_agents = true;
    }

    /// How often guests' agents were asked.
    pub fn agent_queries(&self) -> usize {
        self.inner().agent_queries
    }

    /// What QEMU of the domain may take, in KiB.
    pub fn memory_limit(&self, uuid: &str) -> Option<u64> {
        self.inner().limits.get(uuid).copied()
    }

    /// The agents of all guests that run now open their ports.
    pub fn open_agents(&self) {
        self.inner().domains.values_mut().for_each(|domain| domain.agent = true);
    }

    /// The logs there are, by name of the domain.
    pub fn logs(&self) -> Vec<String> {
        self.inner().recorded.keys().cloned().collect()
    }

    /// Domains there are.
    pub fn running(&self) -> Vec<Domain> {
        self.inner().domains.values().cloned().collect()
    }

    /// Everything that changed something, in order: `start NAME`, `shutdown UUID`, `resize UUID DISK BYTES`.
    pub fn asked(&self) -> Vec<String> {
        self.inner().asked.clone()
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn start(&mut self, described: Domain) -> Result<String, VmError> {
        self.asked.push(format!("start {}", described.name));
        self.may("start")?;
        if self.domains.contains_key(&described.uuid) {
            return Err(VmError::Told(format!("domain {} exists already", described.uuid)));
        }
        let uuid = described.uuid.clone();
        self.domains.insert(uuid.clone(), described);
        self.tell(Event { uuid: uuid.clone(), stopped: None });
        Ok(uuid)
    }

    fn press_power_button(&mut self, uuid: &str) -> Result<(), VmError> {
        self.asked.push(format!("shutdown {uuid}"));
        self.may("shutdown")?;
        if self.obeys_power_button {
            self.end(uuid, Some(Stop::Shutdown));
        }
        Ok(())
    }

    fn destroy(&mut self, uuid: &str) -> Result<(), VmError> {
        self.asked.push(format!("destroy {uuid}"));
        self.may("destroy")?;
        self.end(uuid, Some(Stop::Destroyed));
        Ok(())
    }

    fn attach_disk(&mut self, uuid: &str, xml: &str) -> Result<(), VmError> {
        let (alias, target, device) = read_disk(xml)?;
        self.change("attach", &format!("{uuid} {alias} {target}"), uuid)?;
        let Some(domain) = self.domains.get_mut(uuid) else { return Ok(()) };
        if domain.aliases.contains_key(&alias) || domain.aliases.values().any(|other| *other == target) {
            return Err(VmError::Told(format!("disk {alias} or target {target} exists already")));
        }
        domain.aliases.insert(alias, target.clone());
        domain.devices.extend(device.map(|device| (target, device)));
        Ok(())
    }

    fn detach_disk(&mut self, uuid: &str, xml: &str) -> Result<(), VmError> {
        let (alias, target, _) = read_disk(xml)?;
        self.change("detach", &format!("{uuid} {alias} {target}"), uuid)?;
        let keeps = self.keeps_disks;
        if let Some(domain) = self.domains.get_mut(uuid).filter(|_| !keeps) {
            domain.aliases.remove(&alias);
            domain.devices.remove(&target);
        }
        Ok(())
    }

    fn attach_nic(&mut self, uuid: &str, xml: &str) -> Result<(), VmError> {
        let nic = read_nic(xml)?;
        let link = if nic.down { " down" } else { "" };
        self.change("attach-nic", &format!("{uuid} {} {}{link}", nic.tap, nic.mac), uuid)?;
        let Some(domain) = self.domains.get_mut(uuid) else { return Ok(()) };
        let is_same = |other: &crate::libvirt::DomainNic| {
            other.tap == nic.tap || other.mac == nic.mac || other.alias.is_some() && other.alias == nic.alias
        };
        if domain.nics.iter().any(is_same) {
            return Err(VmError::Told(format!("NIC {} with {} exists already", nic.tap, nic.mac)));
        }
        domain.nics.push(nic);
        Ok(())
    }

    fn detach_nic(&mut self, uuid: &str, tap: &str) -> Result<(), VmError> {
        self.change("detach-nic", &format!("{uuid} {tap}"), uuid)?;
        let keeps = self.keeps_nics;
        if let Some(domain) = self.domains.get_mut(uuid).filter(|_| !keeps) {
            domain.nics.retain(|nic| nic.tap != tap);
        }
        Ok(())
    }

    fn set_link(&mut self, uuid: &str, tap: &str, down: bool) -> Result<(), VmError> {
        let link = if down { "down" } else { "up" };
        self.change("link", &format!("{uuid} {tap} {link}"), uuid)?;
        let nics = self.domains.get_mut(uuid).into_iter().flat_map(|domain| &mut domain.nics);
        nics.filter(|nic| nic.tap == tap).for_each(|nic| nic.down = down);
        Ok(())
    }

    fn change_medium(&mut self, uuid: &str, xml: &str, force: bool) -> Result<(), VmError> {
        let (alias, target, device) = read_disk(xml)?;
        let how = if force { " by force" } else { "" };
        let what = device.as_ref().map_or("none".into(), |device| device.display().to_string());
        self.change("medium", &format!("{uuid} {alias} {what}{how}"), uuid)?;
        let locks = self.locks_trays && !force;
        let Some(domain) = self.domains.get_mut(uuid) else { return Ok(()) };
        if domain.aliases.get(&alias) != Some(&target) {
            return Err(VmError::Told(format!("there is no drive {alias} with target {target}")));
        }
        if locks && domain.devices.contains_key(&target) {
            return Err(VmError::Told(format!("timed out waiting to open tray of '{target}'")));
        }
        domain.devices.remove(&target);
        domain.devices.extend(device.map(|device| (target, device)));
        Ok(())
    }

    fn offer_memory(&mut self, uuid: &str, bytes: u64) -> Result<(), VmError> {
        self.change("memory", &format!("{uuid} {bytes}"), uuid)?;
        let ignores = self.ignores_memory;
        let Some(memory) = self.domains.get_mut(uuid).and_then(|domain| domain.memory.as_mut()) else {
            return Err(VmError::Told(format!("domain {uuid} has no memory device")));
        };
        if bytes > memory.size {
            return Err(VmError::Told(format!("{bytes} bytes are more than the device has")));
        }
        memory.requested = bytes;
        if !ignores {
            memory.current = bytes;
        }
        Ok(())
    }

    fn set_cpus(&mut self, uuid: &str, count: u32) -> Result<(), VmError> {
        self.change("cpus", &format!("{uuid} {count}"), uuid)?;
        let Some(domain) = self.domains.get_mut(uuid) else { return Ok(()) };
        if count > domain.cpus.most {
            return Err(VmError::Told(format!("{count} processors are more than the domain can have")));
        }
        domain.cpus.current = count;
        Ok(())
    }

    fn pin(&mut self, uuid: &str, cpus: &CpuSet) -> Result<(), VmError> {
        self.change("pin", &format!("{uuid} {cpus}"), uuid)?;
        if let Some(domain) = self.domains.get_mut(uuid) {
            let most = domain.cpus.most;
            domain.pins.emulator = Some(cpus.clone());
            domain.pins.vcpus = (0..most).map(|vcpu| (vcpu, cpus.clone())).collect();
            let threads = 1..=domain.pins.io_thread_count;
            domain.pins.io_threads = threads.map(|thread| (thread, cpus.clone())).collect();
        }
        Ok(())
    }

    fn end(&mut self, uuid: &str, stopped: Option<Stop>) {
        if let Some(domain) = self.domains.remove(uuid) {
            self.recorded.insert(domain.name, stopped.unwrap_or(Stop::Unknown));
            self.tell(Event { uuid: uuid.to_owned(), stopped });
        }
    }

    fn tell(&mut self, event: Event) {
        self.listeners.retain(|listener| listener.unbounded_send(event.clone()).is_ok());
    }

    /// Notes a request about a domain that must be there.
    fn change(&mut self, doing: &str, what: &str, uuid: &str) -> Result<(), VmError> {
        self.asked.push(format!("{doing} {what}"));
        self.may(doing)?;
        match self.domains.contains_key(uuid) {
            true => Ok(()),
            false => Err(VmError::Told(format!("there is no domain {uuid}"))),
        }
    }

    fn may(&self, doing: &str) -> Result<(), VmError> {
        self.fails.get(doing).map_or(Ok(()), |why| Err(VmError::Told(why.clone())))
    }
}

impl VmHost for FakeVms {
    async fn version(&self) -> Result<String, VmError> {
        self.inner().may("version").map(|()| "11.3.0".into())
    }

    async fn domains(&self) -> Result<Vec<Domain>, VmError> {
        let inner = self.inner();
        inner.may("list")?;
        Ok(inner.domains.values().cloned().collect())
    }

    async fn start(&self, xml: &str, paused: bool) -> Result<String, VmError> {
        let state = if paused { State::Paused } else { State::Running };
        let described = Domain { state, ..crate::libvirt::read_domain(xml)? };
        self.kill.moment().await;
        let uuid = self.inner().start(described)?;
        self.kill.moment().await;
        Ok(uuid)
    }

    async fn press_power_button(&self, uuid: &str) -> Result<(), VmError> {
        self.kill.moment().await;
        self.inner().press_power_button(uuid)?;
        self.kill.moment().await;
        Ok(())
    }

    async fn resume(&self, uuid: &str) -> Result<(), VmError> {
        let mut inner = self.inner();
        inner.asked.push(format!("resume {uuid}"));
        inner.may("resume")?;
        if let Some(domain) = inner.domains.get_mut(uuid) {
            domain.state = State::Running;
        }
        Ok(())
    }

    async fn resize_disk(&self, uuid: &str, disk: &str, bytes: u64) -> Result<(), VmError> {
        let mut inner = self.inner();
        inner.asked.push(format!("resize {uuid} {disk} {bytes}"));
        inner.may("resize")
    }

    async fn attach_disk(&self, uuid: &str, xml: &str) -> Result<(), VmError> {
        self.kill.moment().await;
        self.inner().attach_disk(uuid, xml)?;
        self.kill.moment().await;
        Ok(())
    }

    async fn detach_disk(&self, uuid: &str, xml: &str) -> Result<(), VmError> {
        self.kill.moment().await;
        self.inner().detach_disk(uuid, xml)?;
        self.kill.moment().await;
        Ok(())
    }

    async fn attach_nic(&self, uuid: &str, xml: &str) -> Result<(), VmError> {
        self.kill.moment().await;
        self.inner().attach_nic(uuid, xml)?;
        self.kill.moment().await;
        Ok(())
    }

    async fn detach_nic(&self, uuid: &str, tap: &str) -> Result<(), VmError> {
        self.kill.moment().await;
        self.inner().detach_nic(uuid, tap)?;
        self.kill.moment().await;
        Ok(())
    }

    async fn set_link(&self, uuid: &str, tap: &str, down: bool) -> Result<(), VmError> {
        self.kill.moment().await;
        self.inner().set_link(uuid, tap, down)?;
        self.kill.moment().await;
        Ok(())
    }

    async fn change_medium(&self, uuid: &str, xml: &str, force: bool) -> Result<(), VmError> {
        self.kill.moment().await;
        self.inner().change_medium(uuid, xml, force)?;
        self.kill.moment().await;
        Ok(())
    }

    async fn offer_memory(&self, uuid: &str, bytes: u64) -> Result<(), VmError> {
        self.kill.moment().await;
        self.inner().offer_memory(uuid, bytes)?;
        self.kill.moment().await;
        Ok(())
    }

    async fn set_cpus(&self, uuid: &str, count: u32) -> Result<(), VmError> {
        self.kill.moment().await;
        self.inner().set_cpus(uuid, count)?;
        self.kill.moment().await;
        Ok(())
    }

    async fn pin(&self, uuid: &str, cpus: &CpuSet) -> Result<(), VmError> {
        self.kill.moment().await;
        self.inner().pin(uuid, cpus)?;
        self.kill.moment().await;
        Ok(())
    }

    async fn destroy(&self, uuid: &str) -> Result<(), VmError> {
        self.kill.moment().await;
        self.inner().destroy(uuid)?;
        self.kill.moment().await;
        Ok(())
    }

    async fn limit_memory(&self, uuid: &str, kib: u64) -> Result<(), VmError> {
        let mut inner = self.inner();
        inner.may("limit")?;
        inner.limits.insert(uuid.to_owned(), kib);
        Ok(())
    }

    async fn interfaces(&self, _uuid: &str, source: Source) -> Result<Vec<Interface>, VmError> {
        if source == Source::Arp {
            return Ok(Vec::new());
        }
        let silent = {
            let mut inner = self.inner();
            inner.agent_queries += 1;
            inner.silent_agents
        };
        if silent {
            std::future::pending::<()>().await;
        }
        Ok(self.inner().interfaces.clone())
    }

    async fn pause(&self, uuid: &str) -> Result<(), VmError> {
        let mut inner = self.inner();
        inner.change("pause", uuid, uuid)?;
        if let Some(domain) = inner.domains.get_mut(uuid) {
            domain.state = State::Paused;
            inner.tell(Event { uuid: uuid.to_owned(), stopped: None });
        }
        Ok(())
    }

    async fn reset(&self, uuid: &str) -> Result<(), VmError> {
        self.inner().change("reset", uuid, uuid)
    }

    async fn reboot(&self, uuid: &str) -> Result<(), VmError> {
        self.inner().change("reboot", uuid, uuid)
    }

    async fn open_graphics(&self, uuid: &str) -> Result<UnixStream, VmError> {
        let mut inner = self.inner();
        inner.change("graphics", uuid, uuid)?;
        let (client, server) =
            UnixStream::pair().map_err(|error| VmError::Told(format!("no socket pair: {error}")))?;
        inner.displays.push(server);
        Ok(client)
    }

    async fn freeze(&self, uuid: &str) -> Result<u32, VmError> {
        self.inner().change("freeze", uuid, uuid).map(|()| 1)
    }

    async fn thaw(&self, uuid: &str) -> Result<u32, VmError> {
        self.inner().change("thaw", uuid, uuid).map(|()| 1)
    }

    async fn set_authorized_keys(&self, uuid: &str, user: &str, keys: &[String]) -> Result<(), VmError> {
        let mut inner = self.inner();
        inner.change("keys", uuid, uuid)?;
        inner.credentials.insert(user.to_owned(), keys.join(" "));
        Ok(())
    }

    async fn set_password(&self, uuid: &str, user: &str, password: &str) -> Result<(), VmError> {
        let mut inner = self.inner();
        inner.change("password", uuid, uuid)?;
        inner.credentials.insert(user.to_owned(), password.to_owned());
        Ok(())
    }

    async fn guest_info(&self, uuid: &str) -> Result<GuestInfo, VmError> {
        let mut inner = self.inner();
        inner.change("info", uuid, uuid)?;
        Ok(inner.info.clone())
    }

    async fn stats(&self) -> Result<Vec<DomainStats>, VmError> {
        let inner = self.inner();
        inner.may("stats")?;
        Ok(inner.stats.clone())
    }

    async fn events(&self) -> Result<BoxStream<'static, Event>, VmError> {
        let (sender, receiver) = unbounded();
        self.inner().listeners.push(sender);
        Ok(receiver.boxed())
    }

    async fn recorded_stop(&self, name: &str) -> Stop {
        self.inner().recorded.get(name).copied().unwrap_or(Stop::Unknown)
    }

    async fn remove_log(&self, name: &str) -> Result<(), VmError> {
        self.kill.moment().await;
        {
            let mut inner = self.inner();
            inner.may("log")?;
            inner.recorded.remove(name);
        }
        self.kill.moment().await;
        Ok(())
    }
}
