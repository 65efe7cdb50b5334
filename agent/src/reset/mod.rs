//! Factory reset: the node's state and data are erased at its next start, and on request its pools; slots and boot entries stay.
//!
//! Why at the next start: a node that runs cannot erase what it runs on. `sheaf-agent reset` ([`by_hand`]), the recovery
//! (`installer/src/recover.rs`) and an agent whose node leaves ([`crate::cluster::leave`]) write a mark
//! (`release/src/records/reset.rs`) and restart the machine. The initrd sees the mark when the root is there and nothing else is, and
//! runs `sheaf-agent reset-at-boot` in it. Every step may be done again, and the mark goes last, so a power cut anywhere is followed
//! by the same reset. Route in: the mark. Route out: the disks of a machine that was just installed; docs/decisions/0047 says why.

mod apply;
pub mod by_hand;
mod observe;
mod plan;

pub use sheaf_release::records::reset::Mark;

use crate::paths::Paths;
use crate::update::OpenDisk;
use anyhow::Context as _;
use sheaf_host::disk::RawDisk;
use sheaf_host::lvm::LvmReport;
use sheaf_host::run::Run;
use sheaf_release::records;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What a reset does to the machine.
#[derive(Clone)]
pub struct Hosts {
    /// Runs mkfs.ext4 and blkdiscard.
    pub run: Arc<dyn Run>,
    /// Which devices the node's pools have.
    pub lvm: Arc<dyn LvmReport>,
    /// Opens partitions.
    pub open: OpenDisk,
    /// `/dev/disk/by-partuuid`.
    pub devices: PathBuf,
    /// A folder in memory.
    pub scratch: PathBuf,
}

/// Resets the node, if it is marked. `install` is the UUID of the installation that was started. `say` gets a line for each step and,
/// while a partition is overwritten, how far it is.
pub fn at_boot(hosts: &Hosts, install: &str, say: &(dyn Fn(&str) + Sync)) -> anyhow::Result<()> {
    let Some(observed) = observe::observe(hosts, install)? else { return Ok(()) };
    for pool in observed.pools.iter().filter(|pool| pool.missing > 0) {
        say(&format!(
            "pool {}: {} of its disks are not attached, and keep what is on them",
            pool.name, pool.missing
        ));
    }
    for step in plan::plan(&observed) {
        say(&step.to_string());
        apply::apply(hosts, &step, say)
            .with_context(|| format!("cannot {step}; it is tried again at the next start"))?;
    }
    say("the reset is complete");
    Ok(())
}

/// Value of `name` in boot.env.
fn boot_variable(paths: &Paths, name: &str) -> anyhow::Result<String> {
    let file = paths.boot_env();
    let text =
        std::fs::read_to_string(&file).with_context(|| format!("{}: cannot be read", file.display()))?;
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
    let value = value.filter(|value| !value.is_empty()).map(str::to_owned);
    value.with_context(|| format!("{}: has no {name}", file.display()))
}

/// UUID of the installation that runs, and its partition of records.
pub fn place(paths: &Paths) -> anyhow::Result<(String, PathBuf)> {
    let install = boot_variable(paths, "INSTALL_ID")?;
    let root = paths.etc.parent().unwrap_or(Path::new("/"));
    let partition = records::partition(&root.join("dev/disk/by-partuuid"), &install, records::PARTITION);
    let partition = partition.with_context(|| format!("boot.env: INSTALL_ID={install} is not a UUID"))?;
    Ok((install, partition))
}

/// The reset of this node that is asked for and not done yet.
pub fn asked(paths: &Paths) -> anyhow::Result<Option<Mark>> {
    let (install, partition) = place(paths)?;
    let mark = records::reset::read(&RawDisk::open(&partition)?)?;
    Ok(mark.filter(|mark| mark.install.eq_ignore_ascii_case(&install)))
}

#[cfg(test)]
mod tests;
