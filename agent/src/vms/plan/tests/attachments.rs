//! Disks that are added to a VM while it runs, and removed, each as one moment of a node.

use super::*;
use crate::vms::guest::Source;
use serde_json::Value;
use std::path::Path;

const DEVICE: &str = "/dev/sheaf-default/pvc-1";
const ALIAS: &str = "hotplug_data";

/// The attachment Pod of volume `data` for the VM of Pod `p1`.
fn attachment(marked: bool) -> Pod {
    crate::vms::testing::attachment("c", marked)
}

/// A VM that runs and is reported, on a node that has the volume of claim `c`. A disk without a device is an empty drive.
fn node(disks: &[(&str, &str, &str)]) -> Node {
    let mut node = Node::new().running("p1");
    for (alias, target, device) in disks {
        node.domains[0].aliases.insert((*alias).into(), (*target).into());
        if !device.is_empty() {
            node.domains[0].devices.insert((*target).into(), Path::new(device).to_owned());
        }
        node.memory.told.insert((VMI_UID.into(), (*target).into()), 1 << 30);
    }
    let report = node.pod_report();
    let mut pod = saying(pod("p1"), &report);
    let annotations = json!({"sheaf.dev/disks": json!(report.disks).to_string()});
    let annotations: BTreeMap<String, String> =
        serde_json::from_value::<BTreeMap<String, Value>>(annotations)
            .unwrap()
            .into_iter()
            .map(|(name, value)| (name, value.as_str().unwrap().to_owned()))
            .collect();
    pod.metadata.annotations.get_or_insert_default().extend(annotations);
    let mut node = node.pod(pod);
    node.facts.claims = [(("default".to_owned(), "c".to_owned()), ClaimFact::Volume("pvc-1".into()))].into();
    node.facts.volumes = Some([("pvc-1".to_owned(), volume(1 << 30))].into());
    node
}

impl Node {
    /// What is reported of the VM of Pod `p1`.
    fn pod_report(&self) -> Report {
        let Self { domains, records, facts, memory, now, .. } = self;
        let pods = [("p1".to_owned(), Arc::new(pod("p1")))].into();
        let o = Observed { pods: &pods, domains, records, facts, memory, now: *now };
        match plan(&o).actions.remove(0).1 {
            Action::Report(report) => report,
            other => panic!("{other:?}"),
        }
    }
}

fn has() -> Node {
    node(&[(ALIAS, "sda", DEVICE)])
}

#[test]
fn a_disk_is_added_once_by_the_first_name_that_is_free_and_then_reported() {
    let bare = node(&[("root", "sda", "/dev/other")]).pod(attachment(false));
    let (uid, action) = bare.plan().actions.remove(0);
    let Action::Attach { uuid, attachment: of, target, disk } = action else { panic!("{action:?}") };
    assert_eq!((uid.as_str(), uuid.as_str(), of.as_str(), target.as_str()), ("p1", VMI_UID, "a1", "sdb"));
    assert_eq!(disk.source, Source::Device(DEVICE.into()));
    // Its successor, after a kill, finds the disk in the domain.
    let report = has().pod(attachment(false)).report();
    assert_eq!((report.phase, report.uuid.as_deref()), (Phase::Running, Some(VMI_UID)));
    assert_eq!(has().pod(saying(attachment(false), &report)).actions(), []);
}

#[test]
fn a_pod_that_is_younger_than_its_vm_does_not_say_that_its_own_vm_uses_the_volume() {
    let mut young = attachment(false);
    young.metadata.uid = Some("z1".into());
    let Action::Attach { attachment, .. } = node(&[]).pod(young).only() else { panic!() };
    assert_eq!(attachment, "z1");
}

#[test]
fn a_disk_waits_for_its_volume_and_for_its_vm() {
    let mut unbound = node(&[]).pod(attachment(false));
    unbound.facts.claims = [(("default".to_owned(), "c".to_owned()), ClaimFact::NotBound)].into();
    assert_eq!(reason(&unbound.report()), "VolumeNotReady");
    let without_vm = Node::new().pod(attachment(false));
    assert_eq!(reason(&without_vm.report()), "VmNotRunning");
    let mut used = node(&[]).pod(attachment(false));
    used.domains.push(Domain {
        uuid: "other".into(),
        name: "default_one".into(),
        devices: [("vda".to_owned(), DEVICE.into())].into(),
        tags: BTreeMap::new(),
        ..domain("p9")
    });
    assert_eq!(reason(&used.report()), "VolumeInUse");
}

