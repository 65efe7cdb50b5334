//! Controller of ClusterUpdates: brings a release to the nodes of the cluster, one after another.
//!
//! Reads: ClusterUpdates, Nodes, NodeUpdates (read from the API server for each decision). Owns: status and finalizer of
//! ClusterUpdates, the NodeUpdates that it creates, `spec.unschedulable` of Nodes that have its annotation
//! [`sheaf_api::names::CORDONED_BY_ANNOTATION`]. Never touches: NodeUpdates that a person made, Nodes that a person cordoned,
//! Pods. What a node does with its NodeUpdate is the agent's. Route in: watches, and time. Route out: [`plan`], applied step by
//! step.
//!
//! Nothing is kept in memory: a controller that dies is followed by one that reads the same objects (docs/decisions/0034).

use std::sync::Arc;

use k8s_openapi::{api::core::v1::Node, jiff::Timestamp};
use kube::{
    Api, Client,
    api::ListParams,
    runtime::{Controller, controller, controller::Action as Requeue, watcher},
};
use sheaf_api::{cluster_update::ClusterUpdate, node_update::NodeUpdate};

use crate::object::{Context, RequestError, chain, doing, drive, write_status};
use standing::Observed;

pub mod apply;
pub mod plan;
pub mod report;
pub mod standing;
pub mod window;

/// Runs until dropped.
pub async fn run(client: Client) {
    let updates = Api::<ClusterUpdate>::all(client.clone());
    // One at a time: which of two goes first follows from what the other has done.
    let alone = controller::Config::default().concurrency(1);
    let controller = Controller::new(updates, watcher::Config::default()).with_config(alone);
    drive(controller, Arc::new(Context::new(client)), "cluster update", reconcile).await;
}

async fn reconcile(seen: Arc<ClusterUpdate>, context: Arc<Context>) -> Result<Requeue, RequestError> {
    let name = seen.metadata.name.as_deref().unwrap_or_default();
    let client = &context.client;
    let updates: Api<ClusterUpdate> = Api::all(client.clone());
    let every = ListParams::default();
    let all = updates.list(&every).await.map_err(doing("listing ClusterUpdates"))?.items;
    let Some(update) = all.iter().find(|update| update.metadata.name.as_deref() == Some(name)) else {
        return Ok(Requeue::await_change());
    };
    // In this order: see [`Observed`].
    let nodes = Api::<Node>::all(client.clone()).list(&every).await.map_err(doing("listing nodes"))?.items;
    let requests = Api::<NodeUpdate>::all(client.clone()).list(&every).await;
    let requests = requests.map_err(doing("listing NodeUpdates"))?.items;
    let observed = Observed { update, all: &all, nodes: &nodes, requests: &requests };
    let now = Timestamp::now();
    let plan = plan::plan(&observed, now);
    for action in &plan.actions {
        if let Err(error) = apply::apply(&context, update, action).await {
            let status = report::failing(update, &chain(&error), now);
            write_status(&updates, update, update.status.as_ref(), &status).await?;
            return Err(error);
        }
    }
    write_status(&updates, update, update.status.as_ref(), &plan.status).await?;
    for event in &report::events(update, &plan.status) {
        context.events.record(update, event).await;
    }
    Ok(plan.requeue.map_or_else(Requeue::await_change, Requeue::requeue))
}

#[cfg(test)]
mod any_order;
