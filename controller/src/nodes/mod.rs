//! Controller of what nodes may not decide about themselves: whose an address is, how many objects one may have made, and
//! the taint of control-plane nodes.
//!
//! Reads: Nodes, names of the objects that nodes make, LocalVolumes of control-plane nodes, the ConfigMap `control-plane`.
//! Owns: the ConfigMaps `node-addresses` and `node-limits`, the taint `node-role.kubernetes.io/control-plane`. Never
//! touches: anything else of a Node. Route in: watches, and time. Route out: [`addresses`], [`limits`] and [`taints`],
//! written when they differ.

use std::{collections::BTreeMap, fmt::Debug, time::Duration};

use futures::{
    Stream, StreamExt,
    future::ready,
    stream::{BoxStream, select_all},
};
use k8s_openapi::api::{
    certificates::v1::CertificateSigningRequest,
    core::v1::{ConfigMap, Node},
};
use kube::{
    Api, Client, Resource, ResourceExt,
    api::{ListParams, PartialObjectMeta, Patch, PatchParams},
    runtime::{WatchStreamExt, reflector, reflector::Store, watcher},
};
use serde::de::DeserializeOwned;
use serde_json::json;
use sheaf_api::{
    names::{ADDRESSES_MAP, CONTROL_PLANE_MAP, CONTROLLER_MANAGER, LIMITS_MAP, SYSTEM_NAMESPACE},
    node_network::NodeNetworkEnactment,
    storage::{BlockDevice, LocalVolume, StoragePool},
};

use crate::csr::decide::{Requester, requester};
use addresses::ControlPlane;
use limits::{Counts, Made};

pub mod addresses;
pub mod limits;
pub mod taints;

/// Whether nothing may be scheduled on the node.
pub fn is_cordoned(node: &Node) -> bool {
    node.spec.as_ref().and_then(|spec| spec.unschedulable) == Some(true)
}

/// Changes of Nodes within this time are answered together: a thousand nodes report several times a second.
const TOGETHER: Duration = Duration::from_millis(500);
/// Without a change: for volumes that went, ConfigMaps that somebody deleted, and failed writes.
const INTERVAL: Duration = Duration::from_secs(30);

/// Changes of one kind, as nothing but that there was one.
type Changes = BoxStream<'static, ()>;

/// What is known by watches.
struct Seen {
    nodes: Store<Node>,
    disks: Store<PartialObjectMeta<BlockDevice>>,
    pools: Store<PartialObjectMeta<StoragePool>>,
    enactments: Store<PartialObjectMeta<NodeNetworkEnactment>>,
    requests: Store<CertificateSigningRequest>,
}

/// Follows every object of a kind; of a [`PartialObjectMeta`] only names and labels are asked for.
fn follow<K>(client: &Client) -> (Store<K>, Changes)
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + Sync + 'static,
{
    let (store, writer) = reflector::store();
    let events = watcher(Api::<K>::all(client.clone()), watcher::Config::default());
    (store, changes(reflector(writer, events).default_backoff().touched_objects()))
}

fn changes<K: 'static>(events: impl Stream<Item = Result<K, watcher::Error>> + Send + 'static) -> Changes {
    let change = |event: Result<K, watcher::Error>| {
        let seen = event.map_err(|error| tracing::warn!("watching what nodes report: {error}"));
        ready(seen.ok().map(drop))
    };
    events.filter_map(change).boxed()
}

/// Runs until dropped.
pub async fn run(client: Client) {
    let (nodes, of_nodes) = follow(&client);
    let (disks, of_disks) = follow(&client);
    let (pools, of_pools) = follow(&client);
    let (enactments, of_enactments) = follow(&client);
    let (requests, of_requests) = follow(&client);
    let seen = Seen { nodes, disks, pools, enactments, requests };
    let mut changes = select_all([of_nodes, of_disks, of_pools, of_enactments, of_requests]);
    loop {
        // A change, or that it is time.
        let _ = tokio::time::timeout(INTERVAL, changes.next()).await;
        let together = tokio::time::sleep(TOGETHER);
        tokio::pin!(together);
        loop {
            tokio::select! {
                () = &mut together => break,
                Some(()) = changes.next() => {}
            }
        }
        if seen.nodes.state().is_empty() {
            continue; // the first list is not complete yet
        }
        if let Err(error) = pass(&client, &seen).await {
            tracing::warn!(
                "addresses, limits and taints of nodes: {error}; trying again within {} s",
                INTERVAL.as_secs()
            );
        }
    }
}

