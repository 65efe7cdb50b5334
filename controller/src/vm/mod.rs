//! Controller of virtual machines: from VirtualMachine and its run strategy to an instance, or none.
//!
//! Reads: VMs, and the instance of the same name (asked of the API server anew for each decision). Owns: instances
//! that VMs want, the DataVolumes of their templates, status and finalizer of VMs. Never touches: Pods, claims. Route
//! in: watches. Route out: [`plan`], done step by step here without further decisions.

use std::{sync::Arc, time::Duration};

use k8s_openapi::jiff::Timestamp;
use kube::{
    Api, Client,
    api::{DeleteParams, PostParams, Preconditions},
    runtime::{Controller, controller::Action as Requeue, watcher},
};
use sheaf_api::{VirtualMachine, VirtualMachineInstance, cdi::DataVolume, names::VM_FINALIZER};

use crate::{
    object::{Context, RequestError, doing, drive, gone, hold, release, report},
    tell::News,
};

pub mod disks;
pub mod plan;

/// Until the next try after the API server refused or failed.
const RETRY: Duration = Duration::from_secs(10);

/// Runs until dropped.
pub async fn run(client: Client) {
    let controller = Controller::new(Api::<VirtualMachine>::all(client.clone()), watcher::Config::default())
        .owns(Api::<VirtualMachineInstance>::all(client.clone()), watcher::Config::default())
        .owns(Api::<DataVolume>::all(client.clone()), watcher::Config::default());
    drive(controller, client, "virtual machine", RETRY, reconcile).await;
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
    let datas: Api<DataVolume> = Api::namespaced(context.client.clone(), &namespace);
    let mut there = Vec::new();
    for template in &vm.spec.data_volume_templates {
        there.extend(datas.get_opt(&template.metadata.name).await.map_err(doing("reading its disks"))?);
    }
    let plan = plan::plan(&vm, vmi.as_ref(), &there, Timestamp::now());

    // What a failure counts must be kept before the instance that failed is deleted; that a start was made,
    // only after it was.
    let starts = plan.actions.iter().any(|action| matches!(action, plan::Action::Start(_)));
    if !starts {
        report(&machines, &vm, vm.status.as_ref(), &plan.status).await?;
    }
    for action in &plan.actions {
        match action {
            plan::Action::Hold => hold(&machines, &vm, VM_FINALIZER).await?,
            plan::Action::Release => release(&machines, &vm, VM_FINALIZER).await?,
            plan::Action::CreateDisk(data) => match datas.create(&PostParams::default(), data).await {
                Ok(_) => {}
                Err(kube::Error::Api(status)) if status.code == 409 => {}
                Err(error) => {
                    let note = format!("making a disk of the virtual machine: {error}");
                    context.teller.tell(&vm, &News::warning("FailedDataVolumeCreate", note)).await;
                    return Err(doing("creating its DataVolume")(error));
                }
            },
            plan::Action::Start(vmi) => match instances.create(&PostParams::default(), vmi).await {
                Ok(_) => {}
                Err(kube::Error::Api(status)) if status.code == 409 => {}
                Err(error) => {
                    let note = format!("starting the virtual machine: {error}");
                    context.teller.tell(&vm, &News::warning("FailedCreate", note)).await;
                    return Err(doing("creating its instance")(error));
                }
            },
            plan::Action::Stop { uid } => {
                let only = Preconditions { uid: Some(uid.clone()), resource_version: None };
                let how = DeleteParams::default().preconditions(only);
                gone(instances.delete(&name, &how).await.map(drop))
                    .map_err(doing("deleting its instance"))?;
            }
            plan::Action::Tell(news) => context.teller.tell(&vm, news).await,
        }
    }
    if starts {
        report(&machines, &vm, vm.status.as_ref(), &plan.status).await?;
    }
    Ok(plan.again.map_or_else(Requeue::await_change, Requeue::requeue))
}
