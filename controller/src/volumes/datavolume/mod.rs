//! Controller of DataVolumes: from DataVolume to its claim, and back to the words that CDI's tools know.
//!
//! Reads: DataVolumes, their claims and LocalVolumes, StorageClasses, origins of copies. Owns: claims of DataVolumes, the
//! status of DataVolumes. Never touches: LocalVolumes, which are the claim's. Route in: watches. Route out: [`plan`].

use std::{sync::Arc, time::Duration};

use futures::StreamExt;
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
    object::{self, doing, report},
    tell::News,
    volumes::{
        Shared, VolumeError, all_volumes, annotation,
        claim::{self as claims_of, source::Wanted},
        name_for, split,
    },
};
use plan::Action;

pub mod claim;
pub mod plan;

/// Until the next try after the API server refused or failed.
const RETRY: Duration = Duration::from_secs(10);

/// Runs until dropped.
pub async fn run(shared: Arc<Shared>) {
    let client = shared.client.clone();
    let config = watcher::Config::default;
    Controller::new(Api::<DataVolume>::all(client.clone()), config())
        .owns(Api::<PersistentVolumeClaim>::all(client.clone()), config())
        // A DataVolume and its claim have one name.
        .watches(Api::<LocalVolume>::all(client), config(), |volume| {
            let (namespace, name) = split(annotation(&volume, CLAIM_ANNOTATION)?)?;
            Some(ObjectRef::new(name).within(namespace))
        })
        .run(reconcile, |_, _, _| Requeue::requeue(RETRY), shared)
        .for_each(|result| object::log("data volume", result))
        .await;
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
    let volumes = all_volumes(client).await?;
    let volume = claim.as_ref().map(name_for);
    let volume = volumes.iter().find(|one| volume.is_some() && one.metadata.name == volume);
    let source = &data.spec.source;
    let wanted = match (&source.pvc, &source.snapshot) {
        (Some(origin), _) => Some((origin, Wanted::Claim(origin.name.clone()))),
        (_, Some(origin)) => Some((origin, Wanted::Snapshot(origin.name.clone()))),
        _ => None,
    };
    let origin = match wanted {
        Some((origin, _)) if origin.namespace.as_ref().is_some_and(|other| *other != namespace) => {
            Some(Err(format!("only what lies in namespace {namespace} is copied to it")))
        }
        Some((_, wanted)) => claims_of::find(client, &namespace, &wanted, &volumes).await?,
        None => None,
    };
    let seen = plan::Seen { data: &data, claim: claim.as_ref(), volume, classes: &classes, origin };
    let plan = plan::plan(&seen, Timestamp::now())?;
    for action in &plan.actions {
        match action {
            Action::CreateClaim(claim) => match claims.create(&PostParams::default(), claim).await {
                Ok(_) => {}
                Err(kube::Error::Api(status)) if status.code == 409 => {}
                Err(error) => {
                    let note = format!("making the claim: {error}");
                    shared.teller.tell(&data, &News::warning("ErrUnableToCreateClaim", note)).await;
                    return Err(doing("creating its claim")(error).into());
                }
            },
            Action::Tell(news) => shared.teller.tell(&data, news).await,
        }
    }
    report(&datas, &data, data.status.as_ref(), &plan.status).await?;
    Ok(plan.again.map_or_else(Requeue::await_change, Requeue::requeue))
}
