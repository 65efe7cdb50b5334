//! Refuses everything that a removed node writes.
//!
//! Why here: a client certificate cannot be revoked, so that of a removed node is accepted until it ends, a year at most. The Node
//! authorizer lets it create its Node and its Lease again, and Sheaf's role its disks and pools. A policy sees no reads: of a node
//! without Node and Pods, nothing of anybody else is left to read (docs/security.md). Route in: the record of names
//! ([`crate::csr::identities`]), as the parameter. Route out: a ValidatingAdmissionPolicy.

use serde_json::{Value, json};
use sheaf_api::names::{IDENTITIES_MAP, SYSTEM_NAMESPACE};

use super::{by_a_node, refusing, writes};

/// Its name.
pub const NAME: &str = "sheaf-node-removed";

/// The policy.
pub fn policy() -> Value {
    refusing(
        NAME,
        &[writes(&["CREATE", "UPDATE", "DELETE"], "*", &["*/*"])],
        json!({
            "paramKind": {"apiVersion": "v1", "kind": "ConfigMap"},
            "matchConditions": by_a_node(),
            "variables": [
                {"name": "node", "expression": "request.userInfo.username.substring(12)"},
                {"name": "entry", "expression": "params.?data[variables.node].orValue('')"},
            ],
            "validations": [{
                // As an administrator may write it, too.
                "expression": r#"!variables.entry.matches('"removed" *: *true')"#,
                "messageExpression": "'node ' + variables.node + ' was removed from the cluster'",
                "message": "this node was removed from the cluster",
                "reason": "Forbidden",
            }],
        }),
    )
}

/// The record that it reads. While it is missing, no node is known to be removed.
pub fn parameter() -> Value {
    json!({"name": IDENTITIES_MAP, "namespace": SYSTEM_NAMESPACE, "parameterNotFoundAction": "Allow"})
}
