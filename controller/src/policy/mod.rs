//! Who may write what, beyond what roles can say: policies that the API server evaluates at every write.
//!
//! Why here: a role names kinds; whose object it is, only a rule can tell. Route in: nothing. Route out:
//! ValidatingAdmissionPolicies with their bindings, applied by [`crate::install`]; one file a policy.

pub mod hooks;
pub mod host_disk;
pub mod networks;
pub mod node;
pub mod node_creates;
pub mod node_limits;
pub mod node_removed;
pub mod node_status;
pub mod placeholder;

use serde_json::{Value, json};

/// The frame that every policy has: where it cannot be evaluated, the write is refused. `rules` are the writes that it is
/// asked about; `rest` has its conditions, variables and validations.
fn refusing(name: &str, rules: &[Value], rest: Value) -> Value {
    let mut policy = json!({
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingAdmissionPolicy",
        "metadata": {"name": name},
        "spec": {"failurePolicy": "Fail", "matchConstraints": {"resourceRules": rules}},
    });
    if let (Some(spec), Value::Object(rest)) = (policy["spec"].as_object_mut(), rest) {
        spec.extend(rest);
    }
    policy
}

/// Writes to resources of one API group, in each of its versions.
fn writes(operations: &[&str], group: &str, resources: &[&str]) -> Value {
    json!({"apiGroups": [group], "apiVersions": ["*"], "operations": operations, "resources": resources})
}

/// The condition that a node writes.
fn by_a_node() -> Value {
    json!([{"name": "by-a-node", "expression": "'system:nodes' in request.userInfo.groups"}])
}

/// Every policy by name, in the order in which they are to be applied.
pub fn all() -> Vec<(&'static str, Value)> {
    vec![
        (node::POLICY, node::policy()),
        (networks::NAME, networks::policy()),
        (host_disk::NAME, host_disk::policy()),
        (hooks::NAME, hooks::policy()),
        (placeholder::NAME, placeholder::policy()),
        (placeholder::INSTANCES, placeholder::instances()),
        (node_creates::NAME, node_creates::policy()),
        (node_limits::NAME, node_limits::policy()),
        (node_removed::NAME, node_removed::policy()),
        (node_status::SHAPE, node_status::shape()),
        (node_status::OWNERS, node_status::owners()),
    ]
}

/// The binding of the policy `name`: everywhere.
pub fn binding(name: &str) -> Value {
    let mut binding = json!({
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingAdmissionPolicyBinding",
        "metadata": {"name": name},
        "spec": {"policyName": name, "validationActions": ["Deny"]},
    });
    match name {
        node_status::OWNERS => binding["spec"]["paramRef"] = node_status::parameter(),
        node_removed::NAME => binding["spec"]["paramRef"] = node_removed::parameter(),
        node_limits::NAME => binding["spec"]["paramRef"] = node_limits::parameter(),
        _ => {}
    }
    binding
}
