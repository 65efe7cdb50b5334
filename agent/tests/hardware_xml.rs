//! Golden files: the virtual hardware that a VM asks for in KubeVirt's words, and its domain XML. `UPDATE=1` writes the files
//! again, for a reader to judge.

use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};
use sheaf_agent::channels::ContainerDisk;
use sheaf_agent::vms::admission::{Verdict, admit};
use sheaf_agent::vms::cpus::{NodeCpus, Placement, choose};
use sheaf_agent::vms::domain_xml::{DomainType, render};
use sheaf_agent::vms::facts::{ClaimFact, Facts, Resources};
use sheaf_agent::vms::guest::{Blocks, Folder, Format, Guest};
use sheaf_agent::vms::host_devices::{HostDevice, Offer, Resource};
use sheaf_host::cpus::{CpuReport as _, CpuSet};
use sheaf_host::fakes::FakeCpus;
use std::path::Path;

const UID: &str = "0b0e6d2c-6a4e-4c9f-9a53-0d0e1f2a3b4c";
const DEVICE: &str = "/dev/sheaf-default/pvc-1";

/// 16 processors in two cells, of which core 0 is reserved.
fn cpus() -> NodeCpus {
    let topology = FakeCpus::of(2, 4, 2).topology().unwrap();
    NodeCpus { topology, reserved: CpuSet::parse("0,8").unwrap() }
}

/// A node with the bridge masq0, huge pages, processors for VMs and the volume of claim `data`.
fn facts() -> Facts {
    let amount = 1 << 36;
    let all =
        Resources { cpu: 64_000, memory: amount, pods: 10, storage: amount, huge_2mi: amount, huge_1gi: 0 };
    let device = std::path::PathBuf::from(DEVICE);
    let volume = sheaf_agent::channels::Usable {
        ready: true,
        readable: true,
        device: device.clone(),
        bytes: 1 << 33,
        problem: None,
    };
    Facts {
        allocatable: Some(all),
        cpus: Some(cpus()),
        devices: Offer {
            resources: [("nvidia.com/T4".to_owned(), Resource::default())].into(),
            problems: Vec::new(),
        },
        container_disks: ["kernelBoot.kernel", "kernelBoot.initrd"]
            .map(|name| {
                let path = std::path::PathBuf::from("/data/container-disks").join(name);
                let file = ContainerDisk::Ready { path, format: Format::Raw, bytes: 1 << 20 };
                (("p1".to_owned(), name.to_owned()), file)
            })
            .into(),
        bridges: ["masq0".to_owned()].into(),
        data: "/data".into(),
        disks: "/data/disks".into(),
        states: "/data/state".into(),
        claims: [(("default".to_owned(), "data".to_owned()), ClaimFact::Volume("pvc-1".into()))].into(),
        volumes: Some([("pvc-1".to_owned(), volume)].into()),
        blocks: [
            (device, Blocks { logical: 512, physical: 4096, discard: Some(65_536) }),
            ("/data".into(), Blocks { logical: 4096, physical: 4096, discard: Some(4096) }),
        ]
        .into(),
        ..Facts::default()
    }
}

fn pod(spec: Value) -> Pod {
    let annotation = json!({"name": "vm", "namespace": "default", "uid": UID, "spec": spec}).to_string();
    let pod = serde_json::from_value(json!({
        "metadata": {"name": "virt-launcher-vm", "namespace": "default", "uid": "p1",
                     "annotations": {"sheaf.dev/vmi": annotation}},
        "spec": {"runtimeClassName": "sheaf-vm", "restartPolicy": "Never", "terminationGracePeriodSeconds": 60,
                 "volumes": [{"name": "c", "persistentVolumeClaim": {"claimName": "data"}}],
                 "containers": [{"name": "compute", "image": "sheaf.dev/virtual-machine"}]},
    }));
    pod.unwrap()
}

fn verdict(spec: Value) -> Verdict {
    admit(&pod(spec), &facts(), Resources::default())
}

