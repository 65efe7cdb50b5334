//! Who asks: by client certificate of the cluster's CA, else by a bearer token that the API server reviews.
//!
//! Why here: as a kubelet with `authentication.webhook` and without `anonymous`. A certificate was verified by TLS before any
//! byte of a request; its subject is the user. Route in: the peer's certificate and headers. Route out: a [`User`], or 401.

use super::answer::Refusal;
use super::cache::Cache;
use crate::api_server::Kube;
use http::header::AUTHORIZATION;
use http::{HeaderMap, StatusCode};
use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec};
use kube::api::{Api, ObjectMeta, PostParams};
use sha2::{Digest as _, Sha256};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};
use x509_cert::Certificate;
use x509_cert::der::Decode as _;
use x509_cert::der::asn1::{PrintableStringRef, Utf8StringRef};
use x509_cert::der::oid::ObjectIdentifier;

/// A token that was reviewed is believed for this long: kubelet's `authentication.webhook.cacheTTL`.
const KNOWN_TIME: Duration = Duration::from_secs(120);
/// One that is refused is refused for this long without another review.
const REFUSED_TIME: Duration = Duration::from_secs(10);
/// Longest token, in bytes: the API server issues far shorter ones.
const MOST_TOKEN: usize = 16 << 10;

const COMMON_NAME: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.4.3");
const ORGANISATION: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.4.10");
/// Group of everybody who was authenticated.
const AUTHENTICATED: &str = "system:authenticated";

/// Somebody, as the API server knows him.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct User {
    /// Name.
    pub name: String,
    /// UID.
    pub uid: Option<String>,
    /// Groups.
    pub groups: Vec<String>,
    /// What else an authenticator said.
    pub extra: BTreeMap<String, Vec<String>>,
}

/// Tells who asks.
#[derive(Default)]
pub struct Authenticator(Cache<[u8; 32], Option<User>>);

impl Authenticator {
    /// The user of a request. `certificate` is the verified one of the connection, in DER.
    pub async fn user(
        &self,
        kube: &Kube,
        certificate: Option<&[u8]>,
        headers: &HeaderMap,
    ) -> Result<User, Refusal> {
        let unauthorized = || Refusal::new(StatusCode::UNAUTHORIZED, "Unauthorized");
        if let Some(user) = certificate.and_then(of_certificate) {
            return Ok(user);
        }
        let token = headers.get(AUTHORIZATION).and_then(bearer).ok_or_else(unauthorized)?;
        let key: [u8; 32] = Sha256::digest(token).into();
        if let Some(known) = self.0.get(&key, Instant::now()) {
            return known.ok_or_else(unauthorized);
        }
        let review = TokenReview {
            metadata: ObjectMeta::default(),
            spec: TokenReviewSpec { token: token.to_owned(), audiences: None },
            status: None,
        };
        let create = |joined: crate::api_server::Joined| async move {
            Api::<TokenReview>::all(joined.client).create(&PostParams::default(), &review).await
        };
        let reviewed = kube.request(create).await.map_err(|error| {
            tracing::warn!("a token cannot be reviewed: {error}");
            unauthorized()
        })?;
        let user = of_review(reviewed);
        let time = if user.is_some() { KNOWN_TIME } else { REFUSED_TIME };
        self.0.put(key, user.clone(), Instant::now(), time);
        user.ok_or_else(unauthorized)
    }
}

fn bearer(value: &http::HeaderValue) -> Option<&str> {
    let (scheme, token) = value.to_str().ok()?.split_once(' ')?;
    let token = token.trim();
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty() && token.len() <= MOST_TOKEN).then_some(token)
}

fn of_review(review: TokenReview) -> Option<User> {
    let status = review.status.filter(|status| status.authenticated == Some(true))?;
    let user = status.user?;
    let mut groups = user.groups.unwrap_or_default();
    if !groups.iter().any(|group| group == AUTHENTICATED) {
        groups.push(AUTHENTICATED.into());
    }
    let name = user.username.filter(|name| !name.is_empty())?;
    Some(User { name, uid: user.uid, groups, extra: user.extra.unwrap_or_default() })
}

/// The user whom a client certificate names: common name, and organisations as groups.
pub fn of_certificate(der: &[u8]) -> Option<User> {
    let certificate = Certificate::from_der(der).ok()?;
    let subject = certificate.tbs_certificate().subject();
    let all = |oid: ObjectIdentifier| {
        subject.iter().filter(move |part| part.oid == oid).filter_map(|part| {
            let utf8 = Utf8StringRef::try_from(&part.value).map(|text| text.as_str().to_owned());
            utf8.or_else(|_| PrintableStringRef::try_from(&part.value).map(|text| text.as_str().to_owned()))
                .ok()
        })
    };
    let name = all(COMMON_NAME).next().filter(|name| !name.is_empty())?;
    let groups = all(ORGANISATION).chain([AUTHENTICATED.to_owned()]).collect();
    Some(User { name, uid: None, groups, extra: BTreeMap::new() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::keys::{Authority, Key, Subject};
    use serde_json::json;
    use x509_cert::der::{DecodePem as _, Encode as _};

    #[test]
    fn a_certificate_names_its_user_and_his_groups() {
        let (authority, _, _) = Authority::of_tests();
        let subject = Subject { common_name: "ann".into(), organisations: vec!["ops".into(), "dev".into()] };
        let key = Key::generate().unwrap().public_der().unwrap();
        let pem = authority
            .issue_client(&subject, &key, Duration::from_secs(60), std::time::SystemTime::now())
            .unwrap();
        let der = Certificate::from_pem(pem.as_bytes()).unwrap().to_der().unwrap();
        let user = of_certificate(&der).unwrap();
        assert_eq!(user.name, "ann");
        let mut groups = user.groups;
        groups.sort();
        assert_eq!(groups, ["dev", "ops", "system:authenticated"]);
        assert_eq!(of_certificate(b"garbage"), None);
    }

    #[test]
    fn only_a_token_that_the_api_server_authenticated_names_a_user() {
        let review = |status| -> TokenReview {
            serde_json::from_value(json!({"spec": {}, "status": status})).unwrap()
        };
        let user = json!({"username": "system:serviceaccount:a:b", "groups": ["system:serviceaccounts"]});
        let known = of_review(review(json!({"authenticated": true, "user": user}))).unwrap();
        assert_eq!(known.groups, ["system:serviceaccounts", "system:authenticated"]);
        assert_eq!(of_review(review(json!({"authenticated": false, "user": user}))), None);
        assert_eq!(of_review(review(json!({"user": user}))), None);
        assert_eq!(of_review(review(json!({"authenticated": true, "user": {"username": ""}}))), None);
    }

    #[test]
    fn other_schemes_and_endless_tokens_are_no_tokens() {
        let value = |text: &str| bearer(&text.parse().unwrap()).map(str::to_owned);
        assert_eq!(value("Bearer abc"), Some("abc".into()));
        assert_eq!(value("bearer abc"), Some("abc".into()));
        assert_eq!((value("Basic abc"), value("Bearer "), value("abc")), (None, None, None));
        assert_eq!(value(&format!("Bearer {}", "a".repeat(MOST_TOKEN + 1))), None);
    }
}
