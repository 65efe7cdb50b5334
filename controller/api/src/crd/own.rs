//! The definitions of Sheaf's own kinds, `sheaf.dev/v1alpha1`: one line each.
//!
//! Why here: they have no other project's fields to refuse; a type and its table of rules say all. Route in: types and
//! rules. Route out: what the controller applies at its start.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt;

use super::{CrdError, add_rules, rule::Rule, tidy};
use crate::cluster_config::{self, ClusterConfig};
use crate::cluster_update::{self, ClusterUpdate};
use crate::import_policy::{self, ImportPolicy};
use crate::network::NetworkAttachmentDefinition;
use crate::node_maintenance::{self, NodeMaintenance};
use crate::node_network::{self, NodeNetworkEnactment, NodeNetworkPolicy, NodeNetworkState};
use crate::node_removal::{self, NodeRemoval};
use crate::node_update::{self, NodeUpdate};
use crate::storage::{self, BlockDevice, LocalVolume, StoragePool};

/// All of them.
pub fn all() -> Result<Vec<CustomResourceDefinition>, CrdError> {
    Ok(vec![
        finish("ClusterConfig", ClusterConfig::crd(), cluster_config::RULES)?,
        finish("BlockDevice", BlockDevice::crd(), storage::rules::BLOCK_DEVICE)?,
        finish("StoragePool", StoragePool::crd(), storage::rules::STORAGE_POOL)?,
        finish("LocalVolume", LocalVolume::crd(), storage::rules::LOCAL_VOLUME)?,
        finish("ImportPolicy", ImportPolicy::crd(), import_policy::RULES)?,
        // Upstream's; what its text may say is checked by the controller's policy.
        finish("NetworkAttachmentDefinition", NetworkAttachmentDefinition::crd(), &[])?,
        finish_all("NodeNetworkPolicy", NodeNetworkPolicy::crd(), node_network::rules::POLICY)?,
        finish("NodeNetworkEnactment", NodeNetworkEnactment::crd(), node_network::rules::ENACTMENT)?,
        finish("NodeNetworkState", NodeNetworkState::crd(), node_network::rules::STATE)?,
        finish("NodeMaintenance", NodeMaintenance::crd(), node_maintenance::RULES)?,
        finish("NodeRemoval", NodeRemoval::crd(), node_removal::RULES)?,
        finish_all("NodeUpdate", NodeUpdate::crd(), &[node_update::RULES, node_update::SOURCE])?,
        finish_all("ClusterUpdate", ClusterUpdate::crd(), &[cluster_update::RULES, node_update::SOURCE])?,
    ])
}

/// Adds to a derived definition what the type cannot say.
fn finish(
    kind: &'static str,
    derived: CustomResourceDefinition,
    rules: &[Rule],
) -> Result<CustomResourceDefinition, CrdError> {
    finish_all(kind, derived, &[rules])
}

/// The same with several tables of rules.
fn finish_all(
    kind: &'static str,
    derived: CustomResourceDefinition,
    tables: &[&[Rule]],
) -> Result<CustomResourceDefinition, CrdError> {
    let mut crd = serde_json::to_value(derived)?;
    let schema = crd
        .pointer_mut("/spec/versions/0/schema/openAPIV3Schema")
        .ok_or(CrdError::NoSuchPath { kind, path: "spec.versions[0].schema".into() })?;
    tidy::tidy(schema);
    for rules in tables {
        add_rules(kind, schema, rules)?;
    }
    Ok(serde_json::from_value(crd)?)
}
