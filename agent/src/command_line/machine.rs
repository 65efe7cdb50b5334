//! `configure`, `power`, `reset`, `support-bundle`: what units of the machine itself start, and its way back to the beginning.
//!
//! Route in: arguments. Route out: `sheaf_agent::{config, power, reset, support, without_lease}`.

use super::{Here, block_on};
use anyhow::Context as _;
use clap::Subcommand;
use sheaf_agent::config;
use sheaf_agent::power::guests;
use sheaf_agent::reset::{self, by_hand};
use sheaf_agent::support;
use sheaf_agent::without_lease::by_force;
use sheaf_host::disk::RawDisk;
use sheaf_host::file;
use sheaf_host::hostname::{Kernel, SetHostname};
use sheaf_host::libvirt::{self, Libvirt, QEMU_LOGS};
use sheaf_host::lvm::Lvm2;
use sheaf_host::run::{Output, Run, RunError, System};
use sheaf_host::systemd::{Systemd, Units as _};
use sheaf_host::transient::SystemdRun;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

#[derive(Subcommand)]
pub enum PowerCommand {
    /// Asks every VM of this node to power off, and ends those that do not in time. sheaf-guests.service runs it when the
    /// machine goes down.
    StopGuests,
    /// Ends every VM that may start on another node, if the lease of this node was not renewed in time; if it cannot, resets the machine.
    /// A timer of systemd runs it.
    #[command(hide = true)]
    StopWithoutLease,
}

/// What is to be reset, and whether that is confirmed.
#[derive(clap::Args)]
pub struct ResetArguments {
    /// Name of this node: confirms it.
    #[arg(long)]
    node: Option<String>,
    /// Erases its pools, too, with all volumes of VMs.
    #[arg(long)]
    wipe_pools: bool,
    /// Erases node.toml, too: the node then has no cluster, and an address by DHCP.
    #[arg(long)]
    forget_config: bool,
    /// Takes this file as node.toml; one with a new token lets the node join again.
    #[arg(long, value_name = "FILE", conflicts_with = "forget_config")]
    config: Option<PathBuf>,
    /// Also a node that is in its cluster.
    #[arg(long)]
    force: bool,
    /// Withdraws an earlier request.
    #[arg(long, exclusive = true)]
    cancel: bool,
}

/// Marks this node to be reset, and restarts the machine.
pub fn reset(here: &Here, arguments: ResetArguments) -> anyhow::Result<()> {
    let ResetArguments { node, wipe_pools, forget_config, config, force, cancel } = arguments;
    let ask = by_hand::Ask { node, pools: wipe_pools, forget_config, config, force, cancel };
    let said = by_hand::ask(&here.paths, &lvm(), &here.config().system.hostname, &ask)?;
    print!("{}", said.text);
    match said.restarts {
        true => restart(),
        false => Ok(()),
    }
}

/// Resets the node that its initrd found marked.
pub fn reset_at_boot(here: &Here, install: &str) -> anyhow::Result<()> {
    let hosts = reset::Hosts {
        run: Arc::new(System),
        lvm: Arc::new(lvm()),
        open: Arc::new(|path| Ok(Box::new(RawDisk::open(path)?))),
        devices: "/dev/disk/by-partuuid".into(),
        scratch: here.paths.run.join("reset"),
    };
    reset::at_boot(&hosts, install, &|line| println!("sheaf: reset: {line}"))
}

/// Packs what helps to find out what is wrong with this node.
pub fn support_bundle(here: &Here, output: Option<&Path>) -> anyhow::Result<()> {
    let config = here.config();
    match output {
        Some(file) => {
            let bytes = support::write(&System, &here.paths, &config, Vec::new())?;
            file::write_atomically(file, &bytes, 0o600)?;
            println!("{}", file.display());
        }
        None => support::write(&System, &here.paths, &config, io::stdout().lock())?.flush()?,
    }
    Ok(())
}

/// LVM of this machine.
fn lvm() -> Lvm2 {
    Lvm2::new(Arc::new(System), Arc::new(SystemdRun(Arc::new(System))))
}

/// Restarts the machine; its VMs are asked to power off first.
fn restart() -> anyhow::Result<()> {
    block_on(async { Ok(Systemd::connect().await?.reboot().await?) })
        .context("the machine does not restart; restart it yourself")
}

/// The machine's way down.
pub fn power(here: &Here, command: &PowerCommand) -> anyhow::Result<()> {
    match command {
        PowerCommand::StopGuests => stop_guests(here),
        PowerCommand::StopWithoutLease => stop_without_lease(here),
    }
}

/// Stops the VMs of this machine; what is waited for is on the console and in the journal.
fn stop_guests(here: &Here) -> anyhow::Result<()> {
    block_on(async {
        let socket = here.paths.run_root.join(libvirt::SOCKET);
        let vms = Libvirt::connect(QEMU_LOGS.into(), socket)
            .await
            .context("the system bus cannot be reached; VMs are not asked to power off")?;
        guests::stop(&here.paths, &vms, &|line| println!("sheaf: {line}")).await
    })
}

/// Ends VMs that may start elsewhere by now, or resets the machine.
fn stop_without_lease(here: &Here) -> anyhow::Result<()> {
    let machine = by_force::Machine {
        uptime: &|| Ok(sheaf_host::uptime::uptime()?),
        reset: &|| eprintln!("sheaf: the machine cannot be reset: {}", sheaf_host::reset::now()),
        say: &|line| println!("sheaf: {line}"),
    };
    block_on(async {
        let socket = here.paths.run_root.join(libvirt::SOCKET);
        let connect = async || Libvirt::connect(QEMU_LOGS.into(), socket.clone()).await.map(Arc::new);
        let ended = by_force::stop(&here.paths, connect, &machine).await?;
        // systemd starts this again.
        anyhow::ensure!(ended != by_force::Ended::Reset, "the machine was not reset");
        Ok(())
    })
}

/// Renders the files of the machine whose root is `root`, and says what it did: this is on the boot's screen.
pub fn configure(here: &Here) -> anyhow::Result<()> {
    let is_this_machine = here.paths.root == Path::new("/");
    let hostname: &dyn SetHostname = if is_this_machine { &Kernel } else { &Elsewhere };
    let run: &dyn Run = if is_this_machine { &System } else { &Elsewhere };
    let (effective, plan) = config::configure(&here.paths, &here.paths.root, hostname, run)?;
    if let Some(problem) = &effective.problem {
        println!("{problem}\nThis node comes up by DHCP and without a cluster until that is fixed.");
    }
    for note in &plan.notes {
        println!("not done: {note}");
    }
    println!("configured as {}", effective.config.system.hostname);
    Ok(())
}

/// A tree that is not the running machine's: its files carry the name, no kernel does.
struct Elsewhere;

impl SetHostname for Elsewhere {
    fn set(&self, _: &str) -> io::Result<()> {
        Ok(())
    }
}

impl Run for Elsewhere {
    fn run(&self, _: &sheaf_host::run::Command) -> Result<Output, RunError> {
        Ok(Output::default())
    }
}
