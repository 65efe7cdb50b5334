//! Fetches files over http and https, from any byte on, from the servers that a [`Policy`] allows.
//!
//! Why here: the network is an effect. A name is resolved once and exactly the addresses that were judged are connected to,
//! so that a second answer of the name server changes nothing (DNS rebinding). Redirects are followed here and not by
//! ureq: each goes through the same judgement, and through the proxy of its own URL. Behind a proxy the node does not
//! know the address: names, ports and literal addresses are judged, the rest is the proxy's own policy.
//! Route in: a [`Source`] and how much of it is here already. Route out: a reader of the rest; errors name the URL without
//! what may be a password in it.

pub mod access;
#[cfg(test)]
mod fuzz;
pub mod policy;
mod proxy;
#[cfg(test)]
mod tests;
mod url;

use crate::trust::{Trust, TrustError};
use access::{Access, Sent};
use policy::{Policy, Refusal};
use std::io::Read;
use std::sync::Arc;
use std::time::Duration;
use ureq::config::Config;
use ureq::http::{Uri, header};
use ureq::unversioned::resolver::{DefaultResolver, ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::NextTimeout;
pub use url::redacted;

/// Timeout of a connection attempt: a server far away answers within a tenth of it.
const CONNECT: Duration = Duration::from_secs(20);
/// Timeout until the answer begins: object stores search a while for cold files.
const ANSWER: Duration = Duration::from_secs(60);
/// Timeout between two pieces of the answer: a connection that is silent for longer is dead.
const SILENCE: Duration = Duration::from_secs(60);
/// Redirects that are followed, as many as by curl's `--max-redirs` in most scripts and by Go's client.
const REDIRECTS: usize = 10;

/// A file on a server.
#[derive(Clone, Debug)]
pub struct Source {
    /// Its URL.
    pub url: String,
    /// Which servers may be asked, at every redirect.
    pub policy: Arc<Policy>,
    /// What the server is shown, and by what it is known.
    pub access: Arc<Access>,
}

impl Source {
    /// A URL that an administrator of this machine wrote: any server may be asked.
    pub fn trusted(url: impl Into<String>) -> Self {
        Self { url: url.into(), policy: Arc::new(Policy::trusted()), access: Arc::default() }
    }

    /// Whether the policy allows what the URL names, without its address being known.
    pub fn judge_name(&self) -> Result<(), FetchError> {
        let uri =
            url::parse(&self.url).map_err(|why| FetchError::BadUrl { url: redacted(&self.url), why })?;
        self.policy
            .judge_name(uri.host().unwrap_or_default(), url::port(&uri))
            .map_err(|source| FetchError::Forbidden { url: redacted(&self.url), source })
    }
}

/// The rest of a file.
pub struct Rest {
    /// Where it begins: the byte asked for, or 0 when the server can only send the whole file.
    pub from: u64,
    /// Length of the whole file, as the server says: a claim, not a fact.
    pub total: Option<u64>,
    /// The bytes.
    pub reader: Box<dyn Read + Send>,
}

/// Why there is nothing to read.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// No answer.
    #[error("{url} cannot be reached")]
    Reach {
        /// What was asked for.
        url: String,
        /// Why not.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The server refused.
    #[error("{url} is answered with HTTP status {status}")]
    Refused {
        /// What was asked for.
        url: String,
        /// HTTP status.
        status: u16,
    },
    /// The server asks who it is that asks.
    #[error("{url} is answered with HTTP status 401: it needs credentials, or other ones")]
    Unauthorized {
        /// What was asked for.
        url: String,
        /// How they are to be shown: `WWW-Authenticate` (RFC 9110 §11.6.1), from the server itself.
        challenge: Option<String>,
    },
    /// The file ends before the byte asked for.
    #[error("{url} is shorter than the {from} bytes that are here already")]
    PastEnd {
        /// What was asked for.
        url: String,
        /// The byte asked for.
        from: u64,
    },
    /// The policy does not allow it.
    #[error("{url} may not be fetched")]
    Forbidden {
        /// What was asked for, or what it redirects to.
        url: String,
        /// The rule.
        source: Refusal,
    },
    /// It is no URL that can be fetched.
    #[error("{url} cannot be fetched: {why}")]
    BadUrl {
        /// What was asked for, or what it redirects to.
        url: String,
        /// What is wrong with it.
        why: &'static str,
    },
}

/// Something that fetches: [`Http`], or [`crate::fakes::FakeFetch`] in tests.
pub trait Fetch: Send + Sync {
    /// The file of `source`, from the byte `from` on. Blocks.
    fn fetch(&self, source: &Source, from: u64) -> Result<Rest, FetchError>;
}

/// How servers are reached, and which certificates are trusted.
#[derive(Clone, Default)]
pub struct Settings {
    /// Proxy for `http://…`, `http://USER:PASSWORD@HOST:PORT`; without one servers are reached directly.
    pub http_proxy: Option<String>,
    /// Proxy for `https://…`.
    pub https_proxy: Option<String>,
    /// Names, domains (`.example.org`), addresses and networks that are reached directly.
    pub no_proxy: Vec<String>,
    /// TLS trust policy.
    pub trust: Trust,
}

/// The network.
#[derive(Clone, Debug)]
pub struct Http {
    http_proxy: Option<ureq::Proxy>,
    https_proxy: Option<ureq::Proxy>,
    no_proxy: Vec<String>,
    trust: Trust,
    silence: Duration,
    names: Arc<dyn Resolver>,
}

impl Default for Http {
    fn default() -> Self {
        Self {
            http_proxy: None,
            https_proxy: None,
            no_proxy: Vec::new(),
            trust: Trust::Public,
            silence: SILENCE,
            names: Arc::new(DefaultResolver::default()),
        }
    }
}

impl Http {
    /// Fetches from servers whose certificate `trust` accepts.
    pub fn trusting(trust: &Trust) -> Result<Self, TrustError> {
        Self::new(Settings { trust: trust.clone(), ..Settings::default() })
    }

    /// One with `settings`. A proxy that cannot be parsed is one that cannot be reached: it is never bypassed.
    pub fn new(settings: Settings) -> Result<Self, TrustError> {
        let unusable = || ureq::Proxy::new("http://unusable-proxy.invalid:1").ok();
        let by = |url: Option<String>| url.and_then(|url| ureq::Proxy::new(&url).ok().or_else(unusable));
        settings.trust.check()?;
        Ok(Self {
            http_proxy: by(settings.http_proxy),
            https_proxy: by(settings.https_proxy),
            no_proxy: settings.no_proxy,
            trust: settings.trust,
            ..Self::default()
        })
    }

    /// Gives up a connection that is silent for longer than `silence`.
    #[must_use]
    pub fn silent_for(silence: Duration) -> Self {
        Self { silence, ..Self::default() }
    }

    /// Resolves names by `names`: for tests of what a name server may answer.
    #[must_use]
    pub fn resolving_by(self, names: Arc<dyn Resolver>) -> Self {
        Self { names, ..self }
    }

    /// The proxy for `uri`.
    fn proxy(&self, uri: &Uri) -> Option<&ureq::Proxy> {
        let proxied = if url::is_https(uri) { &self.https_proxy } else { &self.http_proxy };
        proxied.as_ref().filter(|_| !proxy::passes_by(uri.host().unwrap_or_default(), &self.no_proxy))
    }

    /// Asks for `uri` alone with the headers of `sent`, from `from` on; follows nothing.
    fn ask(
        &self,
        uri: &Uri,
        source: &Source,
        sent: &Sent<'_>,
        from: u64,
    ) -> Result<ureq::http::Response<ureq::Body>, FetchError> {
        let shown = || redacted(&uri.to_string());
        let reach = |source| FetchError::Reach { url: shown(), source };
        let forbidden = |source| FetchError::Forbidden { url: shown(), source };
        let policy = &source.policy;
        let own = source.access.authorities().map(|pem| Trust::Authorities(pem.to_owned()));
        let trust = own.as_ref().unwrap_or(&self.trust);
        let proxy = self.proxy(uri);
        let config = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .user_agent("sheaf")
            .timeout_connect(Some(CONNECT))
            .timeout_recv_response(Some(ANSWER))
            .timeout_per_read(Some(self.silence))
            // Proxies of the environment do not count.
            .proxy(proxy.cloned());
        let agent = match proxy {
            Some(_) => {
                policy.judge_name(uri.host().unwrap_or_default(), url::port(uri)).map_err(forbidden)?;
                trust.agent_resolving(config, Named(self.names.clone()))
            }
            None => {
                let policy = policy.protecting_this_machine().map_err(|source| reach(source.into()))?;
                trust.agent_resolving(config, Judged { names: self.names.clone(), policy })
            }
        };
        let agent = agent.map_err(|source| reach(source.into()))?;
        let mut request = agent.get(uri.clone());
        for (name, value) in sent.headers() {
            request = request.header(name, value);
        }
        if from > 0 {
            request = request.header(header::RANGE, format!("bytes={from}-"));
        }
        request.call().map_err(|error| match error {
            ureq::Error::Other(other) => match other.downcast::<Refusal>() {
                Ok(refusal) => forbidden(*refusal),
                Err(other) => reach(other),
            },
            error => reach(Box::new(error)),
        })
    }
}

/// Resolves names without judging them: the proxy's own.
#[derive(Debug)]
struct Named(Arc<dyn Resolver>);

impl Resolver for Named {
    fn resolve(
        &self,
        uri: &Uri,
        config: &Config,
        timeout: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, ureq::Error> {
        self.0.resolve(uri, config, timeout)
    }
}

/// Resolves names and lets no address through that `policy` refuses. ureq connects to what this returns and to nothing
/// else.
#[derive(Debug)]
struct Judged {
    names: Arc<dyn Resolver>,
    policy: Policy,
}

impl Resolver for Judged {
    fn resolve(
        &self,
        uri: &Uri,
        config: &Config,
        timeout: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, ureq::Error> {
        let found = self.names.resolve(uri, config, timeout)?;
        // All of them: a name with one forbidden address among its addresses is not used at all.
        for address in found.iter() {
            let host = uri.host().unwrap_or_default();
            self.policy
                .judge(host, address.port(), address.ip())
                .map_err(|refusal| ureq::Error::Other(Box::new(refusal)))?;
        }
        Ok(found)
    }
}

impl Fetch for Http {
    fn fetch(&self, source: &Source, from: u64) -> Result<Rest, FetchError> {
        let bad = |text: &str, why| FetchError::BadUrl { url: redacted(text), why };
        let mut uri = url::parse(&source.url).map_err(|why| bad(&source.url, why))?;
        let mut sent = Sent::first(&source.access, &uri).map_err(|why| bad(&source.url, why))?;
        for _ in 0..=REDIRECTS {
            let response = self.ask(&uri, source, &sent, from)?;
            let header = |name: header::HeaderName| response.headers().get(name)?.to_str().ok();
            let shown = || redacted(&uri.to_string());
            let refused = |status| FetchError::Refused { url: shown(), status };
            let (from, total) = match response.status().as_u16() {
                200 => (0, header(header::CONTENT_LENGTH).and_then(|length| length.parse().ok())),
                206 => match header(header::CONTENT_RANGE).and_then(content_range) {
                    Some((start, total)) if start == from => (from, total),
                    _ => return Err(refused(206)),
                },
                401 => {
                    let challenge = header(header::WWW_AUTHENTICATE).map(str::to_owned);
                    return Err(FetchError::Unauthorized { url: shown(), challenge });
                }
                416 => return Err(FetchError::PastEnd { url: shown(), from }),
                status @ (301 | 302 | 303 | 307 | 308) => {
                    let location = header(header::LOCATION).ok_or_else(|| refused(status))?;
                    let next = url::join(&uri, location).map_err(|why| bad(location, why))?;
                    let host = next.host().unwrap_or_default();
                    let judged =
                        source.policy.judge_redirect(url::is_https(&uri), url::is_https(&next), host);
                    judged.map_err(|source| FetchError::Forbidden { url: redacted(location), source })?;
                    sent.redirected(&uri, &next);
                    uri = next;
                    continue;
                }
                status => return Err(refused(status)),
            };
            return Ok(Rest { from, total, reader: Box::new(response.into_body().into_reader()) });
        }
        Err(bad(&source.url, "it redirects more than 10 times"))
    }
}

/// First byte and length of the whole from `bytes 100-199/1000`.
fn content_range(text: &str) -> Option<(u64, Option<u64>)> {
    let (range, total) = text.strip_prefix("bytes ")?.split_once('/')?;
    let (first, _) = range.split_once('-')?;
    Some((first.parse().ok()?, total.parse().ok()))
}
