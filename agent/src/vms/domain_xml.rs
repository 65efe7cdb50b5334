//! Renders a guest as libvirt domain XML.
//!
//! Why here: golden files under `tests/golden/` hold it, and it decides nothing: every choice is in [`Guest`]. Disks and NICs
//! are in here, the rest in [`machine`], [`cpus`] and [`peripherals`]; [`hotplug`] has disks that are added while the domain runs.
//! Route in: a guest, its folder, KVM or emulation. Route out: text for `DomainCreateXML`.

mod cpus;
mod host_devices;
mod hotplug;
mod machine;
mod peripherals;
mod size;

pub use hotplug::{
    HOTPLUG, HOTPLUG_NIC, free_target, render_attached, render_detached, render_medium, render_nic,
};

use super::guest::{Disk, Folder, Format, Guest, Hardware, Nic, Source};
use sheaf_api::devices::{Cache, DiskBus, InterfaceModel};
use sheaf_api::peripherals::InputBus;
use sheaf_host::libvirt::TAG_NAMESPACE;
use std::fmt::Write;

/// Who runs the guest's instructions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DomainType {
    /// The processor, by KVM.
    #[default]
    Kvm,
    /// QEMU's emulation: slow, for tests on machines without KVM; never chosen by itself.
    Qemu,
}

impl DomainType {
    /// KVM, unless `SHEAF_DOMAIN_TYPE=qemu` asks for emulation.
    pub fn from_environment() -> anyhow::Result<Self> {
        match std::env::var("SHEAF_DOMAIN_TYPE").as_deref() {
            Err(_) | Ok("kvm") => Ok(Self::Kvm),
            Ok("qemu") => Ok(Self::Qemu),
            Ok(other) => anyhow::bail!("SHEAF_DOMAIN_TYPE={other}: must be kvm or qemu"),
        }
    }
}

/// Tag of a domain: UID of its Pod.
pub const TAG_POD_UID: &str = "pod-uid";
/// Tag of a domain: name of its Pod.
pub const TAG_POD: &str = "pod";
/// Tag of a domain: its namespace.
pub const TAG_NAMESPACE_NAME: &str = "namespace";
/// Tag of a domain: name of its VMI.
pub const TAG_VMI: &str = "vmi";
/// Tag of a domain: UID of its VMI.
pub const TAG_VMI_UID: &str = "vmi-uid";
/// Tag of a domain: seconds from the power button to the end of QEMU.
pub const TAG_GRACE: &str = "grace-seconds";

/// Tag of a domain: priority of its Pod, by which VMs are stopped in order; absent is 0.
pub const TAG_PRIORITY: &str = "priority";

/// Tag of a domain: the node's processors that its VM has to itself, as a list; absent if it has none.
pub const TAG_CPUS: &str = "cpus";

/// Tag of a domain: addresses of the node's PCI devices that its VM has to itself; absent if it has none.
pub const TAG_DEVICES: &str = "devices";

/// Domain XML of `guest`.
pub fn render(guest: &Guest, folder: &Folder, domain_type: DomainType) -> String {
    let mut xml = String::with_capacity(4096);
    // Writing to a String cannot fail.
    let _ = write(&mut xml, guest, folder, domain_type);
    xml
}

fn write(xml: &mut String, guest: &Guest, folder: &Folder, domain_type: DomainType) -> std::fmt::Result {
    let kind = match domain_type {
        DomainType::Kvm => "kvm",
        DomainType::Qemu => "qemu",
    };
    writeln!(xml, "<domain type='{kind}'>")?;
    writeln!(xml, "  <name>{}</name>", escape(&guest.id.domain()))?;
    writeln!(xml, "  <uuid>{}</uuid>", escape(&guest.uuid))?;
    writeln!(
        xml,
        "  <metadata>\n    <sheaf:vm xmlns:sheaf='{TAG_NAMESPACE}'{}/>\n  </metadata>",
        tags(guest)
    )?;
    size::write_memory(xml, guest)?;
    machine::write_memory_backing(xml, guest)?;
    size::write_cpus(xml, guest)?;
    if guest.hardware.io_threads > 0 {
        writeln!(xml, "  <iothreads>{}</iothreads>", guest.hardware.io_threads)?;
    }
    cpus::write_tuning(xml, guest)?;
    machine::write_os(xml, guest, folder)?;
    machine::write_sysinfo(xml, guest)?;
    machine::write_features(xml, guest)?;
    machine::write_cpu(xml, guest)?;
    machine::write_clock(xml, guest)?;
    writeln!(xml, "  <on_poweroff>destroy</on_poweroff>\n  <on_reboot>restart</on_reboot>")?;
    writeln!(xml, "  <on_crash>destroy</on_crash>\n  <devices>")?;
    writeln!(xml, "    <emulator>/usr/bin/qemu-system-x86_64</emulator>")?;
    write_disks(xml, guest, folder)?;
    for nic in &guest.interfaces {
        write_nic(xml, &guest.hardware, nic, None)?;
    }
    size::write_device(xml, guest)?;
    host_devices::write(xml, guest)?;
    peripherals::write_peripherals(xml, guest, folder)?;
    writeln!(xml, "  </devices>\n</domain>")
}

