//! `sheaf-installer`: puts a release on one disk of this machine, asked by node.toml or, without one, on screens.
//!
//! Route in: the unit of the install medium runs `sheaf-installer run`. Route out: a reboot into the installed
//! node, or exit code 1 with the reason on every console, where it stays until someone reads it.

mod interactive;
mod unattended;

use anyhow::Context;
use clap::{Parser, Subcommand};
use interactive::{Rehearsal, ThisMachine};
use sheaf_host::console::Console;
use sheaf_host::run::System;
use sheaf_installer::inventory::{self, Reserved};
use sheaf_installer::progress::Progress;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

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
    /// Install as node.toml says; without one, ask on the consoles.
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
    /// With --dry-run: ask on the consoles about the machine that `inventory --json` described.
    #[arg(long, value_name = "FILE", requires = "dry_run", requires = "manifest")]
    inventory: Option<PathBuf>,
    /// With --inventory: the manifest.json of the release.
    #[arg(long, value_name = "FILE", requires = "inventory")]
    manifest: Option<PathBuf>,
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
        Command::Run(run) => match (&run.inventory, &run.manifest) {
            (Some(inventory), Some(manifest)) => match rehearse(&run, inventory, manifest) {
                Ok(code) => code,
                Err(error) => {
                    eprintln!("sheaf-installer: {error:#}");
                    ExitCode::FAILURE
                }
            },
            _ => {
                let progress = Progress::new(consoles(&run));
                let ask = || interactive::run(&run.consoles, Arc::new(ThisMachine::new(&run.key)));
                unattended::run(&progress, &run.key, run.dry_run.then_some(run.json), &ask)
            }
        },
    }
}

/// The screens, about a machine on paper.
fn rehearse(run: &Run, inventory: &Path, manifest: &Path) -> anyhow::Result<ExitCode> {
    let rehearsal = Rehearsal::new(inventory, manifest, &std::env::current_dir()?)?;
    let mut consoles = run.consoles.clone();
    if consoles.is_empty() {
        consoles.push("/dev/tty".into());
    }
    interactive::run(&consoles, Arc::new(rehearsal)).context("none of the consoles is a terminal")
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
