//! Copies between a WebSocket and what it is connected to.
//!
//! Why here: the same for serial port, display and forwarded ports. One block in each direction is in memory: a slow reader
//! slows the writer. A peer that is gone without a word is found by pings; one whose session somebody else took is cut off
//! without a closing frame, which virtctl reports as "another user connected". Route in: both ends. Route out: why it ended.

use super::sessions::Session;
use crate::channels::Shutdown;
use bytes::Bytes;
use futures::stream::{SplitSink, SplitStream};
use futures::{SinkExt as _, StreamExt as _};
use std::future::Future;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::UdpSocket;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::{Message, protocol::CloseFrame};

/// Between two pings: load balancers cut what is idle for 20 s and more (kubevirt/kubevirt#6493).
const PING: Duration = Duration::from_secs(10);
/// A peer from which nothing came for this long, no pong either, is gone.
const SILENCE: Duration = Duration::from_secs(45);
/// Bytes of a block.
const BLOCK: usize = 16 << 10;
/// Longest datagram.
const DATAGRAM: usize = 64 << 10;
/// Longest wait for the closing frame to be sent.
const CLOSE_TIME: Duration = Duration::from_secs(2);

/// Why it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The peer closed, or is gone.
    Peer,
    /// What it was connected to ended: the VM, or a connection to it.
    Source,
    /// Somebody else took the session.
    Displaced,
    /// The agent ends.
    Shutdown,
}

/// Something that gives one block after another until its end.
pub trait Blocks: Send {
    /// The next one. Dropped before its end, it loses nothing.
    fn next(&mut self) -> impl Future<Output = Option<Bytes>> + Send;
}

/// The blocks of a connection.
pub struct Reading<R> {
    read: R,
    block: Vec<u8>,
}

impl<R> Reading<R> {
    /// Of `read`.
    pub fn of(read: R) -> Self {
        Self { read, block: vec![0; BLOCK] }
    }
}

impl<R: AsyncRead + Unpin + Send> Blocks for Reading<R> {
    async fn next(&mut self) -> Option<Bytes> {
        match self.read.read(&mut self.block).await {
            Ok(0) | Err(_) => None,
            Ok(length) => self.block.get(..length).map(Bytes::copy_from_slice),
        }
    }
}

impl Blocks for tokio::sync::mpsc::Receiver<Bytes> {
    async fn next(&mut self) -> Option<Bytes> {
        self.recv().await
    }
}

/// Copies bytes.
pub async fn bytes<S: AsyncRead + AsyncWrite + Unpin>(
    socket: WebSocketStream<S>,
    read: impl AsyncRead + Unpin + Send,
    mut write: impl AsyncWrite + Unpin,
    session: Option<&Session>,
    shutdown: Shutdown,
) -> End {
    let (mut sink, mut source) = socket.split();
    let outgoing = async {
        let mut blocks = Reading::of(read);
        let mut ping = pings();
        loop {
            let message = tokio::select! {
                block = blocks.next() => match block {
                    Some(block) => Message::Binary(block),
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
        while let Some(block) = next(&mut source).await {
            if write.write_all(&block).await.is_err() {
                return End::Source;
            }
        }
        End::Peer
    };
    let end = first(outgoing, incoming, session, shutdown).await;
    close(&mut sink, end).await;
    end
}

/// Copies datagrams, one a frame.
pub async fn datagrams<S: AsyncRead + AsyncWrite + Unpin>(
    socket: WebSocketStream<S>,
    datagrams: UdpSocket,
    shutdown: Shutdown,
) {
    let (mut sink, mut source) = socket.split();
    let outgoing = async {
        let mut block = vec![0; DATAGRAM];
        let mut ping = pings();
        loop {
            let message = tokio::select! {
                // A port that nobody listens at is an error of one datagram, not of the connection.
                received = datagrams.recv(&mut block) => match received {
                    Ok(length) => Message::Binary(Bytes::copy_from_slice(block.get(..length).unwrap_or_default())),
                    Err(_) => continue,
                },
                _ = ping.tick() => Message::Ping(Bytes::new()),
            };
            if sink.send(message).await.is_err() {
                return End::Peer;
            }
        }
    };
    let incoming = async {
        while let Some(block) = next(&mut source).await {
            // Lost, as datagrams may be.
            let _ = datagrams.send(&block).await;
        }
        End::Peer
    };
    let end = first(outgoing, incoming, None, shutdown).await;
    close(&mut sink, end).await;
}

/// When to ping.
pub fn pings() -> tokio::time::Interval {
    let mut pings = tokio::time::interval_at(tokio::time::Instant::now() + PING, PING);
    pings.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    pings
}

/// The next bytes of the peer; `None` when it closed or is gone.
pub async fn next<S: AsyncRead + AsyncWrite + Unpin>(
    source: &mut SplitStream<WebSocketStream<S>>,
) -> Option<Bytes> {
    loop {
        match tokio::time::timeout(SILENCE, source.next()).await.ok()??.ok()? {
            Message::Binary(block) => return Some(block),
            Message::Text(text) => return Some(text.into()),
            Message::Close(_) => return None,
            Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => {}
        }
    }
}

/// The first of these ends.
pub async fn first(
    outgoing: impl Future<Output = End>,
    incoming: impl Future<Output = End>,
    session: Option<&Session>,
    mut shutdown: Shutdown,
) -> End {
    let displaced = async {
        match session {
            Some(session) => session.displaced().await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        end = outgoing => end,
        end = incoming => end,
        () = displaced => End::Displaced,
        () = shutdown.requested() => End::Shutdown,
    }
}

/// Says why it ends, unless somebody else took the session: that is a connection that breaks.
pub async fn close<S: AsyncRead + AsyncWrite + Unpin>(
    sink: &mut SplitSink<WebSocketStream<S>, Message>,
    end: End,
) {
    if end != End::Displaced {
        // A peer that is gone takes no frame.
        let _ = tokio::time::timeout(CLOSE_TIME, sink.send(closing(end))).await;
    }
}

/// The closing frame.
pub fn closing(end: End) -> Message {
    let frame = match end {
        End::Shutdown => CloseFrame { code: CloseCode::Away, reason: "the node's agent is restarted".into() },
        _ => CloseFrame { code: CloseCode::Normal, reason: "".into() },
    };
    Message::Close(Some(frame))
}
