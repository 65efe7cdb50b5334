//! Stops a node that has made as many objects as one node can need.
//!
//! Why here: etcd holds 2 GiB for the whole cluster, and when it is full the cluster is read-only. Route in: the record of
//! nodes that reached a limit ([`crate::nodes::limits`]), as the parameter. Route out: a ValidatingAdmissionPolicy.

use serde_json::{Value, json};
use sheaf_api::names::{LIMITS_MAP, SYSTEM_NAMESPACE};

use super::{refusing, writes};

/// Its name.
pub const NAME: &str = "sheaf-node-limits";

/// The policy.
pub fn policy() -> Value {
    refusing(
        NAME,
        &[
            writes(&["CREATE"], "sheaf.dev", &["*"]),
            writes(&["CREATE"], "certificates.k8s.io", &["certificatesigningrequests"]),
        ],
        json!({
            "paramKind": {"apiVersion": "v1", "kind": "ConfigMap"},
            "matchConditions": [
                {"name": "by-a-node", "expression": "request.userInfo.username.startsWith('system:node:')"},
            ],
            "variables": [
                {"name": "reached", "expression":
                    "params.?data[request.userInfo.username.substring(12)].orValue('')"},
            ],
            "validations": [{
                "expression": "variables.reached == ''",
                "messageExpression": "'this node has created too many objects: ' + variables.reached",
                "message": "this node has created too many objects",
                "reason": "Forbidden",
            }],
        }),
    )
}

/// The record that it reads. While it is missing, nobody is known to have reached a limit.
pub fn parameter() -> Value {
    json!({"name": LIMITS_MAP, "namespace": SYSTEM_NAMESPACE, "parameterNotFoundAction": "Allow"})
}
