//! Volumes for VMs: from claims, snapshots and DataVolumes to LocalVolumes of nodes, and back to their users' statuses.
//!
//! Why here: a claim is bound to a node by the scheduler and to a volume by a program that sees the whole cluster; a node
//! sees its own LocalVolumes alone. One folder a controller: [`capacity`] publishes space for the scheduler, [`claim`] makes
//! volumes and grows them, [`reclaim`] removes what is not claimed, [`snapshot`] and [`datavolume`] serve those kinds,
//! [`importer`] lets a node read the Secrets of an import.
//! Whatever takes space of a pool books it in the [`inventory`], so that nothing is promised twice.
//! Route in: watches. Route out: their plans, applied step by step.

use std::sync::Arc;

use k8s_openapi::api::{
    core::v1::{PersistentVolume, PersistentVolumeClaim},
    storage::v1::StorageClass,
};
use kube::{Api, Client};
use sheaf_api::{
    names::{DEFAULT_POOL, POOL_PARAMETER, VOLUME_DRIVER},
    storage::LocalVolume,
};

use crate::{
    events::EventRecorder,
    object::{RequestError, doing},
};
use inventory::Inventory;

#[cfg(test)]
mod any_order;
pub mod capacity;
pub mod claim;
pub mod class;
pub mod datavolume;
pub mod importer;
pub mod inventory;
pub mod reclaim;
pub mod room;
pub mod snapshot;
#[cfg(test)]
pub(crate) mod testing;

/// Why a reconciliation stopped; it is retried.
#[derive(Debug, thiserror::Error)]
pub enum VolumeError {
    /// The API server refused or did not answer.
    #[error(transparent)]
    Request(#[from] RequestError),
    /// An object could not be composed.
    #[error("composing an object")]
    Shape(#[from] serde_json::Error),
}

/// What the controllers of this room work with.
pub struct Shared {
    /// The API server.
    pub client: Client,
    /// Events.
    pub events: EventRecorder,
    /// All pools and volumes, and what was booked.
    pub inventory: Arc<Inventory>,
}

/// Runs all of them until dropped.
pub async fn run(client: Client) {
    let (inventory, follow) = Inventory::watch(&client);
    let shared = Arc::new(Shared {
        events: EventRecorder::new(client.clone()),
        inventory: inventory.clone(),
        client: client.clone(),
    });
    let controllers = async {
        inventory.ready().await;
        tokio::join!(
            capacity::run(client, inventory.clone()),
            claim::run(shared.clone()),
            reclaim::run(shared.clone()),
            snapshot::run(shared.clone()),
            datavolume::run(shared.clone()),
            importer::run(shared),
        );
    };
    tokio::join!(follow, controllers);
}

/// Whether volumes of this class are ours to make.
pub fn is_ours(class: &StorageClass) -> bool {
    class.provisioner == VOLUME_DRIVER
}

/// The pool that a class of ours takes from.
pub fn pool_of(class: &StorageClass) -> &str {
    let named = class.parameters.as_ref().and_then(|parameters| parameters.get(POOL_PARAMETER));
    named.map_or(DEFAULT_POOL, String::as_str)
}

/// The LocalVolume behind a PersistentVolume, if it is one of ours.
pub fn handle(persistent: &PersistentVolume) -> Option<&str> {
    let csi = persistent.spec.as_ref()?.csi.as_ref()?;
    (csi.driver == VOLUME_DRIVER).then_some(csi.volume_handle.as_str())
}

/// Name of a claim's LocalVolume and of its PersistentVolume: always the same, so that neither is made twice.
pub fn name_for(claim: &PersistentVolumeClaim) -> String {
    format!("pvc-{}", claim.metadata.uid.as_deref().unwrap_or_default())
}

/// `<namespace>/<name>` in its two parts.
pub fn split(whose: &str) -> Option<(&str, &str)> {
    whose.split_once('/').filter(|(namespace, name)| !namespace.is_empty() && !name.is_empty())
}

/// What an annotation of an object says.
pub fn annotation<'a, K: kube::Resource>(object: &'a K, name: &str) -> Option<&'a str> {
    object.meta().annotations.as_ref()?.get(name).map(String::as_str)
}

/// The LocalVolume of that name, read from the API server.
pub async fn local_volume(client: &Client, name: &str) -> Result<Option<LocalVolume>, RequestError> {
    Api::all(client.clone()).get_opt(name).await.map_err(doing("reading a LocalVolume"))
}