fn guest(spec: Value) -> Box<Guest> {
    match verdict(spec) {
        Verdict::Accept(guest) => guest,
        other => panic!("{other:?}"),
    }
}

/// The sentence with which `spec` is refused.
fn refused(spec: Value) -> String {
    match verdict(spec) {
        Verdict::Reject(why) => why.message,
        other => panic!("{other:?}"),
    }
}

/// The guest of `spec` on processors of its own.
fn placed(spec: Value) -> Box<Guest> {
    let mut guest = guest(spec);
    let free = cpus().topology.all().without(&cpus().reserved);
    let own = choose(&cpus().topology, &free, guest.hardware.own_cpus.unwrap()).unwrap();
    guest.placement = Placement::Own(own);
    guest
}

/// Compares the XML of `spec` with a golden file.
fn compare(name: &str, spec: Value) {
    compare_guest(name, &guest(spec));
}

/// Compares the XML of `guest` with a golden file.
fn compare_guest(name: &str, guest: &Guest) {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
    let xml = render(guest, &Folder::of(Path::new("/data/vms"), UID), DomainType::Kvm);
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&file, &xml).unwrap();
    }
    let golden = std::fs::read_to_string(&file).unwrap();
    assert!(xml == golden, "{} differs; UPDATE=1 rewrites it:\n{xml}", file.display());
}

/// `domain` with 1 GiB of memory.
fn domain(mut domain: Value) -> Value {
    let object = domain.as_object_mut().unwrap();
    object.entry("memory").or_insert(json!({"guest": "1Gi"}));
    object.entry("devices").or_insert(json!({"autoattachPodInterface": false}));
    json!({"domain": domain})
}

#[test]
fn kubevirts_example_of_windows() {
    // examples/vmi-windows.yaml of v1.7.0, its volume on a disk.
    compare(
        "windows.xml",
        json!({
            "domain": {
                "clock": {
                    "timer": {"hpet": {"present": false}, "hyperv": {}, "pit": {"tickPolicy": "delay"},
                              "rtc": {"tickPolicy": "catchup"}},
                    "utc": {},
                },
                "cpu": {"cores": 2},
                "devices": {
                    "disks": [{"name": "pvcdisk", "disk": {"bus": "sata"}}],
                    "interfaces": [{"name": "default", "masquerade": {}, "model": "e1000"}],
                    "tpm": {},
                },
                "features": {
                    "acpi": {}, "apic": {}, "smm": {},
                    "hyperv": {"relaxed": {}, "spinlocks": {"spinlocks": 8191}, "vapic": {}},
                },
                "firmware": {"bootloader": {"efi": {"secureBoot": true}}, "uuid": "5d307ca9-b3ef-428c-8861-06e72d69f223"},
                "memory": {"guest": "2Gi"},
                "resources": {},
            },
            "networks": [{"name": "default", "pod": {}}],
            "terminationGracePeriodSeconds": 0,
            "volumes": [{"name": "pvcdisk", "persistentVolumeClaim": {"claimName": "data"}}],
        }),
    );
}

#[test]
fn uefi_without_secure_boot_whose_variables_outlive_the_instance() {
    compare(
        "efi-persistent.xml",
        domain(json!({
            "firmware": {"bootloader": {"efi": {"secureBoot": false, "persistent": true}}, "serial": "SN <1>"},
            "chassis": {"manufacturer": "ACME", "version": "2", "serial": "C-1", "asset": "A-1", "sku": "S-1"},
        })),
    );
}

#[test]
fn secure_boot_and_a_tpm_that_outlives_the_instance() {
    compare(
        "secure-boot-tpm.xml",
        domain(json!({
            "firmware": {"bootloader": {"efi": {}}},
            "features": {"smm": {"enabled": true}},
            "devices": {"autoattachPodInterface": false, "tpm": {"persistent": true}},
        })),
    );
}

