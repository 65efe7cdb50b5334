//! `sheaf config`: checks node configs before anybody walks to the rack, and shows how one is written.
//!
//! Route in: files of an operator. Route out: what is wrong with each, on standard error, or an example.

use clap::Subcommand;
use std::path::{Path, PathBuf};

#[derive(clap::Args)]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Say everything that is wrong with node configs
    Check {
        /// The files, usually node.toml
        #[arg(required = true)]
        files: Vec<PathBuf>,
    },
    /// Print an example to start from
    Example {
        /// Which one
        #[arg(value_enum, default_value = "create-single")]
        kind: Kind,
    },
}

/// The examples, which tests load.
#[derive(Clone, Copy, clap::ValueEnum)]
enum Kind {
    /// The first node of a cluster, by DHCP
    CreateSingle,
    /// The first node with fixed addresses and two bridges
    CreateStatic,
    /// A further node
    Join,
    /// A virtual machine to try Sheaf out
    Lab,
}

impl Kind {
    fn text(self) -> &'static str {
        match self {
            Self::CreateSingle => include_str!("../configs/examples/create-single.toml"),
            Self::CreateStatic => include_str!("../configs/examples/create-static.toml"),
            Self::Join => include_str!("../configs/examples/join.toml"),
            Self::Lab => include_str!("../configs/examples/lab.toml"),
        }
    }
}

/// Runs the command.
pub fn run(arguments: &Arguments) -> anyhow::Result<()> {
    match &arguments.command {
        Command::Check { files } => check(files),
        Command::Example { kind } => {
            print!("{}", kind.text());
            Ok(())
        }
    }
}

fn check(files: &[PathBuf]) -> anyhow::Result<()> {
    let is_refused = |file: &&PathBuf| match sheaf_config::load::node_config(file) {
        Ok(config) => {
            println!("{}: good, a node named {}", file.display(), config.system.hostname);
            warn_of_readers(file, config.cluster.is_some_and(|cluster| cluster.token.is_some()));
            false
        }
        Err(errors) => {
            eprintln!("{errors}");
            true
        }
    };
    let refused = files.iter().filter(is_refused).count();
    anyhow::ensure!(refused == 0, "{refused} of {} files refused", files.len());
    Ok(())
}

/// A token lets machines into a cluster.
fn warn_of_readers(file: &Path, has_token: bool) {
    use std::os::unix::fs::PermissionsExt;
    /// Permission bits of everyone but the owner.
    const OTHERS: u32 = 0o077;
    let mode = std::fs::metadata(file).map(|facts| facts.permissions().mode()).unwrap_or_default();
    if has_token && mode & OTHERS != 0 {
        println!("{0}: holds a token and others may read it; chmod 600 {0}", file.display());
    }
}
