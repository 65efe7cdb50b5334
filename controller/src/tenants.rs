//! What tenants may do with VMs, by the roles that Kubernetes gives them: `view`, `edit` and `admin` of a namespace.
//!
//! Why here: without these rules only a cluster administrator could create a VM. Kubernetes adds every ClusterRole that
//! carries its aggregation labels to those three. Only what belongs to a namespace is listed: pools, LocalVolumes, networks
//! of nodes and the ClusterConfig stay the administrator's. Route in: nothing. Route out: ClusterRoles, applied by
//! [`crate::install`].

use serde_json::{Value, json};

/// The kinds that tenants make, by API group.
const KINDS: &[(&str, &[&str])] = &[
    ("kubevirt.io", &["virtualmachines", "virtualmachineinstances"]),
    ("kubevirt.io", &["virtualmachineinstancereplicasets", "virtualmachineinstancereplicasets/scale"]),
    ("pool.kubevirt.io", &["virtualmachinepools", "virtualmachinepools/scale"]),
    ("cdi.kubevirt.io", &["datavolumes"]),
    ("snapshot.storage.k8s.io", &["volumesnapshots"]),
    (
        "snapshot.kubevirt.io",
        &["virtualmachinesnapshots", "virtualmachinesnapshotcontents", "virtualmachinerestores"],
    ),
    ("clone.kubevirt.io", &["virtualmachineclones"]),
    ("export.kubevirt.io", &["virtualmachineexports"]),
    ("instancetype.kubevirt.io", &["virtualmachineinstancetypes", "virtualmachinepreferences"]),
];

/// The roles by name.
pub fn roles() -> Vec<(&'static str, Value)> {
    let read: &[&str] = &["get", "list", "watch"];
    let write: &[&str] = &["get", "list", "watch", "create", "update", "patch", "delete"];
    vec![
        ("sheaf:view", role("sheaf:view", &["view", "edit", "admin"], read)),
        ("sheaf:edit", role("sheaf:edit", &["edit", "admin"], write)),
    ]
}

fn role(name: &str, added_to: &[&str], verbs: &[&str]) -> Value {
    let label = |role: &&str| (format!("rbac.authorization.k8s.io/aggregate-to-{role}"), json!("true"));
    let labels: serde_json::Map<String, Value> = added_to.iter().map(label).collect();
    let rules: Vec<Value> = KINDS
        .iter()
        .map(|(group, kinds)| json!({"apiGroups": [group], "resources": kinds, "verbs": verbs}))
        .collect();
    json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole",
        "metadata": {"name": name, "labels": labels}, "rules": rules,
    })
}
