//! Controller of VirtualMachineSnapshots: from a VM to its content and VolumeSnapshots, with the guest frozen meanwhile.
//!
//! Reads: snapshots, their VM, its instance, claims and ControllerRevisions, VolumeSnapshots. Owns: VirtualMachineSnapshotContents, the
//! VolumeSnapshots of those, status and finalizer of both; `status.snapshotInProgress` of the VM while it is the snapshot's.
//! Never touches: claims, the rest of the VM. Route in: watches. Route out: [`plan`], applied step by step; the guest is
//! frozen and thawed, and what its firmware and TPM keep is copied by its node, through [`crate::guest`].

use std::sync::Arc;

use k8s_openapi::{
    api::{apps::v1::ControllerRevision, core::v1::PersistentVolumeClaim},
    jiff::Timestamp,
};
use kube::{
    Api, Client,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams, Preconditions},
    runtime::{Controller, controller::Action as Requeue, reflector::ObjectRef, watcher},
};
use serde_json::json;
use sheaf_api::{
    VirtualMachine, VirtualMachineInstance,
    names::{TRUE, VOLUME_DRIVER},
    snapshot::{DEFAULT_CLASS_ANNOTATION, VolumeSnapshot, VolumeSnapshotClass},
    vm_snapshot::{
        CONTENT_FINALIZER, FROZEN_ANNOTATION, SNAPSHOT_FINALIZER, VirtualMachineSnapshot,
        VirtualMachineSnapshotContent,
    },
};

use crate::{
    events::Event,
    guest::{GuestError, Guests, State},
    object::{
        Context, RequestError, add_finalizer, chain, doing, drive, ok_if_exists, ok_if_gone,
        remove_finalizer, write_status,
    },
    vm::lock::Lock,
    volumes::annotation,
};
use plan::{Action, Observed};

mod begin;
pub mod content;
mod deadline;
pub mod frozen;
pub mod indications;
pub mod plan;
pub mod revisions;

/// Why a reconciliation stopped; it is retried.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotFailure {
    /// The API server refused or did not answer.
    #[error(transparent)]
    Request(#[from] RequestError),
    /// The guest was not frozen, or not thawed.
    #[error("{doing} the guest")]
    Guest {
        /// Which of the two.
        doing: &'static str,
        /// Why.
        source: GuestError,
    },
    /// What firmware and TPM keep was not copied, or the copy was not removed.
    #[error("the copy of UEFI variables and TPM")]
    State(#[source] GuestError),
}

struct Shared {
    context: Context,
    guests: Guests,
}

/// Runs until dropped.
pub async fn run(client: Client, guests: Guests) {
    let config = watcher::Config::default;
    let controller = Controller::new(Api::<VirtualMachineSnapshot>::all(client.clone()), config())
        .watches(Api::<VirtualMachineSnapshotContent>::all(client.clone()), config(), |content| {
            let name = content.spec.virtual_machine_snapshot_name.as_deref()?;
            Some(ObjectRef::new(name).within(content.metadata.namespace.as_deref()?))
        })
        .watches(Api::<VolumeSnapshot>::all(client.clone()), config(), |volume| {
            let name = annotation(&volume, content::PART_ANNOTATION)?;
            Some(ObjectRef::new(name).within(volume.metadata.namespace.as_deref()?))
        });
    let shared = Shared { context: Context::new(client), guests };
    drive(controller, Arc::new(shared), "snapshot of a VM", reconcile).await;
}

/// The APIs of one namespace.
struct Apis {
    snapshots: Api<VirtualMachineSnapshot>,
    contents: Api<VirtualMachineSnapshotContent>,
    machines: Api<VirtualMachine>,
    instances: Api<VirtualMachineInstance>,
    claims: Api<PersistentVolumeClaim>,
    volumes: Api<VolumeSnapshot>,
    revisions: Api<ControllerRevision>,
}

impl Apis {
    fn new(client: &Client, namespace: &str) -> Self {
        Self {
            snapshots: Api::namespaced(client.clone(), namespace),
            contents: Api::namespaced(client.clone(), namespace),
            machines: Api::namespaced(client.clone(), namespace),
            instances: Api::namespaced(client.clone(), namespace),
            claims: Api::namespaced(client.clone(), namespace),
            volumes: Api::namespaced(client.clone(), namespace),
            revisions: Api::namespaced(client.clone(), namespace),
        }
    }
}

/// The objects that steps are about.
struct Seen<'a> {
    snapshot: &'a VirtualMachineSnapshot,
    vm: Option<&'a VirtualMachine>,
    vmi: Option<&'a VirtualMachineInstance>,
    content: Option<&'a VirtualMachineSnapshotContent>,
}

