//! Accepts TLS connections of kube-apiserver, and of those who download exports.
//!
//! Why here: the only place that knows TLS. A client certificate is asked for and verified against the request-header CA; a
//! connection without one is served, and answered 401 by [`super::serve`], so that `/healthz` can be asked and exports
//! can be downloaded by their tokens. Bounded in
//! number, in the time of the handshake and of a request's head. Route in: TCP. Route out: requests with the peer's
//! certificate.

use std::{sync::Arc, time::Duration};

use hyper::{server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use rustls::{
    RootCertStore, ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::WebPkiClientVerifier,
};
use tokio::{
    net::TcpListener,
    sync::{Semaphore, watch},
};
use tokio_rustls::TlsAcceptor;

use super::{Certificates, identity::Front, serve};

/// Most connections at once: kube-apiserver opens one a stream.
const CONNECTIONS: usize = 2048;
/// Longest handshake.
const HANDSHAKE_TIME: Duration = Duration::from_secs(10);
/// Longest time for the head of a request; also how long an idle connection is kept.
const HEAD_TIME: Duration = Duration::from_secs(90);

/// Serves `listener` until accepting fails.
pub async fn serve(
    listener: TcpListener,
    certificates: &Certificates,
    mut front: watch::Receiver<Option<Arc<Front>>>,
    state: Arc<serve::State>,
) {
    // Without it nobody can be told apart.
    let Ok(first) = front.wait_for(Option::is_some).await.map(|front| front.clone()) else { return };
    let Some(mut current) = first else { return };
    let mut acceptor = match acceptor(certificates, &current) {
        Ok(acceptor) => acceptor,
        Err(error) => return tracing::error!("subresources.kubevirt.io: {error:#}"),
    };
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let Ok(place) = places.clone().acquire_owned().await else { return };
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => return tracing::warn!("subresources.kubevirt.io: accepting a connection: {error}"),
        };
        let now = front.borrow_and_update().clone();
        if let Some(now) = now.filter(|now| !Arc::ptr_eq(now, &current)) {
            match self::acceptor(certificates, &now) {
                Ok(new) => (acceptor, current) = (new, now),
                Err(error) => {
                    tracing::error!("subresources.kubevirt.io: {error:#}; the former CA stays trusted")
                }
            }
        }
        let (acceptor, front, state) = (acceptor.clone(), current.clone(), state.clone());
        tokio::spawn(async move {
            let _place = place;
            // Whoever does not speak TLS is none of ours.
            let Ok(Ok(stream)) = tokio::time::timeout(HANDSHAKE_TIME, acceptor.accept(stream)).await else {
                return;
            };
            let certificate: Option<Arc<[u8]>> = stream
                .get_ref()
                .1
                .peer_certificates()
                .and_then(|chain| Some(Arc::from(chain.first()?.as_ref())));
            let service = service_fn(move |request| {
                serve::serve(state.clone(), front.clone(), certificate.clone(), request)
            });
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEAD_TIME)
                .serve_connection(TokioIo::new(stream), service)
                .with_upgrades();
            // An end in between is the other side's: it asks again.
            let _ = connection.await;
        });
    }
}

fn acceptor(certificates: &Certificates, front: &Front) -> anyhow::Result<TlsAcceptor> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(front.authority.as_bytes()) {
        roots.add(certificate?)?;
    }
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone())
        .allow_unauthenticated()
        .build()?;
    let chain: Vec<_> =
        CertificateDer::pem_slice_iter(certificates.serving.0.as_bytes()).collect::<Result<_, _>>()?;
    let key = PrivateKeyDer::from_pem_slice(certificates.serving.1.as_bytes())?;
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain, key)?;
    // Streams are upgrades, which HTTP/2 has not.
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}
