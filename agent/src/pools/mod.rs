//! Controller `pools`: makes thin pools of disks, grows them, empties devices that leave, watches how full they are.
//!
//! Reads: the channel `disks`, node.toml's `[[storage.pool]]`, StoragePools of this node, LVM's reports. Owns: volume
//! groups `sheaf-<pool>` that carry this node's tag, their members and thin pool, the making and the status of
//! StoragePools, the channel and the status section `pools`. Never touches: volumes inside (`volumes` does), a disk that
//! carries anything else, a group without the tag; it deletes no object.
//!
//! [`observe`] → [`plan`] → [`apply`] → observe again, until nothing is left to do → [`report`], in the loop [`controller`].
//! LVM sends no notice of how full a pool is: it is asked every ten seconds, and more often when space is short.

mod apply;
mod controller;
mod deactivation;
mod observe;
mod plan;
mod report;
pub mod size;
pub mod wanted;

use crate::channels::{Context, Pool};
use crate::listed::{self, Listed};
use crate::objects::Objects;
use crate::reconcile::{self, Wakes};
use crate::status::{PoolSection, Section};
use controller::{Controller, INTERVALS, Source};
use sheaf_host::lvm::Lvm;
use std::sync::Arc;
use tokio::sync::{Notify, watch};

/// What this controller does to the machine.
#[derive(Clone)]
pub struct Hosts {
    /// The very one that `volumes` uses: it is told here which devices a group has.
    pub lvm: Arc<dyn Lvm>,
    /// Requests a scan of `disks`, after a disk was changed here.
    pub scan: Arc<Notify>,
}

/// Runs until shutdown.
pub async fn run(
    ctx: Context,
    publish: watch::Sender<Vec<Pool>>,
    section: Section<Vec<PoolSection>>,
    hosts: Hosts,
) -> anyhow::Result<()> {
    let listed = watch::Sender::new(Listed::default());
    let wakes = wakes(&ctx, listed.subscribe());
    let (handle, shutdown) = (ctx.controllers.register("pools"), ctx.shutdown.clone());
    let cluster = Objects::new(ctx.cluster.clone());
    let controller = Controller::new(&ctx, publish, section, hosts, cluster, listed.subscribe(), INTERVALS);
    tokio::select! {
        ended = reconcile::run(controller, wakes, handle, shutdown) => ended,
        () = listed::follow(ctx.cluster.clone(), &listed, listed::by_name, listed::Scope::ThisNode) => Ok(()),
    }
}

fn wakes<T: Send + Sync + 'static>(ctx: &Context, objects: watch::Receiver<T>) -> Wakes<Source> {
    Wakes::new()
        .watch(Source::Disks, ctx.disks.clone())
        .watch(Source::Config, ctx.config.clone())
        .watch(Source::Objects, objects)
}

#[cfg(test)]
mod tests;
