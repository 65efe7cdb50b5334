//! Controller `volumes`: makes, fills, copies, grows and removes the volumes that the cluster asks this node for.
//!
//! Reads: LocalVolumes of this node, the ImportPolicy, LVM's reports. Owns: logical volumes tagged `sheaf.volume` in the groups
//! `sheaf-<pool>`, finalizer and status of these objects, the channel and the status section `volumes`. Never touches:
//! disks, groups and thin pools (`pools` does), logical volumes without the tag, volumes that are complete and that no
//! object asks to have removed.
//!
//! observe ([`listed`], [`observed`]) → [`plan`] → [`apply`] ([`fill`] brings images in) → the next look verifies →
//! report ([`api`]). Anyone who sends an image comes in at [`upload`]. No state is kept that cannot be seen again. A volume carries the tag `sheaf.incomplete` from the moment
//! it exists until it is complete and on the disk: whatever an agent finds so that it did not begin itself is what a
//! power cut or a crash left, and is removed and begun again.

pub mod api;
pub mod apply;
pub mod controller;
pub mod fill;
pub mod observed;
pub mod plan;
#[cfg(test)]
mod tests;
pub mod upload;
pub mod view;

use crate::channels::{Context, Volumes};
use crate::listed;
use crate::objects::Objects;
use crate::status::{Section, VolumeSection};
use sheaf_api::import_policy::ImportPolicy;
use sheaf_host::fetch::Fetch;
use sheaf_host::lvm::Lvm;
use sheaf_host::transient::TransientUnits;
use std::path::PathBuf;
use std::sync::Arc;
use tokio::sync::watch;

pub use sheaf_host::lvm::{INCOMPLETE_TAG as INCOMPLETE, VOLUME_TAG as TAG};

/// A snapshot has it: nobody writes it, and it does not count as promised space.
pub const SNAPSHOT: &str = "sheaf.snapshot";

/// What this controller does to the machine.
#[derive(Clone)]
pub struct Hosts {
    /// Logical volumes. The very one that `pools` tells which devices a group has.
    pub lvm: Arc<dyn Lvm>,
    /// Servers that hold images.
    pub fetch: Arc<dyn Fetch>,
    /// Registries that hold container disks.
    pub images: Arc<dyn fill::registry::Images>,
    /// Runs qemu-img, confined.
    pub units: Arc<dyn TransientUnits>,
    /// Where devices are: `/dev`.
    pub devices: PathBuf,
    /// Who waits to send an image.
    pub uploads: Arc<upload::server::Uploads>,
}

/// Runs until shutdown.
pub async fn run(
    ctx: Context,
    publish: watch::Sender<Volumes>,
    section: Section<Vec<VolumeSection>>,
    hosts: Hosts,
    policies: watch::Receiver<listed::Listed<ImportPolicy>>,
) -> anyhow::Result<()> {
    let cluster = Arc::new(Objects::new(ctx.cluster.clone()));
    let listed = watch::Sender::new(listed::Listed::default());
    // Volumes are made and filled from servers without it.
    if let Err(error) = upload::server::open(&ctx.paths.uploads(), listed.subscribe(), hosts.uploads.clone())
    {
        tracing::error!("uploads cannot be accepted: {:#}", anyhow::Error::from(error));
    }
    let lists = controller::Lists { volumes: listed.subscribe(), policies };
    let control = controller::Controller::new(ctx.clone(), hosts, cluster, lists, publish, section).run();
    let follow = listed::follow(ctx.cluster.clone(), &listed, listed::by_name, listed::Scope::ThisNode);
    tokio::select! {
        ended = control => ended,
        () = follow => Ok(()),
    }
}
