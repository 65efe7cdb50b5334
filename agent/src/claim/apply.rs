//! One arm per action; no decision is taken here.
//!
//! Route in: [`Action`]s. Route out: the Secret, the bindings, the file with the code.

use super::plan::Action;
use crate::cluster::{apply, ok_if_gone};
use crate::paths::Paths;
use anyhow::{Context as _, anyhow};
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::api::rbac::v1::{ClusterRoleBinding, RoleBinding};
use kube::api::{Api, DeleteParams};
use sheaf_api::console::{CLAIM_ROLE, CLAIM_SECRET, NAMESPACE, claim_bindings};
use sheaf_config::claim;
use sheaf_host::file::write_atomically;
use std::fs;
use std::io::ErrorKind;

/// Does `action` at `now`, in seconds since 1970, on the node of that name.
pub async fn apply(
    client: &kube::Client,
    paths: &Paths,
    node: &str,
    action: Action,
    now: u64,
) -> anyhow::Result<()> {
    match action {
        Action::Close => {
            let secrets: Api<Secret> = Api::namespaced(client.clone(), NAMESPACE);
            ok_if_gone(secrets.delete(CLAIM_SECRET, &DeleteParams::default()).await)
                .with_context(|| format!("removing Secret {NAMESPACE}/{CLAIM_SECRET}"))
        }
        Action::Unbind => {
            let of_cluster: Api<ClusterRoleBinding> = Api::all(client.clone());
            let of_namespace: Api<RoleBinding> = Api::namespaced(client.clone(), "kube-system");
            ok_if_gone(of_cluster.delete(CLAIM_ROLE, &DeleteParams::default()).await)
                .with_context(|| format!("removing ClusterRoleBinding {CLAIM_ROLE}"))?;
            ok_if_gone(of_namespace.delete(CLAIM_ROLE, &DeleteParams::default()).await)
                .with_context(|| format!("removing RoleBinding kube-system/{CLAIM_ROLE}"))
        }
        Action::Bind => apply::all(client, &claim_bindings()).await,
        Action::Open => open(client, paths, node, false, now).await.map(drop),
        Action::Forget => forget(paths),
    }
}

/// Makes a claim with a new code, in place of one that there is, and has the screens of this node show it.
pub async fn open(
    client: &kube::Client,
    paths: &Paths,
    node: &str,
    is_requested: bool,
    now: u64,
) -> anyhow::Result<String> {
    let mut random = [0; claim::RANDOM];
    getrandom::fill(&mut random).map_err(|error| anyhow!("no random numbers: {error}"))?;
    let (claim, code) = claim::of(&random, now);
    let secret = claim.secret(Some(node), is_requested)?;
    apply::all(client, &[secret]).await?;
    write_atomically(&paths.claim(), format!("{code}\n").as_bytes(), 0o600)?;
    Ok(code)
}

fn forget(paths: &Paths) -> anyhow::Result<()> {
    let path = paths.claim();
    match fs::remove_file(&path) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(error).with_context(|| format!("{}: cannot be removed", path.display()))
        }
        _ => Ok(()),
    }
}
