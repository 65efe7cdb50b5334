//! Controller `demotions`, on control-plane nodes: takes the member of a control-plane node that is being removed out of etcd, and its
//! role away.
//!
//! Why another node: the API server of the one that leaves ends with its member of etcd, so it could not report. Why an agent: only
//! root of a control-plane node has keys of etcd. Every control-plane node but the one that leaves tries; what one has done is no error for
//! the next. Reads: NodeRemovals in the phase Demoting, with the administrator's certificate of this node; the members of etcd. Owns:
//! nothing. Changes: etcd's members, by the rule that never leaves too few ([`super::member::removable`]); list of API servers, addresses
//! and role of that node. Never touches: its own node, a removal that is deleted.
//!
//! observe → [`due`] → [`invite::demote`]; sheaf-controller verifies by the role, and continues.

use super::invite;
use crate::channels::Context;
use crate::cluster::{Hosts, token, was_made};
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
    /// By node.
    failures: Retries<String>,
}

/// Runs until shutdown.
pub async fn run(ctx: Context, hosts: Hosts) -> anyhow::Result<()> {
    let (handle, shutdown) = (ctx.controllers.register("demotions"), ctx.shutdown.clone());
    let node = ctx.config.borrow().system.hostname.clone();
    let controller =
        Controller { paths: ctx.paths.clone(), node, hosts, admin: None, failures: Retries::new(RETRY) };
    reconcile::run(controller, Wakes::new(), handle, shutdown).await
}

/// The nodes whose members are taken out; never this one.
fn due(removals: &[NodeRemoval], own: &str) -> Vec<String> {
    let is_due = |removal: &&NodeRemoval| {
        removal.status.as_ref().and_then(|status| status.phase) == Some(Phase::Demoting)
            && removal.metadata.deletion_timestamp.is_none()
            && removal.spec.node_name != own
    };
    removals.iter().filter(is_due).map(|removal| removal.spec.node_name.clone()).collect()
}

impl Controller {
    async fn admin(&mut self) -> anyhow::Result<kube::Client> {
        Ok(match &self.admin {
            Some(admin) => admin.clone(),
            None => self.admin.insert(token::administrator(&self.paths).await?).clone(),
        })
    }

    async fn listed(&mut self) -> anyhow::Result<Vec<NodeRemoval>> {
        let all: Api<NodeRemoval> = Api::all(self.admin().await?);
        let every = ListParams::default();
        Ok(tokio::time::timeout(TIMEOUT, all.list(&every)).await??.items)
    }

    async fn demote(&mut self, name: &str) -> anyhow::Result<()> {
        tracing::warn!("{name} is removed from the cluster: its member is taken out of etcd");
        let admin = self.admin().await?;
        invite::demote(&self.paths, &self.hosts.run, &admin, name).await
    }
}

impl reconcile::Controller for Controller {
    type Source = Source;

    async fn round(&mut self, _: &Woken<Source>) -> Next {
        // A node becomes one of the control plane while its agent runs, and ceases to be one.
        if !was_made(&self.paths) {
            self.admin = None;
            return Next::after(LOOK).waiting_for("a control plane on this node");
        }
        let names = match self.listed().await {
            Ok(removals) => due(&removals, &self.node),
            Err(error) => {
                self.admin = None;
                tracing::warn!("removals of control-plane nodes: {error:#}");
                return Next::after(LOOK);
            }
        };
        for name in names {
            if self.failures.is_waiting(&name) {
                continue;
            }
            match self.demote(&name).await {
                Ok(()) => self.failures.succeeded(&name),
                Err(error) => {
                    self.admin = None;
                    tracing::warn!("removal of the control-plane node {name}: {error:#}");
                    self.failures.failed(name, format!("{error:#}"));
                }
            }
        }
        Next::after(LOOK).sooner(Next { after: self.failures.next(), waiting_for: None })
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
        let of = |removals: &[NodeRemoval]| due(removals, "n1");
        assert_eq!(of(&[removal("n2", "Draining", false), removal("n3", "Demoting", false)]), ["n3"]);
        assert_eq!(of(&[removal("n1", "Demoting", false), removal("n2", "Demoting", true)]), [""; 0]);
        for phase in ["Checking", "Blocked", "Draining", "Removing", "Removed", "Cancelled"] {
            assert_eq!(of(&[removal("n2", phase, false)]), [""; 0], "{phase}");
        }
    }
}
