//! Decides whether this node may run what a Pod asks for, and resolves it into a [`Guest`].
//!
//! Why here: whoever may create Pods may have written the annotation, so the node trusts nothing in it: fields it
//! does not know, paths outside its two folders, links that lead out of them, more than it has. Pure.
//! Route in: a Pod and [`Facts`]. Route out: [`Verdict`].

use super::facts::{Facts, FileFact, Resources};
use super::guest::{CpuModel, Disk, Format, Guest, Identity, Nic, Seed, Source, Text};
use base64::Engine;
use k8s_openapi::api::core::v1::Pod;
use sha2::{Digest, Sha256};
use sheaf_api::devices::{DiskBus, InterfaceModel};
use sheaf_api::host_disk::{HostDiskPlace, place};
use sheaf_api::names::{COMPUTE_CONTAINER, POD_NETWORK_BRIDGE, RUNTIME_CLASS, VMI_ANNOTATION};
use sheaf_api::placeholder::PlacedVmi;
use sheaf_api::volumes::{CloudInitNoCloud, HostDisk, HostDiskType, Volume};

/// Grace of a Pod that names none, in seconds: what KubeVirt gives a VM.
const DEFAULT_GRACE: i64 = 180;

/// Guest memory is given in whole MiB.
const MIB: u64 = 1 << 20;

/// What becomes of a Pod.
#[derive(Debug, PartialEq)]
pub enum Verdict {
    /// It may run.
    Accept(Box<Guest>),
    /// Something that is on its way is not there yet.
    Wait(Why),
    /// It can not run here, ever.
    Reject(Why),
}

/// A reason, as Pod status has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Why {
    /// One CamelCase word.
    pub reason: &'static str,
    /// A sentence.
    pub message: String,
}

/// Stops at the first thing that is in the way.
type Check<T> = Result<T, Verdict>;

fn reject(reason: &'static str, message: impl Into<String>) -> Verdict {
    Verdict::Reject(Why { reason, message: message.into() })
}

fn invalid(message: impl Into<String>) -> Verdict {
    reject("InvalidSpec", message)
}

fn wait(reason: &'static str, message: impl Into<String>) -> Verdict {
    Verdict::Wait(Why { reason, message: message.into() })
}

/// Whether the Pod is a virtual machine's.
pub fn is_vm(pod: &Pod) -> bool {
    pod.spec.as_ref().and_then(|spec| spec.runtime_class_name.as_deref()) == Some(RUNTIME_CLASS)
}

/// What a Pod asks the scheduler for.
pub fn requests(pod: &Pod) -> Resources {
    let containers = pod.spec.iter().flat_map(|spec| &spec.containers);
    let mut sum = Resources { pods: 1, ..Resources::default() };
    for requests in containers.filter_map(|container| container.resources.as_ref()?.requests.as_ref()) {
        sum = sum.plus(Resources::of(requests));
    }
    sum
}

/// The verdict on `pod`, on a node where `used` is taken already.
pub fn admit(pod: &Pod, facts: &Facts, used: Resources) -> Verdict {
    match check(pod, facts, used) {
        Ok(guest) => Verdict::Accept(Box::new(guest)),
        Err(verdict) => verdict,
    }
}

