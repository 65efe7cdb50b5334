//! Observes the node's disks: what they are, what is on them, who uses them, how they are.
//!
//! Why here: one scan gives one value, and all that follows is decided on it. Route in: the reading halves of `host`.
//! Route out: [`Seen`]. Signatures are read from the disks themselves but for the boot disk and members of pools, whose
//! contents are known; health is asked for rarely, since asking wakes disks that sleep.

use super::contents::contents;
use super::identity::{assign, has_duplicate_serial, is_ambiguous};
use crate::channels::{Contents, Disk, Facts, PoolPartition, Seen};
use sheaf_api::storage::device::Identity;
use sheaf_host::block::{self, Device};
use sheaf_host::disks::DiskReport;
use sheaf_host::lvm::{Groups, LvmReport};
use sheaf_host::smart::Health;
use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

/// Between two questions for a disk's health.
pub const HEALTH_INTERVAL: Duration = Duration::from_secs(30 * 60);
/// Number of the partition that the installer made for the pool `default`.
const POOL_PARTITION: u32 = 11;

/// Observes, and remembers what is asked for rarely.
#[derive(Default)]
pub struct Observer {
    health: BTreeMap<String, (Instant, Health)>,
}

/// What is observed.
pub struct Place<'a> {
    /// Disks.
    pub disks: &'a dyn DiskReport,
    /// Volume groups.
    pub lvm: &'a dyn LvmReport,
    /// `/`.
    pub root: &'a Path,
    /// This node's name.
    pub node: &'a str,
    /// The disk that this boot came from.
    pub boot_disk: &'a Path,
}

impl Observer {
    /// Observes once. `known` are the identities of the node's objects by identifier.
    pub fn observe(&mut self, place: &Place<'_>, known: &BTreeMap<String, Identity>) -> anyhow::Result<Seen> {
        let devices = place.disks.devices()?;
        let devices: Vec<Device> = devices.into_iter().filter(is_disk).collect();
        let groups = place.lvm.groups()?;
        let links = block::links(place.root);
        let facts: Vec<Facts> = devices.iter().map(|device| facts(place.root, device)).collect();
        let ids = assign(&facts, known);
        let mut disks = Vec::new();
        for ((device, its), id) in devices.into_iter().zip(&facts).zip(ids) {
            let is_boot = device.path == place.boot_disk;
            let known = match is_boot {
                true => Some(Contents::System),
                false => Some(contents(&device, &[], &groups, place.node))
                    .filter(|c| matches!(c, Contents::Pool(_))),
            };
            let (contents, signatures, unreadable) = match known {
                Some(known) => (known, Vec::new(), None),
                None => signatures(place, &device, &groups),
            };
            disks.push(Disk {
                health: self.health(place.disks, &id, its),
                links: links.get(&device.path).cloned().unwrap_or_default(),
                contents,
                signatures,
                unreadable,
                uses: device.uses(),
                is_ambiguous: is_ambiguous(its, &facts),
                duplicate_serial: has_duplicate_serial(its, &facts),
                pool_partition: is_boot.then(|| pool_partition(place, &device, &groups)).flatten(),
                facts: its.clone(),
                id,
                device,
            });
        }
        self.health.retain(|id, _| disks.iter().any(|disk| disk.id == *id));
        disks.sort_by(|a, b| a.facts.device.cmp(&b.facts.device));
        Ok(Seen { disks, groups })
    }

    fn health(&mut self, disks: &dyn DiskReport, id: &str, facts: &Facts) -> Health {
        // These have none, and asking opens the device for writing.
        if matches!(facts.bus.as_deref(), Some("virtio") | None) {
            return Health::default();
        }
        if let Some((_, health)) = self.health.get(id).filter(|(at, _)| at.elapsed() < HEALTH_INTERVAL) {
            return health.clone();
        }
        let health = disks.health(&facts.device).unwrap_or_else(|error| {
            tracing::warn!("{}: cannot read its health: {error}", facts.device.display());
            Health::default()
        });
        self.health.insert(id.to_owned(), (Instant::now(), health.clone()));
        health
    }
}

