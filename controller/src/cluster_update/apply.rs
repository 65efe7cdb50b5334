//! Does what was decided: one arm for each action.
//!
//! Why here: each request states what it rests on (a UID, a generation, the fields as they were read), so that what changed in
//! between is an error and is looked at again. Route in: an [`Action`]. Route out: requests to the API server, and an Event.

use k8s_openapi::api::core::v1::Node;
use kube::{
    Api, ResourceExt as _,
    api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions},
};
use serde_json::{Value, json};
use sheaf_api::{
    cluster_update::ClusterUpdate,
    names::{CLUSTER_UPDATE_FINALIZER, CORDONED_BY_ANNOTATION},
    node_update::NodeUpdate,
};

use super::plan::Action;
use crate::{
    events::Event,
    object::{Context, RequestError, add_finalizer, doing, ok_if_gone, remove_finalizer},
};

/// Where the annotation is, as a JSON pointer.
const ANNOTATION: &str = "/metadata/annotations/sheaf.dev~1cordoned-by";

/// Does `action` for `update`.
pub async fn apply(context: &Context, update: &ClusterUpdate, action: &Action) -> Result<(), RequestError> {
    let updates: Api<ClusterUpdate> = Api::all(context.client.clone());
    let requests: Api<NodeUpdate> = Api::all(context.client.clone());
    let nodes: Api<Node> = Api::all(context.client.clone());
    let how = PatchParams::default();
    let version = &update.spec.version;
    let event = match action {
        Action::AddFinalizer => return add_finalizer(&updates, update, CLUSTER_UPDATE_FINALIZER).await,
        Action::RemoveFinalizer => return remove_finalizer(&updates, update, CLUSTER_UPDATE_FINALIZER).await,
        Action::Cordon(node) => {
            let patch = cordon(node, &update.name_any());
            let done = nodes.patch(&node.name_any(), &how, &Patch::<()>::Json(composed(patch)?)).await;
            done.map_err(doing("cordoning a node"))?;
            Event::normal("Cordoned", format!("cordoned {}", node.name_any()))
        }
        Action::Uncordon(node) => {
            let patch = uncordon(node);
            let done = nodes.patch(&node.name_any(), &how, &Patch::<()>::Json(composed(patch)?)).await;
            match done {
                Err(kube::Error::Api(status)) if status.code == 404 => {}
                other => drop(other.map_err(doing("uncordoning a node"))?),
            }
            Event::normal("Uncordoned", format!("uncordoned {}", node.name_any()))
        }
        Action::Create(request) => {
            let done = requests.create(&PostParams::default(), request).await;
            done.map_err(doing("creating a NodeUpdate"))?;
            Event::normal("NodeBegun", format!("created NodeUpdate {} for {version}", request.name_any()))
        }
        Action::Change { before, after } => {
            let patch = change(before, after);
            let name = before.name_any();
            let done = requests.patch(&name, &how, &Patch::<()>::Json(composed(patch)?)).await;
            done.map_err(doing("changing a NodeUpdate"))?;
            Event::normal("NodeBegun", format!("changed NodeUpdate {name}, which now asks for {version}"))
        }
        Action::Hold(request) => {
            let name = request.name_any();
            let patch = composed(hold(request))?;
            let done = requests.patch(&name, &how, &Patch::<()>::Json(patch)).await;
            done.map_err(doing("holding a NodeUpdate"))?;
            Event::normal("NodeHeld", format!("NodeUpdate {name} asks for no restart any more"))
        }
        Action::Delete(request) => {
            let only = Preconditions {
                uid: request.metadata.uid.clone(),
                resource_version: request.metadata.resource_version.clone(),
            };
            let name = request.name_any();
            let done = requests.delete(&name, &DeleteParams::default().preconditions(only)).await;
            ok_if_gone(done).map_err(doing("deleting a NodeUpdate"))?;
            Event::normal(
                "NodeUpdateDeleted",
                format!("deleted NodeUpdate {name}: the node does not restart"),
            )
        }
    };
    context.events.record(update, &event).await;
    Ok(())
}

