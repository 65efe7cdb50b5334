//! Whether the interfaces of a VM can be connected here, and to what; those that it starts with, and those that are added while it
//! runs.
//!
//! Pure. Route in: the annotation, in which the controller wrote what the networks mean, and the node's bridges.
//! Route out: [`Nic`]s with their ports, or what is in the way.

use super::hardware::is_word;
use super::{Check, invalid, reject, wait};
use crate::vms::facts::Facts;
use crate::vms::filters::Port;
use crate::vms::guest::Nic;
use crate::vms::host_devices::{Role, Wanted as Device};
use sha2::{Digest, Sha256};
use sheaf_api::attachment::NicAttachment;
use sheaf_api::devices::{Interface, InterfaceModel};
use sheaf_api::names::{MASQUERADE_BRIDGE, POD_NETWORK_BRIDGE};
use sheaf_api::network::Attachment;
use sheaf_api::placeholder::PlacedVmi;
use std::collections::BTreeSet;

/// Most interfaces of a VM: their number is one digit of a tap's name.
const MOST: usize = 16;

/// The interfaces, in the order of the spec; without `facts`, of a VM that runs: its bridges were there.
pub(super) fn nics(placed: &PlacedVmi, facts: Option<&Facts>) -> Check<Vec<Nic>> {
    let interfaces = &placed.spec.domain.devices.interfaces;
    if interfaces.len() > MOST {
        return Err(invalid(format!("{} interfaces; a VM has at most {MOST}", interfaces.len())));
    }
    let mut nics: Vec<Nic> = Vec::new();
    for (index, (interface, mac)) in interfaces.iter().zip(macs(placed)?).enumerate() {
        let name = &interface.name;
        if interface.sriov.is_some() {
            continue;
        }
        let attachment = attachment(placed, interface)?;
        facts.map_or(Ok(()), |facts| present(name, &attachment, facts))?;
        let port = Port {
            tap: crate::names::tap(&placed.uid, index),
            interface: name.clone(),
            bridge: attachment.bridge,
            mac,
            vlan: attachment.vlan,
            trunk: attachment.trunk,
            masquerade: interface.masquerade.is_some(),
            addresses: placed.addresses.get(name).cloned(),
        };
        nics.push(Nic { port, model: interface.model.unwrap_or(InterfaceModel::Virtio), down: false });
    }
    Ok(nics)
}

/// The interfaces that are virtual functions of NICs.
pub(super) fn functions(placed: &PlacedVmi) -> Check<Vec<Device>> {
    let interfaces = placed.spec.domain.devices.interfaces.iter().zip(macs(placed)?);
    let functions = interfaces.filter(|(interface, _)| interface.sriov.is_some()).map(|(interface, mac)| {
        let name = &interface.name;
        if interface.bridge.is_some() || interface.masquerade.is_some() {
            return Err(invalid(format!("interface {name}: sriov excludes bridge and masquerade")));
        }
        let function = placed.functions.get(name);
        let function =
            function.ok_or_else(|| invalid(format!("network {name}: the annotation does not resolve it")))?;
        match function.problem() {
            Some(problem) => Err(invalid(format!("network {name}: {problem}"))),
            None => Ok(Device {
                name: name.clone(),
                resource: function.resource_name.clone(),
                role: Role::Interface { mac, vlan: function.vlan },
            }),
        }
    });
    functions.collect()
}

/// The hardware addresses of the interfaces, in the order of the spec.
fn macs(placed: &PlacedVmi) -> Check<Vec<String>> {
    let mut macs: Vec<String> = Vec::new();
    for (index, interface) in placed.spec.domain.devices.interfaces.iter().enumerate() {
        let (name, mac) = (&interface.name, mac(interface, || derived_mac(&placed.uid, index))?);
        if macs.contains(&mac) {
            return Err(invalid(format!("interface {name}: another interface has macAddress {mac}")));
        }
        macs.push(mac);
    }
    Ok(macs)
}

/// The hardware address of an interface, `otherwise` if it names none.
fn mac(interface: &Interface, otherwise: impl FnOnce() -> String) -> Check<String> {
    let given = interface.mac_address.as_ref().map(|mac| mac.to_ascii_lowercase().replace('-', ":"));
    let mac = given.unwrap_or_else(otherwise);
    if is_unicast_mac(&mac) {
        return Ok(mac);
    }
    let name = &interface.name;
    Err(invalid(format!("interface {name}: macAddress {mac:?} is not a unicast hardware address")))
}

