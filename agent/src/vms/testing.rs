//! Pods, domains and facts for the tests of this folder.

use super::admission::{Verdict, admit};
use super::domain_xml::{TAG_GRACE, TAG_NAMESPACE_NAME, TAG_POD, TAG_POD_UID, TAG_VMI, TAG_VMI_UID};
use super::facts::{Facts, FileFact, Resources};
use super::guest::{Format, Guest, Identity};
use super::record::{Record, Started};
use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};
use sheaf_api::links::Links;
use sheaf_host::libvirt::{Domain, State};

/// UID of the VMI of [`pod`].
pub const VMI_UID: &str = "0b0e6d2c-6a4e-4c9f-9a53-0d0e1f2a3b4c";

/// The smallest VM.
pub fn pod(uid: &str) -> Pod {
    pod_of(uid, json!({"domain": {"memory": {"guest": "64Mi"}, "devices": {}}}))
}

/// A VM with `spec`.
pub fn pod_of(uid: &str, spec: Value) -> Pod {
    let annotation = json!({"name": "web", "namespace": "default", "uid": VMI_UID, "spec": spec}).to_string();
    serde_json::from_value(json!({
        "metadata": {"name": "virt-launcher-web", "namespace": "default", "uid": uid,
                     "annotations": {"sheaf.dev/vmi": annotation}},
        "spec": {"runtimeClassName": "sheaf-vm", "restartPolicy": "Never", "terminationGracePeriodSeconds": 60,
                 "containers": [{"name": "compute", "image": "sheaf.dev/virtual-machine",
                                 "resources": {"requests": {"cpu": "100m", "memory": "100Mi"}}}]},
        "status": {"phase": "Pending"},
    }))
    .unwrap()
}

/// The attachment Pod of volume `data`, a disk on scsi of this claim, for the VM of Pod `p1`.
pub fn attachment(claim: &str, marked: bool) -> Pod {
    attachment_of(json!({"name": "data", "disk": {"bus": "scsi"}}), claim, marked)
}

/// The attachment Pod of the medium of this claim for the drive [`with_drive`] has.
pub fn medium(claim: &str, marked: bool) -> Pod {
    attachment_of(json!({"name": "cd", "cdrom": {"bus": "sata"}}), claim, marked)
}

/// The Pod of a VM with an empty CD-ROM drive `cd`; with `awaited`, its medium is on its way.
pub fn with_drive(uid: &str, awaited: bool) -> Pod {
    let spec = json!({"domain": {"memory": {"guest": "64Mi"}, "devices": {"disks": [
        {"name": "cd", "cdrom": {"bus": "sata"}}]}}});
    let mut pod = pod_of(uid, spec);
    if awaited {
        let annotations = pod.metadata.annotations.get_or_insert_default();
        let mut placed: Value = serde_json::from_str(&annotations["sheaf.dev/vmi"]).unwrap();
        placed["media"] = json!(["cd"]);
        annotations.insert("sheaf.dev/vmi".into(), placed.to_string());
    }
    pod
}

/// The Pod of a VM of 256 MiB and one processor that can grow to 1 GiB and four, and asks for `memory`.
pub fn growing(uid: &str, memory: &str) -> Pod {
    let spec = json!({"domain": {"memory": {"guest": "256Mi", "maxGuest": "1Gi"}, "devices": {},
                                 "cpu": {"sockets": 1, "maxSockets": 4}}});
    let mut pod = pod_of(uid, spec);
    let requests = json!({"cpu": "100m", "memory": memory});
    let container = &mut pod.spec.as_mut().unwrap().containers[0];
    container.resources = serde_json::from_value(json!({ "requests": requests })).unwrap();
    pod
}

/// The Pod of a VM with NIC `out` on br0, and NIC `old` on br1 of a multus network; with these links.
pub fn with_nics(uid: &str, links: &Links) -> Pod {
    let multus = json!({"networkName": "lan"});
    let mut pod = pod_of(
        uid,
        json!({
            "domain": {"memory": {"guest": "64Mi"}, "devices": {"interfaces": [
                {"name": "out", "bridge": {}, "macAddress": "02:00:00:00:00:01"},
                {"name": "old", "bridge": {}, "macAddress": "02:00:00:00:00:02"}]}},
            "networks": [{"name": "out", "pod": {}}, {"name": "old", "multus": multus}],
        }),
    );
    let annotations = pod.metadata.annotations.get_or_insert_default();
    let mut placed: Value = serde_json::from_str(&annotations["sheaf.dev/vmi"]).unwrap();
    placed["attachments"] = json!({"old": {"bridge": "br1"}});
    annotations.insert("sheaf.dev/vmi".into(), placed.to_string());
    if *links != Links::default() {
        annotations.insert("sheaf.dev/links".into(), links.to_annotation());
    }
    pod
}

/// The attachment Pod of NIC `lan` on br1 for the VM of Pod `p1`.
pub fn nic(marked: bool) -> Pod {
    nic_of(json!({"name": "lan", "bridge": {}, "model": "virtio", "macAddress": "02:00:00:00:00:03"}), marked)
}

