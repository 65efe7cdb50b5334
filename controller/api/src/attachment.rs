//! The contract between controller and agent about an attachment Pod: the disk that a VM is to get while it runs.
//!
//! Why here: both programs must read the same. A placeholder Pod cannot be changed, so each volume that is added to a VM that
//! runs has a Pod of its own, which names the claim: kube-scheduler binds the claim on the VM's node, and the node may read it.
//! Route in: a volume of an instance. Route out: the Pod's annotation [`crate::names::ATTACHMENT_ANNOTATION`].

use k8s_openapi::api::core::v1::Pod;
use serde::{Deserialize, Serialize};

use crate::{
    devices::Disk,
    names::{APP_LABEL, ATTACHMENT_ANNOTATION, DETACH_ANNOTATION, HOTPLUG_DISK, TRUE},
    strict,
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

/// Whether `pod` says of itself that it is an attachment Pod.
pub fn is_attachment(pod: &Pod) -> bool {
    let labels = pod.metadata.labels.as_ref();
    labels.and_then(|labels| labels.get(APP_LABEL)).is_some_and(|label| label == HOTPLUG_DISK)
}

/// Whether the VM is to lose the disk of this attachment Pod.
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
}
