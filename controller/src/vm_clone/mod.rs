//! Controller of VirtualMachineClones: from a VM, or a snapshot of one, to another VM.
//!
//! Reads: clones, the VM, the snapshot and its content, the restore, the target. Owns: the snapshot and the restore that it
//! makes, the status of clones. Never touches: VMs; the restore makes the target. Route in: watches. Route out: [`plan`],
//! applied step by step.

use std::sync::Arc;

use k8s_openapi::jiff::Timestamp;
use kube::{
    Api, Client,
    api::{DeleteParams, PostParams, Preconditions},
    runtime::{Controller, controller::Action as Requeue, reflector::ObjectRef, watcher},
};
use sheaf_api::{
    VirtualMachine,
    vm_clone::VirtualMachineClone,
    vm_snapshot::{VirtualMachineRestore, VirtualMachineSnapshot, VirtualMachineSnapshotContent},
};

use crate::{
    object::{Context, RequestError, doing, drive, ok_if_exists, ok_if_gone, write_status},
    vm_snapshot::content,
};
use plan::{Action, Observed};

pub mod changes;
pub mod plan;

/// Runs until dropped.
pub async fn run(client: Client) {
    let config = watcher::Config::default;
    let controller = Controller::new(Api::<VirtualMachineClone>::all(client.clone()), config());
    let clones = controller.store();
    let controller = controller
        .owns(Api::<VirtualMachineSnapshot>::all(client.clone()), config())
        .owns(Api::<VirtualMachineRestore>::all(client.clone()), config())
        .watches(Api::<VirtualMachine>::all(client.clone()), config(), move |vm| of(&clones.state(), &vm));
    drive(controller, Arc::new(Context::new(client)), "clone of a VM", reconcile).await;
}

/// The clones whose target is `vm`: they go with it.
fn of(clones: &[Arc<VirtualMachineClone>], vm: &VirtualMachine) -> Vec<ObjectRef<VirtualMachineClone>> {
    let is_target = |clone: &&Arc<VirtualMachineClone>| {
        let target = clone.status.as_ref().and_then(|status| status.target_name.as_ref());
        target.is_some()
            && target == vm.metadata.name.as_ref()
            && clone.metadata.namespace == vm.metadata.namespace
    };
    clones.iter().filter(is_target).map(|clone| ObjectRef::from_obj(&**clone)).collect()
}

async fn reconcile(seen: Arc<VirtualMachineClone>, context: Arc<Context>) -> Result<Requeue, RequestError> {
    let client = &context.client;
    let namespace = seen.metadata.namespace.clone().unwrap_or_default();
    let clones: Api<VirtualMachineClone> = Api::namespaced(client.clone(), &namespace);
    let machines: Api<VirtualMachine> = Api::namespaced(client.clone(), &namespace);
    let snapshots: Api<VirtualMachineSnapshot> = Api::namespaced(client.clone(), &namespace);
    let contents: Api<VirtualMachineSnapshotContent> = Api::namespaced(client.clone(), &namespace);
    let restores: Api<VirtualMachineRestore> = Api::namespaced(client.clone(), &namespace);
    let name = seen.metadata.name.as_deref().unwrap_or_default();
    let Some(clone) = clones.get_opt(name).await.map_err(doing("reading the clone"))? else {
        return Ok(Requeue::await_change());
    };
    let source = match plan::is_of_vm(&clone) {
        true => machines.get_opt(&clone.spec.source.name).await.map_err(doing("reading the VM to clone"))?,
        false => None,
    };
    let snapshot = snapshots.get_opt(&plan::snapshot_name(&clone)).await;
    let snapshot = snapshot.map_err(doing("reading the snapshot"))?;
    let kept = match &snapshot {
        Some(snapshot) => contents.get_opt(&content::name(snapshot)).await,
        None => Ok(None),
    };
    let kept = kept.map_err(doing("reading the content of the snapshot"))?;
    let restore = restores.get_opt(&plan::restore_name(&clone)).await;
    let restore = restore.map_err(doing("reading the restore"))?;
    let noted = clone.status.as_ref().and_then(|status| status.target_name.clone());
    let made = restore.as_ref().map(|restore| restore.spec.target.name.clone());
    let saved =
        kept.as_ref().and_then(|kept| kept.spec.source.virtual_machine.as_ref()?.metadata.name.clone());
    let named = || Some(plan::target_name(&clone, &saved?));
    let target = match noted.or(made).or_else(named) {
        Some(target) => machines.get_opt(&target).await.map_err(doing("reading the target"))?,
        None => None,
    };
    let observed = Observed {
        clone: &clone,
        source: source.as_ref(),
        snapshot: snapshot.as_ref(),
        content: kept.as_ref(),
        restore: restore.as_ref(),
        target: target.as_ref(),
    };
    let plan = plan::plan(&observed, Timestamp::now());
    for action in &plan.actions {
        let create = PostParams::default();
        match action {
            Action::CreateSnapshot(snapshot) => ok_if_exists(snapshots.create(&create, snapshot).await)
                .map_err(doing("taking a snapshot of the VM"))?,
            Action::CreateRestore(restore) => ok_if_exists(restores.create(&create, restore).await)
                .map_err(doing("restoring the snapshot"))?,
            Action::DeleteRestore(name) => {
                ok_if_gone(restores.delete(name, &DeleteParams::default()).await)
                    .map_err(doing("deleting the restore"))?;
            }
            Action::DeleteSnapshot(name) => {
                ok_if_gone(snapshots.delete(name, &DeleteParams::default()).await)
                    .map_err(doing("deleting the snapshot"))?;
            }
            Action::DeleteClone => {
                let only = Preconditions { uid: clone.metadata.uid.clone(), resource_version: None };
                ok_if_gone(clones.delete(name, &DeleteParams::default().preconditions(only)).await)
                    .map_err(doing("deleting the clone, whose VM is gone"))?;
            }
            Action::WriteStatus(status) => {
                write_status(&clones, &clone, clone.status.as_ref(), status).await?
            }
            Action::RecordEvent(event) => context.events.record(&clone, event).await,
        }
    }
    Ok(plan.requeue.map_or_else(Requeue::await_change, Requeue::requeue))
}
