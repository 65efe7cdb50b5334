//! Sheaf's command line, for anyone who builds and tries it: one file for each command.
//!
//! Route in: arguments and environment. Route out: crates os-image and iso; errors print with all their causes.

mod admin;
mod build;
mod config;
mod contents;
mod demo;
mod diff;
mod disk;
mod guest;
mod hardware;
mod image;
mod inspect;
mod iso;
mod keys;
mod kube;
mod lock;
mod progress;
mod pxe;
mod serve;
mod terms;
mod tools;
mod usb;
mod workplace;

use clap::{Parser, Subcommand};
use std::process::ExitCode;

#[derive(Parser)]
#[command(
    name = "sheaf",
    version,
    about = "Builds Sheaf's node image and its installation medium, and helps to operate nodes"
)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Make an administrator's key, or fetch the kubeconfig for one
    Admin(admin::Arguments),
    /// Build a release from a recipe
    Build(build::Arguments),
    /// Check node configs, or print an example
    Config(config::Arguments),
    /// Print what an update from one release to another changes
    Diff(diff::Arguments),
    /// Write the disk of an installed node to a file, without booting an installer
    Disk(disk::Arguments),
    /// Print what is in a release, which line of a recipe brought it, and its bytes
    Inspect(inspect::Arguments),
    /// Make a bootable medium from a release
    Iso(iso::Arguments),
    /// List the drivers and the firmware of a release
    Hardware(hardware::Arguments),
    /// Build a release, install a node in QEMU and run a VM on it
    Demo(demo::Arguments),
    /// Make the small disk image for the VMs of demo and tests
    Guest(guest::Arguments),
    /// Make, change and sign the list of keys that releases are believed by
    Keys(keys::Arguments),
    /// Build only the control plane's binary
    Kube,
    /// Write the lock beside a recipe from what the mirrors have now, and print what changed
    Lock(lock::Arguments),
    /// Make a folder for booting the installer over the network, and serve it
    Pxe(pxe::Arguments),
    /// Serve a disk image from this machine to the nodes
    Serve(image::Arguments),
    /// Make the tools chroot and print where it is
    Tools,
    /// Write a USB stick with the installer
    Usb(usb::Arguments),
}

fn main() -> ExitCode {
    let filter = tracing_subscriber::EnvFilter::try_from_env("SHEAF_LOG").unwrap_or_else(|_| "warn".into());
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    let result = match Arguments::parse().command {
        Command::Admin(arguments) => admin::run(&arguments),
        Command::Build(arguments) => build::run(&arguments),
        Command::Config(arguments) => config::run(&arguments),
        Command::Diff(arguments) => diff::run(&arguments),
        Command::Disk(arguments) => disk::run(&arguments),
        Command::Inspect(arguments) => inspect::run(&arguments),
        Command::Hardware(arguments) => hardware::run(&arguments),
        Command::Iso(arguments) => iso::run(&arguments),
        Command::Demo(arguments) => demo::run(&arguments),
        Command::Guest(arguments) => guest::run(&arguments),
        Command::Keys(arguments) => keys::run(&arguments),
        Command::Kube => kube::run(),
        Command::Lock(arguments) => lock::run(&arguments),
        Command::Pxe(arguments) => pxe::run(&arguments),
        Command::Serve(arguments) => image::run(&arguments),
        Command::Tools => tools::run(),
        Command::Usb(arguments) => usb::run(&arguments),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("sheaf: {error:#}");
            ExitCode::FAILURE
        }
    }
}
