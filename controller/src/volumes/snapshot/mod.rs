//! Controller of snapshots: from VolumeSnapshot to a LocalVolume of kind Snapshot, and back to its status.
//!
//! Reads: snapshots of our classes, their claims and what those are bound to, StoragePools, LocalVolumes. Owns: contents and
//! LocalVolumes of snapshots, status and finalizer of both snapshot kinds. Never touches: the claim, snapshots of other
//! drivers. Route in: watches. Route out: [`plan`], applied step by step.

use std::sync::Arc;

use k8s_openapi::{
    api::core::v1::{PersistentVolume, PersistentVolumeClaim},
    jiff::Timestamp,
};
use kube::{
    Api,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams, Preconditions},
    runtime::{Controller, controller::Action as Requeue, reflector::ObjectRef, watcher},
};
use serde_json::json;
use sheaf_api::{
    names::{RETAINED_LABEL, SNAPSHOT_ANNOTATION, TRUE, VOLUME_DRIVER},
    snapshot::{
        CONTENT_FINALIZER, DEFAULT_CLASS_ANNOTATION, SNAPSHOT_FINALIZER, VolumeSnapshot, VolumeSnapshotClass,
        VolumeSnapshotContent,
    },
    storage::LocalVolume,
};

use crate::{
    object::{
        RequestError, add_finalizer, doing, drive, ok_if_exists, ok_if_gone, remove_finalizer, write_status,
    },
    volumes::{Shared, VolumeError, annotation, handle, local_volume, reclaim::plan::Step, split},
};
use plan::Action;

pub mod plan;

/// Runs until dropped.
pub async fn run(shared: Arc<Shared>) {
    let client = shared.client.clone();
    let config = watcher::Config::default;
    let controller = Controller::new(Api::<VolumeSnapshot>::all(client.clone()), config())
        .watches(Api::<LocalVolume>::all(client.clone()), config(), |volume| {
            let (namespace, name) = split(annotation(&volume, SNAPSHOT_ANNOTATION)?)?;
            Some(ObjectRef::new(name).within(namespace))
        })
        .watches(Api::<VolumeSnapshotContent>::all(client), config(), |content| {
            let of = &content.spec.volume_snapshot_ref;
            Some(ObjectRef::new(&of.name).within(&of.namespace))
        });
    drive(controller, shared, "snapshot", reconcile).await;
}

async fn reconcile(seen: Arc<VolumeSnapshot>, shared: Arc<Shared>) -> Result<Requeue, VolumeError> {
    let client = &shared.client;
    let namespace = seen.metadata.namespace.clone().unwrap_or_default();
    let snapshots: Api<VolumeSnapshot> = Api::namespaced(client.clone(), &namespace);
    let contents: Api<VolumeSnapshotContent> = Api::all(client.clone());
    let name = seen.metadata.name.as_deref().unwrap_or_default();
    let Some(snapshot) = snapshots.get_opt(name).await.map_err(doing("reading the snapshot"))? else {
        return Ok(Requeue::await_change());
    };
    let class = class_of(&shared, &snapshot).await?;
    let content = contents
        .get_opt(&plan::content_name(&snapshot))
        .await
        .map_err(doing("reading the content of the snapshot"))?;
    let ours = class.as_ref().is_some_and(|class| class.driver == VOLUME_DRIVER);
    if !ours && content.is_none() {
        return Ok(Requeue::await_change());
    }
    let claims: Api<PersistentVolumeClaim> = Api::namespaced(client.clone(), &namespace);
    let claim = match snapshot.spec.source.persistent_volume_claim_name.as_deref() {
        Some(claim) => claims.get_opt(claim).await.map_err(doing("reading the claim of the snapshot"))?,
        None => None,
    };
    let bound = claim.as_ref().and_then(|claim| claim.spec.as_ref()?.volume_name.clone());
    let persistents: Api<PersistentVolume> = Api::all(client.clone());
    let persistent = match bound {
        Some(bound) => {
            persistents.get_opt(&bound).await.map_err(doing("reading the volume of the snapshot"))?
        }
        None => None,
    };
    let name = plan::name_for(&snapshot);
    let own = local_volume(client, &name).await?;
    if own.is_none() {
        // What was booked for it was not made, or is gone.
        shared.inventory.cancel(&name);
    }
    let origin = match persistent.as_ref().and_then(handle) {
        Some(handle) => local_volume(client, handle).await?,
        None => None,
    };
    let plan = shared.inventory.book(own.as_ref(), |pools, volumes| {
        let observed = plan::Observed {
            snapshot: &snapshot,
            class: class.as_ref(),
            claim: claim.as_ref(),
            persistent: persistent.as_ref(),
            content: content.as_ref(),
            pools,
            volumes,
            volume: own.as_ref(),
            origin: origin.as_ref(),
        };
        let plan = plan::plan(&observed, Timestamp::now());
        let booked = plan.booked();
        Ok::<_, VolumeError>((plan, booked))
    })?;
    for action in &plan.actions {
        apply(&shared, &snapshots, &snapshot, content.as_ref(), action).await?;
    }
    Ok(plan.requeue.map_or_else(Requeue::await_change, Requeue::requeue))
}

