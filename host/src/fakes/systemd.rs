//! [`Units`] in memory: remembers what was started, fails on demand.

use crate::systemd::{Answer, Changes, UnitError, Units};
use futures::channel::mpsc::{UnboundedSender, unbounded};
use futures::stream::StreamExt;
use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

/// Units that start at once.
#[derive(Default)]
pub struct FakeUnits {
    asked: Mutex<Vec<String>>,
    states: Mutex<BTreeMap<String, String>>,
    failing: Mutex<BTreeMap<String, String>>,
    listeners: Mutex<Vec<(String, UnboundedSender<()>)>>,
}

impl FakeUnits {
    /// `unit` does not start: its job ends with `result`.
    pub fn fail(&self, unit: &str, result: &str) {
        lock(&self.failing).insert(unit.into(), result.into());
    }

    /// `unit` is in `state` from now on, and listeners hear of a change.
    pub fn set_state(&self, unit: &str, state: &str) {
        lock(&self.states).insert(unit.into(), state.into());
        lock(&self.listeners).retain(|(of, listener)| of != unit || listener.unbounded_send(()).is_ok());
    }

    /// Everything that was asked, `start etcd.service`, in order.
    pub fn asked(&self) -> Vec<String> {
        lock(&self.asked).clone()
    }

    fn job(&self, verb: &'static str, unit: &str, state: &str) -> Result<(), UnitError> {
        lock(&self.asked).push(format!("{verb} {unit}"));
        if let Some(result) = lock(&self.failing).get(unit) {
            return Err(UnitError::Job { verb, unit: unit.into(), result: result.clone() });
        }
        lock(&self.states).insert(unit.into(), state.into());
        Ok(())
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Units for FakeUnits {
    fn start<'a>(&'a self, unit: &'a str) -> Answer<'a, ()> {
        Box::pin(async move { self.job("start", unit, "active") })
    }

    fn restart<'a>(&'a self, unit: &'a str) -> Answer<'a, ()> {
        Box::pin(async move { self.job("restart", unit, "active") })
    }

    fn stop<'a>(&'a self, unit: &'a str) -> Answer<'a, ()> {
        Box::pin(async move { self.job("stop", unit, "inactive") })
    }

    fn state<'a>(&'a self, unit: &'a str) -> Answer<'a, String> {
        Box::pin(
            async move { Ok(lock(&self.states).get(unit).cloned().unwrap_or_else(|| "inactive".into())) },
        )
    }

    fn changes<'a>(&'a self, unit: &'a str) -> Answer<'a, Changes> {
        Box::pin(async move {
            if let Some(result) = lock(&self.failing).get(unit) {
                let (verb, result) = ("report changes of", result.clone());
                return Err(UnitError::Job { verb, unit: unit.into(), result });
            }
            let (sender, receiver) = unbounded();
            lock(&self.listeners).push((unit.to_owned(), sender));
            Ok(receiver.boxed())
        })
    }

    fn reboot(&self) -> Answer<'_, ()> {
        Box::pin(async move { self.job("start", "reboot.target", "active") })
    }
}
