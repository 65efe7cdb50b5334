//! The rounds: observe when something was changed, plan, start what is to be done, report.
//!
//! Why one task: the steps of an update follow one another, and the agent does its other work meanwhile. Route in: the
//! NodeUpdate, requests on the node itself, the end of the task, time. Route out: steps that run, the object's status, the
//! section `update`.

use super::apply::{self, Env, on_esp};
use super::by_hand::{self, Answer, Ask, Asked};
use super::chosen::{Chosen, choose, passed_over};
use super::observe::{self, Machine};
use super::observed::{Observed, Wanted};
use super::plan::{Plan, Step, keep, plan};
use super::records::{Local, Records, Request, Slots, Trial};
use super::report::{self, Report};
use super::{Hosts, gate};
use crate::channels::Context;
use crate::listed::Listed;
use crate::objects::Cluster;
use crate::reconcile::{self, Backoff, Inbox, Next, Outbox, Retries, Tasks, Wakes, Woken, blocking};
use crate::status::{Section, UpdateSection};
use anyhow::Context as _;
use k8s_openapi::jiff::Timestamp;
use sheaf_api::node_update::{Action, NodeUpdate, NodeUpdateStatus, Phase};
use sheaf_config::node::Role;
use sheaf_host::libvirt::VmHost;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
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
    /// Someone asks for an update on this node.
    Asked,
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
    /// The slots as they were observed last, or as an earlier agent of this release left them.
    slots: Option<Slots>,
    /// What was asked for on this node, and who waits for an answer.
    local: Option<Local>,
    asked: Inbox<Asked>,
    /// The NodeUpdate that was seen last.
    followed: Option<Request>,
    /// What failed last, and for which request.
    failures: Retries<()>,
    failed_for: Option<Request>,
    was_refused: bool,
    start: Instant,
    healthy_since: Option<Instant>,
}

