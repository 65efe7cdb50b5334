//! The program `sheaf-console`: the administration console.
//!
//! Route in: a kubeconfig with the identity `sheaf-console`, an address, a certificate. Route out: HTTPS, and a log.

use std::{net::SocketAddr, path::PathBuf};

use anyhow::Context as _;
use clap::Parser;

/// Serves the administration console of a cluster.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// Kubeconfig of the identity `sheaf-console`; on a desk, an administrator's.
    #[arg(long)]
    kubeconfig: PathBuf,
    /// Address and port.
    #[arg(long, default_value = "127.0.0.1:8443")]
    listen: SocketAddr,
    /// Certificate (PEM, with its chain). Without it one is made that ends with the process.
    #[arg(long, requires = "key")]
    certificate: Option<PathBuf>,
    /// Its key (PEM).
    #[arg(long, requires = "certificate")]
    key: Option<PathBuf>,
    /// CA (PEM) by whose certificates nodes answer: their numbers are read for plots. Without it there are no plots.
    #[arg(long)]
    node_authority: Option<PathBuf>,
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let filter = tracing_subscriber::EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info,kube_client=off"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()))
        .init();
    let Arguments { kubeconfig, listen, certificate, key, node_authority } = arguments;
    let options =
        sheaf_console::Options { kubeconfig, listen, certificate: certificate.zip(key), node_authority };
    // One thread: the work is waiting for the API server. Passwords are hashed on threads of their own.
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("starting the runtime")?
        .block_on(async {
            let console = sheaf_console::open(&options).await?;
            tracing::info!("https://{} SHA-256 of the certificate: {}", console.address, console.fingerprint);
            tokio::select! {
                () = console.run() => {}
                stopped = stopped() => stopped?,
            }
            Ok(())
        })
}

/// Returns when the process is asked to stop.
async fn stopped() -> anyhow::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate()).context("listening for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("listening for SIGINT")?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}
