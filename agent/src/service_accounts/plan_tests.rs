//! Changes of the key of service accounts, on one node and on several, in any order of kills.
//!
//! Why here: the plan is right only together with what the others share and report. Route in: random orders. Route out: nothing.

use super::*;
use crate::shared_keys::Document as _;
use crate::shared_keys::peers::Peers;
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::time::Duration;

fn now() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_600_000_000)
}

/// Keys of a new cluster.
fn first() -> KeySet {
    let mut set = KeySet { keys: Vec::new(), generation: 0 };
    set.add(now()).unwrap();
    set.generation = 0;
    set
}

fn alone(set: &KeySet, is_served: bool) -> Observed {
    Observed { set: set.clone(), is_served, shared: None, tokens: Others::default(), now: now() }
}

#[test]
fn a_new_key_is_served_then_signs_then_tokens_in_secrets_are_made_again_and_the_former_retires() {
    let mut set = first();
    assert_eq!(plan(&alone(&set, true)), None);
    set.add(now()).unwrap();
    assert_eq!(plan(&alone(&set, false)), Some(Step::Serve));
    assert_eq!(plan(&alone(&set, true)), Some(Step::Sign(2)));
    assert!(!needs_tokens(&alone(&set, true)));
    set.sign_with(2);
    assert_eq!(plan(&alone(&set, false)), Some(Step::Serve));
    assert!(needs_tokens(&alone(&set, true)));
    let secret = ("default".to_owned(), "ci".to_owned());
    let with = |stale: &[(String, String)], empty: &[(String, String)]| Observed {
        tokens: Others { stale: stale.to_vec(), empty: empty.to_vec() },
        ..alone(&set, true)
    };
    let one = std::slice::from_ref(&secret);
    assert_eq!(plan(&with(one, &[])), Some(Step::Renew(one.to_vec())));
    let waits = "kube-controller-manager to fill 1 Secrets with tokens, as default/ci".to_owned();
    assert_eq!(plan(&with(&[], one)), Some(Step::Follow(Follow::Wait(vec![waits]))));
    assert_eq!(plan(&with(&[], &[])), Some(Step::Retire(vec![1])));
    set.retire(&[1], now());
    assert_eq!(plan(&alone(&set, true)), None);
    let later = now() + crate::service_accounts::keys::LONGEST_TOKEN;
    assert_eq!(plan(&Observed { now: later, ..alone(&set, true) }), Some(Step::Forget(vec![1])));
}

/// Control-plane nodes, as far as their keys go.
struct World {
    shared: Option<KeySet>,
    applied: BTreeMap<String, String>,
    nodes: Vec<Node>,
    now: SystemTime,
    /// When each key signed a token last.
    signed: BTreeMap<u32, SystemTime>,
}

struct Node {
    name: String,
    disk: KeySet,
    /// What its programs run with; none while it is off.
    runs: Option<KeySet>,
}

impl World {
    fn new() -> Self {
        let set = first();
        let node = |name: &str| Node { name: name.into(), disk: set.clone(), runs: Some(set.clone()) };
        let nodes = vec![node("a"), node("b"), node("c")];
        Self { shared: None, applied: BTreeMap::new(), nodes, now: now(), signed: BTreeMap::new() }
    }

    fn observed(&self, at: usize, by_hand: bool) -> Observed {
        let node = &self.nodes[at];
        let peers = Peers {
            node: node.name.clone(),
            members: self.nodes.iter().map(|node| node.name.clone()).collect(),
            applied: self.applied.clone(),
            leads: by_hand || at == 0,
        };
        Observed {
            is_served: node.runs.as_ref().and_then(KeySet::files) == node.disk.files(),
            set: node.disk.clone(),
            shared: Some(Shared { document: self.shared.clone(), peers }),
            tokens: Others::default(),
            now: self.now,
        }
    }

