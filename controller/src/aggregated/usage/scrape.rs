//! Reads `/metrics/resource` of every node, again and again.
//!
//! Why here: as metrics-server does it, every 15 s, so that `kubectl top` shows what was in use a moment ago. A node that does
//! not answer is left out until it does; it holds up no other. Route in: Nodes, agents. Route out: [`Samples`].

use std::{sync::Arc, time::Duration};

use futures::{StreamExt as _, stream};
use http::Method;
use http_body_util::{BodyExt as _, Limited};
use k8s_openapi::{api::core::v1::Node, jiff::Timestamp};
use kube::{Api, Client, api::ListParams};

use super::{page, samples::Samples};
use crate::aggregated::node::{Nodes, Target};

/// Between two readings: metrics-server's default.
const EVERY: Duration = Duration::from_secs(15);
/// Longest time for one node.
const ONE_TIME: Duration = Duration::from_secs(10);
/// Nodes that are read at once.
const AT_ONCE: usize = 16;
/// Most of a page that is read, in bytes: a kilobyte a VM, of at most 250.
const MOST_PAGE: usize = 1 << 20;

/// Reads until dropped.
pub async fn run(client: Client, agents: Arc<Nodes>, samples: Arc<Samples>) {
    let nodes: Api<Node> = Api::all(client);
    let mut every = tokio::time::interval(EVERY);
    every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        every.tick().await;
        // From the API server's cache: where a node listens hardly ever changes.
        let list = match nodes.list(&ListParams::default().match_any()).await {
            Ok(list) => list.items,
            Err(error) => {
                tracing::debug!("nodes whose usage is read: {}", crate::object::chain(&error));
                continue;
            }
        };
        let names: Vec<String> = list.iter().filter_map(|node| node.metadata.name.clone()).collect();
        samples.keep(&names);
        stream::iter(list)
            .for_each_concurrent(AT_ONCE, async |node| {
                let name = node.metadata.name.clone().unwrap_or_default();
                let read = tokio::time::timeout(ONE_TIME, read(&agents, &node)).await;
                match read
                    .unwrap_or_else(|_| Err(anyhow::anyhow!("no answer within {} s", ONE_TIME.as_secs())))
                {
                    Ok(text) => samples.put(&name, Timestamp::now(), page::read(&text)),
                    Err(error) => tracing::debug!("usage of node {name}: {error:#}"),
                }
            })
            .await;
    }
}

async fn read(agents: &Nodes, node: &Node) -> anyhow::Result<String> {
    let target = Target::of(node)?;
    let response = agents.request(&target, Method::GET, "/metrics/resource", None).await?;
    let status = response.status();
    let body = Limited::new(response.into_body(), MOST_PAGE).collect().await;
    let body = body.map_err(|error| anyhow::anyhow!("its answer cannot be read: {error}"))?.to_bytes();
    anyhow::ensure!(status.is_success(), "HTTP status {status}: {}", String::from_utf8_lossy(&body).trim());
    Ok(String::from_utf8_lossy(&body).into_owned())
}
