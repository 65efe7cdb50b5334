//! Fills in every default of an instance's spec, so that the node has nothing left to decide.
//!
//! Why here: a default that is chosen once, where the instance is made, is the same on every node and at every
//! start; UUID and MAC addresses come from the VM's UID. Route in: the spec as written, and that UID.
//! Route out: the spec of the instance and of the Pod's annotation. Resolving twice changes nothing.

mod hyperv;

use sheaf_api::{
    devices::{CdromTarget, Disk, DiskBus, DiskTarget, Interface, InterfaceModel, Masquerade},
    domain::{Cpu, Machine},
    peripherals::{Input, InputBus, InputType},
    vmi::{Network, PodNetwork, VirtualMachineInstanceSpec},
};
use uuid::Uuid;

/// CPU model of a VM that does not name one.
const CPU_MODEL: &str = "host-model";
/// Machine type of a VM that does not name one.
const MACHINE_TYPE: &str = "q35";
/// Name of the interface and network of a VM that lists none: KubeVirt's, as is its binding, `masquerade`. A guest on the
/// bridge of the nodes is a neighbour of the nodes, and is there only by an explicit `bridge`.
const DEFAULT_NETWORK: &str = "default";
/// Name of the tablet of a VM that asks for an input device and lists none: KubeVirt's.
const DEFAULT_INPUT: &str = "default-0";
/// Seconds from power button to power switch: a server with services to stop takes a minute or two.
const GRACE_PERIOD_SECONDS: i64 = 180;

/// The spec with every default filled in; `uid` is the VM's, or the instance's if there is no VM.
pub fn resolve(spec: &VirtualMachineInstanceSpec, uid: &str) -> VirtualMachineInstanceSpec {
    let mut spec = spec.clone();
    cpu_and_memory(&mut spec);
    let firmware = spec.domain.firmware.get_or_insert_default();
    firmware.uuid.get_or_insert_with(|| derived(&format!("firmware/{uid}")).to_string());
    spec.domain.machine.get_or_insert_with(|| Machine { type_: MACHINE_TYPE.into() });
    disks_of_volumes(&mut spec);
    for disk in &mut spec.domain.devices.disks {
        match (&mut disk.disk, &mut disk.cdrom) {
            (_, Some(CdromTarget { bus, .. })) => drop(bus.get_or_insert(DiskBus::Sata)),
            (Some(DiskTarget { bus, .. }), None) => drop(bus.get_or_insert(DiskBus::Virtio)),
            (None, None) => disk.disk = Some(DiskTarget { bus: Some(DiskBus::Virtio), readonly: None }),
        }
    }
    interfaces(&mut spec, uid);
    inputs(&mut spec);
    hyperv::complete(&mut spec.domain);
    spec.termination_grace_period_seconds.get_or_insert(GRACE_PERIOD_SECONDS);
    spec
}

/// As in KubeVirt: a volume that no disk shows to the guest is shown by a disk of its name; answers of Windows Setup by a
/// CD-ROM.
fn disks_of_volumes(spec: &mut VirtualMachineInstanceSpec) {
    let disks = &mut spec.domain.devices.disks;
    for volume in &spec.volumes {
        if disks.iter().all(|disk| disk.name != volume.name) {
            disks.push(Disk { name: volume.name.clone(), ..Disk::default() });
        }
        // Windows Setup looks for its answers on drives for which it has a driver.
        let of_setup = disks.iter_mut().filter(|disk| volume.sysprep.is_some() && disk.name == volume.name);
        for disk in of_setup.filter(|disk| disk.disk.is_none()) {
            disk.cdrom.get_or_insert_default();
        }
    }
}

fn cpu_and_memory(spec: &mut VirtualMachineInstanceSpec) {
    let resources = spec.domain.resources.clone().unwrap_or_default();
    let asked = |name: &str| resources.limits.get(name).or_else(|| resources.requests.get(name));
    let topology = spec.domain.cpu.as_ref();
    let has_topology =
        topology.is_some_and(|cpu| cpu.cores.is_some() || cpu.sockets.is_some() || cpu.threads.is_some());
    let cpu = spec.domain.cpu.get_or_insert_with(Cpu::default);
    if !has_topology {
        // As in KubeVirt: a VM that only says how much CPU it wants has that many, rounded up.
        let cores = asked("cpu").and_then(|amount| amount.units().ok()).unwrap_or(1).clamp(1, 512);
        cpu.cores = Some(u32::try_from(cores).unwrap_or(1));
    }
    cpu.sockets.get_or_insert(1);
    cpu.cores.get_or_insert(1);
    cpu.threads.get_or_insert(1);
    cpu.model.get_or_insert_with(|| CPU_MODEL.into());
    let memory = spec.domain.memory.get_or_insert_default();
    if memory.guest.is_none() {
        memory.guest = resources.requests.get("memory").cloned();
    }
}

