//! Disks and NICs that are added to a domain while it runs: the ports that it has for them from its start, and their XML.
//!
//! Why here: q35 takes a PCI device only on a root port that is free, and libvirt makes as many as the domain needs at its start.
//! A disk on scsi needs none: the controller is there. Nor does a medium: its drive is there. Route in: a [`Guest`]; a disk and the
//! name that it is to have. Route out: XML.

use super::{drive_letters, escape, size, write_disk, write_nic};
use crate::vms::guest::{Disk, Folder, Guest, Hardware, Nic};
use sheaf_api::devices::{DiskBus, InterfaceModel};
use sheaf_api::peripherals::InputBus;
use std::collections::BTreeSet;
use std::fmt::{Result, Write};
use std::path::{Path, PathBuf};

/// What the alias of such a disk has before the name of its volume, in which there is no underscore.
pub const HOTPLUG: &str = "hotplug_";

/// What the alias of such a NIC has before the name of its interface. No disk has it: there is no underscore in the name of a volume.
pub const HOTPLUG_NIC: &str = "hotplug_nic_";

/// Root ports that are free when the domain starts: each holds a disk on virtio or a NIC.
const FREE_PORTS: usize = 4;

/// Root ports for the devices that the domain starts with, and [`FREE_PORTS`] more.
pub(super) fn write_ports(xml: &mut String, guest: &Guest, has_usb: bool) -> Result {
    if !guest.hardware.hotplug || !guest.machine.contains("q35") {
        return Ok(());
    }
    // libvirt gives the first number to what is named first, and that must be the root.
    writeln!(xml, "    <controller type='pci' index='0' model='pcie-root'/>")?;
    for _ in 0..taken(guest, has_usb) + FREE_PORTS {
        writeln!(xml, "    <controller type='pci' model='pcie-root-port'/>")?;
    }
    Ok(())
}

/// Devices that libvirt puts on a root port of their own. All that are plain PCI share the port of one bridge.
fn taken(guest: &Guest, has_usb: bool) -> usize {
    let hardware = &guest.hardware;
    let disks = guest.disks.iter().filter(|disk| disk.bus == DiskBus::Virtio).count();
    let nics = |model| guest.interfaces.iter().filter(|nic| nic.model == model).count();
    let inputs = hardware.inputs.iter().filter(|input| input.bus == Some(InputBus::Virtio)).count();
    // The controllers of scsi and of serial ports, which every guest has.
    let virtio =
        disks + nics(InterfaceModel::Virtio) + usize::from(guest.rng) + usize::from(hardware.balloon) + 2;
    let plain = nics(InterfaceModel::E1000) > 0 || hardware.watchdog.is_some() || hardware.transitional;
    let express = if hardware.transitional { 0 } else { virtio };
    let memory = usize::from(size::has_device(guest));
    express + memory + inputs + nics(InterfaceModel::E1000e) + usize::from(has_usb) + usize::from(plain)
}

/// The first name on `bus` that no disk of the domain has; nothing when all are taken.
pub fn free_target<'a>(bus: DiskBus, taken: impl Iterator<Item = &'a String>) -> Option<String> {
    let taken: BTreeSet<&String> = taken.collect();
    let prefix = if bus == DiskBus::Virtio { "vd" } else { "sd" };
    (0..u8::MAX).map(|index| format!("{prefix}{}", drive_letters(index))).find(|name| !taken.contains(name))
}

/// XML of a disk that is added.
pub fn render_attached(disk: &Disk, target: &str) -> String {
    let named = Disk { name: format!("{HOTPLUG}{}", disk.name), ..disk.clone() };
    let mut xml = String::new();
    // Writing to a String cannot fail. Its file is a device, so the folder is not asked for.
    let _ = write_disk(&mut xml, &Hardware::default(), &named, &Folder(PathBuf::new()), target);
    xml
}

/// XML of a NIC that is added, with so many queues.
pub fn render_nic(nic: &Nic, queues: Option<u32>) -> String {
    let mut xml = String::new();
    let hardware = Hardware { nic_queues: queues, ..Hardware::default() };
    // Writing to a String cannot fail.
    let _ = write_nic(&mut xml, &hardware, nic, Some(&format!("{HOTPLUG_NIC}{}", nic.port.interface)));
    xml
}

