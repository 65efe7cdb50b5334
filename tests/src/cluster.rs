//! The real control plane as processes on this machine, in a network namespace of its own.
//!
//! Why here: agent and controller are tried against the API server itself, with Node authorizer and NodeRestriction,
//! without a machine in QEMU. It is made by the agent's own code for `mode = "create"` and started by the command lines
//! of the very unit files that are on a node. Route in: the `kube` binary (SHEAF_KUBE, or the newest in
//! `~/.cache/sheaf`). Route out: a server that other threads of the test reach; dropped, it leaves nothing behind.

use crate::faults::clock;
use anyhow::{Context as _, Result, anyhow};
use sheaf_agent::channels::{self, Context, Publish};
use sheaf_agent::cluster::create::{self, Local, kubeadm};
use sheaf_agent::cluster::report::Reporter;
use sheaf_agent::cluster::{self, Hosts};
use sheaf_agent::paths::Paths;
use sheaf_config::load::parse_node_config;
use sheaf_config::pin::CaPin;
use sheaf_host::run::{Command, Output, Run, RunError, System};
use sheaf_host::systemd::{Answer, Changes, UnitError, Units};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Child;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;
use tempfile::TempDir;

/// Unit files of the image, relative to this crate.
const UNITS: &str = "../os-image/image/rootfs/usr/lib/systemd/system";

/// Token that the test's node.toml makes valid.
pub const TOKEN: &str = "abcdef.0123456789abcdef";

/// A running control plane.
pub struct ControlPlane {
    /// `https://ADDRESS:6443`.
    pub server: String,
    /// `sha256:…` of its CA.
    pub ca_hash: String,
    /// Its files: `var/lib/kubernetes/super-admin.conf` and so on.
    pub paths: Paths,
    /// May do everything.
    pub admin: kube::Client,
    /// How it was made: run the agent with these to make it again.
    pub hosts: Hosts,
    /// Address of the API server.
    pub address: std::net::IpAddr,
    root: TempDir,
    // Dropped last: processes end before their namespace.
    units: Arc<Processes>,
    namespace: Arc<Namespace>,
}

impl ControlPlane {
    /// Makes and starts one whose node.toml has these further lines in `[cluster]`.
    pub async fn start(cluster: &str) -> Result<Self> {
        let namespace = Arc::new(Namespace::make()?);
        let root = tempfile::tempdir()?;
        let paths = Paths::under(root.path());
        let text = format!(
            "version = 1\n[system]\nhostname = \"plane\"\n[cluster]\nmode = \"create\"\ntoken = \"{TOKEN}\"\n{cluster}\n"
        );
        let config = parse_node_config("node.toml", &text).map_err(|errors| anyhow!("{errors}"))?;
        let units = Arc::new(Processes::new(Programs::find()?, root.path(), &namespace.name));
        let hosts = Hosts { run: programs_in(&namespace.name)?, units: units.clone() };
        let (_ctx, publish) = channels::open(paths.clone(), config.clone());
        let section = config.cluster.clone().context("the config makes a cluster")?;
        let report = Reporter::new(publish.sections.cluster);
        let made = create::control_plane(&paths, &config, &section, namespace.address, &hosts, &report).await;
        let Local { server, ca, admin } = made.map_err(|failure| anyhow!("{failure}\n{}", units.tails()))?;
        // Controllers of tests listen at this end of the pair, which is no address of the control plane.
        let near = kubeadm::ControlPlane {
            node: "plane".into(),
            address: namespace.near,
            sans: Vec::new(),
            service_cidr: String::new(),
            version: String::new(),
        };
        let pki = create::pki::Pki { dir: paths.kubernetes.clone() };
        create::controller::ensure_serving(&pki, &near, SystemTime::now())?;
        let ca_hash = CaPin::of_certificate(&ca)?.to_string();
        let address = namespace.address;
        Ok(Self { server, ca_hash, paths, admin, hosts, address, root, units, namespace })
    }

    /// Approves nodes' certificates as sheaf-controller does, until the answer is dropped.
    pub async fn approver(&self) -> Result<Approver> {
        let client = client_of(&self.controller_kubeconfig()).await?;
        Ok(Approver::of(client))
    }

    /// The administrator's kubeconfig.
    pub fn kubeconfig(&self) -> PathBuf {
        self.paths.kubernetes.join("super-admin.conf")
    }

    /// The kubeconfig of sheaf-controller's identity.
    pub fn controller_kubeconfig(&self) -> PathBuf {
        self.paths.kubernetes.join("sheaf-controller.conf")
    }

