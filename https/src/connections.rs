//! Accepts connections.
//!
//! Why here: bounded in number, also of one address, in the time of the handshake and of a request's head: who reaches the port
//! reaches this before he is known, and somebody who opens connections and is silent keeps nobody out for long. That no
//! descriptor is free ends nothing either. Route in: TCP. Route out: requests with their [`Peer`].

use crate::places::Places;
use crate::received::Received;
use http_body::Body;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;

/// Longest handshake.
const HANDSHAKE_TIME: Duration = Duration::from_secs(10);
/// Before accepting is tried again: file descriptors are used up, and come back.
const RETRY: Duration = Duration::from_millis(200);

/// What is let in.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Most connections at once, streams included; each takes some 50 KiB. Further ones wait.
    pub connections: usize,
    /// Most of one address; further ones are closed.
    pub of_one_address: usize,
    /// Longest time for the head of a request; also how long an idle connection is kept.
    pub head: Duration,
}

/// Who sent a request.
#[derive(Clone, Debug)]
pub struct Peer {
    /// Where it came from; of IPv4 also where the listener is of IPv6.
    pub address: IpAddr,
    /// Its certificate in DER, verified; none if it presented none.
    pub certificate: Option<Arc<[u8]>>,
}

/// Serves `listener` until dropped. `open` is asked at every connection by what TLS it is accepted and what answers its requests,
/// so that a certificate that was renewed counts from the next connection on.
pub async fn serve<S, F, B>(
    listener: &TcpListener,
    limits: Limits,
    mut open: impl FnMut() -> (TlsAcceptor, S),
) -> Infallible
where
    S: Fn(Peer, Request<Received>) -> F + Send + 'static,
    F: Future<Output = Result<Response<B>, Infallible>> + Send + 'static,
    B: Body<Data: Send, Error: Into<Box<dyn std::error::Error + Send + Sync>>> + Send + 'static,
{
    let places = Arc::new(Semaphore::new(limits.connections));
    let addresses = Places::new(limits.connections, limits.of_one_address);
    loop {
        let Ok(place) = places.clone().acquire_owned().await else {
            unreachable!("this semaphore is never closed")
        };
        let (stream, address) = match listener.accept().await {
            Ok((stream, peer)) => (stream, peer.ip().to_canonical()),
            Err(error) => {
                tracing::warn!("accepting a connection: {error}");
                tokio::time::sleep(RETRY).await; // until a descriptor may be free
                continue;
            }
        };
        let Ok(of_address) = addresses.take(address) else { continue };
        let (tls, answer) = open();
        tokio::spawn(async move {
            // Freed in this order: while there is a place, its address is not counted as having it.
            let _held = (of_address, place);
            // Frames of a console are small; waiting for more of them would be felt.
            let _ = stream.set_nodelay(true);
            // Whoever does not speak TLS, or has a certificate of another CA, is not served.
            let Ok(Ok(stream)) = tokio::time::timeout(HANDSHAKE_TIME, tls.accept(stream)).await else {
                return;
            };
            let chain = stream.get_ref().1.peer_certificates();
            let certificate = chain.and_then(|chain| Some(Arc::from(chain.first()?.as_ref())));
            let peer = Peer { address, certificate };
            talk(stream, limits.head, peer, answer).await;
        });
    }
}

/// Answers the requests of one connection until it ends. `head` is [`Limits::head`].
pub async fn talk<T, S, F, B>(stream: T, head: Duration, peer: Peer, answer: S)
where
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    S: Fn(Peer, Request<Received>) -> F,
    F: Future<Output = Result<Response<B>, Infallible>>,
    B: Body<Error: Into<Box<dyn std::error::Error + Send + Sync>>> + 'static,
{
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(head)
        .serve_connection(
            TokioIo::new(stream),
            service_fn(move |request: Request<Incoming>| answer(peer.clone(), request.map(Received::new))),
        )
        .with_upgrades();
    // An end in between is the client's: it asks again.
    let _ = connection.await;
}
