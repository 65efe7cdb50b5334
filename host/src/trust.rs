//! TLS trust policy of a client: public authorities, given ones, one certificate, or none at all.
//!
//! Why here: an installer meets servers whose authority is in no image; what it trusts instead is said at each call.
//! ureq accepts a certificate by its fingerprint only through its `unversioned` module, which does not follow semantic
//! versioning: the workspace therefore pins ureq to one patch release. Route in: [`Trust`]. Route out: an agent of ureq
//! that connects to those servers alone.

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, ClientConnection, DigitallySignedStruct, SignatureScheme, StreamOwned};
use sha2::{Digest, Sha256};
use std::fmt;
use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs as _};
use std::sync::Arc;
use std::time::Duration;
use ureq::config::ConfigBuilder;
use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig, parse_pem};
use ureq::typestate::AgentScope;
use ureq::unversioned::resolver::{DefaultResolver, Resolver};
use ureq::unversioned::transport::{
    Buffers, ConnectionDetails, Connector, DefaultConnector, Either, LazyBuffers, NextTimeout, TcpConnector,
    Transport, TransportAdapter,
};

type Building = ConfigBuilder<AgentScope>;

/// Which servers are trusted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Trust {
    /// The authorities that browsers know.
    #[default]
    Public,
    /// These authorities, in PEM, and no others.
    Authorities(String),
    /// The server whose own certificate has this SHA-256, whatever its issuer and dates.
    Certificate(Fingerprint),
    /// Any server: what it sends is verified by other means.
    Anyone,
}

/// SHA-256 of a certificate in DER: what `openssl x509 -fingerprint -sha256` prints.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Fingerprint(pub [u8; 32]);

impl Fingerprint {
    /// Reads 64 hex digits, with or without colons between the bytes.
    pub fn parse(text: &str) -> Option<Self> {
        let digits: String = text.chars().filter(|c| *c != ':').collect();
        let mut bytes = [0; 32];
        hex::decode_to_slice(digits, &mut bytes).ok()?;
        Some(Self(bytes))
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// Authorities that are no certificates.
#[derive(Debug, thiserror::Error)]
#[error("the certificate authorities are not certificates in PEM")]
pub struct TrustError;

impl Trust {
    /// Refuses a policy that could never accept a server.
    pub fn check(&self) -> Result<(), TrustError> {
        match self {
            Self::Authorities(pem) => certificates(pem).map(drop),
            _ => Ok(()),
        }
    }

    /// A client with `config` that accepts those servers alone.
    pub(crate) fn agent(&self, config: Building) -> Result<ureq::Agent, TrustError> {
        self.agent_resolving(config, DefaultResolver::default())
    }

    /// The same; `names` decides which addresses a name has.
    pub(crate) fn agent_resolving(
        &self,
        config: Building,
        names: impl Resolver,
    ) -> Result<ureq::Agent, TrustError> {
        let tls = TlsConfig::builder();
        let config = match self {
            Self::Public => config,
            Self::Anyone => config.tls_config(tls.disable_verification(true).build()),
            Self::Authorities(pem) => {
                let roots = RootCerts::Specific(Arc::new(certificates(pem)?));
                config.tls_config(tls.root_certs(roots).build())
            }
            Self::Certificate(fingerprint) => {
                let connector = Connector::<()>::chain(TcpConnector::default(), PinnedTls(*fingerprint));
                return Ok(ureq::Agent::with_parts(config.build(), connector, names));
            }
        };
        Ok(ureq::Agent::with_parts(config.build(), DefaultConnector::default(), names))
    }
}

/// The certificates in `pem`; other items in it do not count.
fn certificates(pem: &str) -> Result<Vec<Certificate<'static>>, TrustError> {
    let certificates: Vec<_> = parse_pem(pem.as_bytes())
        .filter_map(|item| match item {
            Ok(PemItem::Certificate(certificate)) => Some(certificate),
            _ => None,
        })
        .collect();
    if certificates.is_empty() { Err(TrustError) } else { Ok(certificates) }
}

/// TLS over what ureq connected, with one certificate trusted.
#[derive(Debug)]
struct PinnedTls(Fingerprint);

impl<In: Transport> Connector<In> for PinnedTls {
    type Out = Either<In, Tls>;

