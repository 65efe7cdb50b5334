//! VirtualMachine controller: keeps the instance that the run strategy wants, reports what became of it.
//!
//! Reads: VirtualMachines and their instances. Owns: instances named as their VM, the VM's status and finalizer.
//! Never touches: Pods, nodes. Route: observe → [`plan`](plan::plan) → one write per action → status.

pub mod plan;

use crate::{Error, finalizers};
use futures::StreamExt;
use k8s_openapi::jiff::Timestamp;
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use kube::runtime::controller::Action as Next;
use kube::runtime::{Controller, watcher};
use kube::{Client, ResourceExt};
use plan::{Action, plan};
use serde_json::json;
use sheaf_api::names::VM_FINALIZER;
use sheaf_api::{VirtualMachine, VirtualMachineInstance};
use std::sync::Arc;
use std::time::Duration;

/// Follows VirtualMachines for ever.
pub async fn run(client: Client) {
    let machines: Api<VirtualMachine> = Api::all(client.clone());
    let instances: Api<VirtualMachineInstance> = Api::all(client.clone());
    Controller::new(machines, watcher::Config::default())
        .owns(instances, watcher::Config::default())
        .run(
            reconcile,
            |machine, error, _| {
                tracing::warn!(
                    "VirtualMachine {}: {:#}",
                    machine.name_any(),
                    anyhow::Error::msg(describe(error))
                );
                Next::requeue(crate::RETRY)
            },
            Arc::new(client),
        )
        .for_each(|_| async {})
        .await;
}

/// An error with its causes in one line.
pub(crate) fn describe(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

async fn reconcile(machine: Arc<VirtualMachine>, client: Arc<Client>) -> Result<Next, Error> {
    let namespace = machine.namespace().unwrap_or_default();
    let name = machine.name_any();
    let machines: Api<VirtualMachine> = Api::namespaced(client.as_ref().clone(), &namespace);
    let instances: Api<VirtualMachineInstance> = Api::namespaced(client.as_ref().clone(), &namespace);
    // Fresh, not from a cache: a stale answer here could start a machine twice.
    let Some(machine) = machines.get_opt(&name).await.map_err(Error::api("read a VirtualMachine"))? else {
        return Ok(Next::await_change());
    };
    let instance = instances.get_opt(&name).await.map_err(Error::api("read a VirtualMachineInstance"))?;
    let decision = plan(&machine, instance.as_ref(), Timestamp::now());
    // Before the actions: what they are decided from (failures counted) must not be lost.
    if machine.status.as_ref() != Some(&decision.status) {
        let patch = Patch::Merge(json!({"status": full(&decision.status)}));
        machines
            .patch_status(&name, &PatchParams::default(), &patch)
            .await
            .map_err(Error::api("write a VirtualMachine's status"))?;
    }
    for action in decision.actions {
        tracing::info!("VirtualMachine {namespace}/{name}: {action}");
        match action {
            Action::Hold(wanted) => {
                if let Some(all) = finalizers(&machine.metadata, VM_FINALIZER, wanted) {
                    let version = machine.resource_version();
                    let patch = json!({"metadata": {"finalizers": all, "resourceVersion": version}});
                    machines
                        .patch(&name, &PatchParams::default(), &Patch::Merge(patch))
                        .await
                        .map_err(Error::api("write a VirtualMachine's finalizers"))?;
                }
            }
            Action::Create(instance) => {
                match instances.create(&PostParams::default(), &instance).await {
                    // Another of this name is there: the next look sees it.
                    Err(error) if crate::is_status(&error, 409) => {}
                    result => drop(result.map_err(Error::api("create a VirtualMachineInstance"))?),
                }
            }
            Action::Delete(uid) => {
                let only_this = Preconditions { uid: Some(uid), resource_version: None };
                let parameters = DeleteParams { preconditions: Some(only_this), ..DeleteParams::default() };
                match instances.delete(&name, &parameters).await {
                    Err(error) if crate::is_status(&error, 404) || crate::is_status(&error, 409) => {}
                    result => drop(result.map_err(Error::api("delete a VirtualMachineInstance"))?),
                }
            }
        }
    }
    Ok(match decision.look_again {
        Some(seconds) => Next::requeue(Duration::from_secs(seconds)),
        None => Next::await_change(),
    })
}

/// A status for a merge patch: what is not there any more must be said to be null.
fn full(status: &sheaf_api::status::VirtualMachineStatus) -> serde_json::Value {
    let mut value = json!({
        "created": false, "ready": false, "printableStatus": null, "conditions": null, "startFailure": null,
        "runStrategy": null, "observedGeneration": null, "desiredGeneration": null,
    });
    if let (Some(value), Ok(serde_json::Value::Object(set))) =
        (value.as_object_mut(), serde_json::to_value(status))
    {
        value.extend(set);
    }
    value
}
