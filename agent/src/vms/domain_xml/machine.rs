//! The machine in a domain's XML: firmware, SMBIOS, features, processors, clock.
//!
//! Why here: devices are in [`super`] and [`super::peripherals`]. Route in: a [`Guest`]. Route out: lines of XML.

use super::{escape, size};
use crate::vms::guest::{CpuModel, Firmware, Folder, Guest};
use sheaf_api::clock::Clock;
use sheaf_api::domain::CpuFeaturePolicy;
use sheaf_api::features::{FeatureState, HyperV};
use std::fmt::{Result, Write};
use std::path::Path;

/// OVMF of Debian's package: its code, and the variables that a machine starts with. By path, not by libvirt's choice among
/// descriptors: variables that outlive an instance must meet the code that wrote them.
const EFI: (&str, &str) = ("/usr/share/OVMF/OVMF_CODE_4M.fd", "/usr/share/OVMF/OVMF_VARS_4M.fd");
/// The same with Secure Boot, guarded by SMM, and with Microsoft's keys.
const SECURE: (&str, &str) = ("/usr/share/OVMF/OVMF_CODE_4M.ms.fd", "/usr/share/OVMF/OVMF_VARS_4M.ms.fd");

/// File of UEFI variables in the folder of its state.
const VARIABLES: &str = "nvram.fd";

/// Milliseconds for which the firmware shows its menu when somebody resumes a VM that started paused: KubeVirt's.
const MENU_TIMEOUT: u32 = 10_000;

/// A feature that is disabled in every named model: kernels do not offer it any more, and libvirt's models list it.
const GONE_FEATURE: &str = "mpx";

/// Element `os`.
pub fn write_os(xml: &mut String, guest: &Guest, folder: &Folder) -> Result {
    writeln!(xml, "  <os>\n    <type arch='x86_64' machine='{}'>hvm</type>", escape(&guest.machine))?;
    match guest.hardware.firmware {
        Firmware::Bios { .. } => {}
        Firmware::Efi { secure, variables } => {
            let (code, template) = if secure { SECURE } else { EFI };
            let path = folder.state(guest, variables).join(VARIABLES);
            let secure = if secure { "yes" } else { "no" };
            writeln!(xml, "    <loader readonly='yes' secure='{secure}' type='pflash'>{code}</loader>")?;
            // libvirt makes the file from the template when it is not there, whole or not at all.
            writeln!(xml, "    <nvram template='{template}'>{}</nvram>", text(&path))?;
        }
    }
    if let Some(kernel) = &guest.hardware.kernel {
        writeln!(xml, "    <kernel>{}</kernel>", text(&folder.kernel()))?;
        if kernel.initrd.is_some() {
            writeln!(xml, "    <initrd>{}</initrd>", text(&folder.initrd()))?;
        }
        if !kernel.arguments.is_empty() {
            writeln!(xml, "    <cmdline>{}</cmdline>", escape(&kernel.arguments))?;
        }
    }
    // Without an order of its own the guest boots from its disks, then from its drives, in the order of the spec.
    if guest.disks.iter().all(|disk| disk.boot_order.is_none()) {
        writeln!(xml, "    <boot dev='hd'/>\n    <boot dev='cdrom'/>")?;
    }
    if guest.hardware.paused {
        writeln!(xml, "    <bootmenu enable='yes' timeout='{MENU_TIMEOUT}'/>")?;
    }
    writeln!(xml, "    <smbios mode='sysinfo'/>")?;
    if guest.hardware.firmware == (Firmware::Bios { serial: true }) {
        writeln!(xml, "    <bios useserial='yes'/>")?;
    }
    writeln!(xml, "  </os>")
}

/// Element `sysinfo`.
pub fn write_sysinfo(xml: &mut String, guest: &Guest) -> Result {
    writeln!(xml, "  <sysinfo type='smbios'>\n    <system>")?;
    writeln!(xml, "      <entry name='manufacturer'>Sheaf</entry>\n      <entry name='product'>VM</entry>")?;
    entry(xml, "serial", guest.hardware.serial.as_ref())?;
    entry(xml, "uuid", Some(&guest.uuid))?;
    writeln!(xml, "    </system>")?;
    if let Some(chassis) = &guest.hardware.chassis {
        writeln!(xml, "    <chassis>")?;
        entry(xml, "manufacturer", chassis.manufacturer.as_ref())?;
        entry(xml, "version", chassis.version.as_ref())?;
        entry(xml, "serial", chassis.serial.as_ref())?;
        entry(xml, "asset", chassis.asset.as_ref())?;
        entry(xml, "sku", chassis.sku.as_ref())?;
        writeln!(xml, "    </chassis>")?;
    }
    writeln!(xml, "  </sysinfo>")
}

