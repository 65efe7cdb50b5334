//! Time since the machine was started, by a clock that nobody sets.
//!
//! CLOCK_BOOTTIME, also the time for which it was suspended, as procfs shows it: in hundredths of a second. Route in: `/proc/uptime`.
//! Route out: a duration. Source: proc_uptime(5).

use std::io;
use std::time::Duration;

/// Reads it.
pub fn uptime() -> io::Result<Duration> {
    let text = std::fs::read_to_string("/proc/uptime")?;
    let seconds = text.split(' ').next().and_then(|first| first.parse().ok());
    let time = seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    time.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "/proc/uptime: is not a time"))
}
