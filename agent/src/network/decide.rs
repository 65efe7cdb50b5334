//! What to do next about policies. Pure.
//!
//! Why here: who has the turn, what failed once and is not tried again, what a crash left in the air: each a rule, each a
//! test. Route in: [`Seen`]. Route out: [`Act`]s; of those that change links only the first, since the next look sees
//! another node.

use super::layers::{Layer, Layers, title};
use super::merge::Refusal;
use sheaf_api::node_network::enactment::EnactmentPhase::{Applied, Pending, Refused, RolledBack, Trying};
use sheaf_api::node_network::{NodeNetworkEnactmentStatus as Status, NodeNetworkPolicy};
use std::collections::{BTreeMap, BTreeSet};

/// All that counts.
pub struct Seen<'a> {
    /// Name of this node.
    pub node: &'a str,
    /// Its labels.
    pub labels: &'a BTreeMap<String, String>,
    /// All policies there are.
    pub policies: &'a [NodeNetworkPolicy],
    /// What this node reported, by policy.
    pub reported: &'a BTreeMap<String, Status>,
    /// What was confirmed on it.
    pub layers: &'a Layers,
    /// A change is on trial, ours or an operator's.
    pub on_trial: bool,
    /// Removals that failed, by policy's UID and generation.
    pub not_removed: &'a BTreeSet<(String, i64)>,
    /// Why the last trial was rolled back, by its title.
    pub last: Option<(&'a str, &'a str)>,
}

/// What to do.
#[derive(Clone, Debug, PartialEq)]
pub enum Act {
    /// Say it of the policy.
    Report(String, Status),
    /// Nothing is left of the policy here, nor to be said.
    Withdraw(String),
    /// Try the layer.
    Try(Layer),
    /// Try to be without the layer of the policy.
    Remove(String),
}

/// The title of a trial of `generation` of the policy `name`.
pub fn trial_title(name: &str, generation: i64) -> String {
    format!("{}, generation {generation}", title(name))
}

fn uid(policy: &NodeNetworkPolicy) -> String {
    policy.metadata.uid.clone().unwrap_or_default()
}

fn name(policy: &NodeNetworkPolicy) -> &str {
    policy.metadata.name.as_deref().unwrap_or_default()
}

fn generation(policy: &NodeNetworkPolicy) -> i64 {
    policy.metadata.generation.unwrap_or_default()
}

/// What `policy` lays over node.toml.
pub fn layer(policy: &NodeNetworkPolicy) -> Layer {
    Layer {
        name: name(policy).to_owned(),
        rank: policy.spec.rank,
        generation: generation(policy),
        uid: uid(policy),
        links: policy.spec.network.clone(),
    }
}

/// What to do; `fits` tells whether layers can be laid over node.toml.
pub fn decide(seen: &Seen<'_>, fits: impl Fn(&Layers) -> Result<(), Refusal>) -> Vec<Act> {
    let mut acts = Vec::new();
    for policy in seen.policies {
        acts.extend(about(seen, policy, &fits));
    }
    let known = |name: &str, uid: &str| {
        seen.policies
            .iter()
            .any(|policy| self::name(policy) == name && (uid.is_empty() || self::uid(policy) == uid))
    };
    for layer in &seen.layers.layers {
        let is_policy = layer.name != super::layers::BY_HAND;
        // Nobody is left to give a turn.
        let failed = seen.not_removed.contains(&(layer.uid.clone(), layer.generation));
        if is_policy && !known(&layer.name, &layer.uid) && !failed {
            acts.push(Act::Remove(layer.name.clone()));
        }
    }
    for name in seen.reported.keys() {
        if !known(name, "") && seen.layers.get(name).is_none() {
            acts.push(Act::Withdraw(name.clone()));
        }
    }
    only_one_change(acts, seen.on_trial)
}

fn only_one_change(acts: Vec<Act>, on_trial: bool) -> Vec<Act> {
    let mut changes = usize::from(on_trial);
    let keep = |act: &Act| {
        let is_change = matches!(act, Act::Try(_) | Act::Remove(_));
        changes += usize::from(is_change);
        !is_change || changes == 1
    };
    acts.into_iter().filter(keep).collect()
}