    fn connect(
        &self,
        details: &ConnectionDetails<'_>,
        chained: Option<In>,
    ) -> Result<Option<Self::Out>, ureq::Error> {
        let Some(transport) = chained else { return Ok(None) };
        if !details.needs_tls() || transport.is_tls() {
            return Ok(Some(Either::A(transport)));
        }
        let failed = |_| ureq::Error::Tls("the server's name is not a name for TLS");
        let host = details.uri.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
        let name = ServerName::try_from(host.to_owned()).map_err(failed)?;
        let provider = Arc::new(ring::default_provider());
        let verifier = Arc::new(OnlyThis { fingerprint: Some(self.0), provider: provider.clone() });
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(ureq::Error::from)?
            .dangerous()
            .with_custom_certificate_verifier(verifier)
            .with_no_client_auth();
        let mut connection = ClientConnection::new(Arc::new(config), name)?;
        let mut socket = TransportAdapter::new(transport.boxed(), details.current_time.clone());
        socket.set_timeout(details.timeout);
        connection.complete_io(&mut socket)?;
        let buffers =
            LazyBuffers::new(details.config.input_buffer_size(), details.config.output_buffer_size());
        Ok(Some(Either::B(Tls { buffers, stream: StreamOwned::new(connection, socket) })))
    }
}

struct Tls {
    buffers: LazyBuffers,
    stream: StreamOwned<ClientConnection, TransportAdapter>,
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tls")
    }
}

impl Transport for Tls {
    fn buffers(&mut self) -> &mut dyn Buffers {
        &mut self.buffers
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), ureq::Error> {
        self.stream.get_mut().set_timeout(timeout);
        Ok(self.stream.write_all(&self.buffers.output()[..amount])?)
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, ureq::Error> {
        self.stream.get_mut().set_timeout(timeout);
        let amount = self.stream.read(self.buffers.input_append_buf())?;
        self.buffers.input_appended(amount);
        Ok(amount > 0)
    }

    fn is_open(&mut self) -> bool {
        self.stream.get_mut().get_mut().is_open()
    }

    fn is_tls(&self) -> bool {
        true
    }
}

/// The certificate that a server shows, for a person to compare: nothing is sent to it.
pub fn presented(host: &str, port: u16, deadline: Duration) -> io::Result<Fingerprint> {
    let wrong =
        |error: Box<dyn std::error::Error + Send + Sync>| io::Error::new(io::ErrorKind::InvalidData, error);
    let mut socket = connected(host, port, deadline)?;
    socket.set_read_timeout(Some(deadline))?;
    socket.set_write_timeout(Some(deadline))?;
    let name = ServerName::try_from(host.to_owned()).map_err(|error| wrong(error.into()))?;
    let provider = Arc::new(ring::default_provider());
    let verifier = Arc::new(OnlyThis { fingerprint: None, provider: provider.clone() });
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| wrong(error.into()))?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth();
    let mut connection =
        ClientConnection::new(Arc::new(config), name).map_err(|error| wrong(error.into()))?;
    while connection.is_handshaking() {
        connection.complete_io(&mut socket)?;
    }
    let certificate = connection.peer_certificates().and_then(|chain| chain.first());
    let certificate = certificate.ok_or_else(|| wrong("the server shows no certificate".into()))?;
    Ok(Fingerprint(Sha256::digest(certificate).into()))
}

/// A connection to the first address of `host` that answers.
fn connected(host: &str, port: u16, deadline: Duration) -> io::Result<TcpStream> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, format!("{host} has no address"));
    for address in (host, port).to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, deadline) {
            Ok(socket) => return Ok(socket),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// Accepts one certificate, or any, and only from a server that has its key.
#[derive(Debug)]
struct OnlyThis {
    fingerprint: Option<Fingerprint>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for OnlyThis {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let found = Fingerprint(Sha256::digest(certificate).into());
        match self.fingerprint {
            Some(expected) if found != expected => Err(rustls::Error::General(format!(
                "the server's certificate has the SHA-256 {found}, {expected} is expected"
            ))),
            _ => Ok(ServerCertVerified::assertion()),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(
            message,
            certificate,
            signature,
            &self.provider.signature_verification_algorithms,
        )
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(
            message,
            certificate,
            signature,
            &self.provider.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fingerprint_reads_as_openssl_prints_it() {
        let plain = "ab".repeat(32);
        let colons = vec!["AB"; 32].join(":");
        assert_eq!(Fingerprint::parse(&plain), Some(Fingerprint([0xab; 32])));
        assert_eq!(Fingerprint::parse(&colons), Some(Fingerprint([0xab; 32])));
        assert_eq!(Fingerprint::parse(&plain[1..]), None);
        assert_eq!(Fingerprint::parse(&"xy".repeat(32)), None);
        assert_eq!(Fingerprint([0xab; 32]).to_string(), plain);
    }

    #[test]
    fn authorities_that_are_not_certificates_are_refused_and_no_server_is_trusted_instead() {
        let key = "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIA==\n-----END PRIVATE KEY-----\n";
        for pem in ["", "nonsense", key] {
            let trust = Trust::Authorities(pem.into());
            let error = trust.check().unwrap_err();
            assert_eq!(error.to_string(), "the certificate authorities are not certificates in PEM", "{pem}");
            assert!(trust.agent(ureq::Agent::config_builder()).is_err(), "{pem}");
        }
        assert!(Trust::Public.check().is_ok());
    }
}
