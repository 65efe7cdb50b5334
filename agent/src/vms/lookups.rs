//! What takes long to find out, found out beside the controller's loop.
//!
//! Why here: the API server may be unreachable, a guest decides when its agent answers, a disk may be slow. Nothing waits
//! for them: of each thing at most one question is open, each has a timeout, and what fails is asked less often. Route in:
//! questions of a round, by [`Key`]. Route out: [`Found`], with which the loop wakes.

use super::credentials::Wanted;
use super::facts::{ClaimFact, Resources};
use super::filters::{self, masquerade};
use anyhow::anyhow;
use sheaf_api::cluster_config::ClusterConfigSpec;
use sheaf_host::libvirt::{Interface, Stop};
use sheaf_host::segment::Segment;
use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;

/// Longest wait for one answer. A guest's agent has its own, shorter ones (`sheaf_host::libvirt::rpc`).
const TIMEOUT: Duration = Duration::from_secs(20);

/// Longest interval between two questions of one kind that fail again and again, in seconds.
const LONGEST: i64 = 600;

/// Most guests' agents that are asked at a time: each holds a thread of libvirtd for up to 10 s, and libvirtd has 20.
const MOST_AGENTS: usize = 4;

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Key {
    /// What VMs may take of this node, of the API server.
    Allocatable,
    /// The packet filter, and the node's own place on its networks, of the kernel.
    Filter,
    /// Addresses of the API server that the node config names.
    ApiServers,
    /// What is behind a claim, of the API server: namespace and name.
    Claim(String, String),
    /// Addresses that the agent in a guest reports, by UUID of its domain.
    Agent(String),
    /// Addresses of a guest in the node's ARP table, likewise.
    Arp(String),
    /// What a guest's users are to have, of Secrets: UID of its Pod.
    Credentials(String),
    /// Why a VM ended, of QEMU's log: UID of its Pod.
    Stop(String),
}

/// An answer.
#[derive(Debug)]
#[allow(missing_docs)] // as the keys
pub enum Found {
    Allocatable(Resources, ClusterConfigSpec),
    Filter(Box<Filter>),
    ApiServers(BTreeSet<IpAddr>),
    Claim(ClaimFact),
    Addresses(Vec<Interface>),
    Credentials(Arc<Wanted>),
    Stop(Stop),
}

/// The packet filter, and what it guards.
#[derive(Debug)]
pub struct Filter {
    /// The node's own place on its networks.
    pub segment: Segment,
    /// The table of ports.
    pub ports: filters::State,
    /// The table of what guests reach by way of the node.
    pub forwarded: masquerade::State,
}

/// The questions.
#[derive(Default)]
pub struct Lookups {
    entries: BTreeMap<Key, Entry>,
    tasks: JoinSet<(Key, anyhow::Result<Found>)>,
}

#[derive(Default)]
struct Entry {
    open: bool,
    /// Seconds since 1970.
    due: i64,
    interval: i64,
    failures: u32,
}

impl Lookups {
    /// Asks, unless this is being asked or was within the last `interval` seconds: doubled for each failure in a row.
    pub fn ask<F>(&mut self, now: i64, key: Key, interval: i64, ask: impl FnOnce() -> F)
    where
        F: Future<Output = anyhow::Result<Found>> + Send + 'static,
    {
        let is_agent = |key: &Key| matches!(key, Key::Agent(_));
        let agents = self.entries.iter().filter(|(key, entry)| entry.open && is_agent(key)).count();
        let entry = self.entries.entry(key.clone()).or_default();
        if entry.open || entry.due > now || (is_agent(&key) && agents >= MOST_AGENTS) {
            return;
        }
        (entry.open, entry.interval) = (true, interval);
        let answer = tokio::time::timeout(TIMEOUT, ask());
        self.tasks.spawn(async move {
            let answer = answer.await;
            (key, answer.unwrap_or_else(|_| Err(anyhow!("no answer within {} s", TIMEOUT.as_secs()))))
        });
    }

    /// The next answer; pending while nothing is asked.
    pub async fn next(&mut self) -> (Key, anyhow::Result<Found>) {
        loop {
            match self.tasks.join_next().await {
                Some(Ok(answer)) => return answer,
                // None is aborted; a panic is a bug that is in the journal, and its key stays open.
                Some(Err(error)) => tracing::error!("bug in sheaf-agent: a lookup ended early: {error}"),
                None => std::future::pending().await,
            }
        }
    }

    /// Notes that `key` was answered, and whether well.
    pub fn answered(&mut self, now: i64, key: &Key, well: bool) {
        let Some(entry) = self.entries.get_mut(key) else { return };
        entry.open = false;
        entry.failures = if well { 0 } else { entry.failures.saturating_add(1) };
        let backoff = entry.interval.saturating_mul(1_i64 << entry.failures.min(16));
        entry.due = now.saturating_add(backoff.min(LONGEST.max(entry.interval)));
    }

    /// Asks `key` at the next round.
    pub fn expire(&mut self, key: &Key) {
        if let Some(entry) = self.entries.get_mut(key) {
            entry.due = i64::MIN;
        }
    }

    /// Forgets what is not wanted any more, except questions that are still open.
    pub fn retain(&mut self, wanted: impl Fn(&Key) -> bool) {
        self.entries.retain(|key, entry| entry.open || wanted(key));
    }

    /// Whether nothing is being asked.
    #[cfg(test)]
    pub fn is_idle(&self) -> bool {
        self.tasks.is_empty()
    }

    /// Everything is due.
    #[cfg(test)]
    pub fn expire_all(&mut self) {
        self.entries.values_mut().for_each(|entry| entry.due = i64::MIN);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn agent(number: usize) -> Key {
        Key::Agent(format!("u{number}"))
    }

    async fn silence() -> anyhow::Result<Found> {
        std::future::pending().await
    }

    #[tokio::test]
    async fn of_one_guest_one_question_is_open_and_of_all_no_more_than_four() {
        let mut lookups = Lookups::default();
        for now in 0..100 {
            for number in 0..10 {
                lookups.ask(now, agent(number), 10, silence);
            }
        }
        assert_eq!(lookups.tasks.len(), MOST_AGENTS);
        lookups.ask(0, Key::Allocatable, 10, silence);
        assert_eq!(lookups.tasks.len(), MOST_AGENTS + 1, "others do not wait for guests");
    }

    #[tokio::test]
    async fn what_fails_is_asked_less_often_and_what_goes_well_at_its_interval() {
        let mut lookups = Lookups::default();
        let mut asked = Vec::new();
        let mut now = 0;
        for _ in 0..9 {
            lookups.ask(now, agent(0), 10, async || Err(anyhow!("no")));
            let (key, answer) = lookups.next().await;
            lookups.answered(now, &key, answer.is_ok());
            asked.push(lookups.entries[&key].due - now);
            now = lookups.entries[&key].due;
        }
        assert_eq!(asked, [20, 40, 80, 160, 320, 600, 600, 600, 600]);
        lookups.ask(now, agent(0), 10, async || Ok(Found::Addresses(Vec::new())));
        let (key, answer) = lookups.next().await;
        lookups.answered(now, &key, answer.is_ok());
        assert_eq!(lookups.entries[&key].due - now, 10);
    }
}
