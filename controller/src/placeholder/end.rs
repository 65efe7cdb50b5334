//! When the run of a VM is over, so that another may begin elsewhere: the rule, and the finalizer that waits for it.
//!
//! Why here: `kubectl delete --force`, the garbage collector of Pods and the deletion of a Node all remove Pods whose VMs may
//! run on. The rule, for a Pod that was bound to a node: **its node reported that the domain is gone; or the node had said that
//! it stops the VM when its lease is not renewed, and the time for that is over ([`crate::node_lost`]); or the node is not Ready and
//! an administrator declared it out of service** with the taint `node.kubernetes.io/out-of-service`, which
//! Kubernetes documents for nodes that are powered off. A Node object that does not exist proves nothing: to declare that
//! machine out of service, create the Node with the taint. A Pod that was deleted before it was bound never ran, and the
//! API server binds no Pod that is being deleted. Pure but for [`run`]. Route in: Pods, and their Nodes. Route out: removal
//! of the finalizer. Attachment Pods ([`super::attachment`], [`super::nic`]) follow the same rule.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{Node, Pod};
use kube::{
    Api, Client,
    api::{DeleteParams, Preconditions},
    runtime::{
        Controller,
        controller::Action as Requeue,
        reflector::{ObjectRef, Store},
        watcher,
    },
};
use sheaf_api::{
    names::{APP_LABEL, HOTPLUG_DISK, HOTPLUG_NIC, LAUNCHER, OUT_OF_SERVICE_TAINT, POD_FINALIZER},
    placeholder::domain_is_gone,
    restart_elsewhere,
};

use crate::object::{Context, RequestError, doing, drive, has_finalizer, ok_if_gone, remove_finalizer};

/// Whether nothing of the Pod's VM runs any more, or ever will; `node` is the Node object that the Pod is bound to.
pub fn is_over(pod: &Pod, node: Option<&Node>) -> bool {
    match node_of(pod) {
        None => pod.metadata.deletion_timestamp.is_some(),
        Some(_) => {
            domain_is_gone(pod) || restart_elsewhere::is_lost(pod) || node.is_some_and(is_out_of_service)
        }
    }
}

/// The node that a Pod is bound to.
pub fn node_of(pod: &Pod) -> Option<&str> {
    pod.spec.as_ref()?.node_name.as_deref().filter(|name| !name.is_empty())
}

/// Whether an administrator declared this node out of service, and nothing speaks against it: the agent of a node that is
/// Ready reports for itself.
pub fn is_out_of_service(node: &Node) -> bool {
    let taints = node.spec.iter().flat_map(|spec| spec.taints.iter().flatten());
    let conditions = node.status.iter().flat_map(|status| status.conditions.iter().flatten());
    let ready =
        conditions.into_iter().any(|condition| condition.type_ == "Ready" && condition.status == "True");
    !ready && taints.into_iter().any(|taint| taint.key == OUT_OF_SERVICE_TAINT)
}

/// The message about a Pod that should be gone and whose node is silent: what happened, and what to do.
pub fn unconfirmed(pod: &Pod) -> String {
    let node = node_of(pod).unwrap_or_default();
    format!(
        "node {node} has not reported that the VM stopped, so it may still run there; if {node} is powered off for certain, \
         an administrator sets the taint {OUT_OF_SERVICE_TAINT}=nodeshutdown:NoExecute on it"
    )
}

/// One thing to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// End the Pod's grace period: with one, the API server keeps it although nothing holds it.
    DeleteNow,
    /// Remove our finalizer.
    RemoveFinalizer,
}

/// Decides about one Pod.
pub fn plan(pod: &Pod, node: Option<&Node>) -> Vec<Action> {
    if pod.metadata.deletion_timestamp.is_none() || !has_finalizer(pod, POD_FINALIZER) || !is_over(pod, node)
    {
        return Vec::new();
    }
    let mut actions = Vec::new();
    if pod.metadata.deletion_grace_period_seconds.unwrap_or_default() > 0 {
        actions.push(Action::DeleteNow);
    }
    actions.push(Action::RemoveFinalizer);
    actions
}

/// Removes the finalizers of placeholder and attachment Pods whose runs are over, until dropped.
pub async fn run(client: Client) {
    let ours = watcher::Config::default()
        .labels(&format!("{APP_LABEL} in ({LAUNCHER},{HOTPLUG_DISK},{HOTPLUG_NIC})"));
    let controller = Controller::new(Api::<Pod>::all(client.clone()), ours);
    let pods = controller.store();
    let controller =
        controller.watches(Api::<Node>::all(client.clone()), watcher::Config::default(), move |node| {
            on(&pods, &node)
        });
    drive(controller, Arc::new(Context::new(client)), "placeholder Pod", reconcile).await;
}

/// The Pods that a change of `node` is of interest to: those bound to it, if it is out of service.
fn on(pods: &Store<Pod>, node: &Node) -> Vec<ObjectRef<Pod>> {
    if !is_out_of_service(node) {
        return Vec::new();
    }
    let name = node.metadata.name.as_deref();
    let bound = pods.state().into_iter().filter(|pod| node_of(pod).is_some() && node_of(pod) == name);
    bound.map(|pod| ObjectRef::from_obj(&*pod)).collect()
}

