//! Block devices of this machine: what they are, what is on them, who uses them.
//!
//! Why here: the facts come from programs (`lsblk`, `wipefs`, both with JSON) and from /dev/disk.
//! Route in: [`Run`] and the root of the machine's tree. Route out: a tree of [`Device`].

use crate::run::{Command, Run, RunError};
use serde::{Deserialize, Deserializer};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A disk that does not answer must not hold up the others forever.
const PROBE_DEADLINE: Duration = Duration::from_secs(60);

/// Why the machine's disks could not be looked at.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    /// A program failed.
    #[error(transparent)]
    Run(#[from] RunError),
    /// A program said what we do not understand.
    #[error("{program}: unexpected JSON")]
    Json {
        /// Which.
        program: &'static str,
        /// What was wrong with it.
        source: serde_json::Error,
    },
}

/// One block device as `lsblk --json -b -O` shows it; fields it leaves out are empty.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct Device {
    /// Node in /dev.
    pub path: PathBuf,
    /// `disk`, `part`, `rom`, `loop`, `lvm`, `crypt`, `raid1`, …
    #[serde(rename = "type")]
    pub kind: String,
    /// The kernel's number of it, `8:16`.
    #[serde(default, rename = "maj:min")]
    pub number: Option<String>,
    /// Length in bytes.
    #[serde(default, deserialize_with = "or_default")]
    pub size: u64,
    /// Logical sector size in bytes.
    #[serde(default, rename = "log-sec", deserialize_with = "or_default")]
    pub sector_size: u64,
    /// First byte on its disk in units of 512 bytes; partitions only.
    #[serde(default)]
    pub start: Option<u64>,
    /// The kernel refuses writes.
    #[serde(default, rename = "ro", deserialize_with = "or_default")]
    pub read_only: bool,
    /// The medium can be taken out.
    #[serde(default, rename = "rm", deserialize_with = "or_default")]
    pub removable: bool,
    /// Serial number.
    #[serde(default)]
    pub serial: Option<String>,
    /// World-wide name.
    #[serde(default)]
    pub wwn: Option<String>,
    /// Model name.
    #[serde(default)]
    pub model: Option<String>,
    /// Transport: `nvme`, `sata`, `usb`, `virtio`, …
    #[serde(default, rename = "tran")]
    pub transport: Option<String>,
    /// SCSI address; tells a SCSI disk without a known transport.
    #[serde(default)]
    pub hctl: Option<String>,
    /// UUID of its partition table; partitions show that of their disk.
    #[serde(default)]
    pub ptuuid: Option<String>,
    /// Number in the table; partitions only.
    #[serde(default)]
    pub partn: Option<u32>,
    /// UUID in the table; partitions only.
    #[serde(default)]
    pub partuuid: Option<String>,
    /// Name in the table; partitions only.
    #[serde(default)]
    pub partlabel: Option<String>,
    /// Type in the table; partitions only.
    #[serde(default)]
    pub parttype: Option<String>,
    /// File system or other content.
    #[serde(default)]
    pub fstype: Option<String>,
    /// Its label.
    #[serde(default)]
    pub label: Option<String>,
    /// Where it is mounted; `[SWAP]` when it is swapped to.
    #[serde(default)]
    pub mountpoints: Vec<Option<String>>,
    /// Partitions, and whatever was made of this device.
    #[serde(default)]
    pub children: Vec<Device>,
}

fn or_default<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(
    deserializer: D,
) -> Result<T, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

impl Device {
    /// Itself and everything below it, depth first.
    pub fn tree(&self) -> Vec<&Device> {
        let mut all = vec![self];
        all.extend(self.children.iter().flat_map(Device::tree));
        all
    }

    /// Who uses it or anything below it, in words.
    pub fn uses(&self) -> Vec<String> {
        let mut uses = Vec::new();
        for device in self.tree() {
            for place in device.mountpoints.iter().flatten() {
                let path = device.path.display();
                uses.push(match place.as_str() {
                    "[SWAP]" => format!("{path} is swapped to"),
                    place => format!("{path} is mounted at {place}"),
                });
            }
            let holders = device.children.iter().filter(|child| child.kind != "part");
            uses.extend(
                holders.map(|h| {
                    format!("{} belongs to {} ({})", device.path.display(), h.path.display(), h.kind)
                }),
            );
        }
        uses
    }
}

/// A mark by which some system would recognise content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signature {
    /// Disk or partition it is on.
    pub device: PathBuf,
    /// Its place there, in bytes.
    pub offset: u64,
    /// `gpt`, `ext4`, `LVM2_member`, …
    pub kind: String,
}

#[derive(Deserialize)]
struct Listing {
    blockdevices: Vec<Device>,
}

/// All block devices.
pub fn devices(run: &dyn Run) -> Result<Vec<Device>, ProbeError> {
    let output = run.run(&Command::new("lsblk").args(["--json", "-b", "-O"]).deadline(PROBE_DEADLINE))?;
    parse_devices(&output.stdout)
}

/// Reads `lsblk --json -b -O`.
pub fn parse_devices(json: &[u8]) -> Result<Vec<Device>, ProbeError> {
    let listing: Listing =
        serde_json::from_slice(json).map_err(|source| ProbeError::Json { program: "lsblk", source })?;
    Ok(listing.blockdevices)
}

