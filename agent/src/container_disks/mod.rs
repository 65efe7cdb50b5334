//! Controller `container-disks`: pulls the images that hold the disks of VMs of this node, and keeps the disks.
//!
//! Reads: Pods bound to this node and their image pull Secrets, the node config, the ImportPolicy, registries. Owns:
//! `/data/container-disks`, the channel `container_disks`. Never touches: files of VMs. A VM keeps its disk by a link of its own
//! (`vms/files.rs`), so nothing that is removed here is taken from it.
//!
//! [`images`] is how `volumes` fills volumes from such disks. observe ([`wanted`], [`store`]) → [`plan`] → apply ([`pull`], one at a time for each namespace) → report: the channel, which admission of VMs
//! reads. A disk is known by the digest of its manifest and its path: it is pulled once, whatever tags lead to it.

mod collect;
mod controller;
mod images;
mod index;
mod plan;
mod pull;
mod sparse;
mod store;
#[cfg(test)]
mod tests;
mod wanted;

use crate::channels::{ContainerDisks, Context};
use crate::listed::Listed;
use crate::objects::Objects;
use crate::reconcile::{self, Wakes};
use crate::volumes::api::Cluster;
use anyhow::Context as _;
use controller::{Controller, Source};
pub use images::Images;
use k8s_openapi::api::core::v1::Pod;
use sheaf_api::import_policy::ImportPolicy;
use std::sync::Arc;
use tokio::sync::watch;

/// What others list.
#[derive(Clone)]
pub struct Lists {
    /// Pods of this node.
    pub pods: watch::Receiver<Listed<Pod>>,
    /// Which registries may be asked.
    pub policies: watch::Receiver<Listed<ImportPolicy>>,
}

/// Runs until shutdown.
pub async fn run(
    ctx: Context,
    lists: Lists,
    publish: watch::Sender<ContainerDisks>,
    images: Arc<Images>,
) -> anyhow::Result<()> {
    let cluster = Arc::new(Objects::new(ctx.cluster.clone()));
    run_with(ctx, lists, publish, images, cluster).await
}

/// [`run`] with any cluster.
async fn run_with<C: Cluster>(
    ctx: Context,
    lists: Lists,
    publish: watch::Sender<ContainerDisks>,
    images: Arc<Images>,
    cluster: Arc<C>,
) -> anyhow::Result<()> {
    let opened = images.clone();
    let open = move || opened.store().context("the container disks of this node");
    let store = reconcile::blocking(open).await?;
    let mut wakes = Wakes::new()
        .watch(Source::Pods, lists.pods.clone())
        .watch(Source::Policy, lists.policies.clone())
        .watch(Source::Config, ctx.config.clone());
    let controller = Controller::new(&ctx, lists, store, images, cluster, publish, &mut wakes);
    let handle = ctx.controllers.register("container-disks");
    reconcile::run(controller, wakes, handle, ctx.shutdown.clone()).await
}
