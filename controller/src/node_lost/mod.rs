//! Controller of nodes that are lost: their VMs that stop by themselves may start elsewhere.
//!
//! Reads: the ClusterConfig, Leases of nodes; of a node whose Lease does not change, the Lease, the Node and its Pods once more. Owns: the
//! taint `sheaf.dev/node-lost`, the annotation of that name of placeholder Pods. Never touches: Pods of VMs whose node has not said
//! that it stops them ([`sheaf_api::restart_elsewhere::stops_alone`]). While the ClusterConfig is disarmed it does nothing.
//!
//! Why not the condition Ready of the Node: kube-controller-manager sets it 50 s after the last renewal, which is most of the minute
//! within which a VM shall run again. Why every replica observes ([`Observer`]) and only the leader acts ([`run`]): the leader may be on
//! the node that is lost, and the next one, which leads 30 s later, must not begin to count then. Why the annotation: the decision
//! outlives this leader, and a node that comes back finds it. Route in: time, and changes of Leases. Route out: [`plan`], applied;
//! `placeholder::end` and `vmi` do the rest. docs/decisions/0050.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use futures::{Stream, StreamExt};
use k8s_openapi::{
    api::{
        coordination::v1::Lease,
        core::v1::{Node, Pod},
    },
    jiff::Timestamp,
};
use kube::{
    Api, Client, ResourceExt,
    api::{ListParams, Patch, PatchParams},
    runtime::{WatchStreamExt, reflector, watcher},
};
use sheaf_api::{
    cluster_config::{self, ClusterConfig, HighAvailability},
    names::{APP_LABEL, LAUNCHER},
    restart_elsewhere::{LOOK, TAKE_OVER_AFTER},
};
use tokio::task::JoinSet;

use crate::{
    events::{Event, EventRecorder},
    object::{RequestError, doing, ok_if_gone},
};
use plan::{Action, Leases, record};

#[cfg(test)]
mod never_twice;
pub mod plan;

/// Namespace of nodes' Leases.
const NAMESPACE: &str = "kube-node-lease";
/// Between two reads of the ClusterConfig.
const CONFIG_INTERVAL: Duration = Duration::from_secs(10);
/// Longest time for requests about one node, and for one about the ClusterConfig: meanwhile nothing is observed.
const ASK: Duration = Duration::from_secs(5);
/// Between two tries about a node that is lost.
const AGAIN: Duration = Duration::from_secs(5);

/// Leases of nodes, as this process has observed them, whether it leads or not.
#[derive(Clone)]
pub struct Observer {
    client: Client,
    /// From when times count.
    start: Instant,
    leases: Arc<Mutex<Leases>>,
}

impl Observer {
    /// One that has observed nothing yet.
    pub fn new(client: Client) -> Self {
        Self { client, start: Instant::now(), leases: Arc::default() }
    }

    fn now(&self) -> Duration {
        self.start.elapsed()
    }

    fn leases(&self) -> MutexGuard<'_, Leases> {
        self.leases.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Observes until dropped, while the cluster is armed.
    pub async fn run(&self) {
        loop {
            match is_armed(&self.client).await {
                Ok(true) => self.follow().await,
                Ok(false) => *self.leases() = Leases::default(),
                Err(error) => tracing::warn!("leases of nodes: {error}; trying again"),
            }
            tokio::time::sleep(CONFIG_INTERVAL).await; // until the next look whether it is armed
        }
    }

    /// Until the cluster is disarmed.
    async fn follow(&self) {
        let (store, changes) = follow(&self.client);
        let mut changes = std::pin::pin!(changes);
        let mut config_read = Instant::now();
        loop {
            let tick = tokio::time::Instant::now() + LOOK;
            while tokio::time::timeout_at(tick, changes.next()).await.is_ok_and(|change| change.is_some()) {}
            tokio::time::sleep_until(tick).await; // if the stream has ended
            let now = self.now();
            let records =
                store.state().iter().map(|lease| (lease.name_any(), record(lease))).collect::<Vec<_>>();
            self.leases().observe(records, now);
            if config_read.elapsed() >= CONFIG_INTERVAL {
                config_read = Instant::now();
                if is_disarmed(&self.client).await {
                    return;
                }
            }
        }
    }
}

