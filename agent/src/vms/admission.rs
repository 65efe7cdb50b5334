//! Decides whether this node may run what a Pod asks for, and resolves it into a [`Guest`].
//!
//! Why here: anyone who may create Pods may have written the annotation, so the node trusts nothing in it: fields it
//! does not know, paths outside its two folders, links that lead out of them, more than it has. Pure.
//! Route in: a Pod and [`Facts`]. Route out: [`Verdict`]; [`volumes`], [`contents`], [`networks`], [`hardware`],
//! [`disk_options`] and [`room`] decide on their parts.

pub mod attachments;
mod contents;
mod disk_options;
mod hardware;
mod networks;
mod room;
mod volumes;

pub use contents::names;
pub use hardware::nic_queues;
pub use networks::{added, free_index};
pub use room::{needs, needs_at, requests};
pub use volumes::names_claim;

use super::cpus::Placement;
use super::facts::{Facts, Resources};
use super::filters::Port;
use super::guest::{CpuModel, Disk, Guest, Identity, Source};
use k8s_openapi::api::core::v1::Pod;
use sheaf_api::devices::{self, DiskBus};
use sheaf_api::links::Links;
use sheaf_api::names::{COMPUTE_CONTAINER, EXPORT_LABEL, IMPORT_LABEL, RUNTIME_CLASS, VMI_ANNOTATION};
use sheaf_api::placeholder::PlacedVmi;
use sheaf_api::size::Size;

/// Grace of a Pod that names none, in seconds: what KubeVirt gives a VM.
const DEFAULT_GRACE: i64 = 180;

/// Most virtual CPUs of a VM; QEMU's q35 takes fewer than its maximum of 4096 without an emulated IOMMU.
const MOST_CPUS: u64 = 255;

/// Guest memory is given in whole MiB.
const MIB: u64 = 1 << 20;

/// What becomes of a Pod.
#[derive(Debug, PartialEq)]
pub enum Verdict {
    /// It may run.
    Accept(Box<Guest>),
    /// Something that is on its way is not there yet.
    Wait(Why),
    /// An answer that decides is still awaited: nothing to report.
    Unknown,
    /// It can never run here.
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
    is_of_sheaf(pod) && !is_importer(pod) && !is_exporter(pod) && !is_attachment(pod)
}

/// Whether the Pod is there for a disk or a NIC that is added to a VM which runs.
pub fn is_attachment(pod: &Pod) -> bool {
    is_of_sheaf(pod) && sheaf_api::attachment::is_attachment(pod)
}

/// Whether the Pod is there for a NIC that is added to a VM which runs.
pub fn is_nic(pod: &Pod) -> bool {
    is_of_sheaf(pod) && sheaf_api::attachment::is_nic(pod)
}

/// Whether the Pod is there only so that this node may read the Secrets of an import ([`crate::volumes::fill::credentials`]).
pub fn is_importer(pod: &Pod) -> bool {
    is_of_sheaf(pod) && has_label(pod, IMPORT_LABEL)
}

/// Whether the Pod is there only so that this node may hand out volumes of an export ([`crate::node_api`]).
pub fn is_exporter(pod: &Pod) -> bool {
    is_of_sheaf(pod) && has_label(pod, EXPORT_LABEL)
}

fn has_label(pod: &Pod, name: &str) -> bool {
    pod.metadata.labels.as_ref().is_some_and(|labels| labels.contains_key(name))
}

