//! NodeMetrics and PodMetrics, as metrics-server answers.
//!
//! Why here: names, labels and selectors are those of the objects themselves, which the API server is asked for; numbers are
//! the samples'. An object without two readings is left out of lists and not found by name, as metrics-server has it.
//! Route in: a [`Route`] and its query. Route out: JSON.

use std::time::Duration;

use k8s_openapi::{
    api::core::v1::{Node, Pod},
    jiff::Timestamp,
};
use kube::{Api, api::ListParams};
use serde_json::{Value, json};
use sheaf_api::names::{APP_LABEL, COMPUTE_CONTAINER, LAUNCHER};

use super::{GROUP, Route, VERSION, samples::Usage};
use crate::aggregated::{
    answer::{self, Answer, Refusal},
    serve::State,
};

/// Answers.
pub async fn serve(state: &State, route: Route, query: &str) -> Result<Answer, Refusal> {
    let now = Timestamp::now();
    let value = match route {
        Route::Resources => resources(),
        Route::Node(name) => {
            let nodes: Api<Node> = Api::all(state.client.clone());
            let node = nodes.get_opt(&name).await.map_err(Refusal::of_api)?;
            let found = node.and_then(|node| of_node(&node, state.samples.node(&name, now)?).into());
            found.ok_or_else(|| missing("nodes", &name))?
        }
        Route::Nodes => {
            let nodes: Api<Node> = Api::all(state.client.clone());
            let list = nodes.list(&selection(query)?).await.map_err(Refusal::of_api)?;
            let items = list.items.iter().filter_map(|node| {
                Some(of_node(node, state.samples.node(node.metadata.name.as_deref()?, now)?))
            });
            whole("NodeMetricsList", items.collect())
        }
        Route::Pod(namespace, name) => {
            let pods: Api<Pod> = Api::namespaced(state.client.clone(), &namespace);
            let pod = pods.get_opt(&name).await.map_err(Refusal::of_api)?;
            let usage = state.samples.pods(now).remove(&(namespace.clone(), name.clone()));
            let found = pod.and_then(|pod| of_pod(&pod, usage?).into());
            found.ok_or_else(|| missing("pods", &format!("{namespace}/{name}")))?
        }
        Route::Pods(namespace) => {
            let pods: Api<Pod> = match &namespace {
                Some(namespace) => Api::namespaced(state.client.clone(), namespace),
                None => Api::all(state.client.clone()),
            };
            let mut selection = selection(query)?;
            // Only these run; others have no usage.
            let ours = format!("{APP_LABEL}={LAUNCHER}");
            selection.label_selector = match selection.label_selector {
                Some(theirs) if !theirs.is_empty() => Some(format!("{theirs},{ours}")),
                _ => Some(ours),
            };
            let list = pods.list(&selection).await.map_err(Refusal::of_api)?;
            let usage = state.samples.pods(now);
            let items = list.items.iter().filter_map(|pod| {
                let place = (pod.metadata.namespace.clone()?, pod.metadata.name.clone()?);
                Some(of_pod(pod, *usage.get(&place)?))
            });
            whole("PodMetricsList", items.collect())
        }
    };
    Ok(answer::ok(&value))
}

fn resources() -> Value {
    let resource = |name: &str, namespaced: bool, kind: &str| {
        json!({
        "name": name, "singularName": "", "namespaced": namespaced, "kind": kind, "verbs": ["get", "list"]})
    };
    json!({
        "kind": "APIResourceList", "apiVersion": "v1", "groupVersion": format!("{GROUP}/{VERSION}"),
        "resources": [resource("nodes", false, "NodeMetrics"), resource("pods", true, "PodMetrics")],
    })
}

/// Selectors of a request for a list; all else of its query says how the answer is to be sent.
fn selection(query: &str) -> Result<ListParams, Refusal> {
    let mut selection = ListParams::default().match_any();
    for (name, value) in form_urlencoded::parse(query.as_bytes()) {
        match &*name {
            "labelSelector" => selection.label_selector = Some(value.into_owned()),
            "fieldSelector" => selection.field_selector = Some(value.into_owned()),
            "watch" if value == "true" || value == "1" => {
                return Err(Refusal::bad_request("metrics cannot be watched; list them"));
            }
            _ => {}
        }
    }
    Ok(selection)
}

fn missing(resource: &str, name: &str) -> Refusal {
    Refusal {
        code: 404,
        reason: "NotFound",
        message: format!("{resource}.{GROUP} \"{name}\" not found"),
        about: None,
    }
}

fn whole(kind: &str, items: Vec<Value>) -> Value {
    json!({"kind": kind, "apiVersion": format!("{GROUP}/{VERSION}"), "metadata": {}, "items": items})
}

fn of_node(node: &Node, usage: Usage) -> Value {
    json!({
        "kind": "NodeMetrics", "apiVersion": format!("{GROUP}/{VERSION}"),
        "metadata": {"name": node.metadata.name, "creationTimestamp": usage.at.to_string(),
                     "labels": node.metadata.labels},
        "timestamp": usage.at.to_string(), "window": window(usage.window), "usage": quantities(usage),
    })
}

fn of_pod(pod: &Pod, usage: Usage) -> Value {
    json!({
        "kind": "PodMetrics", "apiVersion": format!("{GROUP}/{VERSION}"),
        "metadata": {"name": pod.metadata.name, "namespace": pod.metadata.namespace,
                     "creationTimestamp": usage.at.to_string(), "labels": pod.metadata.labels},
        "timestamp": usage.at.to_string(), "window": window(usage.window),
        "containers": [{"name": COMPUTE_CONTAINER, "usage": quantities(usage)}],
    })
}

/// As Go writes a duration.
fn window(window: Duration) -> String {
    format!("{:.3}s", window.as_secs_f64())
}

/// CPU in billionths of a processor, memory in KiB, as metrics-server writes them.
fn quantities(usage: Usage) -> Value {
    json!({
        "cpu": format!("{:.0}n", usage.cpu * 1e9),
        "memory": format!("{:.0}Ki", usage.memory / 1024.0),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn usage_is_written_as_kubectl_reads_it() {
        let at: Timestamp = "2026-11-29T06:00:00Z".parse().unwrap();
        let usage = Usage { at, window: Duration::from_millis(15_020), cpu: 0.25, memory: 3.0 * 1024.0 };
        let pod: Pod = serde_json::from_value(json!({
            "metadata": {"name": "p", "namespace": "shop", "labels": {"a": "b"}}}))
        .unwrap();
        let value = of_pod(&pod, usage);
        assert_eq!(
            value["containers"][0],
            json!({"name": "compute", "usage": {"cpu": "250000000n", "memory": "3Ki"}})
        );
        assert_eq!(
            (&value["window"], &value["timestamp"]),
            (&json!("15.020s"), &json!("2026-11-29T06:00:00Z"))
        );
    }

    #[test]
    fn selectors_are_handed_on_and_a_watch_is_refused() {
        let selection = |query| super::selection(query);
        let both = selection("labelSelector=app%3Dweb%2Ctier+in+%28a%29&limit=500").unwrap();
        assert_eq!(both.label_selector.as_deref(), Some("app=web,tier in (a)"));
        assert_eq!(selection("watch=true").unwrap_err().code, 400);
    }
}
