//! ClusterUpdate: a release that all nodes of a cluster shall run, brought to them one after another.
//!
//! Why here: a NodeUpdate is about one node; who may restart when is a question about all of them. Route in: an administrator
//! (spec). Route out: the controller makes a NodeUpdate for each node in its turn, and writes the status. docs/update.md is
//! for operators.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::crd::rule::{Reason, Rule};
use crate::node_update::{Source, health_timeout};
use crate::selector;
use crate::status::Condition;

/// The release that the nodes of the cluster shall run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema, CustomResource)]
#[kube(
    group = "sheaf.dev",
    version = "v1alpha1",
    kind = "ClusterUpdate",
    plural = "clusterupdates",
    category = "sheaf",
    derive = "PartialEq",
    status = "ClusterUpdateStatus",
    doc = "Brings a release to the nodes of the cluster, one after another: control-plane nodes first. It stops at the first node that does not keep the release.",
    printcolumn = r#"{"name":"Version","type":"string","jsonPath":".spec.version"}"#,
    printcolumn = r#"{"name":"Phase","type":"string","jsonPath":".status.phase"}"#,
    printcolumn = r#"{"name":"Total","type":"integer","jsonPath":".status.total"}"#,
    printcolumn = r#"{"name":"Updated","type":"integer","jsonPath":".status.updated"}"#,
    printcolumn = r#"{"name":"Failed","type":"integer","jsonPath":".status.failed"}"#,
    printcolumn = r#"{"name":"Message","type":"string","jsonPath":".status.message"}"#,
    printcolumn = r#"{"name":"Age","type":"date","priority":1,"jsonPath":".metadata.creationTimestamp"}"#
)]
#[serde(rename_all = "camelCase")]
pub struct ClusterUpdateSpec {
    /// Version of the release that the nodes shall run.
    #[schemars(length(max = 64), regex(pattern = r"^[0-9]+\.[0-9]+\.[0-9]+(-[a-z0-9.]+)?$"))]
    pub version: String,
    /// Where the release is taken from. Without it, nodes go back to the version if it is in their other slot.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<Source>,
    /// Only a release of this channel is taken: `stable`. Without it the channel does not count.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32), regex(pattern = r"^[a-z0-9-]+$"))]
    pub channel: Option<String>,
    /// Labels of the nodes that are meant. Default: every node of Sheaf.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "selector::schema")]
    pub node_selector: Option<LabelSelector>,
    /// How many nodes may be unavailable at one time, those that are not Ready for another reason included. Control-plane
    /// nodes do not count: they are updated before the others and always one at a time.
    #[serde(default = "one")]
    #[schemars(range(min = 1, max = 1000))]
    pub max_unavailable: u32,
    /// When nodes may be begun. Default: at any time. A node that was begun is followed to its end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub window: Option<Window>,
    /// No further node is begun; those that were begun are followed to their end.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub paused: bool,
    /// No further node is begun. Nodes that do not restart yet are stopped; those that do are followed to their end. What
    /// this update cordoned is uncordoned. It cannot be undone; deleting the ClusterUpdate does the same.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub cancelled: bool,
    /// How long the new release may take to pass the health gate of a node, in seconds.
    #[serde(default = "health_timeout")]
    #[schemars(range(min = 60, max = 7200))]
    pub health_timeout_seconds: u32,
}

fn one() -> u32 {
    1
}

/// A time of the week, in UTC.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Window {
    /// Days on which it begins. Default: every day.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 7), extend("x-kubernetes-list-type" = "set"))]
    pub days: Vec<Day>,
    /// When it begins: `HH:MM`, UTC.
    #[schemars(length(max = 5), regex(pattern = r"^([01][0-9]|2[0-3]):[0-5][0-9]$"))]
    pub from: String,
    /// When it ends: `HH:MM`, UTC; of the next day, if that is earlier than `from`.
    #[schemars(length(max = 5), regex(pattern = r"^([01][0-9]|2[0-3]):[0-5][0-9]$"))]
    pub until: String,
}

