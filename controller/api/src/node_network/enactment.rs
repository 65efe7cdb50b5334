//! NodeNetworkEnactment: what became of one policy on one node.
//!
//! Why here: a change that cuts a node off is rolled back by that node; this says so afterwards, and why. Route in: the
//! node's agent alone, before and after each try. Route out: the operator, and the controller, which counts.

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The result of one policy on one node.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema, CustomResource)]
#[kube(
    group = "sheaf.dev",
    version = "v1alpha1",
    kind = "NodeNetworkEnactment",
    plural = "nodenetworkenactments",
    shortname = "nne",
    category = "sheaf",
    derive = "PartialEq",
    status = "NodeNetworkEnactmentStatus",
    selectable = ".spec.nodeName",
    doc = "The result of one NodeNetworkPolicy on one node.",
    printcolumn = r#"{"name":"Node","type":"string","jsonPath":".spec.nodeName"}"#,
    printcolumn = r#"{"name":"Policy","type":"string","jsonPath":".spec.policy"}"#,
    printcolumn = r#"{"name":"Generation","type":"integer","jsonPath":".status.generation"}"#,
    printcolumn = r#"{"name":"Phase","type":"string","jsonPath":".status.phase"}"#,
    printcolumn = r#"{"name":"Failed Probe","type":"string","jsonPath":".status.failedProbe"}"#,
    printcolumn = r#"{"name":"Message","type":"string","priority":1,"jsonPath":".status.message"}"#,
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#
)]
#[serde(rename_all = "camelCase")]
pub struct NodeNetworkEnactmentSpec {
    /// The node.
    #[schemars(length(min = 1, max = 63))]
    pub node_name: String,
    /// The policy.
    #[schemars(length(min = 1, max = 63))]
    pub policy: String,
}

/// Its status.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NodeNetworkEnactmentStatus {
    /// Generation of the policy that phase, message and probes are about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generation: Option<i64>,
    /// Phase of the change on this node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phase: Option<EnactmentPhase>,
    /// Why it is in this phase.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// Generation that the node runs, also over reboots; none when it runs nothing of the policy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub applied_generation: Option<i64>,
    /// Name of the probe that failed, so that the change was rolled back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed_probe: Option<String>,
    /// Probes before and after the change.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub probes: Vec<Probe>,
    /// When the trial began, RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<String>,
    /// When it ended, RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finished_at: Option<String>,
}

/// One probe, whose result must not get worse.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Probe {
    /// links, gateway, packets, dns, api-server.
    pub name: String,
    /// Whether it passed before the change; if it failed before, it may fail after.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<bool>,
    /// Whether it passed after the change.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<bool>,
    /// Whether it passed after the change was rolled back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restored: Option<bool>,
    /// The last result.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// Phase of a change on one node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum EnactmentPhase {
    /// Waits for its turn, or for what the message names.
    Pending,
    /// Is on trial: rolled back unless everything that worked before still does.
    Trying,
    /// The node runs it, also after a reboot.
    Applied,
    /// The node runs it, and something of it does not work.
    Degraded,
    /// It was tried and rolled back; it is not tried again before the policy changes.
    RolledBack,
    /// It cannot be done on this node; nothing was changed.
    Refused,
}

impl EnactmentPhase {
    /// Whether the node has finished with this generation.
    pub fn is_final(self) -> bool {
        !matches!(self, Self::Pending | Self::Trying)
    }

    /// Whether the node runs it.
    pub fn is_applied(self) -> bool {
        matches!(self, Self::Applied | Self::Degraded)
    }
}