fn tags(guest: &Guest) -> String {
    let (grace, priority) = (guest.grace_seconds.to_string(), guest.priority.to_string());
    let mut tags = vec![
        (TAG_POD_UID, &guest.id.pod_uid),
        (TAG_POD, &guest.id.pod),
        (TAG_NAMESPACE_NAME, &guest.id.namespace),
        (TAG_VMI, &guest.id.vmi),
        (TAG_VMI_UID, &guest.id.vmi_uid),
        (TAG_GRACE, &grace),
    ];
    if guest.priority != 0 {
        tags.push((TAG_PRIORITY, &priority));
    }
    let own = guest.placement.own().map(|cpus| cpus.to_string());
    tags.extend(own.as_ref().map(|own| (TAG_CPUS, own)));
    let devices: Vec<&str> = guest.host_devices.iter().map(|device| device.address.as_str()).collect();
    let devices = devices.join(" ");
    if !devices.is_empty() {
        tags.push((TAG_DEVICES, &devices));
    }
    tags.iter().map(|(name, value)| format!(" {name}='{}'", escape(value))).collect()
}

/// libvirt's model of a virtio device.
fn virtio(transitional: bool) -> &'static str {
    if transitional { "virtio-transitional" } else { "virtio" }
}

fn write_disks(xml: &mut String, guest: &Guest, folder: &Folder) -> std::fmt::Result {
    let mut counts = [0_u8; 2];
    for disk in &guest.disks {
        // virtio disks are vda, vdb, …; all others share the letters of sda, sdb, …
        let (prefix, count) = match disk.bus {
            DiskBus::Virtio => ("vd", &mut counts[0]),
            DiskBus::Sata | DiskBus::Scsi | DiskBus::Usb => ("sd", &mut counts[1]),
        };
        let target = format!("{prefix}{}", drive_letters(*count));
        *count += 1;
        write_disk(xml, &guest.hardware, disk, folder, &target)?;
    }
    let uses = |bus: DiskBus| guest.disks.iter().any(|disk| disk.bus == bus);
    if uses(DiskBus::Scsi) || guest.hardware.hotplug {
        let model = if guest.hardware.transitional { "virtio-transitional" } else { "virtio-scsi" };
        writeln!(xml, "    <controller type='scsi' index='0' model='{model}'/>")?;
    }
    let input = |bus: Option<InputBus>| bus.unwrap_or(InputBus::Usb) == InputBus::Usb;
    let has_usb = uses(DiskBus::Usb) || guest.hardware.inputs.iter().any(|one| input(one.bus));
    let usb = if has_usb { "qemu-xhci" } else { "none" };
    writeln!(xml, "    <controller type='usb' index='0' model='{usb}'/>")?;
    hotplug::write_ports(xml, guest, has_usb)
}

/// a … z, aa …
fn drive_letters(index: u8) -> String {
    let letter = |n: u8| char::from(b'a' + n % 26);
    if index < 26 { letter(index).into() } else { format!("{}{}", letter(index / 26 - 1), letter(index)) }
}

fn write_disk(
    xml: &mut String,
    hardware: &Hardware,
    disk: &Disk,
    folder: &Folder,
    target: &str,
) -> std::fmt::Result {
    let (path, format) = folder.disk(disk);
    let options = &disk.options;
    let device = if disk.cdrom { "cdrom" } else { "disk" };
    let bus = match disk.bus {
        DiskBus::Virtio => "virtio",
        DiskBus::Sata => "sata",
        DiskBus::Scsi => "scsi",
        DiskBus::Usb => "usb",
    };
    let cache = match disk.cache.unwrap_or(Cache::None) {
        Cache::None => "none",
        Cache::Writethrough => "writethrough",
        Cache::Writeback => "writeback",
    };
    let is_virtio = disk.bus == DiskBus::Virtio;
    let model = if is_virtio && hardware.transitional { " model='virtio-transitional'" } else { "" };
    let is_device = matches!(disk.source, Source::Device(_));
    let (kind, source, driver) = match is_device {
        true => ("block", "dev", "raw"),
        false => ("file", "file", format.name()),
    };
    // Past the page cache the kernel's own queue is the faster one.
    // A drive is the same with every medium and with none: libvirt changes nothing else of it.
    let is_written = is_device && !disk.cdrom;
    let io = options.io.map(|io| io.name()).or((is_written && cache == "none").then_some("native"));
    // A thin volume whose pool is full stops the guest where it stands, and it continues once there is space: told of
    // it, the guest's file system would give up.
    let policy = options.error_policy.map(|policy| policy.name()).or(is_written.then_some("enospace"));
    writeln!(xml, "    <disk type='{kind}' device='{device}'{model}>")?;
    write!(xml, "      <driver name='qemu' type='{driver}' cache='{cache}'")?;
    let number = |value: Option<u32>| value.filter(|_| is_virtio).map(|value| value.to_string());
    let (thread, queues) = (number(options.thread), number(hardware.disk_queues));
    let rest = [
        ("io", io),
        ("discard", Some("unmap")),
        ("error_policy", policy),
        ("iothread", thread.as_deref()),
        ("queues", queues.as_deref()),
    ];
    for (name, value) in rest {
        if let Some(value) = value {
            write!(xml, " {name}='{value}'")?;
        }
    }
    writeln!(xml, "/>")?;
    if !matches!(disk.source, Source::NoMedium { .. }) {
        writeln!(xml, "      <source {source}='{}'/>", escape(&path.to_string_lossy()))?;
        write_base(xml, disk, folder)?;
    }
    writeln!(xml, "      <target dev='{target}' bus='{bus}'/>")?;
    if let Some(blocks) = options.blocks {
        let discard =
            blocks.discard.map(|bytes| format!(" discard_granularity='{bytes}'")).unwrap_or_default();
        let (logical, physical) = (blocks.logical, blocks.physical);
        writeln!(
            xml,
            "      <blockio logical_block_size='{logical}' physical_block_size='{physical}'{discard}/>"
        )?;
    }
    if disk.cdrom || options.readonly || disk.source.is_image() {
        writeln!(xml, "      <readonly/>")?;
    }
    if let Some(serial) = &disk.serial {
        writeln!(xml, "      <serial>{}</serial>", escape(serial))?;
    }
    if let Some(order) = disk.boot_order {
        writeln!(xml, "      <boot order='{order}'/>")?;
    }
    writeln!(xml, "      <alias name='ua-{}'/>\n    </disk>", escape(&disk.name))
}

