//! `kubectl port-forward`: ports of a VM by pairs of streams, all in one WebSocket.
//!
//! Why here: the contract of a kubelet. A client opens a stream for errors and one for data with the same `requestID`; the
//! node connects to the port, copies, and says on the stream for errors why it could not (client-go,
//! `tools/portforward`). There is no flow control: a guest that reads slowly holds up the other connections of its tunnel.
//! Route in: a WebSocket with the subprotocol, how a port is connected to. Route out: connections, until the client is gone.

use super::pump::{self, End};
use super::spdy::{self, Frame, Headers, Inflater, SpdyError};
use crate::channels::Shutdown;
use bytes::{Bytes, BytesMut};
use futures::{SinkExt as _, StreamExt as _};
use std::collections::BTreeMap;
use std::future::Future;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;

/// The subprotocol.
pub const PROTOCOLS: [&str; 1] = ["SPDY/3.1+portforward.k8s.io"];
/// A client that does not speak it.
pub const PLAIN_SPDY: &str = "this node forwards ports over WebSockets alone: use kubectl 1.31 or later, without \
                              KUBECTL_PORT_FORWARD_WEBSOCKETS=false";
/// Most connections of one tunnel.
const MOST: usize = 128;
/// Blocks that wait in each direction of a connection.
const WAITING: usize = 4;
/// Bytes read of a guest at once.
const BLOCK: usize = 16 << 10;

