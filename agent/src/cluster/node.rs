//! This node's Node and Lease objects.
//!
//! Why here: the only writer of both. Route in: what they shall say. Route out: the objects in the cluster. The Node
//! is never deleted: that would end every VM on it.

use super::failure::{Failure, Remedy};
use super::is_status;
use super::machine::Machine;
use super::node_status;
use anyhow::{Context as _, anyhow};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Node, NodeStatus};
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use kube::ResourceExt as _;
use kube::api::{Api, Patch, PatchParams, PostParams};
use serde_json::{Value, json};
use sheaf_api::names;
use sheaf_config::node::Taint;
use std::collections::BTreeMap;

/// A lease not renewed for this long makes the node unreachable in Kubernetes' eyes, in seconds.
const LEASE_SECONDS: i32 = 40;

/// What `kubectl get nodes` shows as a role.
const CONTROL_PLANE_ROLE: &str = "node-role.kubernetes.io/control-plane";

/// Refuses when another machine holds the name and is alive.
pub async fn claimable(client: &kube::Client, name: &str, machine: &Machine) -> Result<(), Failure> {
    let step = "checking that the name is free";
    let nodes: Api<Node> = Api::all(client.clone());
    match nodes.get_opt(name).await {
        Ok(Some(node)) => unclaimed(&node, machine).remedy(
            step,
            "give this machine another `system.hostname`; if it replaces that one, switch that one off and wait a minute",
        ),
        Ok(None) => Ok(()),
        // A cluster not prepared by kubeadm need not let tokens read Nodes; it is checked again once we may.
        Err(error) if is_status(&error, 403) => Ok(()),
        Err(error) if is_status(&error, 401) => Err(Failure::new(
            step,
            error,
            "the cluster refuses the token: it may have expired; make one with `sheaf-agent token create`",
        )),
        Err(error) => Err(Failure::new(step, error, "the API server must stay reachable while joining; it is tried again")),
    }
}

fn unclaimed(node: &Node, machine: &Machine) -> anyhow::Result<()> {
    let status = node.status.as_ref();
    let other = status
        .and_then(|status| status.node_info.as_ref())
        .map(|info| info.machine_id.as_str())
        .unwrap_or_default();
    let conditions = status.and_then(|status| status.conditions.as_ref());
    let alive = conditions
        .into_iter()
        .flatten()
        .any(|condition| condition.type_ == "Ready" && condition.status == "True");
    if alive && !other.is_empty() && other != machine.machine_id {
        return Err(anyhow!("another machine (machine-id {other}) is node {} and alive", node.name_any()));
    }
    Ok(())
}

/// Makes the Node, or brings labels of an existing one up to date. Taints may only be set when it is made.
pub async fn register(
    client: &kube::Client,
    name: &str,
    labels: &BTreeMap<String, String>,
    taints: &[Taint],
    status: &NodeStatus,
) -> anyhow::Result<Node> {
    let nodes: Api<Node> = Api::all(client.clone());
    if let Some(node) = nodes.get_opt(name).await.context("the Node cannot be read")? {
        return relabel(client, node, labels).await;
    }
    let node: Node = serde_json::from_value(json!({
        "apiVersion": "v1", "kind": "Node",
        "metadata": {"name": name, "labels": labels},
        "spec": {"taints": all_taints(taints)},
        "status": serde_json::to_value(status)?,
    }))?;
    match nodes.create(&PostParams::default(), &node).await {
        Ok(node) => Ok(node),
        Err(error) if is_status(&error, 409) => Ok(nodes.get(name).await?),
        Err(error) => Err(anyhow!(error).context("the Node cannot be created")),
    }
}

/// The one that keeps Pods of containers away, and those of node.toml.
fn all_taints(configured: &[Taint]) -> Value {
    let ours = json!({"key": names::VM_ONLY_TAINT, "value": "", "effect": "NoSchedule"});
    let theirs = configured
        .iter()
        .filter(|taint| taint.key != names::VM_ONLY_TAINT)
        .map(|taint| json!({"key": taint.key, "value": taint.value, "effect": taint.effect.name()}));
    std::iter::once(ours).chain(theirs).collect()
}

/// Says of a control-plane node that it is one, as kubeadm does; with `admin`, since no node may say so of itself.
pub async fn give_role(admin: &kube::Client, node: &Node) -> anyhow::Result<()> {
    if node.metadata.labels.as_ref().is_some_and(|labels| labels.contains_key(CONTROL_PLANE_ROLE)) {
        return Ok(());
    }
    let nodes: Api<Node> = Api::all(admin.clone());
    let patch = json!({"metadata": {"labels": {CONTROL_PLANE_ROLE: ""}}});
    nodes.patch(&node.name_any(), &PatchParams::default(), &Patch::Merge(&patch)).await?;
    Ok(())
}

/// Brings labels up to date; returns the Node as it then is.
pub async fn relabel(
    client: &kube::Client,
    node: Node,
    labels: &BTreeMap<String, String>,
) -> anyhow::Result<Node> {
    let before = node.metadata.labels.clone().unwrap_or_default();
    let mut change: BTreeMap<&str, Value> = BTreeMap::new();
    for (key, value) in labels {
        if before.get(key) != Some(value) {
            change.insert(key, json!(value));
        }
    }
    for key in before.keys().filter(|key| node_status::owned(key) && !labels.contains_key(*key)) {
        change.insert(key, Value::Null);
    }
    if change.is_empty() {
        return Ok(node);
    }
    let nodes: Api<Node> = Api::all(client.clone());
    let patch = json!({"metadata": {"labels": change}});
    let patched = nodes.patch(&node.name_any(), &PatchParams::default(), &Patch::Merge(&patch)).await;
    patched.context("the Node's labels cannot be set; `cluster.labels` of node.toml may hold one that nodes may not give themselves")
}