fn interfaces(spec: &mut VirtualMachineInstanceSpec, uid: &str) {
    let devices = &mut spec.domain.devices;
    if devices.interfaces.is_empty() && devices.autoattach_pod_interface != Some(false) {
        devices.interfaces.push(Interface {
            name: DEFAULT_NETWORK.into(),
            masquerade: Some(Masquerade {}),
            ..Interface::default()
        });
        spec.networks.push(Network {
            name: DEFAULT_NETWORK.into(),
            pod: Some(PodNetwork {}),
            ..Network::default()
        });
    }
    for interface in &mut devices.interfaces {
        // A virtual function is what its NIC makes it.
        if interface.sriov.is_none() {
            interface.model.get_or_insert(InterfaceModel::Virtio);
        }
        interface.mac_address = Some(mac(interface, uid));
    }
}

fn inputs(spec: &mut VirtualMachineInstanceSpec) {
    let devices = &mut spec.domain.devices;
    if devices.inputs.is_empty() && devices.autoattach_input_device == Some(true) {
        devices.inputs.push(Input { name: DEFAULT_INPUT.into(), type_: InputType::Tablet, bus: None });
    }
    for input in &mut devices.inputs {
        input.bus.get_or_insert(InputBus::Usb);
    }
}

/// The MACs of a VM's interfaces with the interfaces' names, as [`resolve`] fills them in.
pub fn macs(spec: &VirtualMachineInstanceSpec, uid: &str) -> Vec<(String, String)> {
    let devices = &spec.domain.devices;
    let listed = devices.interfaces.iter().map(|interface| (interface.name.clone(), mac(interface, uid)));
    match devices.interfaces.is_empty() && devices.autoattach_pod_interface != Some(false) {
        true => vec![(DEFAULT_NETWORK.to_owned(), mac_address(uid, DEFAULT_NETWORK))],
        false => listed.collect(),
    }
}

/// The MAC of `interface`, lower case with colons.
fn mac(interface: &Interface, uid: &str) -> String {
    let mac = interface.mac_address.clone().unwrap_or_else(|| mac_address(uid, &interface.name));
    mac.replace('-', ":").to_ascii_lowercase()
}

/// A locally administered unicast address that is always the same for this VM and interface.
fn mac_address(uid: &str, interface: &str) -> String {
    let id = derived(&format!("mac/{uid}/{interface}"));
    let b = id.as_bytes();
    format!("02:{:02x}:{:02x}:{:02x}:{:02x}:{:02x}", b[0], b[1], b[2], b[3], b[4])
}