#[test]
fn every_feature_of_hyper_v_and_kvm() {
    compare(
        "features.xml",
        domain(json!({
            "features": {
                "acpi": {"enabled": false}, "apic": {"endOfInterrupt": true}, "kvm": {"hidden": true},
                "pvspinlock": {"enabled": false}, "smm": {"enabled": false},
                "hyperv": {
                    "relaxed": {}, "vapic": {}, "spinlocks": {}, "vpindex": {}, "runtime": {}, "synic": {},
                    "synictimer": {"direct": {}}, "reset": {}, "vendorid": {"vendorid": "Sheaf&Co"}, "frequencies": {},
                    "reenlightenment": {"enabled": false}, "tlbflush": {}, "ipi": {}, "evmcs": {"enabled": false},
                },
            },
            "clock": {"timezone": "Europe/Berlin", "timer": {"hpet": {"tickPolicy": "merge"}, "kvm": {"present": false},
                      "pit": {"present": false}, "rtc": {"track": "wall"}, "hyperv": {}}},
        })),
    );
}

#[test]
fn all_features_of_hyper_v_that_the_node_has_and_a_clock_ahead_of_utc() {
    compare(
        "hyperv-passthrough.xml",
        domain(json!({
            "features": {"apic": {"enabled": false}, "hypervPassthrough": {"enabled": true}},
            "clock": {"utc": {"offsetSeconds": 3600}},
            "firmware": {"bootloader": {"bios": {"useSerial": true}}},
        })),
    );
}

#[test]
fn a_named_cpu_with_features_on_huge_pages_that_starts_paused() {
    let mut spec = domain(json!({
        "cpu": {"sockets": 2, "maxSockets": 4, "model": "Skylake-Server",
                "features": [{"name": "vmx"}, {"name": "avx512f", "policy": "disable"}]},
        "memory": {"guest": "1Gi", "maxGuest": "4Gi", "hugepages": {"pageSize": "2Mi"}},
    }));
    spec["startStrategy"] = json!("Paused");
    spec["architecture"] = json!("amd64");
    spec["dnsConfig"] = json!({"nameservers": ["192.0.2.1"]});
    spec["evictionStrategy"] = json!("LiveMigrate");
    compare("cpu.xml", spec);
}

#[test]
fn dedicated_cpus_with_one_for_qemu_and_its_io_threads() {
    let mut spec = domain(json!({
        "cpu": {"cores": 2, "threads": 2, "dedicatedCpuPlacement": true, "isolateEmulatorThread": true, "maxSockets": 4},
        "ioThreadsPolicy": "shared", "features": {"kvm": {"hidden": true}},
        "devices": {"autoattachPodInterface": false, "disks": [{"name": "a", "disk": {"bus": "virtio"}}]},
    }));
    spec["volumes"] = json!([{"name": "a", "emptyDisk": {"capacity": "1Gi"}}]);
    compare_guest("dedicated.xml", &placed(spec));
}

#[test]
fn dedicated_cpus_of_two_numa_cells_each_with_memory_of_its_own() {
    let spec = domain(json!({
        "cpu": {"cores": 10, "dedicatedCpuPlacement": true, "numa": {"guestMappingPassthrough": {}}},
        "memory": {"guest": "1026Mi", "hugepages": {"pageSize": "2Mi"}},
    }));
    compare_guest("numa.xml", &placed(spec));
}

#[test]
fn devices_of_the_node() {
    let mut guest = guest(domain(json!({"devices": {
        "autoattachPodInterface": false, "gpus": [{"name": "gpu1", "deviceName": "nvidia.com/T4"}],
        "hostDevices": [{"name": "nic", "deviceName": "nvidia.com/T4"}],
    }})));
    let wanted = &guest.hardware.host_devices;
    let addresses = ["0000:3b:00.1", "0000:01:00.0"];
    let given = wanted.iter().zip(addresses).map(|(one, address)| HostDevice {
        name: one.name.clone(),
        address: address.into(),
        role: one.role.clone(),
    });
    guest.host_devices = given.collect();
    compare_guest("host-devices.xml", &guest);
}

