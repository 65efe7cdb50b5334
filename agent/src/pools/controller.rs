//! The rounds: every pool is brought as far as it can be brought, then reported.
//!
//! Route in: disks, node.toml, StoragePools, time. Route out: steps, StoragePools and their status, the channel and the
//! section `pools`.

use super::observe::{self, Found};
use super::plan::{Memory, Observed, Plan, Step, plan};
use super::report::{self, Known};
use super::wanted::{self, Wanted};
use super::{Hosts, apply, deactivation};
use crate::channels::{Context, Disks, Pool};
use crate::listed::Listed;
use crate::objects::Cluster;
use crate::reconcile::{self, Backoff, Next, Retries, Woken, blocking, caught, publish};
use crate::status::{PoolSection, Section};
use k8s_openapi::jiff::Timestamp;
use sheaf_api::names::{NODE_LABEL, POOL_LABEL, volume_group};
use sheaf_api::storage::pool::{StoragePool, StoragePoolSpec, StoragePoolStatus};
use sheaf_config::node::NodeConfig;
use sheaf_host::lvm::{Groups, LvmReport};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// Rounds in which a pool must have converged: more would be a plan that contradicts itself.
const ROUNDS: usize = 40;

/// How often LVM is asked and steps are retried.
#[derive(Clone, Copy, Debug)]
pub struct Intervals {
    /// Between two looks at how full pools are.
    pub watch: Duration,
    /// The same while data moves, or space is short.
    pub watch_closely: Duration,
    /// Between two tries of a step that failed.
    pub retry: Backoff,
}

/// On a node.
pub const INTERVALS: Intervals = Intervals {
    watch: Duration::from_secs(10),
    watch_closely: Duration::from_secs(2),
    retry: Backoff::new(Duration::from_secs(30), Duration::from_secs(300)),
};

/// What wakes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Source {
    /// A disk came, left, or is meant for something else.
    Disks,
    /// node.toml changed.
    Config,
    /// A StoragePool changed.
    Objects,
}

/// The controller's state.
pub struct Controller<C> {
    publish: watch::Sender<Vec<Pool>>,
    section: Section<Vec<PoolSection>>,
    hosts: Hosts,
    cluster: C,
    disks: watch::Receiver<Disks>,
    config: watch::Receiver<Arc<NodeConfig>>,
    objects: watch::Receiver<Listed<StoragePool>>,
    node: String,
    intervals: Intervals,
    /// LVM's groups, as of the last change of disks or the last step.
    groups: Groups,
    /// What is remembered of a pool between two rounds, by name.
    memory: BTreeMap<String, Memory>,
    /// Pools whose last step failed.
    failures: Retries<String>,
    /// The last step of a pool that was done, in words.
    done: BTreeMap<String, String>,
}

/// A pool for which nothing is left to do now.
struct Settled {
    observed: Observed,
    plan: Plan,
}

impl<C: Cluster<StoragePool, StoragePoolStatus>> Controller<C> {
    /// A controller that has observed nothing yet.
    pub fn new(
        ctx: &Context,
        publish: watch::Sender<Vec<Pool>>,
        section: Section<Vec<PoolSection>>,
        hosts: Hosts,
        cluster: C,
        objects: watch::Receiver<Listed<StoragePool>>,
        intervals: Intervals,
    ) -> Self {
        Self {
            publish,
            section,
            hosts,
            cluster,
            disks: ctx.disks.clone(),
            config: ctx.config.clone(),
            objects,
            node: ctx.config.borrow().system.hostname.clone(),
            intervals,
            groups: Groups::default(),
            memory: BTreeMap::new(),
            failures: Retries::new(intervals.retry),
            done: BTreeMap::new(),
        }
    }

    /// Lists the groups. Not those that `disks` published: they may be from before a change that was made here.
    async fn scan(&mut self) -> anyhow::Result<()> {
        let lvm: Arc<dyn LvmReport> = self.hosts.lvm.clone();
        self.groups = blocking(move || Ok(lvm.groups()?)).await?;
        Ok(())
    }

    async fn observe(&self, name: &str) -> anyhow::Result<Found> {
        let lvm: Arc<dyn LvmReport> = self.hosts.lvm.clone();
        let (groups, node, name) = (self.groups.clone(), self.node.clone(), name.to_owned());
        blocking(move || observe::pool(&*lvm, &groups, &node, &name)).await
    }

    /// Observes, plans and applies until nothing is left to do for the pool.
    async fn settle(&mut self, name: &str, wanted: &Wanted, certain: bool) -> anyhow::Result<Settled> {
        let mut changed = false;
        for _ in 0..ROUNDS {
            let found = self.observe(name).await?;
            let memory = self.memory.entry(name.to_owned()).or_default();
            let observed = memory.observe(found);
            let plan = caught(|| plan(&self.node, wanted, &observed, certain))?;
            let waits = self.failures.is_waiting(&name.to_owned());
            if plan.steps.is_empty() || waits {
                if plan.steps.is_empty() {
                    self.failures.succeeded(&name.to_owned());
                }
                if changed {
                    // What the disks hold is something else now.
                    self.hosts.scan.notify_one();
                }
                if observed.moving().is_some() {
                    self.scan().await?; // how much each member holds
                }
                return Ok(Settled { observed, plan });
            }
            changed |= plan.steps.iter().any(|step| !matches!(step, Step::Confine { .. }));
            self.apply(name, &plan.steps).await;
            self.scan().await?;
        }
        anyhow::bail!("did not converge (bug in sheaf-agent)")
    }

