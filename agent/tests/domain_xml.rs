//! Golden files: guests and the domain XML they become. `UPDATE=1` writes the files again, for a reader to judge.

use sheaf_agent::names::tap;
use sheaf_agent::vms::domain_xml::{DomainType, render};
use sheaf_agent::vms::filters::Port;
use sheaf_agent::vms::guest::{
    CpuModel, DataSource, Disk, DiskOptions, Files, Folder, Format, Guest, Hardware, Identity, Nic, Seed,
    Source,
};
use sheaf_api::devices::{Cache, DiskBus, InterfaceModel};
use sheaf_api::network::VlanRange;
use std::path::{Path, PathBuf};

fn plain() -> Guest {
    Guest {
        id: Identity {
            pod_uid: "4d0a9a4e-1111-4222-8333-444455556666".into(),
            pod: "virt-launcher-web-x7k2p".into(),
            namespace: "default".into(),
            vmi: "web".into(),
            vmi_uid: "0b0e6d2c-6a4e-4c9f-9a53-0d0e1f2a3b4c".into(),
        },
        uuid: "0b0e6d2c-6a4e-4c9f-9a53-0d0e1f2a3b4c".into(),
        grace_seconds: 180,
        priority: 0,
        memory: 512 << 20,
        topology: (1, 1, 1),
        cpu: CpuModel::HostModel,
        placement: Default::default(),
        machine: "q35".into(),
        disks: vec![
            disk(
                "root",
                DiskBus::Virtio,
                Source::Overlay {
                    base: "/data/images/debian-13.raw".into(),
                    format: Format::Raw,
                    bytes: 3 << 30,
                    linked: false,
                },
            ),
            disk("seed", DiskBus::Virtio, seed("web")),
        ],
        space: 0,
        interfaces: vec![nic(0, InterfaceModel::Virtio, port("br0"))],
        host_devices: Vec::new(),
        rng: true,
        graphics: true,
        serial: true,
        hardware: Hardware::default(),
    }
}

fn port(bridge: &str) -> Port {
    Port { bridge: bridge.into(), ..Port::default() }
}

fn nic(index: usize, model: InterfaceModel, port: Port) -> Nic {
    let (tap, mac) = (tap("0b0e6d2c-6a4e", index), format!("02:11:22:33:44:5{index}"));
    Nic { port: Port { tap, mac, ..port }, model, down: false }
}

fn trunk() -> Vec<VlanRange> {
    vec![VlanRange { first: 10, last: 10 }, VlanRange { first: 20, last: 22 }]
}

fn disk(name: &str, bus: DiskBus, source: Source) -> Disk {
    Disk {
        name: name.into(),
        cdrom: false,
        bus,
        source,
        boot_order: None,
        serial: None,
        cache: None,
        options: DiskOptions::default(),
    }
}

fn seed(hostname: &str) -> Source {
    let (source, hostname) = (DataSource::NoCloud, hostname.into());
    Source::Seed(Seed { source, hostname, user_data: None, network_data: None, keys: Vec::new() })
}

/// Everything that can be asked for, in other words than the defaults.
fn rich() -> Guest {
    let data =
        Source::InPlace { path: "/data/disks/team's/db.qcow2".into(), format: Format::Qcow2, create: None };
    Guest {
        uuid: "11111111-2222-3333-4444-555555555555".into(),
        priority: -1000,
        topology: (2, 4, 2),
        cpu: CpuModel::Named("EPYC-Rome".into()),
        machine: "pc-q35-10.0".into(),
        disks: vec![
            Disk {
                boot_order: Some(2),
                serial: Some("DB-0001".into()),
                cache: Some(Cache::Writeback),
                ..disk("data", DiskBus::Scsi, data)
            },
            Disk { boot_order: Some(1), ..disk("scratch", DiskBus::Sata, Source::Empty(1 << 30)) },
            disk("stick", DiskBus::Usb, Source::Empty(1 << 20)),
            Disk { cdrom: true, ..disk("seed", DiskBus::Sata, seed("db")) },
        ],
        space: 0,
        interfaces: vec![
            nic(0, InterfaceModel::E1000, Port { vlan: Some(100), ..port("br1") }),
            nic(1, InterfaceModel::E1000e, Port { trunk: trunk(), ..port("br1") }),
            nic(2, InterfaceModel::Virtio, Port { masquerade: true, ..port("masq0") }),
        ],
        rng: false,
        graphics: false,
        ..plain()
    }
}

fn compare(name: &str, guest: &Guest, domain_type: DomainType) {
    let file: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
    let folder = Folder::of(Path::new("/data/vms"), &guest.id.vmi_uid);
    let xml = render(guest, &folder, domain_type);
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&file, &xml).unwrap();
    }
    let golden = std::fs::read_to_string(&file).unwrap();
    assert!(xml == golden, "{} differs; UPDATE=1 rewrites it:\n{xml}", file.display());
}

#[test]
fn a_vm_with_defaults_overlay_and_seed() {
    compare("plain.xml", &plain(), DomainType::Kvm);
}

#[test]
fn a_vm_that_asks_for_everything() {
    compare("rich.xml", &rich(), DomainType::Kvm);
}

#[test]
fn a_vm_on_volumes_of_a_pool() {
    let device = |name: &str| Source::Device(format!("/dev/sheaf-default/{name}").into());
    let guest = Guest {
        disks: vec![
            disk("root", DiskBus::Virtio, device("pvc-6f6f1c1e-0a3b-4b0e-8b9b-1f2e3d4c5b6a")),
            Disk { cache: Some(Cache::Writeback), ..disk("data", DiskBus::Scsi, device("pvc-2")) },
            Disk { cdrom: true, ..disk("install", DiskBus::Sata, device("pvc-3")) },
            Disk { cdrom: true, ..disk("drivers", DiskBus::Sata, Source::NoMedium { awaited: false }) },
        ],
        space: 0,
        interfaces: Vec::new(),
        ..plain()
    };
    compare("volumes.xml", &guest, DomainType::Kvm);
}

#[test]
fn a_vm_on_an_overlay_over_a_volume_with_files_on_read_only_disks() {
    let device = "/dev/sheaf-default/pvc-6f6f1c1e-0a3b-4b0e-8b9b-1f2e3d4c5b6a".into();
    let files = || Source::Files(Files::Made { label: "cfgdata".into(), files: Default::default() });
    let guest = Guest {
        disks: vec![
            disk("root", DiskBus::Virtio, Source::DeviceOverlay { device, bytes: 1 << 30 }),
            disk("settings", DiskBus::Virtio, files()),
            Disk { cdrom: true, ..disk("answers", DiskBus::Sata, files()) },
        ],
        interfaces: Vec::new(),
        ..plain()
    };
    compare("ephemeral.xml", &guest, DomainType::Kvm);
}

#[test]
fn a_vm_of_an_emulated_processor() {
    let guest = Guest { disks: Vec::new(), interfaces: Vec::new(), ..plain() };
    compare("emulated.xml", &guest, DomainType::Qemu);
}
