//! The rounds: is the API server of this machine ready, whose is the Lease, who has the address?
//!
//! Route in: time, changes of config and network, the end of the machine. Route out: the Lease, the address, the section `vip`.

use super::Hosts;
use super::election::{Claim, Election, HOLD, PERIOD};
use super::lease::{self, Leases};
use crate::channels::Context;
use crate::cluster::kubeconfig;
use crate::reconcile::{self, Next, Woken, blocking};
use crate::status::{Section, VipSection};
use anyhow::{Context as _, anyhow, ensure};
use sheaf_config::node::Role;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;
use tokio::time::Instant;

/// Longest time for the questions of a round: an address whose time is over is gone by then in any case.
const ASK: Duration = Duration::from_millis(2500);
/// Longest time for giving the Lease up: nothing depends on it but how soon another has the address.
const RELEASE: Duration = Duration::from_secs(1);
/// Who has the address before this node puts it on its link is asked for so long: one ARP probe on a local network.
const PROBE: Duration = Duration::from_millis(500);
/// After a machine that is not of the control plane answered for the address, it is left alone for so long.
const FOREIGN_PAUSE: Duration = Duration::from_secs(30);
/// Rounds in which neighbours are told after the address came here: some switches lose the first frames.
const FIRST_ANNOUNCEMENTS: u32 = 5;
/// Afterwards every so many rounds: a neighbour that was switched off meanwhile, a switch that was restarted.
const ANNOUNCE_EVERY: u32 = 15;

/// What wakes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Source {
    /// Another address is asked for.
    Config,
    /// The node's own addresses changed.
    Network,
    /// The machine is going down.
    ShuttingDown,
    /// The machine is about to be restarted into another release.
    Leaving,
}

/// What is between this node and the address, with what to do; reported, and no failure of a program.
#[derive(Debug, thiserror::Error)]
#[error(
    "{vip} is answered for by {mac}, which is another machine: choose a free address as cluster.vip of all control-plane nodes"
)]
struct Foreign {
    vip: IpAddr,
    mac: String,
}

/// The controller's state.
pub struct Controller {
    ctx: Context,
    section: Section<VipSection>,
    hosts: Hosts,
    start: Instant,
    /// The address of the node config, and the candidate for it.
    candidate: Option<(IpAddr, Election)>,
    /// The client of this machine's API server, and the text of the file that it was made of.
    client: Option<(Vec<u8>, kube::Client)>,
    /// This node may have the Lease: it wrote it, and did not release it.
    may_hold: bool,
    /// Rounds since the address came here; none while it is not here.
    rounds: Option<u32>,
    /// No claim before then.
    not_before: Duration,
    /// What went wrong last: it is logged once.
    problem: Option<String>,
}

impl Controller {
    /// One that holds nothing.
    pub fn new(ctx: Context, section: Section<VipSection>, hosts: Hosts) -> Self {
        Self {
            ctx,
            section,
            hosts,
            start: Instant::now(),
            candidate: None,
            client: None,
            may_hold: false,
            rounds: None,
            not_before: Duration::ZERO,
            problem: None,
        }
    }

    fn now(&self) -> Duration {
        self.start.elapsed()
    }

    fn name(&self) -> String {
        self.ctx.config.borrow().system.hostname.clone()
    }

    /// The address that this node may have.
    fn wanted(&self) -> Option<IpAddr> {
        let config = self.ctx.config.borrow();
        let cluster = config.cluster.as_ref()?;
        cluster.vip.filter(|_| cluster.role() == Role::ControlPlane)
    }

    /// The agent ends: another node need not wait.
    pub async fn end(&mut self) {
        if let Some((vip, _)) = self.candidate.take() {
            self.give_up(vip).await;
        }
    }

    /// Takes the address away, then releases the Lease: another node shall have both soon.
    async fn give_up(&mut self, vip: IpAddr) {
        self.remove_if_here(vip).await;
        if let (true, Some((_, client))) = (std::mem::take(&mut self.may_hold), &self.client) {
            let (leases, name) = (Leases::new(client.clone(), vip), self.name());
            let released = tokio::time::timeout(RELEASE, leases.release(&name)).await;
            // As a rule when this API server does not work; another takes the Lease when its time is over.
            if !matches!(released, Ok(Ok(()))) {
                tracing::info!("Lease {}/{}: cannot be released", lease::NAMESPACE, lease::name(vip));
            }
        }
    }

    async fn remove_if_here(&mut self, vip: IpAddr) {
        if self.rounds.is_some() {
            self.remove(vip).await;
        }
    }

    /// Takes the address away. If that fails, the kernel does it when its lifetime is over.
    async fn remove(&mut self, vip: IpAddr) {
        let addresses = self.hosts.addresses.clone();
        match blocking(move || Ok(addresses.remove(vip)?)).await {
            Ok(true) => tracing::warn!("{vip} is no longer on this node"),
            Ok(false) => {}
            Err(error) => tracing::warn!("{error:#}; the kernel removes it within {} s", HOLD.as_secs() + 2),
        }
        self.rounds = None;
    }

    /// A client of the API server of this machine.
    async fn own_server(&mut self) -> anyhow::Result<kube::Client> {
        let file: PathBuf = self.ctx.paths.kubernetes.join("super-admin.conf");
        let text = std::fs::read(&file).context("the control plane of this node is not made yet")?;
        if let Some((_, client)) = self.client.as_ref().filter(|(of, _)| *of == text) {
            return Ok(client.clone());
        }
        let client = kubeconfig::client_from_file(&file).await?;
        self.client = Some((text, client.clone()));
        Ok(client)
    }

