//! Controller `pools`: makes thin pools of disks, grows them, empties devices that leave, watches how full they are.
//!
//! Reads: the channel `disks`, node.toml's `[[storage.pool]]`, StoragePools of this node, LVM's reports. Owns: volume
//! groups `sheaf-<pool>` that carry this node's tag, their members and thin pool, the making and the status of
//! StoragePools, the channel and the status section `pools`. Never touches: volumes inside (`volumes` does), a disk that
//! carries anything else, a group without the tag; it deletes no object.
//!
//! observe (LVM's report) → [`plan`] → [`apply`] → look again, until nothing is left to do → report ([`view`]). It wakes
//! for news; how full a pool is nobody tells, so that is looked at every ten seconds, and more often when it matters.

mod apply;
mod plan;
pub mod size;
mod view;
pub mod wanted;

use crate::channels::{Context, Disks, Pool};
use crate::disks::contents;
use crate::listed::{self, Listed};
use crate::objects::{Cluster, Objects};
use crate::reconcile::blocking;
use crate::status::{PoolSection, Section};
use k8s_openapi::jiff::Timestamp;
use plan::{Observed, Plan};
use sheaf_api::names::{NODE_LABEL, POOL_LABEL, volume_group};
use sheaf_api::storage::pool::{StoragePool, StoragePoolSpec, StoragePoolStatus};
use sheaf_host::lvm::{Group, Groups, Lvm};
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Notify, watch};
use view::Known;
use wanted::Wanted;

/// How long the controller waits where nobody tells it anything.
#[derive(Clone, Copy, Debug)]
struct Pace {
    /// Between two looks at how full pools are.
    watch: Duration,
    /// The same while data moves, or space is short.
    watch_closely: Duration,
    /// A step that failed is tried again after this.
    try_again: Duration,
}

const PACE: Pace = Pace {
    watch: Duration::from_secs(10),
    watch_closely: Duration::from_secs(2),
    try_again: Duration::from_secs(30),
};
/// Rounds in which a pool must have settled: more would be a plan that contradicts itself.
const ROUNDS: usize = 40;

/// What this controller does to the machine.
#[derive(Clone)]
pub struct Hosts {
    /// The very one that `volumes` uses: it is told here which devices a group has.
    pub lvm: Arc<dyn Lvm>,
    /// Asks `disks` for a look, after a disk was changed here.
    pub look: Arc<Notify>,
}

/// Runs until shutdown.
pub async fn run(
    ctx: Context,
    publish: watch::Sender<Vec<Pool>>,
    section: Section<Vec<PoolSection>>,
    hosts: Hosts,
) -> anyhow::Result<()> {
    let listed = watch::Sender::new(Listed::default());
    let (cluster, objects) = (Objects::new(ctx.cluster.clone()), listed.subscribe());
    tokio::select! {
        ended = Controller::new(ctx.clone(), publish, section, hosts, cluster, objects).run() => ended,
        () = listed::follow(ctx.cluster.clone(), &listed, listed::by_name, listed::Scope::ThisNode) => Ok(()),
    }
}

/// One loop over everything that can be new.
struct Controller<C> {
    ctx: Context,
    publish: watch::Sender<Vec<Pool>>,
    section: Section<Vec<PoolSection>>,
    hosts: Hosts,
    cluster: C,
    objects: watch::Receiver<Listed<StoragePool>>,
    node: String,
    pace: Pace,
    /// LVM's groups, as of the last change that was heard of or made.
    groups: Groups,
    /// What is remembered of a pool between two looks.
    memory: BTreeMap<String, Memory>,
}

/// What is remembered of a pool between two looks.
#[derive(Clone, Debug)]
struct Memory {
    /// Moves that are under way were not begun by this agent.
    is_first: bool,
    /// A member came back; the kernel still uses what it was before.
    is_stale: bool,
    /// A member was not there.
    is_missing: bool,
    /// Its group was there.
    was_there: bool,
    /// Why the last step failed, and when.
    failure: Option<(String, std::time::Instant)>,
    /// What was done last.
    last: Option<String>,
}

