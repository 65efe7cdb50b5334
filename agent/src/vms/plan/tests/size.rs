//! VMs that grow while they run, each as one moment of a node of 1 GiB.

use super::*;
use crate::vms::testing::growing;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use sheaf_api::size::{Plugged, Size};
use sheaf_host::libvirt::{Cpus, PluggedMemory};

const MIB: u64 = 1 << 20;
/// What a VM of 256 MiB with one processor needs: 100 + 8 + 0.5 + 16 MiB for QEMU.
const BOOT: &str = "381Mi";
/// The same of 512 MiB.
const GROWN: &str = "637Mi";

/// The domain of a VM that can grow, which has this much plugged.
fn grown(mib: u64, cpus: u32) -> Domain {
    let offered = mib.saturating_sub(256).saturating_mul(MIB);
    Domain {
        cpus: Cpus { current: cpus, most: 4 },
        memory: Some(PluggedMemory { size: 768 * MIB, requested: offered, current: offered }),
        ..domain("p1")
    }
}

/// A node whose VM runs as `domain` and asks for `memory`, of which its node allocated `allocated`; the controller wrote `size`.
fn node(domain: Domain, memory: &str, allocated: Option<&str>, size: Option<Size>) -> Node {
    let mut node = Node::new().record("p1", "boot-1");
    node.domains.push(domain);
    let mut pod = growing("p1", memory);
    if let Some(size) = size {
        let annotations = pod.metadata.annotations.get_or_insert_default();
        annotations.insert("sheaf.dev/size".into(), size.to_annotation());
    }
    if let Some(allocated) = allocated {
        let requests = growing("p1", allocated);
        let report = Node { pods: BTreeMap::new(), ..node.copy() }.pod(requests).report();
        let patch = report.patch(&pod, None, &rfc3339(NOW));
        pod.status = serde_json::from_value(patch["status"].clone()).unwrap();
        let annotations: BTreeMap<String, String> =
            serde_json::from_value(patch["metadata"]["annotations"].clone()).unwrap();
        pod.metadata.annotations.get_or_insert_default().extend(annotations);
    }
    node.pod(pod)
}

impl Node {
    fn copy(&self) -> Self {
        Self {
            pods: self.pods.clone(),
            domains: self.domains.clone(),
            records: self.records.clone(),
            facts: self.facts.clone(),
            memory: self.memory.clone(),
            now: self.now,
        }
    }
}

fn size(mib: u64, sockets: u32) -> Option<Size> {
    Some(Size { memory: mib.saturating_mul(MIB), sockets })
}

