//! Consoles and displays of VMs through the aggregated API, as virtctl opens them.
//!
//! Why here: cases and benchmarks type into VMs without a virtctl, whose build takes minutes. Route in: a client of the cluster
//! and the name of an instance. Route out: a WebSocket of KubeVirt's subprotocol, binary frames of raw bytes.

use crate::played::GROUP;
use anyhow::{Result, ensure};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::client::generate_key;
use tokio_tungstenite::tungstenite::protocol::Role;

/// A connection that is open.
pub type Stream = WebSocketStream<TokioIo<Upgraded>>;

/// Opens `stream` (`console`, `vnc`) of the instance `name` of the namespace `default`.
pub async fn open(client: &kube::Client, name: &str, stream: &str) -> Result<Stream> {
    let request =
        http::Request::get(format!("{GROUP}/namespaces/default/virtualmachineinstances/{name}/{stream}"))
            .header("connection", "Upgrade")
            .header("upgrade", "websocket")
            .header("sec-websocket-version", "13")
            .header("sec-websocket-key", generate_key())
            .header("sec-websocket-protocol", "plain.kubevirt.io")
            .body(kube::client::Body::empty())?;
    let response = client.send(request).await?;
    ensure!(response.status() == 101, "{stream} of {name}: {}", response.status());
    let io = TokioIo::new(hyper::upgrade::on(response).await?);
    Ok(WebSocketStream::from_raw_socket(io, Role::Client, None).await)
}
