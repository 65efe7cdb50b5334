//! The spec of a Pod in which nothing runs: it lets a node read what it refers to.
//!
//! Why here: importer Pods (`volumes::importer`) and attachment Pods ([`super::attachment`]) are such. The RuntimeClass is that of
//! VMs, so that a policy of the API server leaves them to the controller. Pure. Route in: name and image of its one container,
//! and volumes. Route out: JSON of a Pod's spec, which satisfies the `restricted` Pod security standard.

use serde_json::{Value, json};
use sheaf_api::names::RUNTIME_CLASS;

/// The spec.
pub fn spec(container: &str, image: &str, volumes: &[Value]) -> Value {
    // Given, so that a ResourceQuota that asks for it admits the Pod.
    let nothing = json!({"cpu": "0", "memory": "0"});
    json!({
        "runtimeClassName": RUNTIME_CLASS,
        "restartPolicy": "Never",
        "automountServiceAccountToken": false,
        "enableServiceLinks": false,
        "terminationGracePeriodSeconds": 0,
        "tolerations": [{"operator": "Exists"}],
        "securityContext": {"runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}},
        "containers": [{
            "name": container,
            "image": image,
            "imagePullPolicy": "Never",
            "resources": {"requests": nothing, "limits": nothing},
            "securityContext": {"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}},
        }],
        "volumes": volumes,
    })
}
