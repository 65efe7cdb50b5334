//! Controller `disks`: shows every disk of the node by its identity, and erases those whose serial was repeated.
//!
//! Reads: udev's change notices, lsblk, wipefs, LVM's report of groups, smartctl, BlockDevices of this node. Owns: the
//! making and the status of these objects, the signatures on a disk that `spec.wipe` names, the channel and the status
//! section `disks`. Never touches: volume groups (`pools` does), the boot disk, a disk in use; it deletes no object.
//!
//! [`observe`] → [`plan`] → [`apply`] → the next scan verifies → [`report`], in the loop [`controller`]. It scans when
//! udev reports a disk, when `pools` has changed one, and for health every half hour.

mod apply;
pub mod contents;
mod controller;
pub mod identity;
pub mod observe;
pub mod plan;
mod report;

use crate::channels::{Context, Disks};
use crate::listed::{self, Listed};
use crate::objects::Objects;
use crate::reconcile::{self, Wakes};
use crate::status::{DiskSection, Section};
use controller::{Controller, Source};
use sheaf_host::lvm::LvmReport;
use sheaf_host::udev::BlockNews;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Notify, watch};

pub use plan::object_name;

/// A disk that is plugged in makes several change notices: one for itself, one for each partition.
const SETTLE: Duration = Duration::from_millis(300);

/// What this controller does to the machine.
#[derive(Clone)]
pub struct Hosts {
    /// Disks.
    pub disks: Arc<dyn sheaf_host::disks::Disks>,
    /// Volume groups.
    pub lvm: Arc<dyn LvmReport>,
    /// Change notices of disks.
    pub news: Arc<dyn BlockNews>,
    /// `/`.
    pub root: PathBuf,
}

/// Runs until shutdown. `scan` requests a scan.
pub async fn run(
    ctx: Context,
    publish: watch::Sender<Disks>,
    section: Section<Vec<DiskSection>>,
    hosts: Hosts,
    scan: Arc<Notify>,
) -> anyhow::Result<()> {
    let listed = watch::Sender::new(Listed::default());
    // Opened before the first scan: a change in between is not missed.
    let wakes = wakes(&hosts, listed.subscribe(), scan.clone());
    let (handle, shutdown) = (ctx.controllers.register("disks"), ctx.shutdown.clone());
    let cluster = Objects::new(ctx.cluster.clone());
    let controller = Controller::new(&ctx, publish, section, hosts, cluster, listed.subscribe(), scan);
    tokio::select! {
        ended = reconcile::run(controller, wakes, handle, shutdown) => ended,
        () = listed::follow(ctx.cluster.clone(), &listed, listed::by_name, listed::Scope::ThisNode) => Ok(()),
    }
}

fn wakes<T: Send + Sync + 'static>(
    hosts: &Hosts,
    objects: watch::Receiver<T>,
    scan: Arc<Notify>,
) -> Wakes<Source> {
    Wakes::new()
        .changes(Source::Disks, hosts.news.watch(), SETTLE)
        .notify(Source::Request, scan)
        .watch(Source::Objects, objects)
}

#[cfg(test)]
mod tests;
