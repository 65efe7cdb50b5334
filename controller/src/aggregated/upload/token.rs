//! Tokens of uploads: who shows one may send one image into one claim, for five minutes.
//!
//! Why here: a JSON Web Token signed by HMAC-SHA256 (RFC 7519, `HS256`), as Kubernetes signs cluster-info: one key, no
//! certificate, and no crate that is not there already. The one header that is accepted is compared as text, so a token chooses
//! no algorithm. The claim is named with its UID: a token never reaches a later claim of the same name. Pure. Route in: a
//! claim and the time. Route out: a token, and back.

use std::time::Duration;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use hmac::{Hmac, KeyInit, Mac};
use k8s_openapi::jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::Sha256;

/// How long a token may be used; an upload that has started may take longer.
const LIFETIME: Duration = Duration::from_secs(300);
/// Length of a key.
pub const KEY_BYTES: usize = 32;
/// Header of every token.
const HEADER: &str = r#"{"alg":"HS256","typ":"JWT"}"#;
/// Who signs.
const ISSUER: &str = "sheaf-controller";
/// What a token is for.
const OPERATION: &str = "Upload";

/// The claim that a token is for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Target {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its UID.
    pub uid: String,
}

#[derive(Serialize, Deserialize)]
struct Claims {
    iss: String,
    exp: i64,
    operation: String,
    #[serde(flatten)]
    target: Target,
}

/// What signs tokens.
pub struct Key(Hmac<Sha256>);

impl Key {
    /// `None` if it is shorter than a signature.
    pub fn new(bytes: &[u8]) -> Option<Self> {
        if bytes.len() < KEY_BYTES {
            return None;
        }
        Hmac::new_from_slice(bytes).ok().map(Self)
    }

    /// A token for `target`.
    pub fn sign(&self, target: Target, now: Timestamp) -> Result<String, serde_json::Error> {
        let exp = now.as_second() + LIFETIME.as_secs().cast_signed();
        let claims = Claims { iss: ISSUER.into(), exp, operation: OPERATION.into(), target };
        let text = format!("{}.{}", encode(HEADER), encode(serde_json::to_vec(&claims)?));
        let signature = self.0.clone().chain_update(&text).finalize().into_bytes();
        Ok(format!("{text}.{}", encode(signature)))
    }

    /// The claim that `token` is for, if it is one of ours and `now` it may be used.
    pub fn verify(&self, token: &str, now: Timestamp) -> Option<Target> {
        let (text, signature) = token.rsplit_once('.')?;
        let signature = URL_SAFE_NO_PAD.decode(signature).ok()?;
        self.0.clone().chain_update(text).verify_slice(&signature).ok()?;
        let (header, claims) = text.split_once('.')?;
        let claims: Claims = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(claims).ok()?).ok()?;
        let is_ours = header == encode(HEADER) && claims.iss == ISSUER && claims.operation == OPERATION;
        (is_ours && now.as_second() < claims.exp).then_some(claims.target)
    }
}

fn encode(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(byte: u8) -> Key {
        Key::new(&[byte; KEY_BYTES]).unwrap()
    }

    fn target() -> Target {
        Target { namespace: "shop".into(), name: "disk".into(), uid: "u-1".into() }
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn a_token_is_accepted_by_every_replica_with_the_key_for_five_minutes() {
        let token = key(1).sign(target(), at(1000)).unwrap();
        assert_eq!(key(1).verify(&token, at(1000)), Some(target()));
        assert_eq!(key(1).verify(&token, at(1299)), Some(target()));
        assert_eq!(key(1).verify(&token, at(1300)), None, "expired");
        assert_eq!(key(2).verify(&token, at(1000)), None, "of another key");
    }

    #[test]
    fn a_token_that_was_changed_or_names_another_algorithm_is_not_accepted() {
        let token = key(1).sign(target(), at(1000)).unwrap();
        let parts: Vec<&str> = token.split('.').collect();
        let other = encode(serde_json::to_vec(&Target { name: "other".into(), ..target() }).unwrap());
        let none = encode(r#"{"alg":"none"}"#);
        for changed in [
            format!("{}.{other}.{}", parts[0], parts[2]),
            format!("{none}.{}.{}", parts[1], parts[2]),
            format!("{none}.{}.", parts[1]),
            format!("{}.{}", parts[0], parts[1]),
            format!("{token}A"),
            String::new(),
            "...".into(),
        ] {
            assert_eq!(key(1).verify(&changed, at(1000)), None, "{changed}");
        }
        // Signed by the key, and still no token of this kind.
        let text = format!("{none}.{}", parts[1]);
        let signature = key(1).0.chain_update(&text).finalize().into_bytes();
        assert_eq!(key(1).verify(&format!("{text}.{}", encode(signature)), at(1000)), None);
    }

    #[test]
    fn a_key_that_is_too_short_is_none() {
        assert!(Key::new(&[0; KEY_BYTES - 1]).is_none());
    }
}
