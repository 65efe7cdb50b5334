//! The identity of sheaf-controller: its own client certificate, the one by which it serves, and exactly the rules it needs.
//!
//! Why here: a node's certificate may not run it, and it must not be an administrator; only bootstrap holds the
//! credentials that can make them. Route in: the CAs. Route out: `sheaf-controller.conf`, `pki/sheaf-controller-serving.*`,
//! ClusterRole and binding.

use super::kubeadm::ControlPlane;
use super::pki::Pki;
use super::serving::{self, Pair};
use crate::cluster::keys::{self, Authority, Key, Subject};
use crate::cluster::{apply, kubeconfig};
use anyhow::Context as _;
use serde_json::{Value, json};
use sheaf_api::names::{
    AGGREGATED_SERVICE, CONTROLLER_USER, KUBELET_CLIENT_USER, SYSTEM_NAMESPACE, UPLOAD_KEY_SECRET,
};
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
    ensure_kubeconfig_of(CONTROLLER_USER, pki, server, ca, ca_key, now)
}

/// The same for another program of the control plane, whose user is `user`.
pub fn ensure_kubeconfig_of(
    user: &str,
    pki: &Pki,
    server: &str,
    ca: &str,
    ca_key: &str,
    now: SystemTime,
) -> anyhow::Result<bool> {
    let path = pki.kubeconfig(user);
    if let Some((certificate, at)) = kubeconfig::certificate_and_server(&path) {
        let lasting = keys::facts(&certificate)
            .is_ok_and(|facts| facts.not_before <= now && facts.not_after > now + RENEW_BEFORE);
        let trusts = kubeconfig::authority(&path).is_some_and(|held| held.trim() == ca.trim());
        if at == server && lasting && trusts {
            return Ok(false);
        }
    }
    let key = Key::generate()?;
    let subject = Subject { common_name: user.into(), organisations: Vec::new() };
    let certificate =
        Authority::from_pem(ca, ca_key)?.issue_client(&subject, &key.public_der()?, VALIDITY, now)?;
    let text = kubeconfig::render(server, ca, user, &certificate, &key.to_pem()?);
    write_atomically(&path, text.as_bytes(), 0o600)?;
    Ok(true)
}

