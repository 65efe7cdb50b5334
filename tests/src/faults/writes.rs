//! What clients wrote, and what must therefore be there.
//!
//! Why here: an answer is a promise; no answer is none. A write without an answer may have been done, may be done later, or never; so
//! the object may be as before and as written, and its name is never used again. A write that begins after another was acknowledged
//! has a later revision: etcd has one history. Pure. Route in: each write, before and after; lists of what is there. Route out: a
//! [`Loss`].

use std::collections::BTreeMap;
use std::fmt;

/// How an object is: written for the n-th time, or not there (or about to go: deletion was asked for).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It is not there.
    Absent,
    /// It holds the number of this write.
    Holds(u64),
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Absent => f.write_str("absent"),
            Self::Holds(number) => write!(f, "write {number}"),
        }
    }
}

/// A promise that was not kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Loss {
    /// An object is not as it was acknowledged.
    Differs {
        /// `ConfigMap/NAME`.
        name: String,
        /// What is there.
        found: State,
        /// What was acknowledged last.
        acknowledged: State,
        /// Writes without an answer.
        may_be: Vec<State>,
    },
    /// An object that nobody wrote.
    Unknown {
        /// `ConfigMap/NAME`.
        name: String,
        /// What it holds.
        number: u64,
    },
    /// A write got a revision that another had passed before it began.
    Order {
        /// `ConfigMap/NAME`.
        name: String,
        /// The write.
        state: State,
        /// What it got.
        revision: u64,
        /// What was acknowledged before.
        passed: u64,
    },
}

impl fmt::Display for Loss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Differs { name, found, acknowledged, may_be } => {
                write!(f, "{name} is {found}; acknowledged was {acknowledged}")?;
                match may_be.iter().map(ToString::to_string).collect::<Vec<_>>() {
                    none if none.is_empty() => Ok(()),
                    states => write!(f, "; without an answer: {}", states.join(", ")),
                }
            }
            Self::Unknown { name, number } => {
                write!(f, "{name} is there with write {number}; nobody wrote it")
            }
            Self::Order { name, state, revision, passed } => {
                write!(
                    f,
                    "{name}: {state} got revision {revision}; {passed} was acknowledged before it began"
                )
            }
        }
    }
}

impl std::error::Error for Loss {}

/// One object.
#[derive(Clone, Debug)]
struct Entry {
    acknowledged: State,
    may_be: Vec<State>,
}

impl Entry {
    fn allows(&self, found: State) -> bool {
        self.acknowledged == found || self.may_be.contains(&found)
    }
}

/// How many writes there were.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    /// With an answer.
    pub acknowledged: u64,
    /// Without.
    pub unknown: u64,
}

/// All writes.
#[derive(Default)]
pub struct Writes {
    entries: BTreeMap<String, Entry>,
    newest: u64,
    /// How many.
    pub count: Count,
}

impl Writes {
    /// A write is about to begin: the revision that it must exceed.
    pub fn begin(&self) -> u64 {
        self.newest
    }

    /// A write of `name` that began at `passed` was acknowledged with this revision; deletions have none.
    pub fn acknowledge(
        &mut self,
        name: &str,
        state: State,
        passed: u64,
        revision: Option<u64>,
    ) -> Result<(), Loss> {
        let fresh = || Entry { acknowledged: State::Absent, may_be: Vec::new() };
        self.entries.entry(name.to_owned()).or_insert_with(fresh).acknowledged = state;
        self.count.acknowledged += 1;
        let Some(revision) = revision else { return Ok(()) };
        if revision <= passed {
            return Err(Loss::Order { name: name.to_owned(), state, revision, passed });
        }
        self.newest = self.newest.max(revision);
        Ok(())
    }

    /// A write of `name` got no answer, or one that does not say what became of it.
    pub fn unknown(&mut self, name: &str, state: State) {
        let fresh = || Entry { acknowledged: State::Absent, may_be: Vec::new() };
        self.entries.entry(name.to_owned()).or_insert_with(fresh).may_be.push(state);
        self.count.unknown += 1;
    }

    /// The object of `name` is about to be deleted, whatever becomes of that.
    pub fn abandon(&mut self, name: &str) {
        if let Some(entry) = self.entries.get_mut(name) {
            entry.may_be.push(State::Absent);
        }
    }

