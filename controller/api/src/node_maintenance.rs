//! NodeMaintenance: a node that is put to rest, and what stands in the way.
//!
//! Why here: cordon and drain of `kubectl` are two commands that forget what was before; this object remembers it, survives
//! restarts of all programs, and its deletion restores everything. One for each node, of the node's name. Route in: an
//! administrator (spec). Route out: sheaf-controller cordons the node, stops its VMs and writes the status. docs/node.md is for
//! operators.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::crd::rule::{Reason, Rule};

/// Most VMs that are listed: as many as a node runs.
const MOST_VMS: u32 = 250;

/// A node that is put to rest.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema, CustomResource)]
#[kube(
    group = "sheaf.dev",
    version = "v1alpha1",
    kind = "NodeMaintenance",
    plural = "nodemaintenances",
    shortname = "nm",
    category = "sheaf",
    derive = "PartialEq",
    status = "NodeMaintenanceStatus",
    selectable = ".spec.nodeName",
    doc = "Puts a node to rest: it is cordoned and its VMs are stopped, until this object is deleted. One for each node, of its name.",
    printcolumn = r#"{"name":"Phase","type":"string","jsonPath":".status.phase"}"#,
    printcolumn = r#"{"name":"Reason","type":"string","jsonPath":".spec.reason"}"#,
    printcolumn = r#"{"name":"Message","type":"string","jsonPath":".status.message"}"#,
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#
)]
#[serde(rename_all = "camelCase")]
pub struct NodeMaintenanceSpec {
    /// The node; also the name of this object.
    #[schemars(length(min = 1, max = 63))]
    pub node_name: String,
    /// Why, for other people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256))]
    pub reason: Option<String>,
    /// Seconds after which a node that still runs VMs is given back: it takes VMs again, and the phase is Cancelled. Default:
    /// the node stays cordoned until somebody removes what blocks, or deletes this object.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 30, max = 604_800))]
    pub deadline_seconds: Option<u32>,
}

/// What the controller observes and does.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NodeMaintenanceStatus {
    /// Where it stands.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phase: Option<Phase>,
    /// What is waited for, or what to do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// What keeps the node from its rest, each with the remedy.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = MOST_VMS))]
    pub blockers: Vec<Blocker>,
    /// VMs that are powering off, each with the time at which it is ended.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = MOST_VMS))]
    pub stopping: Vec<String>,
    /// VMs that were stopped and that the controller or the end of the maintenance starts again.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = MOST_VMS))]
    pub stopped: Vec<StoppedVm>,
    /// What an administrator should know before the node is switched off.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub warnings: Vec<String>,
    /// When the drain began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Time>,
    /// When the last VM had ended for the first time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drained: Option<Time>,
    /// The node was cordoned before, and stays so; absent while this object has cordoned nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub was_cordoned: Option<bool>,
    /// Generation of the spec that this is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
}

/// What keeps a node from its rest.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Blocker {
    /// `VM default/web`, `Node node-1`.
    pub what: String,
    /// Why it does.
    pub why: String,
    /// What to do about it.
    pub remedy: String,
}

/// A VM that a maintenance has stopped.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct StoppedVm {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// UID of the VirtualMachine.
    pub uid: String,
    /// UID of the instance that was stopped.
    pub instance: String,
    /// It has disks on the node: it waits there, and starts when the maintenance ends.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub held: bool,
    /// It does not start again by its run strategy (Manual): the controller asks for its start.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub restart: bool,
}

/// Where a maintenance stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Phase {
    /// The node is cordoned, and its VMs are being stopped.
    Draining,
    /// Something is in the way that does not go by itself: see blockers.
    Blocked,
    /// No VM runs on the node: it can be switched off.
    InMaintenance,
    /// This object was deleted: the node takes VMs again.
    Ending,
    /// The deadline passed before the node was drained: it takes VMs again.
    Cancelled,
}

/// The rules of a NodeMaintenance, as the API server checks them (CEL).
pub const RULES: &[Rule] = &[
    Rule {
        at: "",
        rule: "self.metadata.name == self.spec.nodeName",
        says: "metadata.name is the node's name, so that a node has one NodeMaintenance",
        field: "",
        reason: Reason::Invalid,
    },
    Rule {
        at: "spec",
        rule: "self.nodeName == oldSelf.nodeName",
        says: "nodeName cannot be changed; create a NodeMaintenance for the other node",
        field: ".nodeName",
        reason: Reason::Forbidden,
    },
];
