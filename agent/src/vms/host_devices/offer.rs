//! What a node offers of the devices that an administrator permits.
//!
//! Why here: pure, and the rule that protects the host. A device is offered if the IOMMU isolates it, and no device of its
//! group has a driver of the host: the kernel hands a group out as a whole (Documentation/driver-api/vfio.rst). One without any
//! driver is free; bridges do not count. Route in: selectors of the ClusterConfig, devices. Route out: [`Offer`].

use sheaf_api::cluster_config::PciHostDevice;
use sheaf_host::pci::PciDevice;
use std::collections::BTreeMap;

/// Drivers that keep a device for a VM.
const FOR_VMS: [&str; 2] = ["vfio-pci", "pci-stub"];

/// What is missing on a node without an IOMMU.
const NO_IOMMU: &str = "this node has no IOMMU: enable VT-d or AMD-Vi in its firmware, and on Intel the kernel argument \
                        intel_iommu=on";

/// What a node offers, by resource.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Offer {
    /// The resources that are permitted.
    pub resources: BTreeMap<String, Resource>,
    /// Why some are not offered, a sentence for each device.
    pub problems: Vec<String>,
}

/// Devices of one resource.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resource {
    /// Those that are there.
    pub count: u64,
    /// Those that a VM can have, by address, each with its IOMMU group.
    pub usable: BTreeMap<String, u32>,
}

impl Offer {
    /// What of `devices` is `permitted` and can be had.
    pub fn of(permitted: &[PciHostDevice], devices: &[PciDevice]) -> Self {
        let mut offer = Self::default();
        for PciHostDevice { pci_vendor_selector, resource_name } in permitted {
            let resource = offer.resources.entry(resource_name.clone()).or_default();
            for device in devices.iter().filter(|device| device.id.eq_ignore_ascii_case(pci_vendor_selector))
            {
                resource.count = resource.count.saturating_add(1);
                match usable(device, devices) {
                    Ok(group) => drop(resource.usable.insert(device.address.clone(), group)),
                    Err(why) => offer.problems.push(format!("{} ({resource_name}): {why}", device.address)),
                }
            }
        }
        offer
    }

    /// What a node offers whose devices cannot be read, because of `why`.
    pub fn unreadable(permitted: &[PciHostDevice], why: &str) -> Self {
        let resources =
            permitted.iter().map(|one| (one.resource_name.clone(), Resource::default())).collect();
        Self { resources, problems: vec![why.to_owned()] }
    }
}

/// The group of a device that a VM can have, or why none can.
fn usable(device: &PciDevice, all: &[PciDevice]) -> Result<u32, String> {
    let Some(group) = device.group else { return Err(NO_IOMMU.to_owned()) };
    let members = all.iter().filter(|one| one.group == Some(group) && !one.is_bridge());
    let of_host = members.filter_map(|one| {
        let driver = one.driver.as_deref().filter(|driver| !FOR_VMS.contains(driver))?;
        Some(format!("{} has the driver {driver}", one.address))
    });
    let of_host: Vec<String> = of_host.collect();
    match of_host.is_empty() {
        true => Ok(group),
        false => Err(format!(
            "the host uses its IOMMU group {group}: {}; bind every device of the group to vfio-pci (kernel argument \
             vfio-pci.ids=)",
            of_host.join(", ")
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device(address: &str, id: &str, driver: Option<&str>, group: Option<u32>) -> PciDevice {
        let driver = driver.map(str::to_owned);
        PciDevice { address: address.into(), id: id.into(), class: 0x03_00_00, driver, group }
    }

    fn permitted() -> Vec<PciHostDevice> {
        let one = |selector: &str, resource: &str| PciHostDevice {
            pci_vendor_selector: selector.into(),
            resource_name: resource.into(),
        };
        vec![one("10DE:1EB8", "nvidia.com/T4"), one("8086:1572", "intel.com/x710")]
    }

    fn offered(devices: &[PciDevice]) -> (u64, Vec<String>, Vec<String>) {
        let offer = Offer::of(&permitted(), devices);
        let resource = &offer.resources["nvidia.com/T4"];
        (resource.count, resource.usable.keys().cloned().collect(), offer.problems)
    }

    #[test]
    fn a_device_that_is_bound_to_vfio_or_to_nothing_is_offered() {
        let bridge =
            PciDevice { class: 0x06_04_00, ..device("0000:00:01.0", "8086:0901", Some("pcieport"), Some(1)) };
        let devices = [
            bridge,
            device("0000:01:00.0", "10de:1eb8", Some("vfio-pci"), Some(1)),
            device("0000:01:00.1", "10de:0001", None, Some(1)),
            device("0000:02:00.0", "10de:1eb8", None, Some(2)),
        ];
        assert_eq!(offered(&devices), (2, vec!["0000:01:00.0".into(), "0000:02:00.0".into()], Vec::new()));
    }

    #[test]
    fn a_group_that_the_host_uses_is_refused_with_its_members() {
        let devices = [
            device("0000:01:00.0", "10de:1eb8", Some("vfio-pci"), Some(7)),
            device("0000:01:00.1", "10de:0001", Some("snd_hda_intel"), Some(7)),
            device("0000:01:00.2", "10de:0002", Some("xhci_hcd"), Some(7)),
        ];
        let why = "0000:01:00.0 (nvidia.com/T4): the host uses its IOMMU group 7: 0000:01:00.1 has the driver snd_hda_intel, \
                   0000:01:00.2 has the driver xhci_hcd; bind every device of the group to vfio-pci (kernel argument vfio-pci.ids=)";
        assert_eq!(offered(&devices), (1, Vec::new(), vec![why.to_owned()]));
    }

    #[test]
    fn a_node_without_an_iommu_says_so() {
        let why = "0000:01:00.0 (nvidia.com/T4): this node has no IOMMU: enable VT-d or AMD-Vi in its firmware, and on Intel the \
                   kernel argument intel_iommu=on";
        let device = device("0000:01:00.0", "10de:1eb8", Some("vfio-pci"), None);
        assert_eq!(offered(&[device]), (1, Vec::new(), vec![why.to_owned()]));
    }

    #[test]
    fn what_is_permitted_and_not_there_is_a_resource_of_none() {
        let offer = Offer::of(&permitted(), &[]);
        assert_eq!(offer.resources["intel.com/x710"], Resource::default());
        let offer = Offer::unreadable(&permitted(), "it cannot be read");
        assert_eq!((offer.resources.len(), offer.problems), (2, vec!["it cannot be read".to_owned()]));
    }
}
