//! What is observed of a DataVolume, in CDI's words.
//!
//! Why here: people and tools wait for these words (`kubectl wait --for=jsonpath={.status.phase}=Succeeded`). Route in:
//! its claim and the node's report of the volume. Route out: `kubectl get dv`.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::status::Condition;

/// What is observed of a DataVolume.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DataVolumeStatus {
    /// Name of its claim.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub claim_name: Option<String>,
    /// How far it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phase: Option<DataVolumePhase>,
    /// Progress, as `42.0%`, or N/A.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub progress: Option<String>,
    /// Number of restarts; imports are resumed, so this stays 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restart_count: Option<i32>,
    /// Details by type: Bound, Running, Ready.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
}

/// Phase of a DataVolume.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum DataVolumePhase {
    /// It has no claim yet, or its claim cannot be met; the conditions say why.
    Pending,
    /// Its claim waits for the VM that uses it: the VM's node is where the volume will be.
    WaitForFirstConsumer,
    /// A node was chosen, and has not begun.
    ImportScheduled,
    /// The image is coming.
    ImportInProgress,
    /// What is to be copied was found, and its node has not begun.
    CloneScheduled,
    /// It is being copied.
    CloneInProgress,
    /// A node was chosen, and does not take bytes yet.
    UploadScheduled,
    /// The node takes bytes.
    UploadReady,
    /// Done: the claim may be used without this object.
    Succeeded,
    /// It will not come to be; the condition Running says why.
    Failed,
}

impl fmt::Display for DataVolumePhase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}