/// How often a status is posted that others overtake: as often as kubelet does.
const POSTS: usize = 5;

/// Posts `status` over what the Node says now; again when somebody else changed the Node in between.
pub async fn post_status(
    client: &kube::Client,
    name: &str,
    status: &NodeStatus,
) -> Result<Node, kube::Error> {
    for _ in 1..POSTS {
        match post_once(client, name, status).await {
            // 403: a taint came or went in between, and the API server takes what was read for a node that changes its taints
            // (NodeRestriction looks before it looks at versions).
            Err(error) if is_status(&error, 409) || is_status(&error, 403) => {}
            answer => return answer,
        }
    }
    post_once(client, name, status).await
}

async fn post_once(client: &kube::Client, name: &str, status: &NodeStatus) -> Result<Node, kube::Error> {
    let nodes: Api<Node> = Api::all(client.clone());
    let mut node = nodes.get(name).await?;
    let now = json!(super::time::rfc3339(std::time::SystemTime::now()));
    let merged =
        node_status::merge(node.status.as_ref().unwrap_or(&NodeStatus::default()), status.clone(), &now);
    node.status = Some(merged.map_err(|error| kube::Error::Service(error.into()))?);
    nodes.replace_status(name, &PostParams::default(), &node).await
}

/// Renews the lease of node `name`, whose Node has this UID; makes it when it is not there.
pub async fn renew_lease(client: &kube::Client, name: &str, uid: &str) -> Result<(), kube::Error> {
    let leases: Api<Lease> = Api::namespaced(client.clone(), "kube-node-lease");
    let before = leases.get_opt(name).await?;
    let last = before.as_ref().and_then(|lease| lease.spec.as_ref()?.renew_time.as_ref()).map(|time| time.0);
    let lease: Result<Lease, _> = serde_json::from_value(json!({
        "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
        "metadata": {
            "name": name, "namespace": "kube-node-lease",
            "resourceVersion": before.as_ref().and_then(|lease| lease.resource_version()),
            "ownerReferences": [{"apiVersion": "v1", "kind": "Node", "name": name, "uid": uid}],
        },
        "spec": {
            "holderIdentity": name, "leaseDurationSeconds": LEASE_SECONDS,
            "renewTime": micros(renewal(Timestamp::now(), last)),
        },
    }));
    let lease = lease.map_err(kube::Error::SerdeError)?;
    if before.is_some() {
        leases.replace(name, &PostParams::default(), &lease).await?;
    } else {
        leases.create(&PostParams::default(), &lease).await?;
    }
    Ok(())
}

/// Kubernetes counts a renewal only when its time increases: after a step back of the clock it continues from the last.
fn renewal(now: Timestamp, last: Option<Timestamp>) -> Timestamp {
    let step = SignedDuration::from_micros(1);
    last.and_then(|last| last.checked_add(step).ok()).map_or(now, |next| next.max(now))
}

fn micros(time: Timestamp) -> String {
    format!("{time:.6}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn renewals_increase_even_when_the_clock_steps_back() {
        let at = |second| Timestamp::from_second(second).unwrap();
        assert_eq!(renewal(at(100), None), at(100));
        assert_eq!(renewal(at(100), Some(at(90))), at(100));
        let forced = renewal(at(100), Some(at(200)));
        assert!(forced > at(200) && forced < at(201));
    }

    #[test]
    fn taints_of_node_toml_stand_beside_the_one_that_keeps_containers_away() {
        let text = "version = 1\nsystem.hostname = \"a\"\n[cluster]\nmode = \"create\"\n\
                    taints = [\"dedicated=db:NoSchedule\", \"slow:PreferNoSchedule\"]\n";
        let config = sheaf_config::load::parse_node_config("node.toml", text).unwrap();
        assert_eq!(
            all_taints(&config.cluster.unwrap().taints),
            json!([
                {"key": names::VM_ONLY_TAINT, "value": "", "effect": "NoSchedule"},
                {"key": "dedicated", "value": "db", "effect": "NoSchedule"},
                {"key": "slow", "value": "", "effect": "PreferNoSchedule"},
            ])
        );
    }

    #[test]
    fn a_name_is_taken_only_by_another_machine_that_is_alive() {
        let node = |ready: &str, machine: &str| -> Node {
            serde_json::from_value(json!({"metadata": {"name": "n1"}, "status": {
                "conditions": [{"type": "Ready", "status": ready}],
                "nodeInfo": {"machineID": machine, "systemUUID": "", "bootID": "", "kernelVersion": "", "osImage": "",
                    "containerRuntimeVersion": "", "kubeletVersion": "", "kubeProxyVersion": "", "operatingSystem": "", "architecture": ""}}}))
            .unwrap()
        };
        let machine = Machine { machine_id: "aa".into(), ..Machine::default() };
        unclaimed(&node("True", "aa"), &machine).unwrap();
        unclaimed(&node("Unknown", "bb"), &machine).unwrap();
        let error = unclaimed(&node("True", "bb"), &machine).unwrap_err().to_string();
        assert_eq!(error, "another machine (machine-id bb) is node n1 and alive");
    }
}
