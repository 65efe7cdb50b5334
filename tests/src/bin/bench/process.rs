//! What a process takes: memory and processor time, of `/proc/PID`.
//!
//! Why here: several sections measure processes of this machine. Route in: a process. Route out: KiB, seconds.

use anyhow::{Context as _, Result};

/// Ticks of the kernel's clock in a second, `sysconf(_SC_CLK_TCK)` on Linux.
const TICKS: f64 = 100.0;

/// Memory of a process in KiB (proc_pid_status(5)).
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Memory {
    /// VmRSS.
    pub all: f64,
    /// RssAnon: its own.
    pub own: f64,
    /// RssFile: pages of files, which processes of one program share.
    pub files: f64,
}

/// Memory of process `pid`.
pub fn memory(pid: u32) -> Result<Memory> {
    let path = format!("/proc/{pid}/status");
    let text = std::fs::read_to_string(&path).with_context(|| path.clone())?;
    memory_of(&text).with_context(|| format!("{path}: has no VmRSS"))
}

fn memory_of(status: &str) -> Option<Memory> {
    let of = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
        line.trim().strip_suffix("kB")?.trim().parse().ok()
    };
    Some(Memory { all: of("VmRSS")?, own: of("RssAnon")?, files: of("RssFile")? })
}

/// KiB of processes of one program: what each has of its own, and the program's pages once.
pub fn together(each: &[Memory]) -> f64 {
    let own: f64 = each.iter().map(|memory| memory.own).sum();
    own + each.iter().map(|memory| memory.files).fold(0.0, f64::max)
}

/// Seconds of processor time of process `pid`, in user and system mode.
pub fn processor(pid: u32) -> Result<f64> {
    let path = format!("/proc/{pid}/stat");
    let text = std::fs::read_to_string(&path).with_context(|| path.clone())?;
    processor_of(&text).with_context(|| format!("{path}: has no utime and stime"))
}

/// utime and stime are the 14th and 15th fields of all (proc_pid_stat(5)); the second is a name that may have spaces.
fn processor_of(stat: &str) -> Option<f64> {
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_whitespace().skip(11).map(|word| word.parse::<f64>().ok());
    Some((fields.next()?? + fields.next()??) / TICKS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_and_processor_time_are_read_by_name_and_by_place() {
        let status = "Name:\tkube\nVmRSS:\t  300 kB\nRssAnon:\t  190 kB\nRssFile:\t  110 kB\n";
        assert_eq!(memory_of(status), Some(Memory { all: 300.0, own: 190.0, files: 110.0 }));
        assert_eq!(memory_of("Name:\tkube\n"), None);
        let stat = "7 (a (b) c) S 1 7 7 0 -1 4194560 1 2 3 4 150 50 6 7 20 0";
        assert_eq!(processor_of(stat), Some(2.0));
        assert_eq!(processor_of("7 (a) S 1"), None);
    }

    #[test]
    fn pages_of_one_program_count_once() {
        let each =
            [Memory { all: 300.0, own: 190.0, files: 110.0 }, Memory { all: 140.0, own: 40.0, files: 100.0 }];
        assert_eq!(together(&each), 340.0);
        assert_eq!(together(&[]), 0.0);
    }
}
