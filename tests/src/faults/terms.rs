//! Whether etcd had one leader in each term of Raft.
//!
//! Why by term: during a partition a former leader may still believe in itself while the others have elected another, in a later
//! term; nothing that it accepts is ever committed. Two leaders of one term would be two histories. Pure. Route in: what each member
//! answered. Route out: the members that disagree.

use std::collections::BTreeMap;

/// What a member said of the term it is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Said {
    /// etcd's number for the member that was asked.
    pub member: u64,
    /// Raft's term.
    pub term: u64,
    /// The leader of that term; 0 if the member knows none.
    pub leader: u64,
}

/// Leaders by term.
#[derive(Default)]
pub struct Terms(BTreeMap<u64, Said>);

impl Terms {
    /// One more answer; what is wrong with it, if anything is.
    pub fn add(&mut self, said: Said) -> Option<String> {
        if said.leader == 0 {
            return None;
        }
        let first = self.0.entry(said.term).or_insert(said);
        (first.leader != said.leader).then(|| {
            format!(
                "two leaders of etcd in term {}: {:x} by member {:x}, {:x} by member {:x}",
                said.term, first.leader, first.member, said.leader, said.member
            )
        })
    }

    /// Terms that had a leader when somebody asked: elections are one less.
    pub fn count(&self) -> usize {
        self.0.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_leaders_in_one_term_are_found() {
        let mut terms = Terms::default();
        assert_eq!(terms.add(Said { member: 1, term: 4, leader: 1 }), None);
        assert_eq!(terms.add(Said { member: 2, term: 4, leader: 1 }), None);
        assert_eq!(
            terms.add(Said { member: 3, term: 4, leader: 3 }).unwrap(),
            "two leaders of etcd in term 4: 1 by member 1, 3 by member 3"
        );
    }

    #[test]
    fn a_former_leader_in_its_former_term_and_a_member_that_knows_none_are_no_second_leader() {
        let mut terms = Terms::default();
        assert_eq!(terms.add(Said { member: 1, term: 4, leader: 1 }), None);
        assert_eq!(terms.add(Said { member: 2, term: 5, leader: 2 }), None);
        assert_eq!(terms.add(Said { member: 1, term: 4, leader: 1 }), None);
        assert_eq!(terms.add(Said { member: 3, term: 5, leader: 0 }), None);
        assert_eq!(terms.count(), 2);
    }
}
