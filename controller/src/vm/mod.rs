//! Controller of virtual machines: from VirtualMachine and its run strategy to an instance, or none.
//!
//! Reads: VMs, and the instance of the same name (asked of the API server anew for each decision). Owns: instances
//! that VMs want, status and finalizer of VMs. Never touches: Pods. Route in: watches. Route out: [`plan`], done
//! step by step here without further decisions.

use std::{sync::Arc, time::Duration};

use futures::StreamExt;
use k8s_openapi::jiff::Timestamp;
use kube::{
    Api, Client,
    api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions},
    runtime::{Controller, controller::Action as Requeue, watcher},
};
use serde_json::json;
use sheaf_api::{
    VirtualMachine, VirtualMachineInstance,
    names::{CONTROLLER_MANAGER, KUBEVIRT_API_VERSION, VM_FINALIZER},
    status::VirtualMachineStatus,
};

use crate::tell::{News, Teller};

pub mod plan;

/// Until the next try after the API server refused or failed.
const RETRY: Duration = Duration::from_secs(10);

/// Why a reconciliation stopped; it is tried again.
#[derive(Debug, thiserror::Error)]
#[error("{doing}: {source}")]
pub struct VmError {
    /// What was being done.
    doing: &'static str,
    /// What the API server said.
    source: kube::Error,
}

fn doing(doing: &'static str) -> impl FnOnce(kube::Error) -> VmError {
    move |source| VmError { doing, source }
}

struct Context {
    client: Client,
    teller: Teller,
}

/// Runs until dropped.
pub async fn run(client: Client) {
    let context = Arc::new(Context { client: client.clone(), teller: Teller::new(client.clone()) });
    Controller::new(Api::<VirtualMachine>::all(client.clone()), watcher::Config::default())
        .owns(Api::<VirtualMachineInstance>::all(client), watcher::Config::default())
        .run(reconcile, |_, _, _| Requeue::requeue(RETRY), context)
        .for_each(|result| async move {
            if let Err(error) = result {
                tracing::warn!("virtual machine: {error}");
            }
        })
        .await;
}

async fn reconcile(seen: Arc<VirtualMachine>, context: Arc<Context>) -> Result<Requeue, VmError> {
    let namespace = seen.metadata.namespace.clone().unwrap_or_default();
    let name = seen.metadata.name.clone().unwrap_or_default();
    let machines: Api<VirtualMachine> = Api::namespaced(context.client.clone(), &namespace);
    let instances: Api<VirtualMachineInstance> = Api::namespaced(context.client.clone(), &namespace);
    let Some(vm) = machines.get_opt(&name).await.map_err(doing("reading the VM"))? else {
        return Ok(Requeue::await_change());
    };
    let vmi = instances.get_opt(&name).await.map_err(doing("reading its instance"))?;
    let plan = plan::plan(&vm, vmi.as_ref(), Timestamp::now());

    // What a failure counts must be kept before the instance that failed is deleted; that a start was made,
    // only after it was.
    let starts = plan.actions.iter().any(|action| matches!(action, plan::Action::Start(_)));
    if !starts {
        report(&machines, &vm, &plan.status).await?;
    }
    for action in &plan.actions {
        match action {
            plan::Action::Hold => {
                let mut finalizers = vm.metadata.finalizers.clone().unwrap_or_default();
                finalizers.push(VM_FINALIZER.into());
                finalize(&machines, &vm, finalizers).await?;
            }
            plan::Action::Release => {
                let mut finalizers = vm.metadata.finalizers.clone().unwrap_or_default();
                finalizers.retain(|finalizer| finalizer != VM_FINALIZER);
                finalize(&machines, &vm, finalizers).await?;
            }
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
        report(&machines, &vm, &plan.status).await?;
    }
    Ok(plan.again.map_or_else(Requeue::await_change, Requeue::requeue))
}

/// Writes the whole status, if it changed.
async fn report(
    machines: &Api<VirtualMachine>,
    vm: &VirtualMachine,
    status: &VirtualMachineStatus,
) -> Result<(), VmError> {
    if vm.status.as_ref() == Some(status) || (vm.status.is_none() && *status == Default::default()) {
        return Ok(());
    }
    let name = vm.metadata.name.as_deref().unwrap_or_default();
    let patch = json!({
        "apiVersion": KUBEVIRT_API_VERSION, "kind": "VirtualMachine",
        "metadata": {"name": name, "uid": vm.metadata.uid}, "status": status,
    });
    let how = PatchParams::apply(CONTROLLER_MANAGER).force();
    gone(machines.patch_status(name, &how, &Patch::Apply(&patch)).await.map(drop))
        .map_err(doing("writing its status"))
}

async fn finalize(
    machines: &Api<VirtualMachine>,
    vm: &VirtualMachine,
    finalizers: Vec<String>,
) -> Result<(), VmError> {
    let name = vm.metadata.name.as_deref().unwrap_or_default();
    let patch = json!({"metadata": {"uid": vm.metadata.uid, "finalizers": finalizers}});
    gone(machines.patch(name, &PatchParams::default(), &Patch::Merge(&patch)).await.map(drop))
        .map_err(doing("changing its finalizers"))
}

/// Not there any more, or another of the same name by now: nothing left to do.
fn gone(result: Result<(), kube::Error>) -> Result<(), kube::Error> {
    match result {
        Err(kube::Error::Api(status)) if status.code == 404 || status.code == 409 => Ok(()),
        other => other,
    }
}
