//! JSON patches of a VM that is to be created, as users write them: each an operation of RFC 6902 as a string.
//!
//! Why here: a restore and a clone have them; only the spec, labels and annotations may be changed, as in KubeVirt. Pure.
//! Route in: a VM and its patches. Route out: the VM after them, or the sentence that says which one is wrong.

use json_patch::{Patch, PatchOperation};
use sheaf_api::{VirtualMachine, strict};

/// What may be changed.
const ALLOWED: [&str; 3] = ["/spec/", "/metadata/labels", "/metadata/annotations"];

/// Applies `patches` in order.
pub fn apply(vm: &VirtualMachine, patches: &[String]) -> Result<VirtualMachine, String> {
    if patches.is_empty() {
        return Ok(vm.clone());
    }
    let mut value = serde_json::to_value(vm).map_err(|error| format!("the VM: {error}"))?;
    for (index, text) in patches.iter().enumerate() {
        let wrong = |why: String| format!("spec.patches[{index}] {text}: {why}");
        let operation: PatchOperation =
            serde_json::from_str(text).map_err(|error| wrong(error.to_string()))?;
        let path = operation.path().to_string();
        if !ALLOWED.iter().any(|allowed| path.starts_with(allowed)) {
            return Err(wrong(
                "only /spec/…, /metadata/labels and /metadata/annotations can be changed".into(),
            ));
        }
        json_patch::patch(&mut value, &Patch(vec![operation])).map_err(|error| wrong(error.to_string()))?;
    }
    // A field that the type does not have is named, not dropped.
    strict::from_json(&value.to_string()).map_err(|error| format!("the VM after spec.patches: {error}"))
}