/// The NIC that `attachment` adds to the VM of VMI `vmi_uid`, as its interface number `index`; without `facts`, of a domain that has it.
pub fn added(attachment: &NicAttachment, vmi_uid: &str, index: usize, facts: Option<&Facts>) -> Check<Nic> {
    let NicAttachment { interface, network, addresses, .. } = attachment;
    let name = &interface.name;
    // The name becomes part of an alias.
    if !is_word(name) {
        return Err(invalid(format!("interface {name:?}: the name has more than letters, digits, - and _")));
    }
    if interface.bridge.is_none() || interface.masquerade.is_some() {
        return Err(invalid(format!("interface {name}: only an interface with bridge is added")));
    }
    if interface.model.is_some_and(|model| model != InterfaceModel::Virtio) {
        return Err(invalid(format!("interface {name}: only a NIC of the model virtio is added")));
    }
    if let Some(problem) = network.problem() {
        return Err(invalid(format!("network {name}: {problem}")));
    }
    if network.bridge == MASQUERADE_BRIDGE {
        return Err(invalid(format!("network {name}: {MASQUERADE_BRIDGE} is reserved by the node")));
    }
    facts.map_or(Ok(()), |facts| present(name, network, facts))?;
    let mac = mac(interface, String::new)?;
    let port = Port {
        tap: crate::names::tap(vmi_uid, index),
        interface: name.clone(),
        bridge: network.bridge.clone(),
        mac,
        vlan: network.vlan,
        trunk: network.trunk.clone(),
        masquerade: false,
        addresses: addresses.clone(),
    };
    Ok(Nic { port, model: InterfaceModel::Virtio, down: false })
}

/// The first number of an interface of VMI `vmi_uid` whose tap is not among `taken`; nothing when all are.
pub fn free_index<'a>(vmi_uid: &str, taken: impl Iterator<Item = &'a String>) -> Option<usize> {
    let taken: BTreeSet<&String> = taken.collect();
    (0..MOST).find(|index| !taken.contains(&crate::names::tap(vmi_uid, *index)))
}

/// What an interface is to be connected to.
fn attachment(placed: &PlacedVmi, interface: &Interface) -> Check<Attachment> {
    let name = &interface.name;
    let network = placed.spec.network(name);
    let network =
        network.ok_or_else(|| invalid(format!("interface {name}: there is no network of that name")))?;
    let is_masquerade = interface.masquerade.is_some();
    if is_masquerade && interface.bridge.is_some() {
        return Err(invalid(format!("interface {name}: bridge and masquerade exclude each other")));
    }
    match (&network.pod, &network.multus) {
        (Some(_), None) => {
            let bridge = if is_masquerade { MASQUERADE_BRIDGE } else { POD_NETWORK_BRIDGE };
            Ok(Attachment { bridge: bridge.into(), ..Attachment::default() })
        }
        (None, Some(_)) if is_masquerade => {
            Err(invalid(format!("interface {name}: masquerade needs a network of type pod")))
        }
        (None, Some(_)) => {
            let attachment = placed.attachments.get(name);
            let attachment = attachment
                .ok_or_else(|| invalid(format!("network {name}: the annotation does not resolve it")))?;
            match attachment.problem() {
                Some(problem) => Err(invalid(format!("network {name}: {problem}"))),
                None if attachment.bridge == MASQUERADE_BRIDGE => {
                    Err(invalid(format!("network {name}: {MASQUERADE_BRIDGE} is reserved by the node")))
                }
                None => Ok(attachment.clone()),
            }
        }
        _ => Err(invalid(format!("network {name}: exactly one of pod and multus is required"))),
    }
}

/// Whether the node has the bridge, such as it must be.
fn present(name: &str, attachment: &Attachment, facts: &Facts) -> Check<()> {
    let Attachment { bridge, .. } = attachment;
    if !facts.bridges.contains(bridge) {
        let why = format!("interface {name}: bridge {bridge} of this node");
        return Err(if facts.expected_bridges.contains(bridge) {
            wait("BridgeNotReady", format!("{why} is not up yet"))
        } else {
            reject("BridgeNotPresent", format!("{why} is not in its node.toml"))
        });
    }
    // Elsewhere the tags would be without effect, and the guest in the untagged network.
    if attachment.has_vlans() && !facts.vlan_bridges.contains(bridge) {
        return Err(reject(
            "BridgeNotVlanAware",
            format!(
                "interface {name}: bridge {bridge} of this node does not filter VLANs; make it vlan-aware"
            ),
        ));
    }
    Ok(())
}

/// A hardware address that is the VMI's own and the same at each try: locally administered, 40 bits of a hash.
pub(super) fn derived_mac(vmi_uid: &str, index: usize) -> String {
    let hash = Sha256::digest(format!("{vmi_uid}/{index}"));
    let tail: Vec<String> = hash[..5].iter().map(|byte| format!("{byte:02x}")).collect();
    format!("02:{}", tail.join(":"))
}

fn is_unicast_mac(text: &str) -> bool {
    let bytes: Vec<&str> = text.split(':').collect();
    let is_byte = |byte: &&str| byte.len() == 2 && byte.bytes().all(|digit| digit.is_ascii_hexdigit());
    let unicast = |byte: &str| u8::from_str_radix(byte, 16).is_ok_and(|byte| byte & 1 == 0);
    bytes.len() == 6 && bytes.iter().all(is_byte) && unicast(bytes[0]) && text != "00:00:00:00:00:00"
}
