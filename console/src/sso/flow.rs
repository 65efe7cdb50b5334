//! A login at the identity provider, from the page to the provider and back.
//!
//! Why here: what must come back is kept in the browser itself, in a cookie for ten minutes, so that any console can answer, and nothing
//! is kept for those who never come back. State, nonce and the verifier of PKCE (RFC 7636) tie the answer to this browser, the
//! token to this login, and the code to who asked for it (RFC 9700 §2.1). Pure but for random numbers. Route in: the provider,
//! this host. Route out: a URL and a cookie; of what comes back, the code.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use http::{HeaderMap, HeaderValue, header};
use serde::Deserialize;
use sha2::{Digest as _, Sha256};
use sheaf_api::identity_provider::{CALLBACK, IdentityProvider};

use crate::{
    cookie,
    hash::{self, NoRandom},
};

/// The cookie. Not Strict: the browser comes back from another site.
const COOKIE: &str = "__Host-sheaf-sso";
const ATTRIBUTES: &str = "Path=/; Secure; HttpOnly; SameSite=Lax";
/// Seconds for a person to log in at the provider.
const TIME: u32 = 600;
/// Longest value of the cookie that is looked at.
const LONGEST: usize = 3 * SECRET + 2;
/// Characters of a secret of [`hash::secret`].
const SECRET: usize = 43;

/// What a login is known by when it comes back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Begun {
    state: String,
    /// In the token.
    pub nonce: String,
    /// Opens the code.
    pub verifier: String,
}

/// What the provider sends back.
#[derive(Debug, Default, Deserialize)]
pub struct Answered {
    #[serde(default)]
    pub code: Option<String>,
    #[serde(default)]
    state: Option<String>,
    /// Why not: `access_denied`.
    #[serde(default)]
    pub error: Option<String>,
}

impl Begun {
    /// A new one.
    pub fn new() -> Result<Self, NoRandom> {
        Ok(Self { state: hash::secret()?, nonce: hash::secret()?, verifier: hash::secret()? })
    }

    /// The one of a browser that comes back.
    pub fn of(headers: &HeaderMap) -> Option<Self> {
        let value = cookie::the_one(headers, COOKIE, LONGEST)?;
        let mut parts = value.split('.').map(str::to_owned).filter(|part| part.len() == SECRET);
        let begun = Self { state: parts.next()?, nonce: parts.next()?, verifier: parts.next()? };
        parts.next().is_none().then_some(begun)
    }

    /// The cookie that keeps it.
    pub fn cookie(&self) -> HeaderValue {
        let Self { state, nonce, verifier } = self;
        let text = format!("{COOKIE}={state}.{nonce}.{verifier}; {ATTRIBUTES}; Max-Age={TIME}");
        // base64url, dots and constants: always a header's value.
        HeaderValue::from_str(&text).unwrap_or_else(|_| gone())
    }

    /// Where the browser is sent: `endpoint` is the provider's.
    pub fn url(&self, endpoint: &str, provider: &IdentityProvider, host: &str) -> String {
        let challenge = URL_SAFE_NO_PAD.encode(Sha256::digest(self.verifier.as_bytes()));
        let scopes: Vec<&str> =
            std::iter::once("openid").chain(provider.scopes.iter().map(String::as_str)).collect();
        let query = form_urlencoded::Serializer::new(String::new())
            .append_pair("response_type", "code")
            .append_pair("client_id", &provider.client_id)
            .append_pair("redirect_uri", &callback(host))
            .append_pair("scope", &scopes.join(" "))
            .append_pair("state", &self.state)
            .append_pair("nonce", &self.nonce)
            .append_pair("code_challenge", &challenge)
            .append_pair("code_challenge_method", "S256")
            .finish();
        format!("{endpoint}{}{query}", if endpoint.contains('?') { '&' } else { '?' })
    }

    /// Whether `answered` is the answer to it.
    pub fn is_answered_by(&self, answered: &Answered) -> bool {
        answered.state.as_ref().is_some_and(|state| hash::same(state, &self.state))
    }
}

impl Answered {
    /// Of a query.
    pub fn of(query: &str) -> Self {
        let mut answered = Self::default();
        for (key, value) in form_urlencoded::parse(query.as_bytes()) {
            let place = match &*key {
                "code" => &mut answered.code,
                "state" => &mut answered.state,
                "error" => &mut answered.error,
                _ => continue,
            };
            *place = Some(value.into_owned());
        }
        answered
    }
}

/// The cookie's end.
pub fn gone() -> HeaderValue {
    HeaderValue::from_static("__Host-sheaf-sso=; Path=/; Secure; HttpOnly; SameSite=Lax; Max-Age=0")
}

/// Where the provider sends people back to, as it must know it.
pub fn callback(host: &str) -> String {
    format!("https://{host}{CALLBACK}")
}

/// The host that the browser asked, if it is one: it becomes part of a URL.
pub fn host(headers: &HeaderMap) -> Option<&str> {
    let mut hosts = headers.get_all(header::HOST).iter();
    let (host, None) = (hosts.next()?.to_str().ok()?, hosts.next()) else { return None };
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"-.:[]".contains(&byte);
    (!host.is_empty() && host.len() <= 255 && host.bytes().all(fits)).then_some(host)
}

#[cfg(test)]
mod tests {
    use super::super::played::provider;
    use super::*;

    fn with(name: header::HeaderName, values: &[&str]) -> HeaderMap {
        values.iter().map(|value| (name.clone(), HeaderValue::from_str(value).unwrap())).collect()
    }

    #[test]
    fn a_browser_is_sent_with_what_must_come_back_and_keeps_it_itself() {
        let begun = Begun::new().unwrap();
        let url = begun.url("https://login.example.org/auth", &provider(), "192.0.2.10");
        let (endpoint, query) = url.split_once('?').unwrap();
        assert_eq!(endpoint, "https://login.example.org/auth");
        let asked: std::collections::HashMap<_, _> = form_urlencoded::parse(query.as_bytes()).collect();
        assert_eq!(asked["redirect_uri"], "https://192.0.2.10/console/sso/callback");
        assert_eq!(asked["scope"], "openid email");
        assert!(!query.contains(&begun.verifier), "only its hash leaves this browser before the end");
        let cookie = begun.cookie();
        let text = cookie.to_str().unwrap();
        assert!(text.ends_with("; Path=/; Secure; HttpOnly; SameSite=Lax; Max-Age=600"), "{text}");
        let kept = text.split(';').next().unwrap();
        assert_eq!(Begun::of(&with(header::COOKIE, &[kept])), Some(begun.clone()));
        assert_eq!(Begun::of(&with(header::COOKIE, &[kept, kept])), None, "two of it: somebody planted one");
        assert_eq!(Begun::of(&with(header::COOKIE, &["__Host-sheaf-sso=a.b.c"])), None);
        let answer = |state: &str| Answered::of(&format!("code=x&state={state}"));
        assert!(begun.is_answered_by(&answer(&begun.state)));
        assert!(!begun.is_answered_by(&answer("other")) && !begun.is_answered_by(&Answered::of("code=x")));
    }

    #[test]
    fn a_host_becomes_part_of_an_address_only_if_it_is_one() {
        let of = |values: &[&str]| host(&with(header::HOST, values)).map(str::to_owned);
        assert_eq!(of(&["[2001:db8::1]:8443"]).unwrap(), "[2001:db8::1]:8443");
        for values in [&["evil.example/path"][..], &["a@b"], &["a b"], &[""], &["a", "b"]] {
            assert_eq!(of(values), None, "{values:?}");
        }
    }
}
