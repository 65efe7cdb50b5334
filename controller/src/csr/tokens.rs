//! Bootstrap tokens as the approver sees them: valid, used by whom, meant for whom.
//!
//! Why here: a token is the Secret `kube-system/bootstrap-token-<id>`, Kubernetes' own; that it is good for one node is
//! ours, noted in an annotation before the request is approved. Route in: the Secret. Route out: [`Token`], and the
//! patch that notes its use.

use k8s_openapi::{api::core::v1::Secret, jiff::Timestamp};
use kube::ResourceExt;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sheaf_api::names::{TOKEN_NODE_ANNOTATION, TOKEN_USED_ANNOTATION};

/// Namespace of bootstrap tokens.
pub const NAMESPACE: &str = "kube-system";

/// Who used a token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Use {
    /// Name of the node.
    pub node: String,
    /// `sha256:<hex>` of its public key.
    pub key: String,
}

/// A valid token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token {
    /// Its public half.
    pub id: String,
    /// Who used it.
    pub used_by: Option<Use>,
    /// The only node it is for.
    pub only_for: Option<String>,
}

/// Name of the Secret of the token `id`; none if no token can have this id.
pub fn secret_name(id: &str) -> Option<String> {
    let fits = id.len() == 6 && id.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
    fits.then(|| format!("bootstrap-token-{id}"))
}

/// The token `id` in its Secret, if it is valid at `now`.
pub fn read(id: &str, secret: &Secret, now: Timestamp) -> Option<Token> {
    let text = |name: &str| {
        let bytes = &secret.data.as_ref()?.get(name)?.0;
        std::str::from_utf8(bytes).ok().map(str::to_owned)
    };
    let expired = match text("expiration") {
        // The API server, too, takes one that it cannot read for expired.
        Some(text) => text.parse::<Timestamp>().map_or(true, |end| end <= now),
        None => false,
    };
    let valid = secret.type_.as_deref() == Some("bootstrap.kubernetes.io/token")
        && secret.metadata.deletion_timestamp.is_none()
        && text("token-id").as_deref() == Some(id)
        && text("usage-bootstrap-authentication").as_deref() == Some("true")
        && !expired;
    // A note that cannot be read is a use all the same.
    let used_by = secret.annotations().get(TOKEN_USED_ANNOTATION).map(|text| {
        serde_json::from_str(text).unwrap_or_else(|_| Use { node: "unknown".into(), key: String::new() })
    });
    let only_for = secret.annotations().get(TOKEN_NODE_ANNOTATION).cloned();
    valid.then(|| Token { id: id.to_owned(), used_by, only_for })
}

/// Notes that the token of `secret` was used. It fails when anything changed the Secret since it was read.
pub fn used(secret: &Secret, by: &Use) -> Result<Value, serde_json::Error> {
    Ok(json!({"metadata": {
        "uid": secret.metadata.uid, "resourceVersion": secret.metadata.resource_version,
        "annotations": {TOKEN_USED_ANNOTATION: serde_json::to_string(by)?},
    }}))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(expiration: Option<&str>, annotations: Value) -> Secret {
        let mut data = json!({"token-id": "YWJjZGVm", "usage-bootstrap-authentication": "dHJ1ZQ=="});
        if let Some(text) = expiration {
            let bytes = k8s_openapi::ByteString(text.as_bytes().to_vec());
            data["expiration"] = serde_json::to_value(bytes).unwrap();
        }
        serde_json::from_value(json!({"metadata": {"annotations": annotations},
            "type": "bootstrap.kubernetes.io/token", "data": data}))
        .unwrap()
    }

    #[test]
    fn a_token_is_valid_until_its_end_and_one_whose_end_cannot_be_read_is_not() {
        let now: Timestamp = "2026-01-01T12:00:00Z".parse().unwrap();
        let valid = |end: Option<&str>| read("abcdef", &secret(end, json!({})), now).is_some();
        assert!(valid(Some("2026-01-01T12:00:01Z")) && valid(None));
        assert!(!valid(Some("2026-01-01T12:00:00Z")) && !valid(Some("soon")));
        assert_eq!(read("abcdeg", &secret(None, json!({})), now), None, "the Secret is of another token");
    }

    #[test]
    fn a_use_is_read_back_and_one_that_cannot_be_read_is_a_use_too() {
        let now = Timestamp::UNIX_EPOCH;
        let by = Use { node: "n2".into(), key: "sha256:aa".into() };
        let patch = used(&secret(None, json!({})), &by).unwrap();
        let noted = secret(None, patch["metadata"]["annotations"].clone());
        assert_eq!(read("abcdef", &noted, now).unwrap().used_by, Some(by));
        let odd = secret(None, json!({TOKEN_USED_ANNOTATION: "?"}));
        assert!(read("abcdef", &odd, now).unwrap().used_by.is_some());
    }

    #[test]
    fn no_id_leads_to_another_secret() {
        assert_eq!(secret_name("abcdef").as_deref(), Some("bootstrap-token-abcdef"));
        for id in ["", "abcde", "../../", "ABCDEF", "abcdef0"] {
            assert_eq!(secret_name(id), None, "{id}");
        }
    }
}
