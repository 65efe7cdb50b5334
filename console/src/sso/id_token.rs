//! Whom an ID token vouches for.
//!
//! Why here: the one place that believes a token, by the list of OpenID Connect Core 1.0 §3.1.3.7: signed by a key of the provider, by
//! the provider, for this cluster, for this login, and not ended. Pure. Route in: a token, the provider's keys, what was asked for.
//! Route out: a name, or why it is not believed.

use jsonwebtoken::jwk::JwkSet;
use jsonwebtoken::{DecodingKey, Validation, decode, decode_header};
use serde::Deserialize;
use serde_json::{Map, Value};
use sheaf_api::identity_provider::IdentityProvider;

use super::verify::ALGORITHMS;
use crate::hash;

/// Longest name that is looked at.
const LONGEST_NAME: usize = 256;
/// The claim that may say that it is verified, and where it says so.
const EMAIL: &str = "email";
const EMAIL_VERIFIED: &str = "email_verified";

/// Why a token is not believed.
#[derive(Debug, thiserror::Error)]
pub enum Unbelieved {
    /// It is none, has ended, is for others, or is signed by nobody who is known.
    #[error("the token: {0}")]
    Token(#[from] jsonwebtoken::errors::Error),
    /// No key of the provider has its name.
    #[error("the provider has no key {0:?} that signs")]
    Key(String),
    /// It was made for another login.
    #[error("the token is not of this login")]
    Nonce,
    /// It is for several, and this cluster is not the one that asked.
    #[error("the token was made for {0:?}")]
    Party(String),
    /// It names nobody.
    #[error("the token has no claim {0:?} that is a name")]
    Name(String),
    /// The address is not verified.
    #[error("the provider did not verify the address {0:?}")]
    NotVerified(String),
}

/// Claims that matter beyond those that jsonwebtoken judges.
#[derive(Deserialize)]
struct Claims {
    #[serde(default)]
    nonce: Option<String>,
    #[serde(default)]
    azp: Option<String>,
    #[serde(flatten)]
    others: Map<String, Value>,
}

/// The name that `token` vouches for.
pub fn name(
    token: &str,
    keys: &JwkSet,
    provider: &IdentityProvider,
    nonce: &str,
) -> Result<String, Unbelieved> {
    let header = decode_header(token)?;
    // One key needs no name; of several, the token names one.
    let key = match (&header.kid, keys.keys.as_slice()) {
        (Some(name), _) => keys.find(name),
        (None, [key]) => Some(key),
        (None, _) => None,
    };
    let key = key.ok_or_else(|| Unbelieved::Key(header.kid.clone().unwrap_or_default()))?;
    let mut validation = Validation::new(header.alg);
    validation.algorithms = ALGORITHMS.into_iter().filter(|known| *known == header.alg).collect();
    validation.set_audience(&[&provider.client_id]);
    validation.set_issuer(&[&provider.issuer]);
    validation.set_required_spec_claims(&["exp", "iss", "aud"]);
    validation.validate_nbf = true;
    let claims = decode::<Claims>(token, &DecodingKey::from_jwk(key)?, &validation)?.claims;
    if !claims.nonce.is_some_and(|found| hash::same(&found, nonce)) {
        return Err(Unbelieved::Nonce);
    }
    if let Some(party) = claims.azp.filter(|party| *party != provider.client_id) {
        return Err(Unbelieved::Party(party));
    }
    let claim = &provider.username_claim;
    let name = claims.others.get(claim).and_then(Value::as_str);
    let name = name.filter(|name| !name.is_empty() && name.len() <= LONGEST_NAME);
    let name = name.ok_or_else(|| Unbelieved::Name(claim.clone()))?.to_owned();
    // As kube-apiserver does: where the provider says it, it must be so.
    if claim == EMAIL
        && claims.others.get(EMAIL_VERIFIED).is_some_and(|verified| *verified != Value::Bool(true))
    {
        return Err(Unbelieved::NotVerified(name));
    }
    Ok(name)
}

#[cfg(test)]
mod tests;
