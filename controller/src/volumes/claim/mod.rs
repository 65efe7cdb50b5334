//! Controller of claims: from a PersistentVolumeClaim of ours and the node chosen for it to a bound volume, and to a
//! larger one.
//!
//! Reads: claims, their StorageClasses, LocalVolumes and origins (read from the API server for each decision), the inventory of pools and
//! volumes. Owns: LocalVolumes and PersistentVolumes of claims; of a claim its selected node, when the volume does not fit
//! there, what it says of an upload, and the capacity in its status. Never touches: what is bound elsewhere, what other provisioners make. Route in:
//! watches. Route out: [`plan`], applied step by step.

use std::sync::Arc;

use k8s_openapi::{
    api::{
        core::v1::{PersistentVolume, PersistentVolumeClaim, PersistentVolumeClaimStatus},
        storage::v1::StorageClass,
    },
    jiff::Timestamp,
};
use kube::{
    Api, Client,
    api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions},
    runtime::{Controller, controller::Action as Requeue, reflector::ObjectRef, watcher},
};
use serde_json::json;
use sheaf_api::{
    names::{CLAIM_ANNOTATION, SELECTED_NODE_ANNOTATION},
    snapshot::VolumeSnapshot,
    storage::LocalVolume,
};

use crate::{
    object::{RequestError, doing, drive, ok_if_exists, ok_if_gone},
    volumes::{
        Shared, VolumeError, annotation, handle, is_ours, local_volume, name_for, room,
        snapshot::plan::name_for as snapshot_name, split,
    },
};
use plan::Action;
use source::{Found, Wanted};

mod grow;
pub mod made;
pub mod plan;
pub mod source;
mod upload;

/// Runs until dropped.
pub async fn run(shared: Arc<Shared>) {
    let client = shared.client.clone();
    let config = watcher::Config::default;
    let controller = Controller::new(Api::<PersistentVolumeClaim>::all(client.clone()), config())
        .watches(Api::<LocalVolume>::all(client.clone()), config(), |volume| {
            let (namespace, name) = split(annotation(&volume, CLAIM_ANNOTATION)?)?;
            Some(ObjectRef::new(name).within(namespace))
        })
        .watches(Api::<PersistentVolume>::all(client), config(), |persistent| {
            handle(&persistent)?;
            let claim = persistent.spec.as_ref()?.claim_ref.as_ref()?;
            Some(ObjectRef::new(claim.name.as_deref()?).within(claim.namespace.as_deref()?))
        });
    drive(controller, shared, "claim", reconcile).await;
}

async fn reconcile(seen: Arc<PersistentVolumeClaim>, shared: Arc<Shared>) -> Result<Requeue, VolumeError> {
    let client = &shared.client;
    let Some(class) = class_of(client, &seen).await?.filter(is_ours) else {
        return Ok(Requeue::await_change());
    };
    let namespace = seen.metadata.namespace.clone().unwrap_or_default();
    let claims: Api<PersistentVolumeClaim> = Api::namespaced(client.clone(), &namespace);
    let name = seen.metadata.name.as_deref().unwrap_or_default();
    let Some(claim) = claims.get_opt(name).await.map_err(doing("reading the claim"))? else {
        return Ok(Requeue::await_change());
    };
    let spec = claim.spec.clone().unwrap_or_default();
    let persistent = spec.volume_name.filter(|name| !name.is_empty()).unwrap_or_else(|| name_for(&claim));
    let persistents: Api<PersistentVolume> = Api::all(client.clone());
    let persistent = persistents.get_opt(&persistent).await.map_err(doing("reading its PersistentVolume"))?;
    let volume = persistent.as_ref().and_then(handle).map_or_else(|| name_for(&claim), str::to_owned);
    let own = local_volume(client, &volume).await?;
    if own.is_none() {
        // What was booked for it was not made, or is gone.
        shared.inventory.cancel(&volume);
    }
    let source = match source::wanted(&claim) {
        Ok(wanted) => {
            let found = find(client, &namespace, &wanted).await?;
            Ok((wanted, found))
        }
        Err(why) => Err(why),
    };
    let plan = shared.inventory.book(own.as_ref(), |pools, volumes| {
        let observed = plan::Observed {
            claim: &claim,
            class: &class,
            pools,
            volumes,
            volume: own.as_ref(),
            persistent: persistent.as_ref(),
            source,
        };
        let plan = plan::plan(&observed, Timestamp::now())?;
        let booked = plan.booked(own.as_ref());
        Ok::<_, VolumeError>((plan, booked))
    })?;
    for action in &plan.actions {
        apply(&shared, &claims, &claim, action).await?;
    }
    Ok(plan.requeue.map_or_else(Requeue::await_change, Requeue::requeue))
}

/// The class that a claim names.
pub async fn class_of(
    client: &Client,
    claim: &PersistentVolumeClaim,
) -> Result<Option<StorageClass>, RequestError> {
    let named = claim.spec.as_ref().and_then(|spec| spec.storage_class_name.as_deref());
    let Some(name) = named.filter(|name| !name.is_empty()) else { return Ok(None) };
    Api::all(client.clone()).get_opt(name).await.map_err(doing("reading its StorageClass"))
}

