//! PCI devices of the node in a domain's XML.
//!
//! Why here: `managed`, so that libvirt binds a device without a driver to vfio-pci and gives it back at the end; it raises QEMU's
//! limit of locked memory by itself (<https://libvirt.org/formatdomain.html#host-device-assignment>). Names as in KubeVirt. Route in: a [`Guest`].
//! Route out: lines of XML.

use super::escape;
use crate::vms::guest::Guest;
use crate::vms::host_devices::Role;
use std::fmt::{Error, Result, Write};

/// The devices.
pub(super) fn write(xml: &mut String, guest: &Guest) -> Result {
    for device in &guest.host_devices {
        let [domain, bus, slot, function] = parts(&device.address).ok_or(Error)?;
        let (name, address) = (
            escape(&device.name),
            format!("domain='0x{domain}' bus='0x{bus}' slot='0x{slot}' function='0x{function}'"),
        );
        let kind = match &device.role {
            Role::Device => "hostdevice",
            Role::Gpu => "gpu",
            Role::Interface { mac, vlan } => {
                write_function(xml, &name, &address, (mac, *vlan))?;
                continue;
            }
        };
        writeln!(xml, "    <hostdev mode='subsystem' type='pci' managed='yes'>\n      <source>")?;
        writeln!(xml, "        <address {address}/>\n      </source>")?;
        writeln!(xml, "      <alias name='ua-{kind}-{name}'/>\n    </hostdev>")?;
    }
    Ok(())
}

/// A virtual function: libvirt has its NIC give it the hardware address and the VLAN, which its guest then cannot change.
fn write_function(xml: &mut String, name: &str, address: &str, (mac, vlan): (&str, Option<u16>)) -> Result {
    writeln!(xml, "    <interface type='hostdev' managed='yes'>\n      <source>")?;
    writeln!(xml, "        <address type='pci' {address}/>\n      </source>")?;
    writeln!(xml, "      <mac address='{}'/>", escape(mac))?;
    if let Some(id) = vlan {
        writeln!(xml, "      <vlan>\n        <tag id='{id}'/>\n      </vlan>")?;
    }
    writeln!(xml, "      <alias name='ua-sriov-{name}'/>\n    </interface>")
}

/// Domain, bus, slot and function of `0000:01:00.0`.
fn parts(address: &str) -> Option<[&str; 4]> {
    let (domain, rest) = address.split_once(':')?;
    let (bus, rest) = rest.split_once(':')?;
    let (slot, function) = rest.split_once('.')?;
    Some([domain, bus, slot, function])
}
