//! Serves kube-apiserver, and those who download exports.
//!
//! Why here: a client certificate is asked for and verified against the request-header CA; a connection without one is served,
//! and answered 401 by [`super::serve`], so that `/healthz` can be asked and exports can be downloaded by their tokens.
//! Route in: TCP, the request-header CA as it changes. Route out: requests with the peer's certificate.

use std::{convert::Infallible, sync::Arc, time::Duration};

use sheaf_https::{AcceptorError, Limits, Peer, acceptor};
use tokio::{net::TcpListener, sync::watch};
use tokio_rustls::TlsAcceptor;

use super::{Certificates, identity::Front, serve};

const LIMITS: Limits = Limits {
    // kube-apiserver opens one a stream.
    connections: 2048,
    // Places for API servers of other nodes are left.
    of_one_address: 1536,
    head: Duration::from_secs(90),
};

/// Serves `listener` until dropped, once the request-header CA is known; fails if the first certificates cannot be used.
pub async fn serve(
    listener: TcpListener,
    certificates: &Certificates,
    mut front: watch::Receiver<Option<Arc<Front>>>,
    state: Arc<serve::State>,
) -> Result<Infallible, AcceptorError> {
    // Without it nobody can be told apart.
    let Ok(Some(mut current)) = front.wait_for(Option::is_some).await.map(|front| front.clone()) else {
        return std::future::pending().await;
    };
    let mut tls = made(certificates, &current)?;
    let open = || {
        let now = front.borrow_and_update().clone();
        if let Some(now) = now.filter(|now| !Arc::ptr_eq(now, &current)) {
            match made(certificates, &now) {
                Ok(new) => (tls, current) = (new, now),
                Err(error) => {
                    tracing::error!("subresources.kubevirt.io: {error}; the former CA stays trusted");
                }
            }
        }
        let (front, state) = (current.clone(), state.clone());
        let answer =
            move |peer: Peer, request| serve::serve(state.clone(), front.clone(), peer.certificate, request);
        (tls.clone(), answer)
    };
    Ok(sheaf_https::serve(&listener, LIMITS, open).await)
}

fn made(certificates: &Certificates, front: &Front) -> Result<TlsAcceptor, AcceptorError> {
    let (certificate, key) = &certificates.serving;
    acceptor(certificate.as_bytes(), key.as_bytes(), Some(front.authority.as_bytes()))
}
