//! The rounds: certificates before they end, rights as the record has them.
//!
//! Route in: time. Route out: what [`super::keep`] does.

use super::{configured, keep};
use crate::channels::Context;
use crate::cluster::create::pki::Pki;
use crate::cluster::kubeconfig;
use crate::reconcile::{self, Next, Woken, blocking};
use anyhow::Context as _;
use sheaf_config::node::Role;
use std::fs;
use std::time::{Duration, SystemTime};

/// Between two looks at the record: an administrator who is revoked with kubectl has rights for no longer than this.
const LOOK: Duration = Duration::from_secs(60);
/// Longest time for a round: it is a handful of requests to the API server of this machine.
const ROUND: Duration = Duration::from_secs(30);

/// What wakes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Source {
    /// The node has joined: its control plane is up.
    Joined,
}

/// The controller's state.
pub struct Controller {
    ctx: Context,
    failing: bool,
}

impl Controller {
    /// One that has observed nothing yet.
    pub fn new(ctx: Context) -> Self {
        Self { ctx, failing: false }
    }

    async fn keep(&self, configured: Option<&[String]>) -> anyhow::Result<()> {
        let pki = Pki { dir: self.ctx.paths.kubernetes.clone() };
        let files = pki.clone();
        let (ca, ca_key) = blocking(move || {
            Ok((fs::read_to_string(files.file("ca.crt"))?, fs::read_to_string(files.file("ca.key"))?))
        })
        .await
        .context("the cluster's CA in /var/lib/kubernetes/pki cannot be read")?;
        let client = kubeconfig::client_from_file(&pki.kubeconfig("super-admin")).await?;
        keep(&client, &ca, &ca_key, configured, SystemTime::now()).await
    }
}

impl reconcile::Controller for Controller {
    type Source = Source;

    async fn round(&mut self, _: &Woken<Source>) -> Next {
        let config = self.ctx.config.borrow().clone();
        let cluster = config.cluster.as_ref().filter(|cluster| cluster.role() == Role::ControlPlane);
        let Some(cluster) = cluster else {
            return Next::WOKEN;
        };
        // Before that `cluster` is making or starting the control plane.
        if self.ctx.cluster.borrow().is_none() {
            return Next::WOKEN.waiting_for("the control plane");
        }
        let kept = tokio::time::timeout(ROUND, self.keep(configured(cluster))).await;
        let why = match kept {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(format!("{error:#}")),
            Err(_) => Some(format!("the API server did not answer within {} s", ROUND.as_secs())),
        };
        // Once, not once a minute.
        if let (Some(why), false) = (&why, self.failing) {
            tracing::warn!("administrators: {why}; it is tried again every {} s", LOOK.as_secs());
        }
        self.failing = why.is_some();
        Next::after(LOOK)
    }
}