/// A Pod whose interface `fast` is a virtual function.
fn pod_with_function(spec: Value, function: Value) -> Pod {
    let mut pod = pod(spec);
    let annotations = pod.metadata.annotations.as_mut().unwrap();
    let mut placed: Value = serde_json::from_str(&annotations["sheaf.dev/vmi"]).unwrap();
    placed["functions"] = json!({ "fast": function });
    annotations.insert("sheaf.dev/vmi".into(), placed.to_string());
    pod
}

#[test]
fn a_virtual_function_of_a_nic() {
    let interfaces = json!([{"name": "out", "masquerade": {}},
        {"name": "fast", "sriov": {}, "macAddress": "02:00:00:00:00:09"}]);
    let mut spec = domain(json!({"devices": {"interfaces": interfaces}}));
    spec["networks"] =
        json!([{"name": "out", "pod": {}}, {"name": "fast", "multus": {"networkName": "fast"}}]);
    let admitted =
        |function: Value| admit(&pod_with_function(spec.clone(), function), &facts(), Resources::default());
    let Verdict::Accept(mut guest) = admitted(json!({"resourceName": "nvidia.com/T4", "vlan": 100})) else {
        panic!()
    };
    assert_eq!(guest.interfaces.len(), 1, "the node has a port for the other one alone");
    let given = guest.hardware.host_devices.iter().map(|one| HostDevice {
        name: one.name.clone(),
        address: "0000:3b:02.1".into(),
        role: one.role.clone(),
    });
    guest.host_devices = given.collect();
    compare_guest("sriov.xml", &guest);
    let refused = |function: Value| match admitted(function) {
        Verdict::Reject(why) => why.message,
        other => panic!("{other:?}"),
    };
    assert_eq!(
        refused(json!({"resourceName": "intel.com/vf"})),
        "domain.devices: permittedHostDevices of ClusterConfig cluster does not have intel.com/vf"
    );
    assert_eq!(
        refused(json!({"resourceName": "intel.com/vf", "vlan": 5000})),
        "network fast: VLAN 5000 is not between 1 and 4094"
    );
}

#[test]
fn a_kernel_with_an_initrd_and_arguments() {
    let container =
        json!({"image": "quay.io/k:1", "kernelPath": "/boot/vmlinuz", "initrdPath": "/boot/initrd"});
    let firmware = json!({"kernelBoot": {"container": container, "kernelArgs": "console=ttyS0 quiet a=<b>"}});
    compare("kernel-boot.xml", domain(json!({ "firmware": firmware })));
}

#[test]
fn a_kernel_that_is_being_pulled_is_waited_for() {
    let container = json!({"image": "quay.io/k:1", "kernelPath": "/boot/vmlinuz"});
    let spec = domain(json!({"firmware": {"kernelBoot": {"container": container}}}));
    let mut facts = facts();
    let key = || ("p1".to_owned(), "kernelBoot.kernel".to_owned());
    let message = "domain.firmware.kernelBoot.kernel: image quay.io/k:1 is being pulled";
    let state = ContainerDisk::NotReady { reason: "ImageNotReady", message: message.into() };
    facts.container_disks.insert(key(), state);
    match admit(&pod(spec.clone()), &facts, Resources::default()) {
        Verdict::Wait(why) => assert_eq!((why.reason, why.message.as_str()), ("ImageNotReady", message)),
        other => panic!("{other:?}"),
    }
    facts.container_disks.remove(&key());
    assert_eq!(admit(&pod(spec), &facts, Resources::default()), Verdict::Unknown);
}

#[test]
fn a_vm_on_the_processors_that_no_other_has_to_itself() {
    let mut guest = guest(domain(json!({"cpu": {"cores": 2}})));
    guest.placement = Placement::Shared(CpuSet::parse("0,5-8").unwrap());
    let xml = render(&guest, &Folder::of(Path::new("/data/vms"), UID), DomainType::Kvm);
    assert!(xml.contains("  <vcpu placement='static' cpuset='0,5-8'>2</vcpu>\n"), "{xml}");
    assert!(!xml.contains("cputune") && !xml.contains(" cpus="), "{xml}");
}

