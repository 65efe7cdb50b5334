//! Reading pages of an agent's own API, with the console's certificate.
//!
//! Why here: the API server's `nodes/proxy` would let the console open screens and run commands on every node; an agent that is asked
//! directly wants `get` on `nodes/metrics` for `/metrics`, and nothing else is given. The agent is known by its serving
//! certificate, whose CA signs nothing else. Bounded in time and bytes. Route in: a Node. Route out: texts.

use std::time::Duration;

use anyhow::Context as _;
use bytes::Bytes;
use http::{HeaderValue, Request, header};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::Node;
use kube::Config;
use rustls::pki_types::ServerName;
use sheaf_api::agents::{self, Target};
use sheaf_https::connector;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// Longest time for one node, with both its pages: its agent waits 8 s for libvirt.
const TIME: Duration = Duration::from_secs(10);
/// Most bytes of a page: 10 KiB a machine with several disks, of at most 250.
const MOST_PAGE: usize = 4 << 20;
/// What is read: machines, disks and networks; then processors and memory of the node.
const PAGES: [&str; 2] = ["/metrics", "/metrics/resource"];

/// The agent of a node, unless it is not to be asked: it does not listen, or its lease has ended (`Ready` is `Unknown`), and each
/// question would end at its timeout.
pub fn target(node: &Node) -> Option<Target> {
    let conditions = node.status.as_ref().and_then(|status| status.conditions.as_deref()).unwrap_or_default();
    let is_lost = conditions.iter().any(|one| one.type_ == "Ready" && one.status == "Unknown");
    Target::of(node).ok().filter(|_| !is_lost)
}

/// The way to agents.
pub struct Nodes(TlsConnector);

impl Nodes {
    /// With the certificate of `config`, trusting what `authority` (PEM) signed.
    pub fn new(config: &Config, authority: &[u8]) -> anyhow::Result<Self> {
        let (certificate, key) = agents::identity(&config.auth_info)?;
        Ok(Self(connector(authority, Some((&certificate, &key)))?))
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
        let read = async {
            let mut texts = Vec::with_capacity(PAGES.len());
            for path in PAGES {
                texts.push(page(&mut sender, &target.node, path).await.context(path)?);
            }
            Ok(texts)
        };
        let texts = read.await;
        connection.abort();
        texts
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
            target(&serde_json::from_value(node).unwrap())
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
