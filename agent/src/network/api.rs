//! What the node says to the API server about its network, and asks of it.
//!
//! Why here: tests have a cluster in memory. Route in: statuses of enactments, the node's links. Route out: requests as
//! `system:node:<name>`, with the certificate of the moment. Objects are owned by the Node and go with it.

use crate::api_server::{Joined, Kube};
use crate::cluster::is_status;
use crate::listed::Kind;
use anyhow::Context as _;
use k8s_openapi::api::core::v1::Node;
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams};
use serde_json::{Value, json};
use sheaf_api::names::{AGENT_MANAGER, NODE_LABEL, POLICY_LABEL};
use sheaf_api::node_network::{
    NodeNetworkEnactment, NodeNetworkEnactmentStatus, NodeNetworkState, NodeNetworkStateStatus,
};
use std::collections::BTreeMap;
use std::future::Future;

/// The API server ([`Kube`]), or one in memory in tests.
pub trait NetworkApi: Send + Sync + 'static {
    /// Name and labels of this node.
    fn node(&self) -> impl Future<Output = anyhow::Result<(String, BTreeMap<String, String>)>> + Send;
    /// What this node reported, by policy.
    fn reported(
        &self,
    ) -> impl Future<Output = anyhow::Result<BTreeMap<String, NodeNetworkEnactmentStatus>>> + Send;
    /// Reports on a policy.
    fn report(
        &self,
        policy: &str,
        status: &NodeNetworkEnactmentStatus,
    ) -> impl Future<Output = anyhow::Result<()>> + Send;
    /// Nothing is to be said of the policy any more.
    fn withdraw(&self, policy: &str) -> impl Future<Output = anyhow::Result<()>> + Send;
    /// Shows the links of this node.
    fn show(&self, links: &NodeNetworkStateStatus) -> impl Future<Output = anyhow::Result<()>> + Send;
}

/// Metadata of an object that is about a node.
fn metadata(name: &str, labels: Value, joined: &Joined) -> Value {
    json!({
        "name": name, "labels": labels,
        "ownerReferences": [{"apiVersion": "v1", "kind": "Node", "name": joined.node, "uid": joined.node_uid}],
    })
}

/// Makes the object unless it is there, then writes its status.
async fn write<K: Kind>(api: &Api<K>, name: &str, object: Value, status: Value) -> anyhow::Result<()> {
    let what = || format!("{} {name}: cannot be written", K::kind(&()));
    if api.get_opt(name).await.with_context(what)?.is_none() {
        let object: K = serde_json::from_value(object).with_context(what)?;
        match api.create(&PostParams::default(), &object).await {
            Err(error) if !is_status(&error, 409) => return Err(error).with_context(what),
            _ => {}
        }
    }
    let patch = json!({
        "apiVersion": K::api_version(&()), "kind": K::kind(&()), "metadata": {"name": name}, "status": status,
    });
    let how = PatchParams::apply(AGENT_MANAGER).force();
    api.patch_status(name, &how, &Patch::Apply(&patch)).await.with_context(what)?;
    Ok(())
}

impl NetworkApi for Kube {
    async fn node(&self) -> anyhow::Result<(String, BTreeMap<String, String>)> {
        let joined = self.joined()?;
        let node =
            Api::<Node>::all(joined.client).get(&joined.node).await.context("this Node cannot be read")?;
        Ok((joined.node, node.metadata.labels.unwrap_or_default()))
    }

    async fn reported(&self) -> anyhow::Result<BTreeMap<String, NodeNetworkEnactmentStatus>> {
        let joined = self.joined()?;
        // The API server lets a node list no others.
        let own = ListParams::default().fields(&format!("spec.nodeName={}", joined.node));
        let all = Api::<NodeNetworkEnactment>::all(joined.client).list(&own).await;
        let all = all.context("NodeNetworkEnactments cannot be listed")?.items.into_iter();
        let own = all.filter(|enactment| enactment.spec.node_name == joined.node);
        Ok(own.map(|enactment| (enactment.spec.policy, enactment.status.unwrap_or_default())).collect())
    }

    async fn report(&self, policy: &str, status: &NodeNetworkEnactmentStatus) -> anyhow::Result<()> {
        let joined = self.joined()?;
        let name = format!("{policy}.{}", joined.node);
        let object = json!({
            "metadata": metadata(&name, json!({NODE_LABEL: joined.node, POLICY_LABEL: policy}), &joined),
            "spec": {"nodeName": joined.node, "policy": policy},
        });
        let api = Api::<NodeNetworkEnactment>::all(joined.client);
        write(&api, &name, object, serde_json::to_value(status)?).await
    }

    async fn withdraw(&self, policy: &str) -> anyhow::Result<()> {
        let joined = self.joined()?;
        let name = format!("{policy}.{}", joined.node);
        let api = Api::<NodeNetworkEnactment>::all(joined.client);
        match api.delete(&name, &DeleteParams::default()).await {
            Err(error) if !is_status(&error, 404) => {
                Err(error).with_context(|| format!("NodeNetworkEnactment {name}: cannot be deleted"))
            }
            _ => Ok(()),
        }
    }

    async fn show(&self, links: &NodeNetworkStateStatus) -> anyhow::Result<()> {
        let joined = self.joined()?;
        let name = joined.node.clone();
        let object = json!({
            "metadata": metadata(&name, json!({NODE_LABEL: joined.node}), &joined),
            "spec": {"nodeName": joined.node},
        });
        let api = Api::<NodeNetworkState>::all(joined.client);
        write(&api, &name, object, serde_json::to_value(links)?).await
    }
}