fn composed(patch: Value) -> Result<json_patch::Patch, RequestError> {
    serde_json::from_value(patch).map_err(kube::Error::SerdeError).map_err(doing("composing a patch"))
}

/// `add` replaces what is there. Null is what the API server tests a missing field for.
fn cordon(node: &Node, by: &str) -> Value {
    let annotations = node.metadata.annotations.as_ref().filter(|annotations| !annotations.is_empty());
    let unschedulable = node.spec.as_ref().and_then(|spec| spec.unschedulable);
    let mark = match annotations {
        Some(annotations) => json!([
            {"op": "test", "path": ANNOTATION, "value": annotations.get(CORDONED_BY_ANNOTATION)},
            {"op": "add", "path": ANNOTATION, "value": by},
        ]),
        None => json!([
            {"op": "test", "path": "/metadata/annotations", "value": null},
            {"op": "add", "path": "/metadata/annotations", "value": {CORDONED_BY_ANNOTATION: by}},
        ]),
    };
    joined(
        json!([
            {"op": "test", "path": "/metadata/uid", "value": node.metadata.uid},
            {"op": "test", "path": "/spec/unschedulable", "value": unschedulable},
            {"op": "add", "path": "/spec/unschedulable", "value": true},
        ]),
        mark,
    )
}

/// A node that somebody uncordoned meanwhile loses the annotation only.
fn uncordon(node: &Node) -> Value {
    let unschedulable = node.spec.as_ref().and_then(|spec| spec.unschedulable);
    let removes = match unschedulable {
        Some(_) => json!([{"op": "remove", "path": "/spec/unschedulable"}]),
        None => json!([]),
    };
    joined(
        json!([
            {"op": "test", "path": "/metadata/uid", "value": node.metadata.uid},
            {"op": "test", "path": ANNOTATION, "value": node.annotations().get(CORDONED_BY_ANNOTATION)},
            {"op": "remove", "path": ANNOTATION},
            {"op": "test", "path": "/spec/unschedulable", "value": unschedulable},
        ]),
        removes,
    )
}

/// Its status may change meanwhile, its spec not.
fn unchanged(request: &NodeUpdate) -> Value {
    json!([
        {"op": "test", "path": "/metadata/uid", "value": request.metadata.uid},
        {"op": "test", "path": "/metadata/generation", "value": request.metadata.generation},
    ])
}

fn change(before: &NodeUpdate, after: &NodeUpdate) -> Value {
    let owners = before.metadata.owner_references.as_ref().filter(|owners| !owners.is_empty());
    joined(
        unchanged(before),
        json!([
            {"op": "test", "path": "/metadata/ownerReferences", "value": owners},
            {"op": "add", "path": "/metadata/ownerReferences", "value": after.metadata.owner_references},
            {"op": "replace", "path": "/spec", "value": after.spec},
        ]),
    )
}

fn hold(request: &NodeUpdate) -> Value {
    joined(unchanged(request), json!([{"op": "add", "path": "/spec/action", "value": "Check"}]))
}

