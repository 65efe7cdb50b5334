//! Requests of the node to the API server about its Pods.
//!
//! Why here: every write names the Pod's UID, so that it never hits another Pod of the same name; tests have a cluster in memory.
//! Route in: actions of the plan. Route out: requests as `system:node:<name>`, with the certificate of the moment.

use super::facts::{ClaimFact, Resources};
use super::guest::{Identity, Object};
use crate::api_server::Joined;
use anyhow::Context as _;
use k8s_openapi::api::core::v1::{
    ConfigMap, Event, Node, PersistentVolume, PersistentVolumeClaim, Pod, Secret,
};
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams, Preconditions};
use serde_json::{Value, json};
use sheaf_api::cluster_config::{self, ClusterConfig, ClusterConfigSpec};
use sheaf_api::names::VOLUME_DRIVER;
use std::collections::BTreeMap;
use std::future::Future;
use tokio::sync::watch;

/// The API server: [`Kube`], or one in memory in tests.
pub trait Cluster: Send + Sync + 'static {
    /// Whether the Pod is gone, by a fresh answer of the API server.
    fn is_gone(&self, id: &Identity) -> impl Future<Output = anyhow::Result<bool>> + Send;
    /// Patches `pods/status`; the Pod as it is then.
    fn patch(&self, pod: &Pod, patch: Value) -> impl Future<Output = anyhow::Result<Pod>> + Send;
    /// Deletes the Pod without grace: nothing of it is left here.
    fn delete(&self, pod: &Pod) -> impl Future<Output = anyhow::Result<()>> + Send;
    /// Tells people who look at the Pod.
    fn event(
        &self,
        pod: &Pod,
        kind: &str,
        reason: &str,
        message: &str,
    ) -> impl Future<Output = anyhow::Result<()>> + Send;
    /// Keys and values of an object that a Pod of this node refers to; nothing if it does not exist.
    fn values(
        &self,
        namespace: &str,
        object: &Object,
    ) -> impl Future<Output = anyhow::Result<Option<BTreeMap<String, Vec<u8>>>>> + Send;
    /// What is behind a claim that a Pod of this node refers to.
    fn claim(&self, namespace: &str, name: &str) -> impl Future<Output = anyhow::Result<ClaimFact>> + Send;
    /// What VMs may take of this node, and what an administrator decided for all VMs.
    fn allocatable(&self) -> impl Future<Output = anyhow::Result<(Resources, ClusterConfigSpec)>> + Send;
}

/// The cluster that this node joined.
pub struct Kube(watch::Receiver<Option<Joined>>);

impl Kube {
    /// Follows `joined`: a rotated certificate brings a new client.
    pub fn new(joined: watch::Receiver<Option<Joined>>) -> Self {
        Self(joined)
    }

    fn joined(&self) -> anyhow::Result<Joined> {
        self.0.borrow().clone().context("this node is in no cluster yet")
    }

    fn pods(&self, namespace: &str) -> anyhow::Result<Api<Pod>> {
        Ok(Api::namespaced(self.joined()?.client, namespace))
    }
}

fn names(pod: &Pod) -> (&str, &str) {
    let meta = &pod.metadata;
    (meta.namespace.as_deref().unwrap_or_default(), meta.name.as_deref().unwrap_or_default())
}

impl Cluster for Kube {
    async fn is_gone(&self, id: &Identity) -> anyhow::Result<bool> {
        // A list without resourceVersion is answered from etcd by quorum, not from a cache. No GET: the Node authorizer
        // forgets a Pod that is gone, and then answers 403 instead of 404.
        let joined = self.joined()?;
        let here = format!("metadata.name={},spec.nodeName={}", id.pod, joined.node);
        let pods = Api::<Pod>::namespaced(joined.client, &id.namespace);
        let pods = pods.list(&ListParams::default().fields(&here)).await;
        let pods = pods.with_context(|| format!("Pod {}/{}: cannot be read", id.namespace, id.pod))?;
        Ok(pods.items.iter().all(|pod| pod.metadata.uid.as_deref() != Some(&id.pod_uid)))
    }

    async fn patch(&self, pod: &Pod, patch: Value) -> anyhow::Result<Pod> {
        let (namespace, name) = names(pod);
        let patched =
            self.pods(namespace)?.patch_status(name, &PatchParams::default(), &Patch::Strategic(patch)).await;
        patched.with_context(|| format!("Pod {namespace}/{name}: its status cannot be written"))
    }

