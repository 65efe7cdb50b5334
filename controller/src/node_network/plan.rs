//! Whose turn it is. Pure.
//!
//! Why here: at most `maxUnavailable` nodes change at one time, and none after one has failed: what cut one node off would
//! cut off the next. A turn is given to nodes that are Ready, and is over when the node has reported its end. Route in: a
//! policy, all Nodes, the enactments of this policy. Route out: its status.

use k8s_openapi::api::core::v1::Node;
use sheaf_api::names::{TRUE, VM_NODE_LABEL};
use sheaf_api::node_network::policy::PolicyPhase;
use sheaf_api::node_network::{NodeNetworkEnactment, NodeNetworkPolicy, NodeNetworkPolicyStatus};

/// How many nodes a message names.
const NAMED: usize = 3;

/// Where one node stands.
struct Standing<'a> {
    name: &'a str,
    is_ready: bool,
    /// It is to run the policy, and not to be rid of it.
    matches: bool,
    /// It runs this generation, or, where it is to be rid of it, nothing.
    is_done: bool,
    /// It refused this generation, or rolled it back.
    failed: Option<String>,
}

fn standing<'a>(
    policy: &NodeNetworkPolicy,
    node: &'a Node,
    enactments: &[NodeNetworkEnactment],
) -> Option<Standing<'a>> {
    let name = node.metadata.name.as_deref()?;
    let labels = node.metadata.labels.clone().unwrap_or_default();
    let is_ours = labels.get(VM_NODE_LABEL).is_some_and(|value| value == TRUE);
    let matches = is_ours
        && policy.metadata.deletion_timestamp.is_none()
        && policy.spec.node_selector.iter().all(|(key, value)| labels.get(key) == Some(value));
    let enactment = enactments.iter().find(|enactment| enactment.spec.node_name == name);
    if !matches && enactment.is_none() {
        return None;
    }
    let status = enactment.and_then(|enactment| enactment.status.clone()).unwrap_or_default();
    let is_now = status.generation == policy.metadata.generation;
    let phase = status.phase.filter(|phase| is_now && phase.is_final());
    let message = || status.message.clone().unwrap_or_default();
    let conditions = node.status.iter().flat_map(|status| status.conditions.iter().flatten());
    Some(Standing {
        name,
        is_ready: conditions.into_iter().any(|is| is.type_ == "Ready" && is.status == "True"),
        matches,
        is_done: matches && phase.is_some_and(|phase| phase.is_applied()),
        failed: phase.filter(|phase| !phase.is_applied()).map(|_| message()),
    })
}

/// The status of `policy`: counts, and whose turn it is.
pub fn plan(
    policy: &NodeNetworkPolicy,
    nodes: &[Node],
    enactments: &[NodeNetworkEnactment],
) -> NodeNetworkPolicyStatus {
    let all: Vec<Standing<'_>> = nodes.iter().filter_map(|node| standing(policy, node, enactments)).collect();
    let before = policy.status.clone().unwrap_or_default();
    let is_same = before.observed_generation == policy.metadata.generation;
    // A turn lasts until its node is done, whatever the node's state: it may be the change that hides it.
    let open = |standing: &&Standing<'_>| !standing.is_done && standing.failed.is_none();
    let held =
        |standing: &Standing<'_>| is_same && before.updating_nodes.iter().any(|turn| turn == standing.name);
    let mut turns: Vec<&Standing<'_>> = all.iter().filter(open).filter(|standing| held(standing)).collect();
    let failed: Vec<&Standing<'_>> = all.iter().filter(|standing| standing.failed.is_some()).collect();
    let most = usize::try_from(policy.spec.max_unavailable.max(1)).unwrap_or(usize::MAX);
    let waiting: Vec<&Standing<'_>> = all.iter().filter(open).filter(|standing| !held(standing)).collect();
    if failed.is_empty() {
        let free = most.saturating_sub(turns.len());
        turns.extend(waiting.iter().filter(|standing| standing.is_ready).take(free));
    }
    let count = |is: &dyn Fn(&&Standing<'_>) -> bool| {
        u32::try_from(all.iter().filter(is).count()).unwrap_or(u32::MAX)
    };
    let is_deleted = policy.metadata.deletion_timestamp.is_some();
    let is_open = all.iter().any(|standing| open(&standing));
    let phase = match () {
        () if !failed.is_empty() => PolicyPhase::Halted,
        () if is_deleted => PolicyPhase::Removing,
        () if is_open => PolicyPhase::Progressing,
        () => PolicyPhase::Applied,
    };
    let mut turns: Vec<String> = turns.iter().map(|standing| standing.name.to_owned()).collect();
    turns.sort();
    NodeNetworkPolicyStatus {
        observed_generation: policy.metadata.generation,
        phase: Some(phase),
        nodes: count(&|standing| standing.matches),
        applied: count(&|standing| standing.is_done),
        failed: u32::try_from(failed.len()).unwrap_or(u32::MAX),
        message: message(&failed, &turns, &waiting),
        updating_nodes: turns,
    }
}

