//! NodeNetworkPolicy: links that nodes shall have beyond those of their node.toml.
//!
//! Why here: one object for many nodes, changed one after another. Route in: the operator (spec). Route out: the
//! controller says whose turn it is (status); the agent of that node tries, keeps it or rolls it back, and reports in its
//! [`super::NodeNetworkEnactment`].

use std::collections::BTreeMap;

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Links;

/// Links that nodes get in addition to those of node.toml.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema, CustomResource)]
#[kube(
    group = "sheaf.dev",
    version = "v1alpha1",
    kind = "NodeNetworkPolicy",
    plural = "nodenetworkpolicies",
    shortname = "nnp",
    category = "sheaf",
    derive = "PartialEq",
    status = "NodeNetworkPolicyStatus",
    doc = "Links that nodes get in addition to those of node.toml; each node tries the change, and rolls it back if it loses its connection.",
    printcolumn = r#"{"name":"Nodes","type":"integer","jsonPath":".status.nodes"}"#,
    printcolumn = r#"{"name":"Applied","type":"integer","jsonPath":".status.applied"}"#,
    printcolumn = r#"{"name":"Failed","type":"integer","jsonPath":".status.failed"}"#,
    printcolumn = r#"{"name":"Phase","type":"string","jsonPath":".status.phase"}"#,
    printcolumn = r#"{"name":"Message","type":"string","priority":1,"jsonPath":".status.message"}"#,
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#
)]
#[serde(rename_all = "camelCase")]
pub struct NodeNetworkPolicySpec {
    /// Labels that a node must have. Without any: every node of Sheaf.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 16))]
    pub node_selector: BTreeMap<String, String>,
    /// How many nodes may be changing at one time.
    #[serde(default = "one")]
    #[schemars(range(min = 1, max = 1000))]
    pub max_unavailable: u32,
    /// Where two policies describe a link of the same name, the higher rank wins; with equal ranks both are refused.
    #[serde(default)]
    #[schemars(range(min = 0, max = 1000))]
    pub rank: u32,
    /// The links.
    pub network: Links,
}

fn one() -> u32 {
    1
}

/// Status of the policy, written by the controller.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NodeNetworkPolicyStatus {
    /// Generation of the spec that all of this is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Phase of the rollout.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phase: Option<PolicyPhase>,
    /// Nodes that the selector matches.
    #[serde(default)]
    pub nodes: u32,
    /// Nodes that run this generation.
    #[serde(default)]
    pub applied: u32,
    /// Nodes that refused it or rolled it back.
    #[serde(default)]
    pub failed: u32,
    /// Nodes whose turn it is to change: to this generation, or to none of it where the selector no longer matches or the
    /// policy is being deleted. At most `maxUnavailable`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "set"))]
    pub updating_nodes: Vec<String>,
    /// Why it is in this phase.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// Phase of a rollout.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum PolicyPhase {
    /// Nodes are being changed, at most `maxUnavailable` at a time.
    Progressing,
    /// Every node runs it.
    Applied,
    /// A node refused it or rolled it back: no further node is changed before the spec is.
    Halted,
    /// It is being deleted; nodes remove it, at most `maxUnavailable` at a time.
    Removing,
}
