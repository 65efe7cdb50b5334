//! Machines of a cluster with several control-plane nodes: each with files, processes and a network namespace of its own, on one
//! bridge.
//!
//! Why here: one member of etcd in one namespace (`cluster`) shows nothing of joining and of losing one. Every control plane is
//! made and started by the agent's own code. Route in: names. Route out: machines whose agents are started, and whose power is
//! cut; dropped, they leave nothing behind.

use crate::cluster::{AgentNode, Approver, Processes, Programs, RunningAgent, client_of, programs_in, sweep};
use crate::controlled::Replica;
use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::core::v1::Node;
use kube::api::Api;
use sheaf_agent::cluster::Hosts;
use sheaf_agent::cluster::planes::{demotions, invite};
use sheaf_agent::cluster::token::{self, Grant, LIFETIME, Token};
use sheaf_agent::paths::Paths;
use sheaf_agent::shared_keys::{self, Kind};
use sheaf_agent::status::{ClusterSection, Phase, PlaneSection, Reader};
use sheaf_agent::vip;
use sheaf_config::pin::CaPin;
use sheaf_host::fakes::{FakeRun, FakeUnits};
use sheaf_host::run::{Command, Run as _, System};
use sheaf_host::segment::{self, Segment, Segments};
use sheaf_host::virtual_address::{self, VirtualAddressError, VirtualAddresses};
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// Longest wait for a step; the machine is shared with other work.
pub const TIMEOUT: Duration = Duration::from_secs(300);

/// What the agent's section says when the control plane of a node that joined is up.
const RUNS: &str = "the control plane runs";

/// Between two tries of a client that is not answered.
const TRY: Duration = Duration::from_millis(100);
/// Longest time for one of them: an API server that is gone does not refuse.
const TRY_TIME: Duration = Duration::from_secs(2);

/// A bridge on which machines are.
pub struct Network {
    name: String,
    prefix: u32,
    next: AtomicU32,
}

impl Network {
    /// A new one.
    pub fn make() -> Result<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(1);
        sweep()?;
        sweep_bridges()?;
        let (pid, number) = (std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let name = format!("sb{pid}-{number}");
        let prefix = free_prefix(pid)?;
        let made = Self { name, prefix, next: AtomicU32::new(2) };
        let near = format!("{}/27", Ipv4Addr::from(prefix + 1));
        for words in [
            vec!["link", "add", &made.name, "type", "bridge"],
            vec!["address", "add", &near, "dev", &made.name],
            vec!["link", "set", &made.name, "up"],
        ] {
            System.run(&Command::new("ip").args(words))?;
        }
        Ok(made)
    }

    /// An address of it that no machine has.
    pub fn free_address(&self) -> IpAddr {
        Ipv4Addr::from(self.prefix + 30).into()
    }

    /// The address that this process has on it.
    pub fn near_address(&self) -> IpAddr {
        Ipv4Addr::from(self.prefix + 1).into()
    }

    /// A computer of somebody on it.
    pub fn computer(&self) -> Result<Computer> {
        let (namespace, _, _) = self.plug()?;
        Ok(Computer { namespace })
    }

    /// A namespace with a cable of its own: its name, the outer end of the cable, its address.
    fn plug(&self) -> Result<(String, String, IpAddr)> {
        let host = self.next.fetch_add(1, Ordering::Relaxed);
        let (pid, bridge) = (std::process::id(), &self.name);
        let address = Ipv4Addr::from(self.prefix + host);
        let namespace = format!("sheaf-{pid}-{bridge}-{host}");
        // At most 15 characters; `sb` of the bridge's name is another.
        let [outside, inside] = ["so", "si"].map(|end| format!("{end}{}-{host}", &bridge[2..]));
        let far = format!("{address}/27");
        for words in [
            vec!["netns", "add", &namespace],
            vec!["link", "add", &outside, "type", "veth", "peer", "name", &inside, "netns", &namespace],
            vec!["link", "set", &outside, "master", bridge, "up"],
            vec!["-n", &namespace, "address", "add", &far, "dev", &inside],
            vec!["-n", &namespace, "link", "set", &inside, "up"],
            vec!["-n", &namespace, "link", "set", "lo", "up"],
        ] {
            System.run(&Command::new("ip").args(words))?;
        }
        Ok((namespace, outside, address.into()))
    }
}

