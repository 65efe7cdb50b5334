//! A cluster as people meet it: three control-plane nodes, each with sheaf-controller and the console, behind the address for people.
//!
//! Why here: what a browser sees when a control-plane node is lost, address, console, API server and etcd make together. The programs
//! are those of the newest release (SHEAF_CONTROLLER, SHEAF_CONSOLE), started by the agent with the command lines of their units, each
//! in the network namespace of its node, and again when they end. Route in: nothing. Route out: a [`Site`], whose nodes are lost
//! and come back; dropped, it leaves nothing behind.

use crate::cluster::{Processes, Programs};
use crate::console::{Browser, ask};
use crate::controlled::wait;
use crate::faults::controller::program;
use crate::planes::{Network, Plane, TIMEOUT};
use anyhow::{Context as _, Result, anyhow, ensure};
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::api::{Api, PostParams};
use sheaf_agent::cluster::planes::invite;
use sheaf_agent::cluster::token::LIFETIME;
use sheaf_api::VirtualMachine;
use sheaf_config::load::parse_node_config;
use sheaf_config::pin::CaPin;
use sheaf_host::systemd::Units as _;
use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::task::AbortHandle;

/// `RestartSec=` of the units.
const RESTART: Duration = Duration::from_secs(2);
/// Between two looks.
const LOOK: Duration = Duration::from_millis(200);
/// Longest time for a question to an API server that may be gone.
const ASK_TIME: Duration = Duration::from_secs(2);
/// All machines, as the console hands them on from the API server.
pub const MACHINES: &str = "/api/apis/kubevirt.io/v1/virtualmachines";

/// How a node is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    /// Its link is down, and every process of it is killed.
    Power,
    /// Its link is down, and every process of it runs on.
    Cable,
}

impl Loss {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Power, Self::Cable];

    /// In names.
    pub fn word(self) -> &'static str {
        match self {
            Self::Power => "power",
            Self::Cable => "cable",
        }
    }
}

impl fmt::Display for Loss {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str(match self {
            Self::Power => "power cut",
            Self::Cable => "link cut",
        })
    }
}

/// By which certificates consoles answer browsers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Certificates {
    /// One that the operator gave to each node, for the address for people.
    Given,
    /// None was given: the one that all nodes of the cluster have (decision 63).
    Own,
}

impl Certificates {
    /// The table `[console]` of each node, if there is one.
    fn table(self, vip: IpAddr) -> Result<String> {
        if self == Self::Own {
            return Ok(String::new());
        }
        let key = rcgen::KeyPair::generate()?;
        let certificate = rcgen::CertificateParams::new(vec![vip.to_string()])?.self_signed(&key)?.pem();
        let key = key.serialize_pem();
        Ok(format!("[console]\ncertificate = \"\"\"\n{certificate}\"\"\"\nkey = \"\"\"\n{key}\"\"\"\n"))
    }
}

/// The cluster.
pub struct Site {
    /// The address for people.
    pub vip: IpAddr,
    supervisors: Vec<AbortHandle>,
    planes: Vec<Plane>,
    lost: Option<(usize, Loss)>,
    /// Dropped last.
    pub network: Network,
}

impl Drop for Site {
    fn drop(&mut self) {
        self.supervisors.iter().for_each(AbortHandle::abort);
    }
}

impl Site {
    /// Makes it, and waits until each console has read what it keeps and the API has all kinds.
    pub async fn make(certificates: Certificates) -> Result<Self> {
        let network = Network::make()?;
        let vip = network.free_address();
        let console = certificates.table(vip)?;
        let mut site = Self { vip, supervisors: Vec::new(), planes: Vec::new(), lost: None, network };
        let create = format!("[cluster]\nmode = \"create\"\nvip = \"{vip}\"");
        site.add("a", &create, &console).await?;
        for name in ["b", "c"] {
            let first = &site.planes[0];
            let table = invite::create(&first.paths(), &*first.hosts.run, LIFETIME, None).await?;
            site.add(name, &table, &console).await?;
        }
        for at in 0..site.planes.len() {
            site.is_served(at).await?;
        }
        let admin = site.admin().await?;
        let machines: Api<VirtualMachine> = Api::all(admin.clone());
        wait("the API has machines", async || machines.list(&Default::default()).await.map(|_| Some(())))
            .await?;
        let accounts: Api<ServiceAccount> = Api::default_namespaced(admin);
        wait("the namespace has its service account", async || accounts.get_opt("default").await).await?;
        Ok(site)
    }

    async fn add(&mut self, name: &str, cluster: &str, console: &str) -> Result<()> {
        let own = ["sheaf-controller", "sheaf-console"].map(|name| Ok((name.to_owned(), program(name)?)));
        let own = own.into_iter().collect::<Result<BTreeMap<_, _>>>()?;
        let mut plane =
            Plane::with(Programs::find()?.with(own), &self.network, name, &format!("{cluster}\n{console}"))?;
        self.supervisors.push(tokio::spawn(supervise(plane.units())).abort_handle());
        plane.start()?;
        plane.up().await?;
        self.planes.push(plane);
        Ok(())
    }

    /// `https://ADDRESS` of the address for people.
    pub fn address(&self) -> String {
        format!("https://{}", self.vip)
    }

    /// The nodes.
    pub fn planes(&self) -> &[Plane] {
        &self.planes
    }

    /// `https://ADDRESS` of the console of a node.
    pub fn address_of(&self, at: usize) -> String {
        format!("https://{}", self.planes[at].address)
    }

