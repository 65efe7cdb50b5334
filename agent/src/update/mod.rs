//! Controller `update`: brings the node to the release that its NodeUpdate names, or that was asked for on the node itself, and
//! back when that is no good.
//!
//! Reads: the NodeUpdate of this node, `/run/sheaf/update.sock`, boot.env, os-release, releases on servers, in registries and
//! on drives, the channels by which the health gate judges. Owns: the slot that does not run, UKIs and GRUB's files on the EFI
//! system partition, `/state/update`, a snapshot of etcd before a restart, the status of the NodeUpdate, the section `update`, the
//! channel `leaving`. Never
//! touches: the slot that runs, the partition table, loaders themselves, node.toml; VMs only by their power buttons, before a
//! restart.
//!
//! [`observe`] → [`plan`] → [`apply`] → what was written is read back in each step → [`report`], in the loop [`controller`].
//! A release on trial is judged by [`gate`]. docs/update.md is for operators.

mod apply;
mod artifact;
mod bundle;
pub mod by_hand;
mod chosen;
mod controller;
mod drive;
mod gate;
mod loaders;
mod observe;
mod observed;
mod plan;
mod records;
mod remedy;
mod report;

pub use records::Place;

use crate::channels::Context;
use crate::listed::{self, Listed};
use crate::objects::Objects;
use crate::reconcile::{self, Wakes};
use crate::status::{Section, UpdateSection};
use controller::{Controller, Source};
use sheaf_host::disk::{Disk, DiskError};
use sheaf_host::esp::BootFiles;
use sheaf_host::fetch::Fetch;
use sheaf_host::libvirt::VmHost;
use sheaf_host::run::Run;
use sheaf_host::systemd::Units;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::sync::watch;

/// Opens the partition at a path.
pub type OpenDisk = Arc<dyn Fn(&Path) -> Result<Box<dyn Disk + Send>, DiskError> + Send + Sync>;

/// What this controller does to the machine.
pub struct Hosts<V> {
    /// VMs, to stop them.
    pub vms: Arc<V>,
    /// Mounts the EFI system partition, restarts the machine.
    pub units: Arc<dyn Units>,
    /// Runs etcd's programs.
    pub run: Arc<dyn Run>,
    /// Files of that partition while it is mounted.
    pub esp: Arc<dyn BootFiles>,
    /// Partitions of slots.
    pub open: OpenDisk,
    /// Servers.
    pub fetch: Arc<dyn Fetch>,
    /// `/dev/disk/by-partuuid`.
    pub devices: PathBuf,
    /// `/dev/disk/by-label`.
    pub labels: PathBuf,
    /// Where `sheaf-drive@.service` mounts a drive: `/run/sheaf/drive`.
    pub drive: PathBuf,
    /// The public key of releases, in the node's own root.
    pub key: PathBuf,
    /// The machine was started by UEFI.
    pub is_uefi: bool,
}

impl<V> Clone for Hosts<V> {
    fn clone(&self) -> Self {
        let Self { vms, units, run, esp, open, fetch, devices, labels, drive, key, is_uefi } = self;
        Self {
            vms: vms.clone(),
            units: units.clone(),
            run: run.clone(),
            esp: esp.clone(),
            open: open.clone(),
            fetch: fetch.clone(),
            devices: devices.clone(),
            labels: labels.clone(),
            drive: drive.clone(),
            key: key.clone(),
            is_uefi: *is_uefi,
        }
    }
}

/// Runs until shutdown.
pub async fn run<V: VmHost>(
    ctx: Context,
    leaving: watch::Sender<bool>,
    section: Section<UpdateSection>,
    hosts: Hosts<V>,
) -> anyhow::Result<()> {
    let listed = watch::Sender::new(Listed::default());
    let mut wakes = Wakes::new().watch(Source::Objects, listed.subscribe());
    let (handle, shutdown) = (ctx.controllers.register("update"), ctx.shutdown.clone());
    let cluster = Objects::new(ctx.cluster.clone());
    let (controller, progress, asked) =
        Controller::new(ctx.clone(), leaving, section, hosts, cluster, listed.subscribe(), &mut wakes);
    if let Err(error) = by_hand::open(&ctx.paths.update_socket(), asked) {
        // The NodeUpdate is followed all the same.
        tracing::error!("{error:#}: `sheaf-agent update` takes no requests");
    }
    let wakes = wakes.watch(Source::Progress, progress);
    tokio::select! {
        ended = reconcile::run(controller, wakes, handle, shutdown) => ended,
        () = listed::follow(ctx.cluster.clone(), &listed, listed::by_name, listed::Scope::ThisNode) => Ok(()),
    }
}

#[cfg(test)]
mod tests;