/// A day of the week.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[allow(missing_docs)] // the names say it
pub enum Day {
    Monday,
    Tuesday,
    Wednesday,
    Thursday,
    Friday,
    Saturday,
    Sunday,
}

/// What the controller observes and does.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ClusterUpdateStatus {
    /// Where it stands.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phase: Option<Phase>,
    /// What is being done, or why it is not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// Nodes that are meant: updated, remaining and failed ones together.
    #[serde(default)]
    pub total: u32,
    /// Nodes that run the version and keep it.
    #[serde(default)]
    pub updated: u32,
    /// Nodes that are on the way, or to be begun.
    #[serde(default)]
    pub remaining: u32,
    /// Nodes that refused the release or rolled it back.
    #[serde(default)]
    pub failed: u32,
    /// Nodes that are being updated now.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "set"))]
    pub updating_nodes: Vec<String>,
    /// Each node; of more than 100 those that need attention.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub nodes: Vec<NodeStatus>,
    /// Generation of the spec that this is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Details by type: Updated, RequestFailed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
}

/// A status lists no more nodes than this: it is read as a whole, and written at each change of a node.
pub const MOST_NODES: usize = 100;

/// Where an update of the cluster stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Phase {
    /// It has not begun: another ClusterUpdate is not finished, or no node is meant.
    Pending,
    /// Nodes are left, and none may be begun at this time.
    WaitingForWindow,
    /// Nodes are being updated, or the message says what they wait for.
    Updating,
    /// `spec.paused` is true, and nodes are left.
    Paused,
    /// It was cancelled, or is being deleted. Nothing follows once no node is being updated.
    Cancelled,
    /// A node refused the release or rolled it back: no other node is begun.
    Stopped,
    /// All nodes run the version. Nothing follows.
    Updated,
}

/// Where one node stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NodeStatus {
    /// Name of the node.
    pub name: String,
    /// Where it stands.
    pub phase: NodePhase,
    /// Details, or why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// The NodeUpdate that `phase` is about: `<UID>/<generation>`. A failure counts until there is another.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<String>,
}

/// Where a node stands in an update of the cluster. The order is that of `status.nodes`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub enum NodePhase {
    /// It runs the former release again.
    RolledBack,
    /// It does not take the release.
    Refused,
    /// A step failed; the node tries it again.
    Failed,
    /// It is on the way; the message has the phase of its NodeUpdate.
    Updating,
    /// It is not begun; the message says why.
    Blocked,
    /// It is to be begun.
    Waiting,
    /// It runs the version.
    Updated,
}

/// The rules of a ClusterUpdate, as the API server checks them (CEL); those of its source are
/// [`crate::node_update::SOURCE`].
pub const RULES: &[Rule] = &[
    Rule {
        at: "",
        rule: "!has(oldSelf.status) || !has(oldSelf.status.phase) || oldSelf.status.phase != 'Updated' || \
               self.spec == oldSelf.spec",
        says: "this update is finished, and nothing would follow from a change; create another ClusterUpdate",
        field: ".spec",
        reason: Reason::Forbidden,
    },
    Rule {
        at: "spec",
        rule: "self.version == oldSelf.version",
        says: "version cannot be changed; cancel this ClusterUpdate and create another",
        field: ".version",
        reason: Reason::Forbidden,
    },
    Rule {
        at: "spec",
        rule: "!has(oldSelf.cancelled) || !oldSelf.cancelled || has(self.cancelled) && self.cancelled",
        says: "cancelled cannot be undone; create another ClusterUpdate",
        field: ".cancelled",
        reason: Reason::Forbidden,
    },
    Rule {
        at: "spec.window",
        rule: "self.from != self.until",
        says: "from and until are the same time; leave window out to begin nodes at any time",
        field: ".until",
        reason: Reason::Invalid,
    },
    Rule {
        at: "spec.nodeSelector",
        rule: selector::VALUES,
        says: selector::VALUES_SAYS,
        field: ".matchExpressions",
        reason: Reason::Invalid,
    },
];
