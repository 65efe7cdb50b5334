//! Resolves the virtual hardware of a VM apart from its disks and NICs.
//!
//! Why here: what the API server refused is refused again, where QEMU or libvirt would start another machine than was asked
//! for, or take a path of the node for a name. Pure. Route in: the spec of the annotation. Route out: [`Hardware`].

use super::{Check, Verdict, invalid, reject, wait};
use crate::channels::ContainerDisk;
use crate::vms::cpus::Wanted;
use crate::vms::facts::Facts;
use crate::vms::guest::{Firmware, Hardware, Identity, Kernel, Lifetime, state_folder};
use crate::vms::host_devices::{Role, Wanted as Device};
use sheaf_api::devices::{Devices, HostDevice};
use sheaf_api::domain::{Cpu, DomainSpec, Memory, PageSize};
use sheaf_api::features::Features;
use sheaf_api::firmware::BootFile;
use sheaf_api::size::Size;
use sheaf_api::vmi::VirtualMachineInstanceSpec;
use std::collections::BTreeSet;

/// Most queues of a NIC: the kernel's for a tap.
const MOST_NIC_QUEUES: u32 = 256;

/// Most devices of the node in one VM; twice what the schema has in each list.
const MOST_DEVICES: usize = 32;

/// Longest arguments of a kernel: `COMMAND_LINE_SIZE` of Linux on x86, less the zero at its end.
const MOST_ARGUMENTS: usize = 2047;

/// Most input devices and CPU features; the schema has the same numbers.
const MOST_INPUTS: usize = 8;
const MOST_CPU_FEATURES: usize = 64;

/// The hardware of the VM `id`, whose domain has `uuid`, `cpus` processors and `memory` bytes, and `functions` as interfaces.
pub(super) fn hardware(
    spec: &VirtualMachineInstanceSpec,
    id: &Identity,
    uuid: &str,
    (cpus, memory): (u32, u64),
    functions: Vec<Device>,
    facts: &Facts,
) -> Check<Hardware> {
    let (domain, devices) = (&spec.domain, &spec.domain.devices);
    let features = domain.features.clone().unwrap_or_default();
    let page_size = domain.memory.as_ref().and_then(Memory::page_size);
    if page_size.is_some_and(|page| !memory.is_multiple_of(page.bytes())) {
        return Err(invalid("domain.memory.guest is not a multiple of hugepages.pageSize"));
    }
    let clock = domain.clock.clone();
    let zone = clock.as_ref().and_then(|clock| clock.timezone.as_deref());
    if zone.is_some_and(|zone| !is_zone(zone)) {
        return Err(invalid("domain.clock.timezone is not the name of a time zone, such as Europe/Berlin"));
    }
    let system = domain.firmware.clone().unwrap_or_default();
    for text in [&system.serial].into_iter().chain(domain.chassis.iter().flat_map(|chassis| {
        [&chassis.manufacturer, &chassis.version, &chassis.serial, &chassis.asset, &chassis.sku]
    })) {
        if text
            .as_ref()
            .is_some_and(|text| text.len() > 128 || !text.bytes().all(|b| (b' '..=b'~').contains(&b)))
        {
            return Err(invalid(
                "domain.firmware.serial and domain.chassis have at most 128 printable characters",
            ));
        }
    }
    let names = devices.inputs.iter().map(|input| &input.name);
    let mut names = names.chain(devices.watchdog.iter().map(|watchdog| &watchdog.name));
    if devices.inputs.len() > MOST_INPUTS || !names.all(|name| is_word(name)) {
        return Err(invalid("domain.devices.inputs and .watchdog have names of letters, digits, - and _"));
    }
    let cpu = domain.cpu.clone().unwrap_or_default();
    if cpu.features.len() > MOST_CPU_FEATURES {
        return Err(invalid(format!("domain.cpu.features has more than {MOST_CPU_FEATURES} features")));
    }
    let own_cpus = own_cpus(&cpu, cpus, page_size, facts)?;
    let tpm = devices.tpm.as_ref().filter(|tpm| tpm.is_on()).map(|tpm| lifetime(tpm.is_persistent()));
    let queues = |wanted: Option<bool>| (wanted == Some(true)).then_some(cpus);
    Ok(Hardware {
        firmware: firmware(domain, &features)?,
        kernel: kernel(domain, &id.pod_uid, facts)?,
        serial: system.serial,
        chassis: domain.chassis.clone(),
        features,
        clock,
        cpu_features: cpu.features,
        page_size,
        host_devices: host_devices(devices, functions, facts)?,
        own_cpus,
        io_threads: 0,
        inputs: devices.inputs.clone(),
        tpm,
        watchdog: devices.watchdog.as_ref().map(|watchdog| (watchdog.name.clone(), watchdog.action())),
        balloon: devices.autoattach_mem_balloon.unwrap_or(true),
        serial_log: devices.log_serial_console.unwrap_or(true),
        disk_queues: queues(devices.block_multi_queue),
        nic_queues: nic_queues(devices, cpus),
        transitional: devices.use_virtio_transitional.unwrap_or(false),
        hotplug: devices.disable_hotplug != Some(true),
        paused: spec.start_strategy.is_some(),
        state: state_folder(&facts.states.join(&id.namespace), uuid),
        most: Some(Size::most(domain)).filter(|most| *most != Size::of(domain)),
    })
}

