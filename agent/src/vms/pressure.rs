//! What the node is short of: memory, space for files of VMs, space for the control plane.
//!
//! Why here: the scheduler places no more VMs on a node with these conditions. Numbers are the kubelet's defaults for
//! eviction; nothing is evicted here, the space of VMs is set aside when they are admitted. Route in: /proc/meminfo, file
//! systems. Route out: [`Pressure`], whose sentences hold no numbers that change.

use crate::channels::Pressure;
use crate::paths::Paths;
use sheaf_host::space;
use std::path::Path;

/// Bytes of memory that must be available: kubelet's `memory.available`.
const LEAST_MEMORY: u64 = 100 << 20;

/// Percent of a file system that must be free: kubelet's `nodefs.available`.
const LEAST_FREE: u64 = 10;

/// As it is now. What cannot be read is no pressure.
pub fn observe(paths: &Paths) -> Pressure {
    let of = |path: &Path| Some((space::free(path).ok()?, space::total(path).ok()?));
    let meminfo = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    pressure(&meminfo, of(&paths.data), of(&paths.lib))
}

/// `data` and `state`: free and total bytes.
fn pressure(meminfo: &str, data: Option<(u64, u64)>, state: Option<(u64, u64)>) -> Pressure {
    let available = meminfo
        .lines()
        .find_map(|line| line.strip_prefix("MemAvailable:")?.trim().strip_suffix(" kB")?.parse::<u64>().ok());
    let is_short =
        |space: Option<(u64, u64)>| space.is_some_and(|(free, total)| free < total / 100 * LEAST_FREE);
    let memory = available.is_some_and(|kib| kib < LEAST_MEMORY >> 10);
    let disk =
        [("/data", data), ("the state partition", state)].into_iter().find(|(_, space)| is_short(*space));
    Pressure {
        memory: memory.then(|| format!("less than {} MiB of memory are available", LEAST_MEMORY >> 20)),
        disk: disk.map(|(name, _)| format!("less than {LEAST_FREE} % of {name} is free")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: u64 = 1 << 30;

    #[test]
    fn a_node_is_short_of_what_it_has_too_little_of_and_of_nothing_else() {
        let enough = Some((50 * GIB, 100 * GIB));
        let plenty = "MemTotal: 8000000 kB\nMemAvailable:    4000000 kB\n";
        assert_eq!(pressure(plenty, enough, enough), Pressure::default());
        assert_eq!(pressure("", None, None), Pressure::default());
        let short = pressure("MemAvailable: 102399 kB\n", Some((9 * GIB, 100 * GIB)), enough);
        assert_eq!(short.memory.as_deref(), Some("less than 100 MiB of memory are available"));
        assert_eq!(short.disk.as_deref(), Some("less than 10 % of /data is free"));
        let state = pressure(plenty, enough, Some((0, GIB)));
        assert_eq!(state.disk.as_deref(), Some("less than 10 % of the state partition is free"));
    }
}
