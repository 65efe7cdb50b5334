//! `sheaf-controller`: one file of arguments, all work in the library.

use anyhow::Context as _;
use clap::{Parser, Subcommand};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use sheaf_controller::{approve, install, leader, vm, vmi};
use std::path::PathBuf;
use tokio::signal::unix::{SignalKind, signal};

#[derive(Parser)]
#[command(name = "sheaf-controller", version, about = "Places virtual machines on the nodes of a cluster")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Serve the cluster until SIGTERM
    Run {
        /// Access to the cluster as the user sheaf-controller
        #[arg(long, value_name = "FILE")]
        kubeconfig: PathBuf,
    },
}

// One thread: it waits for the API server nearly all of its time, and memory counts on a node.
#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let filter = tracing_subscriber::EnvFilter::try_from_default_env().unwrap_or_else(|_| "info".into());
    // journald adds the time.
    tracing_subscriber::fmt().with_env_filter(filter).without_time().with_ansi(false).init();
    let Command::Run { kubeconfig } = Arguments::parse().command;
    let file = Kubeconfig::read_from(&kubeconfig)
        .with_context(|| format!("{}: is no kubeconfig", kubeconfig.display()))?;
    let config = Config::from_custom_kubeconfig(file, &KubeConfigOptions::default())
        .await
        .with_context(|| format!("{}: can not be used", kubeconfig.display()))?;
    let client = Client::try_from(config)?;
    let mut terminate = signal(SignalKind::terminate()).context("SIGTERM can not be caught")?;
    tokio::select! {
        result = serve(client) => result,
        _ = terminate.recv() => Ok(()),
    }
}

async fn serve(client: Client) -> anyhow::Result<()> {
    install::namespace(&client).await;
    let leading = leader::acquire(&client).await;
    install::all(&client).await;
    tracing::info!("serving as {}", leading.identity());
    tokio::select! {
        // Another instance may serve from now on: end at once, systemd starts this one anew.
        error = leading.keep(&client) => Err(error),
        () = vm::run(client.clone()) => anyhow::bail!("the VirtualMachine controller ended"),
        () = vmi::run(client.clone()) => anyhow::bail!("the VirtualMachineInstance controller ended"),
        () = approve::run(client.clone()) => anyhow::bail!("the certificate approver ended"),
    }
}