/// Devices of the node that the VM is to have to itself.
fn host_devices(devices: &Devices, functions: Vec<Device>, facts: &Facts) -> Check<Vec<Device>> {
    let names = [&devices.host_devices, &devices.gpus]
        .map(|list| list.iter().map(|one| &one.name).collect::<BTreeSet<_>>());
    let is_unique = names[0].len() == devices.host_devices.len() && names[1].len() == devices.gpus.len();
    let count = devices.of_node().count() + functions.len();
    if !is_unique || count > MOST_DEVICES || !devices.of_node().all(|one| is_word(&one.name)) {
        return Err(invalid(format!(
            "domain.devices.hostDevices, .gpus and interfaces with sriov are at most {MOST_DEVICES}, with different names of letters, digits, - and _"
        )));
    }
    let of_kind = |one: &HostDevice, role: Role| match &one.device_name {
        Some(resource) => Ok(Device { name: one.name.clone(), resource: resource.clone(), role }),
        None => Err(reject(
            "DeviceOfClaim",
            format!(
                "domain.devices: {} is of a claim, and this node has no driver that allocates claims",
                one.name
            ),
        )),
    };
    let host = devices.host_devices.iter().map(|one| of_kind(one, Role::Device));
    let all = host.chain(devices.gpus.iter().map(|one| of_kind(one, Role::Gpu)));
    let all = all.chain(functions.into_iter().map(Ok)).collect::<Check<Vec<Device>>>()?;
    match all.iter().find(|one| !facts.devices.resources.contains_key(&one.resource)) {
        None => Ok(all),
        Some(Device { resource, .. }) => Err(reject(
            "DeviceNotPermitted",
            format!("domain.devices: permittedHostDevices of ClusterConfig cluster does not have {resource}"),
        )),
    }
}

/// Processors that the VM is to have to itself.
fn own_cpus(cpu: &Cpu, cpus: u32, page_size: Option<PageSize>, facts: &Facts) -> Check<Option<Wanted>> {
    let emulator = cpu.isolate_emulator_thread == Some(true);
    let numa = cpu.numa.as_ref().is_some_and(|numa| numa.guest_mapping_passthrough.is_some());
    if !cpu.is_dedicated() {
        return match (emulator, numa) {
            (true, _) => Err(invalid("domain.cpu.isolateEmulatorThread requires dedicatedCpuPlacement")),
            (_, true) => {
                Err(invalid("domain.cpu.numa.guestMappingPassthrough requires dedicatedCpuPlacement"))
            }
            (false, false) => Ok(None),
        };
    }
    if numa && page_size.is_none() {
        return Err(invalid("domain.cpu.numa.guestMappingPassthrough requires domain.memory.hugepages"));
    }
    if cpu.threads.unwrap_or(1) > 2 {
        return Err(invalid("domain.cpu.threads: a core has at most two threads with dedicatedCpuPlacement"));
    }
    match (&facts.cpus, &facts.cpus_problem) {
        (Some(_), _) => Ok(Some(Wanted { vcpus: cpus, emulator, numa })),
        (None, Some(problem)) => Err(wait("NodeNotReady", format!("the processors of this node: {problem}"))),
        (None, None) => Err(reject(
            "CpusNotOffered",
            "no VM can have processors of this node to itself: set vms.reserved-cpus in its node.toml",
        )),
    }
}

