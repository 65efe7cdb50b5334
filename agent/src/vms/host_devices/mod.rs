//! PCI devices of the node that VMs have to themselves (`hostDevices`, `gpus`, interfaces with `sriov`).
//!
//! Why here: which devices may leave the node is an administrator's decision, in the ClusterConfig; what of them can is the
//! node's: the IOMMU must keep them apart, and the host must not use them ([`offer`]). Who has which is read from records and
//! domains ([`ledger`]). libvirt binds a device to vfio-pci, locks the guest's memory and gives the device back. Pure, but for
//! [`observe`]. Route in: ClusterConfig, sysfs, what VMs ask for. Route out: resources of the Node, addresses of each guest
//! ([`crate::vms::domain_xml`]).

mod ledger;
mod offer;

pub use ledger::{Ledger, own};
pub use offer::{Offer, Resource};

use sheaf_api::cluster_config::ClusterConfigSpec;
use sheaf_host::pci::PciReport;

/// What a device is to its VM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Role {
    /// One of `hostDevices`.
    Device,
    /// One of `gpus`.
    Gpu,
    /// An interface: a virtual function of a NIC.
    Interface {
        /// Its hardware address.
        mac: String,
        /// The VLAN that the NIC puts it into.
        vlan: Option<u16>,
    },
}

/// A device that a VM asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Its name in the spec.
    pub name: String,
    /// The resource that counts such devices.
    pub resource: String,
    /// What it is to the VM.
    pub role: Role,
}

/// A device that a VM has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostDevice {
    /// Its name in the spec.
    pub name: String,
    /// Where it is, `0000:01:00.0`.
    pub address: String,
    /// What it is to the VM.
    pub role: Role,
}

/// What this node has of the devices that `config` permits.
pub fn observe(config: &ClusterConfigSpec, host: &dyn PciReport) -> Offer {
    let permitted = config.pci_host_devices();
    if permitted.is_empty() {
        return Offer::default();
    }
    match host.devices() {
        Ok(devices) => Offer::of(permitted, &devices),
        Err(error) => Offer::unreadable(permitted, &format!("{:#}", anyhow::Error::from(error))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sheaf_api::cluster_config::{PciHostDevice, PermittedHostDevices};
    use sheaf_host::fakes::FakePci;
    use sheaf_host::pci::PciDevice;

    #[test]
    fn nothing_is_offered_unless_it_is_permitted_and_what_cannot_be_read_is_reported() {
        let host = FakePci::default();
        let device =
            PciDevice { address: "0000:01:00.0".into(), id: "10de:1eb8".into(), ..PciDevice::default() };
        host.set(vec![PciDevice { group: Some(1), ..device }]);
        assert_eq!(observe(&ClusterConfigSpec::default(), &host), Offer::default());
        let kind =
            PciHostDevice { pci_vendor_selector: "10DE:1EB8".into(), resource_name: "nvidia.com/T4".into() };
        let permitted = Some(PermittedHostDevices { pci_host_devices: vec![kind] });
        let config = ClusterConfigSpec { permitted_host_devices: permitted, ..ClusterConfigSpec::default() };
        assert_eq!(observe(&config, &host).resources["nvidia.com/T4"].usable.len(), 1);
        host.fails(true);
        let offer = observe(&config, &host);
        assert_eq!(offer.resources["nvidia.com/T4"], Resource::default());
        assert_eq!(offer.problems, ["bus/pci/devices: cannot be read: injected failure"]);
    }
}
