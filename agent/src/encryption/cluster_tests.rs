//! Several control-plane nodes in memory, in every order of kills.

use super::keys::Ring;
use super::plan::{Observed, Step, plan};
use super::stored::Stored;
use crate::shared_keys::peers::Peers;
use crate::shared_keys::{Document as _, Follow, Shared};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

fn now() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_600_000_000)
}

struct Node {
    name: String,
    disk: Ring,
    /// What its kube-apiserver was started with; none while it is off.
    runs: Option<Ring>,
}

struct World {
    shared: Option<Ring>,
    applied: BTreeMap<String, String>,
    nodes: Vec<Node>,
    /// Secrets in etcd by the key that encrypts them.
    stored: BTreeMap<String, u64>,
}

/// Names of the keys that kube-apiserver decrypts with.
fn readable(ring: &Ring) -> Vec<String> {
    let configuration: serde_json::Value = serde_json::from_str(&ring.configuration()).unwrap();
    let keys = configuration["resources"][0]["providers"][0]["secretbox"]["keys"].as_array().unwrap().clone();
    keys.iter().map(|key| key["name"].as_str().unwrap().to_owned()).collect()
}

impl World {
    fn new() -> Self {
        let mut ring = Ring::generate(now()).unwrap();
        let name = ring.keys[0].name.clone();
        ring.settled = Some(name.clone());
        let node = |name: &str| Node { name: name.into(), disk: ring.clone(), runs: Some(ring.clone()) };
        let nodes = vec![node("a"), node("b"), node("c")];
        Self { shared: None, applied: BTreeMap::new(), nodes, stored: [(name, 3)].into() }
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
            ring: node.disk.clone(),
            is_served: node.runs.as_ref().map(Ring::configuration) == Some(node.disk.configuration()),
            stored: Some(Stored { by_key: self.stored.clone(), plain: 0 }),
            // Snapshots of before are on the node: no key is forgotten.
            oldest_snapshot: Some(0),
            shared: Some(Shared { document: self.shared.clone(), peers }),
        }
    }

    fn change(&mut self, at: usize, ring: Ring, is_cut: bool) {
        if self.shared.as_ref().is_some_and(|shared| shared.generation >= ring.generation) {
            return; // another was faster
        }
        self.shared = Some(ring.clone());
        if !is_cut {
            self.nodes[at].disk = ring;
        }
    }

    /// One step of a node that is on, of which only the first part is done if `is_cut`.
    fn step(&mut self, at: usize, by_hand: bool, is_cut: bool) {
        if self.nodes[at].runs.is_none() {
            return;
        }
        let Some(step) = plan(&self.observed(at, by_hand)).unwrap() else { return };
        let mut ring = self.nodes[at].disk.clone();
        match step {
            Step::Follow(Follow::Adopt(shared)) => self.nodes[at].disk = shared.with(ring),
            Step::Follow(Follow::Share) => {
                ring.next();
                self.change(at, ring, is_cut);
            }
            Step::Follow(Follow::Report) => {
                let name = self.nodes[at].name.clone();
                self.applied.insert(name, ring.mark());
            }
            Step::Follow(Follow::Wait(_)) | Step::Forget(_) => {}
            Step::Serve => self.nodes[at].runs = (!is_cut).then_some(ring),
            Step::Promote(name) => {
                ring.keys.sort_by_key(|key| key.name != name);
                ring.next();
                self.change(at, ring, is_cut);
            }
            Step::Rewrite(_) => {
                let first = self.nodes[at].runs.as_ref().unwrap().keys[0].name.clone();
                let count: u64 = self.stored.values().sum();
                match is_cut {
                    true => *self.stored.entry(first).or_default() += 1,
                    false => self.stored = [(first, count)].into(),
                }
            }
            Step::Settle(name) => {
                let (keys, others) = ring.keys.into_iter().partition(|key| key.name == name);
                ring.keys = keys;
                ring.retired.extend(others);
                ring.settled = Some(name);
                ring.next();
                self.change(at, ring, is_cut);
            }
        }
    }

    /// Every API server that runs reads every Secret in etcd.
    fn check(&self) {
        for node in &self.nodes {
            let Some(runs) = &node.runs else { continue };
            let readable = readable(runs);
            for key in self.stored.keys() {
                assert!(readable.contains(key), "{} cannot read what is encrypted with {key}", node.name);
            }
        }
    }
}

proptest! {
    /// Whatever node is killed, off, writes, or is asked to rotate in whatever order: every API server reads every Secret, and left
    /// alone the cluster ends with one key.
    #[test]
    fn no_order_of_kills_leaves_a_secret_that_a_node_cannot_read(
        happens in prop::collection::vec((0..3_usize, 0..8_u8, any::<bool>()), 0..60)
    ) {
        let mut world = World::new();
        for (at, what, flag) in happens {
            match what {
                0 => world.nodes[at].runs = None, // its power is cut
                1 => {
                    let disk = world.nodes[at].disk.clone();
                    world.nodes[at].runs.get_or_insert(disk);
                }
                2 => {
                    // Somebody writes a Secret there.
                    if let Some(runs) = &world.nodes[at].runs {
                        *world.stored.entry(runs.keys[0].name.clone()).or_default() += 1;
                    }
                }
                3 if world.nodes[at].runs.is_some() => {
                    let mut ring = world.nodes[at].disk.clone();
                    let is_begun = ring.is_settled()
                        && world.shared.as_ref().is_none_or(|shared| shared.generation <= ring.generation);
                    if is_begun {
                        ring.add(now()).unwrap();
                        world.change(at, ring, flag);
                    }
                }
                _ => world.step(at, what == 4, what == 5),
            }
            world.check();
        }
        for node in &mut world.nodes {
            let disk = node.disk.clone();
            node.runs.get_or_insert(disk);
        }
        for _ in 0..60 {
            for at in 0..3 {
                world.step(at, false, false);
                world.check();
            }
        }
        let rings: Vec<_> = world.nodes.iter().map(|node| node.disk.clone()).collect();
        prop_assert!(rings.iter().all(|ring| ring.is_settled() && ring.keys == rings[0].keys), "{rings:?}");
        prop_assert_eq!(world.stored.len(), 1);
    }
}