async fn reconcile(
    seen: Arc<VirtualMachineSnapshot>,
    shared: Arc<Shared>,
) -> Result<Requeue, SnapshotFailure> {
    let client = &shared.context.client;
    let apis = Apis::new(client, seen.metadata.namespace.as_deref().unwrap_or_default());
    let name = seen.metadata.name.as_deref().unwrap_or_default();
    let Some(snapshot) = apis.snapshots.get_opt(name).await.map_err(doing("reading the snapshot"))? else {
        return Ok(Requeue::await_change());
    };
    let source = &snapshot.spec.source.name;
    let vm = apis.machines.get_opt(source).await.map_err(doing("reading the VM of the snapshot"))?;
    let vmi = apis.instances.get_opt(source).await.map_err(doing("reading the instance of the VM"))?;
    let content = apis.contents.get_opt(&content::name(&snapshot)).await;
    let content = content.map_err(doing("reading the content of the snapshot"))?;
    let mut claims = Vec::new();
    let volumes = vm.iter().flat_map(|vm| &vm.spec.template.spec.volumes);
    for claim in volumes.filter_map(|volume| volume.claim()) {
        claims.extend(apis.claims.get_opt(claim).await.map_err(doing("reading a claim of the VM"))?);
    }
    let mut taken = Vec::new();
    for volume in content.iter().flat_map(content::names) {
        taken.extend(apis.volumes.get_opt(volume).await.map_err(doing("reading a VolumeSnapshot"))?);
    }
    let mut revisions = Vec::new();
    for (of, known) in vm.iter().filter(|_| content.is_none()).flat_map(self::revisions::named) {
        let kept = apis.revisions.get_opt(known.revision().unwrap_or_default()).await;
        let kept = kept.map_err(doing("reading a ControllerRevision of the VM"))?;
        revisions.extend(kept.and_then(|kept| self::revisions::saved(of, &known, &kept)));
    }
    let holder_exists = match vm.as_ref().and_then(|vm| Lock::Snapshot.holder(vm)) {
        Some(holder) if holder != name => {
            let found = apis.snapshots.get_opt(holder).await;
            found.map_err(doing("reading the snapshot that has the VM"))?.is_some()
        }
        _ => false,
    };
    let class = class(client).await?;
    let observed = Observed {
        snapshot: &snapshot,
        vm: vm.as_ref(),
        vmi: vmi.as_ref(),
        claims: &claims,
        revisions: &revisions,
        content: content.as_ref(),
        volumes: &taken,
        holder_exists,
        class: class.as_deref(),
    };
    let plan = plan::plan(&observed, Timestamp::now());
    let seen = Seen { snapshot: &snapshot, vm: vm.as_ref(), vmi: vmi.as_ref(), content: content.as_ref() };
    for action in &plan.actions {
        apply(&shared, &apis, &seen, action).await?;
    }
    Ok(plan.requeue.map_or_else(Requeue::await_change, Requeue::requeue))
}

/// The class of snapshots of Sheaf's volumes: the default one, or else the first by name.
async fn class(client: &Client) -> Result<Option<String>, RequestError> {
    let classes: Api<VolumeSnapshotClass> = Api::all(client.clone());
    let listed =
        classes.list(&ListParams::default()).await.map_err(doing("listing VolumeSnapshotClasses"))?;
    let mut ours: Vec<_> = listed.items.iter().filter(|class| class.driver == VOLUME_DRIVER).collect();
    ours.sort_by_key(|class| {
        (annotation(*class, DEFAULT_CLASS_ANNOTATION) != Some(TRUE), class.metadata.name.clone())
    });
    Ok(ours.first().and_then(|class| class.metadata.name.clone()))
}

