//! A control-plane node whose etcd has a disk of its own, and whose programs are started again as systemd does.
//!
//! Why here: [`crate::planes::Plane`] starts what the agent orders, once. Under faults a program ends by itself, and on a node its unit
//! starts it again (`Restart=always`, `RestartSec=2`); sheaf-controller runs on every control-plane node. Route in: a network, a
//! name, the table `[cluster]`. Route out: a machine whose programs can be killed, stopped and continued.

use super::clock::Clock;
use super::controller::Controller;
use super::disk::EtcdDisk;
use super::judge::Judge;
use super::leads::What;
use super::locked;
use super::observe::{self, Member};
use super::plan::Program;
use crate::cluster::{Processes, Programs};
use crate::planes::{Network, Plane};
use anyhow::{Context as _, Result, anyhow};
use sheaf_host::run::{Command, Run as _, System};
use sheaf_host::systemd::Units as _;
use std::collections::BTreeMap;
use std::os::unix::fs::symlink;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::task::AbortHandle;

/// `RestartSec=` of the units.
const RESTART: Duration = Duration::from_secs(2);
/// Between two looks at whether a program has ended.
const LOOK: Duration = Duration::from_millis(200);

/// The machine; dropped, it leaves nothing behind.
pub struct Machine {
    /// Its agent, files and programs.
    pub plane: Plane,
    /// The clock of its etcd, API server and controller manager.
    pub clock: Clock,
    /// Its sheaf-controller.
    pub controller: Arc<Controller>,
    /// How often each program was started again.
    restarts: Arc<Mutex<BTreeMap<String, u32>>>,
    tasks: Vec<AbortHandle>,
    /// Dropped after the programs that write to it.
    pub disk: EtcdDisk,
}

impl Machine {
    /// One that is switched off.
    pub fn new(network: &Network, name: &str, cluster: &str, judge: &Arc<Judge>) -> Result<Self> {
        let disk = EtcdDisk::make()?;
        let clock = Clock::new()?;
        let plane = Plane::with(Programs::shifted(clock.path())?, network, name, cluster)?;
        let etcd = plane.paths().etcd;
        std::fs::create_dir_all(etcd.parent().context("it has a folder")?)?;
        symlink(disk.at(), &etcd).with_context(|| etcd.display().to_string())?;
        let controller = Arc::new(Controller::new(plane.namespace(), &plane.paths())?);
        let restarts = Arc::new(Mutex::default());
        let mut made = Self { plane, clock, controller, restarts, tasks: Vec::new(), disk };
        let supervisor = supervise(made.plane.units(), made.controller.clone(), made.restarts.clone());
        let observer = observe::leaders(made.member(), judge.clone());
        made.tasks = vec![tokio::spawn(supervisor).abort_handle(), tokio::spawn(observer).abort_handle()];
        Ok(made)
    }

    /// Its etcd, as its agent asks it.
    pub fn member(&self) -> Member {
        let name = self.plane.name().to_owned();
        Member { name, paths: self.plane.paths(), run: self.plane.hosts.run.clone() }
    }

    /// `https://ADDRESS:6443`.
    pub fn url(&self) -> String {
        format!("https://{}:6443", self.plane.address)
    }

    /// Switches it on.
    pub fn start(&mut self) -> Result<()> {
        self.controller.want(true);
        self.plane.start()
    }

    /// Waits until its control plane and its node are up.
    pub async fn up(&self) -> Result<()> {
        // The reason first: what the programs say is long.
        self.plane.up().await.map_err(|error| anyhow!("{error:#}\n{}", self.tails()))
    }

    /// Switches it off.
    pub fn cut_power(&mut self) {
        self.controller.want(false);
        self.plane.cut_power();
    }

    /// Process of a program.
    pub fn pid(&self, program: Program) -> Result<u32> {
        let pid = match program {
            Program::Controller => self.controller.pid(),
            _ => self.plane.pid(program.unit()),
        };
        pid.with_context(|| format!("{program} does not run on {}", self.plane.name()))
    }

    /// SIGKILL.
    pub fn kill(&self, program: Program) -> Result<()> {
        self.signal(program, "KILL", What::Ended)
    }

    /// SIGSTOP.
    pub fn stop(&self, program: Program) -> Result<()> {
        self.signal(program, "STOP", What::Stopped)
    }

    /// SIGCONT.
    pub fn continues(&self, program: Program) -> Result<()> {
        self.signal(program, "CONT", What::Continued)
    }

    fn signal(&self, program: Program, signal: &str, what: What) -> Result<()> {
        let pid = self.pid(program)?.to_string();
        if program == Program::Controller && what == What::Continued {
            // Noted before: from here on it may act.
            self.controller.note(what);
        }
        System.run(&Command::new("kill").args(["-s", signal, &pid]))?;
        if program == Program::Controller && what != What::Continued {
            self.controller.note(what);
        }
        Ok(())
    }

    /// How often a program was started again.
    pub fn restarts(&self, program: Program) -> u32 {
        locked(&self.restarts).get(program.unit()).copied().unwrap_or_default()
    }

    /// The last lines of each program, for a failure.
    pub fn tails(&self) -> String {
        format!(
            "=== {}\n{}--- sheaf-controller.service\n{}\n",
            self.plane.name(),
            self.plane.tails(),
            self.controller.tail()
        )
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        self.tasks.iter().for_each(AbortHandle::abort);
        self.controller.want(false);
    }
}

/// Starts what has ended again.
async fn supervise(
    units: Arc<Processes>,
    controller: Arc<Controller>,
    restarts: Arc<Mutex<BTreeMap<String, u32>>>,
) {
    let mut due: BTreeMap<String, Instant> = BTreeMap::new();
    loop {
        let mut ended = units.ended();
        // The agent orders both, one after the other.
        let is_ordered = units.pid(Program::ControllerManager.unit()).is_some();
        if is_ordered && controller.has_ended() {
            ended.push(Program::Controller.unit().to_owned());
        }
        due.retain(|unit, _| ended.contains(unit));
        for unit in ended {
            let at = *due.entry(unit.clone()).or_insert_with(|| Instant::now() + RESTART);
            if Instant::now() < at {
                continue;
            }
            let started = match unit == Program::Controller.unit() {
                true => controller.start(),
                false => units.start(&unit).await.map_err(Into::into),
            };
            match started {
                Ok(()) => *locked(&restarts).entry(unit).or_default() += 1,
                Err(error) => eprintln!("{unit}: {error:#}"),
            }
        }
        tokio::time::sleep(LOOK).await; // until the next look
    }
}
