//! libvirt-dbus as it is on the bus: interfaces, object paths and the numbers of libvirt's enumerations.
//!
//! Route in: method calls of [`super::Libvirt`]. Route out: its plain types.

use super::{State, Stop, VmError};
use std::collections::HashMap;
use zbus::{ObjectPath, OwnedFd, OwnedObjectPath, OwnedVariant, Variant};

/// `VIR_DOMAIN_SHUTDOWN_ACPI_POWER_BTN`
pub const SHUTDOWN_ACPI_POWER_BUTTON: u32 = 1;

/// `VIR_DOMAIN_START_PAUSED`
pub const START_PAUSED: u32 = 1;

/// `VIR_DOMAIN_BLOCK_RESIZE_BYTES`
pub const BLOCK_RESIZE_BYTES: u32 = 1;

/// `VIR_DOMAIN_AFFECT_LIVE`
pub const AFFECT_LIVE: u32 = 1;

/// `VIR_DOMAIN_DEVICE_MODIFY_FORCE`
pub const MODIFY_FORCE: u32 = 4;

/// `VIR_DOMAIN_OPEN_GRAPHICS_SKIPAUTH`
pub const OPEN_GRAPHICS_SKIPAUTH: u32 = 1;

/// Object path of a domain, before its UUID with `_` for `-`.
const DOMAIN_PATH: &str = "/org/libvirt/QEMU/domain/_";

#[zbus::proxy(
    interface = "org.libvirt.Connect",
    default_service = "org.libvirt",
    default_path = "/org/libvirt/QEMU"
)]
pub trait Connect {
    fn list_domains(&self, flags: u32) -> zbus::Result<Vec<OwnedObjectPath>>;

    #[zbus(name = "DomainCreateXML")]
    fn domain_create_xml(&self, xml: &str, flags: u32) -> zbus::Result<OwnedObjectPath>;

    /// Each domain by name, with its counters.
    fn get_all_domain_stats(
        &self,
        stats: u32,
        flags: u32,
    ) -> zbus::Result<Vec<(String, HashMap<String, OwnedVariant>)>>;

    /// Asked again each time: it is the question whether libvirt answers.
    #[zbus(property(emits_changed_signal = "false"))]
    fn lib_version(&self) -> zbus::Result<u64>;

    #[zbus(signal)]
    fn domain_event(&self, domain: ObjectPath<'_>, event: i32, detail: i32) -> zbus::Result<()>;
}

#[zbus::proxy(interface = "org.libvirt.Domain", default_service = "org.libvirt")]
pub trait Domain {
    #[zbus(name = "GetXMLDesc")]
    fn get_xml_desc(&self, flags: u32) -> zbus::Result<String>;

    fn get_state(&self, flags: u32) -> zbus::Result<(i32, i32)>;

    fn shutdown(&self, flags: u32) -> zbus::Result<()>;

    fn destroy(&self, flags: u32) -> zbus::Result<()>;

    fn resume(&self) -> zbus::Result<()>;

    fn suspend(&self) -> zbus::Result<()>;

    fn reset(&self, flags: u32) -> zbus::Result<()>;

    fn reboot(&self, flags: u32) -> zbus::Result<()>;

    #[zbus(name = "OpenGraphicsFD")]
    fn open_graphics_fd(&self, index: u32, flags: u32) -> zbus::Result<OwnedFd>;

    fn block_resize(&self, disk: &str, size: u64, flags: u32) -> zbus::Result<()>;

    fn attach_device(&self, xml: &str, flags: u32) -> zbus::Result<()>;

    fn detach_device(&self, xml: &str, flags: u32) -> zbus::Result<()>;

    fn update_device(&self, xml: &str, flags: u32) -> zbus::Result<()>;

    fn pin_vcpu(&self, vcpu: u32, cpus: &[bool], flags: u32) -> zbus::Result<()>;

    fn pin_emulator(&self, cpus: &[bool], flags: u32) -> zbus::Result<()>;

    #[zbus(name = "PinIOThread")]
    fn pin_io_thread(&self, thread: u32, cpus: &[bool], flags: u32) -> zbus::Result<()>;

