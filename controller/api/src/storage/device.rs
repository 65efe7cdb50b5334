//! BlockDevice: one disk of one node, for as long as anybody cares for it.
//!
//! Why here: it is how a disk is given to a pool. The agent makes it when it first sees the disk and never deletes it: a
//! disk that is pulled is `Missing` and keeps its settings. Route in: the agent (`spec.nodeName`, `spec.identity`,
//! status), the operator (the rest of spec). Route out: the agent's `disks` and `pools`.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::status::Condition;

/// One disk of one node.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema, CustomResource)]
#[kube(
    group = "sheaf.dev",
    version = "v1alpha1",
    kind = "BlockDevice",
    plural = "blockdevices",
    shortname = "bd",
    category = "sheaf",
    derive = "PartialEq",
    status = "BlockDeviceStatus",
    selectable = ".spec.nodeName",
    doc = "One disk of one node, known by its identity; a missing disk keeps its object.",
    printcolumn = r#"{"name":"Node","type":"string","jsonPath":".spec.nodeName"}"#,
    printcolumn = r#"{"name":"Device","type":"string","jsonPath":".status.devPath"}"#,
    printcolumn = r#"{"name":"Size","type":"string","jsonPath":".status.size"}"#,
    printcolumn = r#"{"name":"Model","type":"string","jsonPath":".status.model"}"#,
    printcolumn = r#"{"name":"Serial","type":"string","jsonPath":".status.serial"}"#,
    printcolumn = r#"{"name":"State","type":"string","jsonPath":".status.state"}"#,
    printcolumn = r#"{"name":"Health","type":"string","jsonPath":".status.smart.health"}"#,
    printcolumn = r#"{"name":"Used by","type":"string","jsonPath":".status.usedBy"}"#,
    printcolumn = r#"{"name":"Role","type":"string","priority":1,"jsonPath":".spec.role"}"#,
    printcolumn = r#"{"name":"WWN","type":"string","priority":1,"jsonPath":".status.wwn"}"#,
    printcolumn = r#"{"name":"Age","type":"date","priority":1,"jsonPath":".metadata.creationTimestamp"}"#
)]
#[serde(rename_all = "camelCase")]
pub struct BlockDeviceSpec {
    /// The node that has the disk; written by its agent.
    #[schemars(length(min = 1, max = 63))]
    pub node_name: String,
    /// The identity that the disk reported when it was first found; written by the node's agent.
    #[serde(default)]
    pub identity: Identity,
    /// What the disk is for.
    #[serde(default)]
    pub role: Role,
    /// With role pool: name of the pool it joins, on its own node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 40), regex(pattern = r"^[a-z0-9]([a-z0-9-]*[a-z0-9])?$"))]
    pub pool: Option<String>,
    /// Allows the contents of the disk to be erased, once: to erase it again, remove this and set it again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wipe: Option<Wipe>,
}

/// What tells one disk from another.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Identity {
    /// World-wide name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256))]
    pub wwn: Option<String>,
    /// Serial number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256))]
    pub serial: Option<String>,
    /// Model name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256))]
    pub model: Option<String>,
    /// Its place in the machine (udev's `ID_PATH`), where neither name nor serial is unique.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256))]
    pub path: Option<String>,
}

impl Identity {
    /// What a wipe has to repeat: the serial; without one the wwn, and without either the place.
    pub fn proof(&self) -> Option<&str> {
        self.serial.as_deref().or(self.wwn.as_deref()).or(self.path.as_deref())
    }
}

/// What a disk is for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Nothing: it is shown and left alone.
    #[default]
    None,
    /// A part of the pool that `pool` names.
    Pool,
    /// Whole, to one VM.
    Passthrough,
}

/// A confirmed wipe.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Wipe {
    /// The disk's serial, repeated; for a disk without a serial its wwn, without both its path.
    #[schemars(length(min = 1, max = 256))]
    pub confirm_serial: String,
}

/// What the node's agent observes of the disk.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BlockDeviceStatus {
    /// Whether it is there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<DeviceState>,
    /// Its current device; may change at the next boot.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dev_path: Option<String>,
    /// Length in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size_bytes: Option<i64>,
    /// Length, human-readable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<String>,
    /// Logical sector size in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sector_size: Option<i64>,
    /// World-wide name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wwn: Option<String>,
    /// Serial number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub serial: Option<String>,
    /// Model name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// How it is attached: nvme, sata, sas, scsi, usb, virtio.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bus: Option<String>,
    /// Its place in the machine, udev's `ID_PATH`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// The kernel refuses writes.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub read_only: bool,
    /// Health that the disk reports.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub smart: Option<Smart>,
    /// Signatures of contents on it and on its partitions: `ext4 on /dev/sdb1`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub signatures: Vec<String>,
    /// Its user: `system`, `pool default`, or what else has it open. Absent: unused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub used_by: Option<String>,
    /// Another disk of this node has the same serial.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub duplicate_serial: bool,
    /// The wipe that was done for the present `spec.wipe`; it is not done twice.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wiped: Option<Wiped>,
    /// Generation of the spec that this is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Details by type: SerialUnique, Healthy, Wiped.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
}

/// Whether a disk is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum DeviceState {
    /// The node sees it.
    Active,
    /// The node does not see it; its settings stay.
    Missing,
}

/// Health that the disk reports.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Smart {
    /// Health.
    #[serde(default)]
    pub health: Health,
    /// Why, unless it is Passed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// Degrees Celsius.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub temperature: Option<i64>,
    /// Power-on hours.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub power_on_hours: Option<i64>,
    /// Share of its rated life that a solid-state disk has used, in percent; can exceed 100.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub percentage_used: Option<i64>,
    /// Sectors that were replaced, or media errors of NVMe.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub media_errors: Option<i64>,
}

/// Health in one word.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Health {
    /// The disk does not say, as virtual disks do not.
    #[default]
    Unknown,
    /// It sees nothing wrong.
    Passed,
    /// It works, and says that it soon may not.
    Warning,
    /// It says that it fails.
    Failing,
}

/// A wipe that was done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Wiped {
    /// The value of `spec.wipe.confirmSerial`.
    pub confirm_serial: String,
    /// When.
    pub time: Time,
}
