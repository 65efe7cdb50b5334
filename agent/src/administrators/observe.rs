//! Who has what now.
//!
//! Route in: the API server. Route out: [`Observed`].

use super::plan::{LABEL, Observed, user_of};
use super::{ACCESS, RECORD};
use crate::cluster::create::kubeadm;
use crate::cluster::servers;
use anyhow::Context as _;
use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::api::rbac::v1::ClusterRoleBinding;
use kube::ResourceExt as _;
use kube::api::{Api, ListParams};

/// All of it.
pub async fn observe(client: &kube::Client) -> anyhow::Result<Observed> {
    let map = async |namespace: &str, name: &str| {
        let maps: Api<ConfigMap> = Api::namespaced(client.clone(), namespace);
        let found = maps.get_opt(name).await.with_context(|| format!("ConfigMap {namespace}/{name}"))?;
        anyhow::Ok(found.map(|map| map.data.unwrap_or_default()))
    };
    let bindings: Api<ClusterRoleBinding> = Api::all(client.clone());
    let labelled =
        bindings.list(&ListParams::default().labels(LABEL)).await.context("ClusterRoleBindings")?;
    Ok(Observed {
        record: map("kube-system", RECORD).await?.unwrap_or_default(),
        published: map("kube-public", ACCESS).await?,
        bound: labelled
            .iter()
            .filter_map(|binding| user_of(&binding.name_any()).map(str::to_owned))
            .collect(),
        server: match servers::published_vips(client).await?.as_slice() {
            [vip] => Some(kubeadm::server(*vip)),
            _ => None,
        },
    })
}