fn check(pod: &Pod, facts: &Facts, used: Resources) -> Check<Guest> {
    let spec = pod.spec.clone().unwrap_or_default();
    if spec.containers.len() != 1
        || spec.containers[0].name != COMPUTE_CONTAINER
        || spec.init_containers.is_some()
    {
        return Err(invalid(format!("a Pod of a VM has exactly one container, {COMPUTE_CONTAINER}")));
    }
    if spec.restart_policy.as_deref() != Some("Never") {
        return Err(invalid("a Pod of a VM has restartPolicy Never"));
    }
    let annotation = pod.metadata.annotations.as_ref().and_then(|all| all.get(VMI_ANNOTATION));
    let annotation = annotation
        .ok_or_else(|| invalid(format!("annotation {VMI_ANNOTATION} is missing; create a VM instead")))?;
    let placed = PlacedVmi::from_annotation(annotation)
        .map_err(|error| invalid(format!("annotation {VMI_ANNOTATION}: {error}")))?;
    let id = identity(pod, &placed)?;
    let vmi = &placed.spec;

    let cpu = vmi.domain.cpu.clone().unwrap_or_default();
    let memory = vmi.domain.memory.as_ref().and_then(|memory| memory.guest.as_ref());
    let memory = memory.and_then(|amount| amount.units().ok()).unwrap_or(0) / MIB * MIB;
    if memory == 0 {
        return Err(invalid("domain.memory.guest is missing, or less than 1Mi"));
    }
    fits(pod, memory, facts, used)?;

    let firmware = vmi.domain.firmware.as_ref().and_then(|firmware| firmware.uuid.clone());
    let uuid = firmware.unwrap_or_else(|| id.vmi_uid.clone()).to_ascii_lowercase();
    if !is_uuid(&uuid) {
        return Err(invalid(format!("domain.firmware.uuid: {uuid} is no UUID")));
    }
    let mut disks = Vec::new();
    for disk in &vmi.domain.devices.disks {
        let volume = vmi.volume(&disk.name);
        let volume =
            volume.ok_or_else(|| invalid(format!("disk {}: there is no volume of that name", disk.name)))?;
        // The name becomes a file name.
        if !is_label(&disk.name) {
            return Err(invalid(format!("disk {}: the name is no DNS label", disk.name)));
        }
        let cdrom = disk.cdrom.is_some();
        let bus = match (&disk.disk, &disk.cdrom) {
            (None, Some(cdrom)) => cdrom.bus.unwrap_or(DiskBus::Sata),
            (Some(target), None) => target.bus.unwrap_or(DiskBus::Virtio),
            (None, None) => DiskBus::Virtio,
            (Some(_), Some(_)) => {
                return Err(invalid(format!("disk {}: disk and cdrom exclude each other", disk.name)));
            }
        };
        disks.push(Disk {
            name: disk.name.clone(),
            cdrom,
            bus,
            source: source(volume, &placed, pod, facts)?,
            boot_order: disk.boot_order,
            serial: disk.serial.clone(),
            cache: disk.cache,
        });
    }
    let mut interfaces = Vec::new();
    for (index, interface) in vmi.domain.devices.interfaces.iter().enumerate() {
        let bridge = POD_NETWORK_BRIDGE.to_owned();
        if !facts.bridges.contains(&bridge) {
            let why = format!("interface {}: bridge {bridge} of this node", interface.name);
            return Err(if facts.expected_bridges.contains(&bridge) {
                wait("BridgeNotReady", format!("{why} is not up yet"))
            } else {
                reject("BridgeNotPresent", format!("{why} is not in its node.toml"))
            });
        }
        let given = interface.mac_address.as_ref().map(|mac| mac.to_ascii_lowercase().replace('-', ":"));
        let mac = given.unwrap_or_else(|| derived_mac(&id.vmi_uid, index));
        interfaces.push(Nic { bridge, model: interface.model.unwrap_or(InterfaceModel::Virtio), mac });
    }
    Ok(Guest {
        uuid,
        grace_seconds: spec.termination_grace_period_seconds.unwrap_or(DEFAULT_GRACE).max(0),
        memory,
        topology: (cpu.sockets.unwrap_or(1), cpu.cores.unwrap_or(1), cpu.threads.unwrap_or(1)),
        cpu: match cpu.model.as_deref() {
            None | Some("host-model") => CpuModel::HostModel,
            Some("host-passthrough") => CpuModel::HostPassthrough,
            Some(name) => CpuModel::Named(name.to_owned()),
        },
        machine: vmi.domain.machine.as_ref().map_or_else(|| "q35".into(), |machine| machine.type_.clone()),
        disks,
        interfaces,
        rng: vmi.domain.devices.rng.is_some(),
        graphics: vmi.domain.devices.autoattach_graphics_device.unwrap_or(true),
        serial: vmi.domain.devices.autoattach_serial_console.unwrap_or(true),
        id,
    })
}

fn identity(pod: &Pod, placed: &PlacedVmi) -> Check<Identity> {
    let meta = &pod.metadata;
    let namespace = meta.namespace.clone().unwrap_or_default();
    if placed.namespace != namespace {
        return Err(invalid(format!(
            "the annotation is of namespace {}, the Pod of {namespace}",
            placed.namespace
        )));
    }
    if !is_uuid(&placed.uid) {
        return Err(invalid(format!("the annotation's uid {:?} is no UUID", placed.uid)));
    }
    // The name becomes the name of the domain and of its log.
    let plain = placed.name.split('.').all(is_label);
    if !plain || placed.name.len() > 150 {
        return Err(invalid(format!(
            "the annotation's name {:?} is no name of a VM, or has over 150 characters",
            placed.name
        )));
    }
    Ok(Identity {
        pod_uid: meta.uid.clone().unwrap_or_default(),
        pod: meta.name.clone().unwrap_or_default(),
        namespace,
        vmi: placed.name.clone(),
        vmi_uid: placed.uid.clone(),
    })
}