#[test]
fn a_vm_that_can_grow_while_it_runs() {
    let spec = domain(json!({
        "cpu": {"sockets": 1, "cores": 2, "maxSockets": 4},
        "memory": {"guest": "1Gi", "maxGuest": "4Gi"},
    }));
    compare("growing.xml", spec);
}

#[test]
fn disks_with_threads_block_sizes_and_queues() {
    let mut spec = domain(json!({
        "cpu": {"cores": 4},
        "ioThreadsPolicy": "auto",
        "resources": {"requests": {"cpu": 2}},
        "devices": {
            "autoattachPodInterface": false, "blockMultiQueue": true,
            "disks": [
                {"name": "a", "disk": {"bus": "virtio"}, "io": "threads", "blockSize": {"matchVolume": {}}, "errorPolicy": "report"},
                {"name": "b", "dedicatedIOThread": true, "io": "native",
                 "blockSize": {"custom": {"logical": 512, "physical": 4096, "discardGranularity": 0}}},
                {"name": "c", "disk": {"bus": "scsi", "readonly": true}, "blockSize": {"matchVolume": {"enabled": true}}},
                {"name": "d", "cdrom": {"bus": "sata", "readonly": true}},
            ],
        },
    }));
    spec["volumes"] = json!([
        {"name": "a", "persistentVolumeClaim": {"claimName": "data"}}, {"name": "b", "emptyDisk": {"capacity": "1Gi"}},
        {"name": "c", "emptyDisk": {"capacity": "1Gi"}}, {"name": "d", "emptyDisk": {"capacity": "1Gi"}},
    ]);
    compare("disk-options.xml", spec);
}

#[test]
fn virtio_of_before_1_0_with_queues_inputs_and_a_watchdog() {
    let mut spec = domain(json!({
        "cpu": {"cores": 2},
        "devices": {
            "useVirtioTransitional": true, "networkInterfaceMultiqueue": true, "disableHotplug": true, "rng": {},
            "logSerialConsole": false, "watchdog": {"name": "dog", "i6300esb": {"action": "poweroff"}},
            "inputs": [{"name": "pen", "type": "tablet", "bus": "virtio"}, {"name": "pad", "type": "tablet", "bus": "usb"}],
            "disks": [{"name": "a", "disk": {"bus": "virtio"}}, {"name": "b", "disk": {"bus": "scsi"}}],
            "interfaces": [{"name": "default", "masquerade": {}}],
        },
    }));
    spec["networks"] = json!([{"name": "default", "pod": {}}]);
    spec["volumes"] = json!([{"name": "a", "emptyDisk": {"capacity": "1Gi"}}, {"name": "b", "emptyDisk": {"capacity": "1Gi"}}]);
    compare("transitional.xml", spec);
}

#[test]
fn a_vm_without_balloon_whose_tpm_is_switched_off() {
    let devices =
        json!({"autoattachPodInterface": false, "autoattachMemBalloon": false, "tpm": {"enabled": false}});
    let xml = render(
        &guest(domain(json!({"devices": devices}))),
        &Folder::of(Path::new("/data/vms"), UID),
        DomainType::Kvm,
    );
    assert!(xml.contains("<memballoon model='none'/>") && !xml.contains("<tpm"), "{xml}");
}

