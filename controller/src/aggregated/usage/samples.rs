//! The last two readings of each node, and the usage between them.
//!
//! Why here: CPU usage is a rate, so it needs two readings of counters; one that went back belongs to a QEMU or a node that
//! started again. Pure but for the lock. Route in: readings with their time. Route out: [`Usage`].

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use k8s_openapi::jiff::Timestamp;

use super::page::{Counters, Reading};

/// Readings that are older are not answered with: the node is gone or its agent stands still.
const STALE: Duration = Duration::from_secs(90);

/// A reading and when it was made.
#[derive(Clone, Debug)]
struct Read {
    at: Timestamp,
    reading: Reading,
}

/// What was in use between two readings.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Usage {
    /// End of the time that it is of.
    pub at: Timestamp,
    /// Length of that time.
    pub window: Duration,
    /// Processors in use, 1.0 is one.
    pub cpu: f64,
    /// Bytes in use at its end.
    pub memory: f64,
}

/// The last two readings of each node.
#[derive(Default)]
pub struct Samples(Mutex<BTreeMap<String, (Option<Read>, Read)>>);

impl Samples {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, (Option<Read>, Read)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a reading of `node`.
    pub fn put(&self, node: &str, at: Timestamp, reading: Reading) {
        let mut all = self.lock();
        let former = all.remove(node).map(|(_, last)| last);
        all.insert(node.to_owned(), (former, Read { at, reading }));
    }

    /// Forgets all nodes but these.
    pub fn keep(&self, nodes: &[String]) {
        self.lock().retain(|node, _| nodes.contains(node));
    }

    /// Usage of `node`.
    pub fn node(&self, node: &str, now: Timestamp) -> Option<Usage> {
        let all = self.lock();
        let (former, last) = all.get(node)?;
        usage(former.as_ref()?, last, now, |reading| Some(&reading.node))
    }

    /// Usage of Pods by namespace and name, wherever they are.
    pub fn pods(&self, now: Timestamp) -> BTreeMap<(String, String), Usage> {
        let all = self.lock();
        let mut pods = BTreeMap::new();
        for (former, last) in all.values() {
            let Some(former) = former else { continue };
            for pod in last.reading.pods.keys() {
                if let Some(usage) = usage(former, last, now, |reading| reading.pods.get(pod)) {
                    pods.insert(pod.clone(), usage);
                }
            }
        }
        pods
    }
}

fn usage<'a>(
    former: &'a Read,
    last: &'a Read,
    now: Timestamp,
    of: impl Fn(&'a Reading) -> Option<&'a Counters>,
) -> Option<Usage> {
    let window =
        Duration::try_from(last.at.duration_since(former.at)).ok().filter(|window| !window.is_zero())?;
    let age = Duration::try_from(now.duration_since(last.at)).unwrap_or_default();
    let (before, after) = (of(&former.reading)?, of(&last.reading)?);
    let used = after.cpu? - before.cpu?;
    (age < STALE && used >= 0.0).then_some(Usage {
        at: last.at,
        window,
        cpu: used / window.as_secs_f64(),
        memory: after.memory?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::constant(1_800_000_000 + second, 0)
    }

    fn reading(cpu: f64) -> Reading {
        let counters = Counters { cpu: Some(cpu), memory: Some(4096.0) };
        Reading { node: counters, pods: [(("shop".into(), "p".into()), counters)].into() }
    }

    #[test]
    fn usage_is_the_rate_between_the_last_two_readings() {
        let samples = Samples::default();
        samples.put("n1", at(0), reading(10.0));
        assert_eq!(samples.node("n1", at(1)), None);
        samples.put("n1", at(15), reading(40.0));
        let usage = Usage { at: at(15), window: Duration::from_secs(15), cpu: 2.0, memory: 4096.0 };
        assert_eq!(samples.node("n1", at(16)), Some(usage));
        assert_eq!(samples.pods(at(16)).into_values().collect::<Vec<_>>(), [usage]);
        assert_eq!(samples.node("n2", at(16)), None);
    }

    #[test]
    fn what_started_again_or_was_not_read_for_long_has_no_usage() {
        let samples = Samples::default();
        samples.put("n1", at(0), reading(10.0));
        samples.put("n1", at(15), reading(1.0));
        assert_eq!(samples.node("n1", at(16)), None);
        samples.put("n1", at(30), reading(2.0));
        assert!(samples.node("n1", at(31)).is_some());
        assert_eq!((samples.node("n1", at(200)), samples.pods(at(200)).len()), (None, 0));
        samples.keep(&[]);
        assert_eq!(samples.node("n1", at(31)), None);
    }
}