fn entry(xml: &mut String, name: &str, value: Option<&String>) -> Result {
    match value.filter(|value| !value.is_empty()) {
        Some(value) => writeln!(xml, "      <entry name='{name}'>{}</entry>", escape(value)),
        None => Ok(()),
    }
}

/// Element `memoryBacking`, for huge pages. They are allocated as files in memory, which need no mount of hugetlbfs.
pub fn write_memory_backing(xml: &mut String, guest: &Guest) -> Result {
    let Some(page) = guest.hardware.page_size else { return Ok(()) };
    writeln!(xml, "  <memoryBacking>\n    <hugepages>")?;
    writeln!(xml, "      <page size='{}' unit='KiB'/>", page.bytes() >> 10)?;
    writeln!(xml, "    </hugepages>\n    <source type='memfd'/>\n  </memoryBacking>")
}

/// Element `features`.
pub fn write_features(xml: &mut String, guest: &Guest) -> Result {
    let features = &guest.hardware.features;
    writeln!(xml, "  <features>")?;
    if features.has_acpi() {
        writeln!(xml, "    <acpi/>")?;
    }
    match &features.apic {
        Some(apic) if apic.enabled == Some(false) => {}
        Some(apic) if apic.end_of_interrupt == Some(true) => writeln!(xml, "    <apic eoi='on'/>")?,
        _ => writeln!(xml, "    <apic/>")?,
    }
    match (&features.hyperv, &features.hyperv_passthrough) {
        (Some(hyperv), _) => write_hyperv(xml, hyperv)?,
        (None, Some(all)) if all.is_on() => writeln!(xml, "    <hyperv mode='passthrough'/>")?,
        _ => {}
    }
    let is_dedicated = guest.placement.own().is_some();
    if features.kvm.is_some() || is_dedicated {
        writeln!(xml, "    <kvm>")?;
        if let Some(kvm) = &features.kvm {
            writeln!(xml, "      <hidden state='{}'/>", on_off(kvm.hidden.unwrap_or(false)))?;
        }
        if is_dedicated {
            // The guest need not give a processor up while it waits for a lock: nothing else runs there.
            writeln!(xml, "      <hint-dedicated state='on'/>")?;
        }
        writeln!(xml, "    </kvm>")?;
    }
    state(xml, "    ", "pvspinlock", features.pvspinlock.as_ref())?;
    state(xml, "    ", "smm", features.smm.as_ref())?;
    writeln!(xml, "  </features>")
}

fn write_hyperv(xml: &mut String, hyperv: &HyperV) -> Result {
    let indent = "      ";
    writeln!(xml, "    <hyperv mode='custom'>")?;
    state(xml, indent, "relaxed", hyperv.relaxed.as_ref())?;
    state(xml, indent, "vapic", hyperv.vapic.as_ref())?;
    if let Some(spinlocks) = &hyperv.spinlocks {
        match spinlocks.enabled.unwrap_or(true) {
            true => {
                let retries = spinlocks.spinlocks.unwrap_or(LEAST_RETRIES);
                writeln!(xml, "{indent}<spinlocks state='on' retries='{retries}'/>")?;
            }
            false => writeln!(xml, "{indent}<spinlocks state='off'/>")?,
        }
    }
    state(xml, indent, "vpindex", hyperv.vpindex.as_ref())?;
    state(xml, indent, "runtime", hyperv.runtime.as_ref())?;
    state(xml, indent, "synic", hyperv.synic.as_ref())?;
    if let Some(timer) = &hyperv.synictimer {
        let on = on_off(timer.enabled.unwrap_or(true));
        match &timer.direct {
            Some(direct) => {
                writeln!(xml, "{indent}<stimer state='{on}'>")?;
                writeln!(xml, "{indent}  <direct state='{}'/>", on_off(direct.is_on()))?;
                writeln!(xml, "{indent}</stimer>")?;
            }
            None => writeln!(xml, "{indent}<stimer state='{on}'/>")?,
        }
    }
    state(xml, indent, "reset", hyperv.reset.as_ref())?;
    match &hyperv.vendorid {
        Some(id) if id.enabled.unwrap_or(true) => {
            let value = escape(id.vendorid.as_deref().unwrap_or_default());
            writeln!(xml, "{indent}<vendor_id state='on' value='{value}'/>")?;
        }
        Some(_) => writeln!(xml, "{indent}<vendor_id state='off'/>")?,
        None => {}
    }
    state(xml, indent, "frequencies", hyperv.frequencies.as_ref())?;
    state(xml, indent, "reenlightenment", hyperv.reenlightenment.as_ref())?;
    state(xml, indent, "tlbflush", hyperv.tlbflush.as_ref())?;
    state(xml, indent, "ipi", hyperv.ipi.as_ref())?;
    state(xml, indent, "evmcs", hyperv.evmcs.as_ref())?;
    writeln!(xml, "    </hyperv>")
}

