//! The program `sheaf-controller`: the cluster-wide half of Sheaf, one leader at a time.
//!
//! Route in: a kubeconfig with the identity `sheaf-controller`. Route out: Kubernetes objects, and a log.

use std::path::PathBuf;

use anyhow::Context;
use clap::{Parser, Subcommand};

/// Turns VirtualMachines into placeholder Pods, reports their status, approves nodes' serving certificates.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// Kubeconfig of the identity `sheaf-controller`.
    #[arg(long, global = true, default_value = "/etc/kubernetes/sheaf-controller.conf")]
    kubeconfig: PathBuf,
    /// Folder of the aggregated server's certificates: sheaf-controller-serving.crt and .key, aggregated-ca.crt,
    /// kubelet-serving-ca.crt.
    #[arg(long, global = true, default_value = "/var/lib/kubernetes/pki")]
    certificates: PathBuf,
    /// Port of the aggregated server.
    #[arg(long, global = true, default_value_t = sheaf_api::names::AGGREGATED_PORT)]
    port: u16,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// Runs until SIGTERM (the default).
    Run,
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
    let Arguments { kubeconfig, certificates, port, command } = arguments;
    let Command::Run = command.unwrap_or(Command::Run);
    let options = sheaf_controller::Options { kubeconfig, certificates, port };
    // One thread: the work is waiting for the API server.
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("starting the runtime")?
        .block_on(sheaf_controller::run(&options))
}