    /// The link on which this node is reached.
    async fn link(&self) -> anyhow::Result<String> {
        let own = self.ctx.network.borrow().addresses.first().copied();
        let own = own.context("this node has no address yet")?;
        let segments = self.hosts.segments.clone();
        let segment = blocking(move || Ok(segments.observe()?)).await?;
        let has_it = |interface: &&sheaf_host::segment::Interface| {
            interface.address.is_some_and(|(address, _)| address == own)
        };
        let found = segment.interfaces.iter().find(has_it);
        Ok(found.with_context(|| format!("no link has this node's address {own}"))?.link.clone())
    }

    /// Asks the API server of this machine whether it is ready and whose the Lease is, and takes or renews it if it may.
    async fn claim(&mut self, vip: IpAddr, election: &mut Election) -> anyhow::Result<()> {
        let client = self.own_server().await?;
        let ready = http::Request::get("/readyz").body(Vec::new())?;
        client.request_text(ready).await.context("the API server of this node is not ready")?;
        let leases = Leases::new(client, vip);
        let begun = self.now();
        let of_lease = || format!("Lease {}/{}", lease::NAMESPACE, lease::name(vip));
        let before = leases.read().await.with_context(of_lease)?;
        let claim = election.read(before.as_ref().map(lease::record).as_ref(), self.now());
        if claim == Claim::Wait {
            return Ok(());
        }
        self.may_hold = true; // also if no answer comes
        match leases.write(before, &self.name(), claim).await.with_context(of_lease)? {
            true => election.written(begun),
            false => election.lost(),
        }
        Ok(())
    }

    /// Puts the address here for as long as this node has the Lease.
    async fn hold(&mut self, vip: IpAddr, election: &Election) -> anyhow::Result<()> {
        let link = self.link().await?;
        if self.rounds.is_none() {
            let (addresses, on) = (self.hosts.addresses.clone(), link.clone());
            if let Some(mac) = blocking(move || Ok(addresses.owner(&on, vip, PROBE)?)).await? {
                return Err(Foreign { vip, mac }.into());
            }
        }
        let left = election.remaining(self.now());
        ensure!(left >= Duration::from_secs(1), "the Lease was renewed too late");
        let (addresses, on) = (self.hosts.addresses.clone(), link.clone());
        blocking(move || Ok(addresses.hold(&on, vip, left)?)).await?;
        let rounds = self.rounds.map_or(0, |rounds| rounds.saturating_add(1));
        if self.rounds.replace(rounds).is_none() {
            tracing::warn!("{vip} is on this node, link {link}");
        }
        if rounds < FIRST_ANNOUNCEMENTS || rounds.is_multiple_of(ANNOUNCE_EVERY) {
            let addresses = self.hosts.addresses.clone();
            blocking(move || Ok(addresses.announce(&link, vip)?)).await?;
        }
        Ok(())
    }

    /// One round of a candidate.
    async fn stand(&mut self, vip: IpAddr, election: &mut Election) -> anyhow::Result<()> {
        let claimed = match tokio::time::timeout(ASK, self.claim(vip, election)).await {
            Ok(claimed) => claimed,
            Err(_) => {
                Err(anyhow!("the API server of this node did not answer within {:.1} s", ASK.as_secs_f32()))
            }
        };
        if let Err(error) = claimed {
            // It does not lead to an API server that works.
            election.lost();
            return Err(error);
        }
        match election.remaining(self.now()).is_zero() {
            true => Ok(()),
            false => self.hold(vip, election).await.inspect_err(|_| election.lost()),
        }
    }

    fn report(&mut self, vip: IpAddr, other: Option<&str>, outcome: anyhow::Result<()>) {
        let problem = outcome.err().map(|error| format!("{error:#}"));
        if let Some(problem) = problem.as_ref().filter(|problem| self.problem.as_ref() != Some(problem)) {
            tracing::warn!("{vip} cannot be on this node: {problem}");
        }
        self.problem.clone_from(&problem);
        self.section.set(VipSection {
            address: Some(vip),
            is_here: self.rounds.is_some(),
            holder: match self.rounds.is_some() {
                true => Some(self.name()),
                false => other.map(str::to_owned),
            },
            problem,
        });
    }
}

impl reconcile::Controller for Controller {
    type Source = Source;

    async fn round(&mut self, _: &Woken<Source>) -> Next {
        let wanted = self.wanted();
        if self.candidate.as_ref().map(|(vip, _)| *vip) != wanted {
            self.end().await;
            self.candidate = wanted.map(|vip| (vip, Election::new(&self.name())));
            if let Some(vip) = wanted {
                // Left by an agent that was killed: its Lease is renewed, or another has it.
                self.remove(vip).await;
            }
        }
        let Some((vip, mut election)) = self.candidate.clone() else {
            self.section.set(VipSection::default());
            return Next::WOKEN;
        };
        if *self.ctx.shutting_down.borrow() || *self.ctx.leaving.borrow() {
            self.give_up(vip).await;
            self.report(vip, None, Err(anyhow!("the machine is going down")));
            return Next::after(PERIOD);
        }
        if self.now() < self.not_before {
            return Next::after(self.not_before.saturating_sub(self.now()));
        }
        let outcome = self.stand(vip, &mut election).await;
        let other = election.other().map(str::to_owned);
        let has_it = !election.remaining(self.now()).is_zero();
        self.candidate = Some((vip, election));
        if !has_it {
            match &outcome {
                Err(_) => self.give_up(vip).await,
                Ok(()) => self.remove_if_here(vip).await,
            }
        }
        if outcome.as_ref().is_err_and(|error| error.is::<Foreign>()) {
            self.not_before = self.now() + FOREIGN_PAUSE;
        }
        self.report(vip, other.as_deref(), outcome);
        Next::after(PERIOD)
    }
}
