//! Controller of capacities: tells kube-scheduler how much room each node has.
//!
//! Reads: StoragePools, LocalVolumes, StorageClasses. Owns: the CSIStorageCapacities of our classes, in the controller's
//! namespace. Never touches: pools, volumes, claims. Route in: any change of what it reads, all of it read anew.
//! Route out: [`plan`].

use std::time::Duration;

use futures::{StreamExt, stream};
use k8s_openapi::api::storage::v1::{CSIStorageCapacity, StorageClass};
use kube::{
    Api, Client, Resource,
    api::{DeleteParams, ListParams, Patch, PatchParams},
    runtime::watcher,
};
use sheaf_api::{
    names::{CONTROLLER_MANAGER, SYSTEM_NAMESPACE},
    storage::{LocalVolume, StoragePool},
};

use crate::{
    object::{RequestError, doing, gone},
    volumes::VolumeError,
};

pub mod plan;

/// Changes that come together are told together.
const TOGETHER: Duration = Duration::from_millis(100);
/// Between two looks without a change: what somebody else took away comes back.
const ANEW: Duration = Duration::from_secs(60);

/// Runs until dropped.
pub async fn run(client: Client) {
    let mut changes = stream::select_all([
        changes(Api::<StoragePool>::all(client.clone())),
        changes(Api::<LocalVolume>::all(client.clone())),
        changes(Api::<StorageClass>::all(client.clone())),
    ]);
    loop {
        // Whatever ends the wait, the answer is the same: look.
        let _ = tokio::time::timeout(ANEW, changes.next()).await;
        let end = tokio::time::Instant::now() + TOGETHER;
        while tokio::time::timeout_at(end, changes.next()).await.is_ok() {}
        if let Err(error) = tell(&client).await {
            tracing::warn!("capacity: {error}");
        }
    }
}

/// Something for every change, and for every failure to watch.
fn changes<K>(api: Api<K>) -> stream::BoxStream<'static, ()>
where
    K: Resource<DynamicType = ()> + Clone + std::fmt::Debug + Send + serde::de::DeserializeOwned + 'static,
{
    use kube::runtime::WatchStreamExt;
    watcher(api, watcher::Config::default()).default_backoff().map(drop).boxed()
}

async fn tell(client: &Client) -> Result<(), VolumeError> {
    let every = ListParams::default();
    let classes: Api<StorageClass> = Api::all(client.clone());
    let pools: Api<StoragePool> = Api::all(client.clone());
    let volumes: Api<LocalVolume> = Api::all(client.clone());
    let capacities: Api<CSIStorageCapacity> = Api::namespaced(client.clone(), SYSTEM_NAMESPACE);
    let ours = ListParams::default().labels(&format!("{}={CONTROLLER_MANAGER}", plan::OWNER_LABEL));
    let actions = plan::plan(
        &classes.list(&every).await.map_err(doing("listing StorageClasses"))?.items,
        &pools.list(&every).await.map_err(doing("listing StoragePools"))?.items,
        &volumes.list(&every).await.map_err(doing("listing LocalVolumes"))?.items,
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
        plan::Action::Delete(name) => gone(capacities.delete(name, &DeleteParams::default()).await.map(drop))
            .map_err(doing("deleting a CSIStorageCapacity")),
    }
}
