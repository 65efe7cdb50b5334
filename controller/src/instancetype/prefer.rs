//! Fills in what a preference wishes and a template leaves open.
//!
//! Why here: KubeVirt's rules (`pkg/instancetype/preference/apply`), pure. Route in: a preference, a template. Route out: the
//! template; before that, whether it has what the preference requires.

use sheaf_api::{
    devices::{DiskBus, DiskTarget},
    domain::Machine,
    features::HyperV,
    firmware::{Bios, Efi},
    instancetype::preference::{
        ClockPreferences, CpuPreferences, DevicePreferences, FeaturePreferences, FirmwarePreferences,
        VirtualMachinePreferenceSpec,
    },
    vm::TemplateMetadata,
    vmi::VirtualMachineInstanceSpec,
};

/// Whether `spec` has as much as `of` requires; else why not.
pub fn meets(of: &VirtualMachinePreferenceSpec, spec: &VirtualMachineInstanceSpec) -> Result<(), String> {
    let required = of.requirements.clone().unwrap_or_default();
    if let Some(least) = required.cpu {
        let cpus = spec.domain.cpu.as_ref().map_or(1, sheaf_api::domain::Cpu::count);
        if cpus < least.guest {
            return Err(format!(
                "insufficient CPU resources of {cpus} vCPU provided, preference requires {} vCPU",
                least.guest
            ));
        }
    }
    if let Some(least) = required.memory {
        let resources = spec.domain.resources.as_ref();
        let guest = spec.domain.memory.as_ref().and_then(|memory| memory.guest.as_ref());
        let guest = guest.or_else(|| resources.and_then(|resources| resources.requests.get("memory")));
        let bytes = |amount: &sheaf_api::Amount| amount.units().unwrap_or(0);
        if guest.is_some_and(|guest| bytes(guest) < bytes(&least.guest)) {
            return Err(format!(
                "insufficient Memory resources of {} provided, preference requires {}",
                guest.map(sheaf_api::Amount::as_str).unwrap_or_default(),
                least.guest.as_str()
            ));
        }
    }
    Ok(())
}

/// Fills in what `spec` leaves open.
pub fn prefer(
    of: &VirtualMachinePreferenceSpec,
    spec: &mut VirtualMachineInstanceSpec,
    metadata: &mut TemplateMetadata,
) {
    if let Some(of) = &of.cpu {
        cpu(of, spec);
    }
    if let Some(of) = &of.devices {
        devices(of, spec);
    }
    if let Some(of) = &of.features {
        features(of, spec);
    }
    if let Some(of) = &of.firmware {
        firmware(of, spec);
    }
    if let Some(of) = &of.clock {
        clock(of, spec);
    }
    if let Some(type_) = of.machine.as_ref().and_then(|of| of.preferred_machine_type.clone()) {
        spec.domain.machine.get_or_insert(Machine { type_ });
    }
    fill(&mut spec.termination_grace_period_seconds, &of.preferred_termination_grace_period_seconds);
    for (key, value) in &of.annotations {
        metadata.annotations.entry(key.clone()).or_insert_with(|| value.clone());
    }
}

/// Takes a wish where nothing is said.
fn fill<T: Clone>(own: &mut Option<T>, wish: &Option<T>) {
    if own.is_none() {
        own.clone_from(wish);
    }
}

fn cpu(of: &CpuPreferences, spec: &mut VirtualMachineInstanceSpec) {
    if of.preferred_cpu_features.is_empty() {
        return;
    }
    let own = &mut spec.domain.cpu.get_or_insert_default().features;
    for feature in &of.preferred_cpu_features {
        if !own.iter().any(|one| one.name == feature.name) {
            own.push(feature.clone());
        }
    }
}

