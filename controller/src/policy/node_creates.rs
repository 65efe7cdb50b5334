//! What a node may not create though Kubernetes lets kubelets: Pods of its own, and requests for Pods' certificates.
//!
//! Why here: a kubelet makes mirror Pods and asks for certificates of the containers that it runs; an agent of Sheaf runs
//! VMs and does neither. Whoever holds a node's certificate could fill etcd with them. Route in: nothing. Route out: a
//! ValidatingAdmissionPolicy.

use serde_json::{Value, json};

/// Its name.
pub const NAME: &str = "sheaf-node-creates";

/// The policy.
pub fn policy() -> Value {
    let rule = |group: &str, resource: &str| json!({"apiGroups": [group], "apiVersions": ["*"], "operations": ["CREATE"], "resources": [resource]});
    json!({
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingAdmissionPolicy",
        "metadata": {"name": NAME},
        "spec": {
            "failurePolicy": "Fail",
            "matchConstraints": {"resourceRules": [
                rule("", "pods"),
                rule("certificates.k8s.io", "podcertificaterequests"),
                rule("resource.k8s.io", "resourceslices"),
                rule("storage.k8s.io", "csinodes"),
            ]},
            "matchConditions": [{"name": "by-a-node", "expression": "'system:nodes' in request.userInfo.groups"}],
            "validations": [{
                "expression": "false",
                "messageExpression": "'a node of Sheaf creates no ' + request.resource.resource",
                "message": "a node of Sheaf creates no such object",
                "reason": "Forbidden",
            }],
        },
    })
}