    #[zbus(name = "SetVcpus")]
    fn set_vcpus(&self, count: u32, flags: u32) -> zbus::Result<()>;

    fn set_memory_parameters(&self, parameters: HashMap<&str, Variant<'_>>, flags: u32) -> zbus::Result<()>;
}

/// UUID of the domain at `path`.
pub fn uuid_of(path: &ObjectPath<'_>) -> String {
    path.as_str().strip_prefix(DOMAIN_PATH).unwrap_or_default().replace('_', "-")
}

/// Path of the domain `uuid`.
pub fn path_of(uuid: &str) -> Result<OwnedObjectPath, VmError> {
    let path = format!("{DOMAIN_PATH}{}", uuid.replace('-', "_"));
    OwnedObjectPath::try_from(path).map_err(VmError::Bus)
}

/// `virDomainState` with its reason.
pub fn state(state: i32, reason: i32) -> State {
    match state {
        // NOSTATE, RUNNING, BLOCKED; SHUTDOWN means "being shut down": QEMU is still there.
        0..=2 | 4 => State::Running,
        // PAUSED for VIR_DOMAIN_PAUSED_IOERROR
        3 if reason == 5 => State::PausedByDisk,
        // PAUSED, PMSUSPENDED
        3 | 7 => State::Paused,
        // CRASHED
        6 => State::Stopped(Stop::Crashed),
        // SHUTOFF with virDomainShutoffReason
        _ => State::Stopped(match reason {
            1 => Stop::Shutdown,
            2 => Stop::Destroyed,
            3 | 6 => Stop::Crashed,
            _ => Stop::Unknown,
        }),
    }
}

/// Reason of a `VIR_DOMAIN_EVENT_STOPPED`; `None` for other events.
pub fn stop_of_event(event: i32, detail: i32) -> Option<Stop> {
    const STOPPED: i32 = 5;
    (event == STOPPED).then_some(match detail {
        0 => Stop::Shutdown,
        1 => Stop::Destroyed,
        // CRASHED, FAILED
        2 | 5 => Stop::Crashed,
        _ => Stop::Unknown,
    })
}

/// Reason in the last line that libvirt wrote about the last run, `…: shutting down, reason=shutdown`.
pub fn stop_in_log(log: &str) -> Stop {
    let last_run = log.rsplit_once("starting up libvirt version").map_or("", |(_before, run)| run);
    let reason = last_run.lines().rev().find_map(|line| line.split_once("shutting down, reason="));
    match reason.map(|(_time, reason)| reason.trim()) {
        Some("shutdown") => Stop::Shutdown,
        Some("destroyed") => Stop::Destroyed,
        Some("crashed" | "failed") => Stop::Crashed,
        _ => Stop::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uuid_and_its_object_path_are_each_others_inverse() {
        let path = path_of("11111111-2222-3333-4444-555555555555").unwrap();
        assert_eq!(path.as_str(), "/org/libvirt/QEMU/domain/_11111111_2222_3333_4444_555555555555");
        assert_eq!(uuid_of(&path), "11111111-2222-3333-4444-555555555555");
    }

    #[test]
    fn the_log_of_the_last_run_says_why_it_ended() {
        let log = "2026-01-01: starting up libvirt version: 11.3.0\n2026-01-01: shutting down, reason=crashed\n\
                   2026-01-02: starting up libvirt version: 11.3.0\nqemu: terminating on signal 15\n\
                   2026-01-02: shutting down, reason=shutdown\n";
        assert_eq!(stop_in_log(log), Stop::Shutdown);
    }

    #[test]
    fn a_run_without_an_end_in_the_log_is_not_given_the_end_of_an_earlier_one() {
        let log = "starting up libvirt version: 1\nx: shutting down, reason=shutdown\nstarting up libvirt version: 1\n";
        assert_eq!(stop_in_log(log), Stop::Unknown);
        assert_eq!(stop_in_log(""), Stop::Unknown);
    }

    #[test]
    fn only_a_stopped_event_carries_a_stop() {
        assert_eq!(stop_of_event(2, 0), None);
        assert_eq!(stop_of_event(5, 0), Some(Stop::Shutdown));
        assert_eq!(stop_of_event(5, 5), Some(Stop::Crashed));
    }
}