/// The class that a snapshot names, or the one for those that name none.
async fn class_of(
    shared: &Shared,
    snapshot: &VolumeSnapshot,
) -> Result<Option<VolumeSnapshotClass>, RequestError> {
    let classes: Api<VolumeSnapshotClass> = Api::all(shared.client.clone());
    if let Some(name) = &snapshot.spec.volume_snapshot_class_name {
        return classes.get_opt(name).await.map_err(doing("reading its VolumeSnapshotClass"));
    }
    let listed =
        classes.list(&ListParams::default()).await.map_err(doing("listing VolumeSnapshotClasses"))?;
    let default = |class: &VolumeSnapshotClass| annotation(class, DEFAULT_CLASS_ANNOTATION) == Some(TRUE);
    Ok(listed.items.into_iter().find(|class| class.driver == VOLUME_DRIVER && default(class)))
}

async fn apply(
    shared: &Shared,
    snapshots: &Api<VolumeSnapshot>,
    snapshot: &VolumeSnapshot,
    content: Option<&VolumeSnapshotContent>,
    action: &Action,
) -> Result<(), RequestError> {
    let contents: Api<VolumeSnapshotContent> = Api::all(shared.client.clone());
    let volumes: Api<LocalVolume> = Api::all(shared.client.clone());
    match (action, content) {
        (Action::AddFinalizer, _) => add_finalizer(snapshots, snapshot, SNAPSHOT_FINALIZER).await,
        (Action::RemoveFinalizer, _) => remove_finalizer(snapshots, snapshot, SNAPSHOT_FINALIZER).await,
        (Action::CreateContent(made), _) => ok_if_exists(contents.create(&PostParams::default(), made).await)
            .map_err(doing("creating the content of the snapshot")),
        (Action::ReleaseContent, Some(content)) => {
            remove_finalizer(&contents, content, CONTENT_FINALIZER).await
        }
        (Action::DeleteContent, Some(content)) => {
            let name = content.metadata.name.as_deref().unwrap_or_default();
            let only = Preconditions { uid: content.metadata.uid.clone(), resource_version: None };
            ok_if_gone(contents.delete(name, &DeleteParams::default().preconditions(only)).await)
                .map_err(doing("deleting the content of the snapshot"))
        }
        (Action::WriteStatus(status), _) => {
            write_status(snapshots, snapshot, snapshot.status.as_ref(), status).await
        }
        (Action::WriteContentStatus(status), Some(content)) => {
            write_status(&contents, content, content.status.as_ref(), status).await
        }
        (Action::ReleaseContent | Action::DeleteContent | Action::WriteContentStatus(_), None) => Ok(()),
        (Action::CreateVolume(volume), _) => {
            ok_if_exists(volumes.create(&PostParams::default(), volume).await)
                .map_err(doing("creating the LocalVolume of the snapshot"))
        }
        (Action::Reclaim(Step::DeleteVolume), _) => {
            let name = plan::name_for(snapshot);
            ok_if_gone(volumes.delete(&name, &DeleteParams::default()).await)
                .map_err(doing("deleting the LocalVolume of the snapshot"))
        }
        (Action::Reclaim(Step::Retain), _) => {
            let name = plan::name_for(snapshot);
            let patch = json!({"metadata": {"labels": {RETAINED_LABEL: TRUE}}});
            ok_if_gone(volumes.patch(&name, &PatchParams::default(), &Patch::Merge(&patch)).await)
                .map_err(doing("marking the LocalVolume of the snapshot as kept"))
        }
        (Action::Reclaim(_), _) => Ok(()),
        (Action::RecordEvent(event), _) => {
            shared.events.record(snapshot, event).await;
            Ok(())
        }
    }
}
