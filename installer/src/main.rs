//! `sheaf-installer`: puts a release on one disk of this machine, asked by node.toml alone.
//!
//! Route in: the unit of the install medium runs `sheaf-installer run`. Route out: a reboot into the installed
//! node, or exit code 1 with the reason on every console, where it stays until someone reads it.

mod unattended;

use anyhow::Context;
use clap::{Parser, Subcommand};
use sheaf_host::console::Console;
use sheaf_host::run::System;
use sheaf_installer::inventory::{self, Reserved};
use sheaf_installer::progress::Progress;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Installs Sheaf on one disk of this machine.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Show what this machine has: disks, network cards, firmware, memory.
    Inventory {
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// Install as node.toml says.
    Run(Run),
}

#[derive(clap::Args)]
struct Run {
    /// Show the plan and write nothing.
    #[arg(long)]
    dry_run: bool,
    /// Show the plan as JSON.
    #[arg(long, requires = "dry_run")]
    json: bool,
    /// Speak on this console (repeatable); default: standard output.
    #[arg(long = "console", value_name = "PATH")]
    consoles: Vec<PathBuf>,
    /// Public key that the release must be signed with.
    #[arg(long, value_name = "FILE", default_value = "/etc/sheaf/release.pub")]
    key: PathBuf,
}

fn main() -> ExitCode {
    tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
        .with_writer(std::io::stderr)
        .init();
    match Arguments::parse().command {
        Command::Inventory { json } => match show_inventory(json) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("sheaf-installer: {error:#}");
                ExitCode::FAILURE
            }
        },
        Command::Run(run) => {
            let progress = Progress::new(consoles(&run));
            unattended::run(&progress, &run.key, run.dry_run.then_some(run.json))
        }
    }
}

fn show_inventory(json: bool) -> anyhow::Result<()> {
    let inventory = inventory::probe(&System, Path::new("/"), Reserved::default())?;
    match json {
        true => println!("{}", serde_json::to_string_pretty(&inventory).context("inventory as JSON")?),
        false => print!("{}", inventory::Shown(&inventory)),
    }
    Ok(())
}

/// A console that is not there (a machine without a serial port) is left out.
fn consoles(run: &Run) -> Vec<Console> {
    if run.consoles.is_empty() {
        return if run.json { Vec::new() } else { vec![Console::stdout()] };
    }
    run.consoles.iter().filter_map(|path| Console::open(path).ok()).collect()
}
