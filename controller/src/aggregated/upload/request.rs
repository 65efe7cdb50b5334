//! `uploadtokenrequests`: a token for a claim, for users who may create these requests in its namespace.
//!
//! Why here: kube-apiserver has authorized the request; nothing of it is kept. Route in: an UploadTokenRequest. Route out: the
//! same with `status.token`.

use k8s_openapi::{api::core::v1::PersistentVolumeClaim, jiff::Timestamp};
use kube::Api;
use serde_json::{Value, json};

use super::super::{
    answer::{self, Answer, Refusal},
    identity::User,
    serve::State,
};
use super::{
    GROUP, VERSION, key,
    token::{Key, Target},
};
use crate::object::chain;

/// `APIResourceList` of the group.
pub fn resources() -> Value {
    json!({
        "kind": "APIResourceList", "apiVersion": "v1", "groupVersion": format!("{GROUP}/{VERSION}"),
        "resources": [{"name": "uploadtokenrequests", "singularName": "uploadtokenrequest", "namespaced": true,
                       "kind": "UploadTokenRequest", "verbs": ["create"], "shortNames": ["utr", "utrs"]}],
    })
}

/// Answers the request `body`, made in `namespace`.
pub async fn token_for(state: &State, user: &User, namespace: &str, body: &[u8]) -> Result<Answer, Refusal> {
    let mut request: Value =
        serde_json::from_slice(body).map_err(|error| Refusal::bad_request(format!("the body: {error}")))?;
    let Some(name) = request.pointer("/spec/pvcName").and_then(Value::as_str).filter(|name| !name.is_empty())
    else {
        return Err(Refusal::bad_request("spec.pvcName is missing: name the claim that takes the image"));
    };
    let claims: Api<PersistentVolumeClaim> = Api::namespaced(state.client.clone(), namespace);
    let claim = claims.get_opt(name).await.map_err(Refusal::of_api)?;
    let uid = claim.and_then(|claim| claim.metadata.uid).ok_or_else(|| Refusal::no_claim(name))?;
    let target = Target { namespace: namespace.to_owned(), name: name.to_owned(), uid };
    tracing::info!(user = user.name, namespace, claim = name, "upload token");
    let token = key(state).await?.sign(target, Timestamp::now()).map_err(Refusal::internal)?;
    request["status"] = json!({"token": token});
    Ok(answer::ok(&request))
}

/// The key of tokens; read, or made, at the first use.
pub(super) async fn key(state: &State) -> Result<&Key, Refusal> {
    let key = state.uploads.key.get_or_try_init(|| key::shared(&state.client)).await;
    key.map_err(|error| Refusal::internal(chain(&error)))
}
