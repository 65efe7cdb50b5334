//! What this machine is: the facts a Node object tells.
//!
//! Why here: reading is kept apart from judging. Route in: /proc, /sys, os-release. Route out: [`Machine`].

use crate::paths::Paths;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// Facts that do not change while the agent runs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Machine {
    /// Identifier of the installation.
    pub machine_id: String,
    /// Identifier of the hardware, as its firmware tells it.
    pub system_uuid: String,
    /// Identifier of this boot.
    pub boot_id: String,
    /// Version of the kernel.
    pub kernel: String,
    /// `Sheaf 0.1.0`.
    pub os_image: String,
    /// Logical processors.
    pub cpus: u64,
    /// Bytes of memory the kernel manages.
    pub memory: u64,
    /// Huge pages set aside: size in bytes → number.
    pub huge_pages: BTreeMap<u64, u64>,
    /// Bytes of the data partition.
    pub storage: u64,
}

/// Looks.
pub fn observe(paths: &Paths) -> Machine {
    let read = |path: &Path| fs::read_to_string(path).unwrap_or_default().trim().to_owned();
    let release = read(&paths.etc.join("os-release"));
    let os_image = release.lines().find_map(|line| line.strip_prefix("PRETTY_NAME=")).unwrap_or("Sheaf");
    let meminfo = read("/proc/meminfo".as_ref());
    let kib = meminfo
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:")?.trim().strip_suffix(" kB")?.trim().parse().ok());
    let mut huge_pages = BTreeMap::new();
    for entry in fs::read_dir("/sys/kernel/mm/hugepages").into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let size: Option<u64> =
            name.strip_prefix("hugepages-").and_then(|name| name.strip_suffix("kB")?.parse().ok());
        let number = read(&entry.path().join("nr_hugepages")).parse().unwrap_or(0);
        if let Some(size) = size {
            huge_pages.insert(size * 1024, number);
        }
    }
    Machine {
        machine_id: read(&paths.etc.join("machine-id")),
        system_uuid: read("/sys/class/dmi/id/product_uuid".as_ref()),
        boot_id: read("/proc/sys/kernel/random/boot_id".as_ref()),
        kernel: read("/proc/sys/kernel/osrelease".as_ref()),
        os_image: os_image.trim_matches('"').to_owned(),
        cpus: std::thread::available_parallelism().map_or(1, |number| number.get() as u64),
        memory: kib.unwrap_or(0_u64) * 1024,
        huge_pages,
        storage: sheaf_host::space::total(&paths.data).unwrap_or(0),
    }
}
