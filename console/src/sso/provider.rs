//! What is asked of an identity provider: what it is, its keys, and a token for a code.
//!
//! Why here: three requests over the network to a server that is not the cluster's, on a thread that may wait, bounded in time and
//! bytes. Route in: the provider as it is configured. Route out: JSON in its types; every failure names the request.

use std::{sync::Arc, time::Duration};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use futures::future::BoxFuture;
use jsonwebtoken::jwk::JwkSet;
use serde::{Deserialize, de::DeserializeOwned};
use sheaf_api::identity_provider::IdentityProvider;
use ureq::tls::{PemItem, RootCerts, TlsConfig, parse_pem};

/// Longest request.
const TIME: Duration = Duration::from_secs(15);
/// Most bytes of an answer.
const MOST: u64 = 1 << 20;
/// Where a provider says what it is, below its issuer.
const DISCOVERY: &str = "/.well-known/openid-configuration";

/// Why the provider said nothing that is of use.
#[derive(Debug, thiserror::Error)]
pub enum ProviderError {
    /// The CA that is configured is none.
    #[error("its certificateAuthority is no certificate in PEM")]
    Authority,
    /// A request failed.
    #[error("{url}: {source}")]
    Request {
        /// What was asked.
        url: String,
        /// Why.
        source: Box<ureq::Error>,
    },
    /// An answer is not what the specification says.
    #[error("{url} answers in a way that is not understood: {source}")]
    Unread {
        /// What was asked.
        url: String,
        /// Why.
        source: serde_json::Error,
    },
    /// It says that it is another.
    #[error("{url} says that its issuer is {found:?}; write that as the issuer, if it is meant")]
    Issuer {
        /// What was asked.
        url: String,
        /// What it says.
        found: String,
    },
    /// What it names is not reached by TLS.
    #[error("it names {0:?}, which is not https")]
    Plain(String),
}

/// What a provider says of itself (OpenID Connect Discovery 1.0 §3).
#[derive(Clone, Debug, Deserialize)]
pub struct Discovered {
    issuer: String,
    /// Where people log in.
    pub authorization_endpoint: String,
    token_endpoint: String,
    jwks_uri: String,
    /// How a client may show its secret; by HTTP's Basic, if nothing is said.
    #[serde(default)]
    token_endpoint_auth_methods_supported: Vec<String>,
}

impl Discovered {
    /// Whether a secret goes into the body: every provider must take it in a header (RFC 6749 §2.3.1), and some do not.
    fn takes_secrets_in_bodies_only(&self) -> bool {
        let lists = |method: &str| self.token_endpoint_auth_methods_supported.iter().any(|one| one == method);
        lists("client_secret_post") && !lists("client_secret_basic")
    }
}

#[derive(Deserialize)]
struct Token {
    id_token: String,
}

/// What a code is exchanged with.
#[derive(Clone, Debug)]
pub struct Exchange {
    /// From the browser.
    pub code: String,
    /// Of PKCE.
    pub verifier: String,
    /// As it was when the login began.
    pub redirect_uri: String,
    /// The client's secret, if it has one.
    pub secret: Option<String>,
}

/// An identity provider, or one that tests play.
pub trait Provider: Send + Sync {
    /// What it says of itself.
    fn discover(&self, of: &IdentityProvider) -> BoxFuture<'static, Result<Discovered, ProviderError>>;
    /// The token for a code, and the keys by which it may be signed.
    fn exchange(
        &self,
        of: &IdentityProvider,
        discovered: Discovered,
        with: Exchange,
    ) -> BoxFuture<'static, Result<(String, JwkSet), ProviderError>>;
}

/// The one that is configured, over the network.
#[derive(Clone, Copy, Debug, Default)]
pub struct Https;

