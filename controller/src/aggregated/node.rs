//! Requests to agents' own API, with this controller's certificate.
//!
//! Why here: what only a node can do is asked of its agent, which authorizes this controller as any other client of a
//! kubelet (`nodes/proxy`); nothing is written for the node to find. The agent is known by its serving certificate, whose CA
//! signs nothing else. Route in: a Node and a path. Route out: a response; an upgraded connection.

use std::{sync::Arc, time::Duration};

use anyhow::Context as _;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Response, request};
use http_body_util::Full;
use hyper::{body::Incoming, client::conn::http1};
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::Node;
use kube::Config;
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
};
use sheaf_api::vm_export::TOKEN_HEADER;
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, client::TlsStream};

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

/// Where a node's agent listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    node: String,
    address: std::net::IpAddr,
    port: u16,
}

/// Why there is no way to a node.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoTarget {
    /// The Node has no address.
    #[error("node {0} reports no address")]
    Address(String),
    /// Its agent does not listen, or is of an earlier version.
    #[error("node {0} does not serve its API yet; look at `journalctl -u sheaf-agent` there")]
    Port(String),
}

impl Target {
    /// The agent of `node`.
    pub fn of(node: &Node) -> Result<Self, NoTarget> {
        let name = node.metadata.name.clone().unwrap_or_default();
        let status = node.status.as_ref();
        let addresses = status.and_then(|status| status.addresses.as_deref()).unwrap_or_default();
        let address = addresses
            .iter()
            .filter(|address| address.type_ == "InternalIP")
            .find_map(|address| address.address.parse().ok())
            .ok_or_else(|| NoTarget::Address(name.clone()))?;
        let port = status
            .and_then(|status| status.daemon_endpoints.as_ref()?.kubelet_endpoint.as_ref())
            .and_then(|endpoint| u16::try_from(endpoint.port).ok())
            .filter(|port| *port != 0)
            .ok_or_else(|| NoTarget::Port(name.clone()))?;
        Ok(Self { node: name, address, port })
    }
}

/// The way to agents.
pub struct Nodes(TlsConnector);

impl Nodes {
    /// With the certificate of `config`, trusting what `authority` (PEM) signed.
    pub fn new(config: &Config, authority: &str) -> anyhow::Result<Self> {
        let data = |pem: &Option<String>, file: &Option<String>| -> anyhow::Result<Vec<u8>> {
            use base64::{Engine as _, engine::general_purpose::STANDARD};
            match (pem, file) {
                (Some(text), _) => STANDARD.decode(text.trim()).context("certificate data is no base64"),
                (None, Some(path)) => std::fs::read(path).with_context(|| format!("{path}: cannot be read")),
                (None, None) => anyhow::bail!("the kubeconfig holds no client certificate"),
            }
        };
        let auth = &config.auth_info;
        let certificate = data(&auth.client_certificate_data, &auth.client_certificate)?;
        let secret =
            auth.client_key_data.as_ref().map(|key| secrecy::ExposeSecret::expose_secret(key).to_owned());
        let key = data(&secret, &auth.client_key)?;
        let chain: Vec<_> = CertificateDer::pem_slice_iter(&certificate).collect::<Result<_, _>>()?;
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(authority.as_bytes()) {
            roots.add(certificate?)?;
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut tls = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_client_auth_cert(chain, PrivateKeyDer::from_pem_slice(&key)?)?;
        tls.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self(TlsConnector::from(Arc::new(tls))))
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
        body: Incoming,
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

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_node_is_reached_at_its_first_internal_address_and_the_port_that_it_reports() {
        let node = |status| -> Node {
            serde_json::from_value(json!({"metadata": {"name": "n1"}, "status": status})).unwrap()
        };
        let addresses =
            json!([{"type": "Hostname", "address": "n1"}, {"type": "InternalIP", "address": "192.0.2.7"}]);
        let endpoint = json!({"kubeletEndpoint": {"Port": 10250}});
        let whole = Target::of(&node(json!({"addresses": addresses, "daemonEndpoints": endpoint}))).unwrap();
        assert_eq!((whole.address.to_string().as_str(), whole.port), ("192.0.2.7", 10250));
        let silent =
            node(json!({"addresses": addresses, "daemonEndpoints": {"kubeletEndpoint": {"Port": 0}}}));
        assert_eq!(Target::of(&silent), Err(NoTarget::Port("n1".into())));
        assert_eq!(
            Target::of(&node(json!({"daemonEndpoints": endpoint}))),
            Err(NoTarget::Address("n1".into()))
        );
    }
}
