//! What machines and nodes used in the last day: processor, memory, disk, network, for the plots of the page.
//!
//! Why here: a cluster has no Prometheus unless somebody runs one, and who operates machines wants to see the last hour. Every
//! console reads the agents for itself ([`sample`]) with the right `get` on `nodes/metrics`, the least that a scrape needs, and
//! keeps a ring a machine and a node in memory ([`series`], [`store`]): bounded, gone with the process, nothing to operate
//! (decision 57). Who may see the object of `/console/watch` may see its numbers. Route in: `/metrics` and `/metrics/resource` of
//! nodes. Route out: `GET /console/metrics`.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use serde_json::{Value, json};

use crate::{
    answer::{self, Answer, Refusal},
    caller::Caller,
    clock,
    serve::State,
};

pub mod nodes;
mod page;
mod query;
mod sample;
mod series;
mod store;

pub use query::Query;
use query::{Of, Span};
use series::{Step, Values};
use store::{Store, Whose};

/// Between two rounds.
const EVERY: Duration = Duration::from_secs(series::RECENT.seconds);

/// The way to agents, and what they said.
pub struct Metrics {
    nodes: Option<nodes::Nodes>,
    store: Mutex<Store>,
}

impl Metrics {
    /// Nothing is read yet; without a way to agents nothing ever is.
    pub fn new(nodes: Option<nodes::Nodes>) -> Self {
        Self { nodes, store: Mutex::default() }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Store> {
        self.store.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Reads nodes until dropped.
pub async fn run(state: Arc<State>) {
    let Some(nodes) = &state.metrics.nodes else {
        tracing::info!("no plots: the console was started without --node-authority");
        return std::future::pending().await;
    };
    loop {
        sample::round(&state, nodes).await;
        // The middle of the next step: no round is counted for its neighbour, and none is missing.
        let now = clock::now();
        let next = (now / EVERY.as_secs() + 1) * EVERY.as_secs() + EVERY.as_secs() / 2;
        tokio::time::sleep(Duration::from_secs(next - now)).await; // until the next round is due
    }
}

/// GET /console/metrics
pub async fn answer(state: &State, caller: &Caller, query: &Query) -> Result<Answer, Refusal> {
    let may =
        async |kind: &str, namespace: Option<&str>| state.watch.may_see(state, caller, kind, namespace).await;
    let may_see = match &query.of {
        Of::Cluster | Of::Node(_) => may("nodes", None).await?,
        Of::Machine { project, .. } => may("instances", Some(project)).await?,
    };
    let step = match query.span {
        Span::Hour => series::RECENT,
        Span::Day => series::DAY,
    };
    let now = clock::now();
    let store = state.metrics.lock();
    let values = match &query.of {
        Of::Cluster => store.cluster(step, now),
        Of::Node(name) => store.of(&Whose::Node(name.as_str().into()), step, now),
        Of::Machine { project, name } => store.of(&Whose::machine(project, name), step, now),
    };
    // One answer to who may not see it and where there is nothing: else it would tell what exists.
    let values = values.filter(|_| may_see);
    values.map(|values| answer::ok(&shown(step, now, &values))).ok_or_else(|| {
        Refusal::not_found(format!("nothing was measured of {} yet, or your roles do not show it", query.of))
    })
}

/// As the page reads it: one list a quantity, oldest first, null where nothing is known.
fn shown(step: Step, now: u64, values: &[Values]) -> Value {
    let list = |at: usize, digits: f64| -> Vec<Value> {
        let number =
            |value: f32| Value::from(value.is_finite().then(|| (f64::from(value) * digits).round() / digits));
        values.iter().map(|values| number(values[at])).collect()
    };
    json!({
        "every": step.seconds, "until": (now / step.seconds + 1) * step.seconds,
        "processors": list(series::PROCESSORS, 1000.0), "memory": list(series::MEMORY, 1.0),
        "read": list(series::READ, 1.0), "written": list(series::WRITTEN, 1.0),
        "received": list(series::RECEIVED, 1.0), "sent": list(series::SENT, 1.0),
    })
}

#[cfg(test)]
mod tests;
