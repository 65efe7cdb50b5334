//! Controller of capacities: publishes how much room each node has, for kube-scheduler.
//!
//! Reads: the inventory of pools and volumes, StorageClasses. Owns: the CSIStorageCapacities of our classes, in the
//! controller's namespace. Never touches: pools, volumes, claims. Route in: any change of what it reads. Route out:
//! [`plan`].

use std::{sync::Arc, time::Duration};

use futures::StreamExt;
use k8s_openapi::api::storage::v1::{CSIStorageCapacity, StorageClass};
use kube::{
    Api, Client,
    api::{DeleteParams, ListParams, Patch, PatchParams},
    runtime::{WatchStreamExt, watcher},
};
use sheaf_api::names::{CONTROLLER_MANAGER, SYSTEM_NAMESPACE};

use super::inventory::Inventory;
use crate::{
    object::{RequestError, chain, doing, ok_if_gone},
    volumes::VolumeError,
};

pub mod plan;

/// Changes within this time are published together.
const DEBOUNCE: Duration = Duration::from_millis(100);
/// Between two reconciliations without a change: what somebody else deleted is made again.
const RESYNC: Duration = Duration::from_secs(60);

/// Runs until dropped.
pub async fn run(client: Client, inventory: Arc<Inventory>) {
    let mut changes = inventory.changes();
    let mut classes = watcher(Api::<StorageClass>::all(client.clone()), watcher::Config::default())
        .default_backoff()
        .boxed();
    loop {
        if let Err(error) = publish(&client, &inventory).await {
            tracing::warn!("capacity: {}", chain(&error));
        }
        tokio::select! {
            _ = changes.changed() => {}
            _ = classes.next() => {}
            () = tokio::time::sleep(RESYNC) => {}
        }
        tokio::time::sleep(DEBOUNCE).await; // more changes may follow
        changes.mark_unchanged();
    }
}

async fn publish(client: &Client, inventory: &Inventory) -> Result<(), VolumeError> {
    let classes: Api<StorageClass> = Api::all(client.clone());
    let capacities: Api<CSIStorageCapacity> = Api::namespaced(client.clone(), SYSTEM_NAMESPACE);
    let ours = ListParams::default().labels(&format!("{}={CONTROLLER_MANAGER}", plan::OWNER_LABEL));
    let actions = plan::plan(
        &classes.list(&ListParams::default()).await.map_err(doing("listing StorageClasses"))?.items,
        &inventory.pools(),
        &inventory.volumes(),
        &capacities.list(&ours).await.map_err(doing("listing CSIStorageCapacities"))?.items,
    )?;
    for action in &actions {
        apply(&capacities, action).await?;
    }
    Ok(())
}

async fn apply(capacities: &Api<CSIStorageCapacity>, action: &plan::Action) -> Result<(), RequestError> {
    match action {
        plan::Action::Apply(one) => {
            let how = PatchParams::apply(CONTROLLER_MANAGER).force();
            let name = one.metadata.name.as_deref().unwrap_or_default();
            let applied = capacities.patch(name, &how, &Patch::Apply(one)).await;
            applied.map(drop).map_err(doing("applying a CSIStorageCapacity"))
        }
        plan::Action::Delete(name) => ok_if_gone(capacities.delete(name, &DeleteParams::default()).await)
            .map_err(doing("deleting a CSIStorageCapacity")),
    }
}
