//! The administration console's server: users log in, and see and operate the cluster with their own rights.
//!
//! Why here: a browser cannot present a client certificate in a way that people manage, and the API server knows no passwords.
//! This program authenticates people (`login`, `sso`, `second`, `session`, `token`) and then asks the API server **as** them, by
//! impersonation (`upstream`): what somebody may do is decided by RBAC and nowhere else. It keeps what it must remember in
//! Secrets of a namespace of its own (`records`), so that every replica knows every session. One watch per kind is shared by
//! all browsers (`watch`). What a browser may ask the API server for is a table (`proxy`); screens and serial ports are
//! relayed (`streams`). Images go in (`upload`) and disks go out (`download`) through sheaf-controller (`controllers`). What
//! machines used in the last day is in memory (`metrics`).
//!
//! Route in: TLS, `--listen`. Route out: requests to the API server; Secrets in namespace `sheaf-console`.

use std::{net::SocketAddr, path::PathBuf, sync::Arc};

use anyhow::Context as _;
use kube::{
    Client, Config,
    config::{KubeConfigOptions, Kubeconfig},
};
use tokio::net::TcpListener;

mod answer;
mod assets;
mod body;
mod caller;
mod claim;
mod clock;
mod controllers;
mod cookie;
mod download;
mod hash;
mod headers;
mod join;
mod limits;
mod listener;
mod login;
mod metrics;
mod origin;
mod password;
mod pieces;
mod proxy;
mod recent;
mod records;
mod roles;
mod routes;
mod second;
mod serve;
mod session;
mod sso;
mod streams;
#[cfg(test)]
mod testing;
mod tls;
mod token;
mod totp;
mod upload;
mod upstream;
mod users;
mod watch;

pub use proxy::offered;
use sheaf_api::console as names;

/// How the program is started.
#[derive(Clone, Debug)]
pub struct Options {
    /// Identity `sheaf-console`; on a desk, an administrator's.
    pub kubeconfig: PathBuf,
    /// Where it listens.
    pub listen: SocketAddr,
    /// PEM files of certificate (chain) and key; without them a certificate is made that lives as long as the process.
    pub certificate: Option<(PathBuf, PathBuf)>,
    /// PEM file of the CA by whose certificates nodes answer; without it nothing is measured.
    pub node_authority: Option<PathBuf>,
}

/// A console that listens.
pub struct Console {
    /// Where.
    pub address: SocketAddr,
    /// SHA-256 of its certificate in DER, as browsers show it: `AB:CD:…`.
    pub fingerprint: String,
    listener: TcpListener,
    tls: tokio_rustls::TlsAcceptor,
    state: Arc<serve::State>,
}

/// Opens the port and reads the kubeconfig; nothing is asked yet.
pub async fn open(options: &Options) -> anyhow::Result<Console> {
    let config = connection(&options.kubeconfig).await?;
    let cluster = cluster(&config);
    let nodes = options.node_authority.as_deref().map(|path| nodes(&config, path)).transpose()?;
    let client = Client::try_from(config)
        .with_context(|| format!("using kubeconfig {}", options.kubeconfig.display()))?;
    let pair = match &options.certificate {
        Some((certificate, key)) => tls::Pair::read(certificate, key)?,
        None => tls::Pair::throw_away()?,
    };
    let listener = TcpListener::bind(options.listen)
        .await
        .with_context(|| format!("listening on {}", options.listen))?;
    Ok(Console {
        address: listener.local_addr()?,
        fingerprint: pair.fingerprint(),
        tls: pair.acceptor()?,
        state: Arc::new(serve::State {
            metrics: metrics::Metrics::new(nodes),
            ..serve::State::new(client, cluster)
        }),
        listener,
    })
}

impl Console {
    /// Serves until dropped.
    pub async fn run(self) {
        let Self { listener, tls, state, .. } = self;
        tokio::join!(
            listener::serve(listener, tls, state.clone()),
            state.records.follow(),
            state.watch.run(),
            metrics::run(state.clone()),
            session::sweep(state.clone()),
        );
    }
}

/// The way to agents.
fn nodes(config: &Config, authority: &std::path::Path) -> anyhow::Result<metrics::nodes::Nodes> {
    let pem = std::fs::read(authority).with_context(|| format!("{}: cannot be read", authority.display()))?;
    metrics::nodes::Nodes::new(config, &pem).with_context(|| format!("with {}", authority.display()))
}

/// A certificate in PEM (RFC 7468).
fn pem(der: &[u8]) -> String {
    let lines = pem::EncodeConfig::new().set_line_ending(pem::LineEnding::LF);
    pem::encode_config(&pem::Pem::new("CERTIFICATE", der), lines)
}

/// What a kubeconfig for the same API server has of it.
fn cluster(config: &Config) -> serve::Cluster {
    let ca = config.root_cert.iter().flatten().map(|der| pem(der)).collect();
    serve::Cluster { server: config.cluster_url.to_string().trim_end_matches('/').to_owned(), ca }
}

/// Never tries a request again by itself: whether a change that failed is repeated is the person's decision.
async fn connection(path: &std::path::Path) -> anyhow::Result<Config> {
    let read =
        Kubeconfig::read_from(path).with_context(|| format!("reading kubeconfig {}", path.display()))?;
    let mut config = Config::from_custom_kubeconfig(read, &KubeConfigOptions::default())
        .await
        .with_context(|| format!("using kubeconfig {}", path.display()))?;
    config.default_retry = false;
    Ok(config)
}

#[cfg(test)]
mod tests {
    /// It is written into kubeconfigs, and compared.
    #[test]
    fn a_certificate_has_lines_of_64_letters_that_end_as_on_linux() {
        let text = super::pem(&[7; 100]);
        let lines: Vec<&str> = text.split('\n').collect();
        assert_eq!(lines.len(), 6, "{text:?}");
        assert_eq!((lines[0], lines[1].len()), ("-----BEGIN CERTIFICATE-----", 64));
        assert_eq!(lines[4..], ["-----END CERTIFICATE-----", ""]);
    }
}
