//! Serves browsers.
//!
//! Why here: how much of the port one address may have. Route in: TCP. Route out: requests with the browser's address.

use std::{convert::Infallible, sync::Arc, time::Duration};

use sheaf_https::{Limits, Peer};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use crate::serve::{self, State};

const LIMITS: Limits = Limits {
    // A browser opens six.
    connections: 1024,
    // People behind one router.
    of_one_address: 128,
    head: Duration::from_secs(60),
};

/// Serves `listener` until dropped.
pub async fn serve(listener: TcpListener, tls: TlsAcceptor, state: Arc<State>) -> Infallible {
    let open = || {
        let state = state.clone();
        let answer = move |peer: Peer, request| serve::serve(state.clone(), peer.address, request);
        (tls.clone(), answer)
    };
    sheaf_https::serve(&listener, LIMITS, open).await
}
