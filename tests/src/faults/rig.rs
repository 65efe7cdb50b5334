//! Three control-plane nodes, two nodes that run VMs, a load, and what strikes them.
//!
//! Why here: the only place that acts. One fault at a time; each is healed, every member is as before, and everything that was
//! acknowledged is read by every API server, before the next one. Route in: a [`Kind`] and whom it strikes. Route out: what was measured.

use super::client::Client;
use super::judge::Judge;
use super::load::{self, Load};
use super::machine::Machine;
use super::plan::{Kind, Program};
use super::report::{Measured, Report};
use super::{disk, leads, locked, observe, silence};
use crate::fleet::{Cluster, Fleet};
use crate::planes::{Network, TIMEOUT};
use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::api::Api;
use sheaf_agent::cluster::planes::invite;
use sheaf_agent::cluster::token::LIFETIME;
use sheaf_config::pin::CaPin;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::RwLock;
use tokio::task::AbortHandle;

/// Nodes that run VMs: numbers of the fleet.
const NODES: std::ops::Range<u32> = 1..3;
/// Between two looks at whether everything is as before.
const LOOK: Duration = Duration::from_millis(500);
/// Longest time for one of these questions.
const ASK_TIME: Duration = Duration::from_secs(5);
/// Longest wait for every member to be as before; the machine is shared with other work.
const HEAL_TIME: Duration = Duration::from_secs(300);
/// Between two beats that show whether this process had a processor.
const BEAT: Duration = Duration::from_millis(100);

/// The rig; dropped, it leaves nothing behind.
pub struct Rig {
    /// What is judged.
    pub judge: Arc<Judge>,
    load: Load,
    tasks: Vec<AbortHandle>,
    fleet: Fleet,
    pub(super) machines: Vec<Machine>,
    /// Machines that were replaced, with what their sheaf-controllers did.
    pub(super) led_before: Vec<Vec<leads::Interval>>,
    pub(super) network: Network,
    pub(super) next_name: char,
    stall: Arc<std::sync::Mutex<Duration>>,
}

impl Drop for Rig {
    fn drop(&mut self) {
        self.tasks.iter().for_each(AbortHandle::abort);
    }
}

impl Rig {
    /// Makes a cluster with so many members; nothing is written yet.
    pub async fn start(members: usize) -> Result<Self> {
        disk::sweep()?;
        let (network, judge) = (Network::make()?, Arc::new(Judge::default()));
        let mut a = Machine::new(&network, "a", "[cluster]\nmode = \"create\"", &judge)?;
        a.start()?;
        a.up().await?;
        let mut machines = vec![a];
        for name in ["b", "c"].into_iter().take(members.saturating_sub(1)) {
            let table = invited(&machines[0]).await?;
            let mut one = Machine::new(&network, name, &table, &judge)?;
            one.start()?;
            one.up().await?;
            machines.push(one);
        }
        let kubernetes = machines[0].plane.paths().kubernetes;
        let client = Client::open(&kubernetes.join("super-admin.conf"), &machines[0].url()).await?;
        let client = Arc::new(client);
        let ca = std::fs::read_to_string(kubernetes.join("pki/ca.crt"))?;
        let cluster = Cluster {
            server: machines[0].url(),
            ca_hash: CaPin::of_certificate(&ca)?.to_string(),
            admin: client.kube.clone(),
        };
        let mut fleet = Fleet::new()?;
        fleet.join(&cluster, NODES, |name, took| println!("{name} is Ready after {took:.0?}")).await?;
        let nodes = fleet.nodes().iter().map(|node| (node.name.clone(), node.vms.clone())).collect();
        let load = Load { client, judge: judge.clone(), gate: Arc::new(RwLock::new(())), nodes };
        let rig = Self {
            judge,
            load,
            tasks: Vec::new(),
            fleet,
            machines,
            led_before: Vec::new(),
            network,
            next_name: 'd',
            stall: Arc::default(),
        };
        let accounts: Api<ServiceAccount> = Api::default_namespaced(rig.load.client.kube.clone());
        rig.until("the namespace has its service account, without which no Pod is admitted", async || {
            accounts.get("default").await.is_ok()
        })
        .await?;
        rig.whole().await?;
        Ok(rig)
    }

    /// Starts the load and all that observes.
    pub fn run(&mut self) {
        let (client, judge, nodes) = (&self.load.client, &self.judge, self.load.nodes.clone());
        self.tasks.push(tokio::spawn(observe::reads(client.clone(), judge.clone())).abort_handle());
        self.tasks.push(tokio::spawn(observe::domains(nodes, judge.clone())).abort_handle());
        self.tasks.push(tokio::spawn(beat(self.stall.clone())).abort_handle());
        for writer in 0..load::MAPS {
            self.tasks.push(tokio::spawn(self.load.clone().maps(writer)).abort_handle());
        }
        for writer in 0..load::MACHINES {
            self.tasks.push(tokio::spawn(self.load.clone().machines(writer)).abort_handle());
        }
    }

