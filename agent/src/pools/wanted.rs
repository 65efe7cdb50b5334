//! Which pools this node is to have, and of which devices. Pure.
//!
//! Why here: three sources speak of members and all must be heard before a device is taken out: `spec.devices` of
//! StoragePools, the role of BlockDevices, and `[[storage.pool]]` of node.toml; the boot disk's own partition is the pool
//! `default`. Route in: those, and the disks that were seen. Route out: [`Wanted`] pools; why a device is not taken is a
//! sentence.

use crate::channels::{Contents, Disk, Disks, PoolPartition};
use crate::disks::object_name;
use sheaf_api::names::DEFAULT_POOL;
use sheaf_api::storage::device::Role;
use sheaf_api::storage::pool::StoragePool;
use sheaf_config::inventory;
use sheaf_config::node::{Bus, DiskSelector, Storage};
use sheaf_config::select::mismatches;
use sheaf_host::smart::Verdict;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

/// A pool that is to be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Its members, each once.
    pub members: Vec<Member>,
    /// What node.toml asks for and cannot be: in sentences.
    pub problems: Vec<String>,
}

/// A device that is to be a member.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Member {
    /// Name of its BlockDevice.
    pub name: String,
    /// Identifier of its disk, by which the group remembers it.
    pub id: String,
    /// Where it is; none while it is missing.
    pub device: Option<PathBuf>,
    /// Why it may not be taken.
    pub refusal: Option<String>,
    /// Why it will not do much longer.
    pub failing: Option<String>,
}

/// Every pool of the node `node`, by name.
pub fn wanted(
    node: &str,
    disks: &Disks,
    storage: &Storage,
    objects: &BTreeMap<String, Arc<StoragePool>>,
) -> BTreeMap<String, Wanted> {
    let mut pools: BTreeMap<String, Wanted> = BTreeMap::new();
    for disk in &disks.seen.disks {
        if let Some(partition) = &disk.pool_partition {
            pools.entry(DEFAULT_POOL.into()).or_default().add(boot_partition(node, disk, partition));
        }
    }
    for pool in &storage.pools {
        let wanted = pools.entry(pool.name.clone()).or_default();
        for selector in &pool.disks {
            match select(selector, disks) {
                Ok(disk) => wanted.add(member(node, disk, disks, &pool.name)),
                Err(problem) => wanted.problems.push(problem),
            }
        }
    }
    for object in objects.values() {
        let wanted = pools.entry(object.spec.pool.clone()).or_default();
        for name in &object.spec.devices {
            wanted.add(named(node, name, disks, &object.spec.pool));
        }
    }
    for (name, settings) in &disks.settings {
        if let (Role::Pool, Some(pool)) = (settings.role, &settings.pool) {
            pools.entry(pool.clone()).or_default().add(named(node, name, disks, pool));
        }
    }
    pools
}

impl Wanted {
    fn add(&mut self, member: Member) {
        // The boot disk's partition is the member by its disk's name; the disk itself is none.
        if !self.members.iter().any(|known| known.name == member.name) {
            self.members.push(member);
        }
    }
}

/// The member of an object's name.
fn named(node: &str, name: &str, disks: &Disks, pool: &str) -> Member {
    match disks.seen.disks.iter().find(|disk| object_name(node, &disk.id) == name) {
        Some(disk) => member(node, disk, disks, pool),
        None => {
            let id = name.strip_prefix(node).and_then(|rest| rest.strip_prefix('.')).unwrap_or(name);
            let known = disks.settings.contains_key(name) || !disks.synced;
            let refusal = (!known).then(|| format!("there is no BlockDevice {name}"));
            Member { name: name.to_owned(), id: id.to_owned(), refusal, ..Member::default() }
        }
    }
}

fn member(node: &str, disk: &Disk, disks: &Disks, pool: &str) -> Member {
    let name = object_name(node, &disk.id);
    let settings = disks.settings.get(&name).cloned().unwrap_or_default();
    let elsewhere = match (&disk.contents, settings.role, &settings.pool) {
        (_, Role::Passthrough, _) => Some("its role is passthrough".to_owned()),
        (_, Role::Pool, Some(other)) if other != pool => Some(format!("it is assigned to pool {other}")),
        (Contents::Pool(other), ..) if other != pool => Some(format!("it belongs to pool {other}")),
        _ => None,
    };
    Member {
        id: disk.id.clone(),
        device: Some(disk.facts.device.clone()),
        refusal: elsewhere.or_else(|| disk.refusal()),
        failing: failing(disk),
        name,
    }
}

