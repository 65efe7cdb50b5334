//! What tools ask a group before they use it: its resources, and which KubeVirt this is like.
//!
//! Why here: kubectl and virtctl need no more; the API server falls back to this form when it is offered no other. No verb
//! is declared that lists or deletes, or the garbage collector and the controller of namespaces would try them. Pure. Route
//! in: a version. Route out: JSON.

use serde_json::{Value, json};

use super::routes::{GROUP, VMI_ACTS, VOLUME_ACTS};

/// KubeVirt's release whose subresources these are: virtctl warns when its own is another.
const KUBEVIRT: &str = "v1.7.0";

/// `APIResourceList` of `version`.
pub fn resources(version: &str) -> Value {
    let of =
        |name: &str| json!({"name": name, "singularName": "", "namespaced": true, "kind": "", "verbs": []});
    let streams = ["console", "vnc", "portforward"].map(|name| format!("virtualmachineinstances/{name}"));
    let vms = ["start", "stop", "restart", "expand-spec", "portforward"]
        .map(|name| format!("virtualmachines/{name}"));
    let vmis = VMI_ACTS.map(|act| format!("virtualmachineinstances/{}", act.name()));
    let volumes = ["virtualmachines", "virtualmachineinstances"]
        .into_iter()
        .flat_map(|kind| VOLUME_ACTS.map(|(name, _)| format!("{kind}/{name}")));
    let names =
        ["expand-vm-spec".to_owned()].into_iter().chain(streams).chain(vms).chain(vmis).chain(volumes);
    let resources: Vec<Value> = names.map(|name| of(&name)).collect();
    json!({
        "kind": "APIResourceList", "apiVersion": "v1",
        "groupVersion": format!("{GROUP}/{version}"), "resources": resources,
    })
}

/// KubeVirt's version, and Sheaf's own beside it.
pub fn version() -> Value {
    json!({
        "gitVersion": KUBEVIRT, "gitCommit": concat!("sheaf-", env!("CARGO_PKG_VERSION")), "gitTreeState": "clean",
        "buildDate": "", "goVersion": "", "compiler": "rustc", "platform": "linux/amd64",
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_can_be_listed_or_deleted() {
        let list = resources("v1alpha3");
        assert_eq!(list["groupVersion"], "subresources.kubevirt.io/v1alpha3");
        assert!(list["resources"].as_array().unwrap().iter().all(|one| one["verbs"] == json!([])));
    }
}
