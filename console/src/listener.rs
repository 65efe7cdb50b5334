//! Accepts TLS connections.
//!
//! Why here: bounded in number, also of one address, in the time of the handshake and of a request's head, so that somebody who
//! opens connections and is silent keeps nobody out for long. Route in: TCP. Route out: requests with the browser's address.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use hyper::{server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpListener,
    sync::Semaphore,
};
use tokio_rustls::TlsAcceptor;

use crate::serve::{self, State};

/// Most connections at once: a browser opens six.
const CONNECTIONS: usize = 1024;
/// Of one address: people behind one router.
const OF_ONE: usize = 128;
/// Longest handshake.
const HANDSHAKE_TIME: Duration = Duration::from_secs(10);
/// Longest time for the head of a request; also how long an idle connection is kept.
const HEAD_TIME: Duration = Duration::from_secs(60);
/// Before accepting is tried again: file descriptors are used up, and come back.
const RETRY: Duration = Duration::from_millis(200);

/// Connections by address.
#[derive(Clone, Default)]
struct Counts(Arc<Mutex<HashMap<IpAddr, usize>>>);

/// One of them; dropped, it is not counted any more.
struct Counted(Counts, IpAddr);

impl Counts {
    /// Counts one more, unless there are too many.
    fn add(&self, address: IpAddr) -> Option<Counted> {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.entry(address).or_insert(0);
        if *count >= OF_ONE {
            return None;
        }
        *count += 1;
        Some(Counted(self.clone(), address))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        let Self(counts, address) = self;
        let mut counts = counts.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = counts.get_mut(address) {
            *count -= 1;
            if *count == 0 {
                counts.remove(address);
            }
        }
    }
}

/// Serves `listener` until dropped.
pub async fn serve(listener: TcpListener, tls: TlsAcceptor, state: Arc<State>) {
    let (places, counts) = (Arc::new(Semaphore::new(CONNECTIONS)), Counts::default());
    loop {
        let Ok(place) = places.clone().acquire_owned().await else { return };
        let (stream, address) = match listener.accept().await {
            Ok((stream, peer)) => (stream, peer.ip().to_canonical()),
            Err(error) => {
                tracing::warn!("accepting a connection: {error}");
                tokio::time::sleep(RETRY).await; // until a descriptor may be free
                continue;
            }
        };
        // Too many of one: closed without an answer.
        let Some(counted) = counts.add(address) else { continue };
        let (tls, state) = (tls.clone(), state.clone());
        tokio::spawn(async move {
            let _held = (place, counted);
            let Ok(Ok(stream)) = tokio::time::timeout(HANDSHAKE_TIME, tls.accept(stream)).await else {
                return;
            };
            talk(stream, address, state).await;
        });
    }
}

/// Serves one connection until it ends.
async fn talk<S>(stream: S, address: IpAddr, state: Arc<State>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = service_fn(move |request| serve::serve(state.clone(), address, request));
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIME)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    // An end in between is the browser's: it asks again.
    let _ = connection.await;
}

#[cfg(test)]
mod wire;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_address_has_a_part_of_the_connections_and_gets_them_back() {
        let counts = Counts::default();
        let (here, there) = (IpAddr::from([192, 0, 2, 1]), IpAddr::from([192, 0, 2, 2]));
        let mut held: Vec<_> = (0..OF_ONE).map(|_| counts.add(here).unwrap()).collect();
        assert!(counts.add(here).is_none());
        assert!(counts.add(there).is_some());
        held.pop();
        assert!(counts.add(here).is_some());
        drop(held);
        assert!(counts.0.lock().unwrap().is_empty());
    }
}
