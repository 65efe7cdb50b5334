//! Controller of NodeMaintenances: a node is cordoned and its VMs are stopped, until the object is deleted.
//!
//! Reads: NodeMaintenances, their Nodes, placeholder Pods, the VMs and instances behind them, claims and their volumes,
//! PodDisruptionBudgets (all read from the API server for each decision). Owns: `spec.unschedulable` of these Nodes, status
//! and finalizer of NodeMaintenances. Never touches: Pods other than by the Eviction API, as `kubectl drain`; VMs other than by
//! a request to start. Live migration, once there, is one more way in [`vms`] by which a VM leaves its node. Route in: watches,
//! time. Route out: [`plan`], applied step by step.

use std::sync::Arc;

use k8s_openapi::{
    api::core::v1::{Node, Pod},
    jiff::Timestamp,
};
use kube::{
    Api, Client,
    api::{DeleteParams, EvictParams, Patch, PatchParams, Preconditions},
    runtime::{Controller, controller::Action as Requeue, reflector::ObjectRef, watcher},
};
use serde_json::json;
use sheaf_api::{
    VirtualMachine,
    names::{APP_LABEL, LAUNCHER, MAINTENANCE_FINALIZER},
    node_maintenance::NodeMaintenance,
};

use crate::{
    object::{
        Context, RequestError, add_finalizer, doing, drive, ok_if_gone, remove_finalizer, write_status,
    },
    placeholder::end,
    vm::requests,
};
use plan::Action;

mod observe;
pub mod plan;
pub mod vms;

/// Runs until dropped.
pub async fn run(client: Client) {
    let config = watcher::Config::default;
    let launchers = config().labels(&format!("{APP_LABEL}={LAUNCHER}"));
    // A NodeMaintenance has the name of its node.
    let controller = Controller::new(Api::<NodeMaintenance>::all(client.clone()), config())
        .watches(Api::<Node>::all(client.clone()), config(), |node| {
            node.metadata.name.as_deref().map(ObjectRef::<NodeMaintenance>::new)
        })
        .watches(Api::<Pod>::all(client.clone()), launchers, |pod| {
            end::node_of(&pod).map(ObjectRef::<NodeMaintenance>::new)
        });
    drive(controller, Arc::new(Context::new(client)), "node maintenance", reconcile).await;
}

async fn reconcile(seen: Arc<NodeMaintenance>, context: Arc<Context>) -> Result<Requeue, RequestError> {
    let objects: Api<NodeMaintenance> = Api::all(context.client.clone());
    let name = seen.metadata.name.as_deref().unwrap_or_default();
    let Some(maintenance) = objects.get_opt(name).await.map_err(doing("reading the NodeMaintenance"))? else {
        return Ok(Requeue::await_change());
    };
    let observed = observe::observe(&context.client, maintenance).await?;
    let plan = plan::plan(&observed, Timestamp::now());
    for action in &plan.actions {
        apply(&context, &objects, &observed, action).await?;
    }
    Ok(plan.requeue.map_or_else(Requeue::await_change, Requeue::requeue))
}

async fn apply(
    context: &Context,
    objects: &Api<NodeMaintenance>,
    observed: &plan::Observed,
    action: &Action,
) -> Result<(), RequestError> {
    let maintenance = &observed.maintenance;
    match action {
        Action::AddFinalizer => add_finalizer(objects, maintenance, MAINTENANCE_FINALIZER).await,
        Action::RemoveFinalizer => remove_finalizer(objects, maintenance, MAINTENANCE_FINALIZER).await,
        Action::WriteStatus(status) => {
            write_status(objects, maintenance, maintenance.status.as_ref(), status).await
        }
        Action::Cordon(cordoned) => {
            let Some(node) = &observed.node else { return Ok(()) };
            // If the Node changed since it was read, that is an error, and retried.
            let patch = json!({
                "metadata": {"resourceVersion": node.metadata.resource_version},
                "spec": {"unschedulable": cordoned.then_some(true)},
            });
            let nodes: Api<Node> = Api::all(context.client.clone());
            let name = node.metadata.name.as_deref().unwrap_or_default();
            let patched = nodes.patch(name, &PatchParams::default(), &Patch::Merge(&patch)).await;
            patched.map(drop).map_err(doing("cordoning or uncordoning the Node"))
        }
        Action::Evict { namespace, pod, uid } => {
            let only = Preconditions { uid: Some(uid.clone()), resource_version: None };
            let how = EvictParams {
                delete_options: Some(DeleteParams::default().preconditions(only)),
                ..EvictParams::default()
            };
            let pods: Api<Pod> = Api::namespaced(context.client.clone(), namespace);
            match pods.evict(pod, &how).await {
                // A PodDisruptionBudget that allowed it when it was read: the next plan names it.
                Err(kube::Error::Api(status)) if status.code == 429 => Ok(()),
                evicted => ok_if_gone(evicted).map_err(doing("evicting a VM's Pod")),
            }
        }
        Action::Start { vm, requests: changes } => {
            let namespace = vm.metadata.namespace.as_deref().unwrap_or_default();
            let machines: Api<VirtualMachine> = Api::namespaced(context.client.clone(), namespace);
            // Somebody else asked for something meanwhile: the next plan observes what became of it.
            let Ok(patch) = requests::ask(vm, changes) else { return Ok(()) };
            let name = vm.metadata.name.as_deref().unwrap_or_default();
            let how = PatchParams::default();
            match machines.patch_status(name, &how, &Patch::<()>::Json(patch)).await {
                // 422: the requests, or the VM of that name, are others by now.
                Err(kube::Error::Api(status)) if matches!(status.code, 404 | 422) => Ok(()),
                patched => patched.map(drop).map_err(doing("asking for the start of a VM that was stopped")),
            }
        }
        Action::RecordEvent(event) => {
            context.events.record(maintenance, event).await;
            Ok(())
        }
    }
}
