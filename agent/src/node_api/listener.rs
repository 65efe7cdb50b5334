//! Serves the node's port.
//!
//! Why here: a client certificate is asked for and, when there is one, verified against the cluster's CA; without one a token
//! must follow. A renewed serving certificate takes effect for the next connection. Route in: TCP, certificates of the
//! [`Store`]. Route out: requests with the peer's certificate.

use super::serve::{self, State};
use crate::cluster::identity::{Identity, SERVING, Store};
use sheaf_host::libvirt::VmHost;
use sheaf_https::{AcceptorError, Limits, Peer, acceptor};
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;

const LIMITS: Limits = Limits {
    connections: 256,
    // An API server opens one for each stream. Places for the others are left.
    of_one_address: 192,
    head: Duration::from_secs(60),
};
/// Between two looks for a renewed certificate.
const RELOAD: Duration = Duration::from_secs(15);

/// Serves until dropped; fails if the first certificates cannot be used.
pub async fn serve<V: VmHost>(
    listener: TcpListener,
    store: &Store,
    first: (Identity, String),
    state: Arc<State<V>>,
) -> Result<Infallible, AcceptorError> {
    let tls = watch::Sender::new(made(&first)?);
    let open = || {
        let state = state.clone();
        let answer = move |peer: Peer, request| serve::serve(state.clone(), peer.certificate, request);
        (tls.borrow().clone(), answer)
    };
    tokio::select! {
        never = sheaf_https::serve(&listener, LIMITS, open) => Ok(never),
        never = renew(store, first, &tls) => Ok(never),
    }
}

/// Takes certificates that were renewed.
async fn renew(store: &Store, mut used: (Identity, String), tls: &watch::Sender<TlsAcceptor>) -> Infallible {
    let mut reload = tokio::time::interval(RELOAD);
    loop {
        reload.tick().await;
        let now = store.load(SERVING).zip(store.ca());
        let is_new = |now: &(Identity, String)| now.0.certificate != used.0.certificate || now.1 != used.1;
        let Some(now) = now.filter(is_new) else { continue };
        match made(&now) {
            Ok(renewed) => {
                tls.send_replace(renewed);
                used = now;
            }
            Err(error) => tracing::error!("the renewed serving certificate cannot be used: {error}"),
        }
    }
}

fn made((identity, ca): &(Identity, String)) -> Result<TlsAcceptor, AcceptorError> {
    acceptor(identity.certificate.as_bytes(), identity.key.as_bytes(), Some(ca.as_bytes()))
}
