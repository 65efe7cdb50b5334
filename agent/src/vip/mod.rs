//! Controller `vip`: the address for people, `cluster.vip`, on one control-plane node whose own API server is ready.
//!
//! Reads: `cluster.vip` of the node config, addresses of links, `/readyz` of this node's API server. Owns: the Lease
//! `kube-system/sheaf-vip-ADDRESS` while this node holds it, the address on the node's link, the section `vip`. Never touches: other
//! addresses.
//!
//! Who has the Lease has the address, and renews the Lease by its own API server alone: so who holds it has an API server that is
//! ready and a majority of etcd's members. On the link the address has a lifetime that ends before another node may take it, so
//! nothing this program fails to do leaves two. observe → [`election`] (pure) → apply → report in the loop [`controller`];
//! docs/decisions/0049 says why not VRRP.

mod controller;
pub mod election;
mod lease;
#[cfg(test)]
mod tests;

use crate::channels::Context;
use crate::reconcile::{self, Wakes};
use crate::status::{Section, VipSection};
use controller::{Controller, Source};
use sheaf_host::segment::Segments;
use sheaf_host::virtual_address::VirtualAddresses;
use std::sync::Arc;

/// What this controller does to the machine.
#[derive(Clone)]
pub struct Hosts {
    /// Which link has the node's address.
    pub segments: Arc<dyn Segments>,
    /// The address that moves.
    pub addresses: Arc<dyn VirtualAddresses>,
}

/// Runs until shutdown.
pub async fn run(ctx: Context, section: Section<VipSection>, hosts: Hosts) -> anyhow::Result<()> {
    let wakes = Wakes::new()
        .watch(Source::Config, ctx.config.clone())
        .watch(Source::Network, ctx.network.clone())
        .watch(Source::ShuttingDown, ctx.shutting_down.clone())
        .watch(Source::Leaving, ctx.leaving.clone());
    let (handle, shutdown) = (ctx.controllers.register("vip"), ctx.shutdown.clone());
    let mut controller = Controller::new(ctx, section, hosts);
    reconcile::run(&mut controller, wakes, handle, shutdown).await?;
    controller.end().await;
    Ok(())
}
