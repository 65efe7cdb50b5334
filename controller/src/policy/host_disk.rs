//! Whose disks a VM may name: those of its own namespace.
//!
//! Why here: a schema knows no namespace. The node's agent refuses the same ([`sheaf_api::host_disk::place`]); refused here,
//! the user reads it at once. Route in: nothing. Route out: a ValidatingAdmissionPolicy.

use serde_json::{Value, json};
use sheaf_api::names::{DISKS_DIR, IMAGES_DIR};

use super::{refusing, writes};

/// Name of the policy.
pub const NAME: &str = "sheaf-host-disks";

/// The policy.
pub fn policy() -> Value {
    refusing(
        NAME,
        &[writes(&["CREATE", "UPDATE"], "kubevirt.io", &["virtualmachines", "virtualmachineinstances"])],
        json!({
            "variables": [
                {"name": "own", "expression": format!("'{DISKS_DIR}/' + request.namespace + '/'")},
                {"name": "volumes", "expression":
                    "object.spec.?template.?spec.?volumes.orValue(object.spec.?volumes.orValue([]))"},
                {"name": "foreign", "expression": format!(
                    "variables.volumes.filter(v, has(v.hostDisk) && !v.hostDisk.path.startsWith('{IMAGES_DIR}/') && \
                     v.hostDisk.path.startsWith('/data/') && !v.hostDisk.path.startsWith(variables.own)).map(v, v.name)"
                )},
            ],
            "validations": [{
                "expression": "variables.foreign.size() == 0",
                "message": "hostDisk.path: a hostDisk must be in the folder of its own namespace",
                "messageExpression":
                    "'volume ' + variables.foreign.join(', ') + ': a hostDisk of this namespace must be in ' + variables.own",
                "reason": "Forbidden",
            }],
        }),
    )
}