#[test]
fn what_the_api_server_would_refuse_is_refused_again() {
    let message = refused(domain(json!({"firmware": {"bootloader": {"efi": {}}}})));
    assert_eq!(message, "domain.firmware.bootloader.efi: SecureBoot requires domain.features.smm");
    let message =
        refused(domain(json!({"firmware": {"bootloader": {"efi": {"secureBoot": false}, "bios": {}}}})));
    assert_eq!(message, "domain.firmware.bootloader: bios and efi exclude each other");
    let efi = json!({"bootloader": {"efi": {"secureBoot": false}}});
    let message = refused(domain(json!({"firmware": efi, "features": {"acpi": {"enabled": false}}})));
    assert_eq!(message, "domain.firmware.bootloader.efi requires domain.features.acpi");
    let message = refused(domain(json!({"clock": {"timezone": "../../etc/passwd"}})));
    assert_eq!(message, "domain.clock.timezone is not the name of a time zone, such as Europe/Berlin");
    let message = refused(domain(json!({"memory": {"guest": "1025Mi", "hugepages": {"pageSize": "2Mi"}}})));
    assert_eq!(message, "domain.memory.guest is not a multiple of hugepages.pageSize");
    let message = refused(domain(json!({"memory": {"guest": "1Gi", "hugepages": {"pageSize": "1Gi"}}})));
    assert_eq!(message, "the guest has 1024 MiB; of 0 MiB of huge pages on this node 0 MiB are taken");
    let message = refused(domain(json!({"cpu": {"isolateEmulatorThread": true}})));
    assert_eq!(message, "domain.cpu.isolateEmulatorThread requires dedicatedCpuPlacement");
    let numa = json!({"guestMappingPassthrough": {}});
    let message = refused(domain(json!({"cpu": {"numa": numa}})));
    assert_eq!(message, "domain.cpu.numa.guestMappingPassthrough requires dedicatedCpuPlacement");
    let message = refused(domain(json!({"cpu": {"numa": numa, "dedicatedCpuPlacement": true}})));
    assert_eq!(message, "domain.cpu.numa.guestMappingPassthrough requires domain.memory.hugepages");
    let message = refused(domain(json!({"cpu": {"threads": 4, "dedicatedCpuPlacement": true}})));
    assert_eq!(message, "domain.cpu.threads: a core has at most two threads with dedicatedCpuPlacement");
    let devices = |devices: Value| refused(domain(json!({ "devices": devices })));
    let message = devices(json!({"gpus": [{"name": "a", "deviceName": "nvidia.com/A100"}]}));
    assert_eq!(
        message,
        "domain.devices: permittedHostDevices of ClusterConfig cluster does not have nvidia.com/A100"
    );
    let twice =
        json!([{"name": "a", "deviceName": "nvidia.com/T4"}, {"name": "a", "deviceName": "nvidia.com/T4"}]);
    let message = devices(json!({ "hostDevices": twice }));
    let expected = "domain.devices.hostDevices, .gpus and interfaces with sriov are at most 32, with different names of letters, digits, - and _";
    assert_eq!(message, expected);
    let message = devices(json!({"gpus": [{"name": "a", "claimName": "mine", "requestName": "gpu"}]}));
    let expected = "domain.devices: a is of a claim, and this node has no driver that allocates claims";
    assert_eq!(message, expected);
    let kernel = |boot: Value| refused(domain(json!({"firmware": {"kernelBoot": boot}})));
    let message = kernel(json!({"kernelArgs": "quiet"}));
    assert_eq!(message, "domain.firmware.kernelBoot.kernelArgs needs a container with a kernel");
    let message = kernel(json!({"container": {"image": "a", "initrdPath": "/initrd"}}));
    assert_eq!(message, "domain.firmware.kernelBoot.container has no kernelPath");
    let message = kernel(json!({"kernelArgs": "a\nb", "container": {"image": "a", "kernelPath": "/k"}}));
    assert_eq!(message, "domain.firmware.kernelBoot.kernelArgs has at most 2047 printable characters");
    let message = refused(domain(json!({"firmware": {"serial": "a\nb"}})));
    assert_eq!(message, "domain.firmware.serial and domain.chassis have at most 128 printable characters");
    let message = refused(domain(json!({"devices": {"watchdog": {"name": "a b"}}})));
    assert_eq!(message, "domain.devices.inputs and .watchdog have names of letters, digits, - and _");
}
