//! What the administration console and those who prepare a cluster for it agree on: names, and what its identity may do.
//!
//! Why here: the agent of the node that makes the cluster applies what the console depends on; programs do not depend on one
//! another. Route in: nothing. Route out: constants; objects to apply ([`rules`]).

use serde_json::{Value, json};

use crate::names::SYSTEM_NAMESPACE;

/// User name in the console's client certificate (its CN).
pub const IDENTITY: &str = "sheaf-console";
/// Namespace of what the console remembers. Its own, so that its identity reads no other program's Secrets.
pub const NAMESPACE: &str = "sheaf-console";
/// Before the names of the console's users at the API server: `console:alice`. The identity may impersonate no other users;
/// RBAC cannot say "names that begin with", the API server's authorization configuration does.
pub const USER_PREFIX: &str = "console:";
/// Group of all users of the console.
pub const GROUP: &str = "console:users";
/// As whom the first administrator is made. No local user can have this name. It has rights only while a claim is open.
pub const CLAIM_USER: &str = "console:.claim";
/// Secret in [`NAMESPACE`]: the open claim.
pub const CLAIM_SECRET: &str = "claim";
/// ClusterRole of what users with a role for the whole cluster may read besides: nodes, storage, networks.
pub const VIEW_CLUSTER_ROLE: &str = "sheaf:console:view-cluster";
/// ConfigMap in `kube-system` with the keys of administrators, which the agent reads (`agent/src/administrators/`).
pub const ADMINISTRATORS: &str = "sheaf-administrators";
/// Role and ClusterRole of [`CLAIM_USER`], and the names of their bindings.
pub const CLAIM_ROLE: &str = "sheaf:console:claim";
/// The APIService whose `caBundle` is the CA of sheaf-controller's certificate: images and exports go through it.
pub const AGGREGATED_API_SERVICE: &str = "v1beta1.upload.cdi.kubevirt.io";
/// Label of the bindings of the console's users: the user.
pub const USER_LABEL: &str = "console.sheaf.dev/user";
/// Label of the bindings of the console's users: the role that they are part of.
pub const ROLE_LABEL: &str = "console.sheaf.dev/role";
/// The value of [`ROLE_LABEL`] of who administers.
pub const ADMINISTER: &str = "administer";
/// The ClusterRoles that the first administrator is bound to.
pub const FIRST_ROLES: [&str; 1] = ["cluster-admin"];

/// The kinds that the console watches for all browsers: API group and plural.
pub const WATCHED: &[(&str, &str)] = &[
    ("kubevirt.io", "virtualmachines"),
    ("kubevirt.io", "virtualmachineinstances"),
    ("cdi.kubevirt.io", "datavolumes"),
    ("snapshot.kubevirt.io", "virtualmachinesnapshots"),
    ("snapshot.kubevirt.io", "virtualmachinerestores"),
    ("k8s.cni.cncf.io", "network-attachment-definitions"),
    ("", "namespaces"),
    ("", "nodes"),
    ("", "events"),
    ("sheaf.dev", "blockdevices"),
    ("sheaf.dev", "storagepools"),
    ("sheaf.dev", "nodemaintenances"),
    ("sheaf.dev", "noderemovals"),
    ("sheaf.dev", "clusterupdates"),
    ("sheaf.dev", "nodeupdates"),
    ("sheaf.dev", "nodenetworkstates"),
    ("sheaf.dev", "nodenetworkpolicies"),
    ("sheaf.dev", "nodenetworkenactments"),
];

const RBAC: &str = "rbac.authorization.k8s.io/v1";

fn rule(group: &str, resources: &[&str], verbs: &[&str]) -> Value {
    json!({"apiGroups": [group], "resources": resources, "verbs": verbs})
}

fn reference(kind: &str, name: &str) -> Value {
    json!({"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": name})
}

/// What making the first administrator needs, as objects to apply. Nobody has it until [`claim_bindings`] are applied.
pub fn claim_roles() -> Vec<Value> {
    let named = |group: &str, resource: &str, names: &[&str], verbs: &[&str]| json!({"apiGroups": [group], "resources": [resource], "resourceNames": names, "verbs": verbs});
    let group = "rbac.authorization.k8s.io";
    vec![
        json!({"apiVersion": RBAC, "kind": "ClusterRole", "metadata": {"name": CLAIM_ROLE}, "rules": [
            rule(group, &["clusterrolebindings"], &["create"]),
            named(group, "clusterroles", &FIRST_ROLES, &["bind"]),
        ]}),
        json!({"apiVersion": RBAC, "kind": "Role", "metadata": {"name": CLAIM_ROLE, "namespace": "kube-system"}, "rules": [
            rule("", &["configmaps"], &["create"]),
            named("", "configmaps", &[ADMINISTRATORS], &["get", "patch"]),
        ]}),
    ]
}

