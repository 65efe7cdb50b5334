//! Whether a node reports, is silent, or does not exist.
//!
//! Why here: a silent node may still run its VMs, so what may be done with it depends on this alone, and on what an administrator
//! says. kube-controller-manager judges by its own clock whether a lease is renewed, and sets the condition Ready to Unknown; a node
//! that reports Ready False itself is not silent. Pure. Route in: the Node, its lease, the time. Route out: [`Standing`].

use k8s_openapi::{api::core::v1::Node, jiff::Timestamp};

/// Seconds after which a silent node may be removed as one that is switched off: a machine that restarts is back by then.
pub const SILENT_AFTER: i64 = 300;
/// A lease that was renewed within so many seconds is that of an agent that runs: it lasts 40 s.
const LEASE_IS_FRESH: i64 = 60;

/// What is known of the node's agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// There is no Node of that name.
    Absent,
    /// Its agent reports.
    Reports,
    /// It does not, for so many seconds.
    Silent(i64),
}

/// Judges; `renewed` is when the lease was last renewed.
pub fn standing(node: Option<&Node>, renewed: Option<Timestamp>, now: Timestamp) -> Standing {
    let Some(node) = node else { return Standing::Absent };
    let conditions = node.status.iter().flat_map(|status| status.conditions.iter().flatten());
    let ready = conditions.into_iter().find(|condition| condition.type_ == "Ready");
    let Some(ready) = ready.filter(|ready| ready.status == "Unknown") else { return Standing::Reports };
    let since = |time: Timestamp| now.as_second().saturating_sub(time.as_second());
    let lease = renewed.map(since);
    if lease.is_some_and(|lease| lease < LEASE_IS_FRESH) {
        return Standing::Reports;
    }
    let unknown = ready.last_transition_time.as_ref().map(|time| since(time.0));
    Standing::Silent(unknown.into_iter().chain(lease).min().unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const NOW: i64 = 1_800_000_000; // 2027-01-15T08:00:00Z

    fn judged(ready: &str, renewed: Option<i64>) -> Standing {
        let node: Node =
            serde_json::from_value(json!({"metadata": {"name": "n1"}, "status": {"conditions": [
            {"type": "Ready", "status": ready, "lastTransitionTime": "2027-01-15T07:50:00Z"}]}}))
            .unwrap();
        let at = |second: i64| Timestamp::from_second(second).unwrap();
        standing(Some(&node), renewed.map(|ago| at(NOW - ago)), at(NOW))
    }

    #[test]
    fn a_node_is_silent_since_its_last_sign_and_one_that_reports_a_problem_is_not_silent() {
        assert_eq!(judged("True", None), Standing::Reports);
        assert_eq!(judged("False", Some(5000)), Standing::Reports);
        assert_eq!(judged("Unknown", Some(10)), Standing::Reports);
        assert_eq!(judged("Unknown", Some(400)), Standing::Silent(400));
        assert_eq!(judged("Unknown", Some(5000)), Standing::Silent(600));
        assert_eq!(judged("Unknown", None), Standing::Silent(600));
        assert_eq!(standing(None, None, Timestamp::UNIX_EPOCH), Standing::Absent);
    }
}
