//! Controller `administrators`: who administers the cluster, by a key of theirs.
//!
//! Reads: `cluster.admin-keys` of node.toml, the ConfigMap `kube-system/sheaf-administrators` (further keys, and who was
//! revoked). Owns: the ConfigMap `kube-public/sheaf-access` with a certificate for each key, and a ClusterRoleBinding for each
//! administrator. Never touches: bindings of others.
//!
//! A node has no ssh; a certificate is public, so anyone may read it, and it is of use only to the key's owner. It gives a name
//! and no rights: those are in the binding, which goes when the administrator is revoked. [`observe`] → [`plan`] → [`apply`], in
//! the loop [`controller`], and as a step of making the control plane. docs/decisions/0045.

mod apply;
pub mod by_hand;
mod controller;
mod observe;
pub mod plan;

use crate::channels::Context;
use crate::reconcile::{self, Wakes};
use controller::{Controller, Source};
use sheaf_config::node::{Cluster, ClusterMode};
use std::time::SystemTime;

/// ConfigMap with certificates, in `kube-public`.
pub const ACCESS: &str = "sheaf-access";
/// ConfigMap with further keys and who was revoked, in `kube-system`. Not in `sheaf-system`, whose ConfigMaps sheaf-controller
/// writes: it is no administrator and makes none.
pub const RECORD: &str = "sheaf-administrators";
/// Group of their certificates. It has no rights itself.
pub const GROUP: &str = "sheaf:administrators";

/// The keys of node.toml, on the node that made the cluster: no other has any.
pub fn configured(cluster: &Cluster) -> Option<&[String]> {
    (cluster.mode == ClusterMode::Create).then_some(cluster.admin_keys.as_slice())
}

/// Runs until shutdown.
pub async fn run(ctx: Context) -> anyhow::Result<()> {
    let wakes = Wakes::new().watch(Source::Joined, ctx.cluster.clone());
    let (handle, shutdown) = (ctx.controllers.register("administrators"), ctx.shutdown.clone());
    reconcile::run(Controller::new(ctx), wakes, handle, shutdown).await
}

/// Gives each administrator a certificate and rights, and all others none; `configured` are the keys of node.toml, PEM, on the node
/// that made the cluster.
pub async fn keep(
    client: &kube::Client,
    ca: &str,
    ca_key: &str,
    configured: Option<&[String]>,
    now: SystemTime,
) -> anyhow::Result<()> {
    let observed = observe::observe(client).await?;
    let planned = plan::plan(&observed, ca, ca_key, configured, now)?;
    for problem in &planned.problems {
        tracing::warn!("ConfigMap kube-system/{RECORD}: {problem}");
    }
    for action in &planned.actions {
        tracing::info!("administrators: {action}");
        apply::apply(client, action).await?;
    }
    Ok(())
}
