//! Whether somebody administers the cluster, and whether it can be claimed.
//!
//! Route in: the API server, `/run/sheaf/claim`. Route out: [`Observed`].

use super::plan::{Kept, Observed};
use crate::administrators::plan::LABEL as BY_KEY;
use crate::paths::Paths;
use anyhow::Context as _;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::api::rbac::v1::{ClusterRoleBinding, RoleBinding};
use kube::api::{Api, ListParams};
use sheaf_api::console::{ADMINISTER, CLAIM_ROLE, CLAIM_SECRET, NAMESPACE, ROLE_LABEL};
use sheaf_config::claim::{KEY, NODE_ANNOTATION, REQUESTED_ANNOTATION};

/// All of it; since when a claim is gone is for the caller to know.
pub async fn observe(
    client: &kube::Client,
    paths: &Paths,
    node: &str,
    is_first: bool,
) -> anyhow::Result<Observed> {
    let secrets: Api<Secret> = Api::namespaced(client.clone(), NAMESPACE);
    let found =
        secrets.get_opt(CLAIM_SECRET).await.with_context(|| format!("Secret {NAMESPACE}/{CLAIM_SECRET}"))?;
    let bindings: Api<ClusterRoleBinding> = Api::all(client.clone());
    let of_namespace: Api<RoleBinding> = Api::namespaced(client.clone(), "kube-system");
    let of_claim = || format!("bindings {CLAIM_ROLE}");
    let is_bound = bindings.get_opt(CLAIM_ROLE).await.with_context(of_claim)?.is_some()
        && of_namespace.get_opt(CLAIM_ROLE).await.with_context(of_claim)?.is_some();
    let mut is_administered = false;
    for selector in [BY_KEY.to_owned(), format!("{ROLE_LABEL}={ADMINISTER}")] {
        let one = ListParams::default().labels(&selector).limit(1);
        is_administered |= !bindings.list(&one).await.context("ClusterRoleBindings")?.items.is_empty();
    }
    Ok(Observed {
        node: node.to_owned(),
        is_first,
        is_administered,
        kept: found.as_ref().map(kept),
        gone_for: None,
        is_bound,
        code: super::shown(paths),
    })
}

fn kept(secret: &Secret) -> Kept {
    let annotation = |name: &str| secret.metadata.annotations.as_ref()?.get(name);
    let data = secret.data.as_ref().and_then(|data| data.get(KEY));
    Kept {
        claim: data.and_then(|data| serde_json::from_slice(&data.0).ok()),
        is_requested: annotation(REQUESTED_ANNOTATION).is_some(),
        node: annotation(NODE_ANNOTATION).cloned().unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use sheaf_config::claim::Claim;

    #[test]
    fn the_claim_is_where_the_console_may_read_it() {
        let made = (sheaf_config::claim::NAMESPACE, sheaf_config::claim::SECRET);
        assert_eq!(made, (NAMESPACE, CLAIM_SECRET));
    }

    #[test]
    fn a_claim_is_read_as_the_console_keeps_it_and_one_that_is_damaged_is_none() {
        let claim = Claim::new("01AB-23CD", "salt".into(), 7);
        let record = serde_json::to_vec(&claim).unwrap();
        let mut secret: Secret = serde_json::from_value(json!({
            "metadata": {"annotations": {NODE_ANNOTATION: "n1", REQUESTED_ANNOTATION: "true"}},
        }))
        .unwrap();
        secret.data = Some([(KEY.to_owned(), k8s_openapi::ByteString(record))].into());
        assert_eq!(kept(&secret), Kept { claim: Some(claim), is_requested: true, node: "n1".into() });
        secret.data = Some([(KEY.to_owned(), k8s_openapi::ByteString(b"{".to_vec()))].into());
        secret.metadata.annotations = None;
        assert_eq!(kept(&secret), Kept { claim: None, is_requested: false, node: String::new() });
    }
}
