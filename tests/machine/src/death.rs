//! Why a machine will not answer any more, read from its logs.
//!
//! Why here: anyone who waits for a dead machine should stop at once and say what broke. Route in: the folder of a
//! machine's logs, or of several. Route out: the line that says so, with its file.

use std::path::Path;

/// What a serial line, or QEMU's log, says when a machine ended for good.
const ENDS: [&str; 3] = ["Kernel panic - not syncing", "corrupted stack end detected", "Triple fault"];

/// What an emulated machine shows when a processor that was just booted lost its timer's interrupt: it never hears of
/// time again. Seen twice in some hundred boots, with two machines at once. (The race that broke nodes when a VM started
/// is gone from the QEMU that is run here: [`crate::emulator`].)
const LOST_TIMER: &str = "kthread timer wakeup didn't happen";

/// The line in the logs under `folder` that says that a machine is dead: `serial.log: Kernel panic …`.
pub fn cause(folder: &Path) -> Option<String> {
    find(folder, &|line| ENDS.iter().any(|end| line.contains(end)) || line.contains(LOST_TIMER))
}

/// Whether the emulator broke a machine whose logs lie under `folder`: no answer about what it ran.
pub fn is_emulators(folder: &Path) -> bool {
    find(folder, &|line| line.contains(LOST_TIMER)).is_some()
}

fn find(folder: &Path, says: &dyn Fn(&str) -> bool) -> Option<String> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).find_map(|path| {
        if path.is_dir() {
            return find(&path, says);
        }
        if path.extension().is_none_or(|extension| extension != "log") {
            return None;
        }
        let log = std::fs::read(&path).unwrap_or_default();
        let log = String::from_utf8_lossy(&log);
        let line = log.lines().find(|line| says(line))?;
        Some(format!("{}: {}", path.display(), line.trim()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn logs(text: &str) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("node1")).unwrap();
        std::fs::write(folder.path().join("node1/serial.log"), text).unwrap();
        std::fs::write(folder.path().join("node1/disk.raw"), "Kernel panic - not syncing").unwrap();
        folder
    }

    #[test]
    fn the_line_that_ended_a_machine_is_found_with_its_file() {
        let folder = logs("up\r\n[ 9.1] Kernel panic - not syncing: Attempted to kill init!\r\nmore");
        let cause = cause(folder.path()).unwrap();
        assert!(
            cause.ends_with("node1/serial.log: [ 9.1] Kernel panic - not syncing: Attempted to kill init!"),
            "{cause}"
        );
        assert!(!is_emulators(folder.path()));
    }

    #[test]
    fn a_lost_timer_is_the_emulators_fault() {
        let folder = logs("rcu: rcu_preempt kthread timer wakeup didn't happen for 12 jiffies!");
        assert!(is_emulators(folder.path()) && cause(folder.path()).is_some());
    }

    #[test]
    fn a_machine_that_runs_has_no_cause_of_death() {
        assert_eq!(cause(logs("guest: up\n").path()), None);
    }
}
