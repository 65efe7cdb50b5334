//! Reading pages of an agent's own API, with the console's certificate.
//!
//! Why here: the API server's `nodes/proxy` would let the console open screens and run commands on every node; an agent that is asked
//! directly wants `get` on `nodes/metrics` for `/metrics`, and nothing else is given. The agent is known by its serving
//! certificate, whose CA signs nothing else. Bounded in time and bytes. Route in: a Node. Route out: texts.

use std::{net::IpAddr, sync::Arc, time::Duration};

use anyhow::Context as _;
use bytes::Bytes;
use http::{HeaderValue, Request, header};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use kube::Config;
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
};
use serde::Deserialize;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// Longest time for one node, with both its pages: its agent waits 8 s for libvirt.
const TIME: Duration = Duration::from_secs(10);
/// Most bytes of a page: 10 KiB a machine with several disks, of at most 250.
const MOST_PAGE: usize = 4 << 20;
/// What is read: machines, disks and networks; then processors and memory of the node.
const PAGES: [&str; 2] = ["/metrics", "/metrics/resource"];

/// Of a Node, what says where its agent listens. The whole object is some 10 KiB.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Node {
    metadata: Metadata,
    status: Status,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Metadata {
    name: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Status {
    addresses: Vec<Address>,
    conditions: Vec<Condition>,
    daemon_endpoints: Endpoints,
}

#[derive(Debug, Deserialize)]
struct Address {
    r#type: String,
    address: String,
}

#[derive(Debug, Deserialize)]
struct Condition {
    r#type: String,
    status: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Endpoints {
    kubelet_endpoint: Port,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Port {
    #[serde(rename = "Port")]
    port: u16,
}

/// Where an agent listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Name of the node.
    pub node: Arc<str>,
    address: IpAddr,
    port: u16,
}

impl Target {
    /// The agent of a node, unless it is not to be asked: it does not listen, or its lease has ended (`Ready` is `Unknown`), and
    /// each question would end at its timeout.
    pub fn of(node: &Node) -> Option<Self> {
        let is_lost = |one: &Condition| one.r#type == "Ready" && one.status == "Unknown";
        let internal = node.status.addresses.iter().filter(|address| address.r#type == "InternalIP");
        let address = internal.filter_map(|address| address.address.parse().ok()).next()?;
        let port = node.status.daemon_endpoints.kubelet_endpoint.port;
        let is_asked = port != 0 && !node.status.conditions.iter().any(is_lost);
        is_asked.then(|| Self { node: node.metadata.name.as_str().into(), address, port })
    }
}

/// The way to agents.
pub struct Nodes(TlsConnector);

impl Nodes {
    /// With the certificate of `config`, trusting what `authority` (PEM) signed.
    pub fn new(config: &Config, authority: &[u8]) -> anyhow::Result<Self> {
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(authority) {
            roots.add(certificate?)?;
        }
        anyhow::ensure!(!roots.is_empty(), "has no certificate in PEM");
        let auth = &config.auth_info;
        let data = |pem: Option<&str>, file: &Option<String>| -> anyhow::Result<Vec<u8>> {
            use base64::{Engine as _, engine::general_purpose::STANDARD};
            match (pem, file) {
                (Some(text), _) => STANDARD.decode(text.trim()).context("certificate data is not base64"),
                (None, Some(path)) => std::fs::read(path).with_context(|| format!("{path}: cannot be read")),
                (None, None) => anyhow::bail!("the kubeconfig has no client certificate"),
            }
        };
        let certificate = data(auth.client_certificate_data.as_deref(), &auth.client_certificate)?;
        let key =
            data(auth.client_key_data.as_ref().map(secrecy::ExposeSecret::expose_secret), &auth.client_key)?;
        let chain = CertificateDer::pem_slice_iter(&certificate).collect::<Result<Vec<_>, _>>()?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut tls = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_client_auth_cert(chain, PrivateKeyDer::from_pem_slice(&key)?)?;
        tls.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self(TlsConnector::from(Arc::new(tls))))
    }

    /// What the agent counts, as texts in Prometheus' format.
    pub async fn read(&self, target: &Target) -> anyhow::Result<Vec<String>> {
        let read = tokio::time::timeout(TIME, self.pages(target)).await;
        read.with_context(|| format!("no answer within {} s", TIME.as_secs()))?
    }

    async fn pages(&self, target: &Target) -> anyhow::Result<Vec<String>> {
        let Target { address, port, .. } = target;
        let stream = TcpStream::connect((*address, *port))
            .await
            .with_context(|| format!("connecting to {address}, port {port}"))?;
        let stream = self.0.connect(ServerName::IpAddress((*address).into()), stream).await?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        let connection = tokio::spawn(connection);
        let mut texts = Vec::with_capacity(PAGES.len());
        let mut failed = None;
        for path in PAGES {
            match page(&mut sender, &target.node, path).await {
                Ok(text) => texts.push(text),
                Err(error) => failed = Some(error.context(path)),
            }
            if failed.is_some() {
                break;
            }
        }
        connection.abort();
        failed.map_or(Ok(texts), Err)
    }
}

async fn page(sender: &mut SendRequest<Empty<Bytes>>, node: &str, path: &str) -> anyhow::Result<String> {
    let host = HeaderValue::from_str(node).unwrap_or(HeaderValue::from_static("node"));
    let request = Request::get(path).header(header::HOST, host).body(Empty::new())?;
    sender.ready().await?;
    let answer = sender.send_request(request).await?;
    let status = answer.status();
    let body = Limited::new(answer.into_body(), MOST_PAGE).collect().await;
    let body = body.map_err(|error| anyhow::anyhow!("its answer cannot be read: {error}"))?.to_bytes();
    let text = String::from_utf8_lossy(&body);
    anyhow::ensure!(status.is_success(), "HTTP status {status}: {}", text.trim());
    Ok(text.into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_node_is_asked_at_its_internal_address_while_its_lease_is_renewed() {
        let of = |status: serde_json::Value| {
            let node = json!({"metadata": {"name": "n1", "labels": {}}, "spec": {}, "status": status});
            Target::of(&serde_json::from_value(node).unwrap())
        };
        let addresses =
            json!([{"type": "Hostname", "address": "n1"}, {"type": "InternalIP", "address": "192.0.2.7"}]);
        let endpoints = json!({"kubeletEndpoint": {"Port": 10250}});
        let with = |ready: &str| {
            of(json!({"addresses": addresses, "daemonEndpoints": endpoints,
                      "conditions": [{"type": "Ready", "status": ready, "reason": "x"}]}))
        };
        let target = with("True").unwrap();
        assert_eq!(
            (&*target.node, target.address.to_string().as_str(), target.port),
            ("n1", "192.0.2.7", 10250)
        );
        assert!(with("False").is_some(), "its agent lives, and now one wants to see");
        assert_eq!(with("Unknown"), None);
        assert_eq!(of(json!({"addresses": addresses})), None);
        assert_eq!(of(json!({"daemonEndpoints": endpoints})), None);
        assert_eq!(of(json!({})), None);
    }
}
