//! Retries per key, less often with every failure in a row.
//!
//! Why here: one object that fails must neither be tried all the time nor hold up others. Route in: failures and
//! successes by key. Route out: whether a key may be tried now, when the next one may, and why the last try failed.

use backon::{BackoffBuilder as _, ExponentialBackoff, ExponentialBuilder};
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::time::Instant;

/// How the interval between two tries grows: doubled at each failure, from the first to the longest.
#[derive(Clone, Copy, Debug)]
pub struct Backoff {
    /// After the first failure.
    pub first: Duration,
    /// The longest interval.
    pub longest: Duration,
}

impl Backoff {
    /// From `first` to `longest`.
    pub const fn new(first: Duration, longest: Duration) -> Self {
        Self { first, longest }
    }

    /// The intervals one after the other, without end.
    pub fn intervals(self) -> ExponentialBackoff {
        let policy = ExponentialBuilder::new().with_min_delay(self.first).with_max_delay(self.longest);
        policy.without_max_times().build()
    }
}

/// Why a key failed, how often in a row, and when it may be tried again.
#[derive(Debug)]
pub struct Failure {
    /// The error, in words.
    pub why: String,
    /// Failures in a row.
    pub times: u32,
    /// Not before this.
    pub again: Instant,
    intervals: ExponentialBackoff,
}

/// The keys that failed when they were tried last.
#[derive(Debug)]
pub struct Retries<K> {
    backoff: Backoff,
    failures: BTreeMap<K, Failure>,
}

impl<K: Ord + Clone> Retries<K> {
    /// None has failed yet.
    pub fn new(backoff: Backoff) -> Self {
        Self { backoff, failures: BTreeMap::new() }
    }

    /// `key` failed; returns when it may be tried again.
    pub fn failed(&mut self, key: K, why: impl Into<String>) -> Duration {
        let fresh = || Failure {
            why: String::new(),
            times: 0,
            again: Instant::now(),
            intervals: self.backoff.intervals(),
        };
        let failure = self.failures.entry(key).or_insert_with(fresh);
        let wait = failure.intervals.next().unwrap_or(self.backoff.longest);
        failure.why = why.into();
        failure.times = failure.times.saturating_add(1);
        failure.again = Instant::now() + wait;
        wait
    }

    /// `key` succeeded: its next failure counts as the first.
    pub fn succeeded(&mut self, key: &K) {
        self.failures.remove(key);
    }

    /// Whether `key` failed so recently that it is not tried now.
    pub fn is_waiting(&self, key: &K) -> bool {
        self.failures.get(key).is_some_and(|failure| Instant::now() < failure.again)
    }

    /// The keys that are not tried now, and why.
    pub fn waiting(&self) -> BTreeMap<K, String> {
        let waiting = |(key, failure): (&K, &Failure)| {
            (Instant::now() < failure.again).then(|| (key.clone(), failure.why.clone()))
        };
        self.failures.iter().filter_map(waiting).collect()
    }

    /// The last failure of `key`.
    pub fn get(&self, key: &K) -> Option<&Failure> {
        self.failures.get(key)
    }

    /// Until the first of the waiting keys may be tried; none when no key waits.
    pub fn next(&self) -> Option<Duration> {
        let now = Instant::now();
        self.failures.values().filter(|failure| now < failure.again).map(|failure| failure.again - now).min()
    }

    /// Forgets keys whose object is gone.
    pub fn retain(&mut self, keep: impl Fn(&K) -> bool) {
        self.failures.retain(|key, _| keep(key));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_interval_doubles_with_each_failure_of_a_key_up_to_the_longest_and_begins_anew_after_a_success()
     {
        let seconds = Duration::from_secs;
        let mut retries = Retries::new(Backoff::new(seconds(5), seconds(30)));
        let waits: Vec<u64> = (0..5).map(|_| retries.failed("a", "refused").as_secs()).collect();
        assert_eq!(waits, [5, 10, 20, 30, 30]);
        assert_eq!(retries.failed("b", "refused"), seconds(5));
        assert!(retries.next().unwrap() <= seconds(5));
        assert!(retries.is_waiting(&"a") && !retries.is_waiting(&"c"));
        assert_eq!(retries.get(&"a").unwrap().times, 5);
        assert_eq!(retries.waiting()["a"], "refused");
        retries.succeeded(&"a");
        assert_eq!(retries.failed("a", "refused"), seconds(5));
        retries.retain(|key| *key == "b");
        assert!(retries.get(&"a").is_none() && retries.get(&"b").is_some());
    }

    #[tokio::test]
    async fn a_key_may_be_tried_again_once_its_interval_is_over_and_its_failure_is_remembered() {
        let moment = Duration::from_millis(5);
        let mut retries = Retries::new(Backoff::new(moment, moment));
        retries.failed("a", "refused");
        tokio::time::sleep(2 * moment).await;
        assert!(!retries.is_waiting(&"a") && retries.next().is_none() && retries.waiting().is_empty());
        assert_eq!(retries.get(&"a").unwrap().why, "refused");
    }
}