/// How many objects each node has made.
fn counts(seen: &Seen) -> Counts {
    let mut counts = Counts::default();
    let mut add = |made: Made, name: String| {
        if let Some(node) = made.node_of(&name) {
            counts.add(node, made);
        }
    };
    seen.disks.state().iter().for_each(|object| add(Made::BlockDevice, object.name_any()));
    seen.pools.state().iter().for_each(|object| add(Made::StoragePool, object.name_any()));
    seen.enactments.state().iter().for_each(|object| add(Made::Enactment, object.name_any()));
    for request in seen.requests.state() {
        if let Requester::Node(node) = requester(&request) {
            counts.add(node, Made::CertificateRequest);
        }
    }
    counts
}

/// Writes the data of one of the controller's ConfigMaps if it differs from `before`.
async fn write(
    maps: &Api<ConfigMap>,
    name: &str,
    before: Option<&BTreeMap<String, String>>,
    data: &BTreeMap<String, String>,
) -> Result<(), kube::Error> {
    if before == Some(data) {
        return Ok(());
    }
    let map = json!({
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": name, "namespace": SYSTEM_NAMESPACE}, "data": data,
    });
    let how = PatchParams::apply(CONTROLLER_MANAGER).force();
    maps.patch(name, &how, &Patch::Apply(&map)).await.map(drop)
}

/// Brings everything up to date.
async fn pass(client: &Client, seen: &Seen) -> Result<(), kube::Error> {
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), SYSTEM_NAMESPACE);
    let data = async |name: &str| -> Result<Option<BTreeMap<String, String>>, kube::Error> {
        Ok(maps.get_opt(name).await?.map(|map| map.data.unwrap_or_default()))
    };
    let nodes = seen.nodes.state();
    let all: Vec<&Node> = nodes.iter().map(AsRef::as_ref).collect();
    let plane = ControlPlane::read(&data(CONTROL_PLANE_MAP).await?.unwrap_or_default());
    let before = data(ADDRESSES_MAP).await?;
    let owners = addresses::owners(&all, &before.as_ref().map(addresses::read).unwrap_or_default(), &plane);
    write(&maps, ADDRESSES_MAP, before.as_ref(), &addresses::data(&owners, &plane)).await?;
    let before = data(LIMITS_MAP).await?;
    let reached = counts(seen).record();
    if !reached.is_empty() && before.as_ref() != Some(&reached) {
        tracing::warn!(?reached, "nodes at their limit of objects cannot create more");
    }
    write(&maps, LIMITS_MAP, before.as_ref(), &reached).await?;
    let workers = taints::has_workers(all.iter().copied());
    for node in all.into_iter().filter(|node| addresses::is_control_plane(node)) {
        let holds_volumes = workers && has_volumes(client, &node.name_any()).await?;
        if let Some(patch) = taints::plan(node, workers, holds_volumes) {
            let nodes: Api<Node> = Api::all(client.clone());
            match nodes.patch(&node.name_any(), &PatchParams::default(), &Patch::Merge(&patch)).await {
                Ok(_) => tracing::info!(
                    "taints of control-plane node {}: {}",
                    node.name_any(),
                    patch["spec"]["taints"]
                ),
                // Changed meanwhile: the change brings it back here.
                Err(kube::Error::Api(status)) if status.code == 404 || status.code == 409 => {}
                Err(error) => return Err(error),
            }
        }
    }
    Ok(())
}

/// Whether any volume lies on `node`.
async fn has_volumes(client: &Client, node: &str) -> Result<bool, kube::Error> {
    let volumes: Api<LocalVolume> = Api::all(client.clone());
    let one = ListParams::default().fields(&format!("spec.nodeName={node}")).limit(1);
    Ok(!volumes.list(&one).await?.items.is_empty())
}
