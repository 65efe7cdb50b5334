//! What all that judges shares while faults come: records, and the first thing that was wrong.
//!
//! Why here: load, observers and faults run side by side; whichever finds something wrong ends the run, with the record as it is then.
//! Route in: the parts of the rig. Route out: [`Judge::fails`].

use super::locked;
use super::silence::Answers;
use super::starts::Starts;
use super::terms::{Said, Terms};
use super::writes::{Loss, Writes};
use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Instant;
use tokio::sync::watch;

/// The record.
#[derive(Default)]
pub struct Judge {
    /// What was written.
    pub writes: Mutex<Writes>,
    /// When a read was answered.
    pub reads: Mutex<Answers>,
    /// When a write was acknowledged.
    pub acknowledged: Mutex<Answers>,
    /// Leaders of etcd.
    pub terms: Mutex<Terms>,
    /// VMs that were asked to start.
    pub starts: Mutex<Starts>,
    /// What each member of etcd said last, by name of its node.
    pub said: Mutex<BTreeMap<String, Said>>,
    wrong: watch::Sender<Option<String>>,
}

impl Judge {
    /// Something is wrong; the first one counts.
    pub fn wrong(&self, what: impl Into<String>) {
        let what = what.into();
        self.wrong.send_if_modified(|first| {
            let is_first = first.is_none();
            if is_first {
                *first = Some(what);
            }
            is_first
        });
    }

    /// Notes a promise that was not kept.
    pub fn check(&self, kept: Result<(), Loss>) {
        if let Err(loss) = kept {
            self.wrong(format!("an acknowledged write is lost: {loss}"));
        }
    }

    /// A read was answered.
    pub fn read(&self) {
        locked(&self.reads).add(Instant::now());
    }

    /// A write was acknowledged.
    pub fn acknowledged(&self) {
        locked(&self.acknowledged).add(Instant::now());
    }

    /// A member of etcd on node `name` said this.
    pub fn member(&self, name: &str, said: Said) {
        locked(&self.said).insert(name.to_owned(), said);
        if let Some(wrong) = locked(&self.terms).add(said) {
            self.wrong(wrong);
        }
    }

    /// The node on which etcd's leader of the latest term is, as far as members said.
    pub fn leader(&self) -> Option<String> {
        let said = locked(&self.said);
        let latest = said.values().filter(|said| said.leader != 0).max_by_key(|said| said.term)?;
        said.iter().find(|(_, of)| of.member == latest.leader).map(|(name, _)| name.clone())
    }

    /// Returns when something is wrong.
    pub async fn fails(&self) -> String {
        let mut wrong = self.wrong.subscribe();
        match wrong.wait_for(Option::is_some).await {
            Ok(first) => first.clone().unwrap_or_default(),
            Err(_) => std::future::pending().await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::faults::writes::State;

    #[tokio::test]
    async fn the_first_thing_that_is_wrong_ends_the_run() {
        let judge = Judge::default();
        locked(&judge.writes).acknowledge("ConfigMap/a", State::Holds(2), 0, Some(1)).unwrap();
        judge.check(locked(&judge.writes).judge_one("ConfigMap/a", State::Holds(2)));
        judge.check(locked(&judge.writes).judge_one("ConfigMap/a", State::Absent));
        judge.wrong("later");
        assert_eq!(
            judge.fails().await,
            "an acknowledged write is lost: ConfigMap/a is absent; acknowledged was write 2"
        );
    }

    #[tokio::test]
    async fn two_leaders_of_a_term_end_the_run_and_the_leader_of_the_latest_term_counts() {
        let judge = Judge::default();
        judge.member("a", Said { member: 1, term: 3, leader: 1 });
        judge.member("b", Said { member: 2, term: 4, leader: 2 });
        judge.member("c", Said { member: 3, term: 5, leader: 0 });
        assert_eq!(judge.leader().as_deref(), Some("b"));
        judge.member("a", Said { member: 1, term: 4, leader: 1 });
        assert_eq!(judge.fails().await, "two leaders of etcd in term 4: 2 by member 2, 1 by member 1");
    }
}
