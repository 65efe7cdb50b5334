//! Where an installation comes from: the medium with the release, and the node config.
//!
//! Route in: the machine's block devices. Route out: a [`medium::Medium`] whose manifest verified, and a
//! [`config::Found`] that says which source won; or an error that says what was looked for, and where.

pub mod arguments;
pub mod config;
pub mod medium;
pub mod remote;
mod url;

use sheaf_host::block::{self, Device, ProbeError};
use sheaf_host::run::{Command, Run};
use sheaf_host::wait;
use std::time::{Duration, Instant};

/// A USB stick is searched by the kernel one second after it was seen; twice that tells that no more will come.
const QUIET: Duration = Duration::from_secs(2);
/// How often the devices are listed while waiting.
const INTERVAL: Duration = Duration::from_millis(500);
/// Slow controllers and BMC's virtual media have shown their devices by then.
const TIMEOUT: Duration = Duration::from_secs(60);

/// Block devices once no new ones appear and `enough` is content with them, or what there is at the timeout.
pub fn settled(run: &dyn Run, enough: impl Fn(&[Device]) -> bool) -> Result<Vec<Device>, ProbeError> {
    let mut last: Option<(Vec<Device>, Instant)> = None;
    let done = wait::until(TIMEOUT, INTERVAL, || {
        // A udev that does not settle is no reason not to look.
        let _ = run.run(&Command::new("udevadm").args(["settle", "--timeout=10"]));
        let devices = match block::devices(run) {
            Ok(devices) => devices,
            Err(error) => return Some(Err(error)),
        };
        match &last {
            Some((same, since)) if *same == devices => {
                (since.elapsed() >= QUIET && enough(&devices)).then_some(Ok(devices))
            }
            _ => {
                last = Some((devices, Instant::now()));
                None
            }
        }
    });
    done.unwrap_or_else(|| Ok(last.map(|(devices, _)| devices).unwrap_or_default()))
}
