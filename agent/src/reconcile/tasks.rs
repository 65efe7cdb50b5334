//! Actions that take long: one per key at a time, many keys at once, while the controller continues making rounds.
//!
//! Why here: a volume that is being filled or a VM that is being started must not hold up another. Route in: a future for
//! a key. Route out: its value at a later round; a panic in it is a failure of that key alone.

use super::panics::Panicked;
use super::wake::{Inbox, Outbox, Wakes};
use futures::FutureExt as _;
use std::collections::BTreeSet;
use std::fmt::Debug;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use tokio::task::JoinSet;

/// What runs. Dropping it aborts all of it.
pub struct Tasks<K, T> {
    running: BTreeSet<K>,
    handles: JoinSet<()>,
    outbox: Outbox<(K, Result<T, Panicked>)>,
    done: Inbox<(K, Result<T, Panicked>)>,
}

impl<K: Ord + Clone + Send + 'static, T: Send + 'static> Tasks<K, T> {
    /// None yet; the end of one wakes the controller by `source`.
    pub fn new<S: Copy + Ord + Debug + Send + 'static>(wakes: &mut Wakes<S>, source: S) -> Self {
        let (outbox, done) = wakes.inbox(source);
        Self { running: BTreeSet::new(), handles: JoinSet::new(), outbox, done }
    }

    /// Whether something runs for `key`.
    pub fn is_running(&self, key: &K) -> bool {
        self.running.contains(key)
    }

    /// Starts `work` for `key`; false, and nothing is started, while something runs for it.
    pub fn start(&mut self, key: K, work: impl Future<Output = T> + Send + 'static) -> bool {
        if !self.running.insert(key.clone()) {
            return false;
        }
        let outbox = self.outbox.clone();
        self.handles.spawn(async move {
            let done = AssertUnwindSafe(work).catch_unwind().await;
            outbox.send((key, done.map_err(Panicked::from)));
        });
        true
    }

    /// What has ended since the last call.
    pub fn finished(&mut self) -> Vec<(K, Result<T, Panicked>)> {
        while self.handles.try_join_next().is_some() {}
        let done = self.done.take();
        for (key, _) in &done {
            self.running.remove(key);
        }
        done
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn one_key_has_one_task_and_a_panic_is_a_failure_of_its_key_alone() {
        let mut wakes = Wakes::new();
        let mut tasks: Tasks<&str, u8> = Tasks::new(&mut wakes, ());
        assert!(tasks.start("a", async { 1 }));
        assert!(!tasks.start("a", async { 2 }) && tasks.is_running(&"a"));
        assert!(tasks.start("b", async { panic!("no answer for {}", "b") }));
        let mut done = Vec::new();
        while done.len() < 2 {
            assert!(wakes.next(None).await.by(()));
            done.extend(tasks.finished());
        }
        done.sort_by_key(|(key, _)| *key);
        assert_eq!(done[0], ("a", Ok(1)));
        assert_eq!(done[1].1.as_ref().unwrap_err().to_string(), "bug in sheaf-agent: no answer for b");
        assert!(!tasks.is_running(&"a") && tasks.start("a", async { 3 }));
    }
}