impl Provider for Https {
    fn discover(&self, of: &IdentityProvider) -> BoxFuture<'static, Result<Discovered, ProviderError>> {
        let of = of.clone();
        apart(move || {
            let url = format!("{}{DISCOVERY}", of.issuer.trim_end_matches('/'));
            let found: Discovered = read(&url, agent(&of)?.get(&url).call())?;
            if found.issuer != of.issuer {
                return Err(ProviderError::Issuer { url, found: found.issuer });
            }
            for named in [&found.authorization_endpoint, &found.token_endpoint, &found.jwks_uri] {
                if !named.starts_with("https://") {
                    return Err(ProviderError::Plain(named.clone()));
                }
            }
            Ok(found)
        })
    }

    fn exchange(
        &self,
        of: &IdentityProvider,
        discovered: Discovered,
        with: Exchange,
    ) -> BoxFuture<'static, Result<(String, JwkSet), ProviderError>> {
        let of = of.clone();
        apart(move || {
            let agent = agent(&of)?;
            let mut form = vec![
                ("grant_type", "authorization_code"),
                ("code", &with.code),
                ("redirect_uri", &with.redirect_uri),
                ("client_id", &of.client_id),
                ("code_verifier", &with.verifier),
            ];
            let url = &discovered.token_endpoint;
            let mut request = agent.post(url);
            match with.secret.as_deref() {
                Some(secret) if discovered.takes_secrets_in_bodies_only() => {
                    form.push(("client_secret", secret))
                }
                Some(secret) => request = request.header("authorization", basic(&of.client_id, secret)),
                None => {}
            }
            let token: Token = read(url, request.send_form(form))?;
            let url = &discovered.jwks_uri;
            Ok((token.id_token, read(url, agent.get(url).call())?))
        })
    }
}

/// A client and its secret as a header: each encoded as in a form first (RFC 6749 §2.3.1).
fn basic(client: &str, secret: &str) -> String {
    let encoded = |text: &str| form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
    format!("Basic {}", STANDARD.encode(format!("{}:{}", encoded(client), encoded(secret))))
}

/// Does `work` where it may wait.
fn apart<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ProviderError> + Send + 'static,
) -> BoxFuture<'static, Result<T, ProviderError>> {
    let work = tokio::task::spawn_blocking(work);
    Box::pin(
        async move { work.await.unwrap_or_else(|panicked| std::panic::resume_unwind(panicked.into_panic())) },
    )
}

fn agent(of: &IdentityProvider) -> Result<ureq::Agent, ProviderError> {
    let mut config = ureq::Agent::config_builder()
        .timeout_global(Some(TIME))
        .https_only(true)
        // A provider answers where it says that it does.
        .max_redirects(0);
    if let Some(pem) = &of.certificate_authority {
        let certificates = parse_pem(pem.as_bytes()).filter_map(|item| match item {
            Ok(PemItem::Certificate(certificate)) => Some(certificate),
            _ => None,
        });
        let certificates: Vec<_> = certificates.collect();
        if certificates.is_empty() {
            return Err(ProviderError::Authority);
        }
        let roots = RootCerts::Specific(Arc::new(certificates));
        config = config.tls_config(TlsConfig::builder().root_certs(roots).build());
    }
    Ok(config.build().into())
}

fn read<T: DeserializeOwned>(
    url: &str,
    answered: Result<http::Response<ureq::Body>, ureq::Error>,
) -> Result<T, ProviderError> {
    let failed = |source| ProviderError::Request { url: url.to_owned(), source: Box::new(source) };
    let bytes = answered.map_err(failed)?.body_mut().with_config().limit(MOST).read_to_vec();
    let unread = |source| ProviderError::Unread { url: url.to_owned(), source };
    serde_json::from_slice(&bytes.map_err(failed)?).map_err(unread)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_goes_where_the_provider_takes_it() {
        // The example of RFC 6749 has letters only; these need the encoding.
        assert_eq!(basic("a b", "c:d%"), format!("Basic {}", STANDARD.encode("a+b:c%3Ad%25")));
        let with = |methods: &[&str]| {
            let found = serde_json::json!({"issuer": "i", "authorization_endpoint": "a", "token_endpoint": "t", "jwks_uri": "j",
                                           "token_endpoint_auth_methods_supported": methods});
            serde_json::from_value::<Discovered>(found).unwrap().takes_secrets_in_bodies_only()
        };
        assert!(with(&["client_secret_post"]));
        assert!(!with(&[]) && !with(&["client_secret_basic", "client_secret_post"]));
    }
}
