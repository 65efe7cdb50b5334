//! What `sheaf-agent` takes as arguments, and the part of the library that each command starts.
//!
//! Why here: a program's arguments belong to the program, not to its library. Route in: `main`. Route out: the rooms of the agent,
//! by the files beside this one.

mod etcd;
mod keys;
mod machine;
mod resources;
mod update;

use anyhow::Context as _;
use clap::{Parser, Subcommand};
use etcd::{EtcdCommand, SnapshotCommand};
use keys::{
    AdministratorCommand, ClaimCommand, EncryptionCommand, NodeCommand, ServiceAccountsCommand, TokenCommand,
};
use machine::{PowerCommand, ResetArguments};
use resources::{NetworkCommand, VolumesCommand};
use sheaf_agent::cluster::Hosts;
use sheaf_agent::etcd::by_hand::is_of_the_control_plane;
use sheaf_agent::paths::Paths;
use sheaf_agent::{config, console, runtime};
use sheaf_config::node::NodeConfig;
use sheaf_host::run::System;
use sheaf_host::systemd::Systemd;
use std::io::{self, Write as _};
use std::path::PathBuf;
use std::sync::Arc;
use update::UpdateCommand;

/// The daemon of a Sheaf node.
#[derive(Parser)]
#[command(version)]
pub struct Arguments {
    /// Directory to use as `/`.
    #[arg(long, default_value = "/", global = true)]
    root: PathBuf,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Runs the daemon.
    Run,
    /// Renders this node's files from its node config, once.
    Configure,
    /// Shows the status page on a terminal, forever.
    Console {
        /// The terminal; default: the one that this was started on.
        #[arg(long)]
        tty: Option<PathBuf>,
    },
    /// Bootstrap tokens, on a control-plane node.
    Token {
        #[command(subcommand)]
        command: TokenCommand,
    },
    /// Names of nodes, on a control-plane node.
    Node {
        #[command(subcommand)]
        command: NodeCommand,
    },
    /// Snapshots of etcd, on a control-plane node: the data of the whole cluster.
    Snapshot {
        #[command(subcommand)]
        command: SnapshotCommand,
    },
    /// Shows how etcd of this node is: size against quota, free pages, alarms.
    Etcd {
        #[command(subcommand)]
        command: Option<EtcdCommand>,
    },
    /// Shows every certificate and key of this node: who signed it, when it ends, who renews it. Fails if somebody must do
    /// something.
    Certificates {
        /// How it is printed.
        #[arg(long, short, value_enum, default_value_t = Format::Text)]
        output: Format,
    },
    /// The keys by which Secrets are encrypted in etcd, on a control-plane node.
    Encryption {
        #[command(subcommand)]
        command: Option<EncryptionCommand>,
    },
    /// The keys that sign tokens of service accounts, on a control-plane node.
    ServiceAccounts {
        #[command(subcommand)]
        command: Option<ServiceAccountsCommand>,
    },
    /// Who administers the cluster, on a control-plane node.
    Administrators {
        #[command(subcommand)]
        command: Option<AdministratorCommand>,
    },
    /// The one-time code by which the cluster is claimed in the console, on a control-plane node.
    Claim {
        #[command(subcommand)]
        command: ClaimCommand,
    },
    /// Shows every link of node.toml and of policies: state, MTU, addresses, the links below it; and the result of each
    /// policy.
    #[command(args_conflicts_with_subcommands = true)]
    Network {
        #[command(flatten)]
        shown: Shown,
        #[command(subcommand)]
        command: Option<NetworkCommand>,
    },
    /// Shows every volume of this node: size, phase, source, problems.
    #[command(args_conflicts_with_subcommands = true)]
    Volumes {
        #[command(flatten)]
        shown: Shown,
        #[command(subcommand)]
        command: Option<VolumesCommand>,
    },
    /// Shows every disk of this node: identity, size, health, role, what uses it, problems.
    Disks(Shown),
    /// Shows every pool of this node: size, usage, devices, last step, problems.
    Pools(Shown),
    /// Shows which release runs, what is in the other slot, and how far the update of this node is.
    #[command(args_conflicts_with_subcommands = true)]
    Update {
        #[command(flatten)]
        shown: Shown,
        #[command(subcommand)]
        command: Option<UpdateCommand>,
    },
    /// Packs logs, node config and state of this node for support, without secrets and without anything of its VMs.
    SupportBundle {
        /// Write it to this file; default: to standard output.
        #[arg(long, value_name = "FILE")]
        output: Option<PathBuf>,
    },
    /// Resets this node at its next start: state and data are erased, and with --wipe-pools its pools. Shows what is lost;
    /// --node confirms it, and restarts the machine.
    Reset(ResetArguments),
    /// Resets the node that its initrd found marked.
    #[command(hide = true)]
    ResetAtBoot {
        /// UUID of the installation that was started.
        #[arg(long)]
        install: String,
    },
    /// The machine's way down, for its own units.
    #[command(hide = true)]
    Power {
        #[command(subcommand)]
        command: PowerCommand,
    },
    /// Shows the status page once.
    Status {
        /// Print the whole document as JSON.
        #[arg(long)]
        json: bool,
    },
}

