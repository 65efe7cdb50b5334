//! The contract between controller and agent about a placeholder Pod: what its annotation means, and what its status
//! proves.
//!
//! Why here: both programs must read the same. Route in: a VMI with every default filled in; the status that the node's
//! agent writes. Route out: the Pod's annotation [`crate::names::VMI_ANNOTATION`], which the agent reads strictly, because
//! anyone who may create Pods may have written it; [`domain_is_gone`].

use std::{collections::BTreeMap, net::IpAddr};

use k8s_openapi::api::core::v1::Pod;
use serde::{Deserialize, Serialize};

use crate::{
    names::{ATTACHMENT_CONTAINER, COMPUTE_CONTAINER, NIC_CONTAINER},
    network::{Attachment, Function},
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
    /// The same of networks whose interfaces are virtual functions of NICs.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub functions: BTreeMap<String, Function>,
    /// Addresses that an interface alone may use, by its name; an interface that is not here may use any.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub addresses: BTreeMap<String, Vec<IpAddr>>,
    /// Names of CD-ROM drives that have a medium, which is added by an attachment Pod.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub media: Vec<String>,
    /// Annotations of the VMI, if one of its volumes shows annotations to the guest.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
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

/// Whether the node of `pod` reported that the VM's domain does not exist, or not any more: container `compute` is
/// terminated; of an attachment Pod, that no domain has its disk or NIC. Only the node's agent writes container statuses. The phase alone proves nothing: the garbage collector of
/// kube-controller-manager sets `Failed` on Pods of nodes that do not answer, whose VMs may run on
/// (`pkg/controller/podgc/gc_controller.go`, markFailedAndDeletePod).
pub fn domain_is_gone(pod: &Pod) -> bool {
    let containers = pod.status.iter().flat_map(|status| status.container_statuses.iter().flatten());
    containers.into_iter().any(|container| {
        let state = container.state.as_ref();
        [COMPUTE_CONTAINER, ATTACHMENT_CONTAINER, NIC_CONTAINER].contains(&container.name.as_str())
            && state.is_some_and(|state| state.terminated.is_some())
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_the_nodes_word_that_compute_is_terminated_proves_that_the_domain_is_gone() {
        let pod = |status| serde_json::from_value::<Pod>(json!({"status": status})).unwrap();
        let container = |name: &str, state: &str| {
            json!({"containerStatuses": [{"name": name, "state": {state: {"exitCode": 0}},
            "image": "", "imageID": "", "ready": false, "restartCount": 0}]})
        };
        assert!(domain_is_gone(&pod(container("compute", "terminated"))));
        assert!(!domain_is_gone(&pod(container("other", "terminated"))));
        assert!(!domain_is_gone(&pod(container("compute", "running"))));
        assert!(!domain_is_gone(&pod(json!({"phase": "Failed", "reason": "NodeLost"}))));
        assert!(!domain_is_gone(&Pod::default()));
    }
}