/// Queues of each virtio NIC of a VM with so many virtual CPUs. One queue is what a NIC has without any of this.
pub fn nic_queues(devices: &Devices, cpus: u32) -> Option<u32> {
    let wanted = devices.network_interface_multiqueue == Some(true);
    wanted.then_some(cpus.min(MOST_NIC_QUEUES)).filter(|queues| *queues > 1)
}

fn firmware(domain: &DomainSpec, features: &Features) -> Check<Firmware> {
    let bootloader = domain.firmware.as_ref().and_then(|firmware| firmware.bootloader.as_ref());
    let Some(bootloader) = bootloader else { return Ok(Firmware::Bios { serial: false }) };
    match (&bootloader.bios, &bootloader.efi) {
        (Some(_), Some(_)) => Err(invalid("domain.firmware.bootloader: bios and efi exclude each other")),
        (_, Some(efi)) if efi.is_secure() && !features.has_smm() => {
            Err(invalid("domain.firmware.bootloader.efi: SecureBoot requires domain.features.smm"))
        }
        (_, Some(_)) if !features.has_acpi() => {
            Err(invalid("domain.firmware.bootloader.efi requires domain.features.acpi"))
        }
        (_, Some(efi)) => {
            Ok(Firmware::Efi { secure: efi.is_secure(), variables: lifetime(efi.is_persistent()) })
        }
        (bios, None) => {
            let serial = bios.as_ref().is_some_and(|bios| bios.use_serial == Some(true));
            Ok(Firmware::Bios { serial })
        }
    }
}

/// The kernel that this node pulled for this Pod.
fn kernel(domain: &DomainSpec, pod_uid: &str, facts: &Facts) -> Check<Option<Kernel>> {
    let boot = domain.firmware.as_ref().and_then(|firmware| firmware.kernel_boot.clone()).unwrap_or_default();
    let arguments = boot.kernel_args.unwrap_or_default();
    let Some(container) = &boot.container else {
        return match arguments.is_empty() {
            true => Ok(None),
            false => Err(invalid("domain.firmware.kernelBoot.kernelArgs needs a container with a kernel")),
        };
    };
    if arguments.len() > MOST_ARGUMENTS || !arguments.bytes().all(|byte| (b' '..=b'~').contains(&byte)) {
        return Err(invalid(format!(
            "domain.firmware.kernelBoot.kernelArgs has at most {MOST_ARGUMENTS} printable characters"
        )));
    }
    let mut kernel = Kernel { arguments, ..Kernel::default() };
    let mut has_kernel = false;
    for (file, _) in container.files() {
        let path = match facts.container_disks.get(&(pod_uid.to_owned(), file.name().to_owned())) {
            Some(ContainerDisk::Ready { path, .. }) => path.clone(),
            Some(ContainerDisk::NotReady { reason, message }) => return Err(wait(reason, message.clone())),
            None => return Err(Verdict::Unknown),
        };
        match file {
            BootFile::Kernel => (kernel.image, has_kernel) = (path, true),
            BootFile::Initrd => kernel.initrd = Some(path),
        }
    }
    match has_kernel {
        true => Ok(Some(kernel)),
        false => Err(invalid("domain.firmware.kernelBoot.container has no kernelPath")),
    }
}

fn lifetime(is_persistent: bool) -> Lifetime {
    if is_persistent { Lifetime::Machine } else { Lifetime::Instance }
}

/// A name of the IANA database: QEMU's C library opens it as a file below the node's time zones.
fn is_zone(text: &str) -> bool {
    let part = |part: &str| {
        let inner = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'+' | b'-');
        !part.is_empty() && part.bytes().all(inner)
    };
    text.len() <= 64 && text.starts_with(|c: char| c.is_ascii_alphabetic()) && text.split('/').all(part)
}

/// What libvirt takes as part of an alias.
pub(super) fn is_word(text: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
    !text.is_empty() && text.len() <= 63 && text.bytes().all(inner)
}
