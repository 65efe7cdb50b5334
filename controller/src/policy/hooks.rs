//! Which annotations of KubeVirt's ask for what Sheaf does not do: hook sidecars.
//!
//! Why here: a rule of a schema sees no annotations, and one that is ignored leaves its user to believe that it works. Route in:
//! nothing. Route out: a ValidatingAdmissionPolicy.

use serde_json::{Value, json};

use super::{refusing, writes};

/// Name of the policy.
pub const NAME: &str = "sheaf-hooks";

/// KubeVirt's annotation for containers that change the domain of a VM.
const SIDECARS: &str = "hooks.kubevirt.io/hookSidecars";

/// The policy. An object that had the annotation before there was this policy keeps it: its status and finalizers are written.
pub fn policy() -> Value {
    let has = |object: &str| format!("{object}.?metadata.?annotations[?'{SIDECARS}'].hasValue()");
    refusing(
        NAME,
        &[writes(&["CREATE", "UPDATE"], "kubevirt.io", &["virtualmachines", "virtualmachineinstances"])],
        json!({
            "variables": [
                {"name": "before", "expression": "request.operation == 'UPDATE' ? [oldObject] : []"},
                {"name": "asks", "expression": format!("{} || {}", has("object"), has("object.spec.?template"))},
                {"name": "asked", "expression":
                    format!("variables.before.exists(o, {} || {})", has("o"), has("o.spec.?template"))},
            ],
            "validations": [{
                "expression": "!variables.asks || variables.asked",
                "message": format!(
                    "annotation {SIDECARS} is not supported by Sheaf: hooks are containers, and none run on a node; remove it"
                ),
                "reason": "Forbidden",
            }],
        }),
    )
}
