//! Connections to the replicas of sheaf-controller, for what the API server cannot relay: images on their way in, disks on their way
//! out.
//!
//! Why here: kube-apiserver ends requests after a minute and takes an upload's token for its own, so clients send images to the
//! port of the aggregated API themselves (decisions 30 and 31). A browser cannot: the certificate there is the cluster's own, and
//! the port is another origin. The console connects for it. Which replicas serve, and which CA signed their certificate, are read with the
//! console's own rights where kube-apiserver reads them: EndpointSlices and the APIService. The CA is trusted here and nowhere
//! else. Route in: the API server. Route out: a connection; [`send`] makes one request on it.

use std::{net::SocketAddr, time::Duration};

use bytes::Bytes;
use futures::future::BoxFuture;
use http::{HeaderValue, Request, Response, header};
use hyper::{body::Incoming, client::conn::http1};
use hyper_util::rt::TokioIo;
use k8s_openapi::{
    api::discovery::v1::EndpointSlice, kube_aggregator::pkg::apis::apiregistration::v1::APIService,
};
use kube::{Api, Client, api::ListParams};
use rustls::pki_types::ServerName;
use sheaf_api::names::{AGGREGATED_SERVICE, SYSTEM_NAMESPACE};
use sheaf_https::{ConnectorError, PemError};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};
use tokio_rustls::TlsConnector;

use crate::{answer::Refusal, names::AGGREGATED_API_SERVICE};

/// Longest time until a connection to one replica stands.
const CONNECT_TIME: Duration = Duration::from_secs(5);
/// Longest time for what the API server is asked before.
const ASK_TIME: Duration = Duration::from_secs(20);

/// A connection.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// The replicas, behind one trait: tests play one.
pub trait Controllers: Send + Sync {
    /// A connection to one of them.
    fn connect(&self) -> BoxFuture<'_, Result<Box<dyn Stream>, Refusal>>;
}

/// Those of the cluster.
pub struct Replicas(Client);

impl Replicas {
    /// By the console's own credentials.
    pub fn new(client: Client) -> Self {
        Self(client)
    }

    async fn find(&self) -> Result<(Vec<SocketAddr>, TlsConnector), Refusal> {
        let of_service =
            ListParams::default().labels(&format!("kubernetes.io/service-name={AGGREGATED_SERVICE}"));
        let slices: Api<EndpointSlice> = Api::namespaced(self.0.clone(), SYSTEM_NAMESPACE);
        let services: Api<APIService> = Api::all(self.0.clone());
        let asked =
            async { tokio::try_join!(slices.list(&of_service), services.get(AGGREGATED_API_SERVICE)) };
        let unanswered = |error: &dyn std::fmt::Display| {
            tracing::warn!("finding sheaf-controller: {error}");
            Refusal::unavailable(format!("sheaf-controller cannot be found: {error}"))
        };
        let asked = tokio::time::timeout(ASK_TIME, asked).await;
        let late = format!("the API server did not answer within {} s", ASK_TIME.as_secs());
        let (slices, service) = asked.map_err(|_| unanswered(&late))?.map_err(|error| unanswered(&error))?;
        let addresses = slices.items.iter().flat_map(addresses).collect();
        let authority =
            service.spec.and_then(|spec| spec.ca_bundle).map(|bundle| bundle.0).unwrap_or_default();
        Ok((addresses, connector(&authority)?))
    }
}

impl Controllers for Replicas {
    fn connect(&self) -> BoxFuture<'_, Result<Box<dyn Stream>, Refusal>> {
        Box::pin(async {
            let (addresses, connector) = self.find().await?;
            let mut last = "no replica of it is registered".to_owned();
            for address in addresses {
                match tokio::time::timeout(CONNECT_TIME, connect(&connector, address)).await {
                    Ok(Ok(stream)) => return Ok(stream),
                    Ok(Err(error)) => last = format!("{address}: {error}"),
                    Err(_) => {
                        last = format!(
                            "{address} did not accept a connection within {} s",
                            CONNECT_TIME.as_secs()
                        )
                    }
                }
                tracing::warn!("connecting to sheaf-controller: {last}");
            }
            Err(Refusal::unavailable(format!("sheaf-controller cannot be reached: {last}")))
        })
    }
}

async fn connect(connector: &TlsConnector, address: SocketAddr) -> std::io::Result<Box<dyn Stream>> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let name = ServerName::try_from(server_name()).map_err(std::io::Error::other)?;
    Ok(Box::new(connector.connect(name, stream).await?))
}

