//! The skeleton of every controller: it wakes, makes one round, and says how it stands.
//!
//! Why here: waking, retrying, publishing and reporting are the same for all; what differs is a controller's own
//! observe → plan → apply → report, in files of these names. Route in: [`Wakes`], a [`Controller`]. Route out: [`run`],
//! until shutdown. docs/agent-controllers.md shows how a controller is written.

mod blocking;
pub mod events;
mod next;
mod panics;
mod publish;
mod retry;
mod rounds;
mod shutdown;
mod tasks;
mod wake;

pub use blocking::blocking;
pub use next::Next;
pub use panics::{Panicked, caught};
pub use publish::publish;
pub use retry::{Backoff, Failure, Retries};
pub use rounds::{Handle, Registry, Stalled};
pub use shutdown::Shutdown;
pub use tasks::Tasks;
pub use wake::{Inbox, Outbox, Wakes, Woken};

use std::future::Future;

/// What a controller does each time that something woke it.
pub trait Controller: Send {
    /// What can wake it, besides time: an enum of its own.
    type Source: Copy + Ord + std::fmt::Debug + Send + 'static;

    /// Observes, plans, applies and reports, once. It returns soon: what takes long runs in [`Tasks`], what blocks the
    /// thread goes through [`blocking()`], and a request to another program has a timeout.
    fn round(&mut self, woken: &Woken<Self::Source>) -> impl Future<Output = Next> + Send;
}

/// For a controller that has something left to do when the rounds have ended.
impl<C: Controller> Controller for &mut C {
    type Source = C::Source;

    fn round(&mut self, woken: &Woken<Self::Source>) -> impl Future<Output = Next> + Send {
        C::round(self, woken)
    }
}

/// Makes rounds of `controller` until shutdown: the first at once, then whenever it is woken.
pub async fn run<C: Controller>(
    mut controller: C,
    mut wakes: Wakes<C::Source>,
    handle: Handle,
    mut shutdown: Shutdown,
) -> anyhow::Result<()> {
    let mut woken = Woken::start();
    while !shutdown.is_requested() {
        tracing::trace!(controller = handle.name(), ?woken, "round");
        let next = handle.round(controller.round(&woken)).await;
        woken = tokio::select! {
            woken = wakes.next(next.after) => woken,
            () = shutdown.requested() => break,
        };
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Arc, Mutex};
    use std::time::Duration;
    use tokio::sync::{Notify, watch};

    #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
    enum Source {
        Fact,
        Request,
    }

    struct Counting {
        rounds: Arc<Mutex<Vec<Woken<Source>>>>,
        next: Next,
    }

    impl Controller for Counting {
        type Source = Source;
        async fn round(&mut self, woken: &Woken<Source>) -> Next {
            self.rounds.lock().unwrap().push(woken.clone());
            self.next
        }
    }

    #[tokio::test]
    async fn a_controller_makes_a_round_at_once_then_one_for_each_wake_and_ends_at_shutdown() {
        let (fact, facts) = watch::channel(0);
        let request = Arc::new(Notify::new());
        let (end, shutdown) = Shutdown::channel();
        let rounds = Arc::new(Mutex::new(Vec::new()));
        let controller = Counting { rounds: rounds.clone(), next: Next::after(Duration::from_millis(200)) };
        let wakes = Wakes::new().watch(Source::Fact, facts).notify(Source::Request, request.clone());
        let task = tokio::spawn(run(controller, wakes, Registry::default().register("counting"), shutdown));
        let made = async |count: usize| {
            while rounds.lock().unwrap().len() < count {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        made(1).await;
        // Two changes before the controller wakes are one round.
        fact.send_replace(1);
        request.notify_one();
        made(3).await;
        end.send_replace(true);
        task.await.unwrap().unwrap();
        let rounds = rounds.lock().unwrap();
        assert_eq!(rounds.len(), 3, "{rounds:?}");
        assert!(rounds[0].is_start());
        assert!(rounds[1].by(Source::Fact) && rounds[1].by(Source::Request) && !rounds[1].by_time());
        assert!(rounds[2].by_time() && !rounds[2].by(Source::Fact));
    }
}
