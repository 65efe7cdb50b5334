//! VirtualMachineInstance controller: one placeholder Pod for each instance, and its status from that Pod.
//!
//! Reads: instances and their Pods. Owns: placeholder Pods, the instance's status, finalizer and node label.
//! Never touches: Pod status (the node's agent writes it), nodes. Route: observe → [`plan`](plan::plan) → writes.

pub mod conditions;
pub mod defaults;
pub mod plan;
pub mod pod;

use crate::{Error, finalizers, is_status, vm};
use futures::StreamExt;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::jiff::Timestamp;
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams, Preconditions};
use kube::runtime::controller::Action as Next;
use kube::runtime::{Controller, watcher};
use kube::{Client, ResourceExt};
use plan::{Action, plan};
use serde_json::{Value, json};
use sheaf_api::VirtualMachineInstance;
use sheaf_api::names::{APP_LABEL, CREATED_BY_LABEL, LAUNCHER, NODE_NAME_LABEL, VMI_FINALIZER};
use std::sync::Arc;

/// Follows instances for ever.
pub async fn run(client: Client) {
    let instances: Api<VirtualMachineInstance> = Api::all(client.clone());
    let pods: Api<Pod> = Api::all(client.clone());
    let ours = watcher::Config::default().labels(&format!("{APP_LABEL}={LAUNCHER}"));
    Controller::new(instances, watcher::Config::default())
        .owns(pods, ours)
        .run(
            reconcile,
            |instance, error, _| {
                tracing::warn!("VirtualMachineInstance {}: {}", instance.name_any(), vm::describe(error));
                Next::requeue(crate::RETRY)
            },
            Arc::new(client),
        )
        .for_each(|_| async {})
        .await;
}

async fn reconcile(instance: Arc<VirtualMachineInstance>, client: Arc<Client>) -> Result<Next, Error> {
    let (namespace, name) = (instance.namespace().unwrap_or_default(), instance.name_any());
    let instances: Api<VirtualMachineInstance> = Api::namespaced(client.as_ref().clone(), &namespace);
    let api: Api<Pod> = Api::namespaced(client.as_ref().clone(), &namespace);
    // Fresh, not from a cache: a Pod that is not seen here would be made again.
    let read = instances.get_opt(&name).await.map_err(Error::api("read a VirtualMachineInstance"))?;
    let Some(instance) = read else { return Ok(Next::await_change()) };
    let uid = instance.uid().unwrap_or_default();
    let of_it = ListParams::default().labels(&format!("{CREATED_BY_LABEL}={uid}"));
    let pods = api.list(&of_it).await.map_err(Error::api("list Pods"))?.items;
    let decision = plan(&instance, &pods, Timestamp::now());
    if instance.status.as_ref() != Some(&decision.status) {
        let patch = Patch::Merge(json!({"status": full(&decision.status)}));
        let written = instances.patch_status(&name, &PatchParams::default(), &patch).await;
        written.map_err(Error::api("write a VirtualMachineInstance's status"))?;
    }
    let node = decision.status.node_name.as_ref();
    if node.is_some() && instance.labels().get(NODE_NAME_LABEL) != node {
        let patch = Patch::Merge(json!({"metadata": {"labels": {NODE_NAME_LABEL: node}}}));
        let written = instances.patch(&name, &PatchParams::default(), &patch).await;
        written.map_err(Error::api("label a VirtualMachineInstance"))?;
    }
    for action in decision.actions {
        tracing::info!("VirtualMachineInstance {namespace}/{name}: {action}");
        match action {
            Action::Hold(wanted) => {
                if let Some(all) = finalizers(&instance.metadata, VMI_FINALIZER, wanted) {
                    let patch = Patch::Merge(json!({"metadata": {"finalizers": all, "uid": uid}}));
                    let written = instances.patch(&name, &PatchParams::default(), &patch).await;
                    written.map_err(Error::api("write a VirtualMachineInstance's finalizers"))?;
                }
            }
            Action::Create(pod) => match api.create(&PostParams::default(), &pod).await {
                Err(error) if is_status(&error, 409) => {}
                result => drop(result.map_err(Error::api("create the Pod of a VirtualMachineInstance"))?),
            },
            Action::Delete(pod, uid) => {
                let only_this = Preconditions { uid: Some(uid), resource_version: None };
                let parameters = DeleteParams { preconditions: Some(only_this), ..DeleteParams::default() };
                match api.delete(&pod, &parameters).await {
                    Err(error) if is_status(&error, 404) || is_status(&error, 409) => {}
                    result => drop(result.map_err(Error::api("delete the Pod of a VirtualMachineInstance"))?),
                }
            }
        }
    }
    Ok(Next::await_change())
}

/// A status for a merge patch: what is not there any more must be said to be null.
fn full(status: &sheaf_api::status::VirtualMachineInstanceStatus) -> Value {
    let mut value = json!({
        "phase": null, "reason": null, "nodeName": null, "conditions": null, "phaseTransitionTimestamps": null,
        "interfaces": null, "activePods": null,
    });
    if let (Some(value), Ok(Value::Object(set))) = (value.as_object_mut(), serde_json::to_value(status)) {
        value.extend(set);
    }
    value
}