/// The name in the certificate of every replica, by which kube-apiserver knows them, too.
fn server_name() -> String {
    format!("{AGGREGATED_SERVICE}.{SYSTEM_NAMESPACE}.svc")
}

/// Trusts what `authority` (PEM) signed, and nothing else.
fn connector(authority: &[u8]) -> Result<TlsConnector, Refusal> {
    sheaf_https::connector(authority, None).map_err(|error| match error {
        ConnectorError::Pem(PemError::Missing(_)) => Refusal::unavailable(format!(
            "APIService {AGGREGATED_API_SERVICE} has no caBundle; restart sheaf-controller, which writes it"
        )),
        error => Refusal::internal(error),
    })
}

/// Where the replica of a slice listens.
fn addresses(slice: &EndpointSlice) -> Vec<SocketAddr> {
    let ports = slice.ports.iter().flatten().filter_map(|port| u16::try_from(port.port?).ok());
    let hosts = || slice.endpoints.iter().flatten().flat_map(|endpoint| &endpoint.addresses);
    let of = |port| hosts().filter_map(move |host| Some(SocketAddr::new(host.parse().ok()?, port)));
    ports.flat_map(of).collect()
}

/// Sends one request; the connection ends with its answer.
pub async fn send<B>(stream: Box<dyn Stream>, mut request: Request<B>) -> Result<Response<Incoming>, Refusal>
where
    B: http_body::Body<Data = Bytes, Error: Into<Box<dyn std::error::Error + Send + Sync>>> + Send + 'static,
{
    let broken = |error: hyper::Error| {
        tracing::warn!("asking sheaf-controller: {error}");
        Refusal::unavailable(format!("the connection to sheaf-controller broke: {error}"))
    };
    let host = HeaderValue::from_str(&server_name()).map_err(Refusal::internal)?;
    request.headers_mut().insert(header::HOST, host);
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
    tokio::spawn(async move {
        // Its end is the end of the answer.
        let _ = connection.await;
    });
    sender.send_request(request).await.map_err(broken)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;
    use serde_json::json;

    fn slice(addresses: &[&str]) -> serde_json::Value {
        json!({"metadata": {}, "addressType": "IPv4", "endpoints": [{"addresses": addresses}], "ports": [{"port": 10913}]})
    }

    #[test]
    fn a_replica_is_where_its_slice_says() {
        let of = |value| addresses(&serde_json::from_value(value).unwrap());
        assert_eq!(of(slice(&["192.0.2.1"])), ["192.0.2.1:10913".parse().unwrap()]);
        assert_eq!(of(slice(&["2001:db8::1", "none"])), ["[2001:db8::1]:10913".parse().unwrap()]);
        assert_eq!(of(json!({"metadata": {}, "addressType": "IPv4"})), []);
    }

    #[tokio::test]
    async fn without_a_ca_or_a_replica_nothing_is_sent_and_the_reason_is_named() {
        let refused = async |ca: Option<String>| {
            let client =
                testing::api_server(move |request| match request.uri().path().contains("apiservices") {
                    true => Ok((
                        200,
                        json!({"apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService",
                                        "metadata": {}, "spec": {"caBundle": ca, "groupPriorityMinimum": 1,
                                                                 "versionPriority": 1}})
                        .to_string(),
                    )),
                    false => Ok((200, json!({"metadata": {}, "items": []}).to_string())),
                });
            Replicas::new(client).connect().await.err().unwrap().message
        };
        assert_eq!(
            refused(None).await,
            "APIService v1beta1.upload.cdi.kubevirt.io has no caBundle; restart sheaf-controller, which writes it"
        );
        use base64::Engine as _;
        let made = rcgen::generate_simple_self_signed(vec!["ca".into()]).unwrap();
        let encode = |bytes: &[u8]| base64::engine::general_purpose::STANDARD.encode(bytes);
        let pem =
            format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", encode(made.cert.der()));
        let pem = encode(pem.as_bytes());
        assert_eq!(
            refused(Some(pem)).await,
            "sheaf-controller cannot be reached: no replica of it is registered"
        );
    }

    #[tokio::test]
    async fn an_api_server_that_is_away_is_named() {
        let client = testing::api_server(|_| Err("connection refused".into()));
        let refusal = Replicas::new(client).connect().await.err().unwrap();
        assert_eq!(refusal.code, 503);
        assert!(refusal.message.starts_with("sheaf-controller cannot be found: "), "{refusal}");
    }
}
