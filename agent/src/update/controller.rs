//! The rounds: observe when something was changed, plan, start what is to be done, report.
//!
//! Why one task: the steps of an update follow one another, and the agent does its other work meanwhile. Route in: the
//! NodeUpdate, the end of the task, time. Route out: steps that run, the object's status, the section `update`.

use super::apply::{self, Env, on_esp};
use super::observe::{self, Machine};
use super::observed::{Observed, Wanted};
use super::plan::{Plan, Step, keep, plan};
use super::records::{Records, Request, Trial};
use super::report::{self, Report};
use super::{Hosts, gate};
use crate::channels::Context;
use crate::listed::Listed;
use crate::objects::Cluster;
use crate::reconcile::{self, Backoff, Next, Retries, Tasks, Wakes, Woken};
use crate::status::{Section, UpdateSection};
use anyhow::Context as _;
use k8s_openapi::jiff::Timestamp;
use sheaf_api::node_update::{NodeUpdate, NodeUpdateStatus, Phase};
use sheaf_host::libvirt::VmHost;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;

/// What the API server did not take is written again after this.
const WRITE_RETRY: Duration = Duration::from_secs(5);
/// Between two tries of what failed.
const RETRY: Backoff = Backoff::new(Duration::from_secs(60), Duration::from_secs(1800));
/// Between two judgements of a release on trial.
const JUDGE: Duration = Duration::from_secs(5);
/// For a trial whose record is lost.
const TIMEOUT: Duration = Duration::from_secs(600);

/// What wakes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Source {
    /// The NodeUpdate changed.
    Objects,
    /// A step says how far it is.
    Progress,
    /// The steps ended.
    Done,
}

/// What runs.
struct Running {
    phase: Phase,
    steps: Vec<String>,
    restarts: bool,
}

/// The controller's state.
pub struct Controller<V, C> {
    ctx: Context,
    leaving: Arc<watch::Sender<bool>>,
    section: Section<UpdateSection>,
    hosts: Hosts<V>,
    cluster: C,
    objects: watch::Receiver<Listed<NodeUpdate>>,
    node: String,
    records: Records,
    progress: Arc<watch::Sender<String>>,
    tasks: Tasks<(), anyhow::Result<()>>,
    running: Option<Running>,
    /// Nothing before the first observation, and after something was changed.
    observed: Option<(Machine, Observed)>,
    /// What failed last, and for which request.
    failures: Retries<()>,
    failed_for: Option<Request>,
    was_refused: bool,
    start: Instant,
    healthy_since: Option<Instant>,
}

impl<V: VmHost, C: Cluster<NodeUpdate, NodeUpdateStatus>> Controller<V, C> {
    /// A controller that has observed nothing yet, and the channel on which its steps say how far they are.
    pub fn new(
        ctx: Context,
        leaving: watch::Sender<bool>,
        section: Section<UpdateSection>,
        hosts: Hosts<V>,
        cluster: C,
        objects: watch::Receiver<Listed<NodeUpdate>>,
        wakes: &mut Wakes<Source>,
    ) -> (Self, watch::Receiver<String>) {
        let (progress, progressed) = watch::channel(String::new());
        let node = ctx.config.borrow().system.hostname.clone();
        let controller = Self {
            leaving: Arc::new(leaving),
            section,
            hosts,
            cluster,
            objects,
            node,
            records: Records::new(ctx.paths.update()),
            progress: Arc::new(progress),
            tasks: Tasks::new(wakes, Source::Done),
            running: None,
            observed: None,
            failures: Retries::new(RETRY),
            failed_for: None,
            was_refused: false,
            start: Instant::now(),
            healthy_since: None,
            ctx,
        };
        (controller, progressed)
    }

    async fn observe(&mut self) -> anyhow::Result<()> {
        if self.observed.is_some() {
            return Ok(());
        }
        let read = |path: &std::path::Path| {
            std::fs::read_to_string(path).with_context(|| path.display().to_string())
        };
        let paths = &self.ctx.paths;
        let (env, release) = (read(&paths.boot_env())?, read(&paths.etc.join("os-release"))?);
        let boot_id = self.ctx.status.read().boot.boot_id.clone();
        let machine = Machine::read(&env, &release, &boot_id, self.hosts.is_uefi)?;
        let (hosts, records) = (self.hosts.clone(), self.records.clone());
        let arguments = self.ctx.config.borrow().system.kernel_arguments.clone();
        let (root, verity) = machine.partitions(&hosts.devices, machine.running.slot.other());
        let (of, open, key) = (machine.clone(), hosts.open.clone(), hosts.key.clone());
        let observed = on_esp(&self.hosts, move |files| {
            let (root, verity) = (open(&root)?, open(&verity)?);
            observe::observe(&of, files, (&*root, &*verity), &records, &key, &arguments)
        });
        self.observed = Some((machine, observed.await?));
        Ok(())
    }

    /// Takes the end of the steps.
    fn finish(&mut self) {
        for ((), ended) in self.tasks.finished() {
            self.observed = None;
            let restarts = self.running.as_ref().is_some_and(|running| running.restarts);
            let ended = ended.map_err(anyhow::Error::from).and_then(|ended| ended);
            match ended {
                // The machine goes down; until then this stands.
                Ok(()) if restarts => {}
                Ok(()) => {
                    self.running = None;
                    self.failures.succeeded(&());
                }
                Err(error) => {
                    tracing::warn!("update: {error:#}");
                    self.was_refused = error.chain().any(|cause| {
                        cause.downcast_ref::<super::bundle::BundleError>().is_some_and(|e| e.is_refusal())
                    });
                    // VMs that are stopped are reported as ended, and started again by their controller.
                    self.leaving.send_replace(false);
                    self.running = None;
                    self.failures.failed((), format!("{error:#}"));
                }
            }
        }
    }

