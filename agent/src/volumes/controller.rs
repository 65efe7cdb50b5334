//! The loop: observe, plan, apply, report, again whenever something changed.
//!
//! Route in: LocalVolumes, LVM's report, progress of fills, time. Route out: actions, one a volume at a time and several
//! volumes at once; the objects' status; the channel and the status page.

use super::api::Cluster;
use super::apply::{ActionContext, Failed, apply};
use super::fill::policy;
use super::observed::{self, Group};
use super::plan::{Action, Failure, Memory, Observed, Plan, VolumeState, plan, status_of};
use super::{Hosts, view};
use crate::api_server::RequestError;
use crate::channels::{Context, Volumes};
use crate::listed::Listed;
use crate::reconcile::{self, Inbox, Next, Outbox, Panicked, Tasks, Wakes, Woken, blocking, caught, publish};
use crate::status::{Section, VolumeSection};
use k8s_openapi::jiff::Timestamp;
use sheaf_api::import_policy::ImportPolicy;
use sheaf_api::storage::local_volume::{Progress, volume_group};
use sheaf_api::storage::{LocalVolume, LocalVolumeStatus};
use sheaf_host::fetch::policy::Policy;
use sheaf_host::lvm::LvmReport;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;

/// LVM is asked again at least so often, in seconds: pools come and go, and volumes are opened and closed, without news.
const RESYNC: i64 = 30;
/// The same while a volume waits for that.
const RESYNC_WAITING: i64 = 5;
/// A report of LVM's counts for so long when only objects have changed: each takes a good part of a second.
const FRESH: Duration = Duration::from_secs(2);
/// So long an agent waits for pools to be brought up before it calls one missing, in seconds.
const SETTLED: i64 = 60;
/// All groups of this node are looked for so often, in seconds.
const LOOK_FOR_GROUPS: i64 = 60;
/// Between two tries after a failure, in seconds; doubled at each in a row.
const RETRY: i64 = 5;
/// The longest of these waits.
const RETRY_MOST: i64 = 300;
/// An object that was written is left alone for so many seconds, or until it comes back in the list.
const WRITTEN: i64 = 2;

/// Whether LVM is asked in a round.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Ask {
    /// Nothing about logical volumes has changed.
    No,
    /// Objects have changed: what LVM reported a moment ago still counts.
    IfStale,
    /// Its volumes may have changed.
    Now,
}

/// What wakes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Source {
    /// A LocalVolume changed.
    Objects,
    /// An ImportPolicy changed.
    Policies,
    /// A client waits to send an image.
    Uploads,
    /// A volume that is being filled has more bytes.
    Progress,
    /// An action ended.
    Done,
}

/// What the API server lists.
pub struct Lists {
    /// LocalVolumes of this node.
    pub volumes: watch::Receiver<Listed<LocalVolume>>,
    /// ImportPolicies of the cluster.
    pub policies: watch::Receiver<Listed<ImportPolicy>>,
}

/// The controller's state.
pub struct Controller<C> {
    ctx: Context,
    hosts: Hosts,
    cluster: Arc<C>,
    listed: watch::Receiver<Listed<LocalVolume>>,
    policies: watch::Receiver<Listed<ImportPolicy>>,
    publish: watch::Sender<Volumes>,
    section: Section<Vec<VolumeSection>>,
    memory: Memory,
    /// LVM's last report.
    groups: BTreeMap<String, Group>,
    /// Groups that are asked about, and when they were looked for.
    names: BTreeSet<String>,
    looked: i64,
    asked: Option<Instant>,
    started: i64,
    stops: BTreeMap<String, Arc<AtomicBool>>,
    reported: BTreeMap<String, LocalVolumeStatus>,
    wakes: Wakes<Source>,
    /// The action of each volume that has one under way.
    running: BTreeMap<String, Action>,
    tasks: Tasks<String, Result<(), Failed>>,
    tell: Outbox<(String, Progress)>,
    progress: Inbox<(String, Progress)>,
}

