//! The node's part in Kubernetes: makes a control plane when asked to, joins, keeps Node, lease and certificates.
//!
//! Reads: node config, network state, hypervisor state, images.
//! Owns: `/var/lib/sheaf/pki`, `/var/lib/kubernetes`, control-plane units, this node's Node and Lease objects.
//! Never touches: Pods, domains, links. Never deletes the Node object.

pub mod apply;
pub mod create;
pub mod failure;
pub mod keys;
pub mod kubeconfig;
pub mod report;
pub mod time;
pub mod token;

use crate::channels::Context;
use sheaf_host::run::Run;
use sheaf_host::systemd::Units;
use std::sync::Arc;
use tokio::sync::watch;

/// What this controller does to the machine.
#[derive(Clone)]
pub struct Hosts {
    /// Runs kubeadm.
    pub run: Arc<dyn Run>,
    /// Starts the control plane.
    pub units: Arc<dyn Units>,
}

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
pub async fn run(
    mut ctx: Context,
    _publish: watch::Sender<Option<Joined>>,
    _hosts: Hosts,
) -> anyhow::Result<()> {
    ctx.shutdown.requested().await;
    Ok(())
}

/// Does `work`, which blocks, on a thread of its own.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> anyhow::Result<T> + Send + 'static,
) -> anyhow::Result<T> {
    tokio::task::spawn_blocking(work).await?
}

/// Whether the API server answered with HTTP status `code`.
pub(crate) fn is_status(error: &kube::Error, code: u16) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == code)
}