/// A computer that is on the network and no node: a browser on it sees no change of this machine's own links. Dropped, it is gone.
pub struct Computer {
    namespace: String,
}

impl Computer {
    /// `command`, run on it.
    pub fn command(&self, program: &str) -> Command {
        Command::new("ip").args(["netns", "exec", &self.namespace, program])
    }
}

impl Drop for Computer {
    fn drop(&mut self) {
        if let Err(error) = System.run(&Command::new("ip").args(["netns", "delete", &self.namespace])) {
            eprintln!("{error}");
        }
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        if let Err(error) = System.run(&Command::new("ip").args(["link", "delete", &self.name])) {
            eprintln!("{error}");
        }
    }
}

/// 32 addresses that no bridge here has. 198.18.0.0/15 is set aside for tests of networks; the upper half is for these. The first try
/// depends on `seed`: processes that begin at the same moment try others.
fn free_prefix(seed: u32) -> Result<u32> {
    const PREFIXES: u32 = 2048;
    let taken = System.run(&Command::new("ip").args(["-brief", "-4", "address"]))?.text();
    let first = u32::from(Ipv4Addr::new(198, 19, 0, 0));
    (0..PREFIXES)
        .map(|number| first + (seed + number) % PREFIXES * 32)
        .find(|prefix| !taken.contains(&format!(" {}/27", Ipv4Addr::from(prefix + 1))))
        .context("every network of 198.19.0.0/16 is taken; remove bridges sb*")
}

/// Removes bridges of test processes that were killed.
fn sweep_bridges() -> Result<()> {
    let listed = System.run(&Command::new("ip").args(["-brief", "link", "show", "type", "bridge"]))?.text();
    for name in listed.lines().filter_map(|line| line.split_whitespace().next()) {
        let owner = name.strip_prefix("sb").and_then(|rest| rest.split_once('-')).map(|(pid, _)| pid);
        let Some(owner) = owner.filter(|pid| pid.parse::<u32>().is_ok()) else { continue };
        if !std::path::Path::new("/proc").join(owner).exists() {
            System.run(&Command::new("ip").args(["link", "delete", name])).ok();
        }
    }
    Ok(())
}

/// A machine of the control plane.
pub struct Plane {
    /// Its files.
    pub node: AgentNode,
    /// What its agent does to it.
    pub hosts: Hosts,
    /// Its address.
    pub address: IpAddr,
    name: String,
    namespace: String,
    cable: String,
    units: Arc<Processes>,
    agent: Option<RunningAgent>,
    vip: Option<(Reader, tokio::task::JoinHandle<Result<()>>)>,
    /// Its rounds over the keys that control-plane nodes share, and over removals of such nodes.
    rounds: Vec<tokio::task::JoinHandle<Result<()>>>,
}

/// The agent's own code for addresses, in the network namespace of a machine.
struct Inside(String);

impl Inside {
    fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        let enter = || -> Result<()> {
            let namespace = std::fs::File::open(format!("/run/netns/{}", self.0))?;
            Ok(nix::sched::setns(namespace, nix::sched::CloneFlags::CLONE_NEWNET)?)
        };
        // A thread of its own: it alone is in the namespace, and ends.
        let inside = || {
            enter().unwrap_or_else(|error| panic!("namespace {}: {error:#}", self.0));
            work()
        };
        std::thread::scope(|scope| scope.spawn(inside).join().expect("it does not panic"))
    }
}

impl Segments for Inside {
    fn observe(&self) -> std::io::Result<Segment> {
        self.run(|| segment::Kernel::default().observe())
    }
}

