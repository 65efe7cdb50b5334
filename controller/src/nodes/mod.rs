//! Controller of what nodes may not decide about themselves: whose an address is, and the taint of control-plane nodes.
//!
//! Reads: Nodes, LocalVolumes of control-plane nodes, the ConfigMap `control-plane`. Owns: the ConfigMap
//! `node-addresses`, the taint `node-role.kubernetes.io/control-plane`. Never touches: anything else of a Node. Route in: a
//! watch of Nodes, and time. Route out: [`addresses`] and [`taints`], written when they differ.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use futures::StreamExt;
use k8s_openapi::api::core::v1::{ConfigMap, Node};
use kube::{
    Api, Client, ResourceExt,
    api::{ListParams, Patch, PatchParams},
    runtime::{WatchStreamExt, reflector, watcher},
};
use serde_json::json;
use sheaf_api::{
    names::{ADDRESSES_MAP, CONTROL_PLANE_MAP, CONTROLLER_MANAGER, SYSTEM_NAMESPACE},
    storage::LocalVolume,
};

use addresses::ControlPlane;

pub mod addresses;
pub mod taints;

/// Changes of Nodes within this time are answered together: a thousand nodes report several times a second.
const TOGETHER: Duration = Duration::from_millis(500);
/// Without a change: for volumes that went, ConfigMaps that somebody deleted, and failed writes.
const INTERVAL: Duration = Duration::from_secs(30);

/// Runs until dropped.
pub async fn run(client: Client) {
    let (store, writer) = reflector::store();
    let nodes = watcher(Api::<Node>::all(client.clone()), watcher::Config::default());
    let mut changes = reflector(writer, nodes).default_backoff().touched_objects().boxed();
    loop {
        let next = tokio::time::timeout(INTERVAL, changes.next()).await;
        if let Ok(Some(Err(error))) = &next {
            tracing::warn!("watching Nodes: {error}");
        }
        let together = tokio::time::sleep(TOGETHER);
        tokio::pin!(together);
        loop {
            tokio::select! {
                () = &mut together => break,
                Some(_) = changes.next() => {}
            }
        }
        let nodes = store.state();
        if nodes.is_empty() {
            continue; // the first list is not complete yet
        }
        if let Err(error) = pass(&client, &nodes).await {
            tracing::warn!(
                "addresses and taints of nodes: {error}; trying again within {} s",
                INTERVAL.as_secs()
            );
        }
    }
}

/// Brings both up to date.
async fn pass(client: &Client, nodes: &[Arc<Node>]) -> Result<(), kube::Error> {
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), SYSTEM_NAMESPACE);
    let plane = maps.get_opt(CONTROL_PLANE_MAP).await?.and_then(|map| map.data).unwrap_or_default();
    let plane = ControlPlane::read(&plane);
    let before = maps.get_opt(ADDRESSES_MAP).await?;
    let data: BTreeMap<String, String> = before.as_ref().and_then(|map| map.data.clone()).unwrap_or_default();
    let all: Vec<&Node> = nodes.iter().map(AsRef::as_ref).collect();
    let owners = addresses::owners(&all, &addresses::read(&data), &plane);
    let wanted = addresses::data(&owners, &plane);
    if before.is_none() || wanted != data {
        let map = json!({
            "apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {"name": ADDRESSES_MAP, "namespace": SYSTEM_NAMESPACE}, "data": wanted,
        });
        let how = PatchParams::apply(CONTROLLER_MANAGER).force();
        maps.patch(ADDRESSES_MAP, &how, &Patch::Apply(&map)).await?;
    }
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
