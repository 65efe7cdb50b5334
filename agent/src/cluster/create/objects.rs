//! What a cluster must hold before nodes can join: cluster-info, the role bindings of bootstrap tokens, and what
//! sheaf-controller has to know of the control plane.
//!
//! Why here: kubeadm's own phase makes the first two, exactly as kubeadm does. Its two bindings that have
//! kube-controller-manager approve every token's request and every node's renewal are removed: sheaf-controller approves
//! those. Route in: admin credentials. Route out: those objects; the phase runs only when something is missing or names
//! another address or CA.

use super::kubeadm::{self, ControlPlane};
use super::pki::Pki;
use crate::cluster::keys;
use crate::cluster::node::give_role;
use crate::cluster::token::Token;
use crate::cluster::{Hosts, apply, is_status};
use crate::reconcile::blocking;
use anyhow::Context as _;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use k8s_openapi::api::core::v1::{ConfigMap, Node};
use k8s_openapi::api::rbac::v1::{ClusterRoleBinding, RoleBinding};
use kube::api::{Api, DeleteParams, Patch, PatchParams};
use serde_json::{Value, json};
use sheaf_api::names::{CONTROL_PLANE_MAP, SYSTEM_NAMESPACE};
use sheaf_host::file::write_atomically;

/// Role bindings the phase makes, the last one it makes that stays among them.
const BINDINGS: [&str; 2] = ["kubeadm:get-nodes", "kubeadm:kubelet-bootstrap"];

/// Role bindings the phase makes that would let any token be any node.
const APPROVALS: [&str; 2] =
    ["kubeadm:node-autoapprove-bootstrap", "kubeadm:node-autoapprove-certificate-rotation"];

/// Makes them when needed. `is_first`: this node created the cluster; the others add what they say of themselves to what it says.
pub async fn ensure(
    admin: &kube::Client,
    pki: &Pki,
    plane: &ControlPlane,
    hosts: &Hosts,
    is_first: bool,
) -> anyhow::Result<()> {
    let ca = std::fs::read_to_string(pki.file("ca.crt")).context("pki/ca.crt: cannot be read")?;
    if !complete(admin, plane, &ca, is_first).await? {
        bootstrap(admin, pki, plane, hosts).await?;
    }
    let bindings: Api<ClusterRoleBinding> = Api::all(admin.clone());
    for name in APPROVALS {
        match bindings.delete(name, &DeleteParams::default()).await {
            Ok(_) => {}
            Err(error) if is_status(&error, 404) => {}
            Err(error) => return Err(error).with_context(|| format!("removing ClusterRoleBinding {name}")),
        }
    }
    let served =
        std::fs::read_to_string(pki.file("apiserver.crt")).context("pki/apiserver.crt: cannot be read")?;
    let description = self_description(plane, &keys::facts(&served)?);
    if is_first {
        return apply::all(admin, &description).await;
    }
    // First the role: only a control-plane node may have an address of the API server.
    if let Some(node) = Api::<Node>::all(admin.clone()).get_opt(&plane.node).await? {
        give_role(admin, &node).await?;
    }
    let maps: Api<ConfigMap> = Api::namespaced(admin.clone(), SYSTEM_NAMESPACE);
    let word = |key: &str| description[1].pointer(key).cloned().unwrap_or_default();
    let own = json!({"data": {
        format!("addresses.{}", plane.node): word("/data/addresses"),
        format!("names.{}", plane.node): word("/data/names"),
    }});
    maps.patch(CONTROL_PLANE_MAP, &PatchParams::default(), &Patch::Merge(&own)).await?;
    Ok(())
}

/// Takes out what the control-plane node `node`, which joined, said of itself.
pub async fn forget(admin: &kube::Client, node: &str) -> anyhow::Result<()> {
    let maps: Api<ConfigMap> = Api::namespaced(admin.clone(), SYSTEM_NAMESPACE);
    let own = json!({"data": {format!("addresses.{node}"): null, format!("names.{node}"): null}});
    match maps.patch(CONTROL_PLANE_MAP, &PatchParams::default(), &Patch::Merge(&own)).await {
        Err(error) if !is_status(&error, 404) => Err(error.into()),
        _ => Ok(()),
    }
}

/// Where the API server is, as its certificate says: sheaf-controller gives no node these names and addresses.
fn self_description(plane: &ControlPlane, served: &keys::Facts) -> [Value; 2] {
    let addresses: Vec<_> = served.addresses.iter().map(ToString::to_string).collect();
    [
        json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": SYSTEM_NAMESPACE}}),
        json!({
            "apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {"name": CONTROL_PLANE_MAP, "namespace": SYSTEM_NAMESPACE},
            "data": {
                "addresses": addresses.join(" "), "names": served.names.join(" "),
                "services": plane.service_cidr.replace(',', " "),
            },
        }),
    ]
}

/// Runs kubeadm's phase.
async fn bootstrap(
    admin: &kube::Client,
    pki: &Pki,
    plane: &ControlPlane,
    hosts: &Hosts,
) -> anyhow::Result<()> {
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

async fn complete(
    admin: &kube::Client,
    plane: &ControlPlane,
    ca: &str,
    is_first: bool,
) -> anyhow::Result<bool> {
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
    let server = info.lines().any(|line| line.trim() == format!("server: {}", plane.server()));
    // Nodes that join later leave the first one's in it: any of the servers does.
    Ok((server || !is_first) && info.contains(&STANDARD.encode(ca)))
}
