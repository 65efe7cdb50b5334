//! Fills in what a VirtualMachineInstance leaves open.
//!
//! Route in: a spec as its user wrote it. Route out: the same spec with every default that the node would otherwise
//! have to guess ([`sheaf_api::placeholder::PlacedVmi`] says which).

use sha2::{Digest, Sha256};
use sheaf_api::Amount;
use sheaf_api::devices::{Bridge, Disk, DiskBus, DiskTarget, Interface, InterfaceModel};
use sheaf_api::domain::{Cpu, Firmware, Machine, Memory};
use sheaf_api::vmi::{Network, PodNetwork, VirtualMachineInstanceSpec};

/// Name of the interface and network of a VM that names none: KubeVirt's.
const DEFAULT_NETWORK: &str = "default";

/// What must be the same at every start: firmware UUID and hardware addresses, derived from the UID of the VM.
pub fn identity(spec: &mut VirtualMachineInstanceSpec, uid: &str) {
    let attach = spec.domain.devices.autoattach_pod_interface.unwrap_or(true);
    if attach && spec.domain.devices.interfaces.is_empty() && spec.networks.is_empty() {
        let name = DEFAULT_NETWORK.to_owned();
        spec.networks.push(Network { name: name.clone(), pod: Some(PodNetwork {}) });
        spec.domain.devices.interfaces.push(Interface {
            name,
            bridge: Some(Bridge {}),
            ..Interface::default()
        });
    }
    let firmware = spec.domain.firmware.get_or_insert_with(Firmware::default);
    firmware.uuid.get_or_insert_with(|| uuid(&digest(&["firmware", uid])));
    for interface in &mut spec.domain.devices.interfaces {
        let derived = || mac(&digest(&["interface", uid, &interface.name]));
        let address = interface.mac_address.clone().unwrap_or_else(derived);
        interface.mac_address = Some(address.to_lowercase().replace('-', ":"));
    }
}

/// Everything else.
pub fn hardware(spec: &mut VirtualMachineInstanceSpec) {
    let domain = &mut spec.domain;
    let cpu = domain.cpu.get_or_insert_with(Cpu::default);
    cpu.sockets.get_or_insert(1);
    cpu.cores.get_or_insert(1);
    cpu.threads.get_or_insert(1);
    cpu.model.get_or_insert_with(|| "host-model".into());
    let resources = domain.resources.clone().unwrap_or_default();
    let asked = |amounts: &std::collections::BTreeMap<String, Amount>| amounts.get("memory").cloned();
    let memory = domain.memory.get_or_insert_with(Memory::default);
    if memory.guest.is_none() {
        memory.guest = asked(&resources.requests).or_else(|| asked(&resources.limits));
    }
    domain.machine.get_or_insert_with(|| Machine { type_: "q35".into() });
    for disk in &mut domain.devices.disks {
        fill_disk(disk);
    }
    for interface in &mut domain.devices.interfaces {
        interface.model.get_or_insert(InterfaceModel::Virtio);
    }
}

fn fill_disk(disk: &mut Disk) {
    match &mut disk.cdrom {
        Some(drive) => drop(drive.bus.get_or_insert(DiskBus::Sata)),
        None => {
            let target = disk.disk.get_or_insert_with(DiskTarget::default);
            target.bus.get_or_insert(DiskBus::Virtio);
        }
    }
}

fn digest(parts: &[&str]) -> [u8; 32] {
    // The separator can not be in a part: UIDs and names hold no NUL.
    Sha256::digest(parts.join("\0")).into()
}

/// RFC 9562 version 8: a UUID of our own making.
fn uuid(digest: &[u8; 32]) -> String {
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&digest[..16]);
    bytes[6] = bytes[6] & 0x0f | 0x80;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}

/// A locally administered unicast address.
fn mac(digest: &[u8; 32]) -> String {
    let first = digest[0] & 0xfc | 0x02;
    let rest: String = digest[1..6].iter().map(|byte| format!(":{byte:02x}")).collect();
    format!("{first:02x}{rest}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn spec(value: serde_json::Value) -> VirtualMachineInstanceSpec {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn a_machine_without_interfaces_gets_one_on_the_nodes_bridge() {
        let mut spec = spec(json!({"domain": {"devices": {}}}));
        identity(&mut spec, "u-1");
        assert_eq!(spec.domain.devices.interfaces[0].name, "default");
        assert!(spec.network("default").unwrap().pod.is_some());
    }

    #[test]
    fn a_machine_that_wants_no_interface_gets_none() {
        let mut spec = spec(json!({"domain": {"devices": {"autoattachPodInterface": false}}}));
        identity(&mut spec, "u-1");
        assert!(spec.domain.devices.interfaces.is_empty());
    }

    #[test]
    fn derived_addresses_are_unicast_stable_and_differ_by_interface() {
        let mut one = spec(json!({"domain": {"devices": {"interfaces": [
            {"name": "a", "bridge": {}}, {"name": "b", "bridge": {}}, {"name": "c", "macAddress": "52-54-00-AA-BB-CC"}]}}}));
        let mut two = one.clone();
        identity(&mut one, "u-1");
        identity(&mut two, "u-1");
        assert_eq!(one, two);
        let macs: Vec<&str> =
            one.domain.devices.interfaces.iter().map(|i| i.mac_address.as_deref().unwrap()).collect();
        assert_ne!(macs[0], macs[1]);
        assert_eq!(u8::from_str_radix(&macs[0][..2], 16).unwrap() & 0b11, 0b10);
        assert_eq!(macs[2], "52:54:00:aa:bb:cc");
    }

    #[test]
    fn memory_may_come_from_the_request() {
        let mut spec =
            spec(json!({"domain": {"devices": {}, "resources": {"requests": {"memory": "64Mi"}}}}));
        hardware(&mut spec);
        assert_eq!(spec.domain.memory.unwrap().guest.unwrap().as_str(), "64Mi");
        assert_eq!(spec.domain.cpu.unwrap().count(), 1);
    }
}