impl<V: VmHost, C: Cluster<NodeUpdate, NodeUpdateStatus>> Controller<V, C> {
    /// A controller that has observed nothing yet, the channel on which its steps say how far they are, and where
    /// requests on this node come in.
    pub fn new(
        ctx: Context,
        leaving: watch::Sender<bool>,
        section: Section<UpdateSection>,
        hosts: Hosts<V>,
        cluster: C,
        objects: watch::Receiver<Listed<NodeUpdate>>,
        wakes: &mut Wakes<Source>,
    ) -> (Self, watch::Receiver<String>, Outbox<Asked>) {
        let (progress, progressed) = watch::channel(String::new());
        let node = ctx.config.borrow().system.hostname.clone();
        let (outbox, asked) = wakes.inbox(Source::Asked);
        let records = Records::new(ctx.paths.update());
        let controller = Self {
            leaving: Arc::new(leaving),
            section,
            hosts,
            cluster,
            objects,
            node,
            local: records.local(),
            followed: records.followed(),
            records,
            asked,
            slots: None,
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
        (controller, progressed, outbox)
    }

    fn machine(&self) -> anyhow::Result<Machine> {
        let read = |path: &std::path::Path| {
            std::fs::read_to_string(path).with_context(|| path.display().to_string())
        };
        let paths = &self.ctx.paths;
        let (env, release) = (read(&paths.boot_env())?, read(&paths.etc.join("os-release"))?);
        let boot_id = self.ctx.status.read().boot.boot_id.clone();
        Machine::read(&env, &release, &boot_id, self.hosts.is_uefi)
    }

    /// Whether `/state/update` alone says that nothing is to be done: no trial, and this release was at rest before. The
    /// EFI system partition then stays unmounted.
    fn is_at_rest(&mut self) -> bool {
        if self.observed.is_some() || self.records.trial().is_some() {
            return false;
        }
        let Ok(machine) = self.machine() else { return false };
        let at_rest = |slots: &Slots| {
            let Slots { running, .. } = slots;
            running.tries_left.is_none()
                && running.version == machine.running.version
                && running.slot == machine.running.slot.name()
        };
        let Some(slots) = self.records.slots().filter(at_rest) else { return false };
        self.slots = Some(slots);
        true
    }

    async fn observe(&mut self) -> anyhow::Result<()> {
        if self.observed.is_some() {
            return Ok(());
        }
        let machine = self.machine()?;
        let is_synchronised = self.ctx.network.borrow().time_synchronised;
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let clock = is_synchronised.then_some(now.as_secs());
        let (hosts, records) = (self.hosts.clone(), self.records.clone());
        let arguments = self.ctx.config.borrow().system.kernel_arguments.clone();
        let (root, verity) = machine.partitions(&hosts.devices, machine.running.slot.other());
        let (of, open, key) = (machine.clone(), hosts.open.clone(), hosts.key.clone());
        let observed = on_esp(&self.hosts, move |files| {
            let (root, verity) = (open(&root)?, open(&verity)?);
            observe::observe(&of, files, (&*root, &*verity), &records, &key, &arguments, clock)
        });
        let mut observed = observed.await?;
        let role = self.ctx.config.borrow().cluster.as_ref().map(sheaf_config::node::Cluster::role);
        observed.has_etcd = role == Some(Role::ControlPlane);
        self.slots = Some(observed.slots());
        self.observed = Some((machine, observed));
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

    /// Keeps the slots as they are, for the next start of the agent. Without it that observes them again.
    async fn keep_slots(&self) {
        let observed = self.observed.as_ref().map(|(_, observed)| observed);
        let Some(observed) = observed.filter(|observed| observed.running_uki().is_some()) else { return };
        let slots = observed.slots();
        let records = self.records.clone();
        let kept = blocking(move || match records.slots().as_ref() == Some(&slots) {
            true => Ok(()),
            false => records.set_slots(&slots),
        });
        if let Err(error) = kept.await {
            tracing::warn!("update: {error:#}");
        }
    }

    /// Keeps which NodeUpdate was seen last: a request on this node is made over it.
    async fn follow(&mut self, object: Option<&Wanted>) {
        let request = object.map(|wanted| wanted.request.clone());
        if self.followed == request {
            return;
        }
        let (records, kept) = (self.records.clone(), request.clone());
        self.followed = request;
        if let Err(error) = blocking(move || records.set_followed(kept.as_ref())).await {
            tracing::warn!("update: {error:#}");
        }
    }

    async fn set_local(&mut self, local: Option<Local>) -> anyhow::Result<()> {
        let (records, kept) = (self.records.clone(), local.clone());
        blocking(move || records.set_local(kept.as_ref())).await?;
        self.local = local;
        Ok(())
    }

    /// Takes `ask` or not; the sentence for who asks.
    async fn take(&mut self, ask: Ask) -> Result<String, String> {
        if let Some(problem) = by_hand::problem(&ask) {
            return Err(problem);
        }
        let failed = |error: anyhow::Error| format!("the request cannot be kept: {error:#}");
        if ask == Ask::Cancel {
            if self.local.is_none() {
                return Err("nothing is asked for on this node".into());
            }
            self.set_local(None).await.map_err(failed)?;
            return Ok("withdrawn; the NodeUpdate of this node counts again".into());
        }
        if let Some(running) = &self.running {
            let phase = running.phase;
            return Err(format!(
                "an update is under way ({phase:?}); ask again when `sheaf-agent update` shows its end"
            ));
        }
        let (version, source, action, timeout, without_snapshot) = match ask {
            Ask::Update { version, source, action, timeout, without_snapshot } => {
                (version, source, action, timeout, without_snapshot)
            }
            Ask::Rollback | Ask::Cancel => {
                (self.other_version().await?, None, Action::Apply, by_hand::HEALTH_TIMEOUT, false)
            }
        };
        let id = random_id().map_err(failed)?;
        let over = self.followed.clone();
        let message =
            format!("{version} is asked for; `sheaf-agent update status --watch` shows how far it is");
        let local = Local { id, version, source, action, timeout, without_snapshot, over };
        self.set_local(Some(local)).await.map_err(failed)?;
        Ok(message)
    }

    /// Version of the release that can be gone back to.
    async fn other_version(&mut self) -> Result<String, String> {
        self.observe().await.map_err(|error| format!("the slots cannot be observed: {error:#}"))?;
        let Some((_, observed)) = &self.observed else { return Err("the slots cannot be observed".into()) };
        if observed.tries_left().is_some() {
            return Err(format!(
                "{} is on trial: it is rolled back by itself unless it passes the health gate",
                observed.running.version
            ));
        }
        observed.good_other().map(str::to_owned).ok_or_else(|| {
            let what = "the other slot holds no release that ran well; name a version and where it is: sheaf-agent update";
            format!("{what} apply")
        })
    }

    /// What there is to say while nothing is asked for: which release the initrd gave up.
    fn at_rest(&self) -> Report {
        Report { message: self.records.given_up().unwrap_or_default(), ..Report::default() }
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
        if wanted.is_none() && self.is_at_rest() {
            return (self.at_rest(), Next::WOKEN);
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
            Plan::Idle => {
                self.keep_slots().await;
                return (self.at_rest(), Next::WOKEN);
            }
            Plan::Settled(phase, message) => {
                self.keep_slots().await;
                return (now(phase, message), Next::WOKEN);
            }
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

/// A name for a request: 16 random bytes, hex.
fn random_id() -> anyhow::Result<String> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(|error| anyhow::anyhow!("no random bytes: {error}"))?;
    Ok(hex::encode(bytes))
}

impl<V: VmHost, C: Cluster<NodeUpdate, NodeUpdateStatus>> reconcile::Controller for Controller<V, C> {
    type Source = Source;

    async fn round(&mut self, _: &Woken<Source>) -> Next {
        self.finish();
        let listed = self.objects.borrow().clone();
        let object = listed.objects.get(&self.node).cloned();
        let of_object = object.as_deref().map(report::wanted);
        if listed.synced {
            // What was asked for before it was known that this NodeUpdate was changed does not count.
            if let Chosen::Overruled(_) = choose(of_object.clone(), true, self.local.as_ref()) {
                tracing::info!("update: the NodeUpdate was changed; what was asked for on this node is over");
                if let Err(error) = self.set_local(None).await {
                    tracing::warn!("update: {error:#}");
                    self.local = None;
                }
            }
            self.follow(of_object.as_ref()).await;
        }
        for asked in self.asked.take() {
            let answer = self.take(asked.ask.clone()).await;
            asked.answer(&answer.map_or_else(Answer::Refused, Answer::Taken));
        }
        let chosen = choose(of_object, listed.synced, self.local.as_ref());
        let wanted = chosen.wanted().cloned();
        let (report, mut next) = self.advance(wanted.as_ref()).await;
        self.section.set(report::section(self.slots.as_ref(), wanted.as_ref(), &report));
        let report = match &chosen {
            Chosen::Local(local) => {
                Report { phase: Some(Phase::Refused), message: passed_over(local), steps: Vec::new() }
            }
            _ => report,
        };
        if !listed.synced {
            return next.waiting_for("the list of NodeUpdates");
        }
        let Some(object) = object else { return next };
        let (status, events) = report::status(&object, self.slots.as_ref(), &report, Timestamp::now());
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
