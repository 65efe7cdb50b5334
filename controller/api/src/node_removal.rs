//! NodeRemoval: a node that leaves the cluster for good, what would be lost with it, and what stands in the way.
//!
//! Why here: a node has no shell, and its traces are in a dozen kinds; by hand some are forgotten, or what somebody needs is
//! deleted. One for each node, of the node's name. Route in: an administrator (spec). Route out: sheaf-controller drains
//! the node by a NodeMaintenance, its agent forgets who it is, and the controller removes what is left and writes the status.
//! Deleting it cancels, until the phase is Removing. docs/cluster.md is for operators, docs/decisions/0040 says why.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::crd::rule::{Reason, Rule};
use crate::node_maintenance::Blocker;

/// Most things that are listed as lost, and that can be confirmed: a node's volumes and snapshots, four for each of 250 VMs.
pub const MOST_LOSSES: usize = 1024;
/// Most blockers that are listed.
pub const MOST_BLOCKERS: usize = 250;

/// A node that leaves the cluster.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema, CustomResource)]
#[kube(
    group = "sheaf.dev",
    version = "v1alpha1",
    kind = "NodeRemoval",
    plural = "noderemovals",
    shortname = "nr",
    category = "sheaf",
    derive = "PartialEq",
    status = "NodeRemovalStatus",
    selectable = ".spec.nodeName",
    doc = "Removes a node from the cluster: it is drained, loses its identity, and what is left of it is deleted. One for each node, of its name. Deleting it cancels, until the phase is Removing.",
    printcolumn = r#"{"name":"Phase","type":"string","jsonPath":".status.phase"}"#,
    printcolumn = r#"{"name":"Reason","type":"string","jsonPath":".spec.reason"}"#,
    printcolumn = r#"{"name":"Message","type":"string","jsonPath":".status.message"}"#,
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#
)]
#[serde(rename_all = "camelCase")]
pub struct NodeRemovalSpec {
    /// The node; also the name of this object.
    #[schemars(length(min = 1, max = 63))]
    pub node_name: String,
    /// Why, for other people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256))]
    pub reason: Option<String>,
    /// What may be lost: names from `status.losses`. Nothing that is lost with the node is deleted before its name is here, and
    /// the node is not drained before all are.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = MOST_LOSSES),
        inner(length(min = 1, max = 330)),
        extend("x-kubernetes-list-type" = "set")
    )]
    pub accept_loss: Vec<String>,
    /// Only for a node that does not report any more: it is switched off, and stays so. Its VMs count as ended and start
    /// elsewhere if they can. If it were running, they would run twice.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub powered_off: bool,
    /// The node erases itself when it has left: state and data, node.toml included. Only for a node that reports. It cannot be
    /// asked for, changed or withdrawn any more once the phase is Removing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wipe: Option<Wipe>,
    /// Seconds after which a node that still runs VMs is given back: it takes VMs again, and the phase is Cancelled. Default:
    /// the node stays cordoned until somebody removes what blocks, or deletes this object.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 30, max = 604_800))]
    pub deadline_seconds: Option<u32>,
}

/// What a node that leaves erases.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Wipe {
    /// The node's name, once more.
    #[schemars(length(min = 1, max = 63))]
    pub confirm_node: String,
    /// Erase its pools, too.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub pools: bool,
}

/// What the controller observes and does.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NodeRemovalStatus {
    /// Where it stands.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phase: Option<Phase>,
    /// What is waited for, or what to do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// What keeps the node from being removed, each with the remedy.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = MOST_BLOCKERS))]
    pub blockers: Vec<Blocker>,
    /// What is on this node only, and is lost with it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = MOST_LOSSES))]
    pub losses: Vec<Loss>,
    /// UID of the Node that is removed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node_uid: Option<String>,
    /// This object has declared the node out of service.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub tainted: bool,
    /// When the phase became Removing: from then on it cannot be cancelled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub removing: Option<Time>,
    /// When the node reported that it left, and erases itself: `spec.wipe`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub erasing: Option<Time>,
    /// When the node lost its identity.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revoked: Option<Time>,
    /// Generation of the spec that this is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
}

/// Something that is lost with the node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Loss {
    /// By this name it is confirmed: `LocalVolume/pvc-…`, `VirtualMachine/shop/web`, `Image/debian-13`, `StoragePool/n1.default`.
    pub name: String,
    /// What it is, for people: `claim shop/data`.
    pub what: String,
    /// Its size in bytes, where it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
}

/// Where a removal stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Phase {
    /// What would be lost and what stands in the way is being looked for.
    Checking,
    /// Something is in the way that does not go by itself: see blockers.
    Blocked,
    /// The node is cordoned and its VMs are being stopped; or it is declared out of service.
    Draining,
    /// The node is of the control plane and drained: another control-plane node takes its member out of etcd, and its role away.
    Demoting,
    /// The node leaves, and what is left of it is deleted. It cannot be cancelled any more.
    Removing,
    /// Nothing of the node is left in the cluster. Nothing follows.
    Removed,
    /// The deadline passed before the node was drained: it takes VMs again. Nothing follows.
    Cancelled,
}

/// The rules of a NodeRemoval, as the API server checks them (CEL).
pub const RULES: &[Rule] = &[
    Rule {
        at: "",
        rule: "self.metadata.name == self.spec.nodeName",
        says: "metadata.name is the node's name, so that a node has one NodeRemoval",
        field: "",
        reason: Reason::Invalid,
    },
    Rule {
        at: "spec",
        rule: "self.nodeName == oldSelf.nodeName",
        says: "nodeName cannot be changed; create a NodeRemoval for the other node",
        field: ".nodeName",
        reason: Reason::Forbidden,
    },
    Rule {
        at: "spec",
        rule: "!has(self.acceptLoss) || self.acceptLoss.all(name, name.startsWith('LocalVolume/') || \
               name.startsWith('VirtualMachine/') || name.startsWith('Image/') || name.startsWith('StoragePool/'))",
        says: "takes names as status.losses has them: LocalVolume/NAME, VirtualMachine/NAMESPACE/NAME, Image/NAME, StoragePool/NAME",
        field: ".acceptLoss",
        reason: Reason::Invalid,
    },
    Rule {
        at: "spec",
        rule: "!has(self.wipe) || self.wipe.confirmNode == self.nodeName",
        says: "confirmNode is the node's name, once more: what it has is erased",
        field: ".wipe.confirmNode",
        reason: Reason::Invalid,
    },
    Rule {
        at: "",
        rule: "!has(oldSelf.status) || !has(oldSelf.status.removing) || (has(self.spec.wipe) ? has(oldSelf.spec.wipe) && \
               self.spec.wipe == oldSelf.spec.wipe : !has(oldSelf.spec.wipe))",
        says: "wipe cannot be asked for, changed or withdrawn any more: the node is leaving",
        field: ".spec.wipe",
        reason: Reason::Forbidden,
    },
];
