//! Who may write what, beyond what roles can say: policies that the API server asks at every write.
//!
//! Why here: a role names kinds; whose object it is, only a rule can tell. Route in: nothing. Route out:
//! ValidatingAdmissionPolicies with their bindings, applied by [`crate::install`]; one file a policy.

pub mod host_disk;
pub mod networks;
pub mod node;
pub mod placeholder;

use serde_json::{Value, json};

/// Every policy by name, in the order in which they are to be applied.
pub fn all() -> Vec<(&'static str, Value)> {
    vec![
        (node::POLICY, node::policy()),
        (networks::NAME, networks::policy()),
        (host_disk::NAME, host_disk::policy()),
        (placeholder::NAME, placeholder::policy()),
    ]
}

/// The binding of the policy `name`: everywhere.
pub fn binding(name: &str) -> Value {
    json!({
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingAdmissionPolicyBinding",
        "metadata": {"name": name},
        "spec": {"policyName": name, "validationActions": ["Deny"]},
    })
}
