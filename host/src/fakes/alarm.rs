//! Alarms in memory: a test rings them.

use crate::alarm::Alarm;
use crate::systemd::{Answer, UnitError};
use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// Alarms that never ring by themselves.
#[derive(Default)]
pub struct FakeAlarm {
    armed: Mutex<BTreeMap<String, (Duration, Vec<String>)>>,
    resets: Mutex<BTreeMap<String, Duration>>,
    fails: Mutex<bool>,
}

impl FakeAlarm {
    /// What is armed now: name, delay, program with arguments.
    pub fn armed(&self) -> Vec<(String, Duration, Vec<String>)> {
        let armed = self.armed.lock().unwrap_or_else(PoisonError::into_inner);
        armed.iter().map(|(name, (delay, command))| (name.clone(), *delay, command.clone())).collect()
    }

    /// After what time each of those resets the machine that must not fail.
    pub fn resets(&self) -> BTreeMap<String, Duration> {
        self.resets.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// From now on systemd cannot be asked.
    pub fn fail(&self) {
        *self.fails.lock().unwrap_or_else(PoisonError::into_inner) = true;
    }

    fn ask(&self, verb: &'static str, unit: &str) -> Result<(), UnitError> {
        match *self.fails.lock().unwrap_or_else(PoisonError::into_inner) {
            true => Err(UnitError::Ask { verb, unit: unit.into(), source: "the bus is silent".into() }),
            false => Ok(()),
        }
    }
}

impl Alarm for FakeAlarm {
    fn arm<'a>(&'a self, name: &'a str, delay: Duration, command: &'a [String]) -> Answer<'a, ()> {
        Box::pin(async move {
            self.ask("start later", name)?;
            let mut armed = self.armed.lock().unwrap_or_else(PoisonError::into_inner);
            armed.insert(name.to_owned(), (delay, command.to_vec()));
            Ok(())
        })
    }

    fn arm_or_reset<'a>(
        &'a self,
        name: &'a str,
        delay: Duration,
        command: &'a [String],
        within: Duration,
    ) -> Answer<'a, ()> {
        Box::pin(async move {
            self.arm(name, delay, command).await?;
            self.resets.lock().unwrap_or_else(PoisonError::into_inner).insert(name.to_owned(), within);
            Ok(())
        })
    }

    fn cancel<'a>(&'a self, name: &'a str) -> Answer<'a, ()> {
        Box::pin(async move {
            self.ask("call off", name)?;
            self.armed.lock().unwrap_or_else(PoisonError::into_inner).remove(name);
            self.resets.lock().unwrap_or_else(PoisonError::into_inner).remove(name);
            Ok(())
        })
    }
}