/// Retries of Hyper-V's spinlocks where no number is given: the least that libvirt takes, and KubeVirt's default.
const LEAST_RETRIES: u32 = 4096;

fn state(xml: &mut String, indent: &str, name: &str, feature: Option<&FeatureState>) -> Result {
    match feature {
        Some(feature) => writeln!(xml, "{indent}<{name} state='{}'/>", on_off(feature.is_on())),
        None => Ok(()),
    }
}

fn on_off(is_on: bool) -> &'static str {
    if is_on { "on" } else { "off" }
}

/// Element `cpu`.
pub fn write_cpu(xml: &mut String, guest: &Guest) -> Result {
    let (_, cores, threads) = guest.topology;
    let sockets = size::most_sockets(guest);
    match &guest.cpu {
        CpuModel::HostModel => writeln!(xml, "  <cpu mode='host-model'>")?,
        CpuModel::HostPassthrough => writeln!(xml, "  <cpu mode='host-passthrough'>")?,
        CpuModel::Named(name) => {
            writeln!(xml, "  <cpu mode='custom' match='exact'>")?;
            writeln!(xml, "    <model fallback='forbid'>{}</model>", escape(name))?;
        }
    }
    writeln!(xml, "    <topology sockets='{sockets}' cores='{cores}' threads='{threads}'/>")?;
    let mut feature = |policy: CpuFeaturePolicy, name: &str| {
        writeln!(xml, "    <feature policy='{}' name='{}'/>", policy.name(), escape(name))
    };
    let features = &guest.hardware.cpu_features;
    for one in features {
        feature(one.policy(), &one.name)?;
    }
    if matches!(guest.cpu, CpuModel::Named(_)) && features.iter().all(|one| one.name != GONE_FEATURE) {
        feature(CpuFeaturePolicy::Disable, GONE_FEATURE)?;
    }
    size::write_numa(xml, guest)?;
    writeln!(xml, "  </cpu>")
}

/// Element `clock`. A timer that the VM does not name is as it is without any clock.
pub fn write_clock(xml: &mut String, guest: &Guest) -> Result {
    let clock = guest.hardware.clock.clone().unwrap_or_default();
    writeln!(xml, "  <clock {}>", offset(&clock))?;
    let timers = clock.timer.unwrap_or_default();
    let mut timer = |name: &str, present: Option<bool>, rest: [(&str, Option<&str>); 2]| {
        let rest = rest.iter().filter_map(|(name, value)| Some(format!(" {name}='{}'", (*value)?)));
        let present = if present.unwrap_or(true) { "yes" } else { "no" };
        writeln!(xml, "    <timer name='{name}' present='{present}'{}/>", rest.collect::<String>())
    };
    let policy = |word| ("tickpolicy", word);
    let none = ("track", None);
    match timers.rtc {
        Some(rtc) => {
            let track = ("track", rtc.track.map(|track| track.name()));
            timer("rtc", rtc.present, [policy(rtc.tick_policy.map(|policy| policy.name())), track])?;
        }
        None => timer("rtc", None, [policy(Some("catchup")), none])?,
    }
    match timers.pit {
        Some(pit) => timer("pit", pit.present, [policy(pit.tick_policy.map(|policy| policy.name())), none])?,
        None => timer("pit", None, [policy(Some("delay")), none])?,
    }
    match timers.hpet {
        Some(hpet) => {
            timer("hpet", hpet.present, [policy(hpet.tick_policy.map(|policy| policy.name())), none])?;
        }
        None => timer("hpet", Some(false), [none, none])?,
    }
    if let Some(kvm) = timers.kvm {
        timer("kvmclock", kvm.present, [none, none])?;
    }
    if let Some(hyperv) = timers.hyperv {
        timer("hypervclock", hyperv.present, [none, none])?;
    }
    writeln!(xml, "  </clock>")
}

/// Attributes of the clock.
fn offset(clock: &Clock) -> String {
    match (&clock.timezone, clock.utc.as_ref().and_then(|utc| utc.offset_seconds)) {
        (Some(zone), _) => format!("offset='timezone' timezone='{}'", escape(zone)),
        (None, Some(seconds)) => format!("offset='utc' adjustment='{seconds}'"),
        (None, None) => "offset='utc'".into(),
    }
}

fn text(path: &Path) -> String {
    escape(&path.to_string_lossy())
}
