//! PUT /console/sso: another identity provider, or none.
//!
//! Why here: its client's secret is in the console's namespace, whose Secrets no page writes. Both are written **as the administrator who
//! asks**. Route in: the provider, the secret. Route out: ClusterConfig `cluster`, the Secret.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::Method;
use serde::Deserialize;
use serde_json::{Value, json};
use sheaf_api::identity_provider::{CLIENT_SECRET, CLIENT_SECRET_KEY, IdentityProvider};

use crate::{
    answer::{self, Answer, Refusal},
    caller::Caller,
    names::NAMESPACE,
    serve::State,
    upstream::As,
};

const CONFIGS: &str = "/apis/sheaf.dev/v1alpha1/clusterconfigs";

/// What is wanted.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Wanted {
    /// Null: the cluster has none any more. Said, and not left out: what is lost by it is the login of others.
    #[serde(deserialize_with = "Option::deserialize")]
    provider: Option<IdentityProvider>,
    /// None leaves it as it is; empty removes it.
    client_secret: Option<String>,
}

/// Writes both. The secret first: a provider that wants one refuses logins without.
pub async fn configure(state: &State, caller: &Caller, wanted: Wanted) -> Result<Answer, Refusal> {
    let who = As::caller(caller);
    let secret = match (&wanted.provider, &wanted.client_secret) {
        (None, _) => Some(""),
        (Some(_), secret) => secret.as_deref().map(str::trim),
    };
    if let Some(secret) = secret {
        keep(state, &who, secret).await?;
    }
    let named = wanted.provider.as_ref().map(|provider| provider.issuer.clone());
    let provider = wanted.provider.map(serde_json::to_value).transpose().map_err(Refusal::internal)?;
    let config = json!({"apiVersion": "sheaf.dev/v1alpha1", "kind": "ClusterConfig", "metadata": {"name": "cluster"},
                        "spec": {"identityProvider": whole(provider)}});
    patch_or_create(state, &who, CONFIGS, &config).await?;
    state.sso.forget().await;
    tracing::info!(by = %caller.user, provider = named, "the identity provider was changed");
    Ok(answer::empty())
}

/// The provider with a null for each field that it does not have: a merge patch keeps what it does not name.
fn whole(provider: Option<Value>) -> Value {
    let Some(mut provider) = provider else { return Value::Null };
    for field in ["groupsClaim", "certificateAuthority"] {
        if provider.get(field).is_none() {
            provider[field] = Value::Null;
        }
    }
    provider
}

/// Makes the Secret have `secret`, or removes it.
async fn keep(state: &State, who: &As, secret: &str) -> Result<(), Refusal> {
    let secrets = format!("/api/v1/namespaces/{NAMESPACE}/secrets");
    if secret.is_empty() {
        let path = format!("{secrets}/{CLIENT_SECRET}");
        return match state.upstream.json(who, Method::DELETE, &path, None).await {
            Err(refusal) if refusal.code == 404 => Ok(()),
            deleted => deleted.map(drop),
        };
    }
    let object = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": CLIENT_SECRET, "namespace": NAMESPACE},
                        "data": {CLIENT_SECRET_KEY: STANDARD.encode(secret)}});
    patch_or_create(state, who, &secrets, &object).await
}

/// Merges `object` into the one of its name in `collection`, or creates it there.
async fn patch_or_create(state: &State, who: &As, collection: &str, object: &Value) -> Result<(), Refusal> {
    let name = object["metadata"]["name"].as_str().unwrap_or_default();
    let path = format!("{collection}/{name}?fieldValidation=Strict");
    match state.upstream.json(who, Method::PATCH, &path, Some(object)).await {
        Err(refusal) if refusal.code == 404 => {
            let path = format!("{collection}?fieldValidation=Strict");
            state.upstream.json(who, Method::POST, &path, Some(object)).await.map(drop)
        }
        changed => changed.map(drop),
    }
}
