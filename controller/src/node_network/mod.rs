//! Controller of node network policies: names the nodes that may change.
//!
//! Reads: NodeNetworkPolicies, Nodes, NodeNetworkEnactments. Owns: status and finalizer of policies. Never touches:
//! enactments, which are the nodes', nor any node. Route in: watches, and a look now and then, since Nodes say Ready ever
//! so often. Route out: [`plan`], written as the policy's status.
//!
//! Why turns and not locks: one leader counts, so two nodes never take the last place at once, a node that dies in its
//! turn keeps its place, and without a leader nothing new begins (docs/decisions/0005).

use std::{sync::Arc, time::Duration};

use k8s_openapi::api::core::v1::Node;
use kube::{
    Api, Client,
    api::ListParams,
    runtime::{Controller, controller::Action as Requeue, reflector::ObjectRef, watcher},
};
use sheaf_api::names::{POLICY_FINALIZER, POLICY_LABEL};
use sheaf_api::node_network::{NodeNetworkEnactment, NodeNetworkPolicy};

use crate::object::{Context, RequestError, add_finalizer, doing, drive, remove_finalizer, write_status};

pub mod plan;

/// Between two looks at a policy that is through: nodes come, go, and change their labels.
const CALM: Duration = Duration::from_secs(60);
/// Between two looks at one that is not: nodes become Ready.
const BUSY: Duration = Duration::from_secs(10);

/// Runs until dropped.
pub async fn run(client: Client) {
    let of_policy =
        |enactment: NodeNetworkEnactment| Some(ObjectRef::<NodeNetworkPolicy>::new(&enactment.spec.policy));
    let policies = Api::<NodeNetworkPolicy>::all(client.clone());
    let enactments = Api::<NodeNetworkEnactment>::all(client.clone());
    let controller = Controller::new(policies, watcher::Config::default()).watches(
        enactments,
        watcher::Config::default(),
        of_policy,
    );
    drive(controller, Arc::new(Context::new(client)), "node network policy", reconcile).await;
}

async fn reconcile(seen: Arc<NodeNetworkPolicy>, context: Arc<Context>) -> Result<Requeue, RequestError> {
    let name = seen.metadata.name.clone().unwrap_or_default();
    let policies: Api<NodeNetworkPolicy> = Api::all(context.client.clone());
    // Turns that were given must be seen: a cache may be older.
    let Some(policy) = policies.get_opt(&name).await.map_err(doing("reading the policy"))? else {
        return Ok(Requeue::await_change());
    };
    let is_held = policy.metadata.finalizers.iter().flatten().any(|held| held == POLICY_FINALIZER);
    let is_deleted = policy.metadata.deletion_timestamp.is_some();
    if !is_held && !is_deleted {
        add_finalizer(&policies, &policy, POLICY_FINALIZER).await?;
    }
    let own = ListParams::default().labels(&format!("{POLICY_LABEL}={name}"));
    let enactments = Api::<NodeNetworkEnactment>::all(context.client.clone()).list(&own).await;
    let enactments = enactments.map_err(doing("listing its enactments"))?.items;
    if is_deleted && enactments.is_empty() {
        if is_held {
            remove_finalizer(&policies, &policy, POLICY_FINALIZER).await?;
        }
        return Ok(Requeue::await_change());
    }
    let nodes = Api::<Node>::all(context.client.clone()).list(&ListParams::default()).await;
    let nodes = nodes.map_err(doing("listing nodes"))?.items;
    let status = plan::plan(&policy, &nodes, &enactments);
    write_status(&policies, &policy, policy.status.as_ref(), &status).await?;
    let is_through = status.updating_nodes.is_empty();
    Ok(Requeue::requeue(if is_through { CALM } else { BUSY }))
}