/// The origin of a copy.
pub async fn find(
    client: &Client,
    namespace: &str,
    wanted: &Wanted,
) -> Result<Option<Result<Found, String>>, RequestError> {
    match wanted {
        Wanted::Anywhere(_) => Ok(None),
        Wanted::Claim(name) => {
            let claims: Api<PersistentVolumeClaim> = Api::namespaced(client.clone(), namespace);
            let origin = claims.get_opt(name).await.map_err(doing("reading the claim that it copies"))?;
            let bound = origin.as_ref().and_then(|origin| origin.spec.as_ref()?.volume_name.clone());
            let persistent = match bound {
                Some(bound) => {
                    let persistents: Api<PersistentVolume> = Api::all(client.clone());
                    persistents.get_opt(&bound).await.map_err(doing("reading the volume that it copies"))?
                }
                None => None,
            };
            let volume = match persistent.as_ref().and_then(handle) {
                Some(handle) => local_volume(client, handle).await?,
                None => None,
            };
            Ok(Some(source::of_claim(name, origin.as_ref(), persistent.as_ref(), volume.as_ref())))
        }
        Wanted::Snapshot(name) => {
            let snapshots: Api<VolumeSnapshot> = Api::namespaced(client.clone(), namespace);
            let origin =
                snapshots.get_opt(name).await.map_err(doing("reading the snapshot that it copies"))?;
            let volume = match &origin {
                Some(origin) => local_volume(client, &snapshot_name(origin)).await?,
                None => None,
            };
            Ok(Some(source::of_snapshot(name, origin.as_ref(), volume.as_ref())))
        }
    }
}

async fn apply(
    shared: &Shared,
    claims: &Api<PersistentVolumeClaim>,
    claim: &PersistentVolumeClaim,
    action: &Action,
) -> Result<(), RequestError> {
    let volumes: Api<LocalVolume> = Api::all(shared.client.clone());
    let persistents: Api<PersistentVolume> = Api::all(shared.client.clone());
    match action {
        Action::Pin(node) => select(claims, claim, Some(node)).await,
        Action::Reschedule => select(claims, claim, None).await,
        Action::CreateVolume(volume) => ok_if_exists(volumes.create(&PostParams::default(), volume).await)
            .map_err(doing("creating its LocalVolume")),
        Action::DeleteVolume { name, uid } => {
            let only = Preconditions { uid: Some(uid.clone()), resource_version: None };
            ok_if_gone(volumes.delete(name, &DeleteParams::default().preconditions(only)).await)
                .map_err(doing("deleting its LocalVolume"))
        }
        Action::CreatePersistent(persistent) => {
            ok_if_exists(persistents.create(&PostParams::default(), persistent).await)
                .map_err(doing("creating its PersistentVolume"))
        }
        Action::Grow { name, to } => {
            let patch = json!({"spec": {"sizeBytes": to}});
            ok_if_gone(volumes.patch(name, &PatchParams::default(), &Patch::Merge(&patch)).await)
                .map_err(doing("growing its LocalVolume"))
        }
        Action::Capacity { name, bytes } => {
            let patch = json!({"spec": {"capacity": {"storage": room::quantity(*bytes)}}});
            ok_if_gone(persistents.patch(name, &PatchParams::default(), &Patch::Merge(&patch)).await)
                .map_err(doing("updating the capacity of its PersistentVolume"))
        }
        Action::Annotate(annotations) => {
            let patch = json!({"metadata": {"uid": claim.metadata.uid, "annotations": annotations}});
            let name = claim.metadata.name.as_deref().unwrap_or_default();
            ok_if_gone(claims.patch(name, &PatchParams::default(), &Patch::Merge(&patch)).await)
                .map_err(doing("annotating the claim"))
        }
        Action::WriteStatus(status) => write_status(claims, claim, status).await,
        Action::RecordEvent(event) => {
            shared.events.record(claim, event).await;
            Ok(())
        }
    }
}

/// Sets or removes the node of a claim, unless the claim has changed since it was read.
async fn select(
    claims: &Api<PersistentVolumeClaim>,
    claim: &PersistentVolumeClaim,
    node: Option<&str>,
) -> Result<(), RequestError> {
    let patch = json!({"metadata": {
        "uid": claim.metadata.uid, "resourceVersion": claim.metadata.resource_version,
        "annotations": {SELECTED_NODE_ANNOTATION: node},
    }});
    let name = claim.metadata.name.as_deref().unwrap_or_default();
    ok_if_gone(claims.patch(name, &PatchParams::default(), &Patch::Merge(&patch)).await)
        .map_err(doing("changing the node of the claim"))
}

async fn write_status(
    claims: &Api<PersistentVolumeClaim>,
    claim: &PersistentVolumeClaim,
    status: &PersistentVolumeClaimStatus,
) -> Result<(), RequestError> {
    let patch = json!({
        "metadata": {"uid": claim.metadata.uid, "resourceVersion": claim.metadata.resource_version},
        "status": {"capacity": status.capacity, "conditions": status.conditions},
    });
    let name = claim.metadata.name.as_deref().unwrap_or_default();
    ok_if_gone(claims.patch_status(name, &PatchParams::default(), &Patch::Merge(&patch)).await)
        .map_err(doing("writing the status of the claim"))
}