async fn apply(
    shared: &Shared,
    apis: &Apis,
    seen: &Seen<'_>,
    action: &Action,
) -> Result<(), SnapshotFailure> {
    let snapshot = seen.snapshot;
    let done = match (action, seen.content, seen.vm) {
        (Action::AddFinalizer, ..) => add_finalizer(&apis.snapshots, snapshot, SNAPSHOT_FINALIZER).await,
        (Action::RemoveFinalizer, ..) => {
            remove_finalizer(&apis.snapshots, snapshot, SNAPSHOT_FINALIZER).await
        }
        (Action::Lock, _, Some(vm)) => {
            let patch = Lock::Snapshot.take(vm, snapshot.metadata.name.as_deref().unwrap_or_default());
            patch_vm(apis, vm, patch).await.map_err(doing("reserving the VM"))
        }
        (Action::Unlock, _, Some(vm)) => {
            let patch = Lock::Snapshot.release(vm, snapshot.metadata.name.as_deref().unwrap_or_default());
            ok_if_gone(patch_vm(apis, vm, patch).await).map_err(doing("releasing the VM"))
        }
        (Action::CreateContent(made), ..) => {
            ok_if_exists(apis.contents.create(&PostParams::default(), made).await)
                .map_err(doing("creating the content of the snapshot"))
        }
        (Action::DeleteContent, Some(content), _) => {
            let name = content.metadata.name.as_deref().unwrap_or_default();
            let only = Preconditions { uid: content.metadata.uid.clone(), resource_version: None };
            ok_if_gone(apis.contents.delete(name, &DeleteParams::default().preconditions(only)).await)
                .map_err(doing("deleting the content of the snapshot"))
        }
        (Action::ReleaseContent, Some(content), _) => {
            remove_finalizer(&apis.contents, content, CONTENT_FINALIZER).await
        }
        (Action::Mark(frozen), Some(content), _) => mark(apis, content, Some(frozen.text())).await,
        (Action::Unmark, Some(content), _) => mark(apis, content, None).await,
        (Action::Freeze(seconds), ..) => return freeze(shared, seen, *seconds).await,
        (Action::Thaw { must }, ..) => return thaw(shared, seen, *must).await,
        (Action::SaveState { node, uuid }, ..) => return save_state(shared, seen, node, uuid).await,
        (Action::DropState(node), ..) => {
            let (namespace, uid) = place(snapshot);
            return shared.guests.drop_state(node, namespace, uid).await.map_err(SnapshotFailure::State);
        }
        (Action::CreateVolume(volume), ..) => {
            ok_if_exists(apis.volumes.create(&PostParams::default(), volume).await)
                .map_err(doing("creating a VolumeSnapshot"))
        }
        (Action::DeleteVolume { name, uid }, ..) => {
            let only = Preconditions { uid: uid.clone(), resource_version: None };
            ok_if_gone(apis.volumes.delete(name, &DeleteParams::default().preconditions(only)).await)
                .map_err(doing("deleting a VolumeSnapshot"))
        }
        (Action::WriteContentStatus(status), Some(content), _) => {
            write_status(&apis.contents, content, content.status.as_ref(), status).await
        }
        (Action::WriteStatus(status), ..) => {
            write_status(&apis.snapshots, snapshot, snapshot.status.as_ref(), status).await
        }
        (Action::RecordEvent(event), ..) => {
            shared.context.events.record(snapshot, event).await;
            Ok(())
        }
        // The plan has these only with the objects that they are about.
        (
            Action::Lock
            | Action::Unlock
            | Action::DeleteContent
            | Action::ReleaseContent
            | Action::Mark(_)
            | Action::Unmark
            | Action::WriteContentStatus(_),
            ..,
        ) => Ok(()),
    };
    Ok(done?)
}

/// Namespace and UID of a snapshot.
fn place(snapshot: &VirtualMachineSnapshot) -> (&str, &str) {
    let meta = &snapshot.metadata;
    (meta.namespace.as_deref().unwrap_or_default(), meta.uid.as_deref().unwrap_or_default())
}

async fn save_state(shared: &Shared, seen: &Seen<'_>, node: &str, uuid: &str) -> Result<(), SnapshotFailure> {
    let (namespace, uid) = place(seen.snapshot);
    let state = State { namespace, uuid, snapshot: uid };
    let Err(error) = shared.guests.save_state(node, &state).await else { return Ok(()) };
    let note = format!("copying UEFI variables and TPM: {}; it is tried again", chain(&error));
    shared.context.events.record(seen.snapshot, &Event::warning("StateNotCopied", note)).await;
    Err(SnapshotFailure::State(error))
}

async fn patch_vm(apis: &Apis, vm: &VirtualMachine, patch: json_patch::Patch) -> Result<(), kube::Error> {
    let name = vm.metadata.name.as_deref().unwrap_or_default();
    let patch = Patch::<()>::Json(patch);
    apis.machines.patch_status(name, &PatchParams::default(), &patch).await.map(drop)
}

async fn mark(
    apis: &Apis,
    content: &VirtualMachineSnapshotContent,
    text: Option<String>,
) -> Result<(), RequestError> {
    let name = content.metadata.name.as_deref().unwrap_or_default();
    let patch = json!({"metadata": {"uid": content.metadata.uid, "annotations": {FROZEN_ANNOTATION: text}}});
    let patched = apis.contents.patch(name, &PatchParams::default(), &Patch::Merge(&patch)).await;
    patched.map(drop).map_err(doing("noting in the content whether the guest is frozen"))
}

async fn freeze(shared: &Shared, seen: &Seen<'_>, seconds: u64) -> Result<(), SnapshotFailure> {
    let Some(vmi) = seen.vmi else { return Ok(()) };
    let Err(source) = shared.guests.freeze(vmi, seconds).await else { return Ok(()) };
    let note = format!("freezing the guest: {}; it is tried again", chain(&source));
    shared.context.events.record(seen.snapshot, &Event::warning("FreezeFailed", note)).await;
    Err(SnapshotFailure::Guest { doing: "freezing", source })
}

async fn thaw(shared: &Shared, seen: &Seen<'_>, must: bool) -> Result<(), SnapshotFailure> {
    let Some(vmi) = seen.vmi else { return Ok(()) };
    match shared.guests.thaw(vmi).await {
        Ok(()) => Ok(()),
        Err(source) if must => Err(SnapshotFailure::Guest { doing: "thawing", source }),
        Err(error) => {
            let name = vmi.metadata.name.as_deref().unwrap_or_default();
            tracing::warn!("{name}: thawing its guest: {}; its node thaws it in time", chain(&error));
            Ok(())
        }
    }
}
