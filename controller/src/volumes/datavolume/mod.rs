//! Controller of DataVolumes: from DataVolume to its claim, and back to the status that CDI's tools read.
//!
//! Reads: DataVolumes, their claims and LocalVolumes, StorageClasses, origins of copies. Owns: claims of DataVolumes, the
//! status of DataVolumes. Never touches: LocalVolumes, which are the claim's. Route in: watches. Route out: [`plan`].

use std::sync::Arc;

use k8s_openapi::{
    api::{core::v1::PersistentVolumeClaim, storage::v1::StorageClass},
    jiff::Timestamp,
};
use kube::{
    Api,
    api::{ListParams, PostParams},
    runtime::{Controller, controller::Action as Requeue, reflector::ObjectRef, watcher},
};
use sheaf_api::{cdi::DataVolume, names::CLAIM_ANNOTATION, storage::LocalVolume};

use crate::{
    events::Event,
    object::{doing, drive, ok_if_exists, write_status},
    volumes::{
        Shared, VolumeError, annotation,
        claim::{self as claims_of, source::Wanted},
        local_volume, name_for, split,
    },
};
use plan::Action;

pub mod claim;
pub mod plan;

/// Runs until dropped.
pub async fn run(shared: Arc<Shared>) {
    let client = shared.client.clone();
    let config = watcher::Config::default;
    let controller = Controller::new(Api::<DataVolume>::all(client.clone()), config())
        .owns(Api::<PersistentVolumeClaim>::all(client.clone()), config())
        // A DataVolume and its claim have one name.
        .watches(Api::<LocalVolume>::all(client), config(), |volume| {
            let (namespace, name) = split(annotation(&volume, CLAIM_ANNOTATION)?)?;
            Some(ObjectRef::new(name).within(namespace))
        });
    drive(controller, shared, "data volume", reconcile).await;
}

async fn reconcile(seen: Arc<DataVolume>, shared: Arc<Shared>) -> Result<Requeue, VolumeError> {
    let client = &shared.client;
    let namespace = seen.metadata.namespace.clone().unwrap_or_default();
    let name = seen.metadata.name.clone().unwrap_or_default();
    let datas: Api<DataVolume> = Api::namespaced(client.clone(), &namespace);
    let claims: Api<PersistentVolumeClaim> = Api::namespaced(client.clone(), &namespace);
    let Some(data) = datas.get_opt(&name).await.map_err(doing("reading the DataVolume"))? else {
        return Ok(Requeue::await_change());
    };
    let claim = claims.get_opt(&name).await.map_err(doing("reading its claim"))?;
    let classes: Api<StorageClass> = Api::all(client.clone());
    let classes = classes.list(&ListParams::default()).await.map_err(doing("listing StorageClasses"))?.items;
    let volume = match &claim {
        Some(claim) => local_volume(client, &name_for(claim)).await?,
        None => None,
    };
    let source = &data.spec.source;
    let wanted = match (&source.pvc, &source.snapshot) {
        (Some(origin), _) => Some((origin, Wanted::Claim(origin.name.clone()))),
        (_, Some(origin)) => Some((origin, Wanted::Snapshot(origin.name.clone()))),
        _ => None,
    };
    let origin = match wanted {
        Some((origin, _)) if origin.namespace.as_ref().is_some_and(|other| *other != namespace) => {
            Some(Err(format!("the source of a copy must be in the same namespace, {namespace}")))
        }
        Some((_, wanted)) => claims_of::find(client, &namespace, &wanted).await?,
        None => None,
    };
    let observed = plan::Observed {
        data: &data,
        claim: claim.as_ref(),
        volume: volume.as_ref(),
        classes: &classes,
        origin,
    };
    let plan = plan::plan(&observed, Timestamp::now())?;
    for action in &plan.actions {
        match action {
            Action::CreateClaim(claim) => {
                if let Err(error) = ok_if_exists(claims.create(&PostParams::default(), claim).await) {
                    let event =
                        Event::warning("ErrUnableToCreateClaim", format!("creating the claim: {error}"));
                    shared.events.record(&data, &event).await;
                    return Err(doing("creating its claim")(error).into());
                }
            }
            Action::WriteStatus(status) => write_status(&datas, &data, data.status.as_ref(), status).await?,
            Action::RecordEvent(event) => shared.events.record(&data, event).await,
        }
    }
    Ok(plan.requeue.map_or_else(Requeue::await_change, Requeue::requeue))
}
