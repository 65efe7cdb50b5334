//! What a client of the server sees: over real sockets, with certificates made for the test.

use http_body_util::Full;
use hyper::Response;
use hyper::body::Bytes;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use sheaf_https::{Limits, Peer, acceptor, connector, serve};
use std::io;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsConnector;

const LIMITS: Limits = Limits { connections: 8, of_one_address: 4, head: Duration::from_secs(30) };

struct Ca(CertifiedIssuer<'static, KeyPair>);

impl Ca {
    fn new() -> Self {
        let mut parameters = CertificateParams::new(Vec::new()).unwrap();
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(parameters, KeyPair::generate().unwrap()).unwrap())
    }

    fn pem(&self) -> String {
        self.0.pem()
    }

    /// A certificate and its key in PEM.
    fn sign(&self) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let parameters = CertificateParams::new(["localhost".to_owned()]).unwrap();
        (parameters.signed_by(&key, &*self.0).unwrap().pem(), key.serialize_pem())
    }
}

/// A server that answers with the length of the client's certificate; it ends with the test's runtime.
async fn started(server: &Ca, clients: &Ca, limits: Limits) -> SocketAddr {
    let (certificate, key) = server.sign();
    let tls = acceptor(certificate.as_bytes(), key.as_bytes(), Some(clients.pem().as_bytes())).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let answer = |peer: Peer, _| async move {
            let certificate = peer.certificate.map_or(0, |certificate| certificate.len());
            Ok(Response::new(Full::new(Bytes::from(format!("{} {certificate}", peer.address)))))
        };
        serve(&listener, limits, || (tls.clone(), answer)).await
    });
    address
}

fn client(server: &Ca, identity: Option<&(String, String)>) -> TlsConnector {
    let identity = identity.map(|(certificate, key)| (certificate.as_bytes(), key.as_bytes()));
    connector(server.pem().as_bytes(), identity).unwrap()
}

/// Body of the answer to one request.
async fn asked(address: SocketAddr, tls: &TlsConnector) -> io::Result<String> {
    let stream = TcpStream::connect(address).await?;
    let mut stream = tls.connect(ServerName::try_from("localhost").unwrap(), stream).await?;
    stream.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").await?;
    let mut text = String::new();
    stream.read_to_string(&mut text).await?;
    Ok(text.rsplit("\r\n").next().unwrap_or_default().to_owned())
}

#[tokio::test]
async fn a_client_is_known_by_its_certificate_or_has_none_and_one_of_another_ca_is_not_served() {
    let (server, clients, others) = (Ca::new(), Ca::new(), Ca::new());
    let address = started(&server, &clients, LIMITS).await;
    let ours = clients.sign();
    let length = CertificateDer::from_pem_slice(ours.0.as_bytes()).unwrap().len();
    assert_eq!(asked(address, &client(&server, Some(&ours))).await.unwrap(), format!("127.0.0.1 {length}"));
    assert_eq!(asked(address, &client(&server, None)).await.unwrap(), "127.0.0.1 0");
    assert!(asked(address, &client(&server, Some(&others.sign()))).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_is_silent_is_closed_after_ten_seconds() {
    let (server, clients) = (Ca::new(), Ca::new());
    let address = started(&server, &clients, LIMITS).await;
    let mut silent = TcpStream::connect(address).await.unwrap();
    let begin = tokio::time::Instant::now();
    assert_eq!(silent.read(&mut [0]).await.unwrap(), 0, "closed without a byte");
    let taken = begin.elapsed().as_secs();
    assert!((9..12).contains(&taken), "after {taken} s");
}

#[tokio::test]
async fn an_address_with_too_many_connections_is_closed_and_served_again_when_one_of_them_ended() {
    let (server, clients) = (Ca::new(), Ca::new());
    let limits = Limits { of_one_address: 1, ..LIMITS };
    let address = started(&server, &clients, limits).await;
    let first = TcpStream::connect(address).await.unwrap();
    // Accepted in the order of their arrival.
    let mut second = TcpStream::connect(address).await.unwrap();
    let closed = second.read(&mut [0]).await;
    assert!(closed.map_or(true, |read| read == 0));
    drop(first);
    let tls = client(&server, None);
    let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
    while asked(address, &tls).await.is_err() {
        assert!(tokio::time::Instant::now() < deadline, "the place is not free again");
    }
}

#[tokio::test]
async fn a_client_that_is_answered_in_the_middle_of_what_it_sends_reads_the_answer() {
    const BYTES: usize = 16 << 20;
    let (server, clients) = (Ca::new(), Ca::new());
    let address = started(&server, &clients, LIMITS).await;
    let stream = TcpStream::connect(address).await.unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    let mut stream = client(&server, None).connect(name, stream).await.unwrap();
    let head =
        format!("POST / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: {BYTES}\r\n\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.write_all(&vec![0; BYTES]).await.unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).await.unwrap();
    assert!(text.starts_with("HTTP/1.1 200") && text.ends_with("127.0.0.1 0"), "{text}");
}