fn memory_of(report: &Report) -> (String, Option<(&'static str, String)>) {
    let allocated = report.allocated.clone().unwrap();
    let Quantity(memory) = allocated.requests["memory"].clone();
    (memory, allocated.pending.map(|why| (why.reason, why.message)))
}

#[test]
fn what_a_vm_has_and_can_have_is_reported_with_what_is_allocated() {
    let report = node(grown(256, 1), BOOT, None, None).report();
    assert_eq!(memory_of(&report), (BOOT.into(), None));
    let (boot, most) = (size(256, 1).unwrap(), size(1024, 4).unwrap());
    assert_eq!(report.plugged, Some(Plugged { size: boot, taken: boot.memory, boot, most }));
    assert_eq!(node(grown(256, 1), BOOT, Some(BOOT), None).actions(), []);
    // It was started by an earlier version, without a device.
    let old = Domain { cpus: Cpus { current: 1, most: 1 }, ..domain("p1") };
    assert_eq!(node(old, BOOT, None, None).report().plugged, None);
}

#[test]
fn a_resize_is_allocated_where_there_is_room_and_only_then_is_memory_plugged() {
    let asked = node(grown(256, 1), GROWN, Some(BOOT), size(512, 1));
    assert_eq!(memory_of(&asked.report()), (GROWN.into(), None), "first it is set aside");
    let allocated = node(grown(256, 1), GROWN, Some(GROWN), size(512, 1));
    let Action::SetSize { memory, cpus, limit, .. } = allocated.only() else { panic!() };
    assert_eq!((memory, cpus), (Some(256 * MIB), None));
    assert!(limit > 637 * MIB, "{limit}");
    assert_eq!(node(grown(512, 1), GROWN, Some(GROWN), size(512, 1)).actions(), []);
    // The controller wrote a size for which too little is allocated.
    assert_eq!(node(grown(256, 1), BOOT, Some(BOOT), size(512, 1)).actions(), []);
}

#[test]
fn sockets_are_plugged_and_never_unplugged() {
    let more = node(grown(256, 1), GROWN, Some(GROWN), size(256, 3));
    let Action::SetSize { memory, cpus, .. } = more.only() else { panic!() };
    assert_eq!((memory, cpus), (None, Some(3)));
    assert_eq!(node(grown(256, 3), GROWN, Some(GROWN), size(256, 1)).actions(), []);
    let too_many = node(grown(256, 4), GROWN, Some(GROWN), size(256, 9));
    assert_eq!(too_many.actions(), []);
}

#[test]
fn a_resize_for_which_there_is_no_room_waits_and_says_so() {
    let mut full = node(grown(256, 1), "1000Mi", Some(BOOT), size(768, 1));
    full.facts.allocatable.as_mut().unwrap().memory = 900 * MIB;
    let (allocated, pending) = memory_of(&full.report());
    let message = "the VM needs 619 MiB of memory more; of 900 MiB on this node 381 MiB are taken";
    assert_eq!((allocated.as_str(), pending), (BOOT, Some(("Infeasible", message.to_owned()))));
    // Another VM has what is missing.
    let mut other = pod("p2");
    other.spec.as_mut().unwrap().containers[0].resources =
        serde_json::from_value(json!({"requests": {"cpu": "100m", "memory": "400Mi"}})).unwrap();
    let mut shared = node(grown(256, 1), GROWN, Some(BOOT), size(512, 1)).pod(other).record("p2", "boot-1");
    shared.domains.push(Domain { uuid: "other".into(), name: "default_other".into(), ..domain("p2") });
    let reports: Vec<Report> = shared
        .plan()
        .actions
        .into_iter()
        .filter_map(|(uid, action)| match action {
            Action::Report(report) if uid == "p1" => Some(report),
            _ => None,
        })
        .collect();
    let (allocated, pending) = memory_of(&reports[0]);
    let message = "the VM needs 256 MiB of memory more; of 1024 MiB on this node 781 MiB are taken";
    assert_eq!((allocated.as_str(), pending), (BOOT, Some(("Deferred", message.to_owned()))));
}

#[test]
fn two_vms_that_grow_at_once_do_not_get_the_same_room() {
    let mut both = node(grown(256, 1), "600Mi", Some(BOOT), None);
    let mut second = (*both.pods["p1"]).clone();
    second.metadata.uid = Some("p2".into());
    both = both.pod(second).record("p2", "boot-1");
    let mut twin = Domain { uuid: "other".into(), name: "default_other".into(), ..grown(256, 1) };
    twin.tags.insert(TAG_POD_UID.into(), "p2".into());
    both.domains.push(twin);
    let allocated: Vec<bool> = both
        .plan()
        .actions
        .into_iter()
        .filter_map(|(_uid, action)| match action {
            Action::Report(report) => Some(memory_of(&report).1.is_none()),
            _ => None,
        })
        .collect();
    assert_eq!(allocated, [true, false], "of 1024 MiB, 762 are taken, and each asks for 219 more");
}

#[test]
fn what_a_guest_uses_stays_allocated_whatever_its_pod_asks_for() {
    let mut less = node(grown(512, 1), BOOT, Some(GROWN), size(256, 1));
    let (allocated, pending) = memory_of(&less.report());
    let message = "381 MiB are less than the 637 MiB that the VM uses; its guest must give memory back first";
    assert_eq!((allocated.as_str(), pending.clone()), (GROWN, Some(("Infeasible", message.to_owned()))));
    // It gives it back.
    let pod = saying((*less.pods["p1"]).clone(), &less.report());
    less = less.pod(pod);
    let Action::SetSize { memory, .. } = less.only() else { panic!() };
    assert_eq!(memory, Some(0));
    let given = node(grown(256, 1), BOOT, Some(GROWN), size(256, 1));
    assert_eq!(memory_of(&given.report()), (BOOT.into(), None));
}

#[test]
fn a_size_that_could_not_be_made_is_reported_and_tried_again() {
    let mut failed = node(grown(256, 1), GROWN, Some(GROWN), size(512, 1));
    let failure = FailedStart { times: 1, why: "no memory".into(), until: NOW + 5 };
    failed.memory.failures.insert("p1".into(), failure);
    let report = failed.report();
    assert_eq!(report.resize_failed.as_deref(), Some("no memory"));
    let patch = report.patch(&failed.pods["p1"], None, &rfc3339(NOW));
    let conditions = patch["status"]["conditions"].as_array().unwrap();
    let found = conditions.iter().find(|one| one["type"] == "PodResizeInProgress").unwrap();
    assert_eq!((&found["reason"], &found["message"]), (&json!("Error"), &json!("no memory")));
    let reported = saying((*failed.pods["p1"]).clone(), &report);
    failed = failed.pod(reported);
    assert_eq!(failed.plan(), Plan { actions: Vec::new(), wake: Some(NOW + 5) });
    failed.now = NOW + 5;
    assert!(matches!(failed.only(), Action::SetSize { .. }));
}
