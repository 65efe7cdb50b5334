//! Reads what is needed from a domain's XML: its name, UUID and our tags.
//!
//! Route in: text from libvirt. Route out: [`Described`].

use super::{AGENT_PORT, Cpus, DomainNic, Pins, PluggedMemory, TAG_NAMESPACE, pins};
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

/// The part of a domain's description that we use.
#[derive(Debug, PartialEq, Eq)]
pub struct Described {
    pub name: String,
    pub uuid: String,
    pub tags: BTreeMap<String, String>,
    pub devices: BTreeMap<String, PathBuf>,
    pub readonly: BTreeSet<String>,
    pub bases: Vec<PathBuf>,
    pub aliases: BTreeMap<String, String>,
    pub nics: Vec<DomainNic>,
    pub agent: bool,
    pub cpus: Cpus,
    pub memory: Option<PluggedMemory>,
    pub pins: Pins,
}

/// What libvirt puts before aliases that are not its own.
const ALIAS: &str = "ua-";

/// The disk that `xml`, a `<disk>`, describes: its alias without [`ALIAS`], its target, and its device.
pub fn read_disk(xml: &str) -> Result<Option<(String, String, Option<PathBuf>)>, roxmltree::Error> {
    let document = roxmltree::Document::parse(xml)?;
    let disk = document.root_element();
    let named = of_child(disk, "alias", "name").and_then(|alias| alias.strip_prefix(ALIAS));
    let target = of_child(disk, "target", "dev");
    let device = of_child(disk, "source", "dev").map(PathBuf::from);
    Ok(named.zip(target).map(|(alias, target)| (alias.to_owned(), target.to_owned(), device)))
}

/// An attribute of an element of a device.
fn of_child<'a>(device: roxmltree::Node<'a, '_>, element: &str, attribute: &str) -> Option<&'a str> {
    device.children().find(|node| node.has_tag_name(element))?.attribute(attribute)
}

/// The NIC that an `<interface>` describes; nothing for one without tap or hardware address.
fn nic(interface: roxmltree::Node<'_, '_>) -> Option<DomainNic> {
    let alias = of_child(interface, "alias", "name").and_then(|alias| alias.strip_prefix(ALIAS));
    Some(DomainNic {
        alias: alias.map(str::to_owned),
        tap: of_child(interface, "target", "dev")?.to_owned(),
        mac: of_child(interface, "mac", "address")?.to_ascii_lowercase(),
        down: of_child(interface, "link", "state") == Some("down"),
    })
}

/// The NIC that `xml`, an `<interface>`, describes.
pub fn read_nic(xml: &str) -> Result<Option<DomainNic>, roxmltree::Error> {
    Ok(nic(roxmltree::Document::parse(xml)?.root_element()))
}

/// `<interface>`s of a domain.
fn interfaces<'a, 'input>(
    root: roxmltree::Node<'a, 'input>,
) -> impl Iterator<Item = roxmltree::Node<'a, 'input>> {
    let devices = root.children().find(|node| node.has_tag_name("devices"));
    let devices = devices.into_iter().flat_map(|devices| devices.children());
    devices.filter(|node| node.has_tag_name("interface"))
}

/// The element of the NIC with this tap of the domain `xml`; nothing if it has none.
pub fn nic_of(xml: &str, tap: &str) -> Result<Option<String>, roxmltree::Error> {
    let document = roxmltree::Document::parse(xml)?;
    let mut all = interfaces(document.root_element());
    let found = all.find(|interface| of_child(*interface, "target", "dev") == Some(tap));
    Ok(found.and_then(|interface| xml.get(interface.range())).map(str::to_owned))
}