    /// How sheaf-controller is run here: the aggregated server at any free port, since several run on this machine.
    pub fn controller_options(&self) -> sheaf_controller::Options {
        let (kubeconfig, certificates) = (self.controller_kubeconfig(), self.paths.kubernetes.join("pki"));
        sheaf_controller::Options { kubeconfig, certificates, port: 0 }
    }

    /// The address by which the API server reaches this process: the other end of its namespace's pair.
    pub fn near_address(&self) -> std::net::IpAddr {
        self.namespace.near
    }

    /// Directory that is `/` to the control plane.
    pub fn root(&self) -> &Path {
        self.root.path()
    }

    /// Name of its network namespace, for a node that is to live beside it.
    pub fn namespace(&self) -> &str {
        &self.namespace.name
    }

    /// Process of `unit`, while it runs.
    pub fn pid(&self, unit: &str) -> Option<u32> {
        self.units.pid(unit)
    }

    /// The last lines of every component, for a failure.
    pub fn tails(&self) -> String {
        self.units.tails()
    }

    /// A joining agent's node with its own files, whose node.toml has the given token and CA hash.
    pub fn joining(&self, name: &str, machine_id: &str, token: &str, ca_hash: &str) -> Result<AgentNode> {
        AgentNode::new(
            &format!(
                "version = 1\n[system]\nhostname = \"{name}\"\n[cluster]\nmode = \"join\"\nserver = \"{}\"\ntoken = \"{token}\"\nca-hash = \"{ca_hash}\"\n",
                self.server
            ),
            machine_id,
        )
    }
}

/// A running approver; dropped, it is gone.
pub struct Approver(tokio::task::JoinHandle<()>);

impl Approver {
    /// One that speaks as `client`.
    pub(crate) fn of(client: kube::Client) -> Self {
        Self(tokio::spawn(sheaf_controller::csr::run(client)))
    }
}

impl Drop for Approver {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// A client from a kubeconfig file.
pub async fn client_of(path: &Path) -> Result<kube::Client> {
    let read = kube::config::Kubeconfig::read_from(path)?;
    let config = kube::Config::from_custom_kubeconfig(read, &Default::default()).await?;
    Ok(kube::Client::try_from(config)?)
}

impl Drop for ControlPlane {
    fn drop(&mut self) {
        self.units.kill();
    }
}

/// The files of a node, on which agents are started and stopped.
pub struct AgentNode {
    root: TempDir,
}

/// A running agent's cluster controller; dropped, it is gone as after `kill -9`.
pub struct RunningAgent {
    /// What other controllers would see.
    pub ctx: Context,
    /// What other controllers would say.
    pub publish: Publish,
    task: tokio::task::JoinHandle<Result<()>>,
}

impl AgentNode {
    /// A machine with this node.toml.
    pub fn new(node_toml: &str, machine_id: &str) -> Result<Self> {
        let root = tempfile::tempdir()?;
        for (path, text) in [("state/node.toml", node_toml), ("etc/machine-id", machine_id)] {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().context("it has a folder")?)?;
            fs::write(path, text)?;
        }
        // Its size is what the node offers as ephemeral-storage.
        fs::create_dir_all(Paths::under(root.path()).data)?;
        Ok(Self { root })
    }

    /// Its files.
    pub fn paths(&self) -> Paths {
        Paths::under(self.root.path())
    }

    /// Directory that is `/` to it.
    pub fn root(&self) -> &Path {
        self.root.path()
    }

    /// Starts the cluster controller as the agent does, on a host whose libvirt answers.
    pub fn start(&self, hosts: Hosts) -> Result<RunningAgent> {
        self.start_at(std::net::Ipv4Addr::new(192, 0, 2, 7).into(), hosts)
    }

    /// [`AgentNode::start`] on a host that has `address`.
    pub fn start_at(&self, address: std::net::IpAddr, hosts: Hosts) -> Result<RunningAgent> {
        let text = fs::read_to_string(self.paths().node_toml)?;
        let config = parse_node_config("node.toml", &text).map_err(|errors| anyhow!("{errors}"))?;
        let (ctx, mut publish) = channels::open(self.paths(), config);
        publish.network.send_modify(|network| {
            network.addresses = vec![address];
            network.bridges = vec!["br0".into(), "masq0".into()];
            network.time_synchronised = true;
        });
        publish.hypervisor.send_modify(|hypervisor| {
            hypervisor.answers = true;
            hypervisor.kvm = true;
            hypervisor.version = Some("11.3.0".into());
        });
        let joined = std::mem::replace(&mut publish.cluster, tokio::sync::watch::Sender::new(None));
        let lease = std::mem::replace(&mut publish.lease, tokio::sync::watch::Sender::new(None));
        let publish_cluster = cluster::Publish { joined, lease };
        let sections = std::mem::replace(&mut publish.sections, sheaf_agent::status::open().1);
        let task = tokio::spawn(cluster::run(ctx.clone(), publish_cluster, sections.cluster, hosts));
        Ok(RunningAgent { ctx, publish, task })
    }
}

