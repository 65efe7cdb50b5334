//! What this machine has: disks, NICs, firmware, memory.
//!
//! Why here: the plan decides on this value alone, so what it decided can be shown, tested and reported.
//! Route in: [`sheaf_host`]'s probes. Route out: [`Inventory`]; `sheaf-installer inventory --json` prints it.

use sheaf_config::node::{Bus, Identity};
use sheaf_host::block::{self, Device};
use sheaf_host::efi::{EfiVars, Variables as _};
use sheaf_host::nic;
use sheaf_host::run::Run;
use std::path::Path;
use uuid::Uuid;

pub use sheaf_config::inventory::{Disk, Firmware, Inventory, Nic, Older, OlderPartition, Signature};

/// Devices that the installer itself reads from.
#[derive(Clone, Copy, Debug, Default)]
pub struct Reserved<'a> {
    /// The medium.
    pub medium: Option<&'a Path>,
    /// The drive the node config came from.
    pub config: Option<&'a Path>,
}

/// Looks at the machine whose tree is at `root`.
pub fn probe(run: &dyn Run, root: &Path, reserved: Reserved<'_>) -> anyhow::Result<Inventory> {
    let disks = disks(run, root, reserved, &|_| true)?;
    let nics = nic::wired(root)?.into_iter().map(|nic| Nic {
        path: nic.path,
        name: nic.name,
        permanent_mac: nic.permanent_mac,
        driver: nic.driver,
        carrier: nic.carrier,
    });
    let nics: Vec<_> = nics.collect();
    let uefi = root.join("sys/firmware/efi").exists();
    Ok(Inventory {
        firmware: if uefi { Firmware::Uefi } else { Firmware::Bios },
        secure_boot: secure_boot(root),
        memory: memory(&std::fs::read_to_string(root.join("proc/meminfo"))?),
        disks,
        machine: identity(root, nics.iter().filter_map(|nic| nic.permanent_mac.clone())),
        nics,
    })
}

/// The disks of the machine whose tree is at `root`, those that are `wanted`.
pub fn disks(
    run: &dyn Run,
    root: &Path,
    reserved: Reserved<'_>,
    wanted: &dyn Fn(&Device) -> bool,
) -> anyhow::Result<Vec<Disk>> {
    let links = block::links(root);
    let mut disks = Vec::new();
    for device in block::devices(run)?.iter().filter(|device| is_disk(device) && wanted(device)) {
        let found = block::signatures(run, device);
        let mut disk = describe(device, reserved);
        disk.sequence = disk.number.as_deref().and_then(|number| block::sequence(root, number));
        disk.links = links.get(&device.path).cloned().unwrap_or_default();
        match found {
            Ok(found) => disk.signatures = found.into_iter().map(|s| on_disk(device, s)).collect(),
            Err(error) => disk.unreadable = Some(error.to_string()),
        }
        disks.push(disk);
    }
    disks.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(disks)
}

/// What the firmware of the machine whose tree is at `root` says of it, and the MACs of its NICs.
pub fn identity(root: &Path, macs: impl Iterator<Item = String>) -> Identity {
    let dmi = |file: &str| {
        let text = std::fs::read_to_string(root.join("sys/class/dmi/id").join(file)).ok()?;
        Some(text.trim().to_owned()).filter(|text| !text.is_empty())
    };
    Identity {
        serial: dmi("product_serial"),
        uuid: dmi("product_uuid").map(|uuid| uuid.to_lowercase()),
        macs: macs.collect(),
    }
}

/// Disks that could hold an installation at all: not RAM disks, empty card readers, drives' boot areas, floppies.
fn is_disk(device: &Device) -> bool {
    let name = device.path.file_name().unwrap_or_default().to_string_lossy();
    let odd = name.starts_with("zram")
        || name.starts_with("ram")
        || name.starts_with("fd")
        || name.contains("boot");
    device.kind == "disk" && device.size > 0 && !odd
}

fn describe(device: &Device, reserved: Reserved<'_>) -> Disk {
    let holds = |path: Option<&Path>| path.is_some_and(|path| device.tree().iter().any(|d| d.path == path));
    let mut uses = device.uses();
    if holds(reserved.config) {
        uses.push("this installation's node.toml is on it".into());
    }
    let text =
        |text: &Option<String>| text.as_deref().map(str::trim).filter(|t| !t.is_empty()).map(String::from);
    Disk {
        path: device.path.clone(),
        links: Vec::new(),
        number: text(&device.number),
        sequence: None,
        serial: text(&device.serial),
        wwn: text(&device.wwn),
        model: text(&device.model),
        bus: bus(device),
        size: device.size,
        sector_size: device.sector_size,
        read_only: device.read_only,
        removable: device.removable,
        is_medium: holds(reserved.medium),
        uses,
        signatures: Vec::new(),
        unreadable: None,
        older: older(device),
    }
}