    fn begin(&mut self, machine: Machine, observed: Observed, phase: Phase, steps: Vec<Step>) {
        let restarts = steps.contains(&Step::Restart);
        self.running =
            Some(Running { phase, steps: steps.iter().map(ToString::to_string).collect(), restarts });
        let env = Env {
            hosts: self.hosts.clone(),
            ctx: self.ctx.clone(),
            leaving: self.leaving.clone(),
            records: self.records.clone(),
            machine,
            observed,
            progress: self.progress.clone(),
        };
        self.tasks.start((), apply::all(env, steps));
    }

    /// Judges the release on trial; what is to be done about it, or what it still lacks.
    fn judge(&mut self, observed: &Observed) -> Result<(Phase, Vec<Step>), String> {
        let trial = observed.trial.as_ref().filter(|trial| trial.version == observed.running.version);
        let before = trial.and_then(|trial| trial.before.clone()).unwrap_or_default();
        let timeout = trial.map_or(TIMEOUT, |trial| Duration::from_secs(trial.timeout.into()));
        let failing = gate::judge(&gate::parts(&self.ctx), &before);
        if failing.is_empty() {
            let since = *self.healthy_since.get_or_insert_with(Instant::now);
            return match since.elapsed() >= gate::STABLE {
                true => Ok((Phase::OnTrial, keep(observed, trial))),
                false => Err(format!("healthy; it must be so for {} s", gate::STABLE.as_secs())),
            };
        }
        self.healthy_since = None;
        let failing = gate::listed(&failing);
        if self.start.elapsed() < timeout {
            return Err(format!("not healthy yet: {failing}"));
        }
        let reason = format!("not healthy after {} s: {failing}", timeout.as_secs());
        tracing::error!("update: {reason}; the machine restarts, which uses up a try of this release");
        let mut trial = trial.cloned().unwrap_or_else(|| Trial {
            version: observed.running.version.clone(),
            slot: observed.running.slot.name().into(),
            before: Some(before),
            ..Trial::default()
        });
        trial.reasons.push(reason);
        Ok((Phase::Restarting, vec![Step::BeginTrial(Box::new(trial)), Step::StopVms, Step::Restart]))
    }

    /// What there is to say, after what is to be done was begun.
    async fn advance(&mut self, wanted: Option<&Wanted>) -> (Report, Next) {
        let now = |phase, message| Report { phase: Some(phase), message, steps: Vec::new() };
        if let Some(running) = &self.running {
            let message = self.progress.borrow().clone();
            let report = Report { phase: Some(running.phase), message, steps: running.steps.clone() };
            return (report, Next::WOKEN);
        }
        // Another request is another chance.
        if self.failed_for.as_ref() != wanted.map(|wanted| &wanted.request) {
            self.failures.succeeded(&());
            self.failed_for = wanted.map(|wanted| wanted.request.clone());
        }
        if let Some(reason) = self.failures.waiting().remove(&()) {
            let phase = if self.was_refused { Phase::Refused } else { Phase::Failed };
            return (now(phase, reason), Next { after: self.failures.next(), waiting_for: None });
        }
        if let Err(error) = self.observe().await {
            let message = format!("{error:#}");
            tracing::warn!("update: cannot observe the slots: {message}");
            return (now(Phase::Failed, message), Next::after(TIMEOUT));
        }
        let Some((machine, observed)) = self.observed.clone() else {
            return (Report::default(), Next::WOKEN);
        };
        let (phase, steps) = match plan(&observed, wanted) {
            Plan::Idle => return (Report::default(), Next::WOKEN),
            Plan::Settled(phase, message) => return (now(phase, message), Next::WOKEN),
            Plan::Judge => match self.judge(&observed) {
                Ok(work) => work,
                Err(message) => return (now(Phase::OnTrial, message), Next::after(JUDGE)),
            },
            Plan::Work(phase, steps) => (phase, steps),
        };
        let report = Report {
            phase: Some(phase),
            message: steps.first().map(ToString::to_string).unwrap_or_default(),
            steps: steps.iter().map(ToString::to_string).collect(),
        };
        self.begin(machine, observed, phase, steps);
        (report, Next::WOKEN)
    }
}

impl<V: VmHost, C: Cluster<NodeUpdate, NodeUpdateStatus>> reconcile::Controller for Controller<V, C> {
    type Source = Source;

    async fn round(&mut self, _: &Woken<Source>) -> Next {
        self.finish();
        let listed = self.objects.borrow().clone();
        let object = listed.objects.get(&self.node).cloned();
        let wanted = object.as_deref().map(report::wanted);
        let (report, mut next) = self.advance(wanted.as_ref()).await;
        let observed = self.observed.as_ref().map(|(_, observed)| observed);
        self.section.set(report::section(observed, wanted.as_ref(), &report));
        if !listed.synced {
            return next.waiting_for("the list of NodeUpdates");
        }
        let Some(object) = object else { return next };
        let (status, events) = report::status(&object, observed, &report, Timestamp::now());
        if object.status.as_ref() == Some(&status) {
            return next;
        }
        if let Err(error) = self.cluster.write_status(&*object, &status).await {
            tracing::warn!("{error:#}");
            next = next.within(WRITE_RETRY);
        }
        for event in events {
            if let Err(error) = self.cluster.record(&*object, &event).await {
                tracing::warn!("{error:#}");
            }
        }
        next
    }
}
