//! `sheaf-installer`: puts a release on one disk of this machine, asked by node.toml or, without one, on screens.
//!
//! Route in: the unit of the install medium runs `sheaf-installer run`. Route out: a reboot into the installed
//! node, or exit code 1 with the reason on every console, where it stays until someone reads it.

mod interactive;
mod recover;
mod unattended;

use anyhow::Context;
use clap::{Parser, Subcommand};
use interactive::{Rehearsal, ThisMachine};
use sheaf_host::console::Console;
use sheaf_host::run::System;
use sheaf_host::tty::{Terminal, Tty};
use sheaf_installer::inventory::{self, Reserved};
use sheaf_installer::progress::Progress;
use sheaf_installer::record;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

/// How long each console is listened to in turn.
const KEY: Duration = Duration::from_millis(300);

/// Installs Sheaf on one disk of this machine.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Show this machine's disks, NICs, firmware and memory.
    Inventory {
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// Install according to node.toml; without one, ask on the consoles.
    Run(Run),
    /// Pack logs, inventory, plan and the config without its secrets into a file for support. Needs no network.
    SupportBundle {
        /// Write it to this file; default: to the drive labelled SHEAF-CONF.
        #[arg(long, value_name = "FILE")]
        output: Option<PathBuf>,
    },
}

#[derive(clap::Args)]
struct Run {
    /// Show the plan and write nothing.
    #[arg(long)]
    dry_run: bool,
    /// Show the plan as JSON.
    #[arg(long, requires = "dry_run")]
    json: bool,
    /// Print to this console (repeatable); default: standard output.
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
        Command::Run(run) if !run.dry_run && recover::is_asked() => recover::run(&run.consoles, &run.key),
        Command::Run(run) => match (&run.inventory, &run.manifest) {
            (Some(inventory), Some(manifest)) => match rehearse(&run, inventory, manifest) {
                Ok(code) => code,
                Err(error) => {
                    eprintln!("sheaf-installer: {error:#}");
                    ExitCode::FAILURE
                }
            },
            _ => install(&run),
        },
        Command::SupportBundle { output } => match support_bundle(output.as_deref()) {
            Ok(place) => {
                println!("{place}");
                ExitCode::SUCCESS
            }
            Err(error) => {
                eprintln!("sheaf-installer: {error:#}");
                ExitCode::FAILURE
            }
        },
    }
}

/// Installs, and again when someone at a console asks for it after a failure.
fn install(run: &Run) -> ExitCode {
    loop {
        let progress = Progress::new(consoles(run));
        let ask = || interactive::run(&run.consoles, Arc::new(ThisMachine::new(&run.key)));
        let code = match unattended::run(&progress, &run.key, run.dry_run.then_some(run.json), &ask) {
            unattended::End::Done => return ExitCode::SUCCESS,
            unattended::End::Asked(code) => return code,
            unattended::End::Failed => ExitCode::FAILURE,
        };
        if run.dry_run || !again(&run.consoles) {
            return code;
        }
    }
}

/// Waits until someone presses Enter at one of the consoles; false when none of them is a terminal.
fn again(consoles: &[PathBuf]) -> bool {
    let terminals: Vec<_> = consoles.iter().filter_map(|path| Tty::open(path).ok()).collect();
    let mut lost = 0;
    while lost < terminals.len() {
        lost = 0;
        for terminal in &terminals {
            let mut typed = [0; 64];
            match terminal.read(&mut typed, KEY) {
                Ok(length) if typed[..length].iter().any(|byte| [b'\r', b'\n'].contains(byte)) => {
                    return true;
                }
                Ok(_) => {}
                Err(_) => lost += 1,
            }
        }
    }
    false
}

fn support_bundle(output: Option<&Path>) -> anyhow::Result<String> {
    let bundle =
        record::bundle(&System, Path::new("/"), Path::new(record::FOLDER)).context("the support bundle")?;
    if let Some(output) = output {
        sheaf_host::file::write_atomically(output, &bundle, 0o600)?;
        return Ok(output.display().to_string());
    }
    let firmware = sheaf_host::efi::EfiVars::default();
    let fetch = sheaf_host::fetch::Http::default();
    let nics = sheaf_host::nic::wired(Path::new("/")).context("NICs")?;
    let macs = nics.into_iter().filter_map(|nic| nic.permanent_mac);
    let machine = inventory::identity(Path::new("/"), macs);
    let name = format!("sheaf-support-{}.tar.gz", record::name_of(&machine));
    Ok(record::save(&unattended::host(&firmware, &fetch), &name, &bundle)?)
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

/// A console that is not there (a machine without a serial port) is left out; the log is one more.
fn consoles(run: &Run) -> Vec<Console> {
    if run.consoles.is_empty() {
        return if run.json { Vec::new() } else { vec![Console::stdout()] };
    }
    let log = record::open_log(Path::new(record::FOLDER));
    run.consoles.iter().filter_map(|path| Console::open(path).ok()).chain(log).collect()
}
