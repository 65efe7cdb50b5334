//! The watchdog that resets a machine whose systemd or kernel hangs.
//!
//! Why here: systemd feeds it, and the kernel says what it is set to. A machine without one in hardware gets the kernel's own, `softdog`:
//! it resets a machine whose systemd hangs, and not one whose kernel does. Route in: a timeout. Route out: systemd's
//! `RuntimeWatchdogUSec` (org.freedesktop.systemd1(5)); what `/sys/class/watchdog` shows
//! (<https://docs.kernel.org/watchdog/watchdog-api.html>, `Documentation/ABI/testing/sysfs-class-watchdog`).

use crate::systemd::manager::ManagerProxy;
use crate::systemd::{Answer, UnitError};
use std::path::PathBuf;
use std::time::Duration;

/// Loads the kernel's own watchdog.
const SOFTDOG: &str = "modprobe@softdog.service";
/// Longest time until a module that is loaded has its device.
const LOAD_TIME: Duration = Duration::from_secs(5);
/// Between two looks at whether it is there.
const LOOK: Duration = Duration::from_millis(100);

/// A machine's watchdog: [`Systemd`], or [`crate::fakes::FakeWatchdog`] in tests.
pub trait Watchdog: Send + Sync {
    /// Within what time the machine is reset when nobody feeds the watchdog any more; none if none is fed.
    fn timeout(&self) -> Option<Duration>;
    /// Has systemd feed a watchdog with this timeout. Whether there is one that takes it, [`Watchdog::timeout`] says afterwards.
    fn set(&self, timeout: Duration) -> Answer<'_, ()>;
}

/// That of this machine, fed by systemd.
#[derive(Clone, Debug)]
pub struct Systemd {
    bus: zbus::Connection,
    /// `/sys/class/watchdog`.
    devices: PathBuf,
}

impl Systemd {
    /// Connects to the system bus.
    pub async fn connect() -> Result<Self, zbus::Error> {
        Ok(Self { bus: zbus::Connection::system().await?, devices: "/sys/class/watchdog".into() })
    }
}

/// Folders of all watchdogs; none if there is no such folder.
fn devices(folder: &std::path::Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).collect()
}

/// The shortest timeout of those that are fed.
fn timeout(folder: &std::path::Path) -> Option<Duration> {
    let read = |device: &PathBuf| {
        let text = |name: &str| std::fs::read_to_string(device.join(name)).ok();
        let is_active = text("state").is_some_and(|state| state.trim() == "active");
        let seconds = text("timeout")?.trim().parse().ok()?;
        is_active.then(|| Duration::from_secs(seconds))
    };
    devices(folder).iter().filter_map(read).min()
}

impl Watchdog for Systemd {
    fn timeout(&self) -> Option<Duration> {
        timeout(&self.devices)
    }

    fn set(&self, timeout: Duration) -> Answer<'_, ()> {
        Box::pin(async move {
            let ask = |source: zbus::Error| UnitError::Ask {
                verb: "feed",
                unit: "the watchdog of this machine".into(),
                source: Box::new(source),
            };
            let manager = ManagerProxy::new(&self.bus).await.map_err(ask)?;
            if devices(&self.devices).is_empty() {
                manager.start_unit(SOFTDOG, "replace").await.map_err(ask)?;
                let loaded = async {
                    while devices(&self.devices).is_empty() {
                        tokio::time::sleep(LOOK).await; // until the next look; the deadline is below
                    }
                };
                // Without it nothing is fed, and that is seen.
                tokio::time::timeout(LOAD_TIME, loaded).await.ok();
            }
            let microseconds = |span: Duration| u64::try_from(span.as_micros()).unwrap_or(u64::MAX);
            // systemd does nothing when told what it has been told before, though a device may have come since.
            let other = timeout.saturating_add(Duration::from_secs(1));
            manager.set_runtime_watchdog(microseconds(other)).await.map_err(ask)?;
            manager.set_runtime_watchdog(microseconds(timeout)).await.map_err(ask)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_timeout_is_the_shortest_of_watchdogs_that_are_fed_and_one_that_nobody_feeds_resets_nothing() {
        let root = tempfile::tempdir().unwrap();
        assert_eq!(timeout(&root.path().join("none")), None);
        let device = |name: &str, state: &str, seconds: &str| {
            let folder = root.path().join(name);
            std::fs::create_dir_all(&folder).unwrap();
            std::fs::write(folder.join("state"), format!("{state}\n")).unwrap();
            std::fs::write(folder.join("timeout"), format!("{seconds}\n")).unwrap();
        };
        device("watchdog0", "inactive", "5");
        assert_eq!(timeout(root.path()), None);
        device("watchdog1", "active", "60");
        assert_eq!(timeout(root.path()), Some(Duration::from_secs(60)));
        device("watchdog0", "active", "10");
        assert_eq!(timeout(root.path()), Some(Duration::from_secs(10)));
    }
}
