//! Requests to agents' own API, with this controller's certificate.
//!
//! Why here: what only a node can do is asked of its agent, which authorizes this controller as any other client of a
//! kubelet (`nodes/proxy`); nothing is written for the node to find. The agent is known by its serving certificate, whose CA
//! signs nothing else. Route in: a Node and a path. Route out: a response; an upgraded connection.

use std::time::Duration;

use anyhow::Context as _;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Response, request};
use http_body_util::Full;
use hyper::{body::Incoming, client::conn::http1};
use hyper_util::rt::TokioIo;
use kube::Config;
use rustls::pki_types::ServerName;
use sheaf_api::{agents, vm_export::TOKEN_HEADER};
use sheaf_https::Received;
use sheaf_https::connector;
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, client::TlsStream};

pub use sheaf_api::agents::{NoTarget, Target};

/// Longest time until a connection stands.
const CONNECT_TIME: Duration = Duration::from_secs(5);
/// Longest time until an agent answers: a guest that is to be frozen has 45 s.
const ANSWER_TIME: Duration = Duration::from_secs(50);
/// Headers that are handed on: of an upgrade, and the token of an export.
const HANDED_ON: [&str; 6] = [
    "connection",
    "upgrade",
    "sec-websocket-key",
    "sec-websocket-version",
    "sec-websocket-protocol",
    TOKEN_HEADER,
];

/// The way to agents.
pub struct Nodes(TlsConnector);

impl Nodes {
    /// With the certificate of `config`, trusting what `authority` (PEM) signed.
    pub fn new(config: &Config, authority: &str) -> anyhow::Result<Self> {
        let (certificate, key) = agents::identity(&config.auth_info)?;
        Ok(Self(connector(authority.as_bytes(), Some((&certificate, &key)))?))
    }

    /// `method` on `path`, with those of `headers` that are handed on; so an upgrade is asked for as one.
    pub async fn request(
        &self,
        target: &Target,
        method: Method,
        path: &str,
        headers: Option<&HeaderMap>,
    ) -> anyhow::Result<Response<Incoming>> {
        let node = &target.node;
        let stream = self.connect(target).await?;
        let (mut sender, connection) = http1::handshake::<_, Full<Bytes>>(TokioIo::new(stream)).await?;
        tokio::spawn(async move {
            // Its end is the end of the answer or of the upgraded stream.
            let _ = connection.with_upgrades().await;
        });
        let mut request = self::request(node, method, path);
        for name in HANDED_ON {
            if let Some(value) = headers.and_then(|headers| headers.get(name)) {
                request = request.header(name, value.clone());
            }
        }
        let answer = sender.send_request(request.body(Full::new(Bytes::new()))?);
        let answer = tokio::time::timeout(ANSWER_TIME, answer).await;
        answer
            .with_context(|| format!("node {node} did not answer within {} s", ANSWER_TIME.as_secs()))?
            .with_context(|| format!("the answer of node {node}"))
    }

    /// POST of `body`, whose length is known, on `path`: it is sent as it comes. The answer takes as long as the agent works on
    /// it; it may come before all of the body was sent.
    pub async fn send(
        &self,
        target: &Target,
        path: &str,
        body: Received,
    ) -> anyhow::Result<Response<Incoming>> {
        let node = &target.node;
        let stream = self.connect(target).await?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        tokio::spawn(async move {
            // Its end is the end of the answer.
            let _ = connection.await;
        });
        let answer = sender.send_request(self::request(node, Method::POST, path).body(body)?).await;
        answer.with_context(|| format!("the answer of node {node}"))
    }

    async fn connect(&self, target: &Target) -> anyhow::Result<TlsStream<TcpStream>> {
        let Target { node, address, port } = target;
        let connect = async {
            let stream = TcpStream::connect((*address, *port)).await?;
            stream.set_nodelay(true)?;
            self.0.connect(ServerName::IpAddress((*address).into()), stream).await
        };
        let connected = tokio::time::timeout(CONNECT_TIME, connect).await;
        connected
            .with_context(|| {
                format!("node {node} did not accept a connection within {} s", CONNECT_TIME.as_secs())
            })?
            .with_context(|| format!("connecting to node {node} at {address}, port {port}"))
    }
}

/// The head of a request to the agent of `node`.
fn request(node: &str, method: Method, path: &str) -> request::Builder {
    let host = HeaderValue::from_str(node).unwrap_or(HeaderValue::from_static("node"));
    Request::builder().method(method).uri(path).header("host", host)
}