fn joined(first: Value, then: Value) -> Value {
    let list = |value: Value| match value {
        Value::Array(list) => list,
        other => vec![other],
    };
    Value::Array([list(first), list(then)].concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(more: Value) -> Node {
        serde_json::from_value(more).unwrap()
    }

    /// The Node after the patch; RFC 6902 has no test for a field that is missing, so those are left out.
    fn patched(node: &Node, patch: Value) -> Result<Value, json_patch::PatchError> {
        let mut value = serde_json::to_value(node).unwrap();
        let steps: Vec<Value> = patch.as_array().unwrap().clone();
        let is_kept = |step: &Value| step["op"] != "test" || !step["value"].is_null();
        let steps: Vec<Value> = steps.into_iter().filter(is_kept).collect();
        json_patch::patch(&mut value, &composed(Value::Array(steps)).unwrap())?;
        Ok(value)
    }

    #[test]
    fn a_node_is_cordoned_and_uncordoned_and_everything_else_stays() {
        for annotations in [json!(null), json!({}), json!({"a": "b"})] {
            let before = node(json!({
                "metadata": {"name": "n1", "uid": "u", "annotations": annotations}, "spec": {"podCIDR": "10.0.0.0/24"},
            }));
            let after = patched(&before, cordon(&before, "fall")).unwrap();
            assert_eq!(after["spec"], json!({"podCIDR": "10.0.0.0/24", "unschedulable": true}));
            assert_eq!(after["metadata"]["annotations"][CORDONED_BY_ANNOTATION], "fall");
            let held = node(after);
            let after = patched(&held, uncordon(&held)).unwrap();
            assert_eq!(after["spec"], json!({"podCIDR": "10.0.0.0/24"}));
            let left = after["metadata"]["annotations"].as_object().unwrap();
            assert_eq!(left.len(), annotations.as_object().map_or(0, |all| all.len()));
        }
    }

    #[test]
    fn a_node_that_changed_since_it_was_read_is_not_written() {
        let read = node(json!({"metadata": {"name": "n1", "uid": "u",
            "annotations": {CORDONED_BY_ANNOTATION: "fall"}}, "spec": {"unschedulable": true}}));
        for (what, now) in [
            (
                "another node of its name",
                json!({"metadata": {"name": "n1", "uid": "v",
                "annotations": {CORDONED_BY_ANNOTATION: "fall"}}, "spec": {"unschedulable": true}}),
            ),
            (
                "held by another",
                json!({"metadata": {"name": "n1", "uid": "u",
                "annotations": {CORDONED_BY_ANNOTATION: "spring"}}, "spec": {"unschedulable": true}}),
            ),
            (
                "uncordoned",
                json!({"metadata": {"name": "n1", "uid": "u",
                "annotations": {CORDONED_BY_ANNOTATION: "fall"}}, "spec": {"unschedulable": false}}),
            ),
        ] {
            assert!(patched(&node(now), uncordon(&read)).is_err(), "{what}");
        }
    }

    #[test]
    fn a_changed_node_update_has_the_new_spec_and_the_new_owner_only() {
        let read = |value: Value| serde_json::from_value::<NodeUpdate>(value).unwrap();
        let before = read(json!({
            "apiVersion": "sheaf.dev/v1alpha1", "kind": "NodeUpdate",
            "metadata": {"name": "n1", "uid": "u", "generation": 3, "labels": {"a": "b"}},
            "spec": {"nodeName": "n1", "version": "0.1.0", "source": {"url": "https://a.example"}},
        }));
        let mut after = before.clone();
        after.spec.version = "0.2.0".into();
        after.spec.source = None;
        after.metadata.owner_references = serde_json::from_value(
            json!([{"apiVersion": "sheaf.dev/v1alpha1", "kind": "ClusterUpdate", "name": "fall", "uid": "c"}]),
        )
        .unwrap();
        let mut value = serde_json::to_value(&before).unwrap();
        let steps: Vec<Value> = change(&before, &after).as_array().unwrap().clone();
        let steps = steps.into_iter().filter(|step| step["op"] != "test").collect();
        json_patch::patch(&mut value, &composed(Value::Array(steps)).unwrap()).unwrap();
        let now = read(value);
        assert_eq!((now.spec, now.metadata.labels), (after.spec.clone(), before.metadata.labels.clone()));
        assert_eq!(now.metadata.owner_references, after.metadata.owner_references);
        let tests: Vec<_> = change(&before, &after).as_array().unwrap()[..2].to_vec();
        assert_eq!(tests[1], json!({"op": "test", "path": "/metadata/generation", "value": 3}));
        assert_eq!(hold(&before)[2], json!({"op": "add", "path": "/spec/action", "value": "Check"}));
    }
}