impl VirtualAddresses for Inside {
    fn hold(&self, link: &str, address: IpAddr, lifetime: Duration) -> Result<(), VirtualAddressError> {
        self.run(|| virtual_address::Kernel.hold(link, address, lifetime))
    }

    fn announce(&self, link: &str, address: IpAddr) -> Result<(), VirtualAddressError> {
        self.run(|| virtual_address::Kernel.announce(link, address))
    }

    fn remove(&self, address: IpAddr) -> Result<bool, VirtualAddressError> {
        self.run(|| virtual_address::Kernel.remove(address))
    }

    fn owner(
        &self,
        link: &str,
        address: IpAddr,
        timeout: Duration,
    ) -> Result<Option<String>, VirtualAddressError> {
        self.run(|| virtual_address::Kernel.owner(link, address, timeout))
    }
}

impl Plane {
    /// One that is switched off, with this table `[cluster]`.
    pub fn new(network: &Network, name: &str, cluster: &str) -> Result<Self> {
        Self::with(Programs::find()?, network, name, cluster)
    }

    /// The same, started from these programs.
    pub(crate) fn with(programs: Programs, network: &Network, name: &str, cluster: &str) -> Result<Self> {
        let (namespace, cable, address) = network.plug()?;
        let text = format!("version = 1\n[system]\nhostname = \"{name}\"\n{cluster}\n");
        let node = AgentNode::new(&text, name)?;
        let units = Arc::new(Processes::new(programs, node.root(), &namespace));
        let hosts = Hosts { run: programs_in(&namespace)?, units: units.clone() };
        Ok(Self {
            node,
            hosts,
            address,
            name: name.into(),
            namespace,
            cable,
            units,
            agent: None,
            vip: None,
            rounds: Vec::new(),
        })
    }

