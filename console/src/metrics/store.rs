//! The series of all machines and nodes, within a budget.
//!
//! Why here: what the console uses must not grow with what nodes report. Every series has the same size, so the budget is a
//! number of them; a new one takes the place of the one that was written longest ago, if that is not being written any more. Pure.
//! Route in: counters. Route out: values.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use super::series::{self, Counters, Series, Step, UNKNOWN, Values};

/// Bytes of all series. The console has 80 MiB with 1000 machines and 50 browsers (issue 14); this is its share.
const BUDGET: usize = 24 << 20;
/// Series within the budget: 2442.
pub const MOST: usize = BUDGET / series::BYTES;
const _: () = assert!(MOST >= 2 * 1000, "a thousand machines and a thousand nodes must fit");

/// One that was not written for so long, in seconds, may be replaced.
const IDLE: u64 = 120;

/// Of what.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Whose {
    /// A node.
    Node(Arc<str>),
    /// A machine: `project/name`, as the keys of `/console/watch`.
    Machine(Arc<str>),
}

impl Whose {
    /// A machine.
    pub fn machine(project: &str, name: &str) -> Self {
        Self::Machine(format!("{project}/{name}").into())
    }
}

/// All series.
#[derive(Debug, Default)]
pub struct Store(BTreeMap<Whose, Series>);

impl Store {
    /// Takes what `node` counted of `whose` at `at`, for the round that began at `round`; both in seconds since 1970.
    pub fn take(&mut self, whose: Whose, round: u64, at: f64, node: &Arc<str>, counters: Counters) {
        if !self.0.contains_key(&whose) && !self.has_room(round) {
            return;
        }
        self.0.entry(whose).or_default().take(round, at, node, counters);
    }

    /// Whether one more may be kept; drops the one that was written longest ago for it.
    fn has_room(&mut self, now: u64) -> bool {
        if self.0.len() < MOST {
            return true;
        }
        let oldest = self.0.iter().min_by_key(|(_, series)| series.written());
        let oldest =
            oldest.filter(|(_, series)| series.written() + IDLE < now).map(|(whose, _)| whose.clone());
        // All are in use: those that came first stay, else each round would drop what the last one wrote.
        oldest.is_some_and(|oldest| self.0.remove(&oldest).is_some())
    }

    /// Forgets machines and nodes that do not exist any more: one that is made again under the name, perhaps by somebody else,
    /// begins without a past.
    pub fn keep(&mut self, nodes: &BTreeSet<Arc<str>>, machines: &BTreeSet<Arc<str>>) {
        self.0.retain(|whose, _| match whose {
            Whose::Node(name) => nodes.contains(name),
            Whose::Machine(key) => machines.contains(key),
        });
    }

    /// The slots of `step` up to `now`; none if nothing was ever read.
    pub fn of(&self, whose: &Whose, step: Step, now: u64) -> Option<Vec<Values>> {
        self.0.get(whose).map(|series| series.read(step, now))
    }

    /// The sum of all nodes.
    pub fn cluster(&self, step: Step, now: u64) -> Option<Vec<Values>> {
        let nodes = self.0.iter().filter(|(whose, _)| matches!(whose, Whose::Node(_)));
        let mut sum: Option<Vec<Values>> = None;
        for (_, series) in nodes {
            let values = series.read(step, now);
            let sum = sum.get_or_insert_with(|| vec![UNKNOWN; values.len()]);
            for (sum, values) in sum.iter_mut().zip(values) {
                for (sum, value) in sum.iter_mut().zip(values) {
                    *sum = if sum.is_nan() {
                        value
                    } else if value.is_nan() {
                        *sum
                    } else {
                        *sum + value
                    };
                }
            }
        }
        sum
    }
}

#[cfg(test)]
mod tests {
    use super::super::series::{MEMORY, NO_COUNTERS, RECENT};
    use super::*;

    fn machine(number: usize) -> Whose {
        Whose::machine("shop", &format!("m-{number}"))
    }

    fn take(store: &mut Store, whose: Whose, round: u64, memory: f64) {
        let mut counters = NO_COUNTERS;
        counters[MEMORY] = memory;
        store.take(whose, round, round as f64, &"n1".into(), counters);
    }

    #[test]
    fn what_is_beyond_the_budget_is_not_kept_while_all_is_in_use_and_takes_the_place_of_what_is_not() {
        let mut store = Store::default();
        for number in 0..MOST + 100 {
            take(&mut store, machine(number), 1_800_000_000, 1.0);
        }
        assert_eq!(store.0.len(), MOST);
        assert!(store.of(&machine(MOST), RECENT, 1_800_000_000).is_none());
        for number in 1..MOST {
            take(&mut store, machine(number), 1_800_000_000 + 300, 1.0);
        }
        take(&mut store, machine(MOST), 1_800_000_000 + 300, 1.0);
        assert_eq!(store.0.len(), MOST);
        assert!(store.of(&machine(MOST), RECENT, 1_800_000_300).is_some());
        assert!(store.of(&machine(0), RECENT, 1_800_000_300).is_none(), "it was written longest ago");
    }

    #[test]
    fn the_cluster_is_the_sum_of_its_nodes_and_what_is_gone_is_forgotten() {
        let mut store = Store::default();
        assert!(store.cluster(RECENT, 1_800_000_000).is_none());
        for (name, memory) in [("n1", 3.0), ("n2", 4.0)] {
            take(&mut store, Whose::Node(name.into()), 1_800_000_000, memory);
        }
        take(&mut store, machine(0), 1_800_000_000, 100.0);
        take(&mut store, Whose::Node("n1".into()), 1_800_000_030, 5.0);
        let sum = store.cluster(RECENT, 1_800_000_030).unwrap();
        assert_eq!(
            (sum[118][MEMORY], sum[119][MEMORY]),
            (7.0, 5.0),
            "a node that did not answer is left out"
        );
        assert!(sum[117][MEMORY].is_nan());
        store.keep(&["n1".into()].into(), &BTreeSet::new());
        assert!(store.of(&machine(0), RECENT, 1_800_000_030).is_none());
        assert_eq!(store.0.len(), 1);
    }
}
