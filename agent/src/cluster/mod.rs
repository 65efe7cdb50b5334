//! The node's part in Kubernetes: makes a control plane when asked to, joins, keeps Node, lease and certificates.
//!
//! Reads: node config, network state, hypervisor state, images.
//! Owns: `/var/lib/sheaf/pki`, `/var/lib/kubernetes`, control-plane units, this node's Node and Lease objects.
//! Never touches: Pods, domains, links. Never deletes the Node object.

use crate::channels::Context;
use tokio::sync::watch;

/// This node's access to its cluster.
#[derive(Clone)]
pub struct Joined {
    /// Speaks as `system:node:<name>`.
    pub client: kube::Client,
    /// Name of the Node object.
    pub node: String,
    /// UID of the Node object.
    pub node_uid: String,
}

/// Runs until shutdown.
pub async fn run(mut ctx: Context, _publish: watch::Sender<Option<Joined>>) -> anyhow::Result<()> {
    ctx.shutdown.requested().await;
    Ok(())
}
