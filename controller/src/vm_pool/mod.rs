//! Controller of VirtualMachinePools: so many VMs of one template, numbered.
//!
//! Reads: pools, and the VMs, instances and ControllerRevisions of their namespace (read from the API server for each
//! decision). Owns: the VMs that it creates, the revisions of its template, the status of pools. Never touches: instances, which
//! are their VM's; VMs of others. Route in: watches. Route out: [`plan`], applied step by step.

use std::sync::Arc;

use k8s_openapi::{api::apps::v1::ControllerRevision, jiff::Timestamp};
use kube::{
    Api, Client,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams, Preconditions},
    runtime::{Controller, controller::Action as Requeue, watcher},
};
use sheaf_api::{VirtualMachine, VirtualMachineInstance, vm_pool::VirtualMachinePool};

use crate::{
    events::Event,
    object::{Context, RequestError, chain, doing, drive, ok_if_gone, write_status},
    replicas::{Failure, release},
};
use plan::{Action, Observed};

pub mod machine;
pub mod plan;
pub mod revisions;

/// Runs until dropped.
pub async fn run(client: Client) {
    let config = watcher::Config::default;
    let pools = Api::<VirtualMachinePool>::all(client.clone());
    let controller =
        Controller::new(pools, config()).owns(Api::<VirtualMachine>::all(client.clone()), config());
    drive(controller, Arc::new(Context::new(client)), "pool of VMs", reconcile).await;
}

async fn reconcile(seen: Arc<VirtualMachinePool>, context: Arc<Context>) -> Result<Requeue, RequestError> {
    let client = &context.client;
    let namespace = seen.metadata.namespace.clone().unwrap_or_default();
    let pools: Api<VirtualMachinePool> = Api::namespaced(client.clone(), &namespace);
    let machines: Api<VirtualMachine> = Api::namespaced(client.clone(), &namespace);
    let instances: Api<VirtualMachineInstance> = Api::namespaced(client.clone(), &namespace);
    let revisions: Api<ControllerRevision> = Api::namespaced(client.clone(), &namespace);
    let name = seen.metadata.name.as_deref().unwrap_or_default();
    let Some(pool) = pools.get_opt(name).await.map_err(doing("reading the pool"))? else {
        return Ok(Requeue::await_change());
    };
    let all = ListParams::default();
    let kept = revisions.list(&all).await.map_err(doing("listing ControllerRevisions"))?;
    // In this order: see [`Observed`].
    let vms = machines.list(&all).await.map_err(doing("listing VMs"))?;
    let vmis = instances.list(&all).await.map_err(doing("listing instances"))?;
    let observed =
        Observed { pool: &pool, machines: &vms.items, instances: &vmis.items, revisions: &kept.items };
    let mut failed = None;
    for action in &plan::plan(&observed) {
        if let Err(error) = apply(&context, &machines, &revisions, &pool, action).await {
            failed = Some((Failure { reason: action.failure(), message: chain(&error) }, error));
            break;
        }
    }
    let failure = failed.as_ref().map(|(failure, _)| failure);
    let (status, events) = plan::status(&observed, failure, Timestamp::now());
    write_status(&pools, &pool, pool.status.as_ref(), &status).await?;
    for event in &events {
        context.events.record(&pool, event).await;
    }
    failed.map_or_else(|| Ok(Requeue::await_change()), |(_, error)| Err(error))
}

async fn apply(
    context: &Context,
    machines: &Api<VirtualMachine>,
    revisions: &Api<ControllerRevision>,
    pool: &VirtualMachinePool,
    action: &Action,
) -> Result<(), RequestError> {
    let event = match action {
        Action::KeepRevision(revision) => {
            let created = revisions.create(&PostParams::default(), revision).await;
            return created.map(drop).map_err(doing("keeping its template in a ControllerRevision"));
        }
        Action::Create(vm) => {
            let created = machines.create(&PostParams::default(), vm).await;
            created.map_err(doing("creating a VM"))?;
            Event::normal("SuccessfulCreate", format!("created VM {}", name(vm)))
        }
        Action::Change(vm) => {
            let changed = machines.replace(name(vm), &PostParams::default(), vm).await;
            changed.map_err(doing("changing a VM"))?;
            Event::normal("SuccessfulUpdate", format!("changed VM {}, whose template changed", name(vm)))
        }
        Action::Restart { name, patch } => {
            let patch = Patch::<()>::Json(patch.clone());
            let asked = machines.patch_status(name, &PatchParams::default(), &patch).await;
            ok_if_gone(asked).map_err(doing("requesting a restart of a VM"))?;
            Event::normal("SuccessfulUpdate", format!("restarted VM {name}, whose template changed"))
        }
        Action::Delete { name, uid } => {
            let only = Preconditions { uid: Some(uid.clone()), resource_version: None };
            let how = DeleteParams::default().preconditions(only);
            ok_if_gone(machines.delete(name, &how).await).map_err(doing("deleting a VM"))?;
            Event::normal("SuccessfulDelete", format!("deleted VM {name}: there are more than spec.replicas"))
        }
        Action::Release(vm) => {
            let patch = Patch::<()>::Json(release(&**vm, pool.metadata.uid.as_deref()));
            let released = machines.patch(name(vm), &PatchParams::default(), &patch).await;
            ok_if_gone(released).map_err(doing("releasing a VM whose labels no longer match"))?;
            Event::normal("Released", format!("released VM {}: its labels no longer match", name(vm)))
        }
        Action::Forget(name) => {
            let deleted = revisions.delete(name, &DeleteParams::default()).await;
            return ok_if_gone(deleted).map_err(doing("deleting a ControllerRevision that nothing uses"));
        }
    };
    context.events.record(pool, &event).await;
    Ok(())
}

fn name(vm: &VirtualMachine) -> &str {
    vm.metadata.name.as_deref().unwrap_or_default()
}
