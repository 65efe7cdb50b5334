//! Controller `etcd`: takes snapshots of the etcd on this node, and keeps its database healthy.
//!
//! Reads: etcd by its own programs, `[cluster.snapshots]` of the node config. Owns: `/data/etcd-snapshots`, the
//! section and the channel `etcd`, Events of the Node about them. Never touches: etcd's data folder, its unit and
//! keys; only [`restore`], which an administrator runs, does, and what it began is finished by `cluster` before it
//! starts etcd.
//!
//! [`observe`] → [`plan`] → [`apply`] → [`report`] in the loop [`controller`]. An update takes its snapshot by
//! [`take`] too. docs/cluster.md is for operators; docs/decisions/0028 says what is kept where, and why.

mod apply;
pub mod archive;
pub mod by_hand;
mod controller;
pub mod keys;
mod observe;
pub mod plan;
pub mod program;
pub mod report;
pub mod restore;
pub mod store;
pub mod take;
#[cfg(test)]
pub(crate) mod testing;

use crate::channels::{Context, EtcdState};
use crate::reconcile::{self, Wakes};
use crate::status::{EtcdSection, Section};
use controller::{Controller, Source};
use sheaf_host::run::Run;
use std::sync::Arc;
use tokio::sync::watch;

/// What this controller does to the machine.
#[derive(Clone)]
pub struct Hosts {
    /// Runs etcd's programs.
    pub run: Arc<dyn Run>,
}

/// Runs until shutdown.
pub async fn run(
    ctx: Context,
    channel: watch::Sender<Option<EtcdState>>,
    section: Section<EtcdSection>,
    hosts: Hosts,
) -> anyhow::Result<()> {
    let mut wakes = Wakes::new().watch(Source::Joined, ctx.cluster.clone());
    let (handle, shutdown) = (ctx.controllers.register("etcd"), ctx.shutdown.clone());
    let controller = Controller::new(ctx, channel, section, hosts, &mut wakes);
    reconcile::run(controller, wakes, handle, shutdown).await
}

#[cfg(test)]
mod tests;
