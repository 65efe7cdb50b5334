//! The contract between controller and agent about an attachment Pod: the disk or the NIC that a VM is to get while it runs.
//!
//! Why here: both programs must read the same. A placeholder Pod cannot be changed, so each volume that is added to a VM that
//! runs has a Pod of its own, which names the claim: kube-scheduler binds the claim on the VM's node, and the node may read it.
//! Each interface has one, too, which asks for a port of its bridge. Route in: a volume or an interface of an instance. Route out:
//! the Pod's annotation [`crate::names::ATTACHMENT_ANNOTATION`].

use std::net::IpAddr;

use k8s_openapi::api::core::v1::Pod;
use serde::{Deserialize, Serialize};

use crate::{
    devices::{Disk, Interface},
    names::{APP_LABEL, ATTACHMENT_ANNOTATION, DETACH_ANNOTATION, HOTPLUG_DISK, HOTPLUG_NIC, TRUE},
    network, strict,
    volumes::Volume,
};

/// A disk of an instance that is added while it runs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Attachment {
    /// Name of the VMI.
    pub vmi: String,
    /// UID of its placeholder Pod.
    pub pod_uid: String,
    /// The volume: one with a claim.
    pub volume: Volume,
    /// The disk of its name, with every default filled in.
    pub disk: Disk,
}

impl Attachment {
    /// The annotation's text.
    pub fn to_annotation(&self) -> String {
        // Only maps with keys that are not strings can fail here, and there are none.
        serde_json::to_string(self).unwrap_or_default()
    }

    /// Of an attachment Pod; nothing for one that this version would not honour.
    pub fn of(pod: &Pod) -> Option<Self> {
        let annotation = pod.metadata.annotations.as_ref()?.get(ATTACHMENT_ANNOTATION)?;
        strict::from_json(annotation).ok()
    }
}

/// An interface of an instance that is added while it runs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NicAttachment {
    /// Name of the VMI.
    pub vmi: String,
    /// UID of its placeholder Pod.
    pub pod_uid: String,
    /// The interface, with every default filled in: model and MAC address are set.
    pub interface: Interface,
    /// What the NetworkAttachmentDefinition of its network said when the Pod was made.
    pub network: network::Attachment,
    /// The only addresses that it may use; any, where there are none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub addresses: Option<Vec<IpAddr>>,
}

impl NicAttachment {
    /// The annotation's text.
    pub fn to_annotation(&self) -> String {
        // Only maps with keys that are not strings can fail here, and there are none.
        serde_json::to_string(self).unwrap_or_default()
    }

    /// Of an attachment Pod; nothing for one of a disk, or one that this version would not honour.
    pub fn of(pod: &Pod) -> Option<Self> {
        let annotation = pod.metadata.annotations.as_ref()?.get(ATTACHMENT_ANNOTATION)?;
        strict::from_json(annotation).ok()
    }
}

/// Whether `pod` says of itself that it is an attachment Pod.
pub fn is_attachment(pod: &Pod) -> bool {
    is_nic(pod) || has_label(pod, HOTPLUG_DISK)
}

/// Whether `pod` says of itself that it is the attachment Pod of a NIC.
pub fn is_nic(pod: &Pod) -> bool {
    has_label(pod, HOTPLUG_NIC)
}

fn has_label(pod: &Pod, value: &str) -> bool {
    let labels = pod.metadata.labels.as_ref();
    labels.and_then(|labels| labels.get(APP_LABEL)).is_some_and(|label| label == value)
}

/// Whether the VM is to lose the disk or the NIC of this attachment Pod.
pub fn is_to_detach(pod: &Pod) -> bool {
    let annotations = pod.metadata.annotations.as_ref();
    annotations.and_then(|all| all.get(DETACH_ANNOTATION)).is_some_and(|value| value == TRUE)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_annotation_comes_back_and_a_field_that_is_not_known_makes_it_none() {
        let attachment = json!({"vmi": "web", "podUid": "p", "volume": {"name": "a"}, "disk": {"name": "a"}});
        let of = |annotation: &serde_json::Value| {
            let annotations = json!({(ATTACHMENT_ANNOTATION): annotation.to_string()});
            Attachment::of(
                &serde_json::from_value(json!({"metadata": {"annotations": annotations}})).unwrap(),
            )
        };
        let read = of(&attachment).unwrap();
        assert_eq!((read.vmi.as_str(), read.disk.name.as_str()), ("web", "a"));
        assert_eq!(serde_json::from_str::<serde_json::Value>(&read.to_annotation()).unwrap(), attachment);
        let mut more = attachment;
        more["disk"]["lun"] = json!({"bus": "scsi"});
        assert_eq!(of(&more), None);
    }

    #[test]
    fn an_attachment_of_a_nic_comes_back_and_is_no_attachment_of_a_disk() {
        let attachment = json!({"vmi": "web", "podUid": "p", "interface": {"name": "lan", "bridge": {}},
            "network": {"bridge": "br1", "vlan": 100}, "addresses": ["192.0.2.7"]});
        let annotations = json!({(ATTACHMENT_ANNOTATION): attachment.to_string()});
        let labels = json!({"kubevirt.io": "hotplug-nic"});
        let pod: Pod =
            serde_json::from_value(json!({"metadata": {"annotations": annotations, "labels": labels}}))
                .unwrap();
        let read = NicAttachment::of(&pod).unwrap();
        assert_eq!((read.interface.name.as_str(), read.network.vlan), ("lan", Some(100)));
        assert_eq!(serde_json::from_str::<serde_json::Value>(&read.to_annotation()).unwrap(), attachment);
        assert_eq!((Attachment::of(&pod), is_attachment(&pod), is_nic(&pod)), (None, true, true));
    }
}