fn boot_partition(node: &str, disk: &Disk, partition: &PoolPartition) -> Member {
    let refusal = match &partition.contents {
        Contents::Foreign(what) => {
            Some(format!("it carries {what}, which this installation did not put there"))
        }
        Contents::Pool(other) if other != DEFAULT_POOL => Some(format!("it belongs to pool {other}")),
        _ => None,
    };
    Member {
        name: object_name(node, &disk.id),
        id: disk.id.clone(),
        device: Some(partition.device.clone()),
        refusal,
        failing: failing(disk),
    }
}

fn failing(disk: &Disk) -> Option<String> {
    let reason = disk.health.reason.clone().unwrap_or_else(|| "no reason given".into());
    (disk.health.verdict == Verdict::Failing).then_some(reason)
}

/// The one disk that `selector` picks.
fn select<'d>(selector: &DiskSelector, disks: &'d Disks) -> Result<&'d Disk, String> {
    let fits: Vec<&Disk> = disks
        .seen
        .disks
        .iter()
        .filter(|disk| mismatches(selector, &inventory_disk(disk)).is_empty())
        .collect();
    match fits[..] {
        [disk] => Ok(disk),
        [] => Err(format!("storage.pool of node.toml: no disk has {selector}")),
        _ => Err(format!(
            "storage.pool of node.toml: {} disks have {selector}; add what only one of them has",
            fits.len()
        )),
    }
}

