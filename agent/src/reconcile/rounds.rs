//! How each controller stands: waiting for something, working since when, idle.
//!
//! Why here: what an operator asks first of a node that does nothing, and what the lease is gated on. Route in: the
//! rounds that [`super::run`] makes. Route out: the status section `controllers`; [`Registry::stalled`].

use super::next::Next;
use crate::status::{ControllerState, Controllers};
use k8s_openapi::jiff::Timestamp;
use std::collections::BTreeMap;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// A round is shown as work once it takes longer than this: the status file is not written twice at every short one.
const SHOWN_AFTER: Duration = Duration::from_secs(1);

/// Every controller of the agent.
#[derive(Clone, Default)]
pub struct Registry(Arc<Inner>);

#[derive(Default)]
struct Inner {
    /// Since when the present round of a controller runs, by name.
    rounds: Mutex<BTreeMap<&'static str, Option<Instant>>>,
    section: Option<Controllers>,
}

/// A controller whose present round takes longer than it may.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stalled {
    /// Name of the controller.
    pub name: &'static str,
    /// How long it may take.
    pub limit: Duration,
}

impl Registry {
    /// One that shows its controllers in `section`.
    pub fn new(section: Controllers) -> Self {
        Self(Arc::new(Inner { rounds: Mutex::default(), section: Some(section) }))
    }

    /// The handle of the controller `name`.
    pub fn register(&self, name: &'static str) -> Handle {
        self.rounds().insert(name, None);
        let handle = Handle { name, registry: self.clone() };
        handle.show(ControllerState::Idle { ran_for_seconds: 0 });
        handle
    }

    /// Those of `limits` whose present round takes longer than their limit. A controller that is not registered is not
    /// among them.
    pub fn stalled(&self, limits: &[(&'static str, Duration)]) -> Vec<Stalled> {
        let rounds = self.rounds();
        let of = |(name, limit): &(&'static str, Duration)| {
            let began = (*rounds.get(name)?)?;
            (began.elapsed() > *limit).then_some(Stalled { name, limit: *limit })
        };
        limits.iter().filter_map(of).collect()
    }

    fn rounds(&self) -> MutexGuard<'_, BTreeMap<&'static str, Option<Instant>>> {
        self.0.rounds.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What one controller says of itself.
pub struct Handle {
    name: &'static str,
    registry: Registry,
}

impl Handle {
    /// Name of the controller.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Makes one round. A controller with a loop of its own calls this around each of them.
    pub async fn round(&self, round: impl Future<Output = Next>) -> Next {
        let began = Instant::now();
        let next = self.working(round).await;
        self.show(match next.waiting_for {
            Some(what) => ControllerState::Waiting { waiting_for: what.to_owned() },
            None => ControllerState::Idle { ran_for_seconds: began.elapsed().as_secs() },
        });
        next
    }

    async fn working<T>(&self, work: impl Future<Output = T>) -> T {
        let began = Instant::now();
        self.registry.rounds().insert(self.name, Some(began));
        let mut work = std::pin::pin!(work);
        let done = match tokio::time::timeout(SHOWN_AFTER, work.as_mut()).await {
            Ok(done) => done,
            Err(_) => {
                self.show(ControllerState::Working { since: Timestamp::now().to_string() });
                work.await
            }
        };
        self.registry.rounds().insert(self.name, None);
        done
    }

    fn show(&self, state: ControllerState) {
        if let Some(section) = &self.registry.0.section {
            section.change(|all| all.entry(self.name.to_owned()).or_default().state = state);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status;

    #[tokio::test]
    async fn a_controller_is_shown_as_waiting_working_or_idle_and_is_stalled_past_its_limit() {
        let (reader, _sections, controllers) = status::open();
        let registry = Registry::new(controllers);
        let handle = registry.register("vms");
        let state = || reader.read().controllers["vms"].state.clone();
        handle.round(async { Next::WOKEN.waiting_for("libvirt") }).await;
        assert_eq!(state(), ControllerState::Waiting { waiting_for: "libvirt".into() });
        let limits = |limit: Duration| [("vms", limit), ("disks", limit)];
        let (go_on, gate) = tokio::sync::oneshot::channel::<()>();
        let round = async {
            gate.await.unwrap();
            Next::WOKEN
        };
        let look = async {
            tokio::time::sleep(SHOWN_AFTER + Duration::from_millis(50)).await;
            assert!(matches!(state(), ControllerState::Working { .. }));
            assert_eq!(registry.stalled(&limits(Duration::from_secs(60))), []);
            let stalled = registry.stalled(&limits(SHOWN_AFTER));
            assert_eq!(stalled.iter().map(|stalled| stalled.name).collect::<Vec<_>>(), ["vms"]);
            go_on.send(()).unwrap();
        };
        tokio::join!(handle.round(round), look);
        assert_eq!(state(), ControllerState::Idle { ran_for_seconds: 1 });
        assert_eq!(registry.stalled(&limits(Duration::ZERO)), []);
    }
}
