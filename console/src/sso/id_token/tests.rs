//! Tokens that are believed, and those that are not.

use super::super::played::{Key, claims, keys, provider};
use super::super::verify;
use super::*;
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::json;

const NONCE: &str = "n-1";

/// Claims with a change.
fn with(name: &str, value: Value) -> Value {
    let mut claims = claims(NONCE);
    match value {
        Value::Null => drop(claims.as_object_mut().unwrap().remove(name)),
        value => claims[name] = value,
    }
    claims
}

#[test]
fn a_token_of_the_provider_for_this_cluster_and_this_login_is_believed() {
    verify::install();
    let (key, other) = (Key::new("k1"), Key::new("k2"));
    let read = |token: &str| name(token, &keys(&[&other, &key]), &provider(), NONCE);
    assert_eq!(read(&key.token(&claims(NONCE))).unwrap(), "alice@example.org");
    assert_eq!(read(&other.token(&claims(NONCE))).unwrap(), "alice@example.org");
    assert_eq!(read(&key.token(&with("aud", json!(["sheaf", "other"])))).unwrap(), "alice@example.org");
    assert_eq!(read(&key.token(&with("email_verified", Value::Null))).unwrap(), "alice@example.org");
    let by_subject = IdentityProvider { username_claim: "sub".into(), ..provider() };
    let token = key.token(&with("email_verified", json!(false)));
    assert_eq!(name(&token, &keys(&[&key]), &by_subject, NONCE).unwrap(), "7");
}

#[test]
fn no_other_token_is_believed() {
    verify::install();
    let (key, stranger) = (Key::new("k1"), Key::new("k1"));
    let now = crate::clock::now();
    let said = |token: &str| name(token, &keys(&[&key]), &provider(), NONCE).unwrap_err().to_string();
    for (name, value, why) in [
        ("iss", json!("https://evil.example"), "the token: InvalidIssuer"),
        ("iss", Value::Null, "the token: Missing required claim: iss"),
        ("aud", json!("other"), "the token: InvalidAudience"),
        ("aud", Value::Null, "the token: Missing required claim: aud"),
        ("exp", json!(now - 3600), "the token: ExpiredSignature"),
        ("exp", json!("never"), "the token: "),
        ("exp", Value::Null, "the token: Missing required claim: exp"),
        ("nbf", json!(now + 3600), "the token: ImmatureSignature"),
        ("nonce", json!("n-2"), "the token is not of this login"),
        ("nonce", Value::Null, "the token is not of this login"),
        ("azp", json!("other"), "the token was made for \"other\""),
        ("email", json!(7), "the token has no claim \"email\" that is a name"),
        ("email", json!(""), "the token has no claim \"email\" that is a name"),
        ("email_verified", json!(false), "the provider did not verify the address \"alice@example.org\""),
        ("email_verified", json!("false"), "the provider did not verify the address \"alice@example.org\""),
    ] {
        let said = said(&key.token(&with(name, value.clone())));
        assert!(said.starts_with(why), "{name} {value}: {said}");
    }
    let claims = claims(NONCE);
    assert!(said(&stranger.token(&claims)).contains("InvalidSignature"), "another key of the same name");
    assert_eq!(said(&Key::new("k9").token(&claims)), "the provider has no key \"k9\" that signs");
    // Unsigned, and signed with the published key as if it were a shared secret.
    for algorithm in ["none", "HS256", "RS256", "ES384"] {
        let header = json!({"alg": algorithm, "kid": "k1"});
        assert!(!said(&key.signed(&header, &claims)).is_empty(), "{algorithm}");
    }
    let mut cut = key.token(&claims);
    cut.truncate(cut.rfind('.').unwrap() + 1);
    assert!(!said(&cut).is_empty());
    let (head, tail) = cut.split_once('.').unwrap();
    let bent = URL_SAFE_NO_PAD.encode(with("email", json!("root@example.org")).to_string());
    let signature = key.token(&claims);
    let signature = signature.rsplit('.').next().unwrap();
    assert!(said(&format!("{head}.{bent}.{signature}")).contains("InvalidSignature"), "{tail}");
    for text in ["", ".", "..", "a.b.c", &"a".repeat(100_000)] {
        assert!(!said(text).is_empty());
    }
}
