//! The loop: observe, plan, apply, report, again whenever something changed.
//!
//! Route in: LocalVolumes, LVM's report, progress of fills, time. Route out: actions, one a volume at a time and several
//! volumes at once; the objects' status; the channel and the status page.

use super::api::Cluster;
use super::apply::{Failed, Scene, apply};
use super::fill::policy;
use super::observed::{self, Group};
use super::plan::{Action, Failure, Memory, Observed, Plan, Stand, plan, status_of};
use super::{Hosts, view};
use crate::channels::{Context, Volumes};
use crate::listed::Listed;
use crate::status::{Section, VolumeSection};
use anyhow::anyhow;
use k8s_openapi::jiff::Timestamp;
use sheaf_api::import_policy::ImportPolicy;
use sheaf_api::storage::local_volume::{Progress, volume_group};
use sheaf_api::storage::{LocalVolume, LocalVolumeStatus};
use sheaf_host::fetch::policy::Policy;
use sheaf_host::lvm::LvmError;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;

/// LVM is asked anew at least so often, in seconds: pools come and go, and volumes are opened and closed, without news.
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
#[derive(Clone, Copy, PartialEq)]
enum Ask {
    /// Its volumes may have changed.
    Now,
    /// Objects have changed: what it said a moment ago still counts.
    IfStale,
    /// No news about logical volumes.
    No,
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
    tasks: JoinSet<(String, Action, Result<(), Failed>)>,
    tell: mpsc::UnboundedSender<(String, Progress)>,
    told: mpsc::UnboundedReceiver<(String, Progress)>,
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
        let (tell, told) = mpsc::unbounded_channel();
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
            tasks: JoinSet::new(),
            tell,
            told,
        }
    }

    /// Until shutdown.
    pub async fn run(mut self) -> anyhow::Result<()> {
        let mut shutdown = self.ctx.shutdown.clone();
        let mut offers = self.hosts.uploads.changes();
        let mut ask = Ask::Now;
        loop {
            let wake = self.reconcile(ask).await;
            ask = Ask::Now;
            let rest = Duration::from_secs(wake.saturating_sub(now()).clamp(0, RESYNC) as u64);
            tokio::select! {
                () = shutdown.requested() => {
                    self.stops.values().for_each(|stop| stop.store(true, Ordering::Relaxed));
                    return Ok(());
                }
                changed = self.listed.changed() => match changed {
                    Ok(()) => ask = Ask::IfStale,
                    Err(_) => return Ok(()),
                },
                Ok(()) = self.policies.changed() => {
                    ask = Ask::No;
                    self.memory.forget_forbidden();
                }
                Ok(()) = offers.changed() => ask = Ask::No,
                Some((name, progress)) = self.told.recv() => {
                    ask = Ask::No;
                    if let Some(known) = self.memory.filling.get_mut(&name) {
                        *known = progress;
                    }
                }
                Some(done) = self.tasks.join_next() => match done {
                    Ok((name, action, result)) => {
                        if matches!(action, Action::Hold | Action::Release) {
                            ask = Ask::IfStale;
                        }
                        self.done(name, &action, result);
                    }
                    Err(error) => return Err(anyhow!(error).context("an action panicked")),
                },
                () = tokio::time::sleep(rest) => {}
            }
        }
    }

    /// One round; when the next is due at the latest.
    async fn reconcile(&mut self, ask: Ask) -> i64 {
        let now = now();
        let is_due = ask == Ask::Now || ask == Ask::IfStale && !self.knows_lvm();
        if is_due && let Err(error) = self.observe(now).await {
            tracing::warn!("volumes of this node can not be listed: {error:#}");
            return now + RESYNC_WAITING;
        }
        let groups = self.groups.clone();
        let listed = self.listed.borrow_and_update().clone();
        if !listed.synced {
            self.section.set(view::sections(&listed, &groups, &Plan::default()));
            return now + RESYNC;
        }
        let policy = policy::of(&self.policies.borrow_and_update());
        let memory = &mut self.memory;
        let there = |name: &str| groups.values().any(|group| group.volumes.contains_key(name));
        let busy = memory.busy.clone();
        memory.retain(|name| listed.objects.contains_key(name) || busy.contains(name) || there(name));
        self.reported.retain(|name, _| listed.objects.contains_key(name));
        let planned = plan(&Observed {
            objects: &listed.objects,
            groups: &groups,
            memory: &self.memory,
            offered: &self.hosts.uploads.waiting(),
            imports: policy.as_ref().map(drop).map_err(String::as_str),
            now,
            settled: now >= self.started + SETTLED,
        });
        for (name, group, action) in &planned.actions {
            self.dispatch(name, group, action, &listed, policy.as_ref().ok());
        }
        self.hosts.uploads.report(&planned.stands);
        self.report(&listed, &planned.stands).await;
        self.publish(&listed, &planned);
        self.section.set(view::sections(&listed, &groups, &planned));
        let waits = |stand: &Stand| matches!(stand, Stand::Unknown | Stand::Waiting(..) | Stand::Leaving(..));
        let soon = if planned.stands.values().any(waits) { RESYNC_WAITING } else { RESYNC };
        planned.wake.unwrap_or(now + soon).clamp(now + 1, now + soon)
    }

    /// LVM was asked a moment ago about every group that an object names.
    fn knows_lvm(&self) -> bool {
        let is_fresh = self.asked.is_some_and(|asked| asked.elapsed() < FRESH);
        let listed = self.listed.borrow();
        is_fresh
            && listed.objects.values().all(|object| self.names.contains(&volume_group(&object.spec.pool)))
    }

    /// LVM's report. Groups that no object names are looked for now and then: they may hold what was left half made.
    async fn observe(&mut self, now: i64) -> anyhow::Result<()> {
        let look = now >= self.looked + LOOK_FOR_GROUPS;
        let mut names = std::mem::take(&mut self.names);
        names.extend(self.listed.borrow().objects.values().map(|object| volume_group(&object.spec.pool)));
        let lvm = self.hosts.lvm.clone();
        let answer = tokio::task::spawn_blocking(move || {
            if look {
                names = observed::names(&*lvm)?;
            }
            let groups = observed::groups(&*lvm, &names)?;
            Ok::<_, LvmError>((names, groups))
        });
        (self.names, self.groups) = answer.await??;
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
        let scene = Scene {
            hosts: self.hosts.clone(),
            cluster: self.cluster.clone(),
            group: group.to_owned(),
            name: name.to_owned(),
            object: listed.objects.get(name).cloned(),
            // None is planned without one; and one without rules protects the node.
            policy: policy.cloned().unwrap_or_default(),
            stop,
            show: Arc::new(move |progress| {
                // The receiver lives as long as the controller.
                let _ = tell.send((volume.clone(), progress));
            }),
        };
        let (name, action) = (name.to_owned(), action.clone());
        self.tasks.spawn(async move {
            let result = apply(&scene, &action).await;
            (name, action, result)
        });
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
            (Action::Hold | Action::Release, Ok(())) => {
                memory.held.insert(name, now() + WRITTEN);
            }
            (Action::Fill { .. }, Ok(())) => {
                memory.filled.insert(name);
            }
            (Action::Create { half: false, .. } | Action::Receive { .. } | Action::Finish, Ok(())) => {
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
                let until = failed.is_passing.then(|| now() + wait);
                let Failed { reason, message, .. } = failed;
                memory.failed.insert(name, Failure { reason, message, times, until, generation, image });
            }
        }
    }

    /// Writes each status that is another than the object's.
    async fn report(&mut self, listed: &Listed<LocalVolume>, stands: &BTreeMap<String, Stand>) {
        for (name, stand) in stands {
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
                Err(error) => tracing::warn!("{error:#}"),
            }
        }
    }

    fn publish(&self, listed: &Listed<LocalVolume>, planned: &Plan) {
        let volumes = planned.stands.iter().filter_map(|(name, stand)| {
            let object = listed.objects.get(name)?;
            Some((name.clone(), view::usable(name, object, stand, &self.hosts.devices)))
        });
        let volumes = Some(volumes.collect());
        self.publish.send_if_modified(|before| {
            let differs = *before != volumes;
            *before = volumes;
            differs
        });
    }
}

fn now() -> i64 {
    Timestamp::now().as_second()
}
