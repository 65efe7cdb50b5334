//! Which nodes are lost, and what follows for their Pods. Pure; time is the caller's.
//!
//! Route in: what each Lease says, and when. Route out: names of nodes that are lost, [`Action`]s.

use std::{collections::BTreeMap, time::Duration};

use k8s_openapi::{
    api::{
        coordination::v1::Lease,
        core::v1::{Node, Pod, Taint},
    },
    jiff::Timestamp,
};
use serde_json::{Value, json};
use sheaf_api::{
    names::{NODE_LOST_ANNOTATION, NODE_LOST_TAINT},
    placeholder::domain_is_gone,
    restart_elsewhere::{TAKE_OVER_AFTER, is_marked, stops_alone},
};

/// What is compared of a Lease: any change of its spec is a renewal.
pub fn record(lease: &Lease) -> String {
    serde_json::to_string(&lease.spec).unwrap_or_default()
}

/// One node's Lease.
#[derive(Clone, Debug)]
struct Seen {
    record: String,
    /// When this record was observed first.
    since: Duration,
    /// It changed since it was observed for the very first time.
    renewed: bool,
    /// What follows was done.
    done: bool,
    /// Not tried before then.
    not_before: Duration,
}

/// Leases of all nodes, as one process observed them by its own clock. One that has just started knows nothing, and waits the whole time.
#[derive(Clone, Debug, Default)]
pub struct Leases(BTreeMap<String, Seen>);

impl Leases {
    /// All Leases there are, observed at `now`.
    pub fn observe(&mut self, leases: impl IntoIterator<Item = (String, String)>, now: Duration) {
        let mut before = std::mem::take(&mut self.0);
        for (node, record) in leases {
            let seen = match before.remove(&node) {
                Some(seen) if seen.record == record => seen,
                known => Seen {
                    record,
                    since: now,
                    renewed: known.is_some(),
                    done: false,
                    not_before: Duration::ZERO,
                },
            };
            self.0.insert(node, seen);
        }
    }

    /// Nodes whose Lease did not change for [`TAKE_OVER_AFTER`], and about which nothing was done yet.
    pub fn lost(&self, now: Duration) -> Vec<String> {
        let is_lost = |seen: &Seen| {
            !seen.done && now >= seen.not_before && now.saturating_sub(seen.since) >= TAKE_OVER_AFTER
        };
        self.0.iter().filter(|(_, seen)| is_lost(seen)).map(|(node, _)| node.clone()).collect()
    }

    /// Whether a fresh read at `now` says the same as what was observed all the time.
    pub fn confirms(&mut self, node: &str, record: &str, now: Duration) -> bool {
        let Some(seen) = self.0.get_mut(node) else { return false };
        if seen.record != record {
            // The watch is late: it counts from here.
            *seen =
                Seen { record: record.to_owned(), since: now, renewed: true, done: false, ..seen.clone() };
            return false;
        }
        true
    }

    /// What follows was done.
    pub fn done(&mut self, node: &str) {
        if let Some(seen) = self.0.get_mut(node) {
            seen.done = true;
        }
    }

    /// It failed, and is tried again at `at`.
    pub fn retry(&mut self, node: &str, at: Duration) {
        if let Some(seen) = self.0.get_mut(node) {
            seen.not_before = at;
        }
    }

    /// Whether the node has renewed its Lease since this process observed it first, and is not lost at `now`.
    pub fn is_renewed(&self, node: &str, now: Duration) -> bool {
        let is_recent = |seen: &Seen| now.saturating_sub(seen.since) < TAKE_OVER_AFTER;
        self.0.get(node).is_some_and(|seen| seen.renewed && !seen.done && is_recent(seen))
    }
}

/// One thing to do.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Keep new VMs from the node: kube-controller-manager may not have noticed yet.
    Taint(Value),
    /// Note in a Pod that its run is over, if it still is the one with its UID.
    Mark {
        /// The Pod's namespace.
        namespace: String,
        /// Its name.
        name: String,
        /// A merge patch.
        patch: Value,
    },
}

/// What follows when a node is lost; `pods` are the placeholder Pods bound to it. First the taint: a VM that starts again is not to be bound
/// to the same node.
pub fn plan(node: Option<&Node>, pods: &[Pod], now: Timestamp) -> Vec<Action> {
    let taint = node.and_then(taint).map(Action::Taint);
    let is_to_mark = |pod: &&Pod| {
        let noted =
            pod.metadata.annotations.as_ref().is_some_and(|all| all.contains_key(NODE_LOST_ANNOTATION));
        is_marked(pod) && stops_alone(pod) && !domain_is_gone(pod) && !noted
    };
    let at = Timestamp::from_second(now.as_second()).unwrap_or(now).to_string();
    let mark = |pod: &Pod| Action::Mark {
        namespace: pod.metadata.namespace.clone().unwrap_or_default(),
        name: pod.metadata.name.clone().unwrap_or_default(),
        patch: json!({"metadata": {"uid": pod.metadata.uid, "annotations": {NODE_LOST_ANNOTATION: at}}}),
    };
    taint.into_iter().chain(pods.iter().filter(is_to_mark).map(mark)).collect()
}

fn taints(node: &Node) -> (Vec<Taint>, bool) {
    let all = node.spec.as_ref().and_then(|spec| spec.taints.clone()).unwrap_or_default();
    let has = all.iter().any(|taint| taint.key == NODE_LOST_TAINT);
    (all.into_iter().filter(|taint| taint.key != NODE_LOST_TAINT).collect(), has)
}

fn patch(node: &Node, taints: &[Taint]) -> Value {
    json!({"metadata": {"resourceVersion": node.metadata.resource_version}, "spec": {"taints": taints}})
}