/// The same, with its link down or up.
pub fn nic_with_link(xml: &str, tap: &str, down: bool) -> Result<Option<String>, roxmltree::Error> {
    let Some(element) = nic_of(xml, tap)? else { return Ok(None) };
    let document = roxmltree::Document::parse(&element)?;
    let interface = document.root_element();
    let link = format!("<link state='{}'/>", if down { "down" } else { "up" });
    let there = interface.children().find(|node| node.has_tag_name("link")).map(|node| node.range());
    // Where there is none, in front of the target, which there is: the NIC was found by it.
    let target = interface.children().find(|node| node.has_tag_name("target")).map(|node| node.range().start);
    let place = there.or_else(|| target.map(|start| start..start));
    let parts = place.and_then(|place| Some((element.get(..place.start)?, element.get(place.end..)?)));
    Ok(parts.map(|(before, after)| format!("{before}{link}{after}")))
}

/// The virtio-mem device of a domain.
fn memory_device<'a, 'input>(root: roxmltree::Node<'a, 'input>) -> Option<roxmltree::Node<'a, 'input>> {
    let mut devices = root.descendants().filter(|node| node.has_tag_name("memory"));
    devices.find(|device| device.attribute("model") == Some("virtio-mem"))
}

/// Bytes in an element with a unit: KiB where it has none, as libvirt writes it.
fn bytes(node: roxmltree::Node<'_, '_>) -> u64 {
    let number: u64 = node.text().and_then(|text| text.trim().parse().ok()).unwrap_or(0);
    let unit = match node.attribute("unit") {
        Some("b" | "bytes") => 1,
        _ => 1 << 10,
    };
    number.saturating_mul(unit)
}

/// The element of the virtio-mem device of the domain `xml`, which offers so many bytes; nothing if it has none.
pub fn offering(xml: &str, bytes: u64) -> Result<Option<String>, roxmltree::Error> {
    let document = roxmltree::Document::parse(xml)?;
    let Some(device) = memory_device(document.root_element()) else { return Ok(None) };
    let requested = device.descendants().find(|node| node.has_tag_name("requested"));
    let Some(requested) = requested.map(|node| node.range()) else { return Ok(None) };
    let (before, after) =
        (xml.get(device.range().start..requested.start), xml.get(requested.end..device.range().end));
    let offered = format!("<requested unit='b'>{bytes}</requested>");
    Ok(before.zip(after).map(|(before, after)| format!("{before}{offered}{after}")))
}

