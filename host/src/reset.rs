//! The end of the machine without a shutdown.
//!
//! Why here: reboot(2) is the machine's. Only for what must not run a moment longer: file systems are as after a power cut. Route in: a
//! program that could not stop what it had to stop. Route out: the firmware.

use nix::sys::reboot::{RebootMode, reboot};

/// Restarts the machine at once. It returns only if the kernel refuses.
pub fn now() -> std::io::Error {
    match reboot(RebootMode::RB_AUTOBOOT) {
        Err(error) => error.into(),
        Ok(never) => match never {},
    }
}
