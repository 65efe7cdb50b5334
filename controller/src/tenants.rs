//! What tenants may do with VMs, by the roles that Kubernetes gives them: `view`, `edit` and `admin` of a namespace.
//!
//! Why here: without these rules only a cluster administrator could create a VM. Kubernetes adds every ClusterRole that
//! carries its aggregation labels to those three. Only what belongs to a namespace is listed: pools, LocalVolumes, networks
//! of nodes and the ClusterConfig stay the administrator's. ClusterUpdates may be read by who has one of the roles for the
//! whole cluster: why a node restarts concerns everybody; only a cluster administrator may write them. Route in: nothing. Route
//! out: ClusterRoles, applied by [`crate::install`].

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

/// The kinds of the cluster that may be read, by API group.
const READ_ONLY: &[(&str, &[&str])] = &[("sheaf.dev", &["clusterupdates"])];

/// The roles by name.
pub fn roles() -> Vec<(&'static str, Value)> {
    let read: &[&str] = &["get", "list", "watch"];
    let write: &[&str] = &["get", "list", "watch", "create", "update", "patch", "delete"];
    vec![
        ("sheaf:view", role("sheaf:view", &["view", "edit", "admin"], &[KINDS, READ_ONLY].concat(), read)),
        ("sheaf:edit", role("sheaf:edit", &["edit", "admin"], KINDS, write)),
    ]
}

fn role(name: &str, added_to: &[&str], kinds: &[(&str, &[&str])], verbs: &[&str]) -> Value {
    let label = |role: &&str| (format!("rbac.authorization.k8s.io/aggregate-to-{role}"), json!("true"));
    let labels: serde_json::Map<String, Value> = added_to.iter().map(label).collect();
    let rules: Vec<Value> = kinds
        .iter()
        .map(|(group, kinds)| json!({"apiGroups": [group], "resources": kinds, "verbs": verbs}))
        .collect();
    json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole",
        "metadata": {"name": name, "labels": labels}, "rules": rules,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cluster_updates_are_for_all_roles_to_read_and_for_none_to_write() {
        let roles = roles();
        let rules = |name: &str| {
            let role = roles.iter().find(|(of, _)| *of == name).unwrap();
            let rules = role.1["rules"].as_array().unwrap().clone();
            rules.into_iter().filter(|rule| rule["apiGroups"] == json!(["sheaf.dev"])).collect::<Vec<_>>()
        };
        let verbs = json!(["get", "list", "watch"]);
        let read = json!({"apiGroups": ["sheaf.dev"], "resources": ["clusterupdates"], "verbs": verbs});
        assert_eq!(rules("sheaf:view"), [read]);
        assert_eq!(rules("sheaf:edit"), [Value::Null; 0]);
    }
}