/// Every signature on `disk` and its partitions, found by reading the disk itself.
pub fn signatures(run: &dyn Run, disk: &Device) -> Result<Vec<Signature>, ProbeError> {
    let parts = disk.children.iter().filter(|child| child.kind == "part");
    let command = Command::new("wipefs")
        .args(["--json", "--output", "DEVICE,OFFSET,TYPE"])
        .arg(&disk.path)
        .args(parts.map(|part| &part.path))
        .deadline(PROBE_DEADLINE);
    parse_signatures(&run.run(&command)?.stdout)
}

/// Reads `wipefs --json --output DEVICE,OFFSET,TYPE`; it prints nothing when there is nothing.
pub fn parse_signatures(json: &[u8]) -> Result<Vec<Signature>, ProbeError> {
    #[derive(Deserialize)]
    struct Found {
        signatures: Vec<Line>,
    }
    #[derive(Deserialize)]
    struct Line {
        device: String,
        offset: String,
        #[serde(rename = "type")]
        kind: String,
    }
    let fail = |source| ProbeError::Json { program: "wipefs", source };
    if json.trim_ascii().is_empty() {
        return Ok(Vec::new());
    }
    let found: Found = serde_json::from_slice(json).map_err(fail)?;
    let offset = |text: &str| {
        u64::from_str_radix(text.trim_start_matches("0x"), 16)
            .map_err(|error| fail(serde::de::Error::custom(format!("offset {text}: {error}"))))
    };
    let signature = |line: Line| {
        let device = Path::new("/dev").join(&line.device);
        Ok(Signature { device, offset: offset(&line.offset)?, kind: line.kind })
    };
    found.signatures.into_iter().map(signature).collect()
}

/// Stable names of device nodes: `/dev/disk/by-id` and `/dev/disk/by-path` under `root`, by what they lead to.
pub fn links(root: &Path) -> BTreeMap<PathBuf, Vec<PathBuf>> {
    let mut links: BTreeMap<PathBuf, Vec<PathBuf>> = BTreeMap::new();
    for folder in ["dev/disk/by-id", "dev/disk/by-path"] {
        // A machine without such links has no such folder.
        let Ok(entries) = std::fs::read_dir(root.join(folder)) else { continue };
        for entry in entries.flatten() {
            let Ok(target) = std::fs::read_link(entry.path()) else { continue };
            let Some(name) = target.file_name() else { continue };
            let link = Path::new("/").join(folder).join(entry.file_name());
            links.entry(Path::new("/dev").join(name)).or_default().push(link);
        }
    }
    links.values_mut().for_each(|links| links.sort());
    links
}

/// The place of the disk with the kernel's number `number` in the machine, `pci-0000:00:17.0-ata-1`: udev's `ID_PATH`.
pub fn place(root: &Path, number: &str) -> Option<String> {
    let known = std::fs::read_to_string(root.join("run/udev/data").join(format!("b{number}"))).ok()?;
    known.lines().find_map(|line| line.strip_prefix("E:ID_PATH=")).map(str::to_owned)
}

/// How many disks this boot of the kernel had seen when the one with the number `number` appeared (sysfs
/// `diskseq`, Linux 5.15): tells two disks apart that had the same number one after the other.
pub fn sequence(root: &Path, number: &str) -> Option<u64> {
    let text = std::fs::read_to_string(root.join("sys/dev/block").join(number).join("diskseq")).ok()?;
    text.trim().parse().ok()
}

/// Erases every mark on `disk` and its partitions, the partition table last, and tells the kernel.
pub fn wipe(run: &dyn Run, disk: &Device) -> Result<(), RunError> {
    let parts = disk.children.iter().filter(|child| child.kind == "part").map(|part| &part.path);
    for path in parts.chain([&disk.path]) {
        run.run(&Command::new("wipefs").args(["--all", "--quiet"]).arg(path).deadline(PROBE_DEADLINE))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signatures_are_read_with_their_places() {
        let json = br#"{ "signatures": [ {"device":"vda", "offset":"0x200", "type":"gpt"},
                                         {"device":"vda2", "offset":"0x1fe", "type":"vfat"} ] }"#;
        let found = parse_signatures(json).unwrap();
        assert_eq!(found.len(), 2);
        assert_eq!(found[1], Signature { device: "/dev/vda2".into(), offset: 0x1fe, kind: "vfat".into() });
    }

    #[test]
    fn nothing_printed_means_nothing_found() {
        assert_eq!(parse_signatures(b"\n").unwrap(), []);
    }

    #[test]
    fn uses_name_mounts_swap_and_holders_at_any_depth() {
        let json = br#"{"blockdevices": [ {"path":"/dev/sda", "type":"disk", "size":1000, "log-sec":512,
          "ro":false, "rm":false, "mountpoints":[null], "children": [
            {"path":"/dev/sda1", "type":"part", "start":2048, "mountpoints":["/boot"]},
            {"path":"/dev/sda2", "type":"part", "mountpoints":[null], "children": [
              {"path":"/dev/mapper/vg-swap", "type":"lvm", "mountpoints":["[SWAP]"]}]}]}]}"#;
        assert_eq!(
            parse_devices(json).unwrap()[0].uses(),
            [
                "/dev/sda1 is mounted at /boot",
                "/dev/sda2 belongs to /dev/mapper/vg-swap (lvm)",
                "/dev/mapper/vg-swap is swapped to"
            ]
        );
    }
}