async fn reconcile(seen: Arc<Pod>, context: Arc<Context>) -> Result<Requeue, RequestError> {
    // What the watch says may be old; then it is looked at again when the watch has caught up.
    if seen.metadata.deletion_timestamp.is_none() || !has_finalizer(&*seen, POD_FINALIZER) {
        return Ok(Requeue::await_change());
    }
    let node = node(&context.client, &seen).await?;
    let namespace = seen.metadata.namespace.as_deref().unwrap_or_default();
    let pods: Api<Pod> = Api::namespaced(context.client.clone(), namespace);
    let mut pod = Pod::clone(&seen);
    for action in plan(&seen, node.as_ref()) {
        match action {
            Action::DeleteNow => {
                let name = pod.metadata.name.clone().unwrap_or_default();
                let only = Preconditions { uid: pod.metadata.uid.clone(), resource_version: None };
                let now = DeleteParams::default().grace_period(0).preconditions(only);
                ok_if_gone(pods.delete(&name, &now).await).map_err(doing("ending its grace period"))?;
                match pods.get_opt(&name).await.map_err(doing("reading the Pod"))? {
                    Some(now) if now.metadata.uid == pod.metadata.uid => pod = now,
                    _ => return Ok(Requeue::await_change()),
                }
            }
            Action::RemoveFinalizer => remove_finalizer(&pods, &pod, POD_FINALIZER).await?,
        }
    }
    Ok(Requeue::await_change())
}

/// The Node object of a Pod, read from the API server.
pub async fn node(client: &Client, pod: &Pod) -> Result<Option<Node>, RequestError> {
    match node_of(pod) {
        Some(name) => {
            Api::all(client.clone()).get_opt(name).await.map_err(doing("reading the Node of a Pod"))
        }
        None => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn pod(node: Option<&str>, deleting: bool, status: Value) -> Pod {
        let mut pod = json!({
            "metadata": {"name": "p", "finalizers": [POD_FINALIZER]},
            "spec": {"containers": [], "nodeName": node}, "status": status,
        });
        if deleting {
            pod["metadata"]["deletionTimestamp"] = json!("2027-01-15T08:00:00Z");
            pod["metadata"]["deletionGracePeriodSeconds"] = json!(0);
        }
        serde_json::from_value(pod).unwrap()
    }

    fn terminated() -> Value {
        json!({"phase": "Succeeded", "containerStatuses": [{"name": "compute", "image": "", "imageID": "",
            "ready": false, "restartCount": 0, "state": {"terminated": {"exitCode": 0}}}]})
    }

    fn node(ready: &str, taint: Option<&str>) -> Node {
        let taints: Vec<Value> = taint.iter().map(|key| json!({"key": key, "effect": "NoExecute"})).collect();
        serde_json::from_value(json!({
            "metadata": {"name": "n1"}, "spec": {"taints": taints},
            "status": {"conditions": [{"type": "Ready", "status": ready}]},
        }))
        .unwrap()
    }

    #[test]
    fn a_pod_that_was_forced_away_or_collected_stays_until_its_node_reports() {
        let forced = pod(Some("n1"), true, json!({"phase": "Running"}));
        let collected = pod(Some("n1"), true, json!({"phase": "Failed", "reason": "Orphaned"}));
        for silent in [&forced, &collected] {
            for node in [
                None,
                Some(node("True", None)),
                Some(node("Unknown", Some("node.kubernetes.io/unreachable"))),
            ] {
                assert_eq!(plan(silent, node.as_ref()), [], "{node:?}");
            }
        }
        assert_eq!(plan(&pod(Some("n1"), true, terminated()), None), [Action::RemoveFinalizer]);
    }

    #[test]
    fn a_pod_that_ended_keeps_the_finalizer_until_it_is_deleted() {
        assert_eq!(plan(&pod(Some("n1"), false, terminated()), None), []);
    }

    #[test]
    fn an_administrators_word_ends_the_pods_of_a_node_that_is_not_ready() {
        let lost = pod(Some("n1"), true, json!({"phase": "Running"}));
        assert_eq!(
            plan(&lost, Some(&node("Unknown", Some(OUT_OF_SERVICE_TAINT)))),
            [Action::RemoveFinalizer]
        );
        assert_eq!(plan(&lost, Some(&node("False", Some(OUT_OF_SERVICE_TAINT)))), [Action::RemoveFinalizer]);
        // Its agent answers, so it reports for itself.
        assert_eq!(plan(&lost, Some(&node("True", Some(OUT_OF_SERVICE_TAINT)))), []);
        // The Node was created again to say so; nothing reports on it.
        let mut bare = node("True", Some(OUT_OF_SERVICE_TAINT));
        bare.status = None;
        assert_eq!(plan(&lost, Some(&bare)), [Action::RemoveFinalizer]);
    }

    #[test]
    fn a_pod_that_was_never_bound_never_ran() {
        assert_eq!(plan(&pod(None, true, json!({"phase": "Pending"})), None), [Action::RemoveFinalizer]);
        assert!(!is_over(&pod(None, false, json!({"phase": "Pending"})), None));
    }

    #[test]
    fn a_grace_period_that_nobody_waits_for_is_ended() {
        let mut slow = pod(Some("n1"), true, terminated());
        slow.metadata.deletion_grace_period_seconds = Some(i64::MAX);
        assert_eq!(plan(&slow, None), [Action::DeleteNow, Action::RemoveFinalizer]);
    }
}
