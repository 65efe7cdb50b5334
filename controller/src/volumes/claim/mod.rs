//! Controller of claims: from a PersistentVolumeClaim of ours and the node chosen for it to a bound volume, and to a
//! larger one.
//!
//! Reads: claims, StorageClasses, StoragePools, LocalVolumes, VolumeSnapshots (all asked anew for each decision). Owns:
//! LocalVolumes and PersistentVolumes of claims; of a claim its selected node, when that can not be, and the capacity in
//! its status. Never touches: what is bound elsewhere, what other provisioners make. Route in: watches. Route out:
//! [`plan`], done step by step here while the booking is held.

use std::{sync::Arc, time::Duration};

use futures::StreamExt;
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
    object::{self, RequestError, doing, gone},
    volumes::{
        Shared, VolumeError, all_pools, all_volumes, annotation, handle, is_ours, name_for, room, split,
    },
};
use plan::Action;
use source::{Found, Wanted};

mod grow;
pub mod made;
pub mod plan;
pub mod source;

/// Until the next try after the API server refused or failed.
const RETRY: Duration = Duration::from_secs(10);

/// Runs until dropped.
pub async fn run(shared: Arc<Shared>) {
    let client = shared.client.clone();
    let config = watcher::Config::default;
    Controller::new(Api::<PersistentVolumeClaim>::all(client.clone()), config())
        .watches(Api::<LocalVolume>::all(client.clone()), config(), |volume| {
            let (namespace, name) = split(annotation(&volume, CLAIM_ANNOTATION)?)?;
            Some(ObjectRef::new(name).within(namespace))
        })
        .watches(Api::<PersistentVolume>::all(client), config(), |persistent| {
            handle(&persistent)?;
            let claim = persistent.spec.as_ref()?.claim_ref.as_ref()?;
            Some(ObjectRef::new(claim.name.as_deref()?).within(claim.namespace.as_deref()?))
        })
        .run(reconcile, |_, _, _| Requeue::requeue(RETRY), shared)
        .for_each(|result| object::log("claim", result))
        .await;
}

async fn reconcile(seen: Arc<PersistentVolumeClaim>, shared: Arc<Shared>) -> Result<Requeue, VolumeError> {
    let Some(class) = class_of(&shared.client, &seen).await?.filter(is_ours) else {
        return Ok(Requeue::await_change());
    };
    let namespace = seen.metadata.namespace.clone().unwrap_or_default();
    let claims: Api<PersistentVolumeClaim> = Api::namespaced(shared.client.clone(), &namespace);
    let _booked = shared.booking.lock().await;
    let name = seen.metadata.name.as_deref().unwrap_or_default();
    let Some(claim) = claims.get_opt(name).await.map_err(doing("reading the claim"))? else {
        return Ok(Requeue::await_change());
    };
    let (pools, volumes) = (all_pools(&shared.client).await?, all_volumes(&shared.client).await?);
    let spec = claim.spec.clone().unwrap_or_default();
    let persistent = spec.volume_name.filter(|name| !name.is_empty()).unwrap_or_else(|| name_for(&claim));
    let persistents: Api<PersistentVolume> = Api::all(shared.client.clone());
    let persistent = persistents.get_opt(&persistent).await.map_err(doing("reading its PersistentVolume"))?;
    let source = match source::wanted(&claim) {
        Ok(wanted) => {
            let found = find(&shared.client, &namespace, &wanted, &volumes).await?;
            Ok((wanted, found))
        }
        Err(why) => Err(why),
    };
    let seen = plan::Seen {
        claim: &claim,
        class: &class,
        pools: &pools,
        volumes: &volumes,
        persistent: persistent.as_ref(),
        source,
    };
    let plan = plan::plan(&seen, Timestamp::now())?;
    for action in &plan.actions {
        act(&shared, &claims, &claim, action).await?;
    }
    if let Some(status) = &plan.status {
        report(&claims, &claim, status).await?;
    }
    Ok(plan.again.map_or_else(Requeue::await_change, Requeue::requeue))
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
    volumes: &[LocalVolume],
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
            Ok(Some(source::of_claim(name, origin.as_ref(), persistent.as_ref(), volumes)))
        }
        Wanted::Snapshot(name) => {
            let snapshots: Api<VolumeSnapshot> = Api::namespaced(client.clone(), namespace);
            let origin =
                snapshots.get_opt(name).await.map_err(doing("reading the snapshot that it copies"))?;
            Ok(Some(source::of_snapshot(name, origin.as_ref(), volumes)))
        }
    }
}

async fn act(
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
        Action::CreateVolume(volume) => there(volumes.create(&PostParams::default(), volume).await.map(drop))
            .map_err(doing("creating its LocalVolume")),
        Action::DeleteVolume { name, uid } => {
            let only = Preconditions { uid: Some(uid.clone()), resource_version: None };
            gone(volumes.delete(name, &DeleteParams::default().preconditions(only)).await.map(drop))
                .map_err(doing("deleting its LocalVolume"))
        }
        Action::CreatePersistent(persistent) => {
            there(persistents.create(&PostParams::default(), persistent).await.map(drop))
                .map_err(doing("creating its PersistentVolume"))
        }
        Action::Grow { name, to } => {
            let patch = json!({"spec": {"sizeBytes": to}});
            gone(volumes.patch(name, &PatchParams::default(), &Patch::Merge(&patch)).await.map(drop))
                .map_err(doing("growing its LocalVolume"))
        }
        Action::Capacity { name, bytes } => {
            let patch = json!({"spec": {"capacity": {"storage": room::quantity(*bytes)}}});
            gone(persistents.patch(name, &PatchParams::default(), &Patch::Merge(&patch)).await.map(drop))
                .map_err(doing("saying how large its PersistentVolume is"))
        }
        Action::Tell(news) => {
            shared.teller.tell(claim, news).await;
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
    gone(claims.patch(name, &PatchParams::default(), &Patch::Merge(&patch)).await.map(drop))
        .map_err(doing("changing the node of the claim"))
}

async fn report(
    claims: &Api<PersistentVolumeClaim>,
    claim: &PersistentVolumeClaim,
    status: &PersistentVolumeClaimStatus,
) -> Result<(), RequestError> {
    let patch = json!({
        "metadata": {"uid": claim.metadata.uid, "resourceVersion": claim.metadata.resource_version},
        "status": {"capacity": status.capacity, "conditions": status.conditions},
    });
    let name = claim.metadata.name.as_deref().unwrap_or_default();
    gone(claims.patch_status(name, &PatchParams::default(), &Patch::Merge(&patch)).await.map(drop))
        .map_err(doing("writing the status of the claim"))
}

/// There already: it has the claim's UID in its name, so it is the same.
fn there(result: Result<(), kube::Error>) -> Result<(), kube::Error> {
    match result {
        Err(kube::Error::Api(status)) if status.code == 409 => Ok(()),
        other => other,
    }
}