/// Forwards until the client ends or is gone; `connect` opens a port, or says why not.
pub async fn run<S, C, F, T>(socket: WebSocketStream<S>, connect: C, shutdown: Shutdown)
where
    S: AsyncRead + AsyncWrite + Unpin,
    C: Fn(u16) -> F,
    F: Future<Output = Result<T, String>> + Send + 'static,
    T: AsyncRead + AsyncWrite + Send + 'static,
{
    let (mut sink, mut source) = socket.split();
    let (out, mut frames) = mpsc::channel::<Bytes>(WAITING);
    let outgoing = async {
        let mut ping = pump::pings();
        loop {
            let message = tokio::select! {
                frame = frames.recv() => match frame {
                    Some(frame) => Message::Binary(frame),
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
        let mut tunnel = Tunnel::new(out, connect);
        let mut buffer = BytesMut::new();
        while let Some(block) = pump::next(&mut source).await {
            buffer.extend_from_slice(&block);
            loop {
                match spdy::take(&mut buffer) {
                    Ok(None) => break,
                    Ok(Some(frame)) => match tunnel.take(frame).await {
                        Ok(true) => {}
                        Ok(false) => return End::Peer,
                        Err(error) => return broken(&error),
                    },
                    Err(error) => return broken(&error),
                }
            }
        }
        End::Peer
    };
    let end = pump::first(outgoing, incoming, None, shutdown).await;
    pump::close(&mut sink, end).await;
}

fn broken(error: &SpdyError) -> End {
    tracing::warn!("a client that forwards ports: {error}");
    End::Peer
}

/// Streams of a request so far.
#[derive(Default)]
struct Request {
    errors: Option<u32>,
    data: Option<u32>,
}

/// One client.
struct Tunnel<C> {
    out: mpsc::Sender<Bytes>,
    connect: C,
    inflater: Inflater,
    has_replied: bool,
    requests: BTreeMap<String, Request>,
    /// What the client sends, by its stream; without one that ended.
    inputs: BTreeMap<u32, mpsc::Sender<Bytes>>,
    /// Connections. They end with their tunnel.
    connections: JoinSet<()>,
}

impl<C, F, T> Tunnel<C>
where
    C: Fn(u16) -> F,
    F: Future<Output = Result<T, String>> + Send + 'static,
    T: AsyncRead + AsyncWrite + Send + 'static,
{
    fn new(out: mpsc::Sender<Bytes>, connect: C) -> Self {
        Self {
            out,
            connect,
            inflater: Inflater::default(),
            has_replied: false,
            requests: BTreeMap::new(),
            inputs: BTreeMap::new(),
            connections: JoinSet::new(),
        }
    }

    /// Takes a frame; false when the client is done.
    async fn take(&mut self, frame: Frame) -> Result<bool, SpdyError> {
        while self.connections.try_join_next().is_some() {}
        self.inputs.retain(|_, input| !input.is_closed());
        match frame {
            Frame::Open { stream, headers } => {
                let headers = self.inflater.headers(&headers)?;
                self.open(stream, &headers).await;
            }
            Frame::Data { stream, bytes, is_last } => {
                if let Some(input) = self.inputs.get(&stream)
                    && !bytes.is_empty()
                {
                    // A connection that is over has said so on its own.
                    let _ = input.send(bytes).await;
                }
                if is_last {
                    self.inputs.remove(&stream);
                }
            }
            Frame::Reset { stream } => drop(self.inputs.remove(&stream)),
            Frame::Ping { id } => self.send(spdy::pong(id)).await,
            Frame::GoAway => return Ok(false),
            Frame::Other => {}
        }
        Ok(true)
    }

    async fn send(&self, frame: Bytes) {
        // Without a reader the socket is gone, and so is this.
        let _ = self.out.send(frame).await;
    }

    async fn open(&mut self, stream: u32, headers: &Headers) {
        let (port, request) = match read(headers) {
            Some(read) if self.requests.len() < MOST && self.connections.len() < MOST => read,
            Some(_) => return self.send(spdy::reset(stream, spdy::REFUSED_STREAM)).await,
            None => return self.send(spdy::reset(stream, spdy::PROTOCOL_ERROR)).await,
        };
        let of_request = self.requests.entry(request.to_owned()).or_default();
        let place = match headers.get("streamtype").map(String::as_str) {
            Some("error") => &mut of_request.errors,
            _ => &mut of_request.data,
        };
        if place.replace(stream).is_some() {
            return self.send(spdy::reset(stream, spdy::PROTOCOL_ERROR)).await;
        }
        let both = of_request.errors.zip(of_request.data);
        if let Some((errors, data)) = both {
            // What is sent before the reply is taken, too.
            let (input, typed) = mpsc::channel(WAITING);
            self.inputs.insert(data, input);
            self.requests.remove(request);
            let streams = Streams { errors, data, out: self.out.clone() };
            self.connections.spawn(forward(streams, typed, (self.connect)(port)));
        }
        let reply = spdy::reply(stream, &spdy::empty(!self.has_replied));
        self.has_replied = true;
        self.send(reply).await;
    }
}

/// Port and number of the request of a stream.
fn read(headers: &Headers) -> Option<(u16, &str)> {
    let kind = headers.get("streamtype")?;
    let port = headers.get("port")?.parse().ok().filter(|port| *port != 0)?;
    matches!(kind.as_str(), "error" | "data").then_some((port, headers.get("requestid")?))
}

/// Where a connection sends.
struct Streams {
    errors: u32,
    data: u32,
    out: mpsc::Sender<Bytes>,
}

/// Connects, and copies until the guest ends.
async fn forward<T: AsyncRead + AsyncWrite>(
    streams: Streams,
    mut typed: mpsc::Receiver<Bytes>,
    connecting: impl Future<Output = Result<T, String>>,
) {
    let Streams { errors, data, out } = streams;
    let mut why = String::new();
    match connecting.await {
        Err(error) => why = error,
        Ok(guest) => {
            let (mut read, mut write) = tokio::io::split(guest);
            let to_guest = async {
                while let Some(block) = typed.recv().await {
                    if write.write_all(&block).await.is_err() {
                        break;
                    }
                }
                // The guest may still answer.
                let _ = write.shutdown().await;
                std::future::pending::<()>().await;
            };
            let from_guest = async {
                let mut block = vec![0; BLOCK];
                while let Ok(length @ 1..) = read.read(&mut block).await {
                    let frame = spdy::data(data, block.get(..length).unwrap_or_default(), false);
                    if out.send(frame).await.is_err() {
                        return;
                    }
                }
            };
            tokio::select! {
                () = to_guest => {}
                () = from_guest => {}
            }
        }
    }
    for last in [spdy::data(data, b"", true), spdy::data(errors, why.as_bytes(), true)] {
        let _ = out.send(last).await;
    }
}

#[cfg(test)]
mod tests;
