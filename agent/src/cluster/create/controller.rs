//! The identity of sheaf-controller: its own client certificate, and exactly the rules it needs.
//!
//! Why here: a node's certificate may not run it, and it must not be an administrator; only bootstrap holds the
//! credentials that can make both. Route in: the CA. Route out: `sheaf-controller.conf`, ClusterRole and binding.

use super::pki::Pki;
use crate::cluster::keys::{self, Authority, Key, Subject};
use crate::cluster::{apply, kubeconfig};
use serde_json::{Value, json};
use sheaf_api::names::{CONTROLLER_USER, SYSTEM_NAMESPACE};
use sheaf_host::file::write_atomically;
use std::time::{Duration, SystemTime};

/// Validity of its certificate: one year, made again with less than a third left.
const VALIDITY: Duration = Duration::from_secs(365 * 24 * 3600);
const RENEW_BEFORE: Duration = Duration::from_secs(120 * 24 * 3600);

/// Writes its kubeconfig unless a good one is there; true when it was written.
pub fn ensure_kubeconfig(
    pki: &Pki,
    server: &str,
    ca: &str,
    ca_key: &str,
    now: SystemTime,
) -> anyhow::Result<bool> {
    let path = pki.kubeconfig(CONTROLLER_USER);
    if let Some((certificate, at)) = kubeconfig::certificate_and_server(&path) {
        let lasting = keys::facts(&certificate)
            .is_ok_and(|facts| facts.not_before <= now && facts.not_after > now + RENEW_BEFORE);
        let trusts = kubeconfig::authority(&path).is_some_and(|held| held.trim() == ca.trim());
        if at == server && lasting && trusts {
            return Ok(false);
        }
    }
    let key = Key::generate()?;
    let subject = Subject { common_name: CONTROLLER_USER.into(), organisations: Vec::new() };
    let certificate =
        Authority::from_pem(ca, ca_key)?.issue_client(&subject, &key.public_der()?, VALIDITY)?;
    let text = kubeconfig::render(server, ca, CONTROLLER_USER, &certificate, &key.to_pem()?);
    write_atomically(&path, text.as_bytes(), 0o600)?;
    Ok(true)
}

/// What it may do, as objects to apply.
pub fn rules() -> Vec<Value> {
    let read = ["get", "list", "watch"];
    let write = ["get", "list", "watch", "create", "update", "patch", "delete"];
    let rule = |group: &str, resources: &[&str], verbs: &[&str]| json!({"apiGroups": [group], "resources": resources, "verbs": verbs});
    let role = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole",
        "metadata": {"name": CONTROLLER_USER},
        "rules": [
            rule("kubevirt.io", &["*"], &write),
            rule("sheaf.dev", &["*"], &write),
            // What nodes may do; it gives no right that it has not itself.
            rule("rbac.authorization.k8s.io", &["clusterroles", "clusterrolebindings"], &["get", "list", "watch", "create", "update", "patch"]),
            rule("k8s.cni.cncf.io", &["network-attachment-definitions"], &read),
            rule("", &["pods"], &write),
            rule("cdi.kubevirt.io", &["*"], &write),
            rule("snapshot.storage.k8s.io", &["*"], &write),
            rule("", &["persistentvolumeclaims", "persistentvolumes"], &write),
            rule("", &["persistentvolumeclaims/status"], &["patch"]),
            rule("storage.k8s.io", &["storageclasses"], &["get", "list", "watch", "create"]),
            rule("storage.k8s.io", &["csidrivers"], &["get", "create", "patch"]),
            rule("storage.k8s.io", &["csistoragecapacities"], &write),
            rule("", &["nodes", "namespaces"], &read),
            // Addresses that are the cluster's own: no node fetches images from them.
            rule("networking.k8s.io", &["servicecidrs"], &read),
            json!({"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"],
                   "resourceNames": ["kubernetes"], "verbs": ["get"]}),
            // The taint of control-plane nodes.
            rule("", &["nodes"], &["patch"]),
            rule("", &["namespaces"], &["create", "patch"]),
            // Anyone who makes a policy with a ConfigMap as its parameter must be allowed to get "*". As a name no ConfigMap
            // can have it: this reads none.
            json!({"apiGroups": [""], "resources": ["configmaps"], "resourceNames": ["*"], "verbs": ["get"]}),
            rule("", &["events"], &["create", "patch"]),
            rule("events.k8s.io", &["events"], &["create", "patch"]),
            rule("coordination.k8s.io", &["leases"], &write),
            rule("apiextensions.k8s.io", &["customresourcedefinitions"], &["get", "list", "watch", "create", "update", "patch"]),
            rule("node.k8s.io", &["runtimeclasses"], &["get", "list", "watch", "create", "update", "patch"]),
            rule("admissionregistration.k8s.io", &["validatingadmissionpolicies", "validatingadmissionpolicybindings"], &["get", "list", "watch", "create", "update", "patch"]),
            rule("certificates.k8s.io", &["certificatesigningrequests"], &read),
            rule("certificates.k8s.io", &["certificatesigningrequests/approval"], &["update", "patch"]),
            json!({"apiGroups": ["certificates.k8s.io"], "resources": ["signers"],
                   "resourceNames": ["kubernetes.io/kubelet-serving", "kubernetes.io/kube-apiserver-client-kubelet"],
                   "verbs": ["approve"]}),
        ],
    });
    let subjects =
        json!([{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": CONTROLLER_USER}]);
    let binding = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding",
        "metadata": {"name": CONTROLLER_USER},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": CONTROLLER_USER},
        "subjects": subjects,
    });
    let mut objects = vec![role, binding];
    // Bootstrap tokens, which are all that kube-system's Secrets are here; records of names and addresses.
    for (namespace, resource, verbs) in [
        ("kube-system", "secrets", &["get", "patch", "delete"][..]),
        (SYSTEM_NAMESPACE, "configmaps", &["get", "list", "watch", "create", "update", "patch"]),
    ] {
        objects.push(json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role",
            "metadata": {"name": CONTROLLER_USER, "namespace": namespace},
            "rules": [rule("", &[resource], verbs)],
        }));
        objects.push(json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding",
            "metadata": {"name": CONTROLLER_USER, "namespace": namespace},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": CONTROLLER_USER},
            "subjects": subjects,
        }));
    }
    objects
}

/// Applies [`rules`].
pub async fn ensure_rules(client: &kube::Client) -> anyhow::Result<()> {
    apply::all(client, &rules()).await
}
