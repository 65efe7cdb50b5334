//! The end of the machine without a shutdown.
//!
//! Why here: the kernel is the machine's. Only for what must not run a moment longer: file systems are as after a power cut. Route in: a
//! program that could not stop what it had to stop. Route out: the firmware.

use nix::sys::reboot::{RebootMode, reboot};
use std::path::Path;

/// Where the kernel takes orders from root, whatever `kernel.sysrq` permits at the keyboard.
/// <https://docs.kernel.org/admin-guide/sysrq.html>
const TRIGGER: &str = "/proc/sysrq-trigger";

/// Restarts the machine at once. It returns only if the kernel refuses.
///
/// By sysrq `b` and not by reboot(2), which first has every driver shut its devices down: a disk that does not answer takes a minute, VMs
/// run on meanwhile, and the watchdog's driver has stopped it.
pub fn now() -> std::io::Error {
    if let Err(error) = std::fs::write(Path::new(TRIGGER), "b") {
        eprintln!("sheaf: {TRIGGER}: {error}; the machine is restarted by reboot(2)");
    }
    match reboot(RebootMode::RB_AUTOBOOT) {
        Err(error) => error.into(),
        Ok(never) => match never {},
    }
}