/// The controller alone makes Pods with this RuntimeClass; a policy of the API server sees to that.
fn is_of_sheaf(pod: &Pod) -> bool {
    pod.spec.as_ref().and_then(|spec| spec.runtime_class_name.as_deref()) == Some(RUNTIME_CLASS)
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
    let topology = (cpu.sockets.unwrap_or(1), cpu.cores.unwrap_or(1), cpu.threads.unwrap_or(1));
    let sockets = Size::most(&vmi.domain).sockets.max(topology.0);
    if u64::from(sockets).saturating_mul(topology.1.into()) > MOST_CPUS / u64::from(topology.2.max(1)) {
        return Err(invalid(format!("domain.cpu: more than {MOST_CPUS} virtual CPUs")));
    }
    let memory = vmi.domain.memory.as_ref().and_then(|memory| memory.guest.as_ref());
    let memory = memory.and_then(|amount| amount.units().ok()).unwrap_or(0) / MIB * MIB;
    if memory == 0 {
        return Err(invalid("domain.memory.guest is missing, or less than 1Mi"));
    }
    room::fits(pod, memory, facts, used)?;

    let firmware = vmi.domain.firmware.as_ref().and_then(|firmware| firmware.uuid.clone());
    let uuid = firmware.unwrap_or_else(|| id.vmi_uid.clone()).to_ascii_lowercase();
    if !is_uuid(&uuid) {
        return Err(invalid(format!("domain.firmware.uuid: {uuid} is not a UUID")));
    }
    let mut disks = Vec::new();
    for disk in &vmi.domain.devices.disks {
        // The name becomes a file name.
        if !is_label(&disk.name) {
            return Err(invalid(format!("disk {}: the name is not a DNS label", disk.name)));
        }
        let cdrom = disk.cdrom.is_some();
        let bus = bus(disk)?;
        let source = match vmi.volume(&disk.name) {
            Some(volume) => volumes::source(volume, &placed, pod, facts)?,
            None if cdrom => Source::NoMedium { awaited: placed.media.contains(&disk.name) },
            None => return Err(invalid(format!("disk {}: there is no volume of that name", disk.name))),
        };
        disks.push(Disk {
            name: disk.name.clone(),
            cdrom,
            bus,
            options: disk_options::options(disk, &source, facts)?,
            source,
            boot_order: disk.boot_order,
            serial: disk.serial.clone(),
            cache: disk.cache,
        });
    }
    let functions = networks::functions(&placed)?;
    let mut hardware = hardware::hardware(vmi, &id, &uuid, (cpu.count(), memory), functions, facts)?;
    hardware.io_threads = disk_options::threads(&vmi.domain, &vmi.domain.devices.disks, &mut disks);
    let links = Links::of(pod);
    let mut interfaces = networks::nics(&placed, Some(facts))?;
    interfaces.iter_mut().for_each(|nic| nic.down = links.down.contains(&nic.port.interface));
    let space = needs(pod, facts).storage;
    room::has_space(space, facts, used)?;
    Ok(Guest {
        uuid,
        priority: pod.spec.as_ref().and_then(|spec| spec.priority).unwrap_or_default(),
        grace_seconds: spec.termination_grace_period_seconds.unwrap_or(DEFAULT_GRACE).max(0),
        memory,
        topology,
        cpu: match cpu.model.as_deref() {
            None | Some("host-model") => CpuModel::HostModel,
            Some("host-passthrough") => CpuModel::HostPassthrough,
            Some(name) => CpuModel::Named(name.to_owned()),
        },
        placement: Placement::default(),
        machine: vmi.domain.machine.as_ref().map_or_else(|| "q35".into(), |machine| machine.type_.clone()),
        disks,
        space,
        interfaces,
        host_devices: Vec::new(),
        rng: vmi.domain.devices.rng.is_some(),
        graphics: vmi.domain.devices.autoattach_graphics_device.unwrap_or(true),
        serial: vmi.domain.devices.autoattach_serial_console.unwrap_or(true),
        hardware,
        id,
    })
}

/// What a disk or a drive hangs on.
fn bus(disk: &devices::Disk) -> Check<DiskBus> {
    match (&disk.disk, &disk.cdrom) {
        (None, Some(cdrom)) => Ok(cdrom.bus.unwrap_or(DiskBus::Sata)),
        (Some(target), None) => Ok(target.bus.unwrap_or(DiskBus::Virtio)),
        (None, None) => Ok(DiskBus::Virtio),
        (Some(_), Some(_)) => Err(invalid(format!("disk {}: disk and cdrom exclude each other", disk.name))),
    }
}

/// The VM that a Pod is for, by its annotation.
pub fn placed(pod: &Pod) -> Option<PlacedVmi> {
    let annotation = pod.metadata.annotations.as_ref()?.get(VMI_ANNOTATION)?;
    let placed = PlacedVmi::from_annotation(annotation).ok()?;
    identity(pod, &placed).ok()?;
    Some(placed)
}

/// The ports of a VM that runs, by its Pod's annotation: for a domain whose record was lost.
pub fn ports(pod: &Pod) -> Option<Vec<Port>> {
    Some(networks::nics(&placed(pod)?, None).ok()?.into_iter().map(|nic| nic.port).collect())
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
        return Err(invalid(format!("the annotation's uid {:?} is not a UUID", placed.uid)));
    }
    // The name becomes the name of the domain and of its log.
    let plain = placed.name.split('.').all(is_label);
    if !plain || placed.name.len() > 150 {
        return Err(invalid(format!(
            "the annotation's name {:?} is not a name of a VM, or has over 150 characters",
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
mod tests;