    fn change(&mut self, at: usize, change: impl FnOnce(&mut KeySet), is_cut: bool) {
        let mut set = self.nodes[at].disk.clone();
        change(&mut set);
        if self.shared.as_ref().is_some_and(|shared| shared.generation >= set.generation) {
            return; // another was faster
        }
        self.shared = Some(set.clone());
        if !is_cut {
            self.nodes[at].disk = set;
        }
    }

    /// One step of a node that is on, of which only the first part is done if `is_cut`.
    fn step(&mut self, at: usize, by_hand: bool, is_cut: bool) -> Option<Step> {
        self.nodes[at].runs.as_ref()?;
        let step = plan(&self.observed(at, by_hand))?;
        let now = self.now;
        match step.clone() {
            Step::Follow(Follow::Adopt(shared)) => self.nodes[at].disk = *shared,
            Step::Follow(Follow::Share) => self.change(at, KeySet::next, is_cut),
            Step::Follow(Follow::Report) => {
                let (name, mark) = (self.nodes[at].name.clone(), self.nodes[at].disk.mark());
                self.applied.insert(name, mark);
            }
            Step::Follow(Follow::Wait(_)) | Step::Renew(_) => {}
            Step::Serve if is_cut => self.nodes[at].runs = None,
            Step::Serve => self.nodes[at].runs = Some(self.nodes[at].disk.clone()),
            Step::Sign(number) => self.change(at, |set| set.sign_with(number), is_cut),
            Step::Retire(numbers) => self.change(at, |set| set.retire(&numbers, now), is_cut),
            Step::Forget(numbers) => self.change(at, |set| set.forget(&numbers), is_cut),
        }
        Some(step)
    }

    /// What any node that is on signs, every other that is on verifies, until a year later.
    fn check(&mut self) {
        let now = self.now;
        for runs in self.nodes.iter().filter_map(|node| node.runs.as_ref()) {
            self.signed.insert(runs.signing().unwrap().number, now);
        }
        for (number, last) in &self.signed {
            if now >= *last + Duration::from_secs(365 * 24 * 3600) {
                continue;
            }
            for runs in self.nodes.iter().filter_map(|node| node.runs.as_ref()) {
                let verifies = runs.keys.iter().any(|key| key.number == *number);
                assert!(verifies, "a token of key {number} is refused by {runs:?}");
            }
        }
    }
}

proptest! {
    /// Whatever node is killed, off, or asked to rotate in whatever order, and however much time passes: every token that is valid is
    /// verified by every node, and left alone the cluster ends with one key that signs.
    #[test]
    fn no_order_of_kills_refuses_a_token(
        happens in prop::collection::vec((0..3_usize, 0..8_u8, 0..400_u64), 0..60)
    ) {
        let mut world = World::new();
        for (at, what, days) in happens {
            match what {
                0 => world.nodes[at].runs = None, // its power is cut
                1 => {
                    let disk = world.nodes[at].disk.clone();
                    world.nodes[at].runs.get_or_insert(disk);
                }
                2 if world.nodes[at].runs.is_some() => {
                    let seen = world.observed(at, true);
                    let is_begun = seen.set.is_settled(world.now)
                        && world.shared.as_ref().is_none_or(|shared| shared.generation <= seen.set.generation);
                    if is_begun {
                        let now = world.now;
                        world.change(at, |set| set.add(now).unwrap(), days % 2 == 0);
                    }
                }
                // Time passes only while all nodes are on: one that was off for a year is told to join again.
                3 if world.nodes.iter().all(|node| node.runs.is_some()) && days > 300 => {
                    world.now += Duration::from_secs(days * 24 * 3600);
                }
                _ => drop(world.step(at, what == 4, what == 5)),
            }
            world.check();
        }
        for node in &mut world.nodes {
            let disk = node.disk.clone();
            node.runs.get_or_insert(disk);
        }
        for _ in 0..40 {
            for at in 0..3 {
                world.step(at, false, false);
                world.check();
            }
        }
        let sets: Vec<_> = world.nodes.iter().map(|node| node.disk.clone()).collect();
        prop_assert!(sets.iter().all(|set| *set == sets[0] && set.is_settled(world.now)), "{sets:?}");
    }
}
