//! What the controller tells the agent about the VM that a placeholder Pod stands for.
//!
//! Why here: it is the contract between the two programs. Route in: a VMI with every default filled in.
//! Route out: the Pod's annotation [`crate::names::VMI_ANNOTATION`], which the agent reads strictly, because
//! whoever may create Pods may have written it.

use std::{collections::BTreeMap, net::IpAddr};

use serde::{Deserialize, Serialize};

use crate::{
    network::Attachment,
    strict::{self, StrictError},
    vmi::VirtualMachineInstanceSpec,
};

/// A VirtualMachineInstance as the node needs it: identity and resolved spec.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PlacedVmi {
    /// Name of the VMI, and of the VM if it has one.
    pub name: String,
    /// Namespace of the VMI.
    pub namespace: String,
    /// UID of the VMI: names its folder on the node.
    pub uid: String,
    /// The spec with all defaults resolved (see `VirtualMachineInstanceSpec`): CPU topology, guest memory,
    /// firmware UUID, machine type, a bus for every disk, model and MAC address for every interface are set.
    pub spec: VirtualMachineInstanceSpec,
    /// What the NetworkAttachmentDefinitions of the spec's `multus` networks said when the Pod was made, by the
    /// network's name in the spec.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub attachments: BTreeMap<String, Attachment>,
    /// Addresses that an interface alone may use, by its name; an interface that is not here may use any.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub addresses: BTreeMap<String, Vec<IpAddr>>,
}

impl PlacedVmi {
    /// The annotation's text.
    pub fn to_annotation(&self) -> String {
        // Only maps with keys that are not strings can fail here, and there are none.
        serde_json::to_string(self).unwrap_or_default()
    }

    /// Reads an annotation; a field that this version would not honour is an error with its path.
    pub fn from_annotation(text: &str) -> Result<Self, StrictError> {
        strict::from_json(text)
    }
}