    /// Does the steps up to the first that fails.
    async fn apply(&mut self, name: &str, steps: &[Step]) {
        for step in steps {
            let what = apply::describe(step);
            tracing::info!(pool = name, "{what}");
            let done = apply::apply(&self.hosts.lvm, &volume_group(name), &self.node, step).await;
            if let Some(memory) = self.memory.get_mut(name) {
                memory.applied(step, done.is_ok());
            }
            match done {
                Ok(()) => {
                    self.failures.succeeded(&name.to_owned());
                    self.done.insert(name.to_owned(), what);
                }
                Err(error) => {
                    tracing::warn!("pool {name}: {error:#}");
                    self.failures.failed(name.to_owned(), format!("{error:#}"));
                    return;
                }
            }
        }
    }

    /// Deactivates groups of ours that no pool is wanted of.
    async fn deactivate(&mut self, pools: &BTreeMap<String, Wanted>) -> anyhow::Result<()> {
        let is_wanted = |pool: &str| pools.contains_key(pool);
        for group in deactivation::unwanted(&self.groups, &self.node, is_wanted) {
            let (lvm, one): (Arc<dyn LvmReport>, _) = (self.hosts.lvm.clone(), group.clone());
            let found = blocking(move || observe::this(&*lvm, &one)).await?;
            for step in deactivation::plan(&found) {
                tracing::info!(
                    group = group.name,
                    "belongs to no configured pool: {}",
                    apply::describe(&step)
                );
                apply::apply(&self.hosts.lvm, &group.name, &self.node, &step).await?;
                self.hosts.scan.notify_one();
            }
        }
        Ok(())
    }

    fn known<'k>(&'k self, name: &'k str, pool: &'k Settled) -> Known<'k> {
        let failure = self.failures.get(&name.to_owned()).map(|failure| failure.why.as_str());
        Known { pool: name, observed: &pool.observed, plan: &pool.plan, failure }
    }

    /// For other controllers and the status page.
    fn publish(&self, settled: &BTreeMap<String, Settled>) {
        let of = |(name, pool): (&String, &Settled)| {
            let known = self.known(name, pool);
            (known.pool(), known.section(self.done.get(name).map(String::as_str)))
        };
        let (pools, sections) = settled.iter().map(of).unzip();
        self.section.set(sections);
        publish(&self.publish, pools);
    }

    /// For the cluster.
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
            let before = object.status.clone().unwrap_or_default();
            let known = self.known(&object.spec.pool, pool);
            let status = known.status(&before, object.metadata.generation, Timestamp::now());
            if status == before {
                continue;
            }
            let events = report::events(&before, &status);
            if let Err(error) = apply::write_status(&self.cluster, object, &status, &events).await {
                tracing::warn!("{error:#}");
            }
        }
    }
}

impl<C: Cluster<StoragePool, StoragePoolStatus>> reconcile::Controller for Controller<C> {
    type Source = Source;

    async fn round(&mut self, woken: &Woken<Source>) -> Next {
        if woken.by(Source::Disks)
            && let Err(error) = self.scan().await
        {
            tracing::warn!("cannot list volume groups: {error:#}");
        }
        let disks = self.disks.borrow().clone();
        if !disks.observed {
            return Next::WOKEN.waiting_for("a first scan of the disks");
        }
        let listed = self.objects.borrow().clone();
        let storage = self.config.borrow().storage.clone();
        let pools = wanted::wanted(&self.node, &disks, &storage, &listed.objects);
        // Both lists must be complete before a member that neither names may leave.
        let certain = listed.synced && disks.synced;
        self.memory.retain(|name, _| pools.contains_key(name));
        self.done.retain(|name, _| pools.contains_key(name));
        self.failures.retain(|name| pools.contains_key(name));
        let mut settled = BTreeMap::new();
        for (name, wanted) in &pools {
            match self.settle(name, wanted, certain).await {
                Ok(pool) => drop(settled.insert(name.clone(), pool)),
                Err(error) => tracing::warn!("pool {name}: {error:#}"),
            }
        }
        if certain && let Err(error) = self.deactivate(&pools).await {
            tracing::warn!("a volume group without a configured pool stays active: {error:#}");
        }
        self.publish(&settled);
        if listed.synced {
            self.report(&pools, &settled, &listed).await;
        }
        let is_close = |pool: &Settled| pool.observed.moving().is_some() || pool.observed.is_short();
        let closely = settled.values().any(is_close);
        let next = Next::after(if closely { self.intervals.watch_closely } else { self.intervals.watch });
        if listed.synced { next } else { next.waiting_for("the list of StoragePools") }
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