fn fits(pod: &Pod, memory: u64, facts: &Facts, used: Resources) -> Check<()> {
    let Some(all) = facts.allocatable else {
        return Err(wait("NodeNotReady", "what this node has to give is not known yet"));
    };
    let want = used.plus(requests(pod));
    let mib = |bytes: u64| bytes / MIB;
    if want.memory > all.memory || memory > all.memory {
        return Err(reject(
            "OutOfmemory",
            format!(
                "the VM has {} MiB and asks for {} MiB; of {} MiB on this node {} MiB are taken",
                mib(memory),
                mib(requests(pod).memory),
                mib(all.memory),
                mib(used.memory)
            ),
        ));
    }
    if want.cpu > all.cpu {
        return Err(reject(
            "OutOfcpu",
            format!(
                "it asks for {}m; of {}m on this node {}m are taken",
                requests(pod).cpu,
                all.cpu,
                used.cpu
            ),
        ));
    }
    if want.pods > all.pods {
        return Err(reject(
            "OutOfpods",
            format!("this node runs {} VMs already, as many as it may", used.pods),
        ));
    }
    Ok(())
}

fn source(volume: &Volume, placed: &PlacedVmi, pod: &Pod, facts: &Facts) -> Check<Source> {
    match (&volume.host_disk, &volume.empty_disk, &volume.cloud_init_no_cloud) {
        (Some(disk), None, None) => host_disk(&volume.name, disk, facts),
        (None, Some(empty), None) => Ok(Source::Empty(bytes(&volume.name, &empty.capacity)?)),
        (None, None, Some(cloud_init)) => {
            let hostname = placed.spec.hostname.clone().unwrap_or_else(|| placed.name.clone());
            Ok(Source::Seed(seed(&volume.name, cloud_init, hostname, pod)?))
        }
        _ => Err(invalid(format!(
            "volume {}: exactly one of hostDisk, emptyDisk, cloudInitNoCloud",
            volume.name
        ))),
    }
}

fn bytes(volume: &str, capacity: &sheaf_api::Amount) -> Check<u64> {
    // A disk is whole sectors.
    let bytes = capacity.units().map_err(|error| invalid(format!("volume {volume}: capacity: {error}")))?;
    Ok(bytes.max(1).next_multiple_of(MIB))
}

fn host_disk(volume: &str, disk: &HostDisk, facts: &Facts) -> Check<Source> {
    let place = place(&disk.path).map_err(|error| invalid(format!("volume {volume}: {error}")))?;
    let capacity = disk.capacity.as_ref().map(|capacity| bytes(volume, capacity)).transpose()?;
    let file = facts.files.get(&disk.path).cloned().unwrap_or(FileFact::Missing);
    if let FileFact::Elsewhere(real) = &file {
        return Err(invalid(format!(
            "volume {volume}: {} leads to {}, out of its folder",
            disk.path,
            real.display()
        )));
    }
    match (place, file) {
        (HostDiskPlace::Image { name }, file) => match file {
            FileFact::File { path, format, bytes } if facts.images.contains(&name) => Ok(Source::Overlay {
                base: path,
                format,
                grown_to: capacity.filter(|capacity| *capacity > bytes),
            }),
            _ if facts.images.contains(&name) || facts.expected_images.contains(&name) => Err(wait(
                "ImageNotReady",
                format!("volume {volume}: image {name} is not complete on this node yet"),
            )),
            _ => Err(reject(
                "ImageNotPresent",
                format!("volume {volume}: image {name} is not on this node; add [[image]] to its node.toml"),
            )),
        },
        (HostDiskPlace::Disk { .. }, FileFact::File { path, format, .. }) => {
            Ok(Source::InPlace { path, format, create: None })
        }
        (HostDiskPlace::Disk { relative }, FileFact::Missing) => match (disk.type_, capacity) {
            (HostDiskType::DiskOrCreate, Some(capacity)) => {
                let format = if relative.ends_with(".qcow2") { Format::Qcow2 } else { Format::Raw };
                Ok(Source::InPlace { path: facts.disks.join(relative), format, create: Some(capacity) })
            }
            (HostDiskType::DiskOrCreate, None) => Err(invalid(format!(
                "volume {volume}: {} is not there; creating it needs a capacity",
                disk.path
            ))),
            (HostDiskType::Disk, _) => {
                Err(reject("DiskNotPresent", format!("volume {volume}: {} is not on this node", disk.path)))
            }
        },
        (HostDiskPlace::Disk { .. }, _) => Err(invalid(format!("volume {volume}: {} is no file", disk.path))),
    }
}