/// What signatures say is on `device`; one that cannot be searched must not be overwritten.
fn signatures(
    place: &Place<'_>,
    device: &Device,
    groups: &Groups,
) -> (Contents, Vec<String>, Option<String>) {
    match place.disks.signatures(device) {
        Ok(found) => {
            let contents = contents(device, &found, groups, place.node);
            let mut words: Vec<String> =
                found.iter().map(|found| format!("{} on {}", found.kind, found.device.display())).collect();
            words.sort();
            words.dedup();
            (contents, words, None)
        }
        Err(error) => {
            let words = format!("it cannot be searched: {error}");
            (Contents::Foreign(words.clone()), Vec::new(), Some(words))
        }
    }
}

/// Partition 11, when it is for LVM and belongs to the same installation as its disk.
fn pool_partition(place: &Place<'_>, disk: &Device, groups: &Groups) -> Option<PoolPartition> {
    let part =
        disk.children.iter().find(|child| child.kind == "part" && child.partn == Some(POOL_PARTITION))?;
    let is_lvm = part.parttype.as_deref().is_some_and(|kind| kind.eq_ignore_ascii_case(LVM_TYPE));
    let install = disk.ptuuid.as_deref()?.to_lowercase();
    // An installation's partitions have its UUID, with their number for its last byte.
    let expected = format!("{}{POOL_PARTITION:02x}", install.get(..install.len().checked_sub(2)?)?);
    let is_installs = part.partuuid.as_deref().is_some_and(|uuid| uuid.to_lowercase() == expected);
    if !is_lvm || !is_installs {
        return None;
    }
    let alone = Device { path: part.path.clone(), kind: "disk".into(), ..Device::default() };
    let known = Some(contents(&alone, &[], groups, place.node)).filter(|c| matches!(c, Contents::Pool(_)));
    let contents = known.unwrap_or_else(|| signatures(place, &alone, groups).0);
    Some(PoolPartition { device: part.path.clone(), contents })
}

/// Type of a partition for LVM.
const LVM_TYPE: &str = "e6d6d379-f507-44c2-a23c-238f2a3df928";

/// Disks that could hold anything for long: not RAM disks, empty card readers, drives' boot areas, floppies.
fn is_disk(device: &Device) -> bool {
    let name = device.path.file_name().unwrap_or_default().to_string_lossy();
    let odd =
        ["zram", "ram", "fd", "loop", "nbd"].iter().any(|odd| name.starts_with(odd)) || name.contains("boot");
    device.kind == "disk" && device.size > 0 && !odd
}