    async fn delete(&self, pod: &Pod) -> anyhow::Result<()> {
        let (namespace, name) = names(pod);
        let only_this = Preconditions { uid: pod.metadata.uid.clone(), resource_version: None };
        let now = DeleteParams {
            grace_period_seconds: Some(0),
            preconditions: Some(only_this),
            ..Default::default()
        };
        match self.pods(namespace)?.delete(name, &now).await {
            // Gone already, or replaced by one of the same name with another UID.
            Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => Ok(()),
            answer => {
                answer.map(|_| ()).with_context(|| format!("Pod {namespace}/{name}: cannot be deleted"))
            }
        }
    }

    async fn event(&self, pod: &Pod, kind: &str, reason: &str, message: &str) -> anyhow::Result<()> {
        let (namespace, name) = names(pod);
        let joined = self.joined()?;
        let now = k8s_openapi::jiff::Timestamp::now().to_string();
        let event: Event = serde_json::from_value(json!({
            "metadata": {"generateName": format!("{name}."), "namespace": namespace},
            "involvedObject": {"apiVersion": "v1", "kind": "Pod", "namespace": namespace, "name": name,
                               "uid": pod.metadata.uid},
            "type": kind, "reason": reason, "message": message, "count": 1,
            "firstTimestamp": now, "lastTimestamp": now,
            "source": {"component": "sheaf-agent", "host": joined.node},
            "reportingComponent": "sheaf.dev/agent", "reportingInstance": joined.node,
        }))?;
        let events: Api<Event> = Api::namespaced(joined.client, namespace);
        events.create(&PostParams::default(), &event).await.context("an Event cannot be written")?;
        Ok(())
    }

    async fn values(
        &self,
        namespace: &str,
        object: &Object,
    ) -> anyhow::Result<Option<BTreeMap<String, Vec<u8>>>> {
        let client = self.joined()?.client;
        let unreadable = || format!("{object} of namespace {namespace}: cannot be read");
        Ok(match object {
            Object::Secret(name) => {
                let secret = Api::<Secret>::namespaced(client, namespace).get_opt(name).await;
                let data = secret.with_context(unreadable)?.map(|secret| secret.data.unwrap_or_default());
                data.map(|data| data.into_iter().map(|(key, value)| (key, value.0)).collect())
            }
            Object::ConfigMap(name) => {
                let config_map = Api::<ConfigMap>::namespaced(client, namespace).get_opt(name).await;
                config_map.with_context(unreadable)?.map(|config_map| {
                    let texts = config_map.data.unwrap_or_default().into_iter();
                    let texts = texts.map(|(key, value)| (key, value.into_bytes()));
                    let bytes = config_map.binary_data.unwrap_or_default().into_iter();
                    texts.chain(bytes.map(|(key, value)| (key, value.0))).collect()
                })
            }
        })
    }

    async fn claim(&self, namespace: &str, name: &str) -> anyhow::Result<ClaimFact> {
        // By name: the Node authorizer lets a node get what its Pods refer to, and list nothing.
        let client = self.joined()?.client;
        let claim = Api::<PersistentVolumeClaim>::namespaced(client.clone(), namespace).get(name).await;
        let claim = claim.with_context(|| format!("claim {namespace}/{name}: cannot be read"))?;
        let phase = claim.status.and_then(|status| status.phase);
        let volume =
            claim.spec.and_then(|spec| spec.volume_name).filter(|_| phase.as_deref() == Some("Bound"));
        let Some(volume) = volume else { return Ok(ClaimFact::NotBound) };
        let volume = Api::<PersistentVolume>::all(client).get(&volume).await;
        let volume =
            volume.with_context(|| format!("the volume of claim {namespace}/{name}: cannot be read"))?;
        Ok(match volume.spec.and_then(|spec| spec.csi) {
            Some(csi) if csi.driver == VOLUME_DRIVER => ClaimFact::Volume(csi.volume_handle),
            Some(csi) => ClaimFact::Foreign(csi.driver),
            None => ClaimFact::Foreign("no CSI driver".into()),
        })
    }

    async fn allocatable(&self) -> anyhow::Result<(Resources, ClusterConfigSpec)> {
        let joined = self.joined()?;
        let node = Api::<Node>::all(joined.client.clone()).get(&joined.node).await;
        let node = node.context("this Node cannot be read")?;
        let allocatable = node.status.and_then(|status| status.allocatable).unwrap_or_default();
        // Without it, and where it cannot be read, all of a guest's memory counts.
        let config = Api::<ClusterConfig>::all(joined.client).get_opt(cluster_config::NAME).await;
        let config = config.unwrap_or_else(|error| {
            tracing::warn!("ClusterConfig {}: cannot be read: {error}", cluster_config::NAME);
            None
        });
        Ok((Resources::of(&allocatable), config.map(|config| config.spec).unwrap_or_default()))
    }
}
