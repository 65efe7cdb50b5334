//! Pods in which nothing runs: while one is bound to a node, the node may read the Secrets that it names.
//!
//! Why here: the Node authorizer lets a node read what Pods bound to it refer to. Importer Pods ([`crate::volumes::importer`],
//! decision 23) and exporter Pods ([`crate::vm_export`], decision 30) are alike but for names; their spec is
//! [`idle::spec`]. Pure. Route in: what it is for. Route out: a Pod.

use k8s_openapi::{api::core::v1::Pod, apimachinery::pkg::apis::meta::v1::OwnerReference};
use serde_json::{Value, json};

use crate::placeholder::idle;

/// What such a Pod is for.
pub struct ReaderPod<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its namespace, whose Secrets are opened.
    pub namespace: &'a str,
    /// The node that may read them.
    pub node: &'a str,
    /// Its labels, an object.
    pub labels: Value,
    /// Its annotations, an object.
    pub annotations: Value,
    /// What it is deleted with.
    pub owner: OwnerReference,
    /// Name of its container.
    pub container: &'a str,
    /// Image name of that: nothing pulls it.
    pub image: &'a str,
    /// Its volumes: the objects that may be read.
    pub volumes: Vec<Value>,
}

impl ReaderPod<'_> {
    /// The Pod: bound to its node from the start.
    pub fn pod(self) -> Result<Pod, serde_json::Error> {
        let mut spec = idle::spec(self.container, self.image, &self.volumes);
        spec["nodeName"] = json!(self.node);
        serde_json::from_value(json!({
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {
                "name": self.name,
                "namespace": self.namespace,
                "labels": self.labels,
                "annotations": self.annotations,
                "ownerReferences": [self.owner],
            },
            "spec": spec,
        }))
    }
}

/// Whether `there` opens what `wanted` would: for the same object, on the same node, and not ended (evicted, for example).
pub fn is_as_wanted(there: &Pod, wanted: &Pod) -> bool {
    let node = |pod: &Pod| pod.spec.as_ref().and_then(|spec| spec.node_name.clone());
    let owner =
        |pod: &Pod| pod.metadata.owner_references.iter().flatten().map(|owner| owner.uid.clone()).next();
    let phase = there.status.as_ref().and_then(|status| status.phase.as_deref());
    there.metadata.namespace == wanted.metadata.namespace
        && there.metadata.name == wanted.metadata.name
        && there.metadata.deletion_timestamp.is_none()
        && node(there) == node(wanted)
        && owner(there) == owner(wanted)
        && !matches!(phase, Some("Succeeded" | "Failed"))
}