    /// SHA-256 of the public key by which the console of a node answers: a browser that somebody told to trust the certificate knows it.
    pub fn pin(&self, at: usize) -> Result<CaPin> {
        let file = self.planes[at].paths().kubernetes.join("pki/sheaf-console-serving.crt");
        let text = std::fs::read_to_string(&file).with_context(|| file.display().to_string())?;
        Ok(CaPin::of_certificate(&text)?)
    }

    /// The node that is not lost and has the address for people, if one has.
    pub fn holder(&self) -> Result<Option<usize>> {
        for (at, plane) in self.planes.iter().enumerate() {
            if self.lost.is_none_or(|(lost, _)| lost != at) && plane.has(self.vip)? {
                return Ok(Some(at));
            }
        }
        Ok(None)
    }

    /// An administrator's client of the API server of a node that is not lost.
    pub async fn admin(&self) -> Result<kube::Client> {
        let lost = self.lost.map(|(at, _)| at);
        let found = self.planes.iter().enumerate().find(|(at, _)| Some(*at) != lost);
        found.context("two nodes are left")?.1.admin().await
    }

    /// A browser of `user`, who claims the cluster at the address for people.
    pub async fn claim(&self, user: &str) -> Result<Browser> {
        let first = &self.planes[0];
        let text = std::fs::read_to_string(first.paths().node_toml)?;
        let config = parse_node_config("node.toml", &text).map_err(|errors| anyhow!("{errors}"))?;
        Browser::claim_on(&first.paths(), &config, &self.address(), user).await
    }

    /// Creates a machine that does not run, by the API server of a node that is not lost; again until it is there.
    pub async fn create(&self, name: &str) -> Result<()> {
        let machines: Api<VirtualMachine> = Api::default_namespaced(self.admin().await?);
        let machine = crate::played::vm(name, "Halted")?;
        wait(&format!("machine {name} is created"), async || {
            let asked =
                tokio::time::timeout(ASK_TIME, machines.create(&PostParams::default(), &machine)).await;
            match asked {
                // A try that was not answered may have been heard.
                Ok(Err(kube::Error::Api(status))) if status.code == 409 => Ok(Some(())),
                Ok(made) => made.map(|_| Some(())),
                Err(_) => Ok(None),
            }
        })
        .await
    }

    /// The node that has the address for people is lost; which, and when.
    pub fn lose_holder(&mut self, loss: Loss) -> Result<(usize, Instant)> {
        let holder = self.holder()?.context("no node has the address for people")?;
        self.lose(holder, loss)?;
        Ok((holder, Instant::now()))
    }

    /// A node is lost. One at a time.
    pub fn lose(&mut self, at: usize, loss: Loss) -> Result<()> {
        ensure!(self.lost.is_none(), "{:?} is lost already", self.lost);
        self.lost = Some((at, loss));
        self.planes[at].connect(false)?;
        if loss == Loss::Power {
            self.planes[at].cut_power();
        }
        Ok(())
    }

    /// What was lost has its cable again, and power.
    pub fn reconnect(&mut self) -> Result<()> {
        let (at, loss) = self.lost.take().context("a node is lost")?;
        self.planes[at].connect(true)?;
        if loss == Loss::Power {
            self.planes[at].start()?;
        }
        Ok(())
    }

    /// Waits until every node is as before a loss, and one has the address for people.
    pub async fn is_whole(&self) -> Result<()> {
        for at in 0..self.planes.len() {
            self.planes[at].up().await?;
            self.is_served(at).await?;
        }
        let ends = Instant::now() + TIMEOUT;
        while self.holder()?.is_none() {
            ensure!(Instant::now() < ends, "no node has {}\n{}", self.vip, self.tails());
            tokio::time::sleep(LOOK).await; // until the next look
        }
        Ok(())
    }

    /// Waits until API server and console of a node are ready.
    async fn is_served(&self, at: usize) -> Result<()> {
        let (admin, address) = (self.planes[at].admin().await?, self.address_of(at));
        let ends = Instant::now() + TIMEOUT;
        loop {
            let ready = admin.request_text(http::Request::get("/readyz").body(Vec::new())?);
            let is_ready = matches!(tokio::time::timeout(ASK_TIME, ready).await, Ok(Ok(_)));
            let console = is_ready && ask(&address, &[], "/healthz").is_ok_and(|answer| answer.status == 200);
            if console {
                return Ok(());
            }
            let name = self.planes[at].name();
            ensure!(Instant::now() < ends, "{name}: API server {is_ready}, console no\n{}", self.tails());
            tokio::time::sleep(LOOK).await; // until the next look
        }
    }

    /// The last lines of every program, for a failure.
    pub fn tails(&self) -> String {
        self.planes.iter().map(|plane| format!("=== {}\n{}", plane.name(), plane.tails())).collect()
    }
}

/// Starts what has ended again, as its unit does.
async fn supervise(units: Arc<Processes>) {
    let mut due: BTreeMap<String, Instant> = BTreeMap::new();
    loop {
        let ended = units.ended();
        due.retain(|unit, _| ended.contains(unit));
        for unit in ended {
            let at = *due.entry(unit.clone()).or_insert_with(|| Instant::now() + RESTART);
            if Instant::now() < at {
                continue;
            }
            if let Err(error) = units.start(&unit).await {
                eprintln!("{unit}: {error:#}");
            }
        }
        tokio::time::sleep(LOOK).await; // until the next look
    }
}