impl Drop for RunningAgent {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A network namespace joined to this machine by a pair of virtual NICs.
pub(crate) struct Namespace {
    /// As `ip netns` knows it.
    pub(crate) name: String,
    /// Of the end inside.
    pub(crate) address: std::net::IpAddr,
    /// Of the other end.
    pub(crate) near: std::net::IpAddr,
}

impl Namespace {
    pub(crate) fn make() -> Result<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(1);
        sweep()?;
        let (pid, number) = (std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let name = format!("sheaf-{pid}-{number}");
        // 198.18.0.0/15 is set aside for tests of networks; four addresses for each control plane.
        let slot = (pid % 1024) * 128 + (number % 32) * 4;
        let at = |host: u32| {
            std::net::Ipv4Addr::from(u32::from(std::net::Ipv4Addr::new(198, 18, 0, 0)) + slot + host)
        };
        let (outside, inside) = (format!("sh{pid}-{number}"), format!("si{pid}-{number}"));
        let made = Self { name: name.clone(), address: at(2).into(), near: at(1).into() };
        let (near, far) = (format!("{}/30", at(1)), format!("{}/30", at(2)));
        for words in [
            vec!["netns", "add", &name],
            vec!["link", "add", &outside, "type", "veth", "peer", "name", &inside, "netns", &name],
            vec!["address", "add", &near, "dev", &outside],
            vec!["link", "set", &outside, "up"],
            vec!["-n", &name, "address", "add", &far, "dev", &inside],
            vec!["-n", &name, "link", "set", &inside, "up"],
            vec!["-n", &name, "link", "set", "lo", "up"],
        ] {
            System.run(&Command::new("ip").args(words))?;
        }
        Ok(made)
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        // The pair of NICs goes with it.
        if let Err(error) = System.run(&Command::new("ip").args(["netns", "delete", &self.name])) {
            eprintln!("{error}");
        }
    }
}

/// Removes what test processes that were killed left behind.
pub(crate) fn sweep() -> Result<()> {
    let listed = System.run(&Command::new("ip").args(["netns", "list"]))?.text();
    for name in listed.lines().filter_map(|line| line.split_whitespace().next()) {
        let owner = name.strip_prefix("sheaf-").and_then(|rest| rest.split('-').next());
        let Some(owner) = owner.filter(|pid| pid.parse::<u32>().is_ok()) else { continue };
        if Path::new("/proc").join(owner).exists() {
            continue;
        }
        let pids = System.run(&Command::new("ip").args(["netns", "pids", name])).map(|output| output.text());
        for pid in pids.unwrap_or_default().lines() {
            System.run(&Command::new("kill").args(["-9", pid])).ok();
        }
        System.run(&Command::new("ip").args(["netns", "delete", name])).ok();
    }
    Ok(())
}

/// What runs kubeadm on this machine.
pub fn kubeadm() -> Result<Arc<dyn Run>> {
    Ok(Arc::new(Kubeadm { kube: kube_binary()?, namespace: None }))
}

/// What runs kubeadm on this machine, and etcd's programs in a namespace.
pub(crate) fn programs_in(namespace: &str) -> Result<Arc<dyn Run>> {
    Ok(Arc::new(Kubeadm { kube: kube_binary()?, namespace: Some(namespace.to_owned()) }))
}

/// Runs kubeadm and etcd's programs out of the `kube` binary.
struct Kubeadm {
    kube: PathBuf,
    /// Where etcd listens.
    namespace: Option<String>,
}

/// Programs of the `kube` binary that a node's agent runs.
const RUN_BY_AGENT: [&str; 3] = ["kubeadm", "etcdctl", "etcdutl"];

impl Run for Kubeadm {
    fn run(&self, command: &Command) -> Result<Output, RunError> {
        let mut command = command.clone();
        let Some(name) = RUN_BY_AGENT.into_iter().find(|name| command.program == *name) else {
            return System.run(&command);
        };
        command.program = self.kube.clone().into();
        command.args.insert(0, name.into());
        // kubeadm reaches nothing; it makes files.
        if let Some(namespace) = self.namespace.as_ref().filter(|_| name == "etcdctl") {
            let inside = std::mem::replace(&mut command.program, "ip".into());
            let words = ["netns".into(), "exec".into(), namespace.into(), inside];
            command.args.splice(0..0, words);
        }
        System.run(&command)
    }
}

/// What units of the control plane are started from.
pub(crate) struct Programs {
    kube: PathBuf,
    /// The file that shifts their clock, if they are built for one.
    clock: Option<PathBuf>,
    /// How Sheaf's own programs are started, by name; those that are not here do not run.
    own: BTreeMap<String, Command>,
}

impl Programs {
    /// As they are.
    pub(crate) fn find() -> Result<Self> {
        Ok(Self { kube: kube_binary()?, clock: None, own: BTreeMap::new() })
    }

