//! Controller of VirtualMachineInstanceReplicaSets: so many instances of one template, no more and no fewer.
//!
//! Reads: replica sets, and the instances of their namespace (read from the API server for each decision). Owns: the instances
//! that it creates, the status of replica sets. Never touches: instances of others, Pods, nodes. An instance is deleted as a
//! user deletes it, so a node that does not answer holds it as it holds every other. Route in: watches. Route out:
//! [`plan`], applied step by step.

use std::sync::Arc;

use k8s_openapi::jiff::Timestamp;
use kube::{
    Api, Client,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams, Preconditions},
    runtime::{Controller, controller::Action as Requeue, watcher},
};
use sheaf_api::{VirtualMachineInstance, replica_set::VirtualMachineInstanceReplicaSet};

use crate::{
    events::Event,
    object::{Context, RequestError, chain, doing, drive, ok_if_gone, write_status},
    replicas::{Failure, release},
};
use plan::Action;

pub mod plan;

/// Runs until dropped.
pub async fn run(client: Client) {
    let config = watcher::Config::default;
    let sets = Api::<VirtualMachineInstanceReplicaSet>::all(client.clone());
    let controller =
        Controller::new(sets, config()).owns(Api::<VirtualMachineInstance>::all(client.clone()), config());
    drive(controller, Arc::new(Context::new(client)), "replica set", reconcile).await;
}

async fn reconcile(
    seen: Arc<VirtualMachineInstanceReplicaSet>,
    context: Arc<Context>,
) -> Result<Requeue, RequestError> {
    let namespace = seen.metadata.namespace.clone().unwrap_or_default();
    let sets: Api<VirtualMachineInstanceReplicaSet> = Api::namespaced(context.client.clone(), &namespace);
    let instances: Api<VirtualMachineInstance> = Api::namespaced(context.client.clone(), &namespace);
    let name = seen.metadata.name.as_deref().unwrap_or_default();
    let Some(set) = sets.get_opt(name).await.map_err(doing("reading the replica set"))? else {
        return Ok(Requeue::await_change());
    };
    let all = instances.list(&ListParams::default()).await.map_err(doing("listing instances"))?;
    let now = Timestamp::now();
    let plan = plan::plan(&set, &all.items, now);
    let mut failed = None;
    for action in &plan.actions {
        if let Err(error) = apply(&context, &instances, &set, action).await {
            failed = Some((Failure { reason: action.failure(), message: chain(&error) }, error));
            break;
        }
    }
    let failure = failed.as_ref().map(|(failure, _)| failure);
    let (status, events) = plan::status(&set, &all.items, failure, now);
    write_status(&sets, &set, set.status.as_ref(), &status).await?;
    for event in &events {
        context.events.record(&set, event).await;
    }
    match failed {
        Some((_, error)) => Err(error),
        None => Ok(plan.requeue.map_or_else(Requeue::await_change, Requeue::requeue)),
    }
}

async fn apply(
    context: &Context,
    instances: &Api<VirtualMachineInstance>,
    set: &VirtualMachineInstanceReplicaSet,
    action: &Action,
) -> Result<(), RequestError> {
    let event = match action {
        Action::Create(vmi) => {
            let created = instances.create(&PostParams::default(), vmi).await;
            let created = created.map_err(doing("creating an instance"))?;
            Event::normal(
                "SuccessfulCreate",
                format!("created instance {}", created.metadata.name.unwrap_or_default()),
            )
        }
        Action::Delete { name, uid, why } => {
            let only = Preconditions { uid: Some(uid.clone()), resource_version: None };
            let how = DeleteParams::default().preconditions(only);
            ok_if_gone(instances.delete(name, &how).await).map_err(doing("deleting an instance"))?;
            Event::normal("SuccessfulDelete", format!("deleted instance {name}: {why}"))
        }
        Action::Release(vmi) => {
            let name = vmi.metadata.name.as_deref().unwrap_or_default();
            let patch = Patch::<()>::Json(release(&**vmi, set.metadata.uid.as_deref()));
            ok_if_gone(instances.patch(name, &PatchParams::default(), &patch).await)
                .map_err(doing("releasing an instance whose labels no longer match"))?;
            Event::normal("Released", format!("released instance {name}: its labels no longer match"))
        }
    };
    context.events.record(set, &event).await;
    Ok(())
}
