//! Controller of NodeRemovals: a node leaves the cluster for good, or a dead one is removed.
//!
//! Reads: NodeRemovals; their Nodes, leases, Pods of VMs, volumes, images; VMs; what is changing the node (all read from the API
//! server for each decision). Owns: status and finalizer of NodeRemovals, the NodeMaintenance that it drains a node with, the taint
//! out-of-service that it sets, the mark of removed nodes in the record of names, and the deletion of everything that is a removed
//! node's. Never touches: claims and VMs of tenants, but for `status.stateNode` of a VM whose state was on the node, and its instance
//! that has ended. Stopping VMs is [`crate::node_maintenance`]'s, and what the node itself does its agent's
//! (`agent/src/cluster/leave.rs`). Route in: watches, time.
//! Route out: [`plan`], applied step by step. docs/decisions/0040 says why.

use std::sync::Arc;

use k8s_openapi::{
    api::core::v1::{Node, Pod},
    jiff::Timestamp,
};
use kube::{
    Api, Client,
    runtime::{Controller, controller::Action as Requeue, reflector::ObjectRef, watcher},
};
use sheaf_api::{
    names::{APP_LABEL, LAUNCHER},
    node_maintenance::NodeMaintenance,
    node_removal::NodeRemoval,
};

use crate::{
    object::{Context, RequestError, doing, drive},
    placeholder::end,
};

mod apply;
pub mod checks;
pub mod losses;
mod observe;
pub mod observed;
pub mod plan;
pub mod standing;

/// Runs until dropped.
pub async fn run(client: Client) {
    let config = watcher::Config::default;
    let launchers = config().labels(&format!("{APP_LABEL}={LAUNCHER}"));
    // A NodeRemoval and a NodeMaintenance have the name of their node.
    let controller = Controller::new(Api::<NodeRemoval>::all(client.clone()), config())
        .watches(Api::<Node>::all(client.clone()), config(), |node| {
            node.metadata.name.as_deref().map(ObjectRef::<NodeRemoval>::new)
        })
        .watches(Api::<NodeMaintenance>::all(client.clone()), config(), |maintenance| {
            maintenance.metadata.name.as_deref().map(ObjectRef::<NodeRemoval>::new)
        })
        .watches(Api::<Pod>::all(client.clone()), launchers, |pod| {
            end::node_of(&pod).map(ObjectRef::<NodeRemoval>::new)
        });
    drive(controller, Arc::new(Context::new(client)), "node removal", reconcile).await;
}

async fn reconcile(seen: Arc<NodeRemoval>, context: Arc<Context>) -> Result<Requeue, RequestError> {
    let objects: Api<NodeRemoval> = Api::all(context.client.clone());
    let name = seen.metadata.name.as_deref().unwrap_or_default();
    let Some(removal) = objects.get_opt(name).await.map_err(doing("reading the NodeRemoval"))? else {
        return Ok(Requeue::await_change());
    };
    let observed = observe::observe(&context.client, removal).await?;
    let plan = plan::plan(&observed, Timestamp::now());
    for action in &plan.actions {
        apply::apply(&context, &objects, &observed, action).await?;
    }
    Ok(plan.requeue.map_or_else(Requeue::await_change, Requeue::requeue))
}