fn facts(root: &Path, device: &Device) -> Facts {
    let text =
        |text: &Option<String>| text.as_deref().map(str::trim).filter(|t| !t.is_empty()).map(str::to_owned);
    let bus = match device.transport.as_deref() {
        Some("ata") => Some("sata".to_owned()),
        Some(known @ ("nvme" | "sata" | "sas" | "usb" | "virtio")) => Some(known.to_owned()),
        _ => device.hctl.as_ref().map(|_| "scsi".to_owned()),
    };
    Facts {
        device: device.path.clone(),
        wwn: text(&device.wwn),
        serial: text(&device.serial),
        model: text(&device.model),
        place: device.number.as_deref().and_then(|number| block::place(root, number)),
        bus,
        size: device.size,
        sector_size: device.sector_size,
        read_only: device.read_only,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sheaf_host::disks::Programs;
    use sheaf_host::fakes::{FakeLvm, FakeRun};
    use sheaf_host::smart;
    use std::sync::Arc;

    const LSBLK: &str = r#"{"blockdevices": [
      {"path":"/dev/vda","type":"disk","maj:min":"254:0","size":17179869184,"log-sec":512,"ro":false,"rm":false,
       "serial":"ROOT","tran":"virtio","ptuuid":"0b1c2d3e-4f50-4162-8374-95a6b7c8d900","mountpoints":[null],"children":[
        {"path":"/dev/vda9","type":"part","partn":9,"mountpoints":["/state"]},
        {"path":"/dev/vda11","type":"part","partn":11,"parttype":"e6d6d379-f507-44c2-a23c-238f2a3df928",
         "partuuid":"0b1c2d3e-4f50-4162-8374-95a6b7c8d90b","mountpoints":[null]}]},
      {"path":"/dev/sda","type":"disk","maj:min":"8:0","size":1073741824,"log-sec":512,"serial":"A","wwn":"0x5000c500a1b2c3d4",
       "model":"QEMU HARDDISK","hctl":"0:0:0:0","mountpoints":[null]},
      {"path":"/dev/sr0","type":"rom","maj:min":"11:0","size":1000,"mountpoints":[null]},
      {"path":"/dev/loop0","type":"loop","maj:min":"7:0","size":1000,"mountpoints":[null]}]}"#;

    fn observe(run: &Arc<FakeRun>, times: usize) -> Seen {
        let (disks, lvm, mut observer) = (Programs(run.clone()), FakeLvm::default(), Observer::default());
        let place = Place {
            disks: &disks,
            lvm: &lvm,
            root: Path::new("/nonexistent"),
            node: "n1",
            boot_disk: Path::new("/dev/vda"),
        };
        let mut observe = || observer.observe(&place, &BTreeMap::new()).unwrap();
        (1..times).for_each(|_| drop(observe()));
        observe()
    }

    #[test]
    fn the_boot_disk_is_the_systems_and_its_partition_is_kept_for_the_default_pool() {
        let run = Arc::new(FakeRun::default().prints("lsblk", LSBLK));
        let seen = observe(&run, 1);
        let [sda, vda] = &seen.disks[..] else { panic!("{seen:?}") };
        assert_eq!((vda.id.as_str(), &vda.contents), ("serial-root", &Contents::System));
        let partition = vda.pool_partition.as_ref().unwrap();
        assert_eq!(
            (partition.device.as_path(), &partition.contents),
            (Path::new("/dev/vda11"), &Contents::Empty)
        );
        assert_eq!((sda.id.as_str(), &sda.contents), ("wwn-5000c500a1b2c3d4", &Contents::Empty));
        assert_eq!((sda.facts.bus.as_deref(), &sda.pool_partition), (Some("scsi"), &None));
        assert!(!run.asked().iter().any(|asked| asked.starts_with("wipefs") && asked.ends_with("/dev/vda")));
    }

    #[test]
    fn a_partition_of_another_installation_is_not_taken() {
        let other =
            LSBLK.replace("0b1c2d3e-4f50-4162-8374-95a6b7c8d90b", "ffffffff-4f50-4162-8374-95a6b7c8d90b");
        let seen = observe(&Arc::new(FakeRun::default().prints("lsblk", &other)), 1);
        assert_eq!(seen.disks[1].pool_partition, None);
    }

    #[test]
    fn a_disk_that_cannot_be_searched_is_not_overwritten() {
        let run = FakeRun::default().prints("lsblk", LSBLK).fails("wipefs", "probing initialization failed");
        let seen = observe(&Arc::new(run), 1);
        assert!(
            matches!(&seen.disks[0].contents, Contents::Foreign(why) if why.contains("cannot be searched"))
        );
    }

    #[test]
    fn health_is_asked_for_once_and_not_of_virtual_disks() {
        let passed = r#"{"smart_status":{"passed":true}}"#;
        let run = Arc::new(FakeRun::default().prints("lsblk", LSBLK).prints("smartctl", passed));
        let seen = observe(&run, 2);
        assert_eq!(seen.disks[0].health.verdict, smart::Verdict::Passed);
        let asked: Vec<_> = run.asked().into_iter().filter(|asked| asked.starts_with("smartctl")).collect();
        assert_eq!(asked, ["smartctl --json=c --info --health --attributes /dev/sda"]);
    }
}