fn seed(volume: &str, from: &CloudInitNoCloud, hostname: String, pod: &Pod) -> Check<Seed> {
    let secret = |name: &str, keys| {
        // The node may read the Secrets of all Pods bound to it; this VM only those that its own Pod names.
        let volumes = pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten());
        let mut named = volumes.filter_map(|volume| volume.secret.as_ref()?.secret_name.as_deref());
        if named.any(|named| named == name) {
            Ok(Text::Secret { name: name.to_owned(), keys })
        } else {
            Err(invalid(format!("volume {volume}: the Pod does not refer to Secret {name}")))
        }
    };
    let text = |kind: &str, plain: &Option<String>, encoded: &Option<String>, from: Option<&str>, keys| match (
        plain, encoded, from,
    ) {
        (None, None, None) => Ok(None),
        (Some(text), None, None) => Ok(Some(Text::Plain(text.clone().into_bytes()))),
        (None, Some(encoded), None) => base64::engine::general_purpose::STANDARD
            .decode(encoded)
            .map(|text| Some(Text::Plain(text)))
            .map_err(|error| invalid(format!("volume {volume}: {kind} in base64: {error}"))),
        (None, None, Some(name)) => secret(name, keys).map(Some),
        _ => Err(invalid(format!("volume {volume}: {kind} has more than one source"))),
    };
    let user_secret = from.secret_ref.as_ref().map(|secret| secret.name.as_str());
    let network_secret = from.network_data_secret_ref.as_ref().map(|secret| secret.name.as_str());
    let network = (&from.network_data, &from.network_data_base64);
    Ok(Seed {
        hostname,
        user_data: text(
            "user data",
            &from.user_data,
            &from.user_data_base64,
            user_secret,
            ["userdata", "userData"],
        )?,
        network_data: text(
            "network data",
            network.0,
            network.1,
            network_secret,
            ["networkdata", "networkData"],
        )?,
    })
}

/// A hardware address that is the VMI's own and the same at each try: locally administered, 40 bits of a hash.
fn derived_mac(vmi_uid: &str, index: usize) -> String {
    let hash = Sha256::digest(format!("{vmi_uid}/{index}"));
    let tail: Vec<String> = hash[..5].iter().map(|byte| format!("{byte:02x}")).collect();
    format!("02:{}", tail.join(":"))
}

fn is_uuid(text: &str) -> bool {
    let dash = |index| matches!(index, 8 | 13 | 18 | 23);
    text.len() == 36
        && text.bytes().enumerate().all(|(i, b)| if dash(i) { b == b'-' } else { b.is_ascii_hexdigit() })
}

fn is_label(text: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    !text.is_empty()
        && text.len() <= 150
        && text.bytes().all(|byte| inner(byte) || byte == b'-')
        && text.bytes().next().is_some_and(inner)
        && text.bytes().last().is_some_and(inner)
}

#[cfg(test)]
mod tests {
    use super::super::testing::{VMI_UID, facts, pod, pod_of};
    use super::*;
    use serde_json::json;

    fn why(verdict: Verdict) -> (&'static str, String) {
        match verdict {
            Verdict::Reject(why) | Verdict::Wait(why) => (why.reason, why.message),
            Verdict::Accept(guest) => panic!("accepted: {guest:?}"),
        }
    }

    fn admit_volume(volume: serde_json::Value) -> Verdict {
        let mut spec =
            json!({"domain": {"memory": {"guest": "64Mi"}, "devices": {"disks": [{"name": "d"}]}}});
        spec["volumes"] = json!([volume]);
        admit(&pod_of("p1", spec), &facts(), Resources::default())
    }

    #[test]
    fn a_plain_vm_is_accepted_with_its_defaults() {
        let Verdict::Accept(guest) = admit(&pod("p1"), &facts(), Resources::default()) else { panic!() };
        assert_eq!((guest.memory, guest.topology, guest.machine.as_str()), (64 << 20, (1, 1, 1), "q35"));
        assert_eq!((guest.id.domain().as_str(), guest.uuid.as_str()), ("default_web", VMI_UID));
        assert!(guest.graphics && guest.serial && !guest.rng);
    }

    #[test]
    fn a_field_that_would_not_be_honoured_is_refused_by_its_path() {
        let spec = json!({"domain": {"memory": {"guest": "64Mi"}, "devices": {"gpus": [{"name": "g"}]}}});
        let (reason, message) = why(admit(&pod_of("p1", spec), &facts(), Resources::default()));
        assert_eq!(reason, "InvalidSpec");
        assert!(message.contains("spec.domain.devices.gpus"), "{message}");
    }

