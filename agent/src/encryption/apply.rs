//! One arm per step; no decision is taken here.
//!
//! Route in: [`Step`]s. Route out: the file of keys, kube-apiserver restarted, Secrets written again.

use super::keys::Ring;
use super::plan::{Observed, Step};
use super::serve;
use crate::cluster::create::pki::Pki;
use crate::cluster::create::ready;
use crate::cluster::time::rfc3339;
use crate::cluster::{is_status, kubeconfig};
use crate::paths::Paths;
use crate::shared_keys::{self, Follow, Place};
use anyhow::{Context as _, bail};
use k8s_openapi::api::core::v1::Secret;
use kube::ResourceExt as _;
use kube::api::{Api, ListParams, PostParams};

/// The unit that encrypts.
const API_SERVER: &str = "kube-apiserver.service";
/// Secrets that are listed at once, of at most 1 MiB each.
const PAGE: u32 = 16;

/// Does `step`.
pub async fn apply(place: &Place<'_>, observed: Observed, step: &Step) -> anyhow::Result<()> {
    let (paths, hosts) = (place.paths, place.hosts);
    let is_shared = observed.shared.is_some();
    let mut ring = observed.ring;
    match step {
        // Keys out of use that are here may be of snapshots on this node.
        Step::Follow(Follow::Adopt(shared)) => Ring::clone(shared).with(ring).save(paths),
        Step::Follow(Follow::Share) => {
            ring.next();
            change(paths, ring, is_shared).await
        }
        Step::Follow(Follow::Report) => shared_keys::report(paths, &ring).await,
        Step::Follow(Follow::Wait(_)) => Ok(()),
        Step::Serve => {
            serve::write(paths, &ring)?;
            hosts.units.restart(API_SERVER).await?;
            ready(&administrator(paths).await?).await?;
            serve::served(paths)
        }
        Step::Promote(name) => {
            ring.keys.sort_by_key(|key| key.name != *name);
            ring.next();
            change(paths, ring, is_shared).await
        }
        Step::Rewrite(_) => rewrite(&administrator(paths).await?).await,
        Step::Settle(name) => {
            let (keys, others) = ring.keys.into_iter().partition(|key| key.name == *name);
            ring.keys = keys;
            ring.retired.extend(others);
            for key in &mut ring.retired {
                key.retired.get_or_insert_with(|| rfc3339(place.now));
            }
            ring.settled = Some(name.clone());
            ring.next();
            change(paths, ring, is_shared).await
        }
        Step::Forget(names) => {
            ring.retired.retain(|key| !names.contains(&key.name));
            ring.save(paths)
        }
    }
}

/// Shares `ring` if other nodes are to follow, then keeps it. If another node was faster its keys are adopted next.
pub(super) async fn change(paths: &Paths, ring: Ring, is_shared: bool) -> anyhow::Result<()> {
    if is_shared && !shared_keys::publish(paths, &ring).await? {
        return Ok(());
    }
    ring.save(paths)
}

async fn administrator(paths: &Paths) -> anyhow::Result<kube::Client> {
    let pki = Pki { dir: paths.kubernetes.clone() };
    kubeconfig::client_from_file(&pki.kubeconfig("super-admin")).await
}

/// Writes every Secret as it is: kube-apiserver writes it also when nothing changed, if it is not encrypted with the first key
/// (`stale` in k8s.io/apiserver/pkg/storage/etcd3/store.go).
async fn rewrite(client: &kube::Client) -> anyhow::Result<()> {
    let all: Api<Secret> = Api::all(client.clone());
    let (mut from, mut failed) = (None::<String>, Vec::new());
    loop {
        let mut page = ListParams::default().limit(PAGE);
        page.continue_token = from;
        let listed = all.list(&page).await.context("listing Secrets")?;
        for secret in listed.items {
            let (namespace, name) = (secret.namespace().unwrap_or_default(), secret.name_any());
            let of: Api<Secret> = Api::namespaced(client.clone(), &namespace);
            match of.replace(&name, &PostParams::default(), &secret).await {
                Ok(_) => {}
                // Changed since, and so encrypted with the first key; or gone.
                Err(error) if is_status(&error, 409) || is_status(&error, 404) => {}
                // The others are tried, too.
                Err(error) => failed.push(format!("Secret {namespace}/{name}: {error}")),
            }
        }
        from = listed.metadata.continue_.filter(|token| !token.is_empty());
        if from.is_none() {
            break;
        }
    }
    if let Some(first) = failed.first() {
        bail!("{} Secrets cannot be written; {first}", failed.len());
    }
    Ok(())
}
