//! Reads what is needed from a domain's XML: its name, UUID and our tags.
//!
//! Route in: text from libvirt. Route out: [`Described`].

use super::{AGENT_PORT, TAG_NAMESPACE};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// The part of a domain's description that we use.
#[derive(Debug, PartialEq, Eq)]
pub struct Described {
    pub name: String,
    pub uuid: String,
    pub tags: BTreeMap<String, String>,
    pub devices: BTreeMap<String, PathBuf>,
    pub bases: Vec<PathBuf>,
    pub agent: bool,
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
    let disks = child("devices").into_iter().flat_map(|node| node.children());
    let devices = disks.filter(|node| node.has_tag_name("disk")).filter_map(|disk| {
        let of = |element: &str, attribute: &str| {
            let element = disk.children().find(|node| node.has_tag_name(element))?;
            element.attribute(attribute).map(str::to_owned)
        };
        Some((of("target", "dev")?, PathBuf::from(of("source", "dev")?)))
    });
    let below = document.descendants().filter(|node| node.has_tag_name("backingStore"));
    let below = below.flat_map(|node| node.children()).filter(|node| node.has_tag_name("source"));
    let bases = below.filter_map(|source| source.attribute("dev")).map(PathBuf::from);
    let mut ports = document.descendants().filter(|node| node.has_tag_name("target"));
    // As libvirt says of a running domain; a definition that was not started has no state.
    let agent = ports.any(|port| {
        port.attribute("name") == Some(AGENT_PORT) && port.attribute("state") == Some("connected")
    });
    Ok(Described {
        name: text("name"),
        uuid: text("uuid"),
        tags: tags.collect(),
        devices: devices.collect(),
        bases: bases.collect(),
        agent,
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
