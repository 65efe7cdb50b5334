//! The taint of control-plane nodes: once other nodes run VMs, tenants' VMs shall not share memory and disk with etcd.
//!
//! Why here: how many nodes a cluster has, no single node knows. Pure. Route in: Nodes, whether a node holds volumes.
//! Route out: the taints that a node shall have, when they are to change.
//!
//! NoSchedule when there is another node for VMs; PreferNoSchedule as long as volumes lie on the control-plane node,
//! because their VMs can run nowhere else; none while it is the only one. A taint of this key that somebody else set
//! (`cluster.taints` of node.toml, kubectl) stays as it is, and so does a node whose annotation
//! [`CONTROL_PLANE_TAINT_ANNOTATION`] says `off`.

use k8s_openapi::api::core::v1::{Node, Taint};
use kube::ResourceExt;
use serde_json::{Value, json};
use sheaf_api::names::{CONTROL_PLANE_ROLE_LABEL, CONTROL_PLANE_TAINT_ANNOTATION, TRUE, VM_NODE_LABEL};

use super::addresses::is_control_plane;

/// The annotation's value while the taint is the controller's.
const MANAGED: &str = "managed";
/// The annotation's value where an administrator wants no such taint.
const OFF: &str = "off";

/// Whether the cluster has a node for VMs that is not of the control plane.
pub fn has_workers<'a>(nodes: impl IntoIterator<Item = &'a Node>) -> bool {
    nodes.into_iter().any(|node| {
        let runs_vms = node.labels().get(VM_NODE_LABEL).is_some_and(|value| value == TRUE);
        runs_vms && !is_control_plane(node) && node.metadata.deletion_timestamp.is_none()
    })
}

/// The patch that brings the taint of `node` up to date, if it is not.
pub fn plan(node: &Node, workers: bool, holds_volumes: bool) -> Option<Value> {
    if !is_control_plane(node) {
        return None;
    }
    let note = node.annotations().get(CONTROL_PLANE_TAINT_ANNOTATION).map(String::as_str);
    let taints = node.spec.as_ref().and_then(|spec| spec.taints.clone()).unwrap_or_default();
    let (ours, others): (Vec<Taint>, Vec<Taint>) =
        taints.into_iter().partition(|taint| taint.key == CONTROL_PLANE_ROLE_LABEL);
    let managed = note == Some(MANAGED);
    if note == Some(OFF) || (!managed && !ours.is_empty()) {
        return None;
    }
    let effect = match (workers, holds_volumes) {
        (false, _) => None,
        (true, true) => Some("PreferNoSchedule"),
        (true, false) => Some("NoSchedule"),
    };
    let is: Vec<&str> = ours.iter().map(|taint| taint.effect.as_str()).collect();
    if is == Vec::from_iter(effect) && managed == effect.is_some() {
        return None;
    }
    let mut wanted = others;
    wanted.extend(effect.map(|effect| Taint {
        key: CONTROL_PLANE_ROLE_LABEL.into(),
        effect: effect.into(),
        ..Taint::default()
    }));
    Some(json!({
        "metadata": {
            "resourceVersion": node.metadata.resource_version,
            "annotations": {CONTROL_PLANE_TAINT_ANNOTATION: effect.map(|_| MANAGED)},
        },
        "spec": {"taints": wanted},
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(role: bool, note: Option<&str>, effects: &[&str]) -> Node {
        let mut labels = json!({VM_NODE_LABEL: TRUE});
        if role {
            labels[CONTROL_PLANE_ROLE_LABEL] = json!("");
        }
        let mut taints = vec![json!({"key": "sheaf.dev/vm-only", "effect": "NoSchedule"})];
        taints
            .extend(effects.iter().map(|effect| json!({"key": CONTROL_PLANE_ROLE_LABEL, "effect": effect})));
        let annotations = note.map(|note| json!({CONTROL_PLANE_TAINT_ANNOTATION: note}));
        serde_json::from_value(
            json!({"metadata": {"name": "n", "labels": labels, "annotations": annotations}, "spec": {"taints": taints}}),
        )
        .unwrap()
    }

    /// Effects of the taint after the patch.
    fn after(patch: &Value) -> Vec<&str> {
        let taints = patch["spec"]["taints"].as_array().unwrap();
        assert_eq!(taints[0]["key"], "sheaf.dev/vm-only", "other taints stay");
        taints[1..].iter().map(|taint| taint["effect"].as_str().unwrap()).collect()
    }

    #[test]
    fn the_only_node_runs_vms_and_with_a_second_one_no_more() {
        assert_eq!(plan(&node(true, None, &[]), false, false), None);
        let patch = plan(&node(true, None, &[]), true, false).unwrap();
        assert_eq!(after(&patch), ["NoSchedule"]);
        assert_eq!(patch["metadata"]["annotations"][CONTROL_PLANE_TAINT_ANNOTATION], MANAGED);
        assert_eq!(plan(&node(true, Some(MANAGED), &["NoSchedule"]), true, false), None);
        let patch = plan(&node(true, Some(MANAGED), &["NoSchedule"]), false, false).unwrap();
        assert_eq!(after(&patch), [""; 0]);
        assert_eq!(patch["metadata"]["annotations"][CONTROL_PLANE_TAINT_ANNOTATION], Value::Null);
        assert_eq!(plan(&node(false, None, &[]), true, false), None, "it is not a control-plane node");
    }

    #[test]
    fn while_volumes_lie_there_their_vms_can_still_start() {
        assert_eq!(after(&plan(&node(true, None, &[]), true, true).unwrap()), ["PreferNoSchedule"]);
        let later = plan(&node(true, Some(MANAGED), &["PreferNoSchedule"]), true, false).unwrap();
        assert_eq!(after(&later), ["NoSchedule"]);
    }

    #[test]
    fn what_node_toml_or_an_administrator_set_stays() {
        for effect in ["NoSchedule", "PreferNoSchedule", "NoExecute"] {
            assert_eq!(plan(&node(true, None, &[effect]), true, false), None);
            assert_eq!(plan(&node(true, None, &[effect]), false, false), None);
        }
        assert_eq!(plan(&node(true, Some(OFF), &[]), true, false), None);
    }

    #[test]
    fn a_cluster_has_workers_when_a_node_for_vms_is_not_of_the_control_plane() {
        assert!(!has_workers([&node(true, None, &[])]));
        assert!(has_workers([&node(true, None, &[]), &node(false, None, &[])]));
    }
}
