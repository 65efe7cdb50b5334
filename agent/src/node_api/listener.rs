//! Accepts TLS connections at the node's port.
//!
//! Why here: the only place of this room that knows TLS. A client certificate is asked for and, when there is one, verified
//! against the cluster's CA; without one a token must follow. A renewed serving certificate takes effect for the next
//! connection. Bounded in number, in the time of the handshake and of a request's head: who reaches the node's address
//! reaches this, before he is known. Route in: TCP. Route out: requests with the peer's certificate.

use super::serve::{self, State};
use crate::cluster::identity::{Identity, SERVING, Store};
use anyhow::Context as _;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use sheaf_host::libvirt::VmHost;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;

/// Most connections at once, streams included: each takes some 50 KiB.
const CONNECTIONS: usize = 256;
/// Longest handshake.
const HANDSHAKE_TIME: Duration = Duration::from_secs(10);
/// Longest time for the head of a request; also how long an idle connection is kept.
const HEAD_TIME: Duration = Duration::from_secs(60);
/// Between two looks for a renewed certificate.
const RELOAD: Duration = Duration::from_secs(15);

/// Serves until accepting fails; the error says why.
pub async fn serve<V: VmHost>(
    listener: TcpListener,
    store: &Store,
    first: (Identity, String),
    state: Arc<State<V>>,
) -> anyhow::Error {
    let mut used = first;
    let mut acceptor = match acceptor(&used.0, &used.1) {
        Ok(acceptor) => acceptor,
        Err(error) => return error,
    };
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    let mut reload = tokio::time::interval(RELOAD);
    loop {
        let accepted = tokio::select! {
            accepted = accept(&listener, &places) => accepted,
            _ = reload.tick() => {
                let now = store.load(SERVING).zip(store.ca());
                let is_new = |now: &(Identity, String)| now.0.certificate != used.0.certificate || now.1 != used.1;
                if let Some(now) = now.filter(is_new) {
                    match self::acceptor(&now.0, &now.1) {
                        Ok(renewed) => (acceptor, used) = (renewed, now),
                        Err(error) => tracing::error!("the renewed serving certificate cannot be used: {error:#}"),
                    }
                }
                continue;
            }
        };
        let (stream, place) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => return error,
        };
        let (acceptor, state) = (acceptor.clone(), state.clone());
        tokio::spawn(async move {
            let _place = place;
            // Frames of a console are small; waiting for more of them would be felt.
            let _ = stream.set_nodelay(true);
            // Whoever does not speak TLS, or has a certificate of another CA, is not served.
            let Ok(Ok(stream)) = tokio::time::timeout(HANDSHAKE_TIME, acceptor.accept(stream)).await else {
                return;
            };
            let certificate: Option<Arc<[u8]>> = stream
                .get_ref()
                .1
                .peer_certificates()
                .and_then(|chain| Some(Arc::from(chain.first()?.as_ref())));
            let service =
                service_fn(move |request| serve::serve(state.clone(), certificate.clone(), request));
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEAD_TIME)
                .serve_connection(TokioIo::new(stream), service)
                .with_upgrades();
            // An end in between is the client's: it asks again.
            let _ = connection.await;
        });
    }
}

async fn accept(
    listener: &TcpListener,
    places: &Arc<Semaphore>,
) -> anyhow::Result<(tokio::net::TcpStream, tokio::sync::OwnedSemaphorePermit)> {
    let place = places.clone().acquire_owned().await?;
    let (stream, _) = listener.accept().await.context("accepting a connection")?;
    Ok((stream, place))
}

fn acceptor(identity: &Identity, ca: &str) -> anyhow::Result<TlsAcceptor> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(ca.as_bytes()) {
        roots.add(certificate.context("the cluster's CA")?).context("the cluster's CA")?;
    }
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone())
        .allow_unauthenticated()
        .build()
        .context("the cluster's CA")?;
    let chain: Vec<_> =
        CertificateDer::pem_slice_iter(identity.certificate.as_bytes()).collect::<Result<_, _>>()?;
    let key = PrivateKeyDer::from_pem_slice(identity.key.as_bytes())?;
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain, key)
        .context("the node's serving certificate")?;
    // Streams are upgrades, which HTTP/2 has not.
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    // A resumed session would skip the check of a certificate that ended meanwhile; and it takes memory.
    config.session_storage = Arc::new(rustls::server::NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(TlsAcceptor::from(Arc::new(config)))
}