fn message(failed: &[&Standing<'_>], turns: &[String], waiting: &[&Standing<'_>]) -> Option<String> {
    if let Some(first) = failed.first() {
        let why = first.failed.as_deref().unwrap_or_default();
        let more = match failed.len() {
            1 => String::new(),
            number => format!(" (and {} more)", number - 1),
        };
        return Some(format!(
            "{}{more}: {why}; no further node is changed until the policy is changed",
            first.name
        ));
    }
    let away: Vec<&str> =
        waiting.iter().filter(|standing| !standing.is_ready).map(|standing| standing.name).collect();
    let names = |names: &[&str]| match names.len() {
        0..=NAMED => names.join(", "),
        number => format!("{} and {} more", names[..NAMED].join(", "), number - NAMED),
    };
    if !turns.is_empty() {
        let turns: Vec<&str> = turns.iter().map(String::as_str).collect();
        return Some(format!("now changing: {}", names(&turns)));
    }
    (!away.is_empty()).then(|| format!("not changed, because not Ready: {}", names(&away)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
    use k8s_openapi::jiff::Timestamp;
    use serde_json::json;
    use sheaf_api::node_network::enactment::EnactmentPhase::{self, Applied, RolledBack, Trying};

    fn policy(generation: i64, max_unavailable: u32) -> NodeNetworkPolicy {
        let mut policy = NodeNetworkPolicy::new("p", Default::default());
        policy.spec.max_unavailable = max_unavailable;
        policy.metadata.generation = Some(generation);
        policy
    }

    fn node(name: &str, ready: bool) -> Node {
        let word = if ready { "True" } else { "Unknown" };
        serde_json::from_value(json!({
            "metadata": {"name": name, "labels": {VM_NODE_LABEL: TRUE}},
            "status": {"conditions": [{"type": "Ready", "status": word}]},
        }))
        .unwrap()
    }

    fn enactment(node: &str, generation: i64, phase: EnactmentPhase) -> NodeNetworkEnactment {
        serde_json::from_value(json!({
            "apiVersion": "sheaf.dev/v1alpha1", "kind": "NodeNetworkEnactment",
            "metadata": {"name": format!("p.{node}")}, "spec": {"nodeName": node, "policy": "p"},
            "status": {"generation": generation, "phase": phase, "message": "gateway: silent"},
        }))
        .unwrap()
    }

    fn nodes(names: &[&str]) -> Vec<Node> {
        names.iter().map(|name| node(name, true)).collect()
    }

    #[test]
    fn no_more_nodes_change_at_one_time_than_may_be_unavailable() {
        let nodes = nodes(&["n1", "n2", "n3"]);
        let mut policy = policy(1, 1);
        let first = plan(&policy, &nodes, &[]);
        assert_eq!(
            (first.updating_nodes.as_slice(), first.phase),
            (&["n1".to_owned()][..], Some(PolicyPhase::Progressing))
        );
        policy.status = Some(first);
        let trying = plan(&policy, &nodes, &[enactment("n1", 1, Trying)]);
        assert_eq!(trying.updating_nodes, ["n1"]);
        policy.status = Some(trying);
        let next = plan(&policy, &nodes, &[enactment("n1", 1, Applied)]);
        assert_eq!((next.updating_nodes.as_slice(), next.applied), (&["n2".to_owned()][..], 1));
        policy.status = Some(next);
        let all = ["n1", "n2", "n3"].map(|name| enactment(name, 1, Applied));
        let end = plan(&policy, &nodes, &all);
        assert_eq!((end.updating_nodes.len(), end.phase, end.applied), (0, Some(PolicyPhase::Applied), 3));
        policy.spec.max_unavailable = 2;
        policy.metadata.generation = Some(2);
        assert_eq!(plan(&policy, &nodes, &all).updating_nodes, ["n1", "n2"]);
    }

    #[test]
    fn after_a_failure_no_further_node_is_changed_until_the_policy_is() {
        let nodes = nodes(&["n1", "n2"]);
        let mut policy = policy(1, 1);
        policy.status = Some(plan(&policy, &nodes, &[]));
        let failed = [enactment("n1", 1, RolledBack)];
        let halted = plan(&policy, &nodes, &failed);
        assert_eq!(
            (halted.updating_nodes.len(), halted.phase, halted.failed),
            (0, Some(PolicyPhase::Halted), 1)
        );
        assert_eq!(
            halted.message.as_deref(),
            Some("n1: gateway: silent; no further node is changed until the policy is changed")
        );
        policy.status = Some(halted);
        policy.metadata.generation = Some(2);
        assert_eq!(plan(&policy, &nodes, &failed).updating_nodes, ["n1"]);
    }

    #[test]
    fn a_node_that_is_away_is_passed_over_and_one_that_vanishes_in_its_turn_keeps_it() {
        let mut policy = policy(1, 1);
        let all = [node("n1", false), node("n2", true)];
        let status = plan(&policy, &all, &[]);
        assert_eq!(status.updating_nodes, ["n2"]);
        policy.status = Some(status);
        let all = [node("n1", true), node("n2", false)];
        assert_eq!(plan(&policy, &all, &[enactment("n2", 1, Trying)]).updating_nodes, ["n2"]);
        let status = plan(&policy, &all[1..], &[enactment("n2", 1, Applied)]);
        assert_eq!(status.phase, Some(PolicyPhase::Applied));
    }

    #[test]
    fn a_deleted_policy_is_removed_in_turns_and_only_where_it_is() {
        let nodes = nodes(&["n1", "n2", "n3"]);
        let mut policy = policy(2, 1);
        policy.metadata.deletion_timestamp = Some(Time(Timestamp::UNIX_EPOCH));
        let all = [enactment("n1", 1, Applied), enactment("n3", 1, Applied)];
        let status = plan(&policy, &nodes, &all);
        assert_eq!(
            (status.updating_nodes.as_slice(), status.phase),
            (&["n1".to_owned()][..], Some(PolicyPhase::Removing))
        );
        policy.status = Some(status);
        assert_eq!(plan(&policy, &nodes, &all[1..]).updating_nodes, ["n3"]);
    }

    #[test]
    fn a_node_that_the_selector_left_is_rid_of_it_and_others_never_hear_of_it() {
        let mut policy = policy(2, 1);
        policy.spec.node_selector.insert("zone".into(), "b".into());
        let nodes = nodes(&["n1", "n2"]);
        let status = plan(&policy, &nodes, &[enactment("n2", 1, Applied)]);
        assert_eq!((status.updating_nodes.as_slice(), status.nodes), (&["n2".to_owned()][..], 0));
    }
}
