//! What comes before the next step of a change, with several control-plane nodes. Pure.
//!
//! Why one function for all keys: the order is the same (take, serve in turn, report, wait for all), and it is what keeps every node
//! able to read what every other writes. Route in: the document of this node, [`Shared`]. Route out: [`Follow`].

use super::{Document, Shared};
use std::fmt;

/// One thing to do.
#[derive(Clone, PartialEq, Eq)]
pub enum Follow<T> {
    /// Take the document that the nodes share.
    Adopt(Box<T>),
    /// Have the other nodes follow the document as it is here.
    Share,
    /// Say that this node runs with it.
    Report,
    /// These come first.
    Wait(Vec<String>),
}

impl<T> fmt::Display for Follow<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Adopt(_) => f.write_str("take what the control-plane nodes share"),
            Self::Share => f.write_str("share it with the other control-plane nodes"),
            Self::Report => f.write_str("report that this node runs with it"),
            Self::Wait(names) => write!(f, "wait for {}", names.join(", ")),
        }
    }
}

impl<T> fmt::Debug for Follow<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// What comes first; none if the next step of the change itself is due, or none is. `is_served`: this node runs with `local`;
/// `is_settled`: no change of it is under way.
pub fn follow<T: Document + Clone>(
    local: &T,
    is_served: bool,
    is_settled: bool,
    shared: &Shared<T>,
) -> Option<Follow<T>> {
    let (peers, mark) = (&shared.peers, local.mark());
    if let Some(newer) = shared.document.as_ref().filter(|newer| newer.generation() > local.generation()) {
        return Some(Follow::Adopt(Box::new(newer.clone())));
    }
    let is_shared = shared.document.as_ref().is_some_and(|known| known.generation() == local.generation());
    if !is_served {
        // One node restarts its services after the other.
        let earlier = if is_shared { peers.earlier(&mark) } else { Vec::new() };
        return (!earlier.is_empty()).then_some(Follow::Wait(earlier));
    }
    if is_shared && !peers.has_reported(&mark) {
        return Some(Follow::Report);
    }
    if is_settled {
        return None;
    }
    let missing = peers.missing(&mark);
    match (is_shared, peers.leads) {
        (false, true) => Some(Follow::Share),
        (true, _) if !missing.is_empty() => Some(Follow::Wait(missing)),
        (true, true) => None,
        (_, false) => Some(Follow::Wait(peers.leader())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shared_keys::peers::Peers;
    use serde::{Deserialize, Serialize};

    #[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
    struct Number(u64);

    impl Document for Number {
        const NAME: &'static str = "number";

        fn generation(&self) -> u64 {
            self.0
        }
    }

    fn shared(document: Option<u64>, node: &str, applied: &[(&str, &str)], leads: bool) -> Shared<Number> {
        let peers = Peers {
            node: node.into(),
            members: ["a", "b", "c"].map(str::to_owned).to_vec(),
            applied: applied.iter().map(|(name, mark)| ((*name).into(), (*mark).into())).collect(),
            leads,
        };
        Shared { document: document.map(Number), peers }
    }

    #[test]
    fn a_later_document_is_taken_before_anything_else() {
        let seen = shared(Some(5), "b", &[], false);
        assert_eq!(follow(&Number(4), false, true, &seen), Some(Follow::Adopt(Box::new(Number(5)))));
    }

    #[test]
    fn services_restart_one_node_after_the_other_and_what_each_runs_with_is_reported() {
        let none = shared(Some(5), "b", &[("a", "4")], false);
        assert_eq!(follow(&Number(5), false, false, &none), Some(Follow::Wait(vec!["a".into()])));
        let first = shared(Some(5), "b", &[("a", "5"), ("b", "4")], false);
        assert_eq!(follow(&Number(5), false, false, &first), None, "it is this node's turn");
        assert_eq!(follow(&Number(5), true, true, &first), Some(Follow::Report));
    }

    #[test]
    fn the_next_change_waits_for_every_node_and_is_made_by_one() {
        let two = [("a", "5"), ("b", "5"), ("c", "4")];
        let seen = shared(Some(5), "a", &two, true);
        assert_eq!(follow(&Number(5), true, false, &seen), Some(Follow::Wait(vec!["c".into()])));
        let three = [("a", "5"), ("b", "5"), ("c", "5")];
        assert_eq!(follow(&Number(5), true, false, &shared(Some(5), "a", &three, true)), None);
        let other = shared(Some(5), "b", &three, false);
        assert_eq!(follow(&Number(5), true, false, &other), Some(Follow::Wait(vec!["a".into()])));
        assert_eq!(follow(&Number(5), true, true, &other), None, "no change is under way");
    }

    #[test]
    fn what_was_begun_while_there_was_one_node_is_shared_before_it_continues() {
        for document in [None, Some(2)] {
            assert_eq!(
                follow(&Number(5), true, false, &shared(document, "a", &[], true)),
                Some(Follow::Share)
            );
        }
    }
}