    /// With a clock that the file `clock` shifts.
    pub(crate) fn shifted(clock: &Path) -> Result<Self> {
        Ok(Self { kube: clock::kube()?, clock: Some(clock.to_owned()), own: BTreeMap::new() })
    }

    /// With these programs of Sheaf, too.
    pub(crate) fn with(self, own: BTreeMap<String, Command>) -> Self {
        Self { own, ..self }
    }
}

/// Units as processes: their command lines come from the image's unit files.
pub(crate) struct Processes {
    programs: Programs,
    root: PathBuf,
    namespace: String,
    running: Mutex<BTreeMap<String, Child>>,
}

/// Units whose programs are not of `kube`.
const OWN: [&str; 2] = ["sheaf-controller", "sheaf-console"];

impl Processes {
    /// None yet; the machine's directory is `root`, its network the namespace.
    pub(crate) fn new(programs: Programs, root: &Path, namespace: &str) -> Self {
        let (root, namespace) = (root.to_owned(), namespace.to_owned());
        Self { programs, root, namespace, running: Mutex::default() }
    }

    fn spawn(&self, unit: &str) -> Result<()> {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(UNITS).join(unit);
        let text =
            fs::read_to_string(&path).with_context(|| format!("{}: cannot be read", path.display()))?;
        let words = self.command_line(&text)?;
        let program = words[0].rsplit('/').next().unwrap_or_default().to_owned();
        let own = self.programs.own.get(&program);
        if own.is_none() && OWN.contains(&&*program) {
            // A test that wants it starts it itself.
            return Ok(());
        }
        let log = self.root.join(format!("{unit}.log"));
        let inside = Command::new("ip").args(["netns", "exec", &self.namespace]);
        let command = match own {
            Some(own) => inside.arg(&own.program).args(&own.args),
            None => inside.arg(&self.programs.kube).arg(program),
        };
        let mut command = command.args(&words[1..]).log(log);
        if let Some(clock) = &self.programs.clock {
            command = command.env(clock::VARIABLE, clock);
        }
        let child = System.start(&command)?;
        self.lock().insert(unit.to_owned(), child);
        Ok(())
    }

    /// ExecStart of a unit with credentials, variables and directories put in.
    fn command_line(&self, unit: &str) -> Result<Vec<String>> {
        let joined = unit.replace("\\\n", " ");
        let values = |key: &str| {
            let key = format!("{key}=");
            joined
                .lines()
                .filter_map(move |line| line.strip_prefix(&key).map(str::to_owned))
                .collect::<Vec<_>>()
        };
        let here = |path: &str| self.root.join(path.trim_start_matches('/')).display().to_string();
        let mut line = values("ExecStart").pop().context("the unit starts nothing")?;
        for credential in values("LoadCredential") {
            let (name, path) = credential.split_once(':').context("a credential has a name and a path")?;
            line = line.replace(&format!("%d/{name} "), &format!("{} ", here(path)));
            if let Some(start) = line.strip_suffix(&format!("%d/{name}")) {
                line = format!("{start}{}", here(path));
            }
        }
        // The folder of credentials: those that are read by their own names lie in one, and are named last.
        let last = values("LoadCredential").pop();
        let folder = last.as_deref().and_then(|last| last.split_once(':')?.1.rsplit_once('/'));
        if let (Some(start), Some((folder, _))) = (line.strip_suffix("%d"), folder) {
            line = format!("{start}{}", here(folder));
        }
        for file in values("EnvironmentFile") {
            for variable in fs::read_to_string(here(&file))?.lines() {
                let (name, value) = variable.split_once('=').context("a variable has a value")?;
                line = line.replace(&format!("${{{name}}}"), value);
            }
        }
        let image = Path::new(env!("CARGO_MANIFEST_DIR")).join(UNITS).join("../../sheaf");
        line = line.replace("=/usr/lib/sheaf/", &format!("={}/", image.display()));
        for folder in ["/var/", "/run/"] {
            line = line.replace(&format!("={folder}"), &format!("={}/", here(folder.trim_end_matches('/'))));
        }
        Ok(line.split_whitespace().map(str::to_owned).collect())
    }