#[test]
fn a_disk_that_cannot_be_added_says_why_and_is_tried_again_later() {
    let mut node = node(&[]).pod(attachment(false));
    let failure = FailedStart { times: 1, why: "no free port".into(), until: NOW + 5 };
    node.memory.failures.insert("a1".into(), failure);
    let report = node.report();
    assert_eq!(reason(&report), "AttachError");
    let mut node = node.pod(saying(attachment(false), &report));
    assert_eq!(node.plan(), Plan { actions: Vec::new(), wake: Some(NOW + 5) });
    node.now = NOW + 5;
    assert!(matches!(node.only(), Action::Attach { .. }));
}

#[test]
fn a_disk_is_removed_when_its_pod_is_marked_and_the_pod_goes_once_the_domain_released_it() {
    let mut asked = has().pod(deleted(attachment(true), 0));
    let Action::Detach { volume, target, device, .. } = asked.only() else { panic!() };
    assert_eq!((volume.as_str(), target.as_str(), device.as_path()), ("data", "sda", Path::new(DEVICE)));
    // The guest has not released it: it is asked again, and the Pod stays.
    asked.memory.detached.insert(("p1".into(), "data".into()), NOW);
    assert_eq!(asked.plan(), Plan { actions: Vec::new(), wake: Some(NOW + 10) });
    let gone = node(&[]).pod(deleted(attachment(true), 0));
    let report = gone.report();
    assert_eq!((report.phase, reason(&report)), (Phase::Succeeded, "Detached"));
    assert_eq!(node(&[]).pod(saying(deleted(attachment(true), 0), &report)).only(), Action::DeletePod);
}

#[test]
fn a_pod_that_a_drain_deletes_leaves_the_guest_its_disk_until_the_vm_ends() {
    let report = has().pod(attachment(false)).report();
    let drained = || deleted(saying(attachment(false), &report), 0);
    assert_eq!(has().pod(drained()).actions(), []);
    // The domain is missing, and nobody said that it ended.
    let mut missing = has().pod(drained());
    missing.domains.clear();
    missing.memory.missing.insert("p1".into(), NOW);
    assert_eq!(missing.actions(), []);
    // Not added yet: there is nothing to keep.
    let early = node(&[]).pod(deleted(attachment(false), 0));
    assert_eq!(reason(&early.report()), "Detached");
}

#[test]
fn a_pod_ends_only_after_the_vm_did() {
    let ended = fail_of("Crashed");
    let over = Node::new().pod(saying(pod("p1"), &ended)).pod(deleted(attachment(false), 0));
    assert_eq!(reason(&over.report()), "Detached");
    // An action of the VM is under way, which may be adding it.
    let mut busy = node(&[]).pod(deleted(attachment(false), 0));
    busy.memory.busy.insert("p1".into());
    assert_eq!(busy.actions(), []);
}

#[test]
fn a_disk_that_an_earlier_pod_left_is_removed_before_the_new_one_is_added() {
    let left = node(&[(ALIAS, "sda", "/dev/sheaf-default/pvc-0")]).pod(attachment(false));
    assert!(matches!(left.only(), Action::Detach { .. }), "{:?}", left.actions());
}

/// The attachment Pod of the medium of claim `c` for drive `cd` of the VM of Pod `p1`.
fn medium(marked: bool) -> Pod {
    crate::vms::testing::medium("c", marked)
}

#[test]
fn a_medium_goes_into_the_drive_that_is_there_and_is_then_reported() {
    let empty = node(&[("cd", "sda", "")]).pod(medium(false));
    let Action::Insert { attachment, drive, target, .. } = empty.only() else { panic!() };
    assert_eq!((attachment.as_str(), target.as_str(), drive.cdrom), ("a1", "sda", true));
    assert_eq!(drive.source, Source::Device(DEVICE.into()));
    let report = node(&[("cd", "sda", DEVICE)]).pod(medium(false)).report();
    assert_eq!(report.phase, Phase::Running);
    let missing = node(&[]).pod(medium(false)).report();
    assert_eq!(reason(&missing), "DriveMissing");
    let State::Waiting { message, .. } = missing.state else { panic!() };
    assert_eq!(message, "the VM has no CD-ROM drive cd; restart the VM");
}

