//! Which control-plane nodes still lack a state of the keys, and whose turn it is. Pure.
//!
//! Why turns: a node takes a new state by restarting services; one after the other, in the order of names, the API and etcd stay
//! up meanwhile. Why every node is waited for: what one node writes or signs, each other must be able to read. A node that is off
//! holds a change up until it is back or is removed from etcd; it is named. Route in: members of etcd, what they reported. Route
//! out: names.

use std::collections::BTreeMap;

/// The control-plane nodes, of which there are several.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Peers {
    /// Name of this node.
    pub node: String,
    /// All, this one too, in order.
    pub members: Vec<String>,
    /// The state that each runs with, by name.
    pub applied: BTreeMap<String, String>,
    /// This node continues a change: an administrator began it here, or it is the first of all.
    pub leads: bool,
}

impl Peers {
    fn lacks(&self, name: &String, mark: &str) -> bool {
        self.applied.get(name).map(String::as_str) != Some(mark)
    }

    /// Those that do not run with `mark`.
    pub fn missing(&self, mark: &str) -> Vec<String> {
        self.members.iter().filter(|name| self.lacks(name, mark)).cloned().collect()
    }

    /// Those of them whose turn is before this node's.
    pub fn earlier(&self, mark: &str) -> Vec<String> {
        self.missing(mark).into_iter().filter(|name| *name < self.node).collect()
    }

    /// This node reported that it runs with `mark`.
    pub fn has_reported(&self, mark: &str) -> bool {
        !self.lacks(&self.node, mark)
    }

    /// The node that continues a change when no administrator does.
    pub fn leader(&self) -> Vec<String> {
        self.members.first().cloned().into_iter().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_take_a_state_in_the_order_of_their_names_and_each_that_lacks_it_is_named() {
        let applied = [("a", "2"), ("b", "1"), ("gone", "1")].map(|(node, mark)| (node.into(), mark.into()));
        let members = ["a", "b", "c"].map(str::to_owned).to_vec();
        let peers = Peers { node: "c".into(), members, applied: applied.into(), leads: false };
        assert_eq!(peers.missing("2"), ["b", "c"]);
        assert_eq!(peers.earlier("2"), ["b"], "b is before c, and a has it");
        assert!(!peers.has_reported("2"));
        let first = Peers { node: "a".into(), ..peers };
        assert_eq!(first.earlier("3"), [""; 0]);
        assert!(first.has_reported("2"));
        assert_eq!(first.leader(), ["a"]);
    }
}