/// Makes the certificate by which it serves the aggregated API, unless a good one is there; true when it was made. It has the
/// control plane's names and addresses, too: those by which people download exports.
pub fn ensure_serving(pki: &Pki, plane: &ControlPlane, now: SystemTime) -> anyhow::Result<bool> {
    let read = |name: &str| {
        std::fs::read_to_string(pki.file(name)).with_context(|| format!("pki/{name}: cannot be read"))
    };
    let authority = Authority::from_pem(&read("aggregated-ca.crt")?, &read("aggregated-ca.key")?)?;
    let (names, addresses) = serving::names(format!("{AGGREGATED_SERVICE}.{SYSTEM_NAMESPACE}.svc"), plane);
    let [certificate, key] =
        ["sheaf-controller-serving.crt", "sheaf-controller-serving.key"].map(|name| pki.file(name));
    let pair = Pair { certificate, key, names, addresses, validity: VALIDITY, renew_before: RENEW_BEFORE };
    pair.ensure(now, || Ok(authority))
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
            rule("instancetype.kubevirt.io", &["*"], &write),
            rule("pool.kubevirt.io", &["*"], &write),
            // Instancetypes as VMs had them when they were created, and templates of pools.
            rule("apps", &["controllerrevisions"], &["get", "list", "watch", "create", "delete"]),
            rule("k8s.cni.cncf.io", &["network-attachment-definitions"], &read),
            rule("", &["pods"], &write),
            // A VM that grows while it runs: first what is set aside for it.
            rule("", &["pods/resize"], &["patch"]),
            rule("cdi.kubevirt.io", &["*"], &write),
            rule("snapshot.storage.k8s.io", &["*"], &write),
            rule("snapshot.kubevirt.io", &["*"], &write),
            rule("clone.kubevirt.io", &["*"], &write),
            rule("export.kubevirt.io", &["*"], &write),
            // Tokens of exports. It reads no Secret of a tenant.
            rule("", &["secrets"], &["create"]),
            rule("", &["persistentvolumeclaims", "persistentvolumes"], &write),
            rule("", &["persistentvolumeclaims/status"], &["patch"]),
            rule("storage.k8s.io", &["storageclasses"], &["get", "list", "watch", "create"]),
            rule("storage.k8s.io", &["csidrivers"], &["get", "create", "patch"]),
            rule("storage.k8s.io", &["csistoragecapacities"], &write),
            rule("", &["nodes", "namespaces"], &read),
            // What it asks of agents for virtctl: streams are creates.
            rule("", &["nodes/proxy"], &["get", "create", "update"]),
            // It gives tenants roles with these, and nobody gives what he has not.
            rule("subresources.kubevirt.io", &["*"], &["get", "list", "update"]),
            rule("metrics.k8s.io", &["nodes", "pods"], &["get", "list"]),
            rule("upload.cdi.kubevirt.io", &["uploadtokenrequests"], &["create"]),
            // What `kubectl top` shows.
            rule("", &["nodes/metrics"], &["get"]),
            rule("apiregistration.k8s.io", &["apiservices"], &["get", "create", "patch"]),
            // Addresses that are the cluster's own: no node fetches images from them.
            rule("networking.k8s.io", &["servicecidrs"], &read),
            json!({"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"],
                   "resourceNames": ["kubernetes"], "verbs": ["get"]}),
            // The taint of control-plane nodes; a node that is put to rest is cordoned.
            rule("", &["nodes"], &["patch"]),
            // Its VMs are stopped as `kubectl drain` does, within their PodDisruptionBudgets.
            rule("", &["pods/eviction"], &["create"]),
            rule("policy", &["poddisruptionbudgets"], &read),
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
            // What is left of a node that is removed.
            rule("certificates.k8s.io", &["certificatesigningrequests"], &["delete"]),
            rule("", &["nodes"], &["delete"]),
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
    // The Service, the endpoints and the key of the aggregated API, in its own namespace alone.
    objects.extend([
        json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role",
            "metadata": {"name": "sheaf-controller-endpoints", "namespace": SYSTEM_NAMESPACE},
            "rules": [
                rule("", &["services"], &["get", "create", "patch"]),
                rule("discovery.k8s.io", &["endpointslices"], &["get", "list", "create", "patch", "delete"]),
                // The key of tokens of uploads; a right to create cannot be bound to a name.
                rule("", &["secrets"], &["create"]),
                json!({"apiGroups": [""], "resources": ["secrets"], "resourceNames": [UPLOAD_KEY_SECRET], "verbs": ["get"]}),
            ],
        }),
        json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding",
            "metadata": {"name": "sheaf-controller-endpoints", "namespace": SYSTEM_NAMESPACE},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "sheaf-controller-endpoints"},
            "subjects": subjects,
        }),
        // How kube-apiserver is recognised, when it hands a request on.
        json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding",
            "metadata": {"name": "sheaf-controller-authentication", "namespace": "kube-system"},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role",
                        "name": "extension-apiserver-authentication-reader"},
            "subjects": subjects,
        }),
        // kube-apiserver as a client of agents: kubeadm's certificate names this user.
        json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding",
            "metadata": {"name": "sheaf:kubelet-api-admin"},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "system:kubelet-api-admin"},
            "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": KUBELET_CLIENT_USER}],
        }),
    ]);
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

#[cfg(test)]
mod tests {
    use super::super::pki::tests::{fake_kubeadm, plane, temporary};
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn the_aggregated_apis_certificate_is_made_once_renewed_in_time_and_its_key_is_roots_alone() {
        let pki = temporary("serving");
        let now = SystemTime::now();
        pki.ensure(&plane(), &fake_kubeadm(), now).unwrap();
        assert!(ensure_serving(&pki, &plane(), now).unwrap());
        assert!(!ensure_serving(&pki, &plane(), now).unwrap());
        let certificate = std::fs::read_to_string(pki.file("sheaf-controller-serving.crt")).unwrap();
        assert_eq!(keys::facts(&certificate).unwrap().names, ["sheaf-controller.sheaf-system.svc"]);
        let moved =
            ControlPlane { address: [192, 0, 2, 77].into(), sans: vec!["vip.example".into()], ..plane() };
        assert!(ensure_serving(&pki, &moved, now).unwrap(), "it has another address");
        let facts = keys::facts(&std::fs::read_to_string(pki.file("sheaf-controller-serving.crt")).unwrap());
        let facts = facts.unwrap();
        assert_eq!(facts.names, ["sheaf-controller.sheaf-system.svc", "vip.example"]);
        assert_eq!(facts.addresses, [moved.address]);
        assert!(ensure_serving(&pki, &plane(), now).unwrap());
        let mode = std::fs::metadata(pki.file("sheaf-controller-serving.key")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let later = now + VALIDITY - RENEW_BEFORE + Duration::from_secs(3600);
        assert!(ensure_serving(&pki, &plane(), later).unwrap(), "less than a third of its life is left");
        // As after a power cut between the two writes.
        std::fs::write(pki.file("sheaf-controller-serving.key"), Key::generate().unwrap().to_pem().unwrap())
            .unwrap();
        assert!(ensure_serving(&pki, &plane(), now).unwrap(), "a key of another certificate is of no use");
        std::fs::remove_dir_all(&pki.dir).unwrap();
    }
}
