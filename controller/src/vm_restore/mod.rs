//! Controller of VirtualMachineRestores: from a snapshot to claims and a VM that has them.
//!
//! Reads: restores, snapshots and their contents, VolumeSnapshots, the VM and its instance. Owns: the claims that it makes
//! until the VM has them, status and finalizer of restores; `status.restoreInProgress`, `status.stateNode` and the spec of the VM
//! while it is the restore's, its ControllerRevisions. Never touches: snapshots, claims that are not made by it. Route in: watches, and time while claims are made.
//! Route out: [`plan`], applied step by step.

use std::sync::Arc;

use k8s_openapi::{
    api::{apps::v1::ControllerRevision, core::v1::PersistentVolumeClaim},
    jiff::Timestamp,
};
use kube::{
    Api, Client,
    api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions},
    runtime::{Controller, controller::Action as Requeue, reflector::ObjectRef, watcher},
};
use serde_json::json;
use sheaf_api::{
    VirtualMachine, VirtualMachineInstance,
    cdi::DataVolume,
    snapshot::VolumeSnapshot,
    vm_snapshot::{
        VirtualMachineRestore, VirtualMachineSnapshot, VirtualMachineSnapshotContent, restore::FINALIZER,
    },
};

use crate::{
    aggregated::{life, options},
    events::Event,
    guest::{GuestError, Guests, State},
    object::{
        Context, RequestError, add_finalizer, chain, doing, drive, ok_if_exists, ok_if_gone,
        remove_finalizer, write_status,
    },
    vm::{lock::Lock, requests},
    vm_snapshot::content,
};
use plan::{Action, Observed};

mod begin;
pub mod machine;
pub mod patches;
pub mod plan;