/// The same of another interface.
pub fn nic_of(interface: Value, marked: bool) -> Pod {
    let network = json!({"bridge": "br1"});
    let annotation =
        json!({"vmi": "web", "podUid": "p1", "interface": interface, "network": network}).to_string();
    let mut annotations = json!({"sheaf.dev/attachment": annotation});
    if marked {
        annotations["sheaf.dev/detach"] = json!("true");
    }
    serde_json::from_value(json!({
        "metadata": {"name": "hp-nic-0-lan", "namespace": "default", "uid": "a1",
                     "labels": {"kubevirt.io": "hotplug-nic"}, "annotations": annotations},
        "spec": {"runtimeClassName": "sheaf-vm", "containers": [{"name": "hotplug-nic", "image": "x"}]},
        "status": {"phase": "Pending"},
    }))
    .unwrap()
}

fn attachment_of(disk: Value, claim: &str, marked: bool) -> Pod {
    let name = &disk["name"];
    let volume = json!({"name": name, "persistentVolumeClaim": {"claimName": claim, "hotpluggable": true}});
    let annotation = json!({"vmi": "web", "podUid": "p1", "volume": volume, "disk": disk}).to_string();
    let mut annotations = json!({"sheaf.dev/attachment": annotation});
    if marked {
        annotations["sheaf.dev/detach"] = json!("true");
    }
    serde_json::from_value(json!({
        "metadata": {"name": "hp-volume-0-data", "namespace": "default", "uid": "a1",
                     "labels": {"kubevirt.io": "hotplug-disk"}, "annotations": annotations},
        "spec": {"runtimeClassName": "sheaf-vm", "containers": [{"name": "hotplug-disk", "image": "x"}],
                 "volumes": [{"name": "claim", "persistentVolumeClaim": {"claimName": claim}}]},
        "status": {"phase": "Pending"},
    }))
    .unwrap()
}

/// The smallest VM as a node runs it.
pub fn guest() -> Guest {
    match admit(&pod("p1"), &facts(), Resources::default()) {
        Verdict::Accept(guest) => *guest,
        other => panic!("{other:?}"),
    }
}

/// A node of 4 processors, 1 GiB, 10 Pods, with one verified image.
pub fn facts() -> Facts {
    let image =
        FileFact::File { path: "/data/images/base.qcow2".into(), format: Format::Qcow2, bytes: 1 << 29 };
    Facts {
        boot_id: "boot-1".into(),
        allocatable: Some(Resources {
            cpu: 4000,
            memory: 1 << 30,
            pods: 10,
            storage: 1 << 36,
            huge_2mi: 1 << 29,
            ..Resources::default()
        }),
        images: [("base.qcow2".to_owned(), 1 << 29)].into(),
        expected_images: ["base.qcow2".to_owned(), "later.raw".to_owned()].into(),
        bridges: ["br0".to_owned(), "br1".to_owned(), "masq0".to_owned()].into(),
        vlan_bridges: ["br1".to_owned()].into(),
        expected_bridges: ["br0".to_owned(), "br1".to_owned()].into(),
        files: [
            ("/data/images/base.qcow2".to_owned(), image),
            ("/data/disks/default/link.raw".to_owned(), FileFact::Elsewhere("/etc/shadow".into())),
        ]
        .into(),
        disks: "/data/disks".into(),
        data: "/data".into(),
        states: "/data/state".into(),
        ..Facts::default()
    }
}

/// Whose the VM of Pod `uid` is.
pub fn identity(uid: &str) -> Identity {
    Identity {
        pod_uid: uid.into(),
        pod: "virt-launcher-web".into(),
        namespace: "default".into(),
        vmi: "web".into(),
        vmi_uid: VMI_UID.into(),
    }
}

/// The running domain of Pod `uid`.
pub fn domain(uid: &str) -> Domain {
    let id = identity(uid);
    let tags = [
        (TAG_POD_UID, id.pod_uid),
        (TAG_POD, id.pod),
        (TAG_NAMESPACE_NAME, id.namespace),
        (TAG_VMI, id.vmi),
        (TAG_VMI_UID, id.vmi_uid),
        (TAG_GRACE, "60".into()),
    ];
    Domain {
        uuid: VMI_UID.into(),
        name: "default_web".into(),
        state: State::Running,
        devices: Default::default(),
        readonly: Default::default(),
        bases: Default::default(),
        aliases: Default::default(),
        nics: Default::default(),
        cpus: Default::default(),
        memory: None,
        pins: Default::default(),
        agent: false,
        tags: tags.into_iter().map(|(name, value)| (name.to_owned(), value)).collect(),
    }
}

/// The record of a VM of Pod `uid` that was started in `boot_id`.
pub fn started(uid: &str, boot_id: &str) -> Record {
    let at = "2026-01-01T00:00:00Z".into();
    Record {
        started: Some(Started { boot_id: boot_id.into(), uuid: VMI_UID.into(), at }),
        ..Record::made(&identity(uid))
    }
}
