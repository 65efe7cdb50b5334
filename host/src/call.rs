//! Calls a server once, over http or https, with a small answer: webhooks, an API server, a config.
//!
//! Why apart from [`crate::fetch`]: what is sent and what comes back fits into memory, and status, headers and the TLS
//! trust policy are the caller's. Route in: [`Request`]. Route out: [`Reply`], whatever its status.

use crate::trust::{Trust, TrustError};
use std::time::Duration;
use ureq::http;

/// Largest answer that is taken, in bytes: a config or a cluster-info is a hundredth of it.
const LARGEST: u64 = 4 << 20;

/// What is sent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Request {
    /// `GET`, `POST`, …
    pub method: String,
    /// Where to.
    pub url: String,
    /// Names and values.
    pub headers: Vec<(String, String)>,
    /// What is sent with it.
    pub body: Vec<u8>,
    /// TLS trust policy.
    pub trust: Trust,
    /// Until the whole answer is here.
    pub deadline: Duration,
}

impl Request {
    /// A GET of `url` within `deadline`.
    pub fn get(url: impl Into<String>, trust: Trust, deadline: Duration) -> Self {
        Self { method: "GET".into(), url: url.into(), trust, deadline, ..Self::default() }
    }
}

/// What came back.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reply {
    /// HTTP status.
    pub status: u16,
    /// Its contents.
    pub body: Vec<u8>,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// No connection, no answer, or a certificate that is not trusted.
    #[error("{url} cannot be reached")]
    Reach {
        /// What was called.
        url: String,
        /// Why not.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// It answers, and its certificate does not prove that it is the one that was meant.
    #[error("the certificate of {url} is not trusted")]
    Untrusted {
        /// What was called.
        url: String,
        /// Why not.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The request itself is wrong.
    #[error("the request to {url} is not valid")]
    Request {
        /// What was to be called.
        url: String,
        /// Why not.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// Something that calls: [`Http`], or [`crate::fakes::FakeCall`] in tests.
pub trait Call: Send + Sync {
    /// Sends `request` and takes the whole answer. Blocks.
    fn call(&self, request: &Request) -> Result<Reply, CallError>;
}

/// Whether a TLS handshake ended because of the server's certificate. It fails at the first byte that is sent, so that
/// rustls' error comes inside one of I/O.
fn is_of_certificate(error: &ureq::Error) -> bool {
    let of_tls = match error {
        ureq::Error::Rustls(error) => Some(error),
        ureq::Error::Io(error) => error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()),
        _ => None,
    };
    matches!(of_tls, Some(rustls::Error::InvalidCertificate(_)))
}

/// The network.
#[derive(Clone, Copy, Debug, Default)]
pub struct Http;

impl Call for Http {
    fn call(&self, request: &Request) -> Result<Reply, CallError> {
        let url = &request.url;
        let wrong = |source: Box<dyn std::error::Error + Send + Sync>| CallError::Request {
            url: url.clone(),
            source,
        };
        let reach = |source: ureq::Error| match is_of_certificate(&source) {
            true => CallError::Untrusted { url: url.clone(), source: Box::new(source) },
            false => CallError::Reach { url: url.clone(), source: Box::new(source) },
        };
        let config = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .user_agent("sheaf")
            .timeout_global(Some(request.deadline));
        let agent = request.trust.agent(config).map_err(|error: TrustError| wrong(Box::new(error)))?;
        let mut builder = http::Request::builder().method(request.method.as_str()).uri(url.as_str());
        for (name, value) in &request.headers {
            builder = builder.header(name, value);
        }
        // A GET has no body: not even an empty one, which would be announced by its length.
        let answer = match request.body.is_empty() {
            true => agent.run(builder.body(()).map_err(|error| wrong(Box::new(error)))?),
            false => agent.run(builder.body(&request.body[..]).map_err(|error| wrong(Box::new(error)))?),
        };
        let mut response = answer.map_err(reach)?;
        let body = response.body_mut().with_config().limit(LARGEST).read_to_vec().map_err(reach)?;
        Ok(Reply { status: response.status().as_u16(), body })
    }
}
