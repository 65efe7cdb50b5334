//! `attach` and `exec`: the channels of `v5.channel.k8s.io` over a WebSocket.
//!
//! Why here: what kubectl speaks since 1.31. Each message begins with a byte that names its channel; the last one on the
//! error channel is a Status that says how it ended (k8s.io/streaming, `pkg/httpstream/wsstream`; client-go,
//! `tools/remotecommand`). Earlier clients speak SPDY, which nobody here does; they are told so. Route in: a WebSocket, what is
//! written to it, where its input goes. Route out: a Status, and the end.

use super::pump::{self, Blocks, End};
use super::sessions::Session;
use super::websocket::Socket;
use crate::channels::Shutdown;
use bytes::{BufMut as _, Bytes, BytesMut};
use futures::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio::io::{AsyncWrite, AsyncWriteExt as _};
use tokio_tungstenite::tungstenite::Message;

/// Subprotocols that are spoken, the preferred one first. The fourth has no message that ends the input.
pub const PROTOCOLS: [&str; 2] = ["v5.channel.k8s.io", "v4.channel.k8s.io"];

const STDIN: u8 = 0;
const STDOUT: u8 = 1;
const STDERR: u8 = 2;
const ERROR: u8 = 3;

/// A client that asks for more than SPDY can be given.
pub const SPDY: &str = "this node speaks WebSockets alone: use kubectl 1.31 or later, without KUBECTL_REMOTE_COMMAND_WEBSOCKETS=false";

fn framed(channel: u8, bytes: &[u8]) -> Message {
    let mut message = BytesMut::with_capacity(bytes.len() + 1);
    message.put_u8(channel);
    message.put_slice(bytes);
    Message::Binary(message.freeze())
}

/// How an exec ended, as a kubelet says it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ended {
    /// With exit code 0, or the end of what was attached to.
    Well,
    /// With another one.
    ExitCode(i32),
    /// Not by itself, for this reason.
    Broken(String),
}

impl Ended {
    fn status(&self) -> Value {
        let failure = |message: &str| json!({"metadata": {}, "status": "Failure", "message": message});
        match self {
            Self::Well => json!({"metadata": {}, "status": "Success"}),
            Self::ExitCode(code) => {
                let mut status = failure(&format!("command terminated with non-zero exit code: {code}"));
                let causes = json!([{"reason": "ExitCode", "message": code.to_string()}]);
                if let Some(fields) = status.as_object_mut() {
                    fields.insert("reason".into(), json!("NonZeroExitCode"));
                    fields.insert("details".into(), json!({"causes": causes}));
                }
                status
            }
            Self::Broken(why) => {
                let mut status = failure(why);
                if let Some(fields) = status.as_object_mut() {
                    fields.insert("reason".into(), json!("InternalError"));
                }
                status
            }
        }
    }
}

/// Sends what `output` gives to the client and what the client types to `input`, until either side ends.
pub async fn attach(
    socket: Socket,
    mut output: impl Blocks,
    mut input: impl AsyncWrite + Unpin,
    session: Option<&Session>,
    shutdown: Shutdown,
) {
    let (mut sink, mut source) = socket.split();
    let outgoing = async {
        // Says that the connection stands.
        if sink.send(framed(STDOUT, &[])).await.is_err() {
            return End::Peer;
        }
        let mut ping = pump::pings();
        loop {
            let message = tokio::select! {
                block = output.next() => match block {
                    Some(block) => framed(STDOUT, &block),
                    None => return End::Source,
                },
                _ = ping.tick() => Message::Ping(Bytes::new()),
            };
            if sink.send(message).await.is_err() {
                return End::Peer;
            }
        }
    };
    let incoming = async {
        while let Some(block) = pump::next(&mut source).await {
            // The size of a terminal and the end of the input mean nothing to a serial port.
            if let Some((&STDIN, typed)) = block.split_first()
                && input.write_all(typed).await.is_err()
            {
                return End::Source;
            }
        }
        End::Peer
    };
    let end = pump::first(outgoing, incoming, session, shutdown).await;
    let ended = match end {
        End::Displaced => Some(Ended::Broken("another user connected to the serial console".into())),
        End::Shutdown => Some(Ended::Broken("the node's agent is restarted; attach again".into())),
        End::Source => Some(Ended::Well),
        End::Peer => None,
    };
    if let Some(ended) = ended {
        let _ = sink.send(framed(ERROR, ended.status().to_string().as_bytes())).await;
    }
    pump::close(&mut sink, if end == End::Displaced { End::Source } else { end }).await;
}

/// Answers an exec whose work is done: what it printed, and how it ended.
pub async fn done(mut socket: Socket, printed: &str, ended: &Ended) {
    let channel = if *ended == Ended::Well { STDOUT } else { STDERR };
    let messages = [
        framed(STDOUT, &[]),
        framed(channel, printed.as_bytes()),
        framed(ERROR, ended.status().to_string().as_bytes()),
        pump::closing(End::Source),
    ];
    for message in messages {
        // A client that is gone reads nothing.
        if socket.send(message).await.is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_message_says_how_it_ended_as_client_go_reads_it() {
        assert_eq!(Ended::Well.status(), json!({"metadata": {}, "status": "Success"}));
        let failed = Ended::ExitCode(3).status();
        assert_eq!(failed["reason"], "NonZeroExitCode");
        assert_eq!(failed["details"]["causes"], json!([{"reason": "ExitCode", "message": "3"}]));
        assert_eq!(framed(ERROR, b"x"), Message::Binary(Bytes::from_static(b"\x03x")));
    }
}
