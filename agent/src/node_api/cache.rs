//! Answers that are remembered for a while, bounded in number.
//!
//! Why here: who asks decides what is remembered, so the number must not be his. Pure but for the clock that is given. Route
//! in: a key, a value, how long it holds. Route out: the value, while it does.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Most values.
pub const MOST: usize = 512;

/// Remembered values.
pub struct Cache<K, V>(Mutex<HashMap<K, (V, Instant)>>);

impl<K, V> Default for Cache<K, V> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<K: Hash + Eq + Clone, V: Clone> Cache<K, V> {
    /// The value of `key`, if it still holds at `now`.
    pub fn get(&self, key: &K, now: Instant) -> Option<V> {
        let entries = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        entries.get(key).filter(|(_, until)| now < *until).map(|(value, _)| value.clone())
    }

    /// Remembers `value` for `time`. When there are too many, what ends first is forgotten.
    pub fn put(&self, key: K, value: V, now: Instant, time: Duration) {
        let mut entries = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if entries.len() >= MOST {
            entries.retain(|_, (_, until)| now < *until);
        }
        if entries.len() >= MOST
            && let Some(first) =
                entries.iter().min_by_key(|(_, (_, until))| *until).map(|(key, _)| key.clone())
        {
            entries.remove(&first);
        }
        entries.insert(key, (value, now + time));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_holds_for_its_time_and_no_more_are_kept_than_the_bound() {
        let cache = Cache::default();
        let now = Instant::now();
        for key in 0..MOST * 2 {
            cache.put(key, key, now, Duration::from_secs(10 + key as u64));
        }
        assert_eq!(cache.0.lock().unwrap().len(), MOST);
        assert_eq!(cache.get(&0, now), None);
        let last = MOST * 2 - 1;
        assert_eq!(cache.get(&last, now), Some(last));
        assert_eq!(cache.get(&last, now + Duration::from_secs(10_000)), None);
    }
}
