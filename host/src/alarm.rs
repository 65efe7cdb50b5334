//! A program that systemd starts later, unless it is cancelled in time.
//!
//! Why here: a program that changes the network of a machine may be killed or cut off before it can roll the change back, and one that
//! renews a lease before it can stop what depends on it; systemd does it then. A transient timer with its transient service: nothing of
//! it is left after either end. Route in: a unit name, a delay, a program. Route out: the program runs, or [`Alarm::cancel`] came
//! first; a program that must not fail ends well in time, or systemd resets the machine.

use crate::systemd::manager::ManagerProxy;
use crate::systemd::{Answer, UnitError};
use std::time::Duration;
use zbus::Variant as Value;

/// Something that starts a program later: [`Systemd`], or [`crate::fakes::FakeAlarm`] in tests.
pub trait Alarm: Send + Sync {
    /// After `delay`, the program of `command` is started as the service `name`, and again when it fails.
    fn arm<'a>(&'a self, name: &'a str, delay: Duration, command: &'a [String]) -> Answer<'a, ()>;
    /// The same for a program that must not fail: if it does, or has not ended `within` so long, systemd resets the machine. That
    /// needs no file: the program's own may be on a disk that does not answer. It also starts while the machine goes down.
    fn arm_or_reset<'a>(
        &'a self,
        name: &'a str,
        delay: Duration,
        command: &'a [String],
        within: Duration,
    ) -> Answer<'a, ()>;
    /// It is not started any more; nothing happens to one that runs.
    fn cancel<'a>(&'a self, name: &'a str) -> Answer<'a, ()>;
}

/// systemd of the machine.
#[derive(Clone, Debug)]
pub struct Systemd {
    bus: zbus::Connection,
}

impl Systemd {
    /// Connects to the system bus.
    pub async fn connect() -> Result<Self, zbus::Error> {
        Ok(Self { bus: zbus::Connection::system().await? })
    }
}

/// A span as systemd counts it.
fn microseconds(span: Duration) -> Value<'static> {
    Value::U64(u64::try_from(span.as_micros()).unwrap_or(u64::MAX))
}

impl Systemd {
    fn start_later<'a>(
        &'a self,
        name: &'a str,
        delay: Duration,
        command: &'a [String],
        when_it_fails: Vec<(&'static str, Value<'static>)>,
        ends_at_shutdown: bool,
    ) -> Answer<'a, ()> {
        Box::pin(async move {
            let timer = format!("{name}.timer");
            let ask = |source: zbus::Error| UnitError::Ask {
                verb: "start later",
                unit: timer.clone(),
                source: Box::new(source),
            };
            let Some(program) = command.first() else {
                return Err(ask(zbus::Error::Failure("no program is named".into())));
            };
            let manager = ManagerProxy::new(&self.bus).await.map_err(ask)?;
            let start: Vec<(String, Vec<String>, bool)> = vec![(program.clone(), command.to_vec(), false)];
            let description = |what: &str| ("Description", Value::from(format!("Sheaf: {what}")));
            let mut service = vec![
                description(&format!("what {name} starts")),
                ("Type", Value::from("oneshot")),
                ("ExecStart", Value::from(start)),
                ("CollectMode", Value::from("inactive-or-failed")),
                ("DefaultDependencies", Value::from(ends_at_shutdown)),
            ];
            service.extend(when_it_fails);
            let span = u64::try_from(delay.as_micros()).unwrap_or(u64::MAX);
            let properties = [
                description(&format!("when {name} starts")),
                ("TimersMonotonic", Value::from(vec![("OnActiveSec".to_owned(), span)])),
                ("AccuracyUSec", microseconds(Duration::from_millis(200))),
                ("RemainAfterElapse", Value::from(false)),
                ("CollectMode", Value::from("inactive-or-failed")),
                ("DefaultDependencies", Value::from(ends_at_shutdown)),
            ];
            let service_name = format!("{name}.service");
            let others = [(service_name.as_str(), &service[..])];
            manager.start_transient_unit(&timer, "replace", &properties, &others).await.map_err(ask)?;
            Ok(())
        })
    }
}

impl Alarm for Systemd {
    fn arm<'a>(&'a self, name: &'a str, delay: Duration, command: &'a [String]) -> Answer<'a, ()> {
        let again = vec![
            ("Restart", Value::from("on-failure")),
            ("RestartUSec", microseconds(Duration::from_secs(2))),
        ];
        self.start_later(name, delay, command, again, true)
    }

    fn arm_or_reset<'a>(
        &'a self,
        name: &'a str,
        delay: Duration,
        command: &'a [String],
        within: Duration,
    ) -> Answer<'a, ()> {
        // systemd.unit(5): a job of a oneshot service lasts until its program has ended.
        let reset = vec![
            ("FailureAction", Value::from("reboot-immediate")),
            ("JobRunningTimeoutUSec", microseconds(within)),
            ("JobTimeoutAction", Value::from("reboot-immediate")),
            // The screen shows why VMs end.
            ("StandardOutput", Value::from("journal+console")),
        ];
        self.start_later(name, delay, command, reset, false)
    }

    fn cancel<'a>(&'a self, name: &'a str) -> Answer<'a, ()> {
        Box::pin(async move {
            let timer = format!("{name}.timer");
            let ask = |source: zbus::Error| UnitError::Ask {
                verb: "cancel",
                unit: timer.clone(),
                source: Box::new(source),
            };
            let manager = ManagerProxy::new(&self.bus).await.map_err(ask)?;
            match manager.stop_unit(&timer, "replace").await {
                Ok(_) => Ok(()),
                // It has started already.
                Err(zbus::Error::MethodError(error, ..))
                    if error.as_str() == "org.freedesktop.systemd1.NoSuchUnit" =>
                {
                    Ok(())
                }
                Err(error) => Err(ask(error)),
            }
        })
    }
}