/// How a status is shown.
#[derive(clap::Args)]
pub struct Shown {
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
    /// Prints it again at every change.
    #[arg(long)]
    pub watch: bool,
}

/// How something is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// For people.
    Text,
    /// For programs.
    Json,
}

/// The machine that a command is about.
pub struct Here {
    pub paths: Paths,
}

impl Here {
    /// Its node config, or what stands in for one that cannot be read.
    fn config(&self) -> NodeConfig {
        config::effective(&self.paths, &self.paths.root).config
    }

    /// Its node config, if it is a control-plane node.
    fn control_plane(&self) -> anyhow::Result<NodeConfig> {
        let config = self.config();
        is_of_the_control_plane(&config)?;
        Ok(config)
    }
}

/// Runs a command that ends.
fn block_on<T>(command: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(command)
}

/// What changes of the control plane work on.
async fn hosts() -> anyhow::Result<Hosts> {
    let units = Systemd::connect().await.context("the system bus cannot be reached")?;
    Ok(Hosts { run: Arc::new(System), units: Arc::new(units) })
}

/// Says how far it is; the terminal may be gone.
fn say(line: &str) {
    drop(writeln!(io::stderr(), "{line}"));
}

/// Starts what was asked for.
pub fn start(arguments: Arguments) -> anyhow::Result<()> {
    let here = Here { paths: Paths::under(&arguments.root) };
    match arguments.command {
        Command::Run => run(here),
        Command::Configure => machine::configure(&here),
        Command::Console { tty } => console::run(&here.paths, tty),
        Command::Node { command } => keys::node(&here, command),
        Command::Snapshot { command } => etcd::snapshot(&here, command),
        Command::Etcd { command } => etcd::etcd(&here, command),
        Command::Certificates { output } => keys::certificates(&here, output),
        Command::Encryption { command } => keys::encryption(&here, command),
        Command::ServiceAccounts { command } => keys::service_accounts(&here, command),
        Command::Administrators { command } => keys::administrators(&here, command),
        Command::Claim { command } => keys::claim(&here, &command),
        Command::Token { command } => keys::token(&here, command),
        Command::Network { shown, command } => resources::network(here, &shown, command),
        Command::Volumes { shown, command } => resources::volumes(&here, &shown, command),
        Command::Disks(shown) => console::show(shown.watch, || console::disks(&here.paths, shown.json)),
        Command::Pools(shown) => console::show(shown.watch, || console::pools(&here.paths, shown.json)),
        Command::Power { command } => machine::power(&here, &command),
        Command::SupportBundle { output } => machine::support_bundle(&here, output.as_deref()),
        Command::Reset(arguments) => machine::reset(&here, arguments),
        Command::ResetAtBoot { install } => machine::reset_at_boot(&here, &install),
        Command::Update { shown, command } => update::update(&here, &shown, command),
        Command::Status { json } => {
            print!("{}", console::status(&here.paths, json)?);
            Ok(())
        }
    }
}

/// Runs the daemon.
fn run(here: Here) -> anyhow::Result<()> {
    let effective = config::effective(&here.paths, &here.paths.root);
    let tokio = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let ended = tokio.block_on(runtime::run(here.paths, effective));
    // What still blocks a thread (LVM waits for a disk) does not hold up the end.
    tokio.shutdown_background();
    ended
}
