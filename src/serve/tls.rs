//! TLS with a certificate that lives as long as the process: clients know it by its SHA-256.
//!
//! Why thrown away: the SHA-256 travels in the kernel command line that the same process serves, so no authority has to
//! vouch for it, and there is no key to keep. Route in: a connection. Route out: the same, encrypted.

use super::http::TIMEOUT;
use anyhow::{Context as _, Result};
use rustls::pki_types::PrivateKeyDer;
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use sheaf_os_image::inputs::Digest;
use std::io;
use std::net::TcpStream;
use std::sync::Arc;

/// A key and its certificate.
#[derive(Clone)]
pub struct Identity {
    config: Arc<ServerConfig>,
    fingerprint: String,
}

impl Identity {
    /// A new one.
    pub fn generate() -> Result<Self> {
        // The name does not matter: clients compare the whole certificate.
        let made = rcgen::generate_simple_self_signed(["sheaf-pxe".to_owned()])
            .context("a TLS certificate cannot be made")?;
        let certificate = made.cert.der().clone();
        let key = PrivateKeyDer::Pkcs8(made.signing_key.serialize_der().into());
        let fingerprint = Digest::of(&certificate).as_str().to_owned();
        let config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(vec![certificate], key)?;
        Ok(Self { config: Arc::new(config), fingerprint })
    }

    /// SHA-256 of the certificate in DER, hex.
    pub fn fingerprint(&self) -> String {
        self.fingerprint.clone()
    }

    /// The server's end of TLS on `stream`; the handshake comes with the first read.
    pub fn accept<'s>(
        &self,
        stream: &'s TcpStream,
    ) -> io::Result<StreamOwned<ServerConnection, &'s TcpStream>> {
        stream.set_read_timeout(Some(TIMEOUT))?;
        stream.set_write_timeout(Some(TIMEOUT))?;
        let connection = ServerConnection::new(self.config.clone()).map_err(io::Error::other)?;
        Ok(StreamOwned::new(connection, stream))
    }
}
