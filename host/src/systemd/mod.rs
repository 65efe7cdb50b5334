//! systemd: starts and stops units over D-Bus.
//!
//! Why here: D-Bus is an effect. Route in: unit names. Route out: the job's result, or the state of a unit; errors name
//! the unit and where to read on.

pub(crate) mod manager;

use futures::stream::{BoxStream, StreamExt};
use manager::{ManagerProxy, UnitProxy};
use std::future::Future;
use std::pin::Pin;
use std::time::Duration;
use zbus::fdo::PropertiesProxy;

/// Longest time a unit may take to start or stop: etcd after a power cut replays its log on a slow disk.
const JOB_DEADLINE: Duration = Duration::from_secs(180);

/// What restarts the machine.
const REBOOT: &str = "reboot.target";

/// A future of a [`Units`] method.
pub type Answer<'a, T> = Pin<Box<dyn Future<Output = Result<T, UnitError>> + Send + 'a>>;

/// An item for each change of a unit.
pub type Changes = BoxStream<'static, ()>;

/// Why a unit is not as it was asked to be.
#[derive(Debug, thiserror::Error)]
pub enum UnitError {
    /// systemd could not be asked.
    #[error("cannot ask systemd to {verb} {unit}")]
    Ask {
        /// `start`, `stop`, …
        verb: &'static str,
        /// Unit name.
        unit: String,
        /// Why not.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The job ended otherwise than done.
    #[error("{unit}: {verb} ended with \"{result}\"; read `journalctl -u {unit}`")]
    Job {
        /// `start`, `stop`, …
        verb: &'static str,
        /// Unit name.
        unit: String,
        /// systemd's word: `failed`, `timeout`, `dependency`, …
        result: String,
    },
}

/// Something that manages units: [`Systemd`], or [`crate::fakes::FakeUnits`] in tests.
pub trait Units: Send + Sync {
    /// Starts `unit` and waits until it has started; does nothing to one that runs.
    fn start<'a>(&'a self, unit: &'a str) -> Answer<'a, ()>;
    /// Stops `unit`, if it runs, and starts it.
    fn restart<'a>(&'a self, unit: &'a str) -> Answer<'a, ()>;
    /// Stops `unit` and waits until it has stopped.
    fn stop<'a>(&'a self, unit: &'a str) -> Answer<'a, ()>;
    /// systemd's word for the unit's state: `active`, `activating`, `failed`, `inactive`, …
    fn state<'a>(&'a self, unit: &'a str) -> Answer<'a, String>;
    /// An item whenever a property of `unit` changes, its state among them; what it is now is for [`Units::state`] to say. It
    /// ends with the connection to the bus.
    fn changes<'a>(&'a self, unit: &'a str) -> Answer<'a, Changes>;
    /// Stops all units and restarts the machine; returns when systemd has begun, and nothing can take it back.
    fn reboot(&self) -> Answer<'_, ()>;
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

    async fn job(&self, verb: &'static str, unit: &str) -> Result<(), UnitError> {
        let ask = |source: zbus::Error| UnitError::Ask { verb, unit: unit.into(), source: Box::new(source) };
        let manager = ManagerProxy::new(&self.bus).await.map_err(ask)?;
        subscribed(manager.subscribe().await).map_err(ask)?;
        // Before the call: the job may be over before its path comes back.
        let mut removed = manager.receive_job_removed().await.map_err(ask)?;
        let job = match verb {
            "start" => manager.start_unit(unit, "replace").await,
            "restart" => manager.restart_unit(unit, "replace").await,
            _ => manager.stop_unit(unit, "replace").await,
        }
        .map_err(ask)?;
        let result = async {
            while let Some(signal) = removed.next().await {
                let args = signal.args().map_err(ask)?;
                if args.job == job {
                    return Ok(args.result.clone());
                }
            }
            Err(ask(zbus::Error::Failure("the connection to the bus ended".into())))
        };
        let result = match tokio::time::timeout(JOB_DEADLINE, result).await {
            Ok(result) => result?,
            Err(_) => format!("no result after {} s", JOB_DEADLINE.as_secs()),
        };
        if result == "done" { Ok(()) } else { Err(UnitError::Job { verb, unit: unit.into(), result }) }
    }
}

impl Units for Systemd {
    fn start<'a>(&'a self, unit: &'a str) -> Answer<'a, ()> {
        Box::pin(self.job("start", unit))
    }

    fn restart<'a>(&'a self, unit: &'a str) -> Answer<'a, ()> {
        Box::pin(self.job("restart", unit))
    }

    fn stop<'a>(&'a self, unit: &'a str) -> Answer<'a, ()> {
        Box::pin(self.job("stop", unit))
    }

    fn state<'a>(&'a self, unit: &'a str) -> Answer<'a, String> {
        Box::pin(async move {
            let ask = |source: zbus::Error| UnitError::Ask {
                verb: "report the state of",
                unit: unit.into(),
                source: Box::new(source),
            };
            let manager = ManagerProxy::new(&self.bus).await.map_err(ask)?;
            let path = manager.load_unit(unit).await.map_err(ask)?;
            let unit = UnitProxy::builder(&self.bus).path(path).build().await.map_err(ask)?;
            unit.active_state().await.map_err(ask)
        })
    }

    fn changes<'a>(&'a self, unit: &'a str) -> Answer<'a, Changes> {
        Box::pin(async move {
            let ask = |source: zbus::Error| UnitError::Ask {
                verb: "report changes of",
                unit: unit.into(),
                source: Box::new(source),
            };
            let manager = ManagerProxy::new(&self.bus).await.map_err(ask)?;
            // systemd sends signals to those who subscribed.
            subscribed(manager.subscribe().await).map_err(ask)?;
            let path = manager.load_unit(unit).await.map_err(ask)?;
            let properties = PropertiesProxy::builder(&self.bus)
                .destination("org.freedesktop.systemd1")
                .path(path)
                .build()
                .await
                .map_err(ask)?;
            let changes = properties.receive_properties_changed().await.map_err(ask)?;
            Ok(changes.map(drop).boxed())
        })
    }

    fn reboot(&self) -> Answer<'_, ()> {
        Box::pin(async move {
            let ask = |source: zbus::Error| UnitError::Ask {
                verb: "start",
                unit: REBOOT.into(),
                source: Box::new(source),
            };
            let manager = ManagerProxy::new(&self.bus).await.map_err(ask)?;
            // As systemctl does: no later job of somebody who starts a unit cancels it.
            manager.start_unit(REBOOT, "replace-irreversibly").await.map(drop).map_err(ask)
        })
    }
}

/// A connection subscribes once to systemd's signals; a second time is no failure.
fn subscribed(answer: zbus::Result<()>) -> zbus::Result<()> {
    match answer {
        Err(zbus::Error::MethodError(name, ..))
            if name.as_str() == "org.freedesktop.systemd1.AlreadySubscribed" =>
        {
            Ok(())
        }
        other => other,
    }
}