/// The disk as selectors see it.
fn inventory_disk(disk: &Disk) -> inventory::Disk {
    let facts = &disk.facts;
    inventory::Disk {
        path: facts.device.clone(),
        number: None,
        sequence: None,
        links: disk.links.clone(),
        serial: facts.serial.clone(),
        wwn: facts.wwn.clone(),
        model: facts.model.clone(),
        bus: match facts.bus.as_deref() {
            Some("nvme") => Some(Bus::Nvme),
            Some("sata") => Some(Bus::Sata),
            Some("sas") => Some(Bus::Sas),
            Some("scsi") => Some(Bus::Scsi),
            Some("usb") => Some(Bus::Usb),
            Some("virtio") => Some(Bus::Virtio),
            _ => None,
        },
        size: facts.size,
        sector_size: facts.sector_size,
        read_only: facts.read_only,
        removable: disk.device.removable,
        is_medium: false,
        uses: disk.uses.clone(),
        signatures: Vec::new(),
        unreadable: disk.unreadable.clone(),
        older: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::channels::{Facts, Seen, Settings};
    use sheaf_api::storage::StoragePoolSpec;

    fn disk(serial: &str, device: &str, contents: Contents) -> Disk {
        Disk {
            id: format!("disk-{}", serial.to_lowercase()),
            facts: Facts { device: device.into(), serial: Some(serial.into()), ..Facts::default() },
            device: Default::default(),
            links: Vec::new(),
            contents,
            signatures: Vec::new(),
            unreadable: None,
            uses: Vec::new(),
            health: Default::default(),
            is_ambiguous: false,
            duplicate_serial: false,
            pool_partition: None,
        }
    }

    fn seen(disks: Vec<Disk>) -> Disks {
        Disks {
            observed: true,
            settings: disks.iter().map(|disk| (object_name("n1", &disk.id), Settings::default())).collect(),
            seen: Arc::new(Seen { disks, ..Seen::default() }),
            synced: true,
        }
    }

    fn objects(pool: &str, devices: &[&str]) -> BTreeMap<String, Arc<StoragePool>> {
        let spec = StoragePoolSpec {
            node_name: "n1".into(),
            pool: pool.into(),
            devices: devices.iter().map(|device| (*device).to_owned()).collect(),
            ..StoragePoolSpec::default()
        };
        let name = format!("{pool}.n1");
        BTreeMap::from([(name.clone(), Arc::new(StoragePool::new(&name, spec)))])
    }

    fn line(member: &Member) -> String {
        let device = member.device.as_ref().map_or("missing".into(), |device| device.display().to_string());
        format!("{} {device} {}", member.name, member.refusal.as_deref().unwrap_or("ok"))
    }

    #[test]
    fn the_boot_disks_partition_is_the_default_pool_and_the_disk_itself_is_no_member() {
        let mut boot = disk("ROOT", "/dev/vda", Contents::System);
        boot.pool_partition = Some(PoolPartition { device: "/dev/vda11".into(), contents: Contents::Empty });
        let pools = wanted(
            "n1",
            &seen(vec![boot.clone()]),
            &Storage::default(),
            &objects("default", &["n1.disk-root"]),
        );
        assert_eq!(
            pools["default"].members.iter().map(line).collect::<Vec<_>>(),
            ["n1.disk-root /dev/vda11 ok"]
        );
        boot.pool_partition =
            Some(PoolPartition { device: "/dev/vda11".into(), contents: Contents::Foreign("ext4".into()) });
        let pools = wanted("n1", &seen(vec![boot]), &Storage::default(), &BTreeMap::new());
        assert_eq!(
            pools["default"].members.iter().map(line).collect::<Vec<_>>(),
            ["n1.disk-root /dev/vda11 it carries ext4, which this installation did not put there"]
        );
    }

    #[test]
    fn members_come_from_objects_roles_and_node_toml_each_once() {
        let mut disks = seen(vec![
            disk("A", "/dev/sda", Contents::Empty),
            disk("B", "/dev/sdb", Contents::Empty),
            disk("C", "/dev/sdc", Contents::Empty),
        ]);
        disks.settings.insert("n1.disk-b".into(), Settings { role: Role::Pool, pool: Some("fast".into()) });
        let config = "version = 1\nsystem.hostname = \"n1\"\n[[storage.pool]]\nname = \"fast\"\ndisks = [{ serial = \"C\" }, { serial = \"A\" }, { serial = \"D\" }]\n";
        let storage = sheaf_config::load::parse_node_config("n", config).unwrap().storage;
        let pools = wanted("n1", &disks, &storage, &objects("fast", &["n1.disk-a", "n1.disk-x"]));
        assert_eq!(
            pools["fast"].members.iter().map(line).collect::<Vec<_>>(),
            [
                "n1.disk-c /dev/sdc ok",
                "n1.disk-a /dev/sda ok",
                "n1.disk-x missing there is no BlockDevice n1.disk-x",
                "n1.disk-b /dev/sdb ok"
            ]
        );
        assert_eq!(pools["fast"].problems, ["storage.pool of node.toml: no disk has serial = \"D\""]);
    }

    #[test]
    fn a_device_that_has_another_role_or_other_contents_is_refused_with_the_remedy() {
        let foreign = disk("A", "/dev/sda", Contents::Foreign("ext4 on /dev/sda".into()));
        let mut disks = seen(vec![
            foreign,
            disk("B", "/dev/sdb", Contents::Empty),
            disk("C", "/dev/sdc", Contents::Pool("slow".into())),
        ]);
        disks.settings.insert("n1.disk-b".into(), Settings { role: Role::Passthrough, pool: None });
        let pools = wanted(
            "n1",
            &disks,
            &Storage::default(),
            &objects("fast", &["n1.disk-a", "n1.disk-b", "n1.disk-c"]),
        );
        assert_eq!(
            pools["fast"].members.iter().map(line).collect::<Vec<_>>(),
            [
                "n1.disk-a /dev/sda it carries ext4 on /dev/sda; if that may be erased, set spec.wipe.confirmSerial of its \
                 BlockDevice to A",
                "n1.disk-b /dev/sdb its role is passthrough",
                "n1.disk-c /dev/sdc it belongs to pool slow"
            ]
        );
    }

    #[test]
    fn a_member_that_is_pulled_stays_wanted() {
        let mut disks = seen(vec![]);
        disks.settings.insert("n1.disk-a".into(), Settings::default());
        let pools = wanted("n1", &disks, &Storage::default(), &objects("fast", &["n1.disk-a"]));
        assert_eq!(
            pools["fast"].members[0],
            Member { name: "n1.disk-a".into(), id: "disk-a".into(), ..Member::default() }
        );
    }
}
