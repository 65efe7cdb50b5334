//! What the node's disks and NICs have moved since the start, for its `/metrics`.
//!
//! Why here: the console plots it, and node_exporter, which would have it, is not on the node; the names are node_exporter's. Devices of
//! hardware only: what goes through a bond, a bridge or a mapped device would count twice. Pure but for [`read`]. Route in: `/proc`,
//! `/sys`. Route out: samples. Sources: Documentation/admin-guide/iostats.rst, proc_pid_net(5).

use super::metrics::Page;
use std::collections::BTreeSet;
use std::path::Path;

/// Bytes of a sector of `/proc/diskstats`, whatever the disk has.
const SECTOR: u64 = 512;

/// A device with two counters in bytes: read or received, written or sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    name: String,
    inward: u64,
    outward: u64,
}

/// Disks and NICs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Devices {
    disks: Vec<Device>,
    nics: Vec<Device>,
}

/// What the kernel counts of the hardware of this node.
pub fn read() -> std::io::Result<Devices> {
    let disks = std::fs::read_to_string("/proc/diskstats")?;
    let nics = std::fs::read_to_string("/proc/net/dev")?;
    Ok(Devices {
        disks: only(disks_of(&disks), &hardware(Path::new("/sys/block"))?),
        nics: only(nics_of(&nics), &hardware(Path::new("/sys/class/net"))?),
    })
}

/// Names below `class` that belong to a device of a bus.
fn hardware(class: &Path) -> std::io::Result<BTreeSet<String>> {
    let mut names = BTreeSet::new();
    for entry in std::fs::read_dir(class)? {
        let entry = entry?;
        if entry.path().join("device").exists() {
            names.insert(entry.file_name().to_string_lossy().into_owned());
        }
    }
    Ok(names)
}

fn only(devices: Vec<Device>, names: &BTreeSet<String>) -> Vec<Device> {
    devices.into_iter().filter(|device| names.contains(&device.name)).collect()
}

/// Lines of `major minor name reads merged sectors ms writes merged sectors …`.
fn disks_of(diskstats: &str) -> Vec<Device> {
    let device = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let bytes = |at: usize| Some(words.get(at)?.parse::<u64>().ok()?.saturating_mul(SECTOR));
        Some(Device { name: (*words.get(2)?).to_owned(), inward: bytes(5)?, outward: bytes(9)? })
    };
    diskstats.lines().filter_map(device).collect()
}

/// Lines of `name: bytes packets errs drop fifo frame compressed multicast bytes …`.
fn nics_of(dev: &str) -> Vec<Device> {
    let device = |line: &str| {
        let (name, rest) = line.split_once(':')?;
        let words: Vec<&str> = rest.split_whitespace().collect();
        let bytes = |at: usize| words.get(at)?.parse().ok();
        Some(Device { name: name.trim().to_owned(), inward: bytes(0)?, outward: bytes(8)? })
    };
    dev.lines().filter_map(device).collect()
}

/// Writes them.
pub fn write(page: &mut Page, devices: &Devices) {
    type Of = fn(&Device) -> u64;
    let families: [(&str, &str, &[Device], Of); 4] = [
        ("node_disk_read_bytes_total", "Bytes read from the disk", &devices.disks, |device| device.inward),
        ("node_disk_written_bytes_total", "Bytes written to the disk", &devices.disks, |device| {
            device.outward
        }),
        ("node_network_receive_bytes_total", "Bytes received by the NIC", &devices.nics, |device| {
            device.inward
        }),
        ("node_network_transmit_bytes_total", "Bytes sent by the NIC", &devices.nics, |device| {
            device.outward
        }),
    ];
    for (name, help, devices, value) in families {
        page.family(name, "counter", help);
        for device in devices {
            page.sample(name, &[("device", &device.name)], value(device) as f64);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DISKS: &str = "   8       0 sda 100 5 2000 30 200 6 4000 40 0 50 60 0 0 0 0 0 0\n \
                         253       0 dm-0 100 5 2000 30 200 6 4000 40 0 50 60\n   8  1 sdb 1\n";
    const NICS: &str = "Inter-|   Receive\n face |bytes    packets\n    lo: 7 1 0 0 0 0 0 0 7 1 0 0 0 0 0 0\n\
                        enp1s0: 1000 9 0 0 0 0 0 0 2000 8 0 0 0 0 0 0\n";

    #[test]
    fn disks_and_nics_of_the_hardware_are_counted_in_bytes_and_nothing_twice() {
        let names = |list: &[&str]| list.iter().map(|name| (*name).to_owned()).collect();
        let devices = Devices {
            disks: only(disks_of(DISKS), &names(&["sda", "sdb"])),
            nics: only(nics_of(NICS), &names(&["enp1s0"])),
        };
        let mut page = Page::default();
        write(&mut page, &devices);
        let text = page.text();
        let samples: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
        assert_eq!(
            samples,
            [
                r#"node_disk_read_bytes_total{device="sda"} 1024000"#,
                r#"node_disk_written_bytes_total{device="sda"} 2048000"#,
                r#"node_network_receive_bytes_total{device="enp1s0"} 1000"#,
                r#"node_network_transmit_bytes_total{device="enp1s0"} 2000"#,
            ]
        );
    }

    #[test]
    fn what_this_kernel_counts_is_understood() {
        let disks = std::fs::read_to_string("/proc/diskstats").unwrap();
        assert_eq!(disks_of(&disks).len(), disks.lines().count());
        let nics = std::fs::read_to_string("/proc/net/dev").unwrap();
        assert_eq!(nics_of(&nics).len(), nics.lines().count() - 2, "two lines are a heading");
    }
}
