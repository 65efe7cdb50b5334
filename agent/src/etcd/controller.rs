//! The rounds: ask etcd how it is, list the snapshots, do what follows, report.
//!
//! Why one task: a defragmentation silences etcd, and a snapshot needs it. Route in: time, the end of the task. Route
//! out: steps that run; the section, the channel, Events of the Node.

use super::observe;
use super::plan::{Observed, Step, plan};
use super::report::{self, Failures};
use super::{Hosts, apply};
use crate::channels::{Context, EtcdState};
use crate::reconcile::events::EventRecorder;
use crate::reconcile::{self, Backoff, Next, Retries, Tasks, Wakes, Woken, blocking, publish};
use crate::status::{EtcdSection, Section};
use sheaf_config::node::{Role, Snapshots};
use std::time::{Duration, SystemTime};
use tokio::sync::watch;
use tokio::time::Instant;

/// Between two looks at etcd: a database that grows by 1 MiB in a second does not pass from 80 % of its quota to the
/// whole in it.
const LOOK: Duration = Duration::from_secs(5 * 60);
/// The same while etcd does not answer: at the start of the control plane.
const LOOK_AGAIN: Duration = Duration::from_secs(30);
/// How long the agent leaves the control plane alone that it creates or starts: that costs etcd and processors enough.
const START: Duration = Duration::from_secs(5 * 60);
/// Between two tries of what failed.
const RETRY: Backoff = Backoff::new(Duration::from_secs(5 * 60), Duration::from_secs(3600));

/// What wakes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Source {
    /// The steps ended.
    Done,
    /// The node has joined: its control plane is up.
    Joined,
}

/// What a failure belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Snapshot,
    Care,
}

impl Kind {
    fn of(step: &Step) -> Self {
        match step {
            Step::Take => Self::Snapshot,
            _ => Self::Care,
        }
    }
}

/// The controller's state.
pub struct Controller {
    ctx: Context,
    channel: watch::Sender<Option<EtcdState>>,
    section: Section<EtcdSection>,
    hosts: Hosts,
    node: String,
    events: EventRecorder,
    tasks: Tasks<(), Vec<(Step, anyhow::Result<()>)>>,
    failures: Retries<Kind>,
    defragmented: Option<u64>,
    started: Instant,
}

impl Controller {
    /// One that has observed nothing yet.
    pub fn new(
        ctx: Context,
        channel: watch::Sender<Option<EtcdState>>,
        section: Section<EtcdSection>,
        hosts: Hosts,
        wakes: &mut Wakes<Source>,
    ) -> Self {
        let node = ctx.config.borrow().system.hostname.clone();
        let events = EventRecorder::new(ctx.cluster.clone());
        let tasks = Tasks::new(wakes, Source::Done);
        let failures = Retries::new(RETRY);
        let started = Instant::now();
        Self { ctx, channel, section, hosts, node, events, tasks, failures, defragmented: None, started }
    }

    /// The settings, on a node with a control plane.
    fn settings(&self) -> Option<Snapshots> {
        let config = self.ctx.config.borrow();
        let cluster = config.cluster.as_ref()?;
        (cluster.role() == Role::ControlPlane).then_some(cluster.snapshots)
    }

    fn finish(&mut self, now: u64) {
        for ((), ended) in self.tasks.finished() {
            let steps = match ended {
                Ok(steps) => steps,
                Err(panic) => {
                    tracing::error!("etcd: {panic}");
                    self.failures.failed(Kind::Care, panic.to_string());
                    continue;
                }
            };
            for (step, ended) in steps {
                match ended {
                    Ok(()) => {
                        tracing::info!("etcd: done: {step}");
                        self.failures.succeeded(&Kind::of(&step));
                    }
                    Err(error) => {
                        tracing::warn!("etcd: cannot {step}: {error:#}");
                        self.failures.failed(Kind::of(&step), format!("{error:#}"));
                    }
                }
                // One that failed may have silenced etcd for minutes: it is not repeated sooner.
                if step == Step::Defragment {
                    self.defragmented = Some(now);
                }
            }
        }
    }

    async fn observe(&self, now: u64) -> (Observed, Option<String>) {
        let (run, paths, defragmented) = (self.hosts.run.clone(), self.ctx.paths.clone(), self.defragmented);
        let observed = blocking(move || Ok(observe::observe(&*run, &paths, now, defragmented)));
        observed.await.unwrap_or_else(|error| (Observed::default(), Some(format!("{error:#}"))))
    }
}

impl reconcile::Controller for Controller {
    type Source = Source;

    async fn round(&mut self, _: &Woken<Source>) -> Next {
        let Some(settings) = self.settings() else {
            self.section.set(EtcdSection::default());
            publish(&self.channel, None);
            return Next::WOKEN;
        };
        let left = START.saturating_sub(self.started.elapsed());
        if self.ctx.cluster.borrow().is_none() && !left.is_zero() {
            return Next::after(left).waiting_for("the control plane");
        }
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
        self.finish(now);
        if self.tasks.is_running(&()) {
            return Next::WOKEN;
        }
        let (observed, asking) = self.observe(now).await;
        let waiting = self.failures.waiting();
        let mut steps = plan(&observed, &settings, &self.node);
        steps.retain(|step| !waiting.contains_key(&Kind::of(step)));
        if !steps.is_empty() {
            let (run, paths, node) = (self.hosts.run.clone(), self.ctx.paths.clone(), self.node.clone());
            self.tasks.start((), async move { apply::all(run, paths, node, steps).await });
        }
        let why = |kind| self.failures.get(&kind).map(|failure| failure.why.clone());
        let failures = Failures { asking, snapshot: why(Kind::Snapshot), care: why(Kind::Care) };
        self.section.set(report::section(&observed, &failures, &settings, &self.node));
        let state = report::state(&observed, &failures, &settings);
        let before = self.channel.borrow().clone().unwrap_or_default();
        report::events(&before, &state).into_iter().for_each(|event| self.events.announce(event));
        publish(&self.channel, Some(state));
        let look = if observed.health.is_some() { LOOK } else { LOOK_AGAIN };
        Next::after(look).sooner(Next { after: self.failures.next(), waiting_for: None })
    }
}
