//! Gives the name of a node free for another machine.
//!
//! Why here: sheaf-controller gives a name again only to the key that has it; a machine that was replaced or reinstalled
//! has another, and whether it may take the name is an administrator's to say. Route in: a control-plane node's files.
//! Route out: the entry of the name in the ConfigMap `sheaf-system/node-identities`, which nodes may neither read nor
//! write.

use super::{is_status, token};
use crate::paths::Paths;
use anyhow::Context as _;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Api, Patch, PatchParams, PostParams};
use sheaf_api::names::{IDENTITIES_MAP, SYSTEM_NAMESPACE};

/// What the entry of a free name says; sheaf-controller writes the next machine's key over it.
const FREE: &str = r#"{"released":true}"#;

/// Releases `name`; returns what to tell the operator.
pub async fn release(paths: &Paths, name: &str) -> anyhow::Result<String> {
    release_with(&token::administrator(paths).await?, name).await
}

/// [`release`] by a client that may write the record.
pub async fn release_with(client: &kube::Client, name: &str) -> anyhow::Result<String> {
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), SYSTEM_NAMESPACE);
    let entry = serde_json::json!({
        "metadata": {"name": IDENTITIES_MAP, "namespace": SYSTEM_NAMESPACE}, "data": {name: FREE},
    });
    match maps.patch(IDENTITIES_MAP, &PatchParams::default(), &Patch::Merge(&entry)).await {
        Err(error) if is_status(&error, 404) => {
            maps.create(&PostParams::default(), &serde_json::from_value(entry)?).await.map(drop)
        }
        answer => answer.map(drop),
    }
    .with_context(|| {
        format!("releasing the name {name}: writing ConfigMap {SYSTEM_NAMESPACE}/{IDENTITIES_MAP}")
    })?;
    Ok(format!(
        "{name} is free for the next machine that joins with a token. The former machine's certificate stays valid until \
         it ends: keep that machine switched off."
    ))
}