    #[test]
    fn paths_outside_the_two_folders_and_links_out_of_them_are_refused() {
        let volume = |path: &str| json!({"name": "d", "hostDisk": {"path": path, "type": "Disk"}});
        for path in ["/etc/shadow", "/data/disks/../../etc/shadow"] {
            let (reason, message) = why(admit_volume(volume(path)));
            assert_eq!(reason, "InvalidSpec");
            assert!(message.contains("is not allowed"), "{message}");
        }
        let (reason, message) = why(admit_volume(volume("/data/disks/link.raw")));
        assert_eq!(reason, "InvalidSpec");
        assert!(message.ends_with("leads to /etc/shadow, out of its folder"), "{message}");
    }

    #[test]
    fn an_image_is_used_when_verified_awaited_when_expected_and_refused_when_unknown() {
        let volume = |name: &str| json!({"name": "d", "hostDisk": {"path": format!("/data/images/{name}"), "type": "Disk", "capacity": "1Gi"}});
        let Verdict::Accept(guest) = admit_volume(volume("base.qcow2")) else { panic!() };
        let base = "/data/images/base.qcow2".into();
        assert_eq!(
            guest.disks[0].source,
            Source::Overlay { base, format: Format::Qcow2, grown_to: Some(1 << 30) }
        );
        assert!(matches!(
            admit_volume(volume("later.raw")),
            Verdict::Wait(Why { reason: "ImageNotReady", .. })
        ));
        assert_eq!(why(admit_volume(volume("never.raw"))).0, "ImageNotPresent");
    }

    #[test]
    fn a_disk_is_created_only_when_asked_with_a_capacity() {
        let volume = |kind: &str, capacity: serde_json::Value| json!({"name": "d", "hostDisk": {"path": "/data/disks/new.raw", "type": kind, "capacity": capacity}});
        assert_eq!(why(admit_volume(volume("Disk", json!(null)))).0, "DiskNotPresent");
        assert_eq!(why(admit_volume(volume("DiskOrCreate", json!(null)))).0, "InvalidSpec");
        let Verdict::Accept(guest) = admit_volume(volume("DiskOrCreate", json!("10Mi"))) else { panic!() };
        let path = "/data/disks/new.raw".into();
        assert_eq!(
            guest.disks[0].source,
            Source::InPlace { path, format: Format::Raw, create: Some(10 << 20) }
        );
    }

    #[test]
    fn a_secret_that_the_pod_does_not_name_is_refused() {
        let volume = json!({"name": "d", "cloudInitNoCloud": {"secretRef": {"name": "of-another-pod"}}});
        let (reason, message) = why(admit_volume(volume));
        assert_eq!(
            (reason, message.as_str()),
            ("InvalidSpec", "volume d: the Pod does not refer to Secret of-another-pod")
        );
    }

    #[test]
    fn what_is_taken_counts_against_what_the_node_has() {
        let used = Resources { memory: (1 << 30) - (50 << 20), ..Resources::default() };
        assert_eq!(why(admit(&pod("p1"), &facts(), used)).0, "OutOfmemory");
        let used = Resources { cpu: 4000, ..Resources::default() };
        assert_eq!(why(admit(&pod("p1"), &facts(), used)).0, "OutOfcpu");
        let used = Resources { pods: 10, ..Resources::default() };
        assert_eq!(why(admit(&pod("p1"), &facts(), used)).0, "OutOfpods");
    }

    #[test]
    fn a_vm_larger_than_the_node_is_refused_whatever_its_pod_asks_for() {
        let spec = json!({"domain": {"memory": {"guest": "2Gi"}, "devices": {}}});
        assert_eq!(why(admit(&pod_of("p1", spec), &facts(), Resources::default())).0, "OutOfmemory");
    }

    #[test]
    fn a_pod_may_not_speak_for_another_namespace_or_name_a_folder_of_its_own() {
        for (key, value) in [("namespace", "kube-system"), ("uid", "../../state"), ("name", "a/b")] {
            let mut pod = pod("p1");
            let annotations = pod.metadata.annotations.as_mut().unwrap();
            let mut placed: serde_json::Value = serde_json::from_str(&annotations[VMI_ANNOTATION]).unwrap();
            placed[key] = json!(value);
            annotations.insert(VMI_ANNOTATION.into(), placed.to_string());
            assert_eq!(why(admit(&pod, &facts(), Resources::default())).0, "InvalidSpec", "{key}");
        }
    }

    #[test]
    fn derived_addresses_are_stable_unicast_and_differ() {
        let mac = derived_mac(VMI_UID, 0);
        assert_eq!(mac, derived_mac(VMI_UID, 0));
        assert_ne!(mac, derived_mac(VMI_UID, 1));
        assert!(mac.starts_with("02:") && mac.len() == 17);
    }
}
