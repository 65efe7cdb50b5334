//! systemd: starts and stops units over D-Bus, and tells it when the agent is ready.
//!
//! Why here: D-Bus and the notify socket are effects. Route in: unit names. Route out: the job's result, or the
//! state of a unit; errors name the unit and where to read on.

use futures::StreamExt;
use std::future::Future;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::pin::Pin;
use std::time::Duration;
use zbus::OwnedObjectPath;

/// Longest time a unit may take to start or stop: etcd after a power cut replays its log on a slow disk.
const JOB_DEADLINE: Duration = Duration::from_secs(180);

/// A future of a [`Units`] method.
pub type Answer<'a, T> = Pin<Box<dyn Future<Output = Result<T, UnitError>> + Send + 'a>>;

/// Why a unit is not as it was asked to be.
#[derive(Debug, thiserror::Error)]
pub enum UnitError {
    /// systemd could not be asked.
    #[error("systemd can not be asked to {verb} {unit}")]
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
}

/// systemd of the machine.
#[derive(Clone, Debug)]
pub struct Systemd {
    bus: zbus::Connection,
}

#[zbus::proxy(
    interface = "org.freedesktop.systemd1.Manager",
    default_service = "org.freedesktop.systemd1",
    default_path = "/org/freedesktop/systemd1"
)]
trait Manager {
    fn subscribe(&self) -> zbus::Result<()>;
    fn start_unit(&self, name: &str, mode: &str) -> zbus::Result<OwnedObjectPath>;
    fn restart_unit(&self, name: &str, mode: &str) -> zbus::Result<OwnedObjectPath>;
    fn stop_unit(&self, name: &str, mode: &str) -> zbus::Result<OwnedObjectPath>;
    fn load_unit(&self, name: &str) -> zbus::Result<OwnedObjectPath>;
    #[zbus(signal)]
    fn job_removed(&self, id: u32, job: OwnedObjectPath, unit: String, result: String) -> zbus::Result<()>;
}

#[zbus::proxy(interface = "org.freedesktop.systemd1.Unit", default_service = "org.freedesktop.systemd1")]
trait Unit {
    #[zbus(property(emits_changed_signal = "false"))]
    fn active_state(&self) -> zbus::Result<String>;
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
                verb: "tell the state of",
                unit: unit.into(),
                source: Box::new(source),
            };
            let manager = ManagerProxy::new(&self.bus).await.map_err(ask)?;
            let path = manager.load_unit(unit).await.map_err(ask)?;
            let unit = UnitProxy::builder(&self.bus).path(path).build().await.map_err(ask)?;
            unit.active_state().await.map_err(ask)
        })
    }
}

/// A connection subscribes once to systemd's signals; being told so is no failure.
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

/// Tells the service manager `message` (`READY=1`, `STATUS=…`, `STOPPING=1`); does nothing without one.
pub fn notify(message: &str) -> std::io::Result<()> {
    let Some(path) = std::env::var_os("NOTIFY_SOCKET") else { return Ok(()) };
    let bytes = path.as_encoded_bytes();
    let address = match bytes.strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(&path)?,
    };
    UnixDatagram::unbound()?.send_to_addr(message.as_bytes(), &address).map(drop)
}
