//! Controller `images`: keeps the disk images that node.toml lists in `/data/images`.
//!
//! Reads: the node config, servers that hold images. Owns: files in `/data/images` that node.toml lists, their
//! `.part` files, `/var/lib/sheaf/images.json`, the channel and the status section `images`. Never touches: files
//! that node.toml does not list (a VM's disk may be an overlay over one), anything outside that directory.
//!
//! An image appears under its name only when it is complete and its SHA-256 is right; then it is never written
//! again. What was verified is remembered with size and time of change, so that a boot does not read gigabytes.

mod controller;
mod fetch;
mod known;
mod plan;
mod report;
mod store;
#[cfg(test)]
mod tests;

use crate::channels::{Context, PresentImage};
use crate::reconcile::{self, Wakes};
use crate::status::{ImageSection, Section};
use controller::{Controller, Source};
use report::Report;
use sheaf_host::fetch::Fetch;
use std::sync::Arc;
use std::time::Duration;
use store::Store;
use tokio::sync::watch;

/// Interval before the first retry: short, since most failures are a link that is not up yet.
const FIRST_RETRY: Duration = Duration::from_secs(5);
/// The longest interval: a server that was repaired is noticed within it.
const LAST_RETRY: Duration = Duration::from_secs(300);
/// Interval before a file that was complete and wrong is fetched again: gigabytes are not fetched all day for nothing.
const WRONG_RETRY: Duration = Duration::from_secs(3600);
/// Images that are there are looked at again after this: someone may have removed a file by hand.
const CHECK_INTERVAL: Duration = Duration::from_secs(86400);

/// Runs until shutdown.
pub async fn run(
    ctx: Context,
    publish: watch::Sender<Vec<PresentImage>>,
    section: Section<Vec<ImageSection>>,
    source: Arc<dyn Fetch>,
) -> anyhow::Result<()> {
    run_with(ctx, publish, section, source, FIRST_RETRY).await
}

/// [`run`] with a first interval of `first_retry`, which doubles.
async fn run_with(
    ctx: Context,
    publish: watch::Sender<Vec<PresentImage>>,
    section: Section<Vec<ImageSection>>,
    source: Arc<dyn Fetch>,
    first_retry: Duration,
) -> anyhow::Result<()> {
    let store = Store { images: ctx.paths.images(), source, end: ctx.shutdown.clone() };
    let mut wakes = Wakes::new().watch(Source::Config, ctx.config.clone());
    let controller = Controller::new(&ctx, store, Report::new(section, publish), first_retry, &mut wakes);
    let handle = ctx.controllers.register("images");
    reconcile::run(controller, wakes, handle, ctx.shutdown.clone()).await
}