impl Default for Memory {
    fn default() -> Self {
        Self {
            is_first: true,
            is_stale: false,
            is_missing: false,
            was_there: false,
            failure: None,
            last: None,
        }
    }
}

/// A pool after a look.
struct Settled {
    observed: Observed,
    plan: Plan,
}

impl<C: Cluster<StoragePool, StoragePoolStatus>> Controller<C> {
    fn new(
        ctx: Context,
        publish: watch::Sender<Vec<Pool>>,
        section: Section<Vec<PoolSection>>,
        hosts: Hosts,
        cluster: C,
        objects: watch::Receiver<Listed<StoragePool>>,
    ) -> Self {
        let node = ctx.config.borrow().system.hostname.clone();
        Self {
            ctx,
            publish,
            section,
            hosts,
            cluster,
            objects,
            node,
            pace: PACE,
            groups: Groups::default(),
            memory: BTreeMap::new(),
        }
    }

    async fn run(mut self) -> anyhow::Result<()> {
        let (mut disks, mut config, mut end) =
            (self.ctx.disks.clone(), self.ctx.config.clone(), self.ctx.shutdown.clone());
        let mut is_stale = true;
        loop {
            // Whatever woke it: disks that changed meanwhile are taken as seen here.
            is_stale |= disks.has_changed().unwrap_or_default();
            let seen = disks.borrow_and_update().clone();
            config.borrow_and_update();
            // Not what `disks` saw: that may be from before a change that was made here.
            if is_stale && let Err(error) = self.look().await {
                tracing::warn!("volume groups can not be listed: {error:#}");
            }
            is_stale = false;
            let again = if seen.observed { self.reconcile(&seen).await } else { self.pace.watch };
            tokio::select! {
                changed = disks.changed() => {
                    if changed.is_err() {
                        return Ok(());
                    }
                    is_stale = true;
                }
                changed = config.changed() => if changed.is_err() { return Ok(()) },
                changed = self.objects.changed() => if changed.is_err() { return Ok(()) },
                () = tokio::time::sleep(again) => {}
                () = end.requested() => return Ok(()),
            }
        }
    }

    async fn look(&mut self) -> anyhow::Result<()> {
        let lvm = self.hosts.lvm.clone();
        self.groups = blocking(move || Ok(lvm.groups()?)).await?;
        Ok(())
    }

    /// Brings every pool as far as it can be brought, and says how it stands; returns when to look again.
    async fn reconcile(&mut self, disks: &Disks) -> Duration {
        let listed = self.objects.borrow_and_update().clone();
        let storage = self.ctx.config.borrow().storage.clone();
        let pools = wanted::wanted(&self.node, disks, &storage, &listed.objects);
        // Both lists must have been heard before a member that none names may leave.
        let certain = listed.synced && disks.synced;
        self.memory.retain(|name, _| pools.contains_key(name));
        let mut settled = BTreeMap::new();
        for (name, wanted) in &pools {
            match self.settle(name, wanted, certain).await {
                Ok(pool) => drop(settled.insert(name.clone(), pool)),
                Err(error) => tracing::warn!("pool {name}: {error:#}"),
            }
        }
        if certain {
            self.let_go(&pools).await;
        }
        self.publish(&settled);
        if listed.synced {
            self.report(&pools, &settled, &listed).await;
        }
        let is_close = |pool: &Settled| pool.observed.moving().is_some() || pool.is_short();
        if settled.values().any(is_close) { self.pace.watch_closely } else { self.pace.watch }
    }

    /// Looks and acts until nothing is left to do.
    async fn settle(&mut self, name: &str, wanted: &Wanted, certain: bool) -> anyhow::Result<Settled> {
        let mut memory = self.memory.remove(name).unwrap_or_default();
        let settled = self.rounds(name, wanted, certain, &mut memory).await;
        self.memory.insert(name.to_owned(), memory);
        settled
    }

