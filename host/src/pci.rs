//! PCI devices of the machine: what they are, who uses them, and how the IOMMU keeps them apart.
//!
//! Why here: sysfs is the machine's. VMs that have a device of the node to themselves are given it by what is found. Reads only:
//! libvirt binds a device to vfio-pci and gives it back. Route in: `/sys/bus/pci/devices` (Documentation/ABI/testing/sysfs-bus-pci of
//! Linux; IOMMU groups: Documentation/driver-api/vfio.rst). Route out: [`PciDevice`]s, read again at each call.

use std::io;
use std::path::{Path, PathBuf};

/// One function of a device.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PciDevice {
    /// Domain, bus, slot and function, `0000:01:00.0`.
    pub address: String,
    /// Vendor and device, `10de:1eb8`, in lower case.
    pub id: String,
    /// Its class: base class, subclass, interface, a byte each.
    pub class: u32,
    /// The driver that has it.
    pub driver: Option<String>,
    /// Its IOMMU group; none on a machine whose IOMMU is absent or off.
    pub group: Option<u32>,
}

impl PciDevice {
    /// Whether it leads to other devices. It keeps its driver when a VM has what is behind it.
    pub fn is_bridge(&self) -> bool {
        const BRIDGE: u32 = 0x06;
        self.class >> 16 == BRIDGE
    }
}

/// The devices cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("{}: cannot be read", path.display())]
pub struct PciError {
    path: PathBuf,
    source: io::Error,
}

impl PciError {
    /// `path` cannot be read because of `source`.
    pub fn new(path: &Path, source: io::Error) -> Self {
        Self { path: path.to_owned(), source }
    }
}

/// A machine that has devices: [`Sysfs`], or [`crate::fakes::FakePci`] in tests.
pub trait PciReport: Send + Sync {
    /// All of them, by address.
    fn devices(&self) -> Result<Vec<PciDevice>, PciError>;
}

/// The running kernel.
#[derive(Clone, Debug)]
pub struct Sysfs {
    root: PathBuf,
}

impl Default for Sysfs {
    fn default() -> Self {
        Self::at("/sys")
    }
}

impl Sysfs {
    /// sysfs that is mounted at `root`.
    pub fn at(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }
}

impl PciReport for Sysfs {
    fn devices(&self) -> Result<Vec<PciDevice>, PciError> {
        let folder = self.root.join("bus/pci/devices");
        let failed = |source| PciError::new(&folder, source);
        let entries = match std::fs::read_dir(&folder) {
            // A machine without a PCI bus.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.map_err(failed)?,
        };
        let mut devices = Vec::new();
        for entry in entries {
            let path = entry.map_err(failed)?.path();
            // One that is unplugged while it is read is none.
            devices.extend(device(&path).ok().flatten());
        }
        devices.sort_by(|a, b| a.address.cmp(&b.address));
        Ok(devices)
    }
}

fn device(path: &Path) -> io::Result<Option<PciDevice>> {
    let number = |name: &str| -> io::Result<Option<u32>> {
        let text = std::fs::read_to_string(path.join(name))?;
        Ok(u32::from_str_radix(text.trim().trim_start_matches("0x"), 16).ok())
    };
    let (Some(vendor), Some(device), Some(class)) = (number("vendor")?, number("device")?, number("class")?)
    else {
        return Ok(None);
    };
    let link = |name: &str| {
        let target = std::fs::read_link(path.join(name)).ok()?;
        Some(target.file_name()?.to_string_lossy().into_owned())
    };
    let Some(address) = path.file_name() else { return Ok(None) };
    Ok(Some(PciDevice {
        address: address.to_string_lossy().into_owned(),
        id: format!("{vendor:04x}:{device:04x}"),
        class,
        driver: link("driver"),
        group: link("iommu_group").and_then(|group| group.parse().ok()),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn a_device_is_known_with_its_ids_class_driver_and_group() {
        let root = std::env::temp_dir().join(format!("sheaf-pci-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&root);
        assert_eq!(Sysfs::at(&root).devices().unwrap(), []);
        let put = |address: &str, files: [(&str, &str); 3]| {
            let folder = root.join("bus/pci/devices").join(address);
            std::fs::create_dir_all(&folder).unwrap();
            for (name, text) in files {
                std::fs::write(folder.join(name), text).unwrap();
            }
            folder
        };
        let gpu =
            put("0000:01:00.0", [("vendor", "0x10de\n"), ("device", "0x1eb8\n"), ("class", "0x030200\n")]);
        symlink("../../../bus/pci/drivers/vfio-pci", gpu.join("driver")).unwrap();
        symlink("../../../kernel/iommu_groups/7", gpu.join("iommu_group")).unwrap();
        put("0000:00:01.0", [("vendor", "0x8086\n"), ("device", "0x0901\n"), ("class", "0x060400\n")]);
        put("0000:00:02.0", [("vendor", "odd\n"), ("device", "0x0901\n"), ("class", "0x060400\n")]);
        let devices = Sysfs::at(&root).devices().unwrap();
        let expected = PciDevice {
            address: "0000:01:00.0".into(),
            id: "10de:1eb8".into(),
            class: 0x03_02_00,
            driver: Some("vfio-pci".into()),
            group: Some(7),
        };
        assert_eq!((devices.len(), &devices[1]), (2, &expected));
        assert!(devices[0].is_bridge() && !devices[1].is_bridge());
        assert_eq!((&devices[0].driver, devices[0].group), (&None, None));
        std::fs::remove_dir_all(root).unwrap();
    }
}