/// Why a reconciliation stopped; it is retried.
#[derive(Debug, thiserror::Error)]
pub enum RestoreFailure {
    /// The API server refused or did not answer.
    #[error(transparent)]
    Request(#[from] RequestError),
    /// The node did not put back what firmware and TPM keep.
    #[error("restoring UEFI variables and TPM")]
    State(#[source] GuestError),
}

struct Shared {
    context: Context,
    guests: Guests,
}

/// Runs until dropped.
pub async fn run(client: Client, guests: Guests) {
    let config = watcher::Config::default;
    let controller = Controller::new(Api::<VirtualMachineRestore>::all(client.clone()), config()).watches(
        Api::<VirtualMachine>::all(client.clone()),
        config(),
        |vm| {
            let holder = Lock::Restore.holder(&vm)?.to_owned();
            Some(ObjectRef::new(&holder).within(vm.metadata.namespace.as_deref()?))
        },
    );
    let shared = Shared { context: Context::new(client), guests };
    drive(controller, Arc::new(shared), "restore of a VM", reconcile).await;
}

/// The APIs of one namespace.
struct Apis {
    restores: Api<VirtualMachineRestore>,
    snapshots: Api<VirtualMachineSnapshot>,
    contents: Api<VirtualMachineSnapshotContent>,
    volumes: Api<VolumeSnapshot>,
    machines: Api<VirtualMachine>,
    instances: Api<VirtualMachineInstance>,
    claims: Api<PersistentVolumeClaim>,
    disks: Api<DataVolume>,
    revisions: Api<ControllerRevision>,
}

impl Apis {
    fn new(client: &Client, namespace: &str) -> Self {
        Self {
            restores: Api::namespaced(client.clone(), namespace),
            snapshots: Api::namespaced(client.clone(), namespace),
            contents: Api::namespaced(client.clone(), namespace),
            volumes: Api::namespaced(client.clone(), namespace),
            machines: Api::namespaced(client.clone(), namespace),
            instances: Api::namespaced(client.clone(), namespace),
            claims: Api::namespaced(client.clone(), namespace),
            disks: Api::namespaced(client.clone(), namespace),
            revisions: Api::namespaced(client.clone(), namespace),
        }
    }
}

async fn reconcile(seen: Arc<VirtualMachineRestore>, shared: Arc<Shared>) -> Result<Requeue, RestoreFailure> {
    let apis = Apis::new(&shared.context.client, seen.metadata.namespace.as_deref().unwrap_or_default());
    let name = seen.metadata.name.as_deref().unwrap_or_default();
    let Some(restore) = apis.restores.get_opt(name).await.map_err(doing("reading the restore"))? else {
        return Ok(Requeue::await_change());
    };
    let target = &restore.spec.target.name;
    let vm = apis.machines.get_opt(target).await.map_err(doing("reading the VM to restore"))?;
    let vmi = apis.instances.get_opt(target).await.map_err(doing("reading the instance of the VM"))?;
    let snapshot = apis.snapshots.get_opt(&restore.spec.virtual_machine_snapshot_name).await;
    let snapshot = snapshot.map_err(doing("reading the snapshot"))?;
    let kept = match &snapshot {
        Some(snapshot) => apis.contents.get_opt(&content::name(snapshot)).await,
        None => Ok(None),
    };
    let kept = kept.map_err(doing("reading the content of the snapshot"))?;
    let mut volumes = Vec::new();
    for volume in kept.iter().flat_map(content::names) {
        volumes.extend(apis.volumes.get_opt(volume).await.map_err(doing("reading a VolumeSnapshot"))?);
    }
    let status = restore.status.clone().unwrap_or_default();
    let (mut claims, mut data_volumes) = (Vec::new(), Vec::new());
    for volume in &status.restores {
        let claim = apis.claims.get_opt(&volume.persistent_volume_claim).await;
        claims.extend(claim.map_err(doing("reading a restored claim"))?);
    }
    let restored = status.restores.iter().filter_map(|volume| volume.data_volume_name.as_ref());
    for name in restored.chain(&status.deleted_data_volumes) {
        data_volumes.extend(apis.disks.get_opt(name).await.map_err(doing("reading a DataVolume"))?);
    }
    let holder_exists = match vm.as_ref().and_then(|vm| Lock::Restore.holder(vm)) {
        Some(holder) if holder != name => {
            let found = apis.restores.get_opt(holder).await;
            found.map_err(doing("reading the restore that has the VM"))?.is_some()
        }
        _ => false,
    };
    let observed = Observed {
        restore: &restore,
        vm: vm.as_ref(),
        vmi: vmi.as_ref(),
        snapshot: snapshot.as_ref(),
        content: kept.as_ref(),
        volumes: &volumes,
        claims: &claims,
        data_volumes: &data_volumes,
        holder_exists,
    };
    let plan = plan::plan(&observed, Timestamp::now());
    for action in &plan.actions {
        match action {
            Action::LoadState { node, uuid } => {
                let uid = snapshot.as_ref().and_then(|snapshot| snapshot.metadata.uid.as_deref());
                load_state(&shared, &restore, node, uuid, uid.unwrap_or_default()).await?;
            }
            action => apply(&shared.context, &apis, &restore, vm.as_ref(), vmi.as_ref(), action).await?,
        }
    }
    Ok(plan.requeue.map_or_else(Requeue::await_change, Requeue::requeue))
}

async fn apply(
    context: &Context,
    apis: &Apis,
    restore: &VirtualMachineRestore,
    vm: Option<&VirtualMachine>,
    vmi: Option<&VirtualMachineInstance>,
    action: &Action,
) -> Result<(), RequestError> {
    let name = restore.metadata.name.as_deref().unwrap_or_default();
    let (create, plain) = (PostParams::default(), PatchParams::default());
    match (action, vm) {
        (Action::AddFinalizer, _) => add_finalizer(&apis.restores, restore, FINALIZER).await,
        (Action::RemoveFinalizer, _) => remove_finalizer(&apis.restores, restore, FINALIZER).await,
        (Action::Own(owner), _) => {
            let meta = json!({"uid": restore.metadata.uid, "ownerReferences": [owner]});
            let patch = Patch::Merge(json!({"metadata": meta}));
            ok_if_gone(apis.restores.patch(name, &plain, &patch).await)
                .map_err(doing("noting the VM as owner of the restore"))
        }
        (Action::Lock, Some(vm)) => {
            patch_vm(apis, vm, Lock::Restore.take(vm, name)).await.map_err(doing("reserving the VM"))
        }
        (Action::Unlock, Some(vm)) => {
            let released = patch_vm(apis, vm, Lock::Restore.release(vm, name)).await;
            ok_if_gone(released).map_err(doing("releasing the VM"))
        }
        (Action::Stop, Some(vm)) => stop(apis, vm, vmi).await,
        (Action::CreateClaim(claim), _) => {
            let created = ok_if_exists(apis.claims.create(&create, claim).await);
            refused(context, restore, created, "creating a claim").await
        }
        (Action::CreateDisk(data), _) => {
            let created = ok_if_exists(apis.disks.create(&create, data).await);
            refused(context, restore, created, "creating a DataVolume").await
        }
        (Action::CreateMachine(machine), _) => {
            let created = apis.machines.create(&create, machine).await.map(drop);
            refused(context, restore, created, "creating the VM").await
        }
        (Action::ReplaceMachine(machine), _) => {
            let target = machine.metadata.name.as_deref().unwrap_or_default();
            let replaced = apis.machines.replace(target, &create, machine).await.map(drop);
            refused(context, restore, replaced, "changing the VM").await
        }
        (Action::CreateRevision(revision), _) => {
            let created = ok_if_exists(apis.revisions.create(&create, revision).await);
            refused(context, restore, created, "creating a ControllerRevision").await
        }
        (Action::PlaceState(node), Some(vm)) => {
            let patch = json!({"metadata": {"uid": vm.metadata.uid}, "status": {"stateNode": node}});
            let target = vm.metadata.name.as_deref().unwrap_or_default();
            let placed = apis.machines.patch_status(target, &plain, &Patch::Merge(&patch)).await;
            placed.map(drop).map_err(doing("noting which node has UEFI variables and TPM"))
        }
        (Action::Give { claim, owner }, _) => {
            let owners: Vec<_> = owner.iter().collect();
            let patch = Patch::Merge(json!({"metadata": {"ownerReferences": owners}}));
            ok_if_gone(apis.claims.patch(claim, &plain, &patch).await)
                .map_err(doing("giving a restored claim to its owner"))
        }
        (Action::DeleteDisk { name, uid }, _) => {
            let only = Preconditions { uid: uid.clone(), resource_version: None };
            ok_if_gone(apis.disks.delete(name, &DeleteParams::default().preconditions(only)).await)
                .map_err(doing("deleting a DataVolume that is replaced"))
        }
        (Action::WriteStatus(status), _) => {
            write_status(&apis.restores, restore, restore.status.as_ref(), status).await
        }
        (Action::RecordEvent(event), _) => {
            context.events.record(restore, event).await;
            Ok(())
        }
        // The plan has these only with a VM.
        (Action::Lock | Action::Unlock | Action::Stop | Action::PlaceState(_), None) => Ok(()),
        // By its own function: it asks the node.
        (Action::LoadState { .. }, _) => Ok(()),
    }
}

async fn load_state(
    shared: &Shared,
    restore: &VirtualMachineRestore,
    node: &str,
    uuid: &str,
    snapshot: &str,
) -> Result<(), RestoreFailure> {
    let namespace = restore.metadata.namespace.as_deref().unwrap_or_default();
    let state = State { namespace, uuid, snapshot };
    let Err(error) = shared.guests.load_state(node, &state).await else { return Ok(()) };
    let note = format!("restoring UEFI variables and TPM: {}; it is tried again", chain(&error));
    shared.context.events.record(restore, &Event::warning("VirtualMachineRestoreError", note)).await;
    Err(RestoreFailure::State(error))
}

async fn patch_vm(apis: &Apis, vm: &VirtualMachine, patch: json_patch::Patch) -> Result<(), kube::Error> {
    let name = vm.metadata.name.as_deref().unwrap_or_default();
    let patch = Patch::<()>::Json(patch);
    apis.machines.patch_status(name, &PatchParams::default(), &patch).await.map(drop)
}

/// Stops the VM as the subresource `stop` does; what that refuses is stopped already.
async fn stop(
    apis: &Apis,
    vm: &VirtualMachine,
    vmi: Option<&VirtualMachineInstance>,
) -> Result<(), RequestError> {
    let name = vm.metadata.name.as_deref().unwrap_or_default();
    let Ok(change) = life::stop(vm, vmi, &options::Stop::default()) else { return Ok(()) };
    let plain = PatchParams::default();
    let patched = match &change.what {
        life::What::Run(running) => {
            apis.machines.patch(name, &plain, &Patch::<()>::Json(requests::run(vm, *running))).await
        }
        life::What::Ask(changes) => match requests::ask(vm, changes) {
            Ok(patch) => apis.machines.patch_status(name, &plain, &Patch::<()>::Json(patch)).await,
            // A stop is under way.
            Err(requests::Underway) => return Ok(()),
        },
    };
    patched.map(drop).map_err(doing("stopping the VM"))
}

/// What the API server refused is told to the user; it is retried.
async fn refused(
    context: &Context,
    restore: &VirtualMachineRestore,
    result: Result<(), kube::Error>,
    what: &'static str,
) -> Result<(), RequestError> {
    let Err(error) = result else { return Ok(()) };
    if matches!(&error, kube::Error::Api(status) if status.code == 409) {
        // It changed since it was read.
        return Err(doing(what)(error));
    }
    let event = Event::warning("VirtualMachineRestoreError", format!("{what}: {error}"));
    context.events.record(restore, &event).await;
    Err(doing(what)(error))
}