    async fn rounds(
        &mut self,
        name: &str,
        wanted: &Wanted,
        certain: bool,
        memory: &mut Memory,
    ) -> anyhow::Result<Settled> {
        let mut is_changed = false;
        for _ in 0..ROUNDS {
            let observed = self.observe(name, memory).await?;
            let plan = plan::plan(&self.node, wanted, &observed, certain);
            memory.is_first = false;
            let waits = memory.failure.as_ref().is_some_and(|(_, at)| at.elapsed() < self.pace.try_again);
            if plan.steps.is_empty() || waits {
                if plan.steps.is_empty() {
                    memory.failure = None;
                }
                if is_changed {
                    // What it was made of is another now.
                    self.hosts.look.notify_one();
                }
                if observed.moving().is_some() {
                    self.look().await?; // how much each member holds
                }
                return Ok(Settled { observed, plan });
            }
            is_changed = true;
            self.act(name, &plan.steps, memory).await;
            self.look().await?;
        }
        anyhow::bail!("it does not settle; this is a mistake of the agent")
    }

    /// Does the steps up to the first that fails.
    async fn act(&self, name: &str, steps: &[plan::Step], memory: &mut Memory) {
        for step in steps {
            let said = apply::say(step);
            tracing::info!(pool = name, "{said}");
            let (lvm, group, node, one) =
                (self.hosts.lvm.clone(), volume_group(name), self.node.clone(), step.clone());
            let done = blocking(move || Ok(apply::apply(lvm.as_ref(), &group, &node, &one)?)).await;
            memory.is_stale = apply::is_stale_after(step, memory.is_stale, done.is_ok());
            match done {
                Ok(()) => {
                    memory.failure = None;
                    memory.last = Some(said);
                }
                Err(error) => {
                    tracing::warn!("pool {name}: {error:#}");
                    memory.failure = Some((format!("{error:#}"), std::time::Instant::now()));
                    return;
                }
            }
        }
    }

    /// What LVM has of the pool; tells it first which devices that group has.
    async fn observe(&self, name: &str, memory: &mut Memory) -> anyhow::Result<Observed> {
        let group = volume_group(name);
        let ours: Vec<&Group> = self
            .groups
            .groups
            .iter()
            .filter(|found| found.name == group && contents::is_ours(&found.tags, &self.node))
            .collect();
        anyhow::ensure!(
            ours.len() < 2,
            "two groups on this node's disks are called {group}; pull the disks of one of them"
        );
        // Of a group whose devices are all gone LVM knows nothing.
        let is_lost = ours.is_empty() && memory.was_there;
        memory.was_there |= !ours.is_empty();
        let is_missing =
            is_lost || ours.iter().any(|group| group.members.iter().any(|member| member.device.is_none()));
        // The kernel has the devices of volumes on what the disk was before it was pulled.
        memory.is_stale |= memory.is_missing && !is_missing;
        memory.is_missing = is_missing;
        let (is_first, is_stale) = (memory.is_first, memory.is_stale);
        let Some(found) = ours.first() else {
            if is_lost {
                self.hosts.lvm.confine(&group, &[]);
            }
            return Ok(Observed { is_first, is_stale, is_lost, ..Observed::default() });
        };
        let devices: Vec<PathBuf> = found.members.iter().filter_map(|member| member.device.clone()).collect();
        let lvm = self.hosts.lvm.clone();
        lvm.confine(&group, &devices);
        let volumes = if devices.is_empty() {
            Vec::new()
        } else {
            let group = group.clone();
            blocking(move || Ok(lvm.volumes(&group)?)).await?
        };
        Ok(Observed { group: Some((*found).clone()), volumes, is_first, is_stale, is_lost })
    }