/// What the leader does, until dropped. A task of its own: as one future with all other controllers, its requests need more stack than a
/// thread of tokio has in builds without optimization.
pub async fn run(observer: Observer) {
    let mut tasks = JoinSet::new();
    tasks.spawn(lead(observer));
    tasks.join_next().await;
}

async fn lead(observer: Observer) {
    let events = EventRecorder::new(observer.client.clone());
    // A taint of the time when it was armed would keep a node that came back from VMs. It is looked for once: nobody taints then.
    let mut may_be_tainted = true;
    loop {
        let done = match is_armed(&observer.client).await {
            Ok(true) => {
                may_be_tainted = true;
                armed(&observer, &events).await;
                Ok(())
            }
            Ok(false) if may_be_tainted => {
                release_all(&observer.client).await.map(|()| may_be_tainted = false)
            }
            Ok(false) => Ok(()),
            Err(error) => Err(error),
        };
        if let Err(error) = done {
            tracing::warn!("nodes that are lost: {error}; trying again");
        }
        tokio::time::sleep(CONFIG_INTERVAL).await; // until the next look whether it is armed
    }
}

async fn is_armed(client: &Client) -> Result<bool, RequestError> {
    let configs: Api<ClusterConfig> = Api::all(client.clone());
    let config = configs.get_opt(cluster_config::NAME).await.map_err(doing("reading the ClusterConfig"))?;
    Ok(config.is_some_and(|config| config.spec.high_availability == HighAvailability::Armed))
}

/// Whether it certainly is.
async fn is_disarmed(client: &Client) -> bool {
    matches!(tokio::time::timeout(ASK, is_armed(client)).await, Ok(Ok(false)))
}

/// Changes of nodes' Leases, kept in the store.
fn follow(client: &Client) -> (reflector::Store<Lease>, impl Stream<Item = ()> + Send) {
    let (store, writer) = reflector::store();
    let leases: Api<Lease> = Api::namespaced(client.clone(), NAMESPACE);
    let events = watcher(leases, watcher::Config::default());
    let changes = reflector(writer, events).default_backoff().touched_objects().filter_map(|change| async {
        change.map_err(|error| tracing::warn!("watching leases of nodes: {error}")).ok().map(drop)
    });
    (store, changes)
}

/// Acts until the cluster is disarmed.
async fn armed(observer: &Observer, events: &EventRecorder) {
    tracing::info!("VMs are started elsewhere when their nodes are lost");
    let client = &observer.client;
    let mut tainted = tainted(client).await.unwrap_or_else(|error| {
        tracing::warn!("{error}; a node that comes back stays tainted until this controller is restarted");
        BTreeSet::new()
    });
    let mut config_read = Instant::now();
    loop {
        tokio::time::sleep(LOOK).await; // until the next look at the clock
        let nodes = observer.leases().lost(observer.now());
        for node in nodes {
            let problem = match tokio::time::timeout(ASK, lost(observer, events, &node)).await {
                Ok(Ok(is_lost)) => {
                    tainted.extend(is_lost.then_some(node));
                    continue;
                }
                Ok(Err(error)) => error.to_string(),
                Err(_) => format!("the API server did not answer within {} s", ASK.as_secs()),
            };
            tracing::warn!("node {node}, which is lost: {problem}; trying again");
            observer.leases().retry(&node, observer.now() + AGAIN);
        }
        let is_back = |node: &&String| observer.leases().is_renewed(node, observer.now());
        for node in tainted.iter().filter(is_back).cloned().collect::<Vec<_>>() {
            match release(client, &node).await {
                Ok(()) => drop(tainted.remove(&node)),
                Err(error) => tracing::warn!("node {node}, which is back: {error}; trying again"),
            }
        }
        if config_read.elapsed() >= CONFIG_INTERVAL {
            config_read = Instant::now();
            if is_disarmed(client).await {
                tracing::info!("VMs are no longer started elsewhere when their nodes are lost");
                return;
            }
        }
    }
}