impl<C> Drop for Controller<C> {
    /// What is being filled stops: it is on threads that outlive the controller.
    fn drop(&mut self) {
        self.stops.values().for_each(|stop| stop.store(true, Ordering::Relaxed));
    }
}

impl<C: Cluster> Controller<C> {
    /// A controller that has seen nothing yet.
    pub fn new(
        ctx: Context,
        hosts: Hosts,
        cluster: Arc<C>,
        lists: Lists,
        publish: watch::Sender<Volumes>,
        section: Section<Vec<VolumeSection>>,
    ) -> Self {
        let mut wakes = Wakes::new()
            .watch(Source::Objects, lists.volumes.clone())
            .watch(Source::Policies, lists.policies.clone())
            .watch(Source::Uploads, hosts.uploads.changes());
        let (tell, progress) = wakes.inbox(Source::Progress);
        let tasks = Tasks::new(&mut wakes, Source::Done);
        Self {
            ctx,
            hosts,
            cluster,
            listed: lists.volumes,
            policies: lists.policies,
            publish,
            section,
            memory: Memory::default(),
            groups: BTreeMap::new(),
            names: BTreeSet::new(),
            looked: 0,
            asked: None,
            started: now(),
            stops: BTreeMap::new(),
            reported: BTreeMap::new(),
            wakes,
            running: BTreeMap::new(),
            tasks,
            tell,
            progress,
        }
    }

    /// Makes rounds until shutdown.
    pub async fn run(mut self) -> anyhow::Result<()> {
        let wakes = std::mem::take(&mut self.wakes);
        let (handle, shutdown) = (self.ctx.controllers.register("volumes"), self.ctx.shutdown.clone());
        reconcile::run(self, wakes, handle, shutdown).await
    }

    /// Observes, plans, applies and reports; when the next round is due at the latest.
    async fn reconcile(&mut self, ask: Ask) -> i64 {
        let now = now();
        let is_due = ask == Ask::Now || ask == Ask::IfStale && !self.knows_lvm();
        if is_due && let Err(error) = self.observe(now).await {
            tracing::warn!("cannot list the volumes of this node: {error:#}");
            return now + RESYNC_WAITING;
        }
        let groups = self.groups.clone();
        let listed = self.listed.borrow().clone();
        if !listed.synced {
            self.section.set(view::sections(&listed, &groups, &Plan::default()));
            return now + RESYNC;
        }
        let policy = policy::of(&self.policies.borrow());
        let memory = &mut self.memory;
        let there = |name: &str| groups.values().any(|group| group.volumes.contains_key(name));
        let busy = memory.busy.clone();
        memory.retain(|name| listed.objects.contains_key(name) || busy.contains(name) || there(name));
        self.reported.retain(|name, _| listed.objects.contains_key(name));
        let observed = Observed {
            objects: &listed.objects,
            groups: &groups,
            memory: &self.memory,
            offered: &self.hosts.uploads.waiting(),
            imports: policy.as_ref().map(drop).map_err(String::as_str),
            now,
            settled: now >= self.started.saturating_add(SETTLED),
        };
        let planned = match caught(|| plan(&observed)) {
            Ok(planned) => planned,
            Err(panicked) => {
                tracing::error!("{panicked}");
                return now + RESYNC;
            }
        };
        for (name, group, action) in &planned.actions {
            self.dispatch(name, group, action, &listed, policy.as_ref().ok());
        }
        self.hosts.uploads.report(&planned.states);
        self.report(&listed, &planned.states).await;
        self.publish(&listed, &planned);
        self.section.set(view::sections(&listed, &groups, &planned));
        let waits = |stand: &VolumeState| {
            matches!(stand, VolumeState::Unknown | VolumeState::Waiting(..) | VolumeState::Deleting(..))
        };
        let soon = if planned.states.values().any(waits) { RESYNC_WAITING } else { RESYNC };
        planned.wake.unwrap_or(now + soon).clamp(now + 1, now + soon)
    }