/// What is below an overlay. The chain ends there whatever the header of the base claims.
fn write_base(xml: &mut String, disk: &Disk, folder: &Folder) -> std::fmt::Result {
    let (kind, attribute, format) = match &disk.source {
        Source::DeviceOverlay { .. } => ("block", "dev", Format::Raw),
        Source::Overlay { format, .. } => ("file", "file", *format),
        _ => return writeln!(xml, "      <backingStore/>"),
    };
    let path = folder.base(disk).unwrap_or_default();
    writeln!(xml, "      <backingStore type='{kind}'>\n        <format type='{}'/>", format.name())?;
    write!(xml, "        <source {attribute}='{}'", escape(&path.to_string_lossy()))?;
    match &disk.source {
        // Everybody may read an image; a device belongs to QEMU while it is used.
        Source::Overlay { .. } => {
            writeln!(xml, ">\n          <seclabel model='dac' relabel='no'/>\n        </source>")?;
        }
        _ => writeln!(xml, "/>")?,
    }
    writeln!(xml, "        <backingStore/>\n      </backingStore>")
}

fn write_nic(xml: &mut String, hardware: &Hardware, nic: &Nic, alias: Option<&str>) -> std::fmt::Result {
    let model = match nic.model {
        InterfaceModel::Virtio => virtio(hardware.transitional),
        InterfaceModel::E1000 => "e1000",
        InterfaceModel::E1000e => "e1000e",
    };
    let port = &nic.port;
    writeln!(xml, "    <interface type='bridge'>\n      <mac address='{}'/>", escape(&port.mac))?;
    writeln!(xml, "      <source bridge='{}'/>", escape(&port.bridge))?;
    let ids = port.trunk.iter().flat_map(|range| range.first..=range.last);
    match port.vlan {
        Some(id) => writeln!(xml, "      <vlan>\n        <tag id='{id}'/>\n      </vlan>")?,
        None if port.trunk.is_empty() => {}
        None => {
            writeln!(xml, "      <vlan trunk='yes'>")?;
            for id in ids {
                writeln!(xml, "        <tag id='{id}'/>")?;
            }
            writeln!(xml, "      </vlan>")?;
        }
    }
    // A name that is ours: the filters know it before there is a tap.
    writeln!(xml, "      <target dev='{}'/>\n      <model type='{model}'/>", escape(&port.tap))?;
    if let Some(queues) = hardware.nic_queues
        && nic.model == InterfaceModel::Virtio
    {
        writeln!(xml, "      <driver queues='{queues}'/>")?;
    }
    if port.masquerade {
        // Its neighbours are other people's VMs; it talks to the node alone.
        writeln!(xml, "      <port isolated='yes'/>")?;
    }
    if nic.down {
        writeln!(xml, "      <link state='down'/>")?;
    }
    if let Some(alias) = alias {
        writeln!(xml, "      <alias name='ua-{}'/>", escape(alias))?;
    }
    writeln!(xml, "      <rom enabled='no'/>\n    </interface>")
}

/// Text for an attribute or an element.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '\'' => escaped.push_str("&apos;"),
            '"' => escaped.push_str("&quot;"),
            c => escaped.push(c),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_letters_of_drives_go_on_after_z() {
        assert_eq!((drive_letters(0), drive_letters(25)), ("a".into(), "z".into()));
        assert_eq!((drive_letters(26), drive_letters(31)), ("aa".into(), "af".into()));
    }

    #[test]
    fn text_cannot_break_out_of_an_attribute() {
        assert_eq!(escape("a'/><b c=\"&\""), "a&apos;/&gt;&lt;b c=&quot;&amp;&quot;");
    }
}