fn about(
    seen: &Seen<'_>,
    policy: &NodeNetworkPolicy,
    fits: &impl Fn(&Layers) -> Result<(), Refusal>,
) -> Option<Act> {
    let (name, generation, uid) = (name(policy), generation(policy), uid(policy));
    let selector = &policy.spec.node_selector;
    let matches = policy.metadata.deletion_timestamp.is_none()
        && selector.iter().all(|(key, value)| seen.labels.get(key) == Some(value));
    let said = seen.reported.get(name);
    let has = seen.layers.get(name).filter(|layer| layer.uid == uid);
    let status = policy.status.as_ref();
    let has_turn = status.is_some_and(|status| {
        status.observed_generation == Some(generation)
            && status.updating_nodes.iter().any(|turn| turn == seen.node)
    });
    let report = |status: Status| (said != Some(&status)).then(|| Act::Report(name.to_owned(), status));
    let pending = |message: &str| Status {
        generation: Some(generation),
        phase: Some(Pending),
        message: Some(message.to_owned()),
        applied_generation: has.map(|layer| layer.generation),
        ..Status::default()
    };
    if !matches {
        return match has {
            None => said.is_some().then(|| Act::Withdraw(name.to_owned())),
            Some(_) if seen.not_removed.contains(&(uid.clone(), generation)) => None,
            Some(_) if has_turn => Some(Act::Remove(name.to_owned())),
            Some(_) => report(pending("waiting for its turn to be removed")),
        };
    }
    let of_now = said.filter(|said| said.generation == Some(generation));
    let phase = of_now.and_then(|said| said.phase);
    if has.is_some_and(|layer| layer.generation == generation) {
        if phase.is_some_and(sheaf_api::node_network::enactment::EnactmentPhase::is_applied) {
            return None;
        }
        // Kept, and the agent ended before it could say so.
        return report(Status {
            generation: Some(generation),
            phase: Some(Applied),
            applied_generation: Some(generation),
            ..Status::default()
        });
    }
    match phase {
        Some(RolledBack) => return None,
        Some(Trying) if !seen.on_trial => {
            let title = trial_title(name, generation);
            let why = seen.last.filter(|(last, _)| *last == title).map(|(_, why)| why);
            let why = why.unwrap_or("the node went down while it was on trial");
            return report(Status {
                phase: Some(RolledBack),
                message: Some(format!("{why}; rolled back")),
                applied_generation: has.map(|layer| layer.generation),
                ..of_now.cloned().unwrap_or_default()
            });
        }
        _ => {}
    }
    if let Err(refusal) = fits(&seen.layers.with(layer(policy))) {
        return report(Status {
            generation: Some(generation),
            phase: Some(Refused),
            message: Some(refusal.to_string()),
            applied_generation: has.map(|layer| layer.generation),
            ..Status::default()
        });
    }
    match has_turn {
        true => Some(Act::Try(layer(policy))),
        // What it waits for otherwise is reported by the caller.
        false if phase == Some(Pending) => None,
        false => report(pending("waiting for its turn")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sheaf_api::node_network::NodeNetworkPolicyStatus;
    use sheaf_links::{Bridge, Links};

    fn policy(name: &str, generation: i64, turns: &[&str]) -> NodeNetworkPolicy {
        let bridge = Bridge { name: "br1".into(), ports: vec!["enp2s0".into()], ..Bridge::default() };
        let mut policy = NodeNetworkPolicy::new(name, Default::default());
        policy.spec.network = Links { bridges: vec![bridge], ..Links::default() };
        policy.metadata.uid = Some(format!("uid-{name}"));
        policy.metadata.generation = Some(generation);
        policy.status = Some(NodeNetworkPolicyStatus {
            observed_generation: Some(generation),
            updating_nodes: turns.iter().map(ToString::to_string).collect(),
            ..NodeNetworkPolicyStatus::default()
        });
        policy
    }

    struct World {
        policies: Vec<NodeNetworkPolicy>,
        reported: BTreeMap<String, Status>,
        layers: Layers,
        labels: BTreeMap<String, String>,
        on_trial: bool,
        not_removed: BTreeSet<(String, i64)>,
        last: Option<(&'static str, &'static str)>,
    }

    fn world(policies: Vec<NodeNetworkPolicy>) -> World {
        World {
            policies,
            reported: BTreeMap::new(),
            layers: Layers::default(),
            labels: BTreeMap::new(),
            on_trial: false,
            not_removed: BTreeSet::new(),
            last: None,
        }
    }

    impl World {
        fn decide(&self) -> Vec<Act> {
            let seen = Seen {
                node: "n1",
                labels: &self.labels,
                policies: &self.policies,
                reported: &self.reported,
                layers: &self.layers,
                on_trial: self.on_trial,
                not_removed: &self.not_removed,
                last: self.last,
            };
            decide(&seen, |_| Ok(()))
        }

        fn said(
            &mut self,
            name: &str,
            generation: i64,
            phase: sheaf_api::node_network::enactment::EnactmentPhase,
        ) {
            let status = Status { generation: Some(generation), phase: Some(phase), ..Status::default() };
            self.reported.insert(name.into(), status);
        }
    }

    fn phases(acts: &[Act]) -> Vec<String> {
        let word = |act: &Act| match act {
            Act::Report(name, status) => format!("{name} {:?}", status.phase.unwrap()),
            Act::Withdraw(name) => format!("withdraw {name}"),
            Act::Try(layer) => format!("try {} {}", layer.name, layer.generation),
            Act::Remove(name) => format!("remove {name}"),
        };
        acts.iter().map(word).collect()
    }

    #[test]
    fn nothing_is_tried_without_a_turn_for_this_very_generation() {
        assert_eq!(phases(&world(vec![policy("a", 2, &[])]).decide()), ["a Pending"]);
        assert_eq!(phases(&world(vec![policy("a", 2, &["n1"])]).decide()), ["try a 2"]);
        let mut stale = policy("a", 3, &["n1"]);
        stale.status.as_mut().unwrap().observed_generation = Some(2);
        assert_eq!(phases(&world(vec![stale]).decide()), ["a Pending"]);
    }

    #[test]
    fn what_failed_is_not_tried_again_before_the_policy_changes() {
        let mut world = world(vec![policy("a", 2, &["n1"])]);
        world.said("a", 2, RolledBack);
        assert!(world.decide().is_empty());
        world.policies = vec![policy("a", 3, &["n1"])];
        assert_eq!(phases(&world.decide()), ["try a 3"]);
    }

    #[test]
    fn a_trial_that_its_agent_did_not_survive_is_reported_with_the_reason() {
        let mut world = world(vec![policy("a", 2, &["n1"])]);
        world.said("a", 2, Trying);
        world.last = Some(("policy a, generation 2", "it was neither kept nor rolled back in time"));
        let acts = world.decide();
        assert_eq!(phases(&acts), ["a RolledBack"]);
        let Act::Report(_, status) = &acts[0] else { panic!() };
        assert_eq!(
            status.message.as_deref(),
            Some("it was neither kept nor rolled back in time; rolled back")
        );
        // One that was kept before the agent ended is not taken for failed.
        world.layers = Layers::default().with(layer(&world.policies[0]));
        assert_eq!(phases(&world.decide()), ["a Applied"]);
        world.said("a", 2, Applied);
        assert!(world.decide().is_empty());
    }

    #[test]
    fn one_change_at_a_time() {
        let mut world = world(vec![policy("a", 1, &["n1"]), policy("b", 1, &["n1"])]);
        assert_eq!(phases(&world.decide()), ["try a 1"]);
        world.on_trial = true;
        assert!(world.decide().is_empty());
    }

    #[test]
    fn a_policy_that_no_longer_matches_is_removed_in_its_turn_and_then_forgotten() {
        let mut policy = policy("a", 1, &[]);
        policy.spec.node_selector.insert("zone".into(), "b".into());
        let mut world = world(vec![policy]);
        assert!(world.decide().is_empty());
        world.layers = Layers::default().with(layer(&world.policies[0]));
        assert_eq!(phases(&world.decide()), ["a Pending"]);
        world.policies[0].status.as_mut().unwrap().updating_nodes = vec!["n1".into()];
        assert_eq!(phases(&world.decide()), ["remove a"]);
        world.not_removed.insert(("uid-a".into(), 1));
        assert!(world.decide().is_empty());
        world.layers = Layers::default();
        world.said("a", 1, Pending);
        assert_eq!(phases(&world.decide()), ["withdraw a"]);
    }

    #[test]
    fn a_policy_that_vanished_is_removed_without_a_turn_and_what_was_done_by_hand_stays() {
        let mut world = world(Vec::new());
        let by_hand = Layer { name: super::super::layers::BY_HAND.into(), ..Layer::default() };
        world.layers = Layers::default().with(layer(&policy("a", 1, &[]))).with(by_hand);
        assert_eq!(phases(&world.decide()), ["remove a"]);
        // Another policy of its name is another one.
        world.policies = vec![NodeNetworkPolicy {
            metadata: kube::core::ObjectMeta { uid: Some("new".into()), ..policy("a", 1, &[]).metadata },
            ..policy("a", 1, &[])
        }];
        assert_eq!(phases(&world.decide()), ["a Pending", "remove a"]);
    }

    #[test]
    fn what_does_not_fit_node_toml_is_refused_at_once_and_looked_at_again() {
        let mut world = world(vec![policy("a", 2, &[])]);
        let seen = |world: &World, fits: Result<(), Refusal>| {
            let seen = Seen {
                node: "n1",
                labels: &world.labels,
                policies: &world.policies,
                reported: &world.reported,
                layers: &world.layers,
                on_trial: false,
                not_removed: &world.not_removed,
                last: None,
            };
            decide(&seen, |_| fits.clone())
        };
        let acts = seen(&world, Err(Refusal("br0 is a link of node.toml".into())));
        assert_eq!(phases(&acts), ["a Refused"]);
        let Act::Report(name, status) = acts[0].clone() else { panic!() };
        world.reported.insert(name, status);
        assert!(seen(&world, Err(Refusal("br0 is a link of node.toml".into()))).is_empty());
        assert_eq!(phases(&seen(&world, Ok(()))), ["a Pending"]);
    }

    proptest::proptest! {
        #[test]
        fn whatever_was_reported_and_confirmed_it_decides_and_changes_links_at_most_once(
            generations in proptest::collection::vec((proptest::num::i64::ANY, proptest::num::i64::ANY, 0..7_usize), 0..4),
            confirmed in proptest::collection::vec(proptest::num::i64::ANY, 0..4),
            turns in proptest::collection::vec(proptest::bool::ANY, 4),
            on_trial in proptest::bool::ANY,
        ) {
            use sheaf_api::node_network::enactment::EnactmentPhase::Degraded;
            let phases = [Pending, Trying, Applied, Degraded, RolledBack, Refused];
            let mut world = world(Vec::new());
            world.on_trial = on_trial;
            for (index, (generation, reported, phase)) in generations.into_iter().enumerate() {
                let name = format!("p{index}");
                world.policies.push(policy(&name, generation, if turns[index] { &["n1"] } else { &[] }));
                if let Some(phase) = phases.get(phase) {
                    world.said(&name, reported, *phase);
                }
            }
            for (index, generation) in confirmed.into_iter().enumerate() {
                world.layers = world.layers.with(layer(&policy(&format!("p{index}"), generation, &[])));
            }
            let changes = world.decide().iter().filter(|act| matches!(act, Act::Try(_) | Act::Remove(_))).count();
            proptest::prop_assert!(changes <= usize::from(!on_trial));
        }
    }
}
