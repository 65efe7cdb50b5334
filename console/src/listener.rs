//! Serves browsers.
//!
//! Why here: how much of the port one address may have. Route in: TCP. Route out: requests with the browser's address.

use std::{convert::Infallible, sync::Arc, time::Duration};

use futures::future::BoxFuture;
use http::{Request, Response};
use sheaf_https::{Limits, Peer, Received};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use crate::{
    answer,
    serve::{self, State},
};

const LIMITS: Limits = Limits {
    // A browser opens six.
    connections: 1024,
    // People behind one router.
    of_one_address: 128,
    head: Duration::from_secs(60),
};

/// Serves `listener` until dropped.
pub async fn serve(listener: TcpListener, tls: TlsAcceptor, state: Arc<State>) -> Infallible {
    sheaf_https::serve(&listener, LIMITS, || (tls.clone(), answers(state.clone()))).await
}

/// What answers the requests of one connection.
fn answers(
    state: Arc<State>,
) -> impl Fn(Peer, Request<Received>) -> BoxFuture<'static, Result<Response<answer::Body>, Infallible>> {
    move |peer, request| Box::pin(serve::serve(state.clone(), peer.address, request))
}

#[cfg(test)]
mod wire;