fn devices(of: &DevicePreferences, spec: &mut VirtualMachineInstanceSpec) {
    let pod_networks: Vec<String> = spec
        .networks
        .iter()
        .filter(|network| network.pod.is_some())
        .map(|network| network.name.clone())
        .collect();
    let own = &mut spec.domain.devices;
    fill(&mut own.autoattach_graphics_device, &of.preferred_autoattach_graphics_device);
    fill(&mut own.autoattach_mem_balloon, &of.preferred_autoattach_mem_balloon);
    fill(&mut own.autoattach_pod_interface, &of.preferred_autoattach_pod_interface);
    fill(&mut own.autoattach_serial_console, &of.preferred_autoattach_serial_console);
    fill(&mut own.autoattach_input_device, &of.preferred_autoattach_input_device);
    fill(&mut own.disable_hotplug, &of.preferred_disable_hotplug);
    fill(&mut own.use_virtio_transitional, &of.preferred_use_virtio_transitional);
    fill(&mut own.block_multi_queue, &of.preferred_block_multi_queue);
    fill(&mut own.network_interface_multiqueue, &of.preferred_network_interface_multi_queue);
    fill(&mut own.rng, &of.preferred_rng);
    fill(&mut own.tpm, &of.preferred_tpm);
    for input in &mut own.inputs {
        fill(&mut input.bus, &of.preferred_input_bus);
    }
    for disk in &mut own.disks {
        if let Some(cdrom) = &mut disk.cdrom {
            fill(&mut cdrom.bus, &of.preferred_cdrom_bus);
            continue;
        }
        let target = disk.disk.get_or_insert_with(DiskTarget::default);
        fill(&mut target.bus, &of.preferred_disk_bus);
        let is_virtio = target.bus == Some(DiskBus::Virtio);
        fill(&mut disk.block_size, &of.preferred_disk_block_size);
        fill(&mut disk.cache, &of.preferred_disk_cache);
        fill(&mut disk.io, &of.preferred_disk_io);
        if is_virtio {
            fill(&mut disk.dedicated_io_thread, &of.preferred_disk_dedicated_io_thread);
        }
    }
    for interface in &mut own.interfaces {
        fill(&mut interface.model, &of.preferred_interface_model);
        if interface.bridge.is_none() && pod_networks.contains(&interface.name) {
            fill(&mut interface.masquerade, &of.preferred_interface_masquerade);
        }
    }
}

fn features(of: &FeaturePreferences, spec: &mut VirtualMachineInstanceSpec) {
    let own = spec.domain.features.get_or_insert_default();
    fill(&mut own.acpi, &of.preferred_acpi);
    fill(&mut own.apic, &of.preferred_apic);
    fill(&mut own.kvm, &of.preferred_kvm);
    fill(&mut own.pvspinlock, &of.preferred_pvspinlock);
    fill(&mut own.smm, &of.preferred_smm);
    let Some(of) = &of.preferred_hyperv else { return };
    // All of Hyper-V's are on already.
    if own.hyperv_passthrough.as_ref().is_some_and(sheaf_api::features::FeatureState::is_on) {
        return;
    }
    let own = own.hyperv.get_or_insert_default();
    let HyperV {
        relaxed,
        vapic,
        spinlocks,
        vpindex,
        runtime,
        synic,
        synictimer,
        reset,
        vendorid,
        frequencies,
        reenlightenment,
        tlbflush,
        ipi,
        evmcs,
    } = of;
    fill(&mut own.relaxed, relaxed);
    fill(&mut own.vapic, vapic);
    fill(&mut own.spinlocks, spinlocks);
    fill(&mut own.vpindex, vpindex);
    fill(&mut own.runtime, runtime);
    fill(&mut own.synic, synic);
    fill(&mut own.synictimer, synictimer);
    fill(&mut own.reset, reset);
    fill(&mut own.vendorid, vendorid);
    fill(&mut own.frequencies, frequencies);
    fill(&mut own.reenlightenment, reenlightenment);
    fill(&mut own.tlbflush, tlbflush);
    fill(&mut own.ipi, ipi);
    fill(&mut own.evmcs, evmcs);
}

fn firmware(of: &FirmwarePreferences, spec: &mut VirtualMachineInstanceSpec) {
    let own = spec.domain.firmware.get_or_insert_default().bootloader.get_or_insert_default();
    let says = own.bios.is_some() || own.efi.is_some();
    if !says && of.preferred_use_bios == Some(true) {
        own.bios = Some(Bios::default());
    }
    if let Some(bios) = &mut own.bios {
        fill(&mut bios.use_serial, &of.preferred_use_bios_serial);
    }
    if own.bios.is_some() {
        return;
    }
    if own.efi.is_none() {
        own.efi = match (&of.preferred_efi, of.preferred_use_efi) {
            (Some(efi), _) => return own.efi = Some(efi.clone()),
            (None, Some(true)) => Some(Efi::default()),
            _ => None,
        };
    }
    if let Some(efi) = &mut own.efi {
        fill(&mut efi.secure_boot, &of.preferred_use_secure_boot);
    }
}

fn clock(of: &ClockPreferences, spec: &mut VirtualMachineInstanceSpec) {
    let own = spec.domain.clock.get_or_insert_default();
    if let Some(offset) = &of.preferred_clock_offset
        && own.utc.is_none()
        && own.timezone.is_none()
    {
        own.utc.clone_from(&offset.utc);
        own.timezone.clone_from(&offset.timezone);
    }
    let Some(wish) = &of.preferred_timer else { return };
    let own = own.timer.get_or_insert_default();
    fill(&mut own.hpet, &wish.hpet);
    fill(&mut own.kvm, &wish.kvm);
    fill(&mut own.pit, &wish.pit);
    fill(&mut own.rtc, &wish.rtc);
    fill(&mut own.hyperv, &wish.hyperv);
}