/// Everything about a node whose Lease did not change for the time by what the watch says; whether it is lost.
async fn lost(observer: &Observer, events: &EventRecorder, name: &str) -> Result<bool, RequestError> {
    let client = &observer.client;
    // Not from the watch: it may have stopped, and then every node would look lost. Read without a version, it is what a majority of
    // etcd has.
    let api: Api<Lease> = Api::namespaced(client.clone(), NAMESPACE);
    let lease = api.get_opt(name).await.map_err(doing("reading its Lease"))?;
    let Some(lease) = lease else { return Ok(false) };
    let is_confirmed = observer.leases().confirms(name, &record(&lease), observer.now());
    if !is_confirmed || !is_armed(client).await? {
        return Ok(false);
    }
    let node = Api::<Node>::all(client.clone()).get_opt(name).await.map_err(doing("reading the Node"))?;
    let here = ListParams::default()
        .fields(&format!("spec.nodeName={name}"))
        .labels(&format!("{APP_LABEL}={LAUNCHER}"));
    let pods = Api::<Pod>::all(client.clone()).list(&here).await.map_err(doing("listing its Pods"))?.items;
    let actions = plan::plan(node.as_ref(), &pods, Timestamp::now());
    let count = actions.iter().filter(|action| matches!(action, Action::Mark { .. })).count();
    if let Some(node) = node.as_ref().filter(|_| !actions.is_empty()) {
        let seconds = TAKE_OVER_AFTER.as_secs();
        let note = format!("its lease was not renewed for {seconds} s; {count} VMs may start on other nodes");
        tracing::warn!("node {name}: {note}");
        events.record(node, &Event::warning("NodeLost", note)).await;
    }
    for action in &actions {
        apply(client, name, action).await?;
    }
    observer.leases().done(name);
    Ok(true)
}

async fn apply(client: &Client, node: &str, action: &Action) -> Result<(), RequestError> {
    match action {
        Action::Taint(patch) => {
            let nodes: Api<Node> = Api::all(client.clone());
            let patched = nodes.patch(node, &PatchParams::default(), &Patch::Merge(patch)).await;
            ok_if_gone(patched.map(drop)).map_err(doing("tainting the Node"))
        }
        Action::Mark { namespace, name, patch } => {
            let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
            let patched = pods.patch(name, &PatchParams::default(), &Patch::Merge(patch)).await;
            ok_if_gone(patched.map(drop)).map_err(doing("marking a Pod"))
        }
    }
}

/// Names of the nodes that have the taint.
async fn tainted(client: &Client) -> Result<BTreeSet<String>, RequestError> {
    let nodes = Api::<Node>::all(client.clone()).list(&ListParams::default()).await;
    let nodes = nodes.map_err(doing("listing Nodes"))?.items;
    Ok(nodes.iter().filter(|node| plan::untaint(node).is_some()).map(ResourceExt::name_any).collect())
}

/// Takes the taint off.
async fn release(client: &Client, name: &str) -> Result<(), RequestError> {
    let nodes: Api<Node> = Api::all(client.clone());
    let Some(node) = nodes.get_opt(name).await.map_err(doing("reading the Node"))? else { return Ok(()) };
    if let Some(patch) = plan::untaint(&node) {
        let patched = nodes.patch(name, &PatchParams::default(), &Patch::Merge(&patch)).await;
        ok_if_gone(patched.map(drop)).map_err(doing("taking the taint off the Node"))?;
        tracing::info!("node {name} renews its lease again");
    }
    Ok(())
}

async fn release_all(client: &Client) -> Result<(), RequestError> {
    for node in tainted(client).await? {
        release(client, &node).await?;
    }
    Ok(())
}
