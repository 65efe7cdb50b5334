//! NodeUpdate: which release a node shall run, and how far it is on the way there.
//!
//! Why here: a node has no shell; this object is how an administrator asks for an update, and where its result stands. One
//! for each node, of the node's name: its history is in Events. Route in: an administrator (spec). Route out: the node's
//! agent follows it and writes the status. docs/update.md is for operators.

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::crd::rule::{Reason, Rule};
use crate::status::Condition;

/// The release that a node shall run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema, CustomResource)]
#[kube(
    group = "sheaf.dev",
    version = "v1alpha1",
    kind = "NodeUpdate",
    plural = "nodeupdates",
    category = "sheaf",
    derive = "PartialEq",
    status = "NodeUpdateStatus",
    selectable = ".spec.nodeName",
    doc = "The release that a node shall run. One for each node, of its name.",
    printcolumn = r#"{"name":"Wanted","type":"string","jsonPath":".spec.version"}"#,
    printcolumn = r#"{"name":"Running","type":"string","jsonPath":".status.running.version"}"#,
    printcolumn = r#"{"name":"Slot","type":"string","jsonPath":".status.running.slot"}"#,
    printcolumn = r#"{"name":"Phase","type":"string","jsonPath":".status.phase"}"#,
    printcolumn = r#"{"name":"Message","type":"string","jsonPath":".status.message"}"#,
    printcolumn = r#"{"name":"Age","type":"date","priority":1,"jsonPath":".metadata.creationTimestamp"}"#
)]
#[serde(rename_all = "camelCase")]
pub struct NodeUpdateSpec {
    /// The node; also the name of this object.
    #[schemars(length(min = 1, max = 63))]
    pub node_name: String,
    /// Version of the release that the node shall run. One that is in the node's other slot and ran well there needs no
    /// source: the node goes back to it.
    #[schemars(length(max = 64), regex(pattern = r"^[0-9]+\.[0-9]+\.[0-9]+(-[a-z0-9.]+)?$"))]
    pub version: String,
    /// Where the release is taken from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<Source>,
    /// Only a release of this channel is taken: `stable`. Without it the channel does not count.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32), regex(pattern = r"^[a-z0-9-]+$"))]
    pub channel: Option<String>,
    /// How far the node goes by itself.
    #[serde(default)]
    pub action: Action,
    /// How long the new release may take to pass the health gate, in seconds; after it the machine restarts, which uses up
    /// one of three tries.
    #[serde(default = "health_timeout")]
    #[schemars(range(min = 60, max = 7200))]
    pub health_timeout_seconds: u32,
}

/// Ten minutes: a control plane that replays its log on a slow disk, and every VM started again.
pub(crate) fn health_timeout() -> u32 {
    600
}

/// Where a release is taken from: one of these. The release's signature is what it is trusted by.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Source {
    /// URL of the release folder, `https://…`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 2048), regex(pattern = r"^https?://[^\s]+$"))]
    pub url: Option<String>,
    /// An artifact of an OCI registry that everybody may read, `registry.example.org/sheaf:0.2.0` or with `@sha256:…`: its
    /// layers are the files of the release folder, with their names as titles, as `oras push` makes them. Mirrors and
    /// authorities are those of `[[registry]]` in the node config.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512), regex(pattern = r"^[^\s/@:]+(:[0-9]+)?/[^\s@]+(@sha256:[0-9a-f]{64})?$"))]
    pub oci: Option<String>,
    /// Label of a file system (vfat, ext4, iso9660) on a drive at the node, such as `SHEAF-UPDATE`: the release folder is in
    /// it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32), regex(pattern = r"^[A-Za-z0-9][A-Za-z0-9._-]*$"))]
    pub drive: Option<String>,
}

/// How far a node goes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Action {
    /// Reads and judges the release; nothing is written.
    Check,
    /// Writes it to the other slot, which then holds no older release; the machine does not restart.
    Stage,
    /// Stages it, stops the node's VMs, restarts the machine, and keeps the release if it passes the health gate.
    #[default]
    Apply,
}

/// What the node's agent observes and does.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NodeUpdateStatus {
    /// Where it stands.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phase: Option<Phase>,
    /// What is being done, or why it is not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// The release that runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub running: Option<SlotStatus>,
    /// What is in the other slot, if it can be started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub other: Option<SlotStatus>,
    /// The newest release that passed the health gate here; older ones are not staged any more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub floor: Option<String>,
    /// Version that is complete and verified in the other slot.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub staged: Option<String>,
    /// The snapshot of etcd that the node took before it restarted into another release, on a control-plane node: its name in
    /// `/data/etcd-snapshots`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snapshot: Option<String>,
    /// What the agent is to do, in order, as it planned it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub plan: Vec<String>,
    /// Generation of the spec that this is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Details by type: Staged, Updated.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
}

/// A slot of the node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SlotStatus {
    /// `a` or `b`.
    pub slot: String,
    /// Version of the release in it.
    pub version: String,
    /// Tries that the boot loader gives it before it takes the other slot; absent for a release that passed the health
    /// gate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tries_left: Option<u32>,
}

/// Where an update stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Phase {
    /// The release is read and judged.
    Checking,
    /// It was judged and can be staged (action Check).
    Checked,
    /// It is written to the other slot.
    Staging,
    /// It is complete in the other slot (action Stage).
    Staged,
    /// VMs are stopped and the machine restarts.
    Restarting,
    /// It runs and is being judged by the health gate.
    OnTrial,
    /// The wanted version runs and passed the health gate.
    Updated,
    /// It did not pass; the former release runs again.
    RolledBack,
    /// It is not done; the message says why and what to do.
    Refused,
    /// A step failed; it is tried again.
    Failed,
}

/// The rules of a NodeUpdate, as the API server checks them (CEL).
pub const RULES: &[Rule] = &[
    Rule {
        at: "",
        rule: "self.metadata.name == self.spec.nodeName",
        says: "metadata.name is the node's name, so that a node has one NodeUpdate",
        field: "",
        reason: Reason::Invalid,
    },
    Rule {
        at: "spec",
        rule: "self.nodeName == oldSelf.nodeName",
        says: "nodeName cannot be changed; create a NodeUpdate for the other node",
        field: ".nodeName",
        reason: Reason::Forbidden,
    },
];

/// The rules of a source, of whatever kind.
pub const SOURCE: &[Rule] = &[
    Rule {
        at: "spec.source",
        rule: "(has(self.url) ? 1 : 0) + (has(self.oci) ? 1 : 0) + (has(self.drive) ? 1 : 0) == 1",
        says: "needs exactly one of url, oci and drive",
        field: "",
        reason: Reason::Invalid,
    },
    Rule {
        at: "spec.source",
        rule: "!has(self.url) || !self.url.contains('@')",
        says: "holds no user name or password: everybody who may read this object would know them; a release is trusted \
               by its signature",
        field: ".url",
        reason: Reason::Forbidden,
    },
];
