//! An identity provider that tests play: its key, its tokens, its answers.

use std::sync::{Arc, Mutex};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use futures::future::BoxFuture;
use jsonwebtoken::jwk::JwkSet;
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use serde_json::{Value, json};
use sheaf_api::identity_provider::IdentityProvider;

use super::provider::{Discovered, Exchange, Provider, ProviderError};

/// A key of a provider.
pub struct Key {
    pair: EcdsaKeyPair,
    name: &'static str,
}

impl Key {
    /// A new one.
    pub fn new(name: &'static str) -> Self {
        let random = SystemRandom::new();
        let bytes = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).unwrap();
        let pair =
            EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, bytes.as_ref(), &random).unwrap();
        Self { pair, name }
    }

    /// As the provider publishes it.
    pub fn published(&self) -> Value {
        let point = &self.pair.public_key().as_ref()[1..];
        let [x, y] = [&point[..32], &point[32..]].map(|half| URL_SAFE_NO_PAD.encode(half));
        json!({"kty": "EC", "crv": "P-256", "use": "sig", "alg": "ES256", "kid": self.name, "x": x, "y": y})
    }

    /// A token with these claims.
    pub fn token(&self, claims: &Value) -> String {
        self.signed(&json!({"alg": "ES256", "typ": "JWT", "kid": self.name}), claims)
    }

    /// The same with another header.
    pub fn signed(&self, header: &Value, claims: &Value) -> String {
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let message = format!("{}.{}", part(header), part(claims));
        let signature = self.pair.sign(&SystemRandom::new(), message.as_bytes()).unwrap();
        format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature))
    }
}

/// The provider as the cluster has it.
pub fn provider() -> IdentityProvider {
    IdentityProvider {
        issuer: "https://login.example.org".into(),
        client_id: "sheaf".into(),
        username_claim: "email".into(),
        scopes: vec!["email".into()],
        ..IdentityProvider::default()
    }
}

/// Claims of a token that is believed.
pub fn claims(nonce: &str) -> Value {
    json!({"iss": "https://login.example.org", "aud": "sheaf", "sub": "7", "exp": crate::clock::now() + 300,
           "nonce": nonce, "email": "alice@example.org", "email_verified": true})
}

/// Keys that are published.
pub fn keys(keys: &[&Key]) -> JwkSet {
    let keys: Vec<Value> = keys.iter().map(|key| key.published()).collect();
    serde_json::from_value(json!({"keys": keys})).unwrap()
}

/// One that answers.
pub struct Played {
    key: Key,
    /// What the next token says; none is an answer that fails.
    pub claims: Mutex<Option<Value>>,
    /// What codes were exchanged with.
    pub exchanged: Mutex<Vec<Exchange>>,
}

impl Played {
    /// One that says nothing yet.
    pub fn new() -> Arc<Self> {
        Arc::new(Self { key: Key::new("k1"), claims: Mutex::default(), exchanged: Mutex::default() })
    }
}

impl Provider for Played {
    fn discover(&self, of: &IdentityProvider) -> BoxFuture<'static, Result<Discovered, ProviderError>> {
        let at = |path: &str| format!("{}{path}", of.issuer);
        let found = json!({"issuer": of.issuer, "authorization_endpoint": at("/auth"),
                           "token_endpoint": at("/token"), "jwks_uri": at("/keys")});
        Box::pin(async move { Ok(serde_json::from_value(found).unwrap()) })
    }

    fn exchange(
        &self,
        _: &IdentityProvider,
        _: Discovered,
        with: Exchange,
    ) -> BoxFuture<'static, Result<(String, JwkSet), ProviderError>> {
        self.exchanged.lock().unwrap().push(with);
        let claims = self.claims.lock().unwrap().clone();
        let answer = claims.map(|claims| (self.key.token(&claims), keys(&[&self.key])));
        Box::pin(async move { answer.ok_or(ProviderError::Authority) })
    }
}
