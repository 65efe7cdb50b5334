//! `token`, `node`, `certificates`, `encryption`, `service-accounts`, `administrators`, `claim`: who belongs to the cluster,
//! and by which keys.
//!
//! Route in: arguments. Route out: the `by_hand` part of each room of the agent.

use super::{Format, Here, block_on, hosts, say};
use anyhow::Context as _;
use clap::Subcommand;
use sheaf_agent::administrators::by_hand as administrators_by_hand;
use sheaf_agent::certificates::by_hand as certificates_by_hand;
use sheaf_agent::claim::by_hand as claim_by_hand;
use sheaf_agent::cluster::planes::invite;
use sheaf_agent::cluster::{release, token as tokens};
use sheaf_agent::encryption::by_hand as encryption_by_hand;
use sheaf_agent::service_accounts::by_hand as service_accounts_by_hand;
use sheaf_host::run::System;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

#[derive(Subcommand)]
pub enum TokenCommand {
    /// Makes a token for one node and prints the `[cluster]` table of that node's node.toml.
    Create {
        /// Hours for which it is valid, at most 24.
        #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=24))]
        hours: u32,
        /// The only node (its system.hostname) that may use it.
        #[arg(long)]
        node: Option<String>,
        /// For one more control-plane node: the token brings the keys of the cluster. Valid for 1 hour at most.
        #[arg(long)]
        control_plane: bool,
    },
}

#[derive(Subcommand)]
pub enum NodeCommand {
    /// Releases a node's name for the next machine that joins under it with a token. For a machine that was
    /// replaced or reinstalled. The former machine's certificate stays valid until it expires: keep that machine off.
    Release {
        /// Name of the node.
        name: String,
    },
}

#[derive(Subcommand)]
pub enum EncryptionCommand {
    /// Encrypts every Secret with a new key and takes the former one out of use. One that was interrupted is completed. The
    /// API server is restarted three times meanwhile.
    Rotate,
}

#[derive(Subcommand)]
pub enum ServiceAccountsCommand {
    /// Has a new key sign, on every control-plane node; the former one verifies until the last of its tokens has ended. A change
    /// that was interrupted is completed. Each API server is restarted twice meanwhile, one after the other.
    Rotate,
}

#[derive(Subcommand)]
pub enum AdministratorCommand {
    /// Makes the owner of a key an administrator.
    Add {
        /// A name for the list.
        name: String,
        /// The public key, as `sheaf admin new` wrote it; - is standard input.
        file: PathBuf,
    },
    /// Ends an administrator's rights, at once.
    Revoke {
        /// The user name, sheaf-admin-…, as the list shows it.
        user: String,
    },
    /// Gives the rights back to one that was revoked.
    Allow {
        /// The user name, sheaf-admin-….
        user: String,
    },
}

#[derive(Subcommand)]
pub enum ClaimCommand {
    /// Makes a new code and prints it with the console's address; it makes one administrator. A former code ends.
    New,
}

/// Makes a token for one more node.
pub fn token(here: &Here, command: TokenCommand) -> anyhow::Result<()> {
    let TokenCommand::Create { hours, node, control_plane } = command;
    let lifetime = Duration::from_secs(u64::from(hours) * 3600);
    let text = match control_plane {
        true => block_on(invite::create(&here.paths, &System, lifetime, node.as_deref()))?,
        false => block_on(tokens::create(&here.paths, lifetime, node.as_deref()))?,
    };
    print!("{text}");
    Ok(())
}

/// Names of nodes.
pub fn node(here: &Here, command: NodeCommand) -> anyhow::Result<()> {
    let NodeCommand::Release { name } = command;
    println!("{}", block_on(release::release(&here.paths, &name))?);
    Ok(())
}

/// Every certificate and key of this node.
///
/// # Errors
/// What somebody must do, a line each.
pub fn certificates(here: &Here, output: Format) -> anyhow::Result<()> {
    let json = output == Format::Json;
    let (text, problems) =
        certificates_by_hand::certificates(&here.paths, &here.config(), json, SystemTime::now())?;
    print!("{text}");
    anyhow::ensure!(problems.is_empty(), "{}", problems.join("\n"));
    Ok(())
}

/// The keys of Secrets in etcd.
pub fn encryption(here: &Here, command: Option<EncryptionCommand>) -> anyhow::Result<()> {
    here.control_plane()?;
    let said = block_on(async {
        let hosts = hosts().await?;
        match command {
            None => encryption_by_hand::status(&here.paths, &hosts).await,
            Some(EncryptionCommand::Rotate) => {
                encryption_by_hand::rotate(&here.paths, &hosts, SystemTime::now(), &say).await
            }
        }
    })?;
    print!("{said}");
    Ok(())
}

/// The keys of service accounts.
pub fn service_accounts(here: &Here, command: Option<ServiceAccountsCommand>) -> anyhow::Result<()> {
    here.control_plane()?;
    let said = match command {
        None => service_accounts_by_hand::status(&here.paths)?,
        Some(ServiceAccountsCommand::Rotate) => block_on(async {
            let hosts = hosts().await?;
            service_accounts_by_hand::rotate(&here.paths, &hosts, SystemTime::now(), &say).await
        })?,
    };
    print!("{said}");
    Ok(())
}

/// Who administers the cluster.
pub fn administrators(here: &Here, command: Option<AdministratorCommand>) -> anyhow::Result<()> {
    let config = here.control_plane()?;
    let ask = match command {
        None => administrators_by_hand::Ask::List,
        Some(AdministratorCommand::Add { name, file }) => {
            let key = match file == Path::new("-") {
                true => io::read_to_string(io::stdin()),
                false => std::fs::read_to_string(&file),
            };
            let key = key.with_context(|| format!("{}: cannot be read", file.display()))?;
            administrators_by_hand::Ask::Add { name, key }
        }
        Some(AdministratorCommand::Revoke { user }) => administrators_by_hand::Ask::Revoke { user },
        Some(AdministratorCommand::Allow { user }) => administrators_by_hand::Ask::Allow { user },
    };
    print!("{}", block_on(administrators_by_hand::ask(&here.paths, &config, &ask))?);
    Ok(())
}

/// A new one-time code of the console.
pub fn claim(here: &Here, command: &ClaimCommand) -> anyhow::Result<()> {
    let ClaimCommand::New = command;
    let config = here.control_plane()?;
    print!("{}", block_on(claim_by_hand::new(&here.paths, &config))?);
    Ok(())
}
