//! The machine that a simulated node is on: its disks, its links, and what servers of images have. All of it is in memory.
//!
//! Why here: a thousand nodes need one empty disk each; who works with disks, images and networks by the pages of the console needs a
//! few nodes with more. Route in: a [`Machine`], the name of its node. Route out: fakes of the programs, of LVM, of links and of
//! servers, which agree with each other.

use serde_json::json;
use sheaf_host::fakes::{FakeFetch, FakeLinks, FakeLvm};
use sheaf_host::links::Link;
use sheaf_host::run::{Command, Output, Run, RunError};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// A disk as it is before anybody uses it.
#[derive(Clone, Debug)]
pub struct Disk {
    /// `/dev/vda`.
    pub path: &'static str,
    /// The end of its serial, behind the name of its node.
    pub serial: &'static str,
    /// Its size.
    pub bytes: u64,
    /// What `wipefs` finds on it: `ext4`.
    pub holds: Option<&'static str>,
}

/// What a node finds.
#[derive(Clone, Debug)]
pub struct Machine {
    /// Its disks.
    pub disks: Vec<Disk>,
    /// Links of its kernel; without any it has the bridges that every node has.
    pub links: Vec<Link>,
    /// Files on servers, by URL.
    pub files: BTreeMap<String, Vec<u8>>,
    /// Volumes are sparse files, so that images can be written into them and VMs find their disks.
    pub keeps_volumes: bool,
}

impl Default for Machine {
    /// One empty disk.
    fn default() -> Self {
        let disk = Disk { path: "/dev/vda", serial: "A", bytes: 1_000_000_000_000, holds: None };
        Self { disks: vec![disk], links: Vec::new(), files: BTreeMap::new(), keeps_volumes: false }
    }
}

impl Machine {
    /// lsblk and wipefs of the node `name`.
    pub(super) fn programs(&self, name: &str) -> Programs {
        Programs { node: name.to_owned(), disks: Mutex::new(self.disks.clone()) }
    }

    /// LVM on its disks, with the devices of volumes in the folder `devices`.
    pub(super) fn lvm(&self, devices: &Path) -> FakeLvm {
        let lvm = FakeLvm::default();
        for disk in &self.disks {
            lvm.plug(disk.path, disk.bytes);
        }
        if self.keeps_volumes { lvm.with_devices(devices) } else { lvm }
    }

    /// Its kernel's links.
    pub(super) fn kernel(&self) -> FakeLinks {
        let links = FakeLinks::default();
        links.set(self.links.clone());
        links
    }

    /// Bridges that VMs may be on.
    pub(super) fn bridges(&self) -> Vec<String> {
        let found = self.named(|link| link.bridge_ports.is_some());
        if found.is_empty() { vec!["br0".into(), "masq0".into()] } else { found }
    }

    /// Of those, the ones that filter VLANs.
    pub(super) fn vlan_bridges(&self) -> Vec<String> {
        self.named(|link| link.vlan_aware)
    }

    fn named(&self, is_meant: impl Fn(&Link) -> bool) -> Vec<String> {
        self.links.iter().filter(|link| is_meant(link)).map(|link| link.name.clone()).collect()
    }

    /// The servers that it reaches.
    pub(super) fn servers(&self) -> FakeFetch {
        FakeFetch { files: self.files.clone(), ..FakeFetch::default() }
    }
}

/// Programs that tell of its disks and erase them; all others do nothing and succeed.
pub(super) struct Programs {
    node: String,
    disks: Mutex<Vec<Disk>>,
}

impl Programs {
    fn disks(&self) -> MutexGuard<'_, Vec<Disk>> {
        self.disks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lsblk(&self) -> String {
        let described = |disk: &Disk| {
            json!({"path": disk.path, "type": "disk", "size": disk.bytes, "log-sec": 512, "model": "Disk",
                   "serial": format!("{}-{}", self.node, disk.serial)})
        };
        let disks: Vec<_> = self.disks().iter().map(described).collect();
        json!({"blockdevices": disks}).to_string()
    }

    fn wipefs(&self, path: &str, erases: bool) -> String {
        let mut disks = self.disks();
        let Some(disk) = disks.iter_mut().find(|disk| disk.path == path) else { return String::new() };
        if erases {
            disk.holds = None;
            return String::new();
        }
        let mark = |kind| json!({"device": path.trim_start_matches("/dev/"), "offset": "0x0", "type": kind});
        let found: Vec<_> = disk.holds.map(mark).into_iter().collect();
        json!({"signatures": found}).to_string()
    }
}

impl Run for Programs {
    fn run(&self, command: &Command) -> Result<Output, RunError> {
        let words: Vec<_> = command.args.iter().map(|word| word.to_string_lossy()).collect();
        let text = match command.program.to_str() {
            Some("lsblk") => self.lsblk(),
            Some("wipefs") => {
                let path = words.iter().find(|word| word.starts_with("/dev/")).map(|word| word.as_ref());
                self.wipefs(path.unwrap_or_default(), words.iter().any(|word| word == "--all"))
            }
            _ => String::new(),
        };
        Ok(Output { stdout: text.into_bytes(), stderr: Vec::new() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sheaf_host::disks::{DiskReport as _, Disks as _, Programs as Asked};
    use std::sync::Arc;

    #[test]
    fn a_disk_has_the_serial_of_its_node_and_holds_what_it_held_until_it_is_erased() {
        let disk = Disk { path: "/dev/vdb", serial: "B", bytes: 1 << 30, holds: Some("ext4") };
        let machine = Machine { disks: vec![disk], ..Machine::default() };
        let asked = Asked(Arc::new(machine.programs("fleet-0003")));
        let [found] = &asked.devices().unwrap()[..] else { panic!("one disk") };
        assert_eq!((found.serial.as_deref(), found.size), (Some("fleet-0003-B"), 1 << 30));
        let kinds: Vec<_> = asked.signatures(found).unwrap().into_iter().map(|mark| mark.kind).collect();
        assert_eq!(kinds, ["ext4"]);
        asked.wipe(found).unwrap();
        assert!(asked.signatures(found).unwrap().is_empty());
    }
}
