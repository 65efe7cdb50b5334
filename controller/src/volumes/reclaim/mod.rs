//! Controllers of what no claim uses any more: PersistentVolumes that were released, LocalVolumes whose claim was deleted early.
//!
//! Reads: PersistentVolumes of ours, LocalVolumes, whether a claim is there. Owns: the deletion of both, the finalizer of
//! PersistentVolumes. Never touches: claims, snapshots, what is bound or to be retained. Route in: watches. Route out:
//! [`plan`], done step by step.

use std::{sync::Arc, time::Duration};

use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use kube::{
    Api,
    api::{DeleteParams, Patch, PatchParams, Preconditions},
    runtime::{Controller, controller::Action as Requeue, reflector::ObjectRef, watcher},
};
use serde_json::json;
use sheaf_api::{
    names::{CLAIM_ANNOTATION, RETAINED_LABEL, TRUE, VOLUME_FINALIZER},
    storage::LocalVolume,
};

use crate::{
    object::{RequestError, doing, drive, ok_if_gone, remove_finalizer},
    volumes::{Shared, VolumeError, annotation, handle, local_volume, name_for, split},
};
use plan::Step;

pub mod plan;

/// Until it is checked again whether a copy has been made.
const COPY_INTERVAL: Duration = Duration::from_secs(10);

/// Runs both until dropped.
pub async fn run(shared: Arc<Shared>) {
    let client = shared.client.clone();
    let config = watcher::Config::default;
    let persistents = Controller::new(Api::<PersistentVolume>::all(client.clone()), config()).watches(
        Api::<LocalVolume>::all(client.clone()),
        config(),
        |volume| Some(ObjectRef::new(volume.metadata.name.as_deref()?)),
    );
    let orphans = Controller::new(Api::<LocalVolume>::all(client.clone()), config()).watches(
        Api::<PersistentVolumeClaim>::all(client),
        config(),
        |claim| Some(ObjectRef::new(&name_for(&claim))),
    );
    tokio::join!(
        drive(persistents, shared.clone(), "persistent volume", persistent),
        drive(orphans, shared, "local volume", orphan),
    );
}

async fn persistent(seen: Arc<PersistentVolume>, shared: Arc<Shared>) -> Result<Requeue, VolumeError> {
    if handle(&seen).is_none() {
        return Ok(Requeue::await_change());
    }
    let persistents: Api<PersistentVolume> = Api::all(shared.client.clone());
    let name = seen.metadata.name.as_deref().unwrap_or_default();
    let read = persistents.get_opt(name).await.map_err(doing("reading the PersistentVolume"))?;
    let Some((persistent, handle)) = read.as_ref().and_then(|read| Some((read, handle(read)?))) else {
        return Ok(Requeue::await_change());
    };
    let volume = local_volume(&shared.client, handle).await?;
    let steps = plan::of_persistent(persistent, volume.as_ref(), &shared.inventory.volumes());
    for step in &steps {
        match (step, &volume) {
            (Step::DeletePersistent, _) => {
                let only = Preconditions { uid: persistent.metadata.uid.clone(), resource_version: None };
                let how = DeleteParams::default().preconditions(only);
                ok_if_gone(persistents.delete(name, &how).await)
                    .map_err(doing("deleting the PersistentVolume"))?;
            }
            (Step::Release, _) => remove_finalizer(&persistents, persistent, VOLUME_FINALIZER).await?,
            (step, Some(volume)) => of_volume(&shared, step, volume).await?,
            (_, None) => {}
        }
    }
    Ok(again(&steps))
}

async fn orphan(seen: Arc<LocalVolume>, shared: Arc<Shared>) -> Result<Requeue, VolumeError> {
    let Some((namespace, claim)) = annotation(&*seen, CLAIM_ANNOTATION).and_then(split) else {
        return Ok(Requeue::await_change());
    };
    let name = seen.metadata.name.clone().unwrap_or_default();
    // Order counts: a claim that is there now may be bound a moment later, and one that is gone never will.
    let claims: Api<PersistentVolumeClaim> = Api::namespaced(shared.client.clone(), namespace);
    let claim = claims.get_opt(claim).await.map_err(doing("reading the claim of a LocalVolume"))?;
    let claimed = claim.is_some_and(|claim| name_for(&claim) == name);
    let persistents: Api<PersistentVolume> = Api::all(shared.client.clone());
    let persistent = persistents.get_opt(&name).await.map_err(doing("reading its PersistentVolume"))?;
    if claimed || persistent.is_some() {
        return Ok(Requeue::await_change());
    }
    let volume = local_volume(&shared.client, &name).await?;
    let Some(volume) = volume.filter(|volume| volume.metadata.uid == seen.metadata.uid) else {
        return Ok(Requeue::await_change());
    };
    let steps = plan::of_orphan(&volume, claimed, &shared.inventory.volumes());
    for step in &steps {
        of_volume(&shared, step, &volume).await?;
    }
    Ok(again(&steps))
}

/// A step that is about the LocalVolume.
async fn of_volume(shared: &Shared, step: &Step, volume: &LocalVolume) -> Result<(), RequestError> {
    let volumes: Api<LocalVolume> = Api::all(shared.client.clone());
    let name = volume.metadata.name.as_deref().unwrap_or_default();
    match step {
        Step::DeleteVolume => {
            let only = Preconditions { uid: volume.metadata.uid.clone(), resource_version: None };
            ok_if_gone(volumes.delete(name, &DeleteParams::default().preconditions(only)).await)
                .map_err(doing("deleting a LocalVolume"))
        }
        Step::Retain => {
            let patch = json!({"metadata": {"uid": volume.metadata.uid, "labels": {RETAINED_LABEL: TRUE}}});
            ok_if_gone(volumes.patch(name, &PatchParams::default(), &Patch::Merge(&patch)).await)
                .map_err(doing("marking a LocalVolume as kept"))
        }
        Step::DeletePersistent | Step::Release | Step::Wait => Ok(()),
    }
}

fn again(steps: &[Step]) -> Requeue {
    if steps.contains(&Step::Wait) { Requeue::requeue(COPY_INTERVAL) } else { Requeue::await_change() }
}
