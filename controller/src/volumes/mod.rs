//! Volumes for VMs: from claims, snapshots and DataVolumes to LocalVolumes of nodes, and back to what their users see.
//!
//! Why here: a claim is bound to a node by the scheduler and to a volume by whoever sees the whole cluster; a node sees
//! its own LocalVolumes alone. One folder a controller: [`capacity`] tells the scheduler of space, [`claim`] makes
//! volumes and grows them, [`reclaim`] removes what nobody claims, [`snapshot`] and [`datavolume`] serve those kinds.
//! Whatever takes space of a pool holds [`Booking`] while it looks and takes, so that nothing is promised twice.
//! Route in: watches. Route out: their plans, done step by step.

use std::sync::Arc;

use k8s_openapi::api::{
    core::v1::{PersistentVolume, PersistentVolumeClaim},
    storage::v1::StorageClass,
};
use kube::{Api, Client, api::ListParams};
use sheaf_api::{
    names::{DEFAULT_POOL, POOL_PARAMETER, VOLUME_DRIVER},
    storage::{LocalVolume, StoragePool},
};
use tokio::sync::Mutex;

use crate::{
    object::{Context, RequestError, doing},
    tell::Teller,
};

pub mod capacity;
pub mod claim;
pub mod class;
pub mod datavolume;
pub mod reclaim;
pub mod room;
pub mod snapshot;
#[cfg(test)]
pub(crate) mod testing;

/// Why a reconciliation stopped; it is tried again.
#[derive(Debug, thiserror::Error)]
pub enum VolumeError {
    /// The API server refused or did not answer.
    #[error(transparent)]
    Request(#[from] RequestError),
    /// An object could not be written down.
    #[error("making an object: {0}")]
    Shape(#[from] serde_json::Error),
}

/// The right to promise space: one at a time has it, from its look at what is left until it took.
pub type Booking = Arc<Mutex<()>>;

/// What the controllers of this room work with.
pub struct Shared {
    /// The API server.
    pub client: Client,
    /// Events.
    pub teller: Teller,
    /// The right to promise space.
    pub booking: Booking,
}

/// Runs all of them until dropped.
pub async fn run(client: Client) {
    let Context { client, teller } = Context::new(client);
    let shared = Arc::new(Shared { client: client.clone(), teller, booking: Booking::default() });
    tokio::join!(
        capacity::run(client),
        claim::run(shared.clone()),
        reclaim::run(shared.clone()),
        snapshot::run(shared.clone()),
        datavolume::run(shared),
    );
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

/// Every LocalVolume, asked of the API server anew: the base of every booking.
pub async fn all_volumes(client: &Client) -> Result<Vec<LocalVolume>, RequestError> {
    let listed = Api::<LocalVolume>::all(client.clone()).list(&ListParams::default()).await;
    listed.map(|list| list.items).map_err(doing("listing LocalVolumes"))
}

/// Every StoragePool.
pub async fn all_pools(client: &Client) -> Result<Vec<StoragePool>, RequestError> {
    let listed = Api::<StoragePool>::all(client.clone()).list(&ListParams::default()).await;
    listed.map(|list| list.items).map_err(doing("listing StoragePools"))
}