/// Reads a `<domain>`; a domain without our element has no tags.
pub fn read(xml: &str) -> Result<Described, roxmltree::Error> {
    let document = roxmltree::Document::parse(xml)?;
    let root = document.root_element();
    let child = |name: &str| root.children().find(|node| node.has_tag_name(name));
    let text = |name: &str| child(name).and_then(|node| node.text()).unwrap_or_default().to_owned();
    let mut metadata = child("metadata").into_iter().flat_map(|node| node.children());
    let ours = metadata.find(|node| node.tag_name().namespace() == Some(TAG_NAMESPACE));
    let attributes = ours.into_iter().flat_map(|node| node.attributes());
    let tags = attributes.map(|attribute| (attribute.name().to_owned(), attribute.value().to_owned()));
    let disks = || {
        let devices = child("devices").into_iter().flat_map(|node| node.children());
        devices.filter(|node| node.has_tag_name("disk"))
    };
    let devices = disks().filter_map(|disk| {
        Some((of_child(disk, "target", "dev")?.to_owned(), PathBuf::from(of_child(disk, "source", "dev")?)))
    });
    let is_readonly =
        |disk: &roxmltree::Node<'_, '_>| disk.children().any(|node| node.has_tag_name("readonly"));
    let readonly = disks().filter(is_readonly).filter_map(|disk| of_child(disk, "target", "dev"));
    let aliases = disks().filter_map(|disk| {
        let alias = of_child(disk, "alias", "name")?.strip_prefix(ALIAS)?;
        Some((alias.to_owned(), of_child(disk, "target", "dev")?.to_owned()))
    });
    let below = document.descendants().filter(|node| node.has_tag_name("backingStore"));
    let below = below.flat_map(|node| node.children()).filter(|node| node.has_tag_name("source"));
    let bases = below.filter_map(|source| source.attribute("dev")).map(PathBuf::from);
    let mut ports = document.descendants().filter(|node| node.has_tag_name("target"));
    // As libvirt says of a running domain; a definition that was not started has no state.
    let agent = ports.any(|port| {
        port.attribute("name") == Some(AGENT_PORT) && port.attribute("state") == Some("connected")
    });
    let most = text("vcpu").trim().parse().unwrap_or(0);
    let current = child("vcpu").and_then(|node| node.attribute("current")?.parse().ok());
    let memory = memory_device(root).map(|device| {
        let of = |name: &str| device.descendants().find(|node| node.has_tag_name(name)).map_or(0, bytes);
        PluggedMemory { size: of("size"), requested: of("requested"), current: of("current") }
    });
    Ok(Described {
        name: text("name"),
        uuid: text("uuid"),
        tags: tags.collect(),
        devices: devices.collect(),
        readonly: readonly.map(str::to_owned).collect(),
        bases: bases.collect(),
        aliases: aliases.collect(),
        nics: interfaces(root).filter_map(nic).collect(),
        agent,
        cpus: Cpus { current: current.unwrap_or(most), most },
        memory,
        pins: pins::read(root),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn name_and_tags_are_read_from_a_domain_of_ours() {
        let xml = "<domain type='kvm' id='1'><name>default_web</name><uuid>u1</uuid><metadata>\
                   <other:x xmlns:other='https://example.org' pod='no'/>\
                   <s:vm xmlns:s='https://sheaf.dev/xmlns/domain/1' pod='p1' name='a &amp; b'/></metadata></domain>";
        let described = read(xml).unwrap();
        assert_eq!((described.name.as_str(), described.uuid.as_str()), ("default_web", "u1"));
        let tags = [("pod".to_owned(), "p1".to_owned()), ("name".to_owned(), "a & b".to_owned())];
        assert_eq!(described.tags, tags.into());
    }

    #[test]
    fn block_devices_are_known_by_the_disk_they_are_and_files_are_none() {
        let xml = "<domain><devices><disk type='file'><source file='/a'/><target dev='vda' bus='virtio'/></disk>\
                   <disk type='block'><source dev='/dev/sheaf-default/pvc-1' index='1'/><target dev='vdb'/></disk>\
                   </devices></domain>";
        let device = ("vdb".to_owned(), PathBuf::from("/dev/sheaf-default/pvc-1"));
        assert_eq!(read(xml).unwrap().devices, [device].into());
    }

    #[test]
    fn a_disk_is_known_by_the_alias_that_it_was_given() {
        let xml =
            "<disk type='block'><source dev='/dev/a'/><target dev='sda'/><alias name='ua-data'/></disk>";
        let domain = format!(
            "<domain><devices>{xml}<disk><target dev='vda'/><alias name='virtio-disk0'/></disk></devices></domain>"
        );
        assert_eq!(read(&domain).unwrap().aliases, [("data".to_owned(), "sda".to_owned())].into());
        let disk = ("data".to_owned(), "sda".to_owned(), Some(PathBuf::from("/dev/a")));
        assert_eq!(read_disk(xml).unwrap(), Some(disk));
    }

    #[test]
    fn an_empty_drive_is_known_by_its_alias_and_is_read_only() {
        let xml = "<domain><devices><disk type='file' device='cdrom'><target dev='sda' bus='sata' tray='open'/><readonly/>\
                   <alias name='ua-cd'/></disk></devices></domain>";
        let described = read(xml).unwrap();
        assert_eq!(described.aliases, [("cd".to_owned(), "sda".to_owned())].into());
        assert_eq!((described.devices, described.readonly), (BTreeMap::new(), ["sda".to_owned()].into()));
    }

    #[test]
    fn processors_and_memory_that_can_be_plugged_are_read_and_offered_by_the_element_that_libvirt_wrote() {
        let device = |requested: &str| {
            format!(
                "<memory model='virtio-mem'>\n  <target>\n    <size unit='KiB'>3145728</size>\n    {requested}\n    \
                 <current unit='KiB'>2048</current>\n  </target>\n  <address type='pci' slot='0x01'/>\n</memory>"
            )
        };
        let xml = format!(
            "<domain><memory unit='KiB'>4194304</memory><vcpu placement='static' current='2'>8</vcpu><devices>{}</devices></domain>",
            device("<requested unit='KiB'>4096</requested>")
        );
        let described = read(&xml).unwrap();
        assert_eq!(described.cpus, Cpus { current: 2, most: 8 });
        let memory = PluggedMemory { size: 3 << 30, requested: 4 << 20, current: 2 << 20 };
        assert_eq!(described.memory, Some(memory));
        assert_eq!(
            offering(&xml, 1 << 30).unwrap(),
            Some(device("<requested unit='b'>1073741824</requested>"))
        );
        let plain = "<domain><vcpu placement='static'>4</vcpu></domain>";
        assert_eq!(read(plain).unwrap().cpus, Cpus { current: 4, most: 4 });
        assert_eq!((read(plain).unwrap().memory, offering(plain, 1).unwrap()), (None, None));
    }

    #[test]
    fn a_nic_is_known_by_its_tap_and_found_by_the_element_that_libvirt_wrote() {
        let cold = "<interface type='bridge'>\n  <mac address='02:00:00:00:00:0A'/>\n  <source bridge='br0'/>\n  \
                    <target dev='vm0n0'/>\n  <alias name='net0'/>\n</interface>";
        let hot = "<interface type='bridge'><mac address='02:00:00:00:00:0b'/><source bridge='br1'/><target dev='vm0n1'/>\
                   <link state='down'/><alias name='ua-hotplug_nic_lan'/></interface>";
        let xml = format!("<domain><devices>{cold}{hot}<interface type='user'/></devices></domain>");
        let nic = |alias: Option<&str>, tap: &str, mac: &str, down| DomainNic {
            alias: alias.map(str::to_owned),
            tap: tap.into(),
            mac: mac.into(),
            down,
        };
        let nics = [
            nic(None, "vm0n0", "02:00:00:00:00:0a", false),
            nic(Some("hotplug_nic_lan"), "vm0n1", "02:00:00:00:00:0b", true),
        ];
        assert_eq!(read(&xml).unwrap().nics, nics);
        assert_eq!(read_nic(hot).unwrap().as_ref(), Some(&nics[1]));
        assert_eq!(nic_of(&xml, "vm0n1").unwrap().as_deref(), Some(hot));
        let up = hot.replace("'down'", "'up'");
        assert_eq!(nic_with_link(&xml, "vm0n1", false).unwrap(), Some(up));
        let down = cold.replace("<target", "<link state='down'/><target");
        assert_eq!(nic_with_link(&xml, "vm0n0", true).unwrap(), Some(down));
        assert_eq!((nic_of(&xml, "vm0n2").unwrap(), nic_with_link(&xml, "", true).unwrap()), (None, None));
    }

    #[test]
    fn a_device_below_an_overlay_is_a_base_and_no_disk() {
        let xml = "<domain><devices><disk type='file'><source file='/a.qcow2'/><backingStore type='block'>\
                   <format type='raw'/><source dev='/dev/sheaf-default/pvc-1'/><backingStore/></backingStore>\
                   <target dev='vda'/></disk></devices></domain>";
        let described = read(xml).unwrap();
        assert_eq!(described.devices, BTreeMap::new());
        assert_eq!(described.bases, [PathBuf::from("/dev/sheaf-default/pvc-1")]);
    }

    #[test]
    fn an_agent_is_there_once_its_port_is_open() {
        let with = |state: &str| {
            let port = format!("<target type='virtio' name='org.qemu.guest_agent.0' state='{state}'/>");
            read(&format!(
                "<domain><name>x</name><devices><channel type='unix'>{port}</channel></devices></domain>"
            ))
        };
        assert!(with("connected").unwrap().agent);
        assert!(!with("disconnected").unwrap().agent);
    }

    #[test]
    fn a_domain_of_somebody_else_has_no_tags() {
        assert_eq!(read("<domain><name>x</name></domain>").unwrap().tags, BTreeMap::new());
    }
}
