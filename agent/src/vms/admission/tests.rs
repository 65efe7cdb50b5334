//! What is accepted, awaited and refused, with the reason that the Pod then carries.

use super::networks::derived_mac;
use super::*;
use crate::channels::{ContainerDisk, Usable};
use crate::vms::facts::ClaimFact;
use crate::vms::guest::{Format, Source};
use crate::vms::testing::{VMI_UID, facts, pod, pod_of};
use serde_json::{Value, json};
use sheaf_api::cluster_config::ClusterConfigSpec;

fn why(verdict: Verdict) -> (&'static str, String) {
    match verdict {
        Verdict::Reject(why) | Verdict::Wait(why) => (why.reason, why.message),
        other => panic!("{other:?}"),
    }
}

fn admit_volume(volume: serde_json::Value) -> Verdict {
    let mut spec = json!({"domain": {"memory": {"guest": "64Mi"}, "devices": {"disks": [{"name": "d"}]}}});
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
    let spec = json!({"domain": {"memory": {"guest": "64Mi"}, "devices": {"sound": {"name": "s"}}}});
    let (reason, message) = why(admit(&pod_of("p1", spec), &facts(), Resources::default()));
    assert_eq!(reason, "InvalidSpec");
    assert!(message.contains("spec.domain.devices.sound"), "{message}");
}

#[test]
fn paths_outside_the_two_folders_and_links_out_of_them_are_refused() {
    let volume = |path: &str| json!({"name": "d", "hostDisk": {"path": path, "type": "Disk"}});
    for path in ["/etc/../etc/shadow", "/data/disks/default/../../etc/shadow", "/data/disks/other/db.raw"] {
        let (reason, message) = why(admit_volume(volume(path)));
        assert_eq!(reason, "InvalidSpec");
        assert!(message.contains("is not allowed"), "{message}");
    }
    assert_eq!(
        why(admit_volume(volume("/etc/shadow"))).0,
        "DiskNotPresent",
        "it is below /data/disks/default"
    );
    let (reason, message) = why(admit_volume(volume("/data/disks/default/link.raw")));
    assert_eq!(reason, "InvalidSpec");
    assert!(message.ends_with("leads to /etc/shadow, out of its folder"), "{message}");
}

#[test]
fn a_disk_of_nearly_2_to_the_64_bytes_is_not_rounded_to_none_and_accepted() {
    for capacity in ["18446744073709551615", "18446744073708503041"] {
        let verdict = admit_volume(json!({"name": "d", "emptyDisk": {"capacity": capacity}}));
        assert!(!matches!(verdict, Verdict::Accept(_)), "{verdict:?}");
    }
}

#[test]
fn an_image_is_used_when_verified_awaited_when_expected_and_refused_when_unknown() {
    let volume = |name: &str| json!({"name": "d", "hostDisk": {"path": format!("/data/images/{name}"), "type": "Disk", "capacity": "1Gi"}});
    let Verdict::Accept(guest) = admit_volume(volume("base.qcow2")) else { panic!() };
    let base = "/data/images/base.qcow2".into();
    assert_eq!(
        guest.disks[0].source,
        Source::Overlay { base, format: Format::Qcow2, bytes: 1 << 30, linked: false }
    );
    assert!(matches!(admit_volume(volume("later.raw")), Verdict::Wait(Why { reason: "ImageNotReady", .. })));
    assert_eq!(why(admit_volume(volume("never.raw"))).0, "ImageNotPresent");
}

#[test]
fn a_container_disk_is_used_when_it_was_pulled_for_this_pod_and_says_until_then_what_it_waits_for() {
    let pod = pod_of(
        "p1",
        json!({"domain": {"memory": {"guest": "64Mi"}, "devices": {"disks": [{"name": "d"}]}},
        "volumes": [{"name": "d", "containerDisk": {"image": "quay.io/a/b:1"}}]}),
    );
    let admit = |uid: &str, disk: ContainerDisk| {
        let container_disks = [((uid.to_owned(), "d".to_owned()), disk)].into();
        super::admit(&pod, &Facts { container_disks, ..facts() }, Resources::default())
    };
    let ready = |bytes| ContainerDisk::Ready {
        path: "/data/container-disks/a.img".into(),
        format: Format::Raw,
        bytes,
    };
    let Verdict::Accept(guest) = admit("p1", ready(1000)) else { panic!() };
    let base = "/data/container-disks/a.img".into();
    assert_eq!(
        guest.disks[0].source,
        Source::Overlay { base, format: Format::Raw, bytes: 1024, linked: true }
    );
    assert_eq!(admit("p2", ready(1000)), Verdict::Unknown, "another Pod's is not this one's");
    let waits = ContainerDisk::NotReady { reason: "ErrImagePull", message: "no".into() };
    assert_eq!(admit("p1", waits), Verdict::Wait(Why { reason: "ErrImagePull", message: "no".into() }));
    // Its overlay may grow to all of it, which is known only now.
    assert_eq!(why(admit("p1", ready(1 << 50))).0, "OutOfephemeral-storage");
}

