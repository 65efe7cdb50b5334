//! Who may make placeholder Pods: the controller alone.
//!
//! Why here: a placeholder Pod names files of a node and becomes a process there; whoever could write one
//! would pass by every rule of the VirtualMachine API. Route in: nothing. Route out: a ValidatingAdmissionPolicy.

use serde_json::{Value, json};
use sheaf_api::names::{CONTROLLER_USER, RUNTIME_CLASS, VMI_ANNOTATION};

/// Its name.
pub const NAME: &str = "sheaf-placeholder-pods";

/// The policy.
pub fn policy() -> Value {
    json!({
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingAdmissionPolicy",
        "metadata": {"name": NAME},
        "spec": {
            "failurePolicy": "Fail",
            "matchConstraints": {"resourceRules": [{
                "apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE", "UPDATE"], "resources": ["pods"],
            }]},
            "matchConditions": [{
                "name": "runs-a-vm",
                "expression": format!("object.spec.?runtimeClassName.orValue('') == '{RUNTIME_CLASS}'"),
            }],
            "validations": [
                {
                    "expression": format!(
                        "request.operation != 'CREATE' || request.userInfo.username == '{CONTROLLER_USER}'"
                    ),
                    "message": format!(
                        "runtimeClassName {RUNTIME_CLASS} is for the Pods that {CONTROLLER_USER} makes; \
                         create a VirtualMachine instead"
                    ),
                    "reason": "Forbidden",
                },
                {
                    "expression": format!(
                        "request.operation != 'UPDATE' || \
                         object.metadata.?annotations[?'{VMI_ANNOTATION}'].orValue('') == \
                         oldObject.metadata.?annotations[?'{VMI_ANNOTATION}'].orValue('')"
                    ),
                    "message": format!("annotation {VMI_ANNOTATION} does not change"),
                    "reason": "Forbidden",
                },
            ],
        },
    })
}
