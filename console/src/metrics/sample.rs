//! One round: every node is asked what it and its machines have counted.
//!
//! Why here: nodes and machines are known from the watches that the console has anyway. A node is believed about itself and
//! about machines that run on it, of no others: a node that was taken over writes no other's plot. Route in: watches, agents. Route
//! out: [`super::store::Store`].

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use futures::{StreamExt as _, stream};
use k8s_openapi::api::core::v1::Node;
use serde::Deserialize;
use sheaf_api::agents::Target;

use super::{
    nodes::{self, Nodes},
    page::Reading,
    store::{Store, Whose},
};
use crate::{clock, serve::State};

/// Nodes that are read at once: each holds a page in memory.
const AT_ONCE: usize = 4;

/// Of a VirtualMachineInstance, where it runs.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Instance {
    status: InstanceStatus,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct InstanceStatus {
    node_name: String,
}

/// What there is to be read.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// Agents to ask.
    targets: Vec<Target>,
    /// Machines that run, and the node.
    places: BTreeMap<Arc<str>, String>,
    /// Of all nodes and machines that exist; none while that is not known.
    names: Option<Names>,
}

/// Keys of what exists.
#[derive(Debug, Default)]
struct Names {
    nodes: BTreeSet<Arc<str>>,
    machines: BTreeSet<Arc<str>>,
}

/// Reads all nodes once.
pub async fn round(state: &State, nodes: &Nodes) {
    let seen = observe(state);
    let round = clock::now();
    if let Some(names) = &seen.names {
        state.metrics.lock().keep(&names.nodes, &names.machines);
    }
    let places = &seen.places;
    stream::iter(seen.targets)
        .for_each_concurrent(AT_ONCE, async |target| match nodes.read(&target).await {
            Ok(texts) => {
                let mut reading = Reading::default();
                texts.iter().for_each(|text| reading.read(text));
                let at = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |now| now.as_secs_f64());
                let node = target.node.as_str().into();
                take(&mut state.metrics.lock(), (round, at), &node, &reading, places);
            }
            // At each round: a level that nobody reads unless he looks for it.
            Err(error) => tracing::debug!("numbers of node {}: {error:#}", target.node),
        })
        .await;
}

/// Puts what `node` said into the store.
pub(super) fn take(
    store: &mut Store,
    (round, at): (u64, f64),
    node: &Arc<str>,
    reading: &Reading,
    places: &BTreeMap<Arc<str>, String>,
) {
    store.take(Whose::Node(node.clone()), round, at, node, reading.node);
    for (key, counters) in &reading.machines {
        if let Some((key, _)) = places.get_key_value(key.as_str()).filter(|(_, place)| ***place == **node) {
            store.take(Whose::Machine(key.clone()), round, at, node, *counters);
        }
    }
}

fn observe(state: &State) -> Seen {
    let of = |word: &str| state.watch.items(word);
    let (nodes, nodes_whole) = of("nodes");
    let (machines, machines_whole) = of("machines");
    let (instances, instances_whole) = of("instances");
    let mut seen = Seen::default();
    let mut names = Names::default();
    for item in &nodes {
        // Its key is `/NAME`: it is in no namespace.
        names.nodes.insert(Arc::from(item.key.trim_start_matches('/')));
        let node: Node = serde_json::from_str(&item.json).unwrap_or_default();
        seen.targets.extend(nodes::target(&node));
    }
    for item in &instances {
        names.machines.insert(item.key.clone());
        let instance: Instance = serde_json::from_str(&item.json).unwrap_or_default();
        if !instance.status.node_name.is_empty() {
            seen.places.insert(item.key.clone(), instance.status.node_name);
        }
    }
    names.machines.extend(machines.iter().map(|item| item.key.clone()));
    seen.names = (nodes_whole && machines_whole && instances_whole).then_some(names);
    seen
}