#[test]
fn a_disk_is_created_only_when_asked_with_a_capacity() {
    let volume = |kind: &str, capacity: serde_json::Value| json!({"name": "d", "hostDisk": {"path": "/data/disks/default/new.raw", "type": kind, "capacity": capacity}});
    assert_eq!(why(admit_volume(volume("Disk", json!(null)))).0, "DiskNotPresent");
    assert_eq!(why(admit_volume(volume("DiskOrCreate", json!(null)))).0, "InvalidSpec");
    let Verdict::Accept(guest) = admit_volume(volume("DiskOrCreate", json!("10Mi"))) else { panic!() };
    let path = "/data/disks/default/new.raw".into();
    assert_eq!(guest.disks[0].source, Source::InPlace { path, format: Format::Raw, create: Some(10 << 20) });
    let of_another_host = json!({"name": "d", "hostDisk": {"path": "/var/data/disk.img", "type": "DiskOrCreate", "capacity": "10Mi"}});
    let Verdict::Accept(guest) = admit_volume(of_another_host) else { panic!() };
    let path = "/data/disks/default/var/data/disk.img".into();
    assert_eq!(guest.disks[0].source, Source::InPlace { path, format: Format::Raw, create: Some(10 << 20) });
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

/// A VM on the claim `data`, about which the node knows `fact`.
fn admit_claim(volume: serde_json::Value, fact: Option<ClaimFact>, named: bool) -> Verdict {
    let mut spec = json!({"domain": {"memory": {"guest": "64Mi"}, "devices": {"disks": [{"name": "d"}]}}});
    spec["volumes"] = json!([volume]);
    let mut pod = pod_of("p1", spec);
    if named {
        let volumes = json!([{"name": "d", "persistentVolumeClaim": {"claimName": "data"}}]);
        pod.spec.as_mut().unwrap().volumes = serde_json::from_value(volumes).unwrap();
    }
    let usable = |ready, problem: Option<&str>| Usable {
        ready,
        readable: ready,
        device: "/dev/sheaf-default/pvc-1".into(),
        bytes: 1 << 30,
        problem: problem.map(Into::into),
    };
    let mut facts = facts();
    facts.claims = fact.map(|fact| (("default".to_owned(), "data".to_owned()), fact)).into_iter().collect();
    facts.volumes = Some(
        [("pvc-1", usable(true, None)), ("pvc-2", usable(false, Some("OutOfSpace: full")))]
            .map(|(name, usable)| (name.to_owned(), usable))
            .into(),
    );
    admit(&pod, &facts, Resources::default())
}

#[test]
fn a_claim_is_the_device_of_its_volume_however_it_is_named() {
    for volume in [
        json!({"name": "d", "persistentVolumeClaim": {"claimName": "data"}}),
        json!({"name": "d", "dataVolume": {"name": "data"}}),
    ] {
        let Verdict::Accept(guest) = admit_claim(volume, Some(ClaimFact::Volume("pvc-1".into())), true)
        else {
            panic!()
        };
        assert_eq!(guest.disks[0].source, Source::Device("/dev/sheaf-default/pvc-1".into()));
    }
}

#[test]
fn a_claim_is_waited_for_until_its_volume_is_ready_and_the_wait_says_why() {
    let volume = || json!({"name": "d", "persistentVolumeClaim": {"claimName": "data"}});
    for (fact, words) in [
        (Some(ClaimFact::Unreadable("the API server is away".into())), "claim data: the API server is away"),
        (Some(ClaimFact::NotBound), "claim data is not bound yet"),
        (Some(ClaimFact::Volume("pvc-2".into())), "claim data: OutOfSpace: full"),
        (Some(ClaimFact::Volume("pvc-3".into())), "LocalVolume pvc-3 is not of this node"),
    ] {
        let verdict = admit_claim(volume(), fact, true);
        assert!(matches!(verdict, Verdict::Wait(_)), "{verdict:?}");
        let (reason, message) = why(verdict);
        assert_eq!(reason, "VolumeNotReady");
        assert!(message.contains(words), "{message}");
    }
    assert_eq!(admit_claim(volume(), None, true), Verdict::Unknown, "it is being asked for");
}

#[test]
fn a_claim_that_the_pod_does_not_name_or_that_another_driver_has_is_refused() {
    let volume = || json!({"name": "d", "persistentVolumeClaim": {"claimName": "data"}});
    let (reason, message) = why(admit_claim(volume(), Some(ClaimFact::Volume("pvc-1".into())), false));
    assert_eq!(reason, "InvalidSpec");
    assert!(message.contains("does not refer to PersistentVolumeClaim data"), "{message}");
    let foreign = ClaimFact::Foreign("rancher.io/local-path".into());
    let (reason, message) = why(admit_claim(volume(), Some(foreign), true));
    assert_eq!(reason, "VolumeNotSupported");
    assert!(message.contains("rancher.io/local-path"), "{message}");
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

/// A VM whose interfaces and networks are `interfaces` and `networks`, with what the controller wrote of them.
fn connected(interfaces: Value, networks: Value, attachments: Value) -> Pod {
    let mut pod = pod("p1");
    let spec = json!({"domain": {"memory": {"guest": "64Mi"}, "devices": {"interfaces": interfaces}}, "networks": networks});
    let mut placed = json!({"name": "web", "namespace": "default", "uid": VMI_UID, "spec": spec});
    if attachments != json!({}) {
        placed["attachments"] = attachments;
    }
    pod.metadata.annotations = Some([(VMI_ANNOTATION.to_owned(), placed.to_string())].into());
    pod
}

fn ports(pod: &Pod) -> Result<Vec<crate::vms::filters::Port>, Why> {
    match admit(pod, &facts(), Resources::default()) {
        Verdict::Accept(guest) => Ok(guest.interfaces.into_iter().map(|nic| nic.port).collect()),
        Verdict::Reject(why) | Verdict::Wait(why) => Err(why),
        Verdict::Unknown => panic!("nothing is asked here"),
    }
}

#[test]
fn interfaces_are_connected_to_what_the_controller_says_their_networks_mean() {
    let pod = connected(
        json!([{"name": "out", "masquerade": {}}, {"name": "lan", "bridge": {}, "macAddress": "02-AA-00-00-00-01"},
               {"name": "all", "bridge": {}}]),
        json!([{"name": "out", "pod": {}}, {"name": "lan", "multus": {"networkName": "lan100"}},
               {"name": "all", "multus": {"networkName": "net/trunk"}}]),
        json!({"lan": {"bridge": "br1", "vlan": 100}, "all": {"bridge": "br1", "trunk": [{"first": 1, "last": 4094}]}}),
    );
    let ports = ports(&pod).unwrap();
    assert_eq!((ports[0].bridge.as_str(), ports[0].masquerade), ("masq0", true));
    assert_eq!(
        (ports[1].bridge.as_str(), ports[1].vlan, ports[1].mac.as_str()),
        ("br1", Some(100), "02:aa:00:00:00:01")
    );
    assert_eq!((ports[2].vlans().as_str(), ports[2].tap.as_str()), ("1-4094", "vm0b0e6d2c6an2"));
}

#[test]
fn what_somebody_else_wrote_of_networks_is_refused() {
    let lan = json!([{"name": "lan", "bridge": {}}]);
    let multus = json!([{"name": "lan", "multus": {"networkName": "lan100"}}]);
    let said = |interfaces: &Value, networks: &Value, attachments: Value| {
        let why = ports(&connected(interfaces.clone(), networks.clone(), attachments)).unwrap_err();
        format!("{}: {}", why.reason, why.message)
    };
    assert_eq!(
        said(&lan, &multus, json!({})),
        "InvalidSpec: network lan: the annotation does not resolve it"
    );
    assert_eq!(
        said(&lan, &multus, json!({"lan": {"bridge": "br0", "vlan": 100}})),
        "BridgeNotVlanAware: interface lan: bridge br0 of this node does not filter VLANs; make it vlan-aware"
    );
    assert_eq!(
        said(&lan, &multus, json!({"lan": {"bridge": "br9"}})),
        "BridgeNotPresent: interface lan: bridge br9 of this node is not in its node.toml"
    );
    assert_eq!(
        said(&lan, &multus, json!({"lan": {"bridge": "masq0"}})),
        "InvalidSpec: network lan: masq0 is reserved by the node"
    );
    assert_eq!(
        said(&lan, &multus, json!({"lan": {"bridge": "br1", "vlan": 4095}})),
        "InvalidSpec: network lan: VLAN 4095 is not between 1 and 4094"
    );
    assert_eq!(
        said(&lan, &json!([]), json!({})),
        "InvalidSpec: interface lan: there is no network of that name"
    );
    assert_eq!(
        said(&json!([{"name": "lan", "masquerade": {}}]), &multus, json!({"lan": {"bridge": "br1"}})),
        "InvalidSpec: interface lan: masquerade needs a network of type pod"
    );
    let with_mac = |mac: &str| json!([{"name": "lan", "bridge": {}, "macAddress": mac}]);
    let pod = json!([{"name": "lan", "pod": {}}]);
    for mac in ["@vm1.lease", "01:00:00:00:00:01", "02:00:00:00:00", "00:00:00:00:00:00"] {
        let expected =
            format!("InvalidSpec: interface lan: macAddress {mac:?} is not a unicast hardware address");
        assert_eq!(said(&with_mac(mac), &pod, json!({})), expected);
    }
}

#[test]
fn vms_whose_pods_ask_for_a_mebibyte_are_counted_with_all_that_their_guests_can_use() {
    let spec = json!({"domain": {"memory": {"guest": "400Mi"}, "devices": {}}});
    let mut small = pod_of("p1", spec);
    let requests = json!({"limits": null, "requests": {"cpu": "100m", "memory": "1Mi"}});
    small.spec.as_mut().unwrap().containers[0].resources = serde_json::from_value(requests).unwrap();
    let one = needs(&small, &facts());
    // 400 MiB, 100 of QEMU, 8 for its processor, 16 of video, page tables.
    assert_eq!(one.memory, (524 << 20) + (400 << 20) / 512);
    assert!(matches!(admit(&small, &facts(), Resources::default()), Verdict::Accept(_)));
    assert_eq!(why(admit(&small, &facts(), one)).0, "OutOfmemory");
    // Unless an administrator chose to overcommit.
    let cluster = ClusterConfigSpec { memory_overcommit_percent: Some(200), ..Default::default() };
    let overcommitted = Facts { cluster, ..facts() };
    let used = needs(&small, &overcommitted);
    assert_eq!(used.memory, one.memory - (200 << 20));
    assert!(matches!(admit(&small, &overcommitted, used), Verdict::Accept(_)));
}

#[test]
fn files_that_may_grow_beyond_the_nodes_data_are_refused() {
    let mut large = pod("p1");
    let requests = json!({"requests": {"memory": "100Mi", "ephemeral-storage": "60Gi"}});
    large.spec.as_mut().unwrap().containers[0].resources = serde_json::from_value(requests).unwrap();
    let used = needs(&large, &facts());
    assert!(matches!(admit(&large, &facts(), Resources::default()), Verdict::Accept(_)));
    let (reason, message) = why(admit(&large, &facts(), used));
    assert_eq!(reason, "OutOfephemeral-storage");
    assert!(message.contains("of 65536 MiB on this node's /data 61440 MiB are taken"), "{message}");
    // An overlay counts with all of its disk, whatever the Pod asks for.
    let disk = json!({"name": "d", "hostDisk": {"path": "/data/images/base.qcow2", "type": "Disk"}});
    let Verdict::Accept(guest) = admit_volume(disk) else { panic!() };
    assert_eq!(guest.space, (1 << 29) + (16 << 20));
}

#[test]
fn a_vm_with_more_processors_than_any_machine_is_refused_and_overflows_nothing() {
    let many = json!({"sockets": 65536, "cores": 65536, "threads": 65536});
    let spec = json!({"domain": {"cpu": many, "memory": {"guest": "64Mi"}, "devices": {}}});
    let (reason, message) = why(admit(&pod_of("p1", spec), &facts(), Resources::default()));
    assert_eq!((reason, message.as_str()), ("InvalidSpec", "domain.cpu: more than 255 virtual CPUs"));
}