    /// Switches off groups of ours that nobody wants any more, so that their disks are free to be wiped.
    async fn let_go(&mut self, pools: &BTreeMap<String, Wanted>) {
        for group in self.groups.groups.iter().filter(|group| contents::is_ours(&group.tags, &self.node)) {
            let Some(pool) = group.name.strip_prefix("sheaf-").filter(|pool| !pools.contains_key(*pool))
            else {
                continue;
            };
            let devices: Vec<PathBuf> =
                group.members.iter().filter_map(|member| member.device.clone()).collect();
            let (lvm, name) = (self.hosts.lvm.clone(), group.name.clone());
            let off = blocking(move || {
                lvm.confine(&name, &devices);
                let is_on = lvm.volumes(&name)?.iter().any(|volume| volume.is_active);
                if is_on {
                    lvm.deactivate(&name)?;
                }
                Ok(is_on)
            });
            match off.await {
                Ok(true) => {
                    tracing::info!(pool, "nobody wants it any more; switched off");
                    self.hosts.look.notify_one();
                }
                Ok(false) => {}
                Err(error) => tracing::warn!("pool {pool}, which nobody wants, stays on: {error:#}"),
            }
        }
    }

    /// Tells the other controllers and the operator on the node.
    fn publish(&self, settled: &BTreeMap<String, Settled>) {
        let known = |(name, pool): (&String, &Settled)| {
            let memory = self.memory.get(name).cloned().unwrap_or_default();
            let failure = memory.failure.map(|(why, _)| why);
            let known =
                Known { pool: name, observed: &pool.observed, plan: &pool.plan, failure: failure.as_deref() };
            (known.pool(), known.section(memory.last.as_deref()))
        };
        let (pools, sections): (Vec<Pool>, Vec<PoolSection>) = settled.iter().map(known).unzip();
        self.section.set(sections);
        self.publish.send_if_modified(|now| {
            let is_new = *now != pools;
            if is_new {
                *now = pools;
            }
            is_new
        });
    }

    /// Tells the cluster.
    async fn report(
        &self,
        pools: &BTreeMap<String, Wanted>,
        settled: &BTreeMap<String, Settled>,
        listed: &Listed<StoragePool>,
    ) {
        let named: BTreeSet<&String> = listed.objects.values().map(|object| &object.spec.pool).collect();
        for pool in pools.keys().filter(|pool| !named.contains(pool)) {
            if let Err(error) = self.cluster.create(&object(&self.node, pool)).await {
                tracing::warn!("{error:#}");
            }
        }
        for object in listed.objects.values() {
            let Some(pool) = settled.get(&object.spec.pool) else { continue };
            let failure = self.memory.get(&object.spec.pool).and_then(|memory| memory.failure.as_ref());
            let known = Known {
                pool: &object.spec.pool,
                observed: &pool.observed,
                plan: &pool.plan,
                failure: failure.map(|(why, _)| why.as_str()),
            };
            let before = object.status.clone().unwrap_or_default();
            let status = known.status(&before, object.metadata.generation, Timestamp::now());
            if status == before {
                continue;
            }
            if let Err(error) = self.cluster.write_status(object, &status).await {
                tracing::warn!("{error:#}");
                continue;
            }
            for event in view::events(&before, &status) {
                tracing::info!(pool = object.spec.pool, "{}: {}", event.reason, event.note);
                if let Err(error) = self.cluster.record(object, &event).await {
                    tracing::warn!("{error:#}");
                }
            }
        }
    }
}

impl Settled {
    /// Space is so short that it is looked at often.
    fn is_short(&self) -> bool {
        let Some(thin) = self.observed.thin() else { return false };
        thin.data_percent.is_some_and(|full| full >= 80.0)
            || thin.metadata_percent.is_some_and(|full| full >= 70.0)
    }
}

fn object(node: &str, pool: &str) -> StoragePool {
    let spec =
        StoragePoolSpec { node_name: node.to_owned(), pool: pool.to_owned(), ..StoragePoolSpec::default() };
    let mut object = StoragePool::new(&format!("{pool}.{node}"), spec);
    object.metadata.labels = Some(BTreeMap::from([
        (POOL_LABEL.to_owned(), pool.to_owned()),
        (NODE_LABEL.to_owned(), node.to_owned()),
    ]));
    object
}

#[cfg(test)]
mod tests;
