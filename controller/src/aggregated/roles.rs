//! KubeVirt's ClusterRoles: what `view`, `edit` and `admin` of a namespace may do with VMs that run.
//!
//! Why here: kube-apiserver authorizes every request to the aggregated server before it hands it on. Names and rules are
//! KubeVirt's (`pkg/virt-operator/resource/generate/rbac/cluster.go`), cut to what is served, so that bindings made for
//! KubeVirt mean the same. Pure. Route in: nothing. Route out: ClusterRoles and one binding, applied by [`crate::install`].

use serde_json::{Value, json};

use super::routes::GROUP;

/// What everybody who logged in may read.
pub const DEFAULT: &str = "kubevirt.io:default";

/// Subresources of instances that only read.
const READ: [&str; 3] = ["guestosinfo", "userlist", "filesystemlist"];
/// Those that are streams.
const STREAMS: [&str; 3] = ["console", "vnc", "portforward"];
/// Those that change.
const CHANGE: [&str; 6] = ["pause", "unpause", "freeze", "unfreeze", "reset", "softreboot"];

/// Those that add and remove volumes, of VMs and of instances.
const VOLUMES: [&str; 2] = ["addvolume", "removevolume"];

/// The roles by name.
pub fn roles() -> Vec<(&'static str, Value)> {
    let of = |kind: &str, names: &[&str]| -> Vec<String> {
        names.iter().map(|name| format!("{kind}/{name}")).collect()
    };
    let rule = |resources: Vec<String>, verbs: &[&str]| json!({"apiGroups": [GROUP], "resources": resources, "verbs": verbs});
    let view = vec![
        rule(of("virtualmachineinstances", &READ), &["get"]),
        rule(of("virtualmachines", &["expand-spec"]), &["get"]),
        rule(vec!["expand-vm-spec".into()], &["update"]),
        // As metrics-server's `system:aggregated-metrics-reader`.
        json!({"apiGroups": [super::usage::GROUP], "resources": ["pods", "nodes"], "verbs": ["get", "list"]}),
    ];
    let mut edit = view.clone();
    edit.extend([
        rule(of("virtualmachineinstances", &STREAMS), &["get"]),
        rule(of("virtualmachines", &["portforward"]), &["get"]),
        rule(of("virtualmachineinstances", &CHANGE), &["update"]),
        rule(of("virtualmachines", &["start", "stop", "restart"]), &["update"]),
        rule(of("virtualmachines", &VOLUMES), &["update"]),
        rule(of("virtualmachineinstances", &VOLUMES), &["update"]),
        // CDI's `cdi.kubevirt.io:edit` and `:admin`.
        json!({"apiGroups": [super::upload::GROUP], "resources": ["uploadtokenrequests"], "verbs": ["create"]}),
    ]);
    let default = vec![
        rule(vec!["version".into(), "guestfs".into()], &["get", "list"]),
        json!({"apiGroups": ["kubevirt.io"], "resources": ["kubevirts"], "verbs": ["get", "list"]}),
        // CDI's `cdi.kubevirt.io:config-reader`: where to send images.
        json!({"apiGroups": ["cdi.kubevirt.io"], "resources": ["cdiconfigs"], "verbs": ["get", "list", "watch"]}),
        // KubeVirt's `instancetype.kubevirt.io:view`: those of the cluster are for everybody.
        json!({"apiGroups": ["instancetype.kubevirt.io"], "verbs": ["get", "list", "watch"],
               "resources": ["virtualmachineclusterinstancetypes", "virtualmachineclusterpreferences"]}),
    ];
    vec![
        ("kubevirt.io:view", role("kubevirt.io:view", Some("view"), view)),
        ("kubevirt.io:edit", role("kubevirt.io:edit", Some("edit"), edit.clone())),
        ("kubevirt.io:admin", role("kubevirt.io:admin", Some("admin"), edit)),
        (DEFAULT, role(DEFAULT, None, default)),
    ]
}

/// [`DEFAULT`], to everybody who logged in.
pub fn default_binding() -> Value {
    json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding",
        "metadata": {"name": DEFAULT},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": DEFAULT},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "Group", "name": "system:authenticated"}],
    })
}

fn role(name: &str, added_to: Option<&str>, rules: Vec<Value>) -> Value {
    let labels: serde_json::Map<String, Value> = added_to
        .map(|role| (format!("rbac.authorization.k8s.io/aggregate-to-{role}"), json!("true")))
        .into_iter()
        .collect();
    json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole",
        "metadata": {"name": name, "labels": labels}, "rules": rules,
    })
}