    /// Which member matters most to this kind of fault, as far as that is known.
    pub async fn leading(&self, kind: Kind) -> Option<usize> {
        let index = |of: &dyn Fn(&Machine) -> bool| self.machines.iter().position(of);
        match kind {
            Kind::Kill(Program::ApiServer) | Kind::Stop(Program::ApiServer) => {
                let server = self.load.client.server();
                index(&|machine| machine.url() == server)
            }
            Kind::Kill(Program::Controller) | Kind::Stop(Program::Controller) => {
                let leases: Api<Lease> = Api::namespaced(self.load.client.kube.clone(), "sheaf-system");
                let asked = tokio::time::timeout(ASK_TIME, leases.get("sheaf-controller")).await;
                let holder = asked.ok()?.ok()?.spec?.holder_identity?;
                index(&|machine| machine.controller.pid().is_some_and(|pid| is_of(&holder, pid)))
            }
            // Its Lease does not say which of three processes of one machine has it.
            Kind::Kill(Program::ControllerManager) | Kind::Stop(Program::ControllerManager) => None,
            Kind::LostData => None,
            _ => {
                let leader = self.judge.leader()?;
                index(&|machine| machine.plane.name() == leader)
            }
        }
    }

    /// An administrator's client that changes over as agents' clients do.
    pub fn client(&self) -> kube::Client {
        self.load.client.kube.clone()
    }

    /// Name of the machine with this number.
    pub fn name(&self, target: usize) -> &str {
        self.machines[target].plane.name()
    }

    /// One fault, from its begin until everything is as before and was read.
    pub async fn fault(&mut self, kind: Kind, target: usize, report: &mut Report) -> Result<()> {
        let what = format!("{kind} ({})", self.name(target));
        self.flows().await?;
        let begin = Instant::now();
        let (healed, note) = self.strike(kind, target).await.with_context(|| what.clone())?;
        self.whole().await.with_context(|| format!("{what}, healed"))?;
        let end = Instant::now();
        self.read_all().await.with_context(|| what.clone())?;
        let measured = Measured {
            reads: locked(&self.judge.reads).longest(begin, end),
            writes: locked(&self.judge.acknowledged).longest(begin, end),
            healed: end - healed,
        };
        println!(
            "{what}: {:.1} s without an answered read, {:.1} s without an acknowledged write, as before {:.1} s after its end{note}",
            measured.reads.as_secs_f64(),
            measured.writes.as_secs_f64(),
            measured.healed.as_secs_f64()
        );
        report.add(kind, measured);
        if kind.is_single() {
            report.failures.extend(silence::judge(&format!("{what}, reads"), measured.reads));
            report.failures.extend(silence::judge(&format!("{what}, writes"), measured.writes));
        }
        self.fleet.check()?;
        self.load.clean().await;
        Ok(())
    }

    /// Waits until a read and a write were answered: what was read while nothing was written is no silence.
    async fn flows(&self) -> Result<()> {
        let counts = || (locked(&self.judge.reads).count(), locked(&self.judge.acknowledged).count());
        let before = counts();
        self.until("reads and writes are answered", async || {
            let now = counts();
            now.0 > before.0 && now.1 > before.1
        })
        .await
    }

    /// Waits until every member of etcd votes and has the same leader, every API server is ready, every program runs and the
    /// client is answered.
    async fn whole(&self) -> Result<()> {
        let mut admins = Vec::new();
        for machine in &self.machines {
            admins.push(machine.plane.admin().await?);
        }
        let ends = Instant::now() + HEAL_TIME;
        loop {
            match self.missing(&admins).await {
                Ok(()) => return Ok(()),
                Err(error) => ensure!(
                    Instant::now() < ends,
                    "not as before after {} s: {error:#}\n{}",
                    HEAL_TIME.as_secs(),
                    self.tails()
                ),
            }
            tokio::time::sleep(LOOK).await; // until the next look
        }
    }

