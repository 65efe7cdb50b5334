//! The handshake of a WebSocket, RFC 6455 §4.2, on a connection that hyper has accepted.
//!
//! Why here: hyper upgrades, tungstenite frames; what lies between is one page. KubeVirt's clients offer
//! `plain.kubevirt.io`, alone or among others, and take a connection without a subprotocol too. Route in: a request. Route
//! out: 101 and a task with the socket, or 400.

use super::super::answer::{self, Answer, Refusal};
use http::header::{
    CONNECTION, HeaderValue, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL,
    SEC_WEBSOCKET_VERSION, UPGRADE,
};
use http::{HeaderMap, Request, StatusCode};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use sheaf_https::Received;
use std::future::Future;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};

/// KubeVirt's subprotocol: raw bytes in binary frames.
pub const PLAIN: [&str; 1] = ["plain.kubevirt.io"];
/// Largest frame and message that is read, in bytes: tungstenite reads one whole before it hands it on.
const MOST_FRAME: usize = 1 << 20;

/// A connection whose frames can be read.
pub type Socket = WebSocketStream<TokioIo<Upgraded>>;

/// A request that is fit to be upgraded.
pub struct Handshake {
    accept: String,
    protocol: Option<&'static str>,
}

impl Handshake {
    /// Checks it, and picks the first of `protocols` that it offers.
    pub fn of<B>(request: &Request<B>, protocols: &[&'static str]) -> Result<Self, Refusal> {
        let headers = request.headers();
        let bad = |text: &str| Refusal::new(StatusCode::BAD_REQUEST, text);
        if !names(headers, &UPGRADE, "websocket") || !names(headers, &CONNECTION, "upgrade") {
            return Err(bad("this is a stream: ask for it as a WebSocket"));
        }
        if !names(headers, &SEC_WEBSOCKET_VERSION, "13") {
            return Err(bad("only version 13 of WebSocket is known"));
        }
        let key = headers.get(SEC_WEBSOCKET_KEY).ok_or_else(|| bad("Sec-WebSocket-Key is missing"))?;
        Ok(Self {
            accept: derive_accept_key(key.as_bytes()),
            protocol: protocols
                .iter()
                .find(|protocol| names(headers, &SEC_WEBSOCKET_PROTOCOL, protocol))
                .copied(),
        })
    }

    /// The subprotocol that was picked.
    pub fn protocol(&self) -> Option<&'static str> {
        self.protocol
    }

    /// Upgrades, and runs `then` with the socket.
    pub fn accept<F: Future<Output = ()> + Send + 'static>(
        self,
        request: Request<Received>,
        then: impl FnOnce(Socket) -> F + Send + 'static,
    ) -> Answer {
        let upgrade = hyper::upgrade::on(request);
        tokio::spawn(async move {
            // A client that went away meanwhile.
            let Ok(upgraded) = upgrade.await else { return };
            let config = WebSocketConfig::default()
                .max_message_size(Some(MOST_FRAME))
                .max_frame_size(Some(MOST_FRAME))
                .read_buffer_size(16 << 10)
                .write_buffer_size(0);
            let io = TokioIo::new(upgraded);
            then(WebSocketStream::from_raw_socket(io, Role::Server, Some(config)).await).await;
        });
        let mut response = answer::text(StatusCode::SWITCHING_PROTOCOLS, "");
        let headers = response.headers_mut();
        headers.clear();
        headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
        headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
        if let Ok(accept) = HeaderValue::from_str(&self.accept) {
            headers.insert(SEC_WEBSOCKET_ACCEPT, accept);
        }
        if let Some(protocol) = self.protocol {
            headers.insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(protocol));
        }
        response
    }
}

/// Whether a header, a list by commas, names `value`.
fn names(headers: &HeaderMap, header: &http::HeaderName, value: &str) -> bool {
    headers
        .get_all(header)
        .iter()
        .filter_map(|text| text.to_str().ok())
        .flat_map(|text| text.split(','))
        .any(|word| word.trim().eq_ignore_ascii_case(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(headers: &[(&str, &str)]) -> Result<Handshake, Refusal> {
        let mut request = Request::get("/vms/u/console");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        Handshake::of(&request.body(()).unwrap(), &PLAIN)
    }

    const WHOLE: [(&str, &str); 4] = [
        ("connection", "keep-alive, Upgrade"),
        ("upgrade", "websocket"),
        ("sec-websocket-version", "13"),
        ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ];

    #[test]
    fn the_key_of_rfc_6455_is_answered_as_it_says_and_the_protocol_is_picked_among_several() {
        let plain =
            of(&[&WHOLE[..], &[("sec-websocket-protocol", "v5.channel.k8s.io, plain.kubevirt.io")]].concat())
                .unwrap();
        assert_eq!(plain.accept, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        assert_eq!(plain.protocol(), Some("plain.kubevirt.io"));
        assert_eq!(of(&WHOLE).unwrap().protocol(), None);
    }

    #[test]
    fn a_request_that_is_no_handshake_is_a_bad_one() {
        for missing in 0..WHOLE.len() {
            let mut headers = WHOLE.to_vec();
            headers.remove(missing);
            assert_eq!(of(&headers).err().map(|refusal| refusal.0.as_u16()), Some(400), "{missing}");
        }
    }
}