#[test]
fn a_medium_is_ejected_and_by_force_only_after_a_while_in_which_the_guest_kept_the_tray_locked() {
    let mut full = node(&[("cd", "sda", DEVICE)]).pod(deleted(medium(true), 0));
    let ejects = |node: &Node| match node.only() {
        Action::Eject { drive, target, force, .. } => {
            assert_eq!((drive.source, target.as_str()), (Source::NoMedium { awaited: false }, "sda"));
            force
        }
        other => panic!("{other:?}"),
    };
    assert!(!ejects(&full));
    let key = ("p1".to_owned(), "cd".to_owned());
    full.memory.ejecting.insert(key.clone(), NOW - 29);
    assert!(!ejects(&full));
    full.memory.ejecting.insert(key.clone(), NOW - 30);
    assert!(ejects(&full));
    // The guest keeps it: that is reported, and it is asked again.
    full.memory.detached.insert(key, NOW);
    let failure = FailedStart { times: 1, why: "timed out waiting to open tray".into(), until: NOW + 5 };
    full.memory.failures.insert("a1".into(), failure);
    let report = full.report();
    assert_eq!((report.phase, reason(&report)), (Phase::Running, "TrayLocked"));
    assert_eq!(full.plan().wake, Some(NOW + 10));
    let empty = node(&[("cd", "sda", "")]).pod(deleted(medium(true), 0));
    assert_eq!(reason(&empty.report()), "Detached");
}

#[test]
fn another_medium_in_the_drive_is_ejected_before_the_new_one_is_inserted() {
    let other = node(&[("cd", "sda", "/dev/sheaf-default/pvc-0")]).pod(medium(false));
    assert!(matches!(other.only(), Action::Eject { .. }), "{:?}", other.actions());
}

/// A node that has the volume of claim `c`, to which a VM with an awaited medium was bound so many seconds ago.
fn bound(seconds_ago: i64) -> Node {
    let mut pod = crate::vms::testing::with_drive("p1", true);
    let at = rfc3339(NOW.saturating_sub(seconds_ago));
    let conditions = json!([{"type": "PodScheduled", "status": "True", "lastTransitionTime": at}]);
    pod.status.as_mut().unwrap().conditions = serde_json::from_value(conditions).unwrap();
    let mut node = Node::new().pod(pod);
    node.facts.claims = [(("default".to_owned(), "c".to_owned()), ClaimFact::Volume("pvc-1".into()))].into();
    node.facts.volumes = Some([("pvc-1".to_owned(), volume(1 << 30))].into());
    node
}

/// What is in the drive of the VM that is started.
fn started_with(node: &Node) -> Option<Source> {
    node.actions().into_iter().find_map(|action| match action {
        Action::Start(guest) => Some(guest.disks[0].source.clone()),
        _ => None,
    })
}

#[test]
fn a_vm_starts_with_its_medium_and_waits_for_it_a_minute() {
    let with = bound(1).pod(medium(false));
    assert_eq!(started_with(&with), Some(Source::Device(DEVICE.into())));
    let report = bound(1).report();
    assert_eq!(reason(&report), "MediumNotReady");
    assert_eq!(bound(1).plan().wake, Some(NOW + 59));
    assert_eq!(started_with(&bound(60)), Some(Source::NoMedium { awaited: true }));
    // It was ejected before the start.
    assert_eq!(started_with(&bound(60).pod(medium(true))), Some(Source::NoMedium { awaited: true }));
}

#[test]
fn a_medium_that_is_being_filled_delays_the_start_as_any_volume_does() {
    let mut unbound = bound(600).pod(medium(false));
    unbound.facts.claims = [(("default".to_owned(), "c".to_owned()), ClaimFact::NotBound)].into();
    assert_eq!(started_with(&unbound), None);
    let said = unbound
        .actions()
        .into_iter()
        .any(|action| matches!(action, Action::Report(report) if reason(&report) == "VolumeNotReady"));
    assert!(said, "{:?}", unbound.actions());
}

#[test]
fn a_medium_that_another_vm_uses_delays_the_start() {
    let mut used = bound(1).pod(medium(false));
    used.domains.push(Domain {
        uuid: "other".into(),
        name: "default_one".into(),
        devices: [("sda".to_owned(), DEVICE.into())].into(),
        tags: BTreeMap::new(),
        ..domain("p9")
    });
    assert_eq!(started_with(&used), None);
}

#[test]
fn a_read_only_disk_is_not_resized() {
    let mut node = node(&[("root", "vda", DEVICE)]);
    node.memory.told.clear();
    assert!(matches!(node.only(), Action::ResizeDisk { .. }));
    node.domains[0].readonly.insert("vda".into());
    assert_eq!(node.actions(), []);
}