    /// LVM was asked a moment ago about every group that an object names.
    fn knows_lvm(&self) -> bool {
        let is_fresh = self.asked.is_some_and(|asked| asked.elapsed() < FRESH);
        let listed = self.listed.borrow();
        is_fresh
            && listed.objects.values().all(|object| self.names.contains(&volume_group(&object.spec.pool)))
    }

    /// LVM's report. Groups that no object names are looked for now and then: they may hold what was left incomplete.
    async fn observe(&mut self, now: i64) -> anyhow::Result<()> {
        let look = now >= self.looked + LOOK_FOR_GROUPS;
        let mut names = std::mem::take(&mut self.names);
        names.extend(self.listed.borrow().objects.values().map(|object| volume_group(&object.spec.pool)));
        let lvm: Arc<dyn LvmReport> = self.hosts.lvm.clone();
        let answer = blocking(move || {
            if look {
                names = observed::names(&*lvm)?;
            }
            let groups = observed::groups(&*lvm, &names)?;
            Ok((names, groups))
        });
        (self.names, self.groups) = answer.await?;
        self.asked = Some(Instant::now());
        if look {
            self.looked = now;
        }
        Ok(())
    }

    fn dispatch(
        &mut self,
        name: &str,
        group: &str,
        action: &Action,
        listed: &Listed<LocalVolume>,
        policy: Option<&Arc<Policy>>,
    ) {
        if *action == Action::StopFilling {
            if let Some(stop) = self.stops.get(name) {
                stop.store(true, Ordering::Relaxed);
            }
            return;
        }
        tracing::info!(volume = name, group, ?action, "volume");
        self.memory.busy.insert(name.to_owned());
        let stop = Arc::new(AtomicBool::new(false));
        match action {
            Action::Create { .. } | Action::Copy { .. } => {
                self.memory.begun.insert(name.to_owned());
                self.memory.filled.remove(name);
            }
            Action::Fill { .. } | Action::Receive { .. } => {
                if let Action::Receive { scratch } = action {
                    self.memory.scratch.insert(name.to_owned(), *scratch);
                }
                self.memory.filling.insert(name.to_owned(), Progress::default());
                self.stops.insert(name.to_owned(), stop.clone());
            }
            _ => {}
        }
        let (tell, volume) = (self.tell.clone(), name.to_owned());
        let context = ActionContext {
            hosts: self.hosts.clone(),
            cluster: self.cluster.clone(),
            group: group.to_owned(),
            name: name.to_owned(),
            object: listed.objects.get(name).cloned(),
            // None is planned without one; and one without rules protects the node.
            policy: policy.cloned().unwrap_or_default(),
            stop,
            show: Arc::new(move |progress| {
                tell.send((volume.clone(), progress));
            }),
        };
        self.running.insert(name.to_owned(), action.clone());
        let action = action.clone();
        self.tasks.start(name.to_owned(), async move { apply(&context, &action).await });
    }