    fn end(&self, unit: &str) {
        if let Some(mut child) = self.lock().remove(unit) {
            child.kill().ok();
            child.wait().ok();
        }
    }

    /// Ends all of them, as a power cut does.
    pub(crate) fn kill(&self) {
        let units: Vec<_> = self.lock().keys().cloned().collect();
        units.iter().for_each(|unit| self.end(unit));
    }

    /// Ends one of them (SIGKILL).
    pub(crate) fn kill_one(&self, unit: &str) {
        self.end(unit);
    }

    /// Process of one of them: `ip netns exec` becomes the program.
    pub(crate) fn pid(&self, unit: &str) -> Option<u32> {
        self.lock().get(unit).map(Child::id)
    }

    /// Those of them that were started and have ended by themselves.
    pub(crate) fn ended(&self) -> Vec<String> {
        let has_ended = |child: &mut Child| !matches!(child.try_wait(), Ok(None));
        self.lock().iter_mut().filter_map(|(unit, child)| has_ended(child).then(|| unit.clone())).collect()
    }

    /// The last lines of each.
    pub(crate) fn tails(&self) -> String {
        let mut text = String::new();
        for unit in self.lock().keys() {
            let log = fs::read_to_string(self.root.join(format!("{unit}.log"))).unwrap_or_default();
            let lines: Vec<_> = log.lines().rev().take(15).collect();
            text += &format!("--- {unit}\n{}\n", lines.into_iter().rev().collect::<Vec<_>>().join("\n"));
        }
        text
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, Child>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn start_once(&self, unit: &str) -> Result<(), UnitError> {
        let runs = self.lock().get_mut(unit).is_some_and(|child| matches!(child.try_wait(), Ok(None)));
        if runs {
            return Ok(());
        }
        self.spawn(unit).map_err(|error| UnitError::Ask {
            verb: "start",
            unit: unit.into(),
            source: error.into(),
        })
    }
}

impl Units for Processes {
    fn start<'a>(&'a self, unit: &'a str) -> Answer<'a, ()> {
        Box::pin(async move { self.start_once(unit) })
    }

    fn restart<'a>(&'a self, unit: &'a str) -> Answer<'a, ()> {
        Box::pin(async move {
            self.end(unit);
            self.start_once(unit)
        })
    }

    fn stop<'a>(&'a self, unit: &'a str) -> Answer<'a, ()> {
        Box::pin(async move {
            self.end(unit);
            Ok(())
        })
    }

    fn state<'a>(&'a self, unit: &'a str) -> Answer<'a, String> {
        Box::pin(
            async move { Ok(if self.lock().contains_key(unit) { "active" } else { "inactive" }.to_owned()) },
        )
    }

    fn changes<'a>(&'a self, unit: &'a str) -> Answer<'a, Changes> {
        let source = "processes of a test report no changes".into();
        Box::pin(async move { Err(UnitError::Ask { verb: "report changes of", unit: unit.into(), source }) })
    }

    fn reboot(&self) -> Answer<'_, ()> {
        let source = "processes of a test have no machine to restart".into();
        Box::pin(async move { Err(UnitError::Ask { verb: "start", unit: "reboot.target".into(), source }) })
    }
}

/// The multi-call binary: SHEAF_KUBE, or the newest file named `kube` below `~/.cache/sheaf`.
pub fn kube_binary() -> Result<PathBuf> {
    if let Some(path) = std::env::var_os("SHEAF_KUBE") {
        return Ok(path.into());
    }
    let home = std::env::var_os("HOME").context("HOME is not set")?;
    let cache = Path::new(&home).join(".cache/sheaf");
    let found = System
        .run(&Command::new("find").arg(&cache).args([
            "-maxdepth",
            "3",
            "-name",
            "kube*",
            "-type",
            "f",
            "-size",
            "+50M",
            "-printf",
            "%T@ %p\\n",
        ]))
        .map(|output| output.text())
        .unwrap_or_default();
    let age = |line: &(&str, &str)| line.0.parse::<f64>().unwrap_or(0.0);
    let newest =
        found.lines().filter_map(|line| line.split_once(' ')).max_by(|a, b| age(a).total_cmp(&age(b)));
    newest
        .map(|(_, path)| path.into())
        .ok_or_else(|| anyhow!("no kube below {}; `sheaf kube` builds it", cache.display()))
}