/// XML of a CD-ROM drive with its medium, or without one, as it is in the domain.
pub fn render_medium(drive: &Disk, target: &str) -> String {
    let mut xml = String::new();
    // Writing to a String cannot fail. Its file is a device, so the folder is not asked for.
    let _ = write_disk(&mut xml, &Hardware::default(), drive, &Folder(PathBuf::new()), target);
    xml
}

/// XML by which libvirt finds the disk of `volume` that was added as `target`.
pub fn render_detached(volume: &str, target: &str, device: &Path) -> String {
    let bus = if target.starts_with("vd") { "virtio" } else { "scsi" };
    format!(
        "<disk type='block' device='disk'><source dev='{}'/><target dev='{target}' bus='{bus}'/>\
         <alias name='ua-{HOTPLUG}{}'/></disk>",
        escape(&device.to_string_lossy()),
        escape(volume)
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vms::filters::Port;
    use crate::vms::guest::{DiskOptions, Source};

    #[test]
    fn a_disk_gets_the_first_name_that_is_free_on_its_bus() {
        let taken = ["sda", "sdc", "vda"].map(str::to_owned);
        assert_eq!(free_target(DiskBus::Scsi, taken.iter()).as_deref(), Some("sdb"));
        assert_eq!(free_target(DiskBus::Virtio, taken.iter()).as_deref(), Some("vdb"));
    }

    #[test]
    fn a_drive_differs_with_and_without_a_medium_by_its_source_alone() {
        let drive = |source| Disk {
            name: "cd".into(),
            cdrom: true,
            bus: DiskBus::Sata,
            source,
            boot_order: Some(2),
            serial: None,
            cache: None,
            options: DiskOptions::default(),
        };
        let full = render_medium(&drive(Source::Device("/dev/sheaf-default/pvc-1".into())), "sda");
        let empty = render_medium(&drive(Source::NoMedium { awaited: false }), "sda");
        assert_eq!(
            empty,
            "    <disk type='file' device='cdrom'>\n      <driver name='qemu' type='raw' cache='none' discard='unmap'/>\n      \
             <target dev='sda' bus='sata'/>\n      <readonly/>\n      <boot order='2'/>\n      <alias name='ua-cd'/>\n    \
             </disk>\n"
        );
        let source = "      <source dev='/dev/sheaf-default/pvc-1'/>\n      <backingStore/>\n";
        assert_eq!(full.replace(source, "").replace("type='block'", "type='file'"), empty);
    }

    #[test]
    fn a_nic_that_is_added_is_known_by_its_tap_and_its_alias() {
        let port = Port {
            tap: "vm0b0e6d2c6an1".into(),
            interface: "lan".into(),
            bridge: "br1".into(),
            mac: "02:00:00:00:00:01".into(),
            vlan: Some(100),
            ..Port::default()
        };
        let nic = Nic { port, model: InterfaceModel::Virtio, down: true };
        assert_eq!(
            render_nic(&nic, Some(2)),
            "    <interface type='bridge'>\n      <mac address='02:00:00:00:00:01'/>\n      <source bridge='br1'/>\n      \
             <vlan>\n        <tag id='100'/>\n      </vlan>\n      <target dev='vm0b0e6d2c6an1'/>\n      \
             <model type='virtio'/>\n      <driver queues='2'/>\n      <link state='down'/>\n      \
             <alias name='ua-hotplug_nic_lan'/>\n      <rom enabled='no'/>\n    </interface>\n"
        );
    }

    #[test]
    fn what_is_added_and_what_is_removed_are_the_same_disk() {
        let disk = Disk {
            name: "data".into(),
            cdrom: false,
            bus: DiskBus::Scsi,
            source: Source::Device("/dev/sheaf-default/pvc-1".into()),
            boot_order: None,
            serial: Some("x".into()),
            cache: None,
            options: DiskOptions::default(),
        };
        let added = render_attached(&disk, "sda");
        for part in
            ["<target dev='sda' bus='scsi'/>", "<alias name='ua-hotplug_data'/>", "<serial>x</serial>"]
        {
            assert!(added.contains(part), "{added}");
        }
        let removed = render_detached("data", "sda", Path::new("/dev/sheaf-default/pvc-1"));
        for part in ["<target dev='sda' bus='scsi'/>", "<alias name='ua-hotplug_data'/>"] {
            assert!(removed.contains(part), "{removed}");
        }
    }
}
