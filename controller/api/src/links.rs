//! The links of a VM's NICs, and which of those that it started with are to be removed: what its node is told while it runs.
//!
//! Why here: both programs must read the same. The annotation with the VMI never changes, and a NIC that a VM started with has no Pod
//! of its own that could be marked. Route in: the interfaces of an instance. Route out: the annotation
//! [`crate::names::LINKS_ANNOTATION`] of its placeholder Pod.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::Pod;
use serde::{Deserialize, Serialize};

use crate::names::LINKS_ANNOTATION;

/// Names of interfaces, as in the spec.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Links {
    /// Their links are down; those of all others are up.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub down: BTreeSet<String>,
    /// The VM started with them, and is to lose them. A name stays in here as long as the Pod: an interface that is added under it
    /// again is another one.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub removed: BTreeSet<String>,
}

impl Links {
    /// The annotation's text.
    pub fn to_annotation(&self) -> String {
        // Only maps with keys that are not strings can fail here, and there are none.
        serde_json::to_string(self).unwrap_or_default()
    }

    /// Of a placeholder Pod: without an annotation all links are up, and nothing is removed.
    pub fn of(pod: &Pod) -> Self {
        let annotation = pod.metadata.annotations.as_ref().and_then(|all| all.get(LINKS_ANNOTATION));
        annotation.and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn links_come_back_and_a_pod_without_them_has_all_up() {
        let links = Links { down: ["a".to_owned()].into(), removed: ["b".to_owned()].into() };
        assert_eq!(links.to_annotation(), r#"{"down":["a"],"removed":["b"]}"#);
        let pod = json!({"metadata": {"annotations": {(LINKS_ANNOTATION): links.to_annotation()}}});
        assert_eq!(Links::of(&serde_json::from_value(pod).unwrap()), links);
        assert_eq!(Links::of(&Pod::default()), Links::default());
    }
}