    fn done(&mut self, name: String, action: &Action, result: Result<(), Failed>) {
        let memory = &mut self.memory;
        memory.busy.remove(&name);
        if action.fills() {
            memory.filling.remove(&name);
            self.stops.remove(&name);
            memory.scratch.remove(&name);
        }
        match (action, result) {
            (Action::Fill { .. }, Err(Failed { scratch: Some(bytes), .. })) => {
                // Nothing was written yet; planned again with that space booked.
                memory.scratch.insert(name, bytes);
            }
            (Action::AddFinalizer | Action::RemoveFinalizer, Ok(())) => {
                memory.held.insert(name, now() + WRITTEN);
            }
            (Action::Fill { .. }, Ok(())) => {
                memory.filled.insert(name);
            }
            (Action::Create { incomplete: false, .. } | Action::Receive { .. } | Action::Finish, Ok(())) => {
                memory.begun.remove(&name);
                memory.failed.remove(&name);
            }
            (Action::Remove, Ok(())) => {
                // Why it was removed, where its filling failed, is remembered.
                memory.begun.remove(&name);
                memory.filled.remove(&name);
            }
            (Action::Grow { .. }, Ok(())) => {
                memory.failed.remove(&name);
            }
            (_, Ok(())) => {}
            (action, Err(failed)) => {
                tracing::warn!(volume = name, ?action, "failed: {}", failed.message);
                if action.fills() || matches!(action, Action::Create { .. } | Action::Copy { .. }) {
                    // What is there of it is removed, and begun again.
                    memory.begun.remove(&name);
                }
                let times = memory.failed.get(&name).map_or(1, |before| before.times.saturating_add(1));
                let wait = (RETRY << (times.min(10) - 1)).min(RETRY_MOST);
                let listed = self.listed.borrow();
                let object = listed.objects.get(&name);
                let generation = object.and_then(|object| object.metadata.generation);
                let image = object.and_then(|object| object.image()?.ok());
                // Who sends again need not wait; while nobody sends, nothing is tried.
                let wait = if matches!(action, Action::Receive { .. }) { 0 } else { wait };
                let until = failed.is_passing.then(|| now() + wait);
                let Failed { reason, message, .. } = failed;
                memory.failed.insert(name, Failure { reason, message, times, until, generation, image });
            }
        }
    }

    /// Writes each status that is another than the object's.
    async fn report(&mut self, listed: &Listed<LocalVolume>, states: &BTreeMap<String, VolumeState>) {
        for (name, stand) in states {
            let Some(object) = listed.objects.get(name) else { continue };
            let status = status_of(object, stand, Timestamp::now());
            let is_known =
                object.status.as_ref() == Some(&status) || self.reported.get(name) == Some(&status);
            if is_known {
                continue;
            }
            match self.cluster.report(object, &status).await {
                Ok(()) => {
                    self.reported.insert(name.clone(), status);
                }
                Err(error) => {
                    tracing::warn!("{error:#}");
                    // One timeout a round: the others would wait as long, and volumes must continue.
                    if matches!(error.downcast_ref(), Some(RequestError::Timeout(_))) {
                        return;
                    }
                }
            }
        }
    }

    fn publish(&self, listed: &Listed<LocalVolume>, planned: &Plan) {
        let volumes = planned.states.iter().filter_map(|(name, stand)| {
            let object = listed.objects.get(name)?;
            Some((name.clone(), view::usable(name, object, stand, &self.hosts.devices)))
        });
        let volumes = Some(volumes.collect());
        publish(&self.publish, volumes);
    }
}

impl<C: Cluster> reconcile::Controller for Controller<C> {
    type Source = Source;

    async fn round(&mut self, woken: &Woken<Source>) -> Next {
        let mut ask = if woken.is_start() || woken.by_time() { Ask::Now } else { Ask::No };
        if woken.by(Source::Objects) {
            ask = ask.max(Ask::IfStale);
        }
        if woken.by(Source::Policies) {
            self.memory.forget_forbidden();
        }
        for (name, progress) in self.progress.take() {
            if let Some(known) = self.memory.filling.get_mut(&name) {
                *known = progress;
            }
        }
        for (name, result) in self.tasks.finished() {
            let Some(action) = self.running.remove(&name) else { continue };
            let is_about_lvm = !matches!(action, Action::AddFinalizer | Action::RemoveFinalizer);
            ask = ask.max(if is_about_lvm { Ask::Now } else { Ask::IfStale });
            let failed = |panicked: Panicked| Failed::from(anyhow::Error::from(panicked));
            self.done(name, &action, result.unwrap_or_else(|panicked| Err(failed(panicked))));
        }
        let due = self.reconcile(ask).await;
        let next = Next::after(Duration::from_secs(due.saturating_sub(now()).clamp(0, RESYNC) as u64));
        if self.listed.borrow().synced { next } else { next.waiting_for("the list of LocalVolumes") }
    }
}

fn now() -> i64 {
    Timestamp::now().as_second()
}