    /// Names whose objects may be there although nobody will write them again.
    pub fn retired(&self) -> Vec<String> {
        let is = |entry: &Entry| !entry.may_be.is_empty() && !entry.may_be.contains(&State::Absent);
        self.entries.iter().filter(|(_, entry)| is(entry)).map(|(name, _)| name.clone()).collect()
    }

    /// Whether `name` may be like this.
    pub fn judge_one(&self, name: &str, found: State) -> Result<(), Loss> {
        match (self.entries.get(name), found) {
            (Some(entry), _) if !entry.allows(found) => Err(Loss::Differs {
                name: name.to_owned(),
                found,
                acknowledged: entry.acknowledged,
                may_be: entry.may_be.clone(),
            }),
            (None, State::Holds(number)) => Err(Loss::Unknown { name: name.to_owned(), number }),
            _ => Ok(()),
        }
    }

    /// Whether everything may be as it was read while nothing was written.
    pub fn judge(&self, found: &BTreeMap<String, u64>) -> Result<(), Loss> {
        let is = |name: &str| found.get(name).map_or(State::Absent, |number| State::Holds(*number));
        self.entries.keys().chain(found.keys()).try_for_each(|name| self.judge_one(name, is(name)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(objects: &[(&str, u64)]) -> BTreeMap<String, u64> {
        objects.iter().map(|(name, number)| ((*name).to_owned(), *number)).collect()
    }

    /// Written twice, written once, deleted.
    fn three() -> Writes {
        let mut writes = Writes::default();
        writes.acknowledge("a", State::Holds(1), 0, Some(10)).unwrap();
        writes.acknowledge("a", State::Holds(2), 10, Some(11)).unwrap();
        writes.acknowledge("b", State::Holds(1), 11, Some(12)).unwrap();
        writes.acknowledge("c", State::Holds(1), 12, Some(13)).unwrap();
        writes.acknowledge("c", State::Absent, 13, None).unwrap();
        writes
    }

    #[test]
    fn a_lost_object_a_lost_change_and_a_lost_deletion_are_found() {
        let writes = three();
        assert_eq!(writes.judge(&found(&[("a", 2), ("b", 1)])), Ok(()));
        for (objects, expected) in [
            (vec![("a", 2)], "b is absent; acknowledged was write 1"),
            (vec![("a", 1), ("b", 1)], "a is write 1; acknowledged was write 2"),
            (vec![("a", 2), ("b", 1), ("c", 1)], "c is write 1; acknowledged was absent"),
            (vec![("a", 2), ("b", 1), ("d", 7)], "d is there with write 7; nobody wrote it"),
        ] {
            assert_eq!(writes.judge(&found(&objects)).unwrap_err().to_string(), expected);
        }
    }

    #[test]
    fn a_write_without_an_answer_may_be_there_or_not_and_nothing_else_may_be() {
        let mut writes = three();
        writes.unknown("a", State::Holds(3));
        writes.unknown("d", State::Holds(1));
        for objects in [vec![("a", 2), ("b", 1)], vec![("a", 3), ("b", 1), ("d", 1)]] {
            assert_eq!(writes.judge(&found(&objects)), Ok(()));
        }
        assert_eq!(
            writes.judge(&found(&[("a", 1), ("b", 1)])).unwrap_err().to_string(),
            "a is write 1; acknowledged was write 2; without an answer: write 3"
        );
        assert_eq!(writes.retired(), ["a", "d"]);
        writes.abandon("d");
        assert_eq!(writes.retired(), ["a"]);
        assert_eq!(writes.count, Count { acknowledged: 5, unknown: 2 });
    }

    #[test]
    fn a_write_that_got_the_revision_of_an_earlier_one_is_found() {
        let mut writes = three();
        let passed = writes.begin();
        assert_eq!(passed, 13);
        assert_eq!(
            writes.acknowledge("d", State::Holds(1), passed, Some(13)).unwrap_err().to_string(),
            "d: write 1 got revision 13; 13 was acknowledged before it began"
        );
        // Two that overlap may get their answers in either order.
        let passed = writes.begin();
        writes.acknowledge("e", State::Holds(1), passed, Some(20)).unwrap();
        writes.acknowledge("f", State::Holds(1), passed, Some(19)).unwrap();
        assert_eq!(writes.begin(), 20);
    }
}
