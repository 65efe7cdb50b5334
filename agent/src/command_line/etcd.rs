//! `snapshot` and `etcd`: the data of the control plane, by hand.
//!
//! Route in: arguments. Route out: `sheaf_agent::etcd`, `sheaf_agent::cluster::planes`.

use super::{Here, block_on, hosts, say};
use clap::Subcommand;
use sheaf_agent::cluster::planes::invite;
use sheaf_agent::etcd::by_hand;
use sheaf_agent::etcd::restore::{Request, restore};
use sheaf_host::run::System;
use std::path::PathBuf;
use tokio::signal::unix::{SignalKind, signal};

#[derive(Subcommand)]
pub enum SnapshotCommand {
    /// Takes one and keeps it on this node.
    Create,
    /// Shows those on this node.
    #[command(alias = "ls")]
    List {
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Writes one to one file, to be kept elsewhere. It holds every Secret of the cluster.
    Save {
        /// The file; "-" is standard output.
        path: String,
        /// A snapshot on this node; without it one is taken now.
        #[arg(long)]
        name: Option<String>,
    },
    /// Writes the keys of the cluster (CAs, service accounts) to a file: needed to restore on another machine. Who has them is
    /// an administrator of the cluster.
    SaveKeys {
        /// The file; "-" is standard output.
        path: String,
    },
    /// Makes a snapshot the data of this node's etcd. The control plane is stopped meanwhile, VMs keep running, and the former data
    /// is kept.
    Restore {
        /// A file that `save` wrote, or the name of a snapshot on this node.
        file: String,
        /// A file that `save-keys` wrote: this machine takes the place of the one that the snapshot is from.
        #[arg(long)]
        keys: Option<PathBuf>,
        /// Also a snapshot of another or an unknown cluster, and on one of several members of etcd.
        #[arg(long)]
        force: bool,
        /// Only print what would be done.
        #[arg(long)]
        dry_run: bool,
    },
}

#[derive(Subcommand)]
pub enum EtcdCommand {
    /// Gives free pages of its database back to the file system now. The API server waits meanwhile, for seconds.
    Defragment,
    /// Lists the members of etcd: one on each control-plane node.
    Members,
    /// Takes a member out of etcd, one that is dead above all. Refused if the others could then not decide.
    Remove {
        /// Name of its node, or the member's number.
        name: String,
    },
}

/// Snapshots of etcd.
pub fn snapshot(here: &Here, command: SnapshotCommand) -> anyhow::Result<()> {
    let config = here.control_plane()?;
    let (paths, node) = (&here.paths, &config.system.hostname);
    match command {
        SnapshotCommand::Create => print!("{}", by_hand::take_one(paths, &System, node)?),
        SnapshotCommand::List { json } => print!("{}", by_hand::list(paths, json)?),
        // Standard output may be the file.
        SnapshotCommand::Save { path, name } => {
            eprintln!("{}", by_hand::save(paths, &System, node, name.as_deref(), &path)?);
        }
        SnapshotCommand::SaveKeys { path } => eprintln!("{}", by_hand::save_keys(paths, &path)?),
        SnapshotCommand::Restore { file, keys, force, dry_run } => {
            let request = Request { file, keys, force, dry_run };
            let said = block_on(async {
                // A connection that is lost must not leave the node without its agent.
                let _held =
                    [SignalKind::hangup(), SignalKind::interrupt(), SignalKind::terminate()].map(signal);
                restore(paths, &hosts().await?, node, &request, &say).await
            })?;
            println!("{said}");
        }
    }
    Ok(())
}

/// How etcd of this node is, and its members.
pub fn etcd(here: &Here, command: Option<EtcdCommand>) -> anyhow::Result<()> {
    here.control_plane()?;
    let paths = &here.paths;
    match command {
        None => print!("{}", by_hand::status(paths, &System)?),
        Some(EtcdCommand::Defragment) => print!("{}", by_hand::defragment(paths, &System)?),
        Some(EtcdCommand::Members) => print!("{}", invite::list(paths, &System)?),
        Some(EtcdCommand::Remove { name }) => {
            println!("{}", block_on(invite::remove(paths, &System, &name))?);
        }
    }
    Ok(())
}
