//! Controller of importer Pods: while a node imports an image with credentials, it may read the Secrets and the ConfigMap
//! that the image's source names, and at no other time.
//!
//! Why here: the Node authorizer lets a node read what Pods bound to it refer to. So there is such a Pod for exactly as long
//! as the volume is not filled; nothing runs in it. The controller itself reads no Secret. Decision 23.
//! Reads: LocalVolumes, their claims, importer Pods. Owns: importer Pods. Never touches: Secrets, ConfigMaps, the status of
//! anything. Route in: watches. Route out: [`plan`], done step by step.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use kube::{
    Api,
    api::{DeleteParams, ListParams, PostParams, Preconditions},
    runtime::{Controller, controller::Action as Requeue, reflector::ObjectRef, watcher},
};
use sheaf_api::{
    names::{CLAIM_ANNOTATION, IMPORT_LABEL},
    storage::LocalVolume,
};

use crate::{
    events::Event,
    object::{doing, drive, ok_if_exists, ok_if_gone},
    volumes::{Shared, VolumeError, annotation, local_volume, split},
};
use plan::Action;

pub mod plan;

/// Runs until dropped.
pub async fn run(shared: Arc<Shared>) {
    let client = shared.client.clone();
    let importers = watcher::Config::default().labels(IMPORT_LABEL);
    let controller = Controller::new(Api::<LocalVolume>::all(client.clone()), watcher::Config::default())
        .watches(Api::<Pod>::all(client), importers, |pod| {
            let volume = pod.metadata.labels.as_ref()?.get(IMPORT_LABEL)?;
            Some(ObjectRef::new(volume))
        });
    drive(controller, shared, "importer Pod", reconcile).await;
}

async fn reconcile(seen: Arc<LocalVolume>, shared: Arc<Shared>) -> Result<Requeue, VolumeError> {
    if seen.spec.source.references().is_empty() {
        return Ok(Requeue::await_change());
    }
    let client = &shared.client;
    let name = seen.metadata.name.as_deref().unwrap_or_default();
    let Some(volume) = local_volume(client, name).await? else { return Ok(Requeue::await_change()) };
    let claim = match annotation(&volume, CLAIM_ANNOTATION).and_then(split) {
        Some((namespace, claim)) => {
            let claims: Api<PersistentVolumeClaim> = Api::namespaced(client.clone(), namespace);
            claims.get_opt(claim).await.map_err(doing("reading the claim of a LocalVolume"))?
        }
        None => None,
    };
    let of_volume = ListParams::default().labels(&format!("{IMPORT_LABEL}={name}"));
    let pods = Api::<Pod>::all(client.clone()).list(&of_volume).await;
    let pods = pods.map_err(doing("listing importer Pods"))?.items;
    for action in plan::plan(&volume, claim.as_ref(), &pods)? {
        match action {
            Action::Create(pod) => {
                let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
                let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
                if let Err(error) = ok_if_exists(pods.create(&PostParams::default(), &pod).await) {
                    if let Some(claim) = &claim {
                        let note =
                            format!("creating the importer Pod that lets the node read its Secrets: {error}");
                        shared.events.record(claim, &Event::warning("ErrUnableToCreateImporter", note)).await;
                    }
                    return Err(doing("creating an importer Pod")(error).into());
                }
            }
            Action::Delete { namespace, name, uid } => {
                let pods: Api<Pod> = Api::namespaced(client.clone(), &namespace);
                let only = Preconditions { uid: Some(uid), resource_version: None };
                // At once: its node has nothing to end, and is not asked.
                let now = DeleteParams::default().grace_period(0).preconditions(only);
                ok_if_gone(pods.delete(&name, &now).await).map_err(doing("deleting an importer Pod"))?;
            }
        }
    }
    Ok(Requeue::await_change())
}
