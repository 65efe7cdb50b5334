//! Tokens of service accounts in Secrets: they have no end, so they are made again when the key changes.
//!
//! Why by removing them: kube-controller-manager fills a Secret of this type that has no token
//! (`pkg/controller/serviceaccount/tokens_controller.go`). Route in: an administrator's client. Route out: how many are left.

use anyhow::{Context as _, bail};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use k8s_openapi::api::core::v1::Secret;
use kube::ResourceExt as _;
use kube::api::{Api, ListParams, Patch, PatchParams};
use serde::Deserialize;
use serde_json::json;

/// Secrets with tokens.
const TYPE: &str = "type=kubernetes.io/service-account-token";
/// The entry.
const TOKEN: &str = "token";
/// Secrets that are listed at once.
const PAGE: u32 = 64;

/// `kid` of a token: the key that signed it.
fn key_of(token: &[u8]) -> Option<String> {
    #[derive(Deserialize)]
    struct Header {
        kid: Option<String>,
    }
    let header = token.split(|byte| *byte == b'.').next()?;
    let header = URL_SAFE_NO_PAD.decode(header).ok()?;
    serde_json::from_slice::<Header>(&header).ok()?.kid
}

/// Secrets whose token is not of the key that signs, by namespace and name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Others {
    /// Their token is of another key.
    pub stale: Vec<(String, String)>,
    /// They have none: kube-controller-manager is to fill them.
    pub empty: Vec<(String, String)>,
}

/// Those whose token is not of the key `id`.
pub async fn others(client: &kube::Client, id: &str) -> anyhow::Result<Others> {
    let all: Api<Secret> = Api::all(client.clone());
    let (mut from, mut found) = (None::<String>, Others::default());
    loop {
        let mut page = ListParams::default().fields(TYPE).limit(PAGE);
        page.continue_token = from;
        let listed = all.list(&page).await.context("listing Secrets with tokens of service accounts")?;
        for secret in listed.items {
            let token =
                secret.data.as_ref().and_then(|data| data.get(TOKEN)).filter(|token| !token.0.is_empty());
            let list = match token.map(|token| key_of(&token.0)) {
                None => &mut found.empty,
                Some(key) if key.as_deref() != Some(id) => &mut found.stale,
                Some(_) => continue,
            };
            list.push((secret.namespace().unwrap_or_default(), secret.name_any()));
        }
        from = listed.metadata.continue_.filter(|token| !token.is_empty());
        if from.is_none() {
            return Ok(found);
        }
    }
}

/// Has each of `secrets` made again.
pub async fn renew(client: &kube::Client, secrets: &[(String, String)]) -> anyhow::Result<()> {
    let (patch, mut failed) = (json!({"data": {TOKEN: null}}), Vec::new());
    for (namespace, name) in secrets {
        let of: Api<Secret> = Api::namespaced(client.clone(), namespace);
        match of.patch(name, &PatchParams::default(), &Patch::Merge(&patch)).await {
            Ok(_) => {}
            Err(error) if crate::cluster::is_status(&error, 404) => {}
            // The others are tried, too.
            Err(error) => failed.push(format!("Secret {namespace}/{name}: {error}")),
        }
    }
    match failed.first() {
        Some(first) => bail!("{} Secrets cannot be written; {first}", failed.len()),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_of_a_token_is_in_its_header_and_of_garbage_there_is_none() {
        let header = URL_SAFE_NO_PAD.encode(r#"{"alg":"ES256","kid":"abc"}"#);
        assert_eq!(key_of(format!("{header}.e30.c2ln").as_bytes()).as_deref(), Some("abc"));
        let without = URL_SAFE_NO_PAD.encode(r#"{"alg":"ES256"}"#);
        for token in [without.as_bytes(), b"", b"..", b"\xff.\xff"] {
            assert_eq!(key_of(token), None);
        }
    }
}