/// What gives [`CLAIM_USER`] these roles, while a claim is open: cluster-wide, and in `kube-system`.
pub fn claim_bindings() -> [Value; 2] {
    let subjects = json!([{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": CLAIM_USER}]);
    [
        json!({"apiVersion": RBAC, "kind": "ClusterRoleBinding", "metadata": {"name": CLAIM_ROLE},
               "roleRef": reference("ClusterRole", CLAIM_ROLE), "subjects": subjects}),
        json!({"apiVersion": RBAC, "kind": "RoleBinding", "metadata": {"name": CLAIM_ROLE, "namespace": "kube-system"},
               "roleRef": reference("Role", CLAIM_ROLE), "subjects": subjects}),
    ]
}

/// What the identity may do, as objects to apply; the namespace first.
pub fn rules() -> Vec<Value> {
    let read = ["get", "list", "watch"];
    let watched = WATCHED.iter().map(|(group, plural)| rule(group, &[plural], &read));
    let mut of_cluster = vec![
        // Narrowed to the prefix by the API server's authorization configuration.
        rule("", &["users"], &["impersonate"]),
        json!({"apiGroups": [""], "resources": ["groups"], "resourceNames": [GROUP], "verbs": ["impersonate"]}),
        // Where people log in.
        json!({"apiGroups": ["sheaf.dev"], "resources": ["clusterconfigs"], "resourceNames": ["cluster"], "verbs": ["get"]}),
        // What agents count, asked for directly: no `nodes/proxy`, which opens screens and runs commands.
        rule("", &["nodes/metrics"], &["get"]),
        // By which CA it knows sheaf-controller, to which it hands images on.
        json!({"apiGroups": ["apiregistration.k8s.io"], "resources": ["apiservices"], "resourceNames": [AGGREGATED_API_SERVICE], "verbs": ["get"]}),
    ];
    of_cluster.extend(watched);
    let subjects = json!([{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": IDENTITY}]);
    let rbac = RBAC;
    vec![
        json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}),
        json!({"apiVersion": rbac, "kind": "ClusterRole", "metadata": {"name": IDENTITY}, "rules": of_cluster}),
        json!({"apiVersion": rbac, "kind": "ClusterRoleBinding", "metadata": {"name": IDENTITY},
               "roleRef": reference("ClusterRole", IDENTITY), "subjects": subjects}),
        json!({"apiVersion": rbac, "kind": "Role", "metadata": {"name": IDENTITY, "namespace": NAMESPACE},
               "rules": [rule("", &["secrets"], &["get", "list", "watch", "create", "update", "delete"])]}),
        json!({"apiVersion": rbac, "kind": "RoleBinding", "metadata": {"name": IDENTITY, "namespace": NAMESPACE},
               "roleRef": reference("Role", IDENTITY), "subjects": subjects}),
        // Where the replicas of sheaf-controller listen.
        json!({"apiVersion": rbac, "kind": "Role", "metadata": {"name": IDENTITY, "namespace": SYSTEM_NAMESPACE},
               "rules": [rule("discovery.k8s.io", &["endpointslices"], &["list"])]}),
        json!({"apiVersion": rbac, "kind": "RoleBinding", "metadata": {"name": IDENTITY, "namespace": SYSTEM_NAMESPACE},
               "roleRef": reference("Role", IDENTITY), "subjects": subjects}),
        json!({"apiVersion": rbac, "kind": "ClusterRole", "metadata": {"name": VIEW_CLUSTER_ROLE},
        "rules": [
            rule("", &["nodes", "namespaces", "persistentvolumes"], &read),
            rule("sheaf.dev", &["*"], &read),
            rule("storage.k8s.io", &["storageclasses", "csistoragecapacities"], &read),
            rule("snapshot.storage.k8s.io", &["volumesnapshotclasses", "volumesnapshotcontents"], &read),
            rule("k8s.cni.cncf.io", &["network-attachment-definitions"], &read),
        ]}),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_identity_writes_nothing_but_secrets_of_its_own_namespace() {
        for object in rules() {
            let own = object["metadata"]["namespace"] == NAMESPACE;
            for rule in object["rules"].as_array().into_iter().flatten() {
                let writes = rule["verbs"].as_array().unwrap().iter().any(|verb| {
                    ["create", "update", "patch", "delete", "*", "bind", "escalate"]
                        .contains(&verb.as_str().unwrap())
                });
                assert!(!writes || own && rule["resources"] == json!(["secrets"]), "{rule}");
            }
        }
    }

    #[test]
    fn the_claim_makes_administrators_and_does_nothing_else() {
        let rules: Vec<Value> =
            claim_roles().iter().flat_map(|role| role["rules"].as_array().cloned().unwrap()).collect();
        assert_eq!(rules.len(), 4);
        for rule in rules {
            let only_adds = rule["verbs"] == json!(["create"]);
            assert!(only_adds || rule["resourceNames"].is_array(), "{rule}");
            assert!(!rule["verbs"].as_array().unwrap().contains(&json!("*")), "{rule}");
        }
        for binding in claim_bindings() {
            assert_eq!(binding["subjects"].as_array().unwrap().len(), 1);
            assert_eq!(binding["subjects"][0]["name"], CLAIM_USER);
        }
    }
}
