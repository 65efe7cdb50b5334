//! `sheaf config`: checks node configs before anybody walks to the rack, and shows how one is written.
//!
//! Route in: files of an operator. Route out: what was asked for on standard output; what is wrong, and what was lost, on
//! standard error; code 1 for a file that is refused.

use anyhow::Context as _;
use clap::{Subcommand, ValueEnum};
use sheaf_config::convert::{self, From};
use sheaf_config::inventory::Inventory;
use sheaf_config::{against, load, reference, schema, served, spanned};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

#[derive(clap::Args)]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Report all mistakes in node configs
    Check {
        /// The files, usually node.toml
        #[arg(required = true)]
        files: Vec<PathBuf>,
        /// Also find its disks and NICs in the inventory of a machine (from `sheaf-installer inventory --json`)
        #[arg(long, value_name = "FILE")]
        against: Option<PathBuf>,
    },
    /// Print an example to start from
    Example {
        /// Which one
        #[arg(value_enum, default_value = "create-single")]
        kind: Kind,
    },
    /// Print the JSON Schema of node.toml, for editors
    Schema,
    /// Print the reference of node.toml, as in docs/config.md
    Docs,
    /// Convert the config of another installer into a node.toml, and list what has no counterpart
    Convert {
        /// Whose config it is
        #[arg(long, value_enum)]
        from: Source,
        /// Harvester's config.yaml, or the answer.toml of Proxmox VE
        file: PathBuf,
    },
}

/// Whose configs can be converted.
#[derive(Clone, Copy, ValueEnum)]
enum Source {
    /// Harvester, config.yaml
    Harvester,
    /// Proxmox VE, answer.toml
    Proxmox,
}

/// The examples, which tests load.
#[derive(Clone, Copy, ValueEnum)]
enum Kind {
    /// The first node of a cluster, by DHCP
    CreateSingle,
    /// The first node with fixed addresses and two bridges
    CreateStatic,
    /// A further node
    Join,
    /// A server on a trunk: bond, VLAN, VLAN-aware bridge, pool, and every setting of the host
    BondVlan,
    /// Many machines in one file
    Fleet,
    /// A virtual machine to try Sheaf out
    Lab,
}

impl Kind {
    fn text(self) -> &'static str {
        match self {
            Self::CreateSingle => include_str!("../configs/examples/create-single.toml"),
            Self::CreateStatic => include_str!("../configs/examples/create-static.toml"),
            Self::Join => include_str!("../configs/examples/join.toml"),
            Self::BondVlan => include_str!("../configs/examples/bond-vlan.toml"),
            Self::Fleet => include_str!("../configs/examples/fleet.toml"),
            Self::Lab => include_str!("../configs/examples/lab.toml"),
        }
    }
}

/// Runs the command.
pub fn run(arguments: &Arguments) -> anyhow::Result<()> {
    match &arguments.command {
        Command::Check { files, against } => {
            let machine = against.as_deref().map(inventory).transpose()?;
            check(files, machine.as_ref())?;
        }
        Command::Example { kind } => print!("{}", kind.text()),
        Command::Schema => println!("{:#}", schema::node()),
        Command::Docs => print!("{}", reference::node()),
        Command::Convert { from, file } => convert(*from, file)?,
    }
    Ok(())
}

fn inventory(path: &Path) -> anyhow::Result<Inventory> {
    let text = std::fs::read_to_string(path).with_context(|| format!("{} cannot be read", path.display()))?;
    serde_json::from_str(&text).with_context(|| {
        format!(
            "{} is not an inventory: give what `sheaf-installer inventory --json` printed",
            path.display()
        )
    })
}

fn check(files: &[PathBuf], machine: Option<&Inventory>) -> anyhow::Result<()> {
    let is_refused = |file: &&PathBuf| match check_one(file, machine) {
        Ok(said) => {
            said.iter().for_each(|line| println!("{line}"));
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

fn check_one(
    path: &Path,
    machine: Option<&Inventory>,
) -> Result<Vec<String>, sheaf_config::diagnose::Errors> {
    let name = path.display().to_string();
    let text = spanned::read(path)?;
    let file = load::parse_config_file(&name, &text)?;
    let mut said = match (file.is_fleet(), file.entries()) {
        (false, [entry]) => vec![format!("{name}: good, a node named {}", entry.config.system.hostname)],
        (_, entries) => vec![format!("{name}: good, {} nodes", entries.len())],
    };
    if let Some(machine) = machine {
        let (config, found) = against::check(&file, &text, machine)?;
        said.push(format!("{name}: this machine is the node {}", config.system.hostname));
        said.extend(found.into_iter().map(|line| format!("{name}: {line}")));
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    for problem in file.entries().iter().flat_map(|entry| served::warnings(&entry.config, now)) {
        eprintln!("{name}: {}: {}; {}", problem.path, problem.what, problem.remedy);
    }
    let has_token =
        |entry: &load::Entry| entry.config.cluster.as_ref().is_some_and(|cluster| cluster.token.is_some());
    let has_key = |entry: &load::Entry| entry.config.console.is_some();
    for (what, has) in [
        ("a token", file.entries().iter().any(has_token)),
        ("the key of a certificate", file.entries().iter().any(has_key)),
    ] {
        warn_of_readers(path, what, has);
    }
    Ok(said)
}

fn convert(from: Source, path: &Path) -> anyhow::Result<()> {
    let text = spanned::read(path)?;
    let from = match from {
        Source::Harvester => From::Harvester,
        Source::Proxmox => From::Proxmox,
    };
    let converted = convert::convert(from, &path.display().to_string(), &text)?;
    print!("{}", converted.toml);
    converted.notes.iter().for_each(|note| eprintln!("{note}"));
    if let Err(errors) = load::parse_config_file("node.toml", &converted.toml) {
        eprintln!("\nstill missing:\n{errors}");
    }
    Ok(())
}

/// A token lets machines into a cluster; who has the key can pose as the console.
fn warn_of_readers(file: &Path, what: &str, has_it: bool) {
    use std::os::unix::fs::PermissionsExt;
    /// Permission bits of everyone but the owner.
    const OTHERS: u32 = 0o077;
    let mode = std::fs::metadata(file).map(|facts| facts.permissions().mode()).unwrap_or_default();
    if has_it && mode & OTHERS != 0 {
        eprintln!("{0}: holds {what} and others may read it; chmod 600 {0}", file.display());
    }
}
