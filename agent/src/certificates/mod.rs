//! Controller `certificates`: says when each certificate of this node ends, and whether somebody renews it.
//!
//! Reads: files below `/var/lib/kubernetes` and `/var/lib/sheaf/pki`, the node config. Owns: the channel `certificates`,
//! Events of the Node about them. Never touches: any of the files; `cluster` makes and renews them.
//!
//! [`list`] → [`judge`] → [`report`], in the loop [`controller`]; `sheaf-agent certificates` is [`by_hand`].
//! docs/cluster.md is for operators.

pub mod by_hand;
mod controller;
pub mod judge;
pub mod list;
pub mod report;
#[cfg(test)]
mod ten_years;

use crate::channels::{Context, Verdict};
use crate::reconcile::{self, Wakes};
use controller::{Controller, Source};
use tokio::sync::watch;

/// Runs until shutdown.
pub async fn run(ctx: Context, channel: watch::Sender<Option<Verdict>>) -> anyhow::Result<()> {
    let wakes = Wakes::new()
        // A certificate that was renewed gives a new client.
        .watch(Source::Joined, ctx.cluster.clone());
    let (handle, shutdown) = (ctx.controllers.register("certificates"), ctx.shutdown.clone());
    reconcile::run(Controller::new(ctx, channel), wakes, handle, shutdown).await
}
