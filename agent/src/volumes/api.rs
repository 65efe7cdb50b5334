//! What the node says to the API server about its volumes.
//!
//! Why here: every write names the object's UID, so that it never hits another object of the same name; tests have a
//! cluster in memory. Route in: actions of the plan. Route out: requests as `system:node:<name>`.

use crate::api_server::{Joined, RequestError, unless_gone};
use crate::objects::{self, Objects};
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::api::{Api, Patch, PatchParams};
use serde_json::{Value, json};
use sheaf_api::storage::{LocalVolume, LocalVolumeStatus, local_volume::FINALIZER};
use std::collections::BTreeMap;
use std::future::Future;

/// The API server: [`Objects`], or one in memory in tests.
pub trait Cluster: Send + Sync + 'static {
    /// Puts our finalizer on the object, or removes it.
    fn set_finalizer(
        &self,
        volume: &LocalVolume,
        held: bool,
    ) -> impl Future<Output = anyhow::Result<()>> + Send;
    /// Writes its status.
    fn report(
        &self,
        volume: &LocalVolume,
        status: &LocalVolumeStatus,
    ) -> impl Future<Output = anyhow::Result<()>> + Send;
    /// What a Secret holds, by key.
    fn secret(
        &self,
        namespace: &str,
        name: &str,
    ) -> impl Future<Output = Result<BTreeMap<String, Vec<u8>>, RequestError>> + Send;
    /// What a ConfigMap holds, by key.
    fn config_map(
        &self,
        namespace: &str,
        name: &str,
    ) -> impl Future<Output = Result<BTreeMap<String, String>, RequestError>> + Send;
}

/// The finalizers of the object with or without ours, in a patch that fails where another has changed them meanwhile.
fn finalizers(volume: &LocalVolume, held: bool) -> Value {
    let meta = &volume.metadata;
    let mut all = meta.finalizers.clone().unwrap_or_default();
    all.retain(|finalizer| finalizer != FINALIZER);
    if held {
        all.push(FINALIZER.to_owned());
    }
    let version = &meta.resource_version;
    json!({"metadata": {"uid": meta.uid, "resourceVersion": version, "finalizers": all}})
}

impl Cluster for Objects {
    async fn set_finalizer(&self, volume: &LocalVolume, held: bool) -> anyhow::Result<()> {
        let change = |api: Api<LocalVolume>, name: String| async move {
            let patch = Patch::Merge(finalizers(volume, held));
            unless_gone(api.patch(&name, &PatchParams::default(), &patch).await)
        };
        self.kube().about("change its finalizer", volume, change).await
    }

    async fn report(&self, volume: &LocalVolume, status: &LocalVolumeStatus) -> anyhow::Result<()> {
        objects::Cluster::write_status(self, volume, status).await
    }

    async fn secret(&self, namespace: &str, name: &str) -> Result<BTreeMap<String, Vec<u8>>, RequestError> {
        // By name: the Node authorizer lets a node get what Pods bound to it refer to, and list nothing.
        let get = |joined: Joined| async move {
            Api::<Secret>::namespaced(joined.client, namespace).get(name).await
        };
        let secret = self.kube().request(get).await?;
        Ok(secret.data.unwrap_or_default().into_iter().map(|(key, value)| (key, value.0)).collect())
    }

    async fn config_map(
        &self,
        namespace: &str,
        name: &str,
    ) -> Result<BTreeMap<String, String>, RequestError> {
        let get = |joined: Joined| async move {
            Api::<ConfigMap>::namespaced(joined.client, namespace).get(name).await
        };
        Ok(self.kube().request(get).await?.data.unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sheaf_api::storage::LocalVolumeSpec;

    #[test]
    fn a_finalizer_is_put_on_and_taken_off_beside_others() {
        let mut volume = LocalVolume::new("pvc-1", LocalVolumeSpec::default());
        volume.metadata.finalizers = Some(vec!["a/b".into()]);
        assert_eq!(finalizers(&volume, true)["metadata"]["finalizers"], json!(["a/b", FINALIZER]));
        volume.metadata.finalizers = Some(vec![FINALIZER.into(), "a/b".into()]);
        assert_eq!(finalizers(&volume, false)["metadata"]["finalizers"], json!(["a/b"]));
    }
}
