//! What the node says to the API server about its volumes.
//!
//! Why here: every write names the object's UID, so that it never hits a namesake; tests have a cluster in memory.
//! Route in: actions of the plan. Route out: requests as `system:node:<name>`, with the certificate of the moment.

use crate::cluster::Joined;
use anyhow::Context as _;
use kube::api::{Api, Patch, PatchParams};
use serde_json::{Value, json};
use sheaf_api::storage::{LocalVolume, LocalVolumeStatus, local_volume::FINALIZER};
use std::future::Future;
use tokio::sync::watch;

/// The API server: [`Kube`], or one in memory in tests.
pub trait Cluster: Send + Sync + 'static {
    /// Puts our finalizer on the object, or takes it off.
    fn hold(&self, volume: &LocalVolume, held: bool) -> impl Future<Output = anyhow::Result<()>> + Send;
    /// Writes its status.
    fn report(
        &self,
        volume: &LocalVolume,
        status: &LocalVolumeStatus,
    ) -> impl Future<Output = anyhow::Result<()>> + Send;
}

/// The cluster that this node joined.
pub struct Kube(watch::Receiver<Option<Joined>>);

impl Kube {
    /// Follows `joined`: a rotated certificate brings a new client.
    pub fn new(joined: watch::Receiver<Option<Joined>>) -> Self {
        Self(joined)
    }

    fn api(&self) -> anyhow::Result<Api<LocalVolume>> {
        let joined = self.0.borrow().clone().context("this node is in no cluster yet")?;
        Ok(Api::all(joined.client))
    }
}

/// Gone, or replaced by a namesake: nothing left to say.
fn unless_gone(answer: Result<LocalVolume, kube::Error>) -> Result<(), kube::Error> {
    match answer {
        Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => Ok(()),
        answer => answer.map(drop),
    }
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

impl Cluster for Kube {
    async fn hold(&self, volume: &LocalVolume, held: bool) -> anyhow::Result<()> {
        let name = volume.metadata.name.as_deref().unwrap_or_default();
        let patch = Patch::Merge(finalizers(volume, held));
        let answer = self.api()?.patch(name, &PatchParams::default(), &patch).await;
        unless_gone(answer).with_context(|| format!("LocalVolume {name}: its finalizer can not be changed"))
    }

    async fn report(&self, volume: &LocalVolume, status: &LocalVolumeStatus) -> anyhow::Result<()> {
        let name = volume.metadata.name.as_deref().unwrap_or_default();
        // A merge patch leaves what it does not name: what is to go is named.
        let mut whole = serde_json::to_value(status)?;
        for field in ["phase", "devicePath", "sizeBytes", "progress", "conditions", "observedGeneration"] {
            if whole.get(field).is_none() {
                whole[field] = Value::Null;
            }
        }
        if let Some(progress) = whole.get_mut("progress").filter(|progress| progress.is_object()) {
            for field in ["totalBytes", "percent"] {
                if progress.get(field).is_none() {
                    progress[field] = Value::Null;
                }
            }
        }
        let patch = Patch::Merge(json!({"metadata": {"uid": volume.metadata.uid}, "status": whole}));
        let answer = self.api()?.patch_status(name, &PatchParams::default(), &patch).await;
        unless_gone(answer).with_context(|| format!("LocalVolume {name}: its status can not be written"))
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
