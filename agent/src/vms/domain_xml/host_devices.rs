//! PCI devices of the node in a domain's XML.
//!
//! Why here: `managed`, so that libvirt binds a device without a driver to vfio-pci and gives it back at the end; it raises QEMU's
//! limit of locked memory by itself (<https://libvirt.org/formatdomain.html#host-device-assignment>). Names as in KubeVirt. Route in: a [`Guest`].
//! Route out: lines of XML.

use super::escape;
use crate::vms::guest::Guest;
use std::fmt::{Error, Result, Write};

/// The devices.
pub(super) fn write(xml: &mut String, guest: &Guest) -> Result {
    for device in &guest.host_devices {
        let [domain, bus, slot, function] = parts(&device.address).ok_or(Error)?;
        let kind = if device.gpu { "gpu" } else { "hostdevice" };
        writeln!(xml, "    <hostdev mode='subsystem' type='pci' managed='yes'>\n      <source>")?;
        writeln!(
            xml,
            "        <address domain='0x{domain}' bus='0x{bus}' slot='0x{slot}' function='0x{function}'/>"
        )?;
        writeln!(
            xml,
            "      </source>\n      <alias name='ua-{kind}-{}'/>\n    </hostdev>",
            escape(&device.name)
        )?;
    }
    Ok(())
}

/// Domain, bus, slot and function of `0000:01:00.0`.
fn parts(address: &str) -> Option<[&str; 4]> {
    let (domain, rest) = address.split_once(':')?;
    let (bus, rest) = rest.split_once(':')?;
    let (slot, function) = rest.split_once('.')?;
    Some([domain, bus, slot, function])
}