    /// What is not as before.
    async fn missing(&self, admins: &[kube::Client]) -> Result<()> {
        let mut leaders = Vec::new();
        for (machine, admin) in self.machines.iter().zip(admins) {
            let name = machine.plane.name();
            let status = machine.member().ask(ASK_TIME).await.with_context(|| format!("etcd on {name}"))?;
            ensure!(!status.is_learner && status.said.leader != 0, "etcd on {name}: {status:?}");
            leaders.push(status.said.leader);
            let ready = admin.request_text(http::Request::get("/readyz").body(Vec::new())?);
            tokio::time::timeout(ASK_TIME, ready)
                .await
                .with_context(|| format!("API server on {name}"))?
                .with_context(|| format!("API server on {name}"))?;
            for program in Program::ALL {
                let pid = machine.pid(program)?;
                ensure!(runs(pid), "{program} on {name} has ended");
            }
        }
        leaders.dedup();
        ensure!(leaders.len() == 1, "members of etcd have different leaders: {leaders:x?}");
        let listed = self.load.client.servers();
        ensure!(
            self.machines.iter().all(|machine| listed.contains(&machine.url())),
            "the client knows {listed:?} only"
        );
        let (reads, asked) =
            (Api::<Lease>::namespaced(self.load.client.kube.clone(), "sheaf-system"), "the client");
        tokio::time::timeout(ASK_TIME, reads.get("sheaf-controller")).await.context(asked)?.context(asked)?;
        Ok(())
    }

    /// Reads everything by every API server while nothing is written.
    pub async fn read_all(&self) -> Result<()> {
        let _shut = self.load.gate.write().await;
        for machine in &self.machines {
            let name = machine.plane.name();
            let found = Load::found(&machine.plane.admin().await?).await;
            let found = found.with_context(|| format!("reading everything by the API server of {name}"))?;
            locked(&self.judge.writes)
                .judge(&found)
                .with_context(|| format!("an acknowledged write is lost, by the API server of {name}"))?;
        }
        Ok(())
    }

    /// Ends the load; what must hold at the end, and the counts.
    pub async fn finish(&mut self, report: &mut Report) -> Result<()> {
        self.load.last().await.with_context(|| self.tails())?;
        {
            // A write that is under way is recorded first.
            let _shut = self.load.gate.write().await;
            self.tasks.drain(..).for_each(|task| task.abort());
        }
        let mut led = self.led_before.clone();
        led.extend(self.machines.iter().map(|machine| machine.controller.led()));
        report.leads = led.iter().map(Vec::len).sum();
        ensure!(report.leads > 0, "no sheaf-controller says in its log that it leads");
        report.overlap = leads::overlap(&led);
        report.failures.extend(leads::judge(report.overlap));
        report.writes = locked(&self.judge.writes).count;
        report.reads = locked(&self.judge.reads).count();
        report.terms = locked(&self.judge.terms).count();
        report.starts = locked(&self.judge.starts).count();
        report.stall = *locked(&self.stall);
        self.read_all().await?;
        let members: Vec<_> = self.machines.iter().map(Machine::member).collect();
        observe::same(&members).await
    }

    /// Waits until it holds.
    pub(super) async fn until(&self, what: &str, mut holds: impl AsyncFnMut() -> bool) -> Result<()> {
        let waited = tokio::time::timeout(TIMEOUT, async {
            while !holds().await {
                tokio::time::sleep(LOOK).await; // until the next look
            }
        });
        waited.await.with_context(|| format!("not in time: {what}\n{}", self.tails()))
    }

    /// The last lines of every program, for a failure.
    pub fn tails(&self) -> String {
        self.machines.iter().map(Machine::tails).collect()
    }
}

/// The table `[cluster]` for one more control-plane node, as `sheaf-agent token create --control-plane` prints it on `of`.
pub(super) async fn invited(of: &Machine) -> Result<String> {
    invite::create(&of.plane.paths(), &*of.plane.hosts.run, LIFETIME, None).await
}

/// Whether the identity of a lease, `HOST_PROCESS_TIME`, is of this process.
fn is_of(holder: &str, pid: u32) -> bool {
    holder.rsplit('_').nth(1) == Some(pid.to_string().as_str())
}

/// Whether a process is there and has not ended (proc_pid_stat(5): Z).
pub(super) fn runs(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(')').next().is_some_and(|rest| !rest.trim().is_empty() && !rest.trim().starts_with('Z'))
}

/// Notes how long this process had no processor: silence may be this machine's.
async fn beat(longest: Arc<std::sync::Mutex<Duration>>) {
    let mut last = Instant::now();
    loop {
        tokio::time::sleep(BEAT).await; // until the next beat
        let late = last.elapsed().saturating_sub(BEAT);
        let mut longest = locked(&longest);
        *longest = late.max(*longest);
        last = Instant::now();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_holder_of_a_lease_is_found_by_its_process() {
        assert!(is_of("vm_812_1796000000", 812));
        assert!(!is_of("vm_812_1796000000", 81));
        assert!(runs(std::process::id()));
    }
}