fn taint(node: &Node) -> Option<Value> {
    let (mut taints, has) = taints(node);
    taints.push(Taint { key: NODE_LOST_TAINT.into(), effect: "NoSchedule".into(), ..Taint::default() });
    (!has).then(|| patch(node, &taints))
}

/// The patch that takes the taint off, if the node has it.
pub fn untaint(node: &Node) -> Option<Value> {
    let (taints, has) = taints(node);
    has.then(|| patch(node, &taints))
}

#[cfg(test)]
mod tests {
    use sheaf_api::names::{RESTART_ELSEWHERE_ANNOTATION, STOPS_ALONE_CONDITION, TRUE};

    use super::*;

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn one(record: &str) -> [(String, String); 1] {
        [("n1".into(), record.into())]
    }

    #[test]
    fn a_node_is_lost_when_its_lease_did_not_change_for_the_whole_time_that_it_was_observed() {
        let mut leases = Leases::default();
        leases.observe(one("a"), seconds(100));
        assert_eq!(leases.lost(seconds(100) + TAKE_OVER_AFTER - Duration::from_millis(1)), [""; 0]);
        assert_eq!(leases.lost(seconds(100) + TAKE_OVER_AFTER), ["n1"]);
        leases.observe(one("b"), seconds(110));
        assert_eq!(leases.lost(seconds(110) + TAKE_OVER_AFTER), ["n1"]);
        leases.done("n1");
        assert_eq!(leases.lost(seconds(500)), [""; 0], "once");
        assert!(!leases.is_renewed("n1", seconds(500)));
        leases.observe(one("c"), seconds(501));
        assert!(leases.is_renewed("n1", seconds(501)));
        assert!(
            !leases.is_renewed("n1", seconds(600)),
            "a new leader has not acted yet, and the node is lost"
        );
        leases.observe([], seconds(502));
        assert_eq!(leases.lost(seconds(9000)), [""; 0], "a Lease that is gone proves nothing");
    }

    #[test]
    fn a_watch_that_stopped_makes_no_node_lost() {
        let mut leases = Leases::default();
        leases.observe(one("old"), seconds(0));
        let now = TAKE_OVER_AFTER;
        assert_eq!(leases.lost(now), ["n1"]);
        assert!(!leases.confirms("n1", "renewed meanwhile", now));
        assert_eq!(leases.lost(now + TAKE_OVER_AFTER - seconds(1)), [""; 0], "it counts from the fresh read");
        assert!(leases.confirms("n1", "renewed meanwhile", now + TAKE_OVER_AFTER));
        leases.retry("n1", now + TAKE_OVER_AFTER + seconds(5));
        assert_eq!(leases.lost(now + TAKE_OVER_AFTER + seconds(4)), [""; 0]);
        assert_eq!(leases.lost(now + TAKE_OVER_AFTER + seconds(5)), ["n1"]);
    }

    fn node(taints: Value) -> Node {
        serde_json::from_value(
            json!({"metadata": {"name": "n1", "resourceVersion": "7"}, "spec": {"taints": taints}}),
        )
        .unwrap()
    }

    fn pod(name: &str, mark: bool, condition: &str) -> Pod {
        let annotations = if mark { json!({RESTART_ELSEWHERE_ANNOTATION: TRUE}) } else { json!({}) };
        serde_json::from_value(json!({
            "metadata": {"name": name, "namespace": "shop", "uid": "u", "annotations": annotations},
            "spec": {"containers": [], "nodeName": "n1"},
            "status": {"phase": "Running", "conditions": [{"type": STOPS_ALONE_CONDITION, "status": condition}]},
        }))
        .unwrap()
    }

    #[test]
    fn only_vms_that_their_node_stops_by_itself_are_marked_after_the_node_was_tainted() {
        let other = json!({"key": "sheaf.dev/vm-only", "effect": "NoSchedule"});
        let pods = [pod("a", true, "True"), pod("b", false, "True"), pod("c", true, "False")];
        let now: Timestamp = "2027-01-15T08:00:00.5Z".parse().unwrap();
        let actions = plan(Some(&node(json!([other]))), &pods, now);
        let lost = json!({"key": NODE_LOST_TAINT, "effect": "NoSchedule"});
        let mark =
            json!({"metadata": {"uid": "u", "annotations": {NODE_LOST_ANNOTATION: "2027-01-15T08:00:00Z"}}});
        assert_eq!(
            actions,
            [
                Action::Taint(
                    json!({"metadata": {"resourceVersion": "7"}, "spec": {"taints": [other, lost]}})
                ),
                Action::Mark { namespace: "shop".into(), name: "a".into(), patch: mark },
            ]
        );
        let tainted = node(json!([other, lost]));
        assert_eq!(plan(Some(&tainted), &[], now), []);
        assert_eq!(
            untaint(&tainted),
            Some(json!({"metadata": {"resourceVersion": "7"}, "spec": {"taints": [other]}}))
        );
        assert_eq!(untaint(&node(json!([other]))), None);
    }

    #[test]
    fn a_pod_that_was_marked_or_has_ended_is_left_alone() {
        let mut marked = pod("a", true, "True");
        marked.metadata.annotations.as_mut().unwrap().insert(NODE_LOST_ANNOTATION.into(), "x".into());
        let mut ended = pod("b", true, "True");
        ended.status.as_mut().unwrap().container_statuses = serde_json::from_value(json!([{"name": "compute",
            "image": "", "imageID": "", "ready": false, "restartCount": 0, "state": {"terminated": {"exitCode": 0}}}]))
        .unwrap();
        assert_eq!(plan(None, &[marked, ended], Timestamp::UNIX_EPOCH), []);
    }
}