    /// Its files.
    pub fn paths(&self) -> Paths {
        self.node.paths()
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its network namespace.
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// Its programs, for what starts them again.
    pub(crate) fn units(&self) -> Arc<Processes> {
        self.units.clone()
    }

    /// Pulls the cable between its namespace and the bridge, or puts it in again.
    pub fn connect(&self, is_connected: bool) -> Result<()> {
        let state = if is_connected { "up" } else { "down" };
        System.run(&Command::new("ip").args(["link", "set", &self.cable, state]))?;
        Ok(())
    }

    /// Starts its agent: the controllers of the cluster and of the address for people.
    pub fn start(&mut self) -> Result<()> {
        let agent = self.node.start_at(self.address, self.hosts.clone())?;
        let (reader, sections, _) = sheaf_agent::status::open();
        let hosts = vip::Hosts {
            segments: Arc::new(Inside(self.namespace.clone())),
            addresses: Arc::new(Inside(self.namespace.clone())),
        };
        let task = tokio::spawn(vip::run(agent.ctx.clone(), sections.vip, hosts));
        self.vip = Some((reader, task));
        let rounds = Kind::ALL.map(|kind| shared_keys::run(kind, agent.ctx.clone(), self.hosts.clone()));
        self.rounds = rounds.into_iter().map(tokio::spawn).collect();
        self.rounds.push(tokio::spawn(demotions::run(agent.ctx.clone(), self.hosts.clone())));
        self.agent = Some(agent);
        Ok(())
    }

    fn end_agent(&mut self) {
        if let Some((_, task)) = self.vip.take() {
            task.abort();
        }
        self.agent = None;
    }

    /// What its agent says of the address for people.
    pub fn vip(&self) -> sheaf_agent::status::VipSection {
        self.vip.as_ref().map(|(reader, _)| reader.read().vip.clone()).unwrap_or_default()
    }

    /// Whether one of its links has `address`.
    pub fn has(&self, address: IpAddr) -> Result<bool> {
        let listed = Inside(self.namespace.clone()).observe()?.interfaces;
        Ok(listed.iter().any(|interface| interface.address.is_some_and(|(has, _)| has == address)))
    }

    /// Ends its agent and every process, as a power cut does.
    pub fn cut_power(&mut self) {
        self.kill_agent();
        self.units.kill();
        // Files in memory are gone.
        std::fs::remove_dir_all(self.paths().run).ok();
    }

    /// Ends its agent alone, as `kill -9` does.
    pub fn kill_agent(&mut self) {
        self.end_agent();
        self.rounds.drain(..).for_each(|round| round.abort());
    }

    /// Ends one of its units (SIGKILL).
    pub fn kill_unit(&self, unit: &str) {
        self.units.kill_one(unit);
    }

    /// Process of one of its units, while it runs.
    pub fn pid(&self, unit: &str) -> Option<u32> {
        self.units.pid(unit)
    }

    /// Waits until the agent's section of the status is as `condition` says.
    pub async fn section(
        &self,
        what: &str,
        condition: impl Fn(&ClusterSection) -> bool,
    ) -> Result<ClusterSection> {
        let agent = self.agent.as_ref().context("its agent runs")?;
        let mut status = agent.ctx.status.subscribe();
        let waited = tokio::time::timeout(TIMEOUT, status.wait_for(|status| condition(&status.cluster)))
            .await
            .map(|found| found.map(|status| status.cluster.clone()));
        if let Ok(found) = waited {
            return Ok(found?);
        }
        let section = agent.ctx.status.read().cluster.clone();
        anyhow::bail!("{}: {what}: {section:#?}\n{}", self.name, self.units.tails())
    }

    /// What keeps it from being of the control plane, once something does; `what` is said when nothing does.
    pub async fn refusal(&self, what: &str) -> Result<PlaneSection> {
        let is_refused = |section: &ClusterSection| {
            section.control_plane.as_ref().is_some_and(|plane| plane.problem.is_some())
        };
        self.section(what, is_refused).await?.control_plane.context("it has a control plane")
    }

    /// Waits until its control plane and its node are up.
    pub async fn up(&self) -> Result<()> {
        let joins = std::fs::read_to_string(self.paths().node_toml)?.contains("mode = \"join\"");
        let runs = |section: &ClusterSection| {
            // The node that created the cluster says so only once there are others.
            let is_up = |plane: &PlaneSection| plane.step == RUNS && plane.problem.is_none();
            section.control_plane.as_ref().map_or(!joins, is_up)
        };
        self.section("does not come up", |section| section.phase == Phase::Ready && runs(section))
            .await
            .map(drop)
    }

    /// What its agent says of its cluster, for a failure.
    pub fn said(&self) -> Option<ClusterSection> {
        self.agent.as_ref().map(|agent| agent.ctx.status.read().cluster.clone())
    }

    /// The last lines of each of its units, for a failure.
    pub fn tails(&self) -> String {
        self.units.tails()
    }

    /// An administrator's client of its own API server.
    pub async fn admin(&self) -> Result<kube::Client> {
        client_of(&self.paths().kubernetes.join("super-admin.conf")).await
    }

    /// Starts its sheaf-controller.
    pub fn controller(&self) -> Result<Replica> {
        let keys = self.paths().kubernetes;
        let (kubeconfig, certificates) = (keys.join("sheaf-controller.conf"), keys.join("pki"));
        Replica::of(sheaf_controller::Options { kubeconfig, certificates, port: 0 })
    }

    /// Approves nodes' certificates as its sheaf-controller does, until the answer is dropped; once it has a control plane.
    pub async fn approver(&self) -> Result<Approver> {
        let file: PathBuf = self.paths().kubernetes.join("sheaf-controller.conf");
        let made = async {
            while !file.exists() {
                tokio::time::sleep(Duration::from_millis(100)).await; // the next look; the deadline is below
            }
        };
        let waited = tokio::time::timeout(TIMEOUT, made).await;
        ensure!(waited.is_ok(), "{}: {} is not made\n{}", self.name, file.display(), self.units.tails());
        Ok(Approver::of(client_of(&file).await?))
    }
}

impl Drop for Plane {
    fn drop(&mut self) {
        self.cut_power();
        if let Err(error) = System.run(&Command::new("ip").args(["netns", "delete", &self.namespace])) {
            eprintln!("{error}");
        }
    }
}

/// The first node of a cluster, up.
pub async fn first(network: &Network) -> Result<Plane> {
    let mut first = Plane::new(network, "a", "[cluster]\nmode = \"create\"")?;
    first.start()?;
    let approver = first.approver().await?;
    first.up().await?;
    drop(approver);
    Ok(first)
}

/// One more, switched off, with a token that `of` made.
pub async fn invited(network: &Network, of: &Plane, name: &str) -> Result<Plane> {
    let table = invite::create(&of.paths(), &*of.hosts.run, LIFETIME, None).await?;
    Plane::new(network, name, &table)
}

/// One more, which has joined by a token that `of` made.
pub async fn joined(network: &Network, of: &Plane, name: &str) -> Result<Plane> {
    let mut plane = invited(network, of, name).await?;
    plane.start()?;
    plane.up().await?;
    Ok(plane)
}

/// A worker that is to join `of` under this name; it is switched off.
pub async fn joining(of: &Plane, name: &str) -> Result<AgentNode> {
    let token = Token::generate()?;
    let grant = Grant { lifetime: LIFETIME, description: "a test", only_for: None };
    token::allow(&of.admin().await?, &token, grant).await?;
    let ca = std::fs::read_to_string(of.paths().kubernetes.join("pki/ca.crt"))?;
    let text = format!(
        "version = 1\n[system]\nhostname = \"{name}\"\n[cluster]\nmode = \"join\"\nserver = \"https://{}:6443\"\n\
         token = \"{}\"\nca-hash = \"{}\"\n",
        of.address,
        token.reveal(),
        CaPin::of_certificate(&ca)?
    );
    AgentNode::new(&text, name)
}

/// A worker called `w` that joined `of` and has read the list of API servers.
pub async fn worker(of: &Plane) -> Result<(AgentNode, RunningAgent)> {
    let node = joining(of, "w").await?;
    let hosts = Hosts { run: Arc::new(FakeRun::default()), units: Arc::new(FakeUnits::default()) };
    let agent = node.start(hosts)?;
    let mut status = agent.ctx.status.subscribe();
    let ready = status.wait_for(|status| status.cluster.phase == Phase::Ready);
    tokio::time::timeout(TIMEOUT, ready).await.context("the worker does not become ready")??;
    let list = node.paths().lib.join("api-servers.json");
    let read = async {
        while !list.exists() {
            tokio::time::sleep(TRY).await; // until the next look
        }
    };
    tokio::time::timeout(TIMEOUT, read).await.context("the worker does not read the list of API servers")?;
    Ok((node, agent))
}

/// Asks by the client that all controllers of the worker's agent have, until there is an answer; it, and how long that took.
pub async fn until_answered<T, F: Future<Output = kube::Result<T>>>(
    agent: &RunningAgent,
    ask: impl Fn(kube::Client) -> F,
) -> Result<(T, Duration)> {
    let begun = Instant::now();
    loop {
        let client = agent.ctx.cluster.borrow().clone().context("it has joined")?.client;
        if let Ok(Ok(answer)) = tokio::time::timeout(TRY_TIME, ask(client)).await {
            return Ok((answer, begun.elapsed()));
        }
        ensure!(begun.elapsed() < TIMEOUT, "no API server answers");
        tokio::time::sleep(TRY).await; // until the next try
    }
}

/// Asks for the worker's Node until there is an answer; how long that took.
pub async fn answered(agent: &RunningAgent) -> Result<Duration> {
    let get = |client| async move { Api::<Node>::all(client).get("w").await };
    Ok(until_answered(agent, get).await?.1)
}