fn derived(name: &str) -> Uuid {
    Uuid::new_v5(&Uuid::NAMESPACE_URL, format!("https://sheaf.dev/{name}").as_bytes())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn spec(value: serde_json::Value) -> VirtualMachineInstanceSpec {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn a_bare_spec_gets_every_default() {
        let bare =
            spec(json!({"domain": {"devices": {"disks": [{"name": "root"}, {"name": "seed", "cdrom": {}}]},
                                           "memory": {"guest": "1Gi"}}}));
        let full = serde_json::to_value(resolve(&bare, "u-1")).unwrap();
        assert_eq!(
            full["domain"]["cpu"],
            json!({"cores": 1, "sockets": 1, "threads": 1, "model": "host-model"})
        );
        assert_eq!(full["domain"]["machine"]["type"], "q35");
        assert_eq!(full["domain"]["devices"]["disks"][0]["disk"]["bus"], "virtio");
        assert_eq!(full["domain"]["devices"]["disks"][1]["cdrom"]["bus"], "sata");
        assert_eq!(full["networks"], json!([{"name": "default", "pod": {}}]));
        let interface = &full["domain"]["devices"]["interfaces"][0];
        assert_eq!((&interface["masquerade"], &interface["bridge"]), (&json!({}), &serde_json::Value::Null));
        assert_eq!(full["terminationGracePeriodSeconds"], 180);
    }

    #[test]
    fn identity_is_the_same_at_every_start_and_differs_between_vms() {
        let bare = spec(json!({"domain": {"devices": {}, "memory": {"guest": "1Gi"}}}));
        let (a, again, b) = (resolve(&bare, "a"), resolve(&bare, "a"), resolve(&bare, "b"));
        assert_eq!(a, again);
        assert_ne!(a.domain.firmware, b.domain.firmware);
        let mac = |spec: &VirtualMachineInstanceSpec| {
            spec.domain.devices.interfaces[0].mac_address.clone().unwrap()
        };
        assert_ne!(mac(&a), mac(&b));
        assert!(mac(&a).starts_with("02:"));
        assert_eq!(macs(&bare, "a"), [("default".to_owned(), mac(&a))]);
        assert_eq!(macs(&a, "another"), macs(&bare, "a"));
    }

    #[test]
    fn resolving_twice_changes_nothing() {
        let bare = spec(json!({"domain": {"devices": {"interfaces": [{"name": "n", "bridge": {},
            "macAddress": "52-54-00-AB-CD-EF"}]}, "resources": {"requests": {"memory": "1Gi", "cpu": "1500m"}}},
            "networks": [{"name": "n", "pod": {}}]}));
        let once = resolve(&bare, "a");
        assert_eq!(resolve(&once, "another"), once);
        assert_eq!(once.domain.cpu.as_ref().unwrap().count(), 2);
        assert_eq!(once.domain.memory.as_ref().unwrap().guest.as_ref().unwrap().as_str(), "1Gi");
        assert_eq!(once.domain.devices.interfaces[0].mac_address.as_deref(), Some("52:54:00:ab:cd:ef"));
    }

    #[test]
    fn a_volume_without_a_disk_is_on_a_virtio_disk_of_its_name() {
        let bare = spec(json!({
            "domain": {"devices": {"disks": [{"name": "b", "disk": {"bus": "sata"}}]}, "memory": {"guest": "1Gi"}},
            "volumes": [{"name": "a", "emptyDisk": {"capacity": "1Gi"}}, {"name": "b", "emptyDisk": {"capacity": "1Gi"}}],
        }));
        let once = resolve(&bare, "a");
        assert_eq!(resolve(&once, "a"), once);
        let disks = serde_json::to_value(once.domain.devices.disks).unwrap();
        assert_eq!(
            disks,
            json!([{"name": "b", "disk": {"bus": "sata"}}, {"name": "a", "disk": {"bus": "virtio"}}])
        );
    }

    #[test]
    fn answers_of_windows_setup_are_on_a_cdrom_unless_a_disk_says_otherwise() {
        let of = |disks: serde_json::Value| {
            let bare = spec(json!({
                "domain": {"devices": {"disks": disks}, "memory": {"guest": "1Gi"}},
                "volumes": [{"name": "s", "sysprep": {"configMap": {"name": "answers"}}}],
            }));
            let once = resolve(&bare, "a");
            assert_eq!(resolve(&once, "a"), once);
            serde_json::to_value(once.domain.devices.disks).unwrap()
        };
        let cdrom = json!([{"name": "s", "cdrom": {"bus": "sata"}}]);
        assert_eq!((of(json!([])), of(json!([{"name": "s"}]))), (cdrom.clone(), cdrom));
        let disk = json!([{"name": "s", "disk": {"bus": "usb"}}]);
        assert_eq!(of(disk.clone()), disk);
    }

    #[test]
    fn an_input_device_that_is_asked_for_is_a_tablet_on_usb_unless_there_is_one() {
        let of = |devices: serde_json::Value| {
            let bare = spec(json!({"domain": {"devices": devices, "memory": {"guest": "1Gi"}}}));
            let once = resolve(&bare, "a");
            assert_eq!(resolve(&once, "a"), once);
            serde_json::to_value(once.domain.devices.inputs).unwrap()
        };
        let tablet = json!([{"name": "default-0", "type": "tablet", "bus": "usb"}]);
        assert_eq!(of(json!({"autoattachInputDevice": true})), tablet);
        let own = json!([{"name": "own", "type": "tablet", "bus": "virtio"}]);
        assert_eq!(of(json!({"autoattachInputDevice": true, "inputs": own})), own);
        assert_eq!(of(json!({})), json!([]));
    }

    #[test]
    fn a_vm_that_wants_no_interface_gets_none() {
        let bare = spec(
            json!({"domain": {"devices": {"autoattachPodInterface": false}, "memory": {"guest": "1Gi"}}}),
        );
        assert!(resolve(&bare, "a").networks.is_empty());
        assert!(macs(&bare, "a").is_empty());
    }
}
