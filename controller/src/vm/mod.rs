//! Controller of virtual machines: from VirtualMachine and its run strategy to an instance, or none.
//!
//! Reads: VMs, and the instance of the same name (read from the API server for each decision). Owns: instances
//! that VMs want, the DataVolumes of their templates, status and finalizer of VMs. Never touches: Pods, claims. Route
//! in: watches. Route out: [`plan`], applied step by step.

use std::sync::Arc;

use k8s_openapi::{api::apps::v1::ControllerRevision, jiff::Timestamp};
use kube::{
    Api, Client,
    api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions},
    runtime::{Controller, controller::Action as Requeue, watcher},
};
use sheaf_api::{VirtualMachine, VirtualMachineInstance, cdi::DataVolume, names::VM_FINALIZER};

use crate::instancetype::{self, Sized};
use crate::object::{
    Context, RequestError, add_finalizer, doing, drive, ok_if_exists, ok_if_gone, remove_finalizer,
    write_status,
};
use plan::Action;

pub mod disks;
pub mod hotplug;
pub mod lock;
pub mod nics;
pub mod plan;
pub mod requests;
pub mod size;

/// Runs until dropped.
pub async fn run(client: Client) {
    let controller = Controller::new(Api::<VirtualMachine>::all(client.clone()), watcher::Config::default())
        .owns(Api::<VirtualMachineInstance>::all(client.clone()), watcher::Config::default())
        .owns(Api::<DataVolume>::all(client.clone()), watcher::Config::default());
    drive(controller, Arc::new(Context::new(client)), "virtual machine", reconcile).await;
}

async fn reconcile(seen: Arc<VirtualMachine>, context: Arc<Context>) -> Result<Requeue, RequestError> {
    let namespace = seen.metadata.namespace.clone().unwrap_or_default();
    let name = seen.metadata.name.clone().unwrap_or_default();
    let machines: Api<VirtualMachine> = Api::namespaced(context.client.clone(), &namespace);
    let instances: Api<VirtualMachineInstance> = Api::namespaced(context.client.clone(), &namespace);
    let Some(vm) = machines.get_opt(&name).await.map_err(doing("reading the VM"))? else {
        return Ok(Requeue::await_change());
    };
    let vmi = instances.get_opt(&name).await.map_err(doing("reading its instance"))?;
    let disks: Api<DataVolume> = Api::namespaced(context.client.clone(), &namespace);
    let mut existing = Vec::new();
    for template in &vm.spec.data_volume_templates {
        existing.extend(disks.get_opt(&template.metadata.name).await.map_err(doing("reading its disks"))?);
    }
    let sized = match vm.metadata.deletion_timestamp {
        // What it would be is of no interest any more.
        Some(_) => Sized::plain(&vm),
        None => instancetype::expand(&context.client, &vm).await?,
    };
    let plan = plan::plan(&sized, vmi.as_ref(), &existing, Timestamp::now());
    for action in &plan.actions {
        apply(&context, &machines, &instances, &disks, &vm, action).await?;
    }
    Ok(plan.requeue.map_or_else(Requeue::await_change, Requeue::requeue))
}

async fn apply(
    context: &Context,
    machines: &Api<VirtualMachine>,
    instances: &Api<VirtualMachineInstance>,
    disks: &Api<DataVolume>,
    vm: &VirtualMachine,
    action: &Action,
) -> Result<(), RequestError> {
    match action {
        Action::AddFinalizer => add_finalizer(machines, vm, VM_FINALIZER).await,
        Action::RemoveFinalizer => remove_finalizer(machines, vm, VM_FINALIZER).await,
        Action::KeepRevision(revision) => {
            let namespace = vm.metadata.namespace.as_deref().unwrap_or_default();
            let revisions: Api<ControllerRevision> = Api::namespaced(context.client.clone(), namespace);
            ok_if_exists(revisions.create(&PostParams::default(), revision).await)
                .map_err(doing("keeping its instancetype or preference"))
        }
        Action::CreateDisk(data) => {
            let created = ok_if_exists(disks.create(&PostParams::default(), data).await);
            created_or_event(context, vm, created, "creating a disk", "FailedDataVolumeCreate").await
        }
        Action::Start(vmi) => {
            let created = ok_if_exists(instances.create(&PostParams::default(), vmi).await);
            created_or_event(context, vm, created, "creating its instance", "FailedCreate").await
        }
        Action::Stop { uid } => {
            let only = Preconditions { uid: Some(uid.clone()), resource_version: None };
            let how = DeleteParams::default().preconditions(only);
            let name = vm.metadata.name.as_deref().unwrap_or_default();
            ok_if_gone(instances.delete(name, &how).await).map_err(doing("deleting its instance"))
        }
        Action::Follow(patch) => {
            let name = vm.metadata.name.as_deref().unwrap_or_default();
            let patch = Patch::<()>::Json((**patch).clone());
            // 422: the instance is another by now, or cannot be so; both are tried again.
            ok_if_gone(instances.patch(name, &PatchParams::default(), &patch).await)
                .map_err(doing("adding disks to its instance and removing them"))
        }
        Action::WriteStatus(status) => write_status(machines, vm, vm.status.as_ref(), status).await,
        Action::RunAlways => {
            let patch = Patch::<()>::Json(requests::run(vm, true));
            let name = vm.metadata.name.as_deref().unwrap_or_default();
            // 422: the strategy, or the VM of that name, is another by now.
            match machines.patch(name, &PatchParams::default(), &patch).await {
                Err(kube::Error::Api(status)) if matches!(status.code, 404 | 422) => Ok(()),
                patched => patched.map(drop).map_err(doing("changing its run strategy to Always")),
            }
        }
        Action::RequestDone(requests) => {
            let patch = requests::done(vm, requests);
            let name = vm.metadata.name.as_deref().unwrap_or_default();
            let how = PatchParams::default();
            let patched = machines.patch_status(name, &how, &Patch::<()>::Json(patch)).await;
            // 422: the requests, or the VM of that name, are others by now.
            match patched {
                Err(kube::Error::Api(status)) if matches!(status.code, 404 | 422) => Ok(()),
                patched => patched.map(drop).map_err(doing("removing a request that is done")),
            }
        }
        Action::RecordEvent(event) => {
            context.events.record(vm, event).await;
            Ok(())
        }
    }
}

async fn created_or_event(
    context: &Context,
    vm: &VirtualMachine,
    created: Result<(), kube::Error>,
    what: &'static str,
    reason: &str,
) -> Result<(), RequestError> {
    let Err(error) = created else { return Ok(()) };
    context.events.record(vm, &plan::refused(what, reason, &error)).await;
    Err(doing(what)(error))
}
