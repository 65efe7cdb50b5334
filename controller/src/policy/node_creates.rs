//! What a node may not create though Kubernetes lets kubelets: Pods of its own, and requests for Pods' certificates.
//!
//! Why here: a kubelet makes mirror Pods and asks for certificates of the containers that it runs; an agent of Sheaf runs
//! VMs and does neither. Anyone who holds a node's certificate could fill etcd with them. Route in: nothing. Route out: a
//! ValidatingAdmissionPolicy.

use serde_json::{Value, json};

use super::{by_a_node, refusing, writes};

/// Its name.
pub const NAME: &str = "sheaf-node-creates";

/// The policy.
pub fn policy() -> Value {
    refusing(
        NAME,
        &[
            writes(&["CREATE"], "", &["pods"]),
            writes(&["CREATE"], "certificates.k8s.io", &["podcertificaterequests"]),
            writes(&["CREATE"], "resource.k8s.io", &["resourceslices"]),
            writes(&["CREATE"], "storage.k8s.io", &["csinodes"]),
        ],
        json!({
            "matchConditions": by_a_node(),
            "validations": [{
                "expression": "false",
                "messageExpression": "'a Sheaf node may not create '  + request.resource.resource",
                "message": "a Sheaf node may not create such objects",
                "reason": "Forbidden",
            }],
        }),
    )
}
