//! Controller `demotions`, on control-plane nodes: takes the member of a control-plane node that is being removed out of etcd, and its
//! role away.
//!
//! Why another node: the API server of the one that leaves ends with its member of etcd, so it could not report. Why an agent: only
//! root of a control-plane node has keys of etcd. Every control-plane node but the one that leaves tries; what one has done is no error for
//! the next. Reads: NodeRemovals in the phase Demoting, with the administrator's certificate of this node; the members of etcd. Owns:
//! nothing. Changes: etcd's members, by the rule that never leaves too few ([`super::member::removable`]); list of API servers, addresses
//! and role of that node. Never touches: its own node, a removal that is deleted.
//!
//! observe → [`next`] → [`invite::demote`]; sheaf-controller verifies by the role, and continues.

use super::invite;
use crate::channels::Context;
use crate::cluster::{Hosts, token};
use crate::paths::Paths;
use crate::reconcile::{self, Backoff, Next, Retries, Wakes, Woken};
use kube::api::{Api, ListParams};
use sheaf_api::node_removal::{NodeRemoval, Phase};
use std::sync::Arc;
use std::time::Duration;

/// Between two looks at NodeRemovals, of which there are few: a removal waits for it.
const LOOK: Duration = Duration::from_secs(15);
/// A request that takes longer has failed.
const TIMEOUT: Duration = Duration::from_secs(30);
/// Between two tries of what failed.
const RETRY: Backoff = Backoff::new(Duration::from_secs(15), Duration::from_secs(300));

/// What wakes it besides time: nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Source {}

struct Controller {
    paths: Arc<Paths>,
    node: String,
    hosts: Hosts,
    /// Kept while it works: its certificate is renewed from time to time.
    admin: Option<kube::Client>,
    failures: Retries<()>,
}

/// Runs until shutdown.
pub async fn run(ctx: Context, hosts: Hosts) -> anyhow::Result<()> {
    let (handle, shutdown) = (ctx.controllers.register("demotions"), ctx.shutdown.clone());
    let node = ctx.config.borrow().system.hostname.clone();
    let controller =
        Controller { paths: ctx.paths.clone(), node, hosts, admin: None, failures: Retries::new(RETRY) };
    reconcile::run(controller, Wakes::new(), handle, shutdown).await
}

/// The node whose member is taken out next; never this one.
fn next<'r>(removals: &'r [NodeRemoval], own: &str) -> Option<&'r str> {
    let is_due = |removal: &&NodeRemoval| {
        removal.status.as_ref().and_then(|status| status.phase) == Some(Phase::Demoting)
            && removal.metadata.deletion_timestamp.is_none()
            && removal.spec.node_name != own
    };
    removals.iter().find(is_due).map(|removal| removal.spec.node_name.as_str())
}

impl Controller {
    async fn look(&mut self) -> anyhow::Result<()> {
        let admin = match &self.admin {
            Some(admin) => admin.clone(),
            None => self.admin.insert(token::administrator(&self.paths).await?).clone(),
        };
        let all: Api<NodeRemoval> = Api::all(admin.clone());
        let every = ListParams::default();
        let listed = all.list(&every);
        let removals = tokio::time::timeout(TIMEOUT, listed).await??.items;
        let Some(name) = next(&removals, &self.node) else { return Ok(()) };
        tracing::warn!("{name} is removed from the cluster: its member is taken out of etcd");
        invite::demote(&self.paths, &self.hosts.run, &admin, name).await
    }
}

impl reconcile::Controller for Controller {
    type Source = Source;

    async fn round(&mut self, _: &Woken<Source>) -> Next {
        // A node becomes one of the control plane while its agent runs.
        if !self.paths.kubernetes.join("super-admin.conf").exists() {
            return Next::after(LOOK).waiting_for("a control plane on this node");
        }
        match self.look().await {
            Ok(()) => {
                self.failures.succeeded(&());
                Next::after(LOOK)
            }
            Err(error) => {
                self.admin = None;
                tracing::warn!("removals of control-plane nodes: {error:#}");
                self.failures.failed((), format!("{error:#}"));
                Next { after: self.failures.next(), waiting_for: None }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn removal(name: &str, phase: &str, is_deleted: bool) -> NodeRemoval {
        let deleted = is_deleted.then_some("2027-01-15T08:00:00Z");
        serde_json::from_value(json!({
            "apiVersion": "sheaf.dev/v1alpha1", "kind": "NodeRemoval",
            "metadata": {"name": name, "deletionTimestamp": deleted},
            "spec": {"nodeName": name}, "status": {"phase": phase},
        }))
        .unwrap()
    }

    #[test]
    fn only_a_drained_node_of_the_control_plane_is_demoted_and_never_by_itself_or_after_the_removal_was_deleted()
     {
        let of = |removals: &[NodeRemoval]| next(removals, "n1").map(str::to_owned);
        assert_eq!(
            of(&[removal("n2", "Draining", false), removal("n3", "Demoting", false)]),
            Some("n3".into())
        );
        assert_eq!(of(&[removal("n1", "Demoting", false), removal("n2", "Demoting", true)]), None);
        for phase in ["Checking", "Blocked", "Draining", "Removing", "Removed", "Cancelled"] {
            assert_eq!(of(&[removal("n2", phase, false)]), None, "{phase}");
        }
    }
}
