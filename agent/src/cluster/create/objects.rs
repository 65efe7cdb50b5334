//! What a cluster must hold before nodes can join: cluster-info, and the role bindings of bootstrap tokens.
//!
//! Why here: kubeadm's own phase makes them, exactly as kubeadm does. Route in: admin credentials. Route out: those
//! objects; the phase runs only when something is missing or names another address.

use super::kubeadm::{self, ControlPlane};
use super::pki::Pki;
use crate::cluster::token::Token;
use crate::cluster::{Hosts, is_status};
use crate::reconcile::blocking;
use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::api::rbac::v1::{ClusterRoleBinding, RoleBinding};
use kube::api::Api;
use sheaf_host::file::write_atomically;

/// Role bindings the phase makes, the last one it makes among them.
const BINDINGS: [&str; 4] = [
    "kubeadm:get-nodes",
    "kubeadm:kubelet-bootstrap",
    "kubeadm:node-autoapprove-bootstrap",
    "kubeadm:node-autoapprove-certificate-rotation",
];

/// Makes them when needed.
pub async fn ensure(
    admin: &kube::Client,
    pki: &Pki,
    plane: &ControlPlane,
    hosts: &Hosts,
) -> anyhow::Result<()> {
    if complete(admin, plane).await? {
        return Ok(());
    }
    // kubeadm wants a token; this one nobody learns.
    let token = Token::generate()?;
    let text = kubeadm::config(plane, &pki.dir.join("pki"), Some(&token.reveal()));
    let path = pki.dir.join("bootstrap.json");
    write_atomically(&path, text.as_bytes(), 0o600)?;
    let phase = kubeadm::phase(&["bootstrap-token"], &path)
        .arg("--kubeconfig")
        .arg(pki.kubeconfig("super-admin"))
        .arg("--skip-token-print");
    let run = hosts.run.clone();
    let result = blocking(move || Ok(run.run(&phase)?)).await;
    std::fs::remove_file(&path)?;
    result?;
    crate::cluster::token::revoke(admin, &token).await
}

async fn complete(admin: &kube::Client, plane: &ControlPlane) -> anyhow::Result<bool> {
    let bindings: Api<ClusterRoleBinding> = Api::all(admin.clone());
    for name in BINDINGS {
        if bindings.get_opt(name).await?.is_none() {
            return Ok(false);
        }
    }
    let public: Api<RoleBinding> = Api::namespaced(admin.clone(), "kube-public");
    if public.get_opt("kubeadm:bootstrap-signer-clusterinfo").await?.is_none() {
        return Ok(false);
    }
    let maps: Api<ConfigMap> = Api::namespaced(admin.clone(), "kube-public");
    let info = match maps.get("cluster-info").await {
        Ok(map) => map.data.and_then(|mut data| data.remove("kubeconfig")).unwrap_or_default(),
        Err(error) if is_status(&error, 404) => return Ok(false),
        Err(error) => return Err(error.into()),
    };
    // Exactly this server, not one whose text begins alike.
    Ok(info.lines().any(|line| line.trim() == format!("server: {}", plane.server())))
}