/// The installation of Sheaf whose table is on `device`: every partition's UUID is that of the disk with the
/// partition's number as its last byte, and no other system gives out UUIDs in that way.
fn older(device: &Device) -> Option<Older> {
    let id = Uuid::parse_str(device.ptuuid.as_deref()?).ok()?;
    let mut partitions = Vec::new();
    for child in device.children.iter().filter(|child| child.kind == "part") {
        let number = u8::try_from(child.partn?).ok()?;
        let uuid = Uuid::parse_str(child.partuuid.as_deref()?).ok()?;
        if uuid != with_number(id, number) {
            return None;
        }
        partitions.push(OlderPartition {
            number,
            name: child.partlabel.clone().unwrap_or_default(),
            kind: Uuid::parse_str(child.parttype.as_deref()?).ok()?,
            offset: child.start? * 512, // sysfs counts in 512 bytes on every disk
            size: child.size,
        });
    }
    partitions.sort_by_key(|partition| partition.number);
    let is_ours = with_number(id, 0) == id && partitions.len() > 1;
    is_ours.then_some(Older { id, partitions })
}

/// `id` with its last byte replaced by `number`: how an installation names its partitions.
pub fn with_number(id: Uuid, number: u8) -> Uuid {
    let mut bytes = *id.as_bytes();
    bytes[15] = number;
    Uuid::from_bytes(bytes)
}

fn bus(device: &Device) -> Option<Bus> {
    match device.transport.as_deref() {
        Some("nvme") => Some(Bus::Nvme),
        Some("sata" | "ata") => Some(Bus::Sata),
        Some("sas") => Some(Bus::Sas),
        Some("usb") => Some(Bus::Usb),
        Some("virtio") => Some(Bus::Virtio),
        _ => device.hctl.as_ref().map(|_| Bus::Scsi),
    }
}

/// A signature's place on its partition becomes its place on the disk.
fn on_disk(disk: &Device, signature: block::Signature) -> Signature {
    let part = disk.children.iter().find(|child| child.path == signature.device);
    let start = part.and_then(|part| part.start).unwrap_or(0) * 512; // sysfs counts in 512 bytes on every disk
    Signature { device: signature.device, offset: start + signature.offset, kind: signature.kind }
}

/// UEFI 2.11 §3.3: the variable is 1 while the firmware enforces signatures. One that cannot be read is as good as none.
fn secure_boot(root: &Path) -> bool {
    EfiVars::below(root).read("SecureBoot").ok().flatten().is_some_and(|value| value == [1])
}

/// Bytes of `MemTotal` in /proc/meminfo.
fn memory(meminfo: &str) -> u64 {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    kib.unwrap_or(0) * 1024
}

/// An inventory as people read it.
#[derive(Debug)]
pub struct Shown<'i>(pub &'i Inventory);

impl std::fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let firmware = match self.0.firmware {
            Firmware::Uefi => "UEFI",
            Firmware::Bios => "BIOS",
        };
        writeln!(f, "firmware {firmware}, memory {}", sheaf_host::human::binary(self.0.memory))?;
        let machine = &self.0.machine;
        let text = |text: &Option<String>| text.clone().unwrap_or_else(|| "unknown".into());
        writeln!(f, "machine serial {}, uuid {}", text(&machine.serial), text(&machine.uuid))?;
        for disk in &self.0.disks {
            writeln!(f, "disk {}  {}", disk.path.display(), sheaf_host::human::decimal(disk.size))?;
            writeln!(
                f,
                "  serial {}, wwn {}, model {}",
                text(&disk.serial),
                text(&disk.wwn),
                text(&disk.model)
            )?;
            for link in &disk.links {
                writeln!(f, "  also {}", link.display())?;
            }
            let notes = [
                (disk.is_medium, "the install medium"),
                (disk.read_only, "read-only"),
                (disk.removable, "removable"),
            ];
            for (_, note) in notes.iter().filter(|(holds, _)| *holds) {
                writeln!(f, "  is {note}")?;
            }
            for used in &disk.uses {
                writeln!(f, "  in use: {used}")?;
            }
            for found in &disk.signatures {
                writeln!(f, "  holds {} on {} (byte {})", found.kind, found.device.display(), found.offset)?;
            }
            if let Some(older) = &disk.older {
                writeln!(f, "  holds an older install of Sheaf ({})", older.id)?;
            }
            if let Some(error) = &disk.unreadable {
                writeln!(f, "  could not be searched: {error}")?;
            }
        }
        for nic in &self.0.nics {
            let [mac, path, driver] = [&nic.permanent_mac, &nic.path, &nic.driver].map(text);
            writeln!(f, "NIC {}  mac {mac}, path {path}, driver {driver}", nic.name)?;
        }
        Ok(())
    }
}
