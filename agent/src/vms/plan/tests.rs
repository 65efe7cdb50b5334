//! The rules of the plan, each as one moment of a node and what is to be done in it.

use super::super::testing::{VMI_UID, domain, facts, pod, pod_of, started};
use super::*;
use crate::vms::facts::{ClaimFact, Facts};
use serde_json::json;
use std::sync::Arc;

mod attachments;
mod nics;
mod size;

/// A node in one moment.
struct Node {
    pods: BTreeMap<String, Arc<Pod>>,
    domains: Vec<Domain>,
    records: BTreeMap<String, Record>,
    facts: Facts,
    memory: Memory,
    now: i64,
}

const NOW: i64 = 1_800_000_000;

impl Node {
    fn new() -> Self {
        Self {
            pods: BTreeMap::new(),
            domains: Vec::new(),
            records: BTreeMap::new(),
            facts: facts(),
            memory: Memory::default(),
            now: NOW,
        }
    }

    fn pod(mut self, pod: Pod) -> Self {
        self.pods.insert(pod.metadata.uid.clone().unwrap(), Arc::new(pod));
        self
    }

    /// With a domain that runs since this boot.
    fn running(mut self, uid: &str) -> Self {
        self.domains.push(domain(uid));
        self.record(uid, "boot-1")
    }

    fn record(mut self, uid: &str, boot: &str) -> Self {
        self.records.insert(uid.into(), started(uid, boot));
        self
    }

    fn plan(&self) -> Plan {
        let Self { pods, domains, records, facts, memory, now } = self;
        plan(&Observed { pods, domains, records, facts, memory, now: *now })
    }

    fn actions(&self) -> Vec<Action> {
        self.plan().actions.into_iter().map(|(_uid, action)| action).collect()
    }

    fn only(&self) -> Action {
        let mut actions = self.actions();
        assert_eq!(actions.len(), 1, "{actions:?}");
        actions.remove(0)
    }

    fn report(&self) -> Report {
        match self.only() {
            Action::Report(report) => report,
            other => panic!("{other:?}"),
        }
    }
}

fn deleted(mut pod: Pod, grace: i64) -> Pod {
    let at =
        json!({"deletionTimestamp": rfc3339(NOW.saturating_add(grace)), "deletionGracePeriodSeconds": grace});
    let meta: k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta =
        serde_json::from_value(at).unwrap();
    pod.metadata.deletion_timestamp = meta.deletion_timestamp;
    pod.metadata.deletion_grace_period_seconds = meta.deletion_grace_period_seconds;
    pod
}

/// The pod, with what `report` says in its status.
fn saying(mut pod: Pod, report: &Report) -> Pod {
    let patch = report.patch(&pod, None, &rfc3339(NOW));
    pod.status = serde_json::from_value(patch["status"].clone()).unwrap();
    pod
}

fn reason(report: &Report) -> &str {
    match &report.state {
        State::Waiting { reason, .. } | State::Terminated { reason, .. } => reason,
        State::Running { .. } => "",
    }
}

fn fail_of(reason: &'static str) -> Report {
    failed(Why { reason, message: String::new() }, 1, None)
}

#[test]
fn a_bound_pod_is_started() {
    let Action::Start(guest) = Node::new().pod(pod("p1")).only() else { panic!() };
    assert_eq!(guest.id.pod_uid, "p1");
}

#[test]
fn a_pod_with_an_action_under_way_or_held_is_left_alone() {
    let mut node = Node::new().pod(pod("p1"));
    node.memory.busy.insert("p1".into());
    assert_eq!(node.actions(), []);
    let mut node = Node::new().pod(pod("p1"));
    node.memory.held.insert("p1".into(), NOW + 5);
    assert_eq!(node.plan(), Plan { actions: Vec::new(), wake: Some(NOW + 5) });
}

#[test]
fn a_running_domain_is_reported_once() {
    let node = Node::new().pod(pod("p1")).running("p1");
    let report = node.report();
    assert_eq!((report.phase, report.uuid.as_deref()), (Phase::Running, Some(VMI_UID)));
    assert_eq!(Node::new().pod(saying(pod("p1"), &report)).running("p1").actions(), []);
}

#[test]
fn a_domain_without_a_record_is_adopted_not_started_again() {
    let mut node = Node::new().pod(pod("p1"));
    node.domains.push(domain("p1"));
    let Action::Adopt(record) = node.only() else { panic!() };
    assert_eq!(record.started.unwrap().uuid, VMI_UID);
}

#[test]
fn a_guest_that_powers_off_has_succeeded_and_one_whose_qemu_dies_has_failed() {
    let ends = [(Stop::Shutdown, Phase::Succeeded, "Completed"), (Stop::Crashed, Phase::Failed, "Crashed")];
    for (stop, phase, why) in ends {
        let mut node = Node::new().pod(pod("p1")).record("p1", "boot-1");
        node.memory.stops.insert("p1".into(), stop);
        let report = node.report();
        assert_eq!((report.phase, reason(&report)), (phase, why));
    }
}

#[test]
fn a_vm_of_an_earlier_boot_has_failed_and_is_not_started_again() {
    let report = Node::new().pod(pod("p1")).record("p1", "boot-0").report();
    assert_eq!((report.phase, reason(&report)), (Phase::Failed, "NodeRebooted"));
}

#[test]
fn a_domain_that_is_missing_without_a_word_is_waited_for_before_it_counts_as_lost() {
    let mut node = Node::new().pod(pod("p1")).record("p1", "boot-1");
    assert_eq!(node.plan(), Plan { actions: Vec::new(), wake: Some(NOW + MISSING_TIME) });
    node.memory.missing.insert("p1".into(), NOW);
    node.now += MISSING_TIME;
    assert_eq!(reason(&node.report()), "Lost");
}

#[test]
fn a_pod_whose_status_says_started_is_not_started_again_even_without_a_record() {
    let report = Node::new().pod(pod("p1")).running("p1").report();
    let node = Node::new().pod(saying(pod("p1"), &report));
    assert_eq!(node.actions(), []);
}

#[test]
fn a_deleted_pod_has_its_power_button_pressed_then_its_vm_destroyed_at_the_end_of_grace() {
    let mut node = Node::new().pod(deleted(pod("p1"), 60)).running("p1");
    assert_eq!(node.only(), Action::PressPowerButton(VMI_UID.into()));
    node.memory.stopping.insert("p1".into(), Stopping { since: NOW, pressed: NOW });
    node.now = NOW + 3;
    assert_eq!(node.plan(), Plan { actions: Vec::new(), wake: Some(NOW + PRESS_AGAIN) });
    node.now = NOW + PRESS_AGAIN;
    assert_eq!(node.only(), Action::PressPowerButton(VMI_UID.into()));
    node.now = NOW + 60;
    assert_eq!(node.only(), Action::Destroy(VMI_UID.into()));
}

#[test]
fn an_api_server_with_a_clock_ahead_does_not_lengthen_the_grace() {
    let mut node = Node::new().pod(deleted(pod("p1"), 60)).running("p1");
    let since = NOW - 100;
    node.memory.stopping.insert("p1".into(), Stopping { since, pressed: since });
    assert_eq!(node.only(), Action::Destroy(VMI_UID.into()));
}

#[test]
fn a_grace_of_nothing_destroys_at_once() {
    assert_eq!(Node::new().pod(deleted(pod("p1"), 0)).running("p1").only(), Action::Destroy(VMI_UID.into()));
}

#[test]
fn a_deleted_pod_is_removed_only_after_its_end_was_reported_and_its_domain_is_gone() {
    let mut node = Node::new().pod(deleted(pod("p1"), 60)).record("p1", "boot-1");
    node.memory.stops.insert("p1".into(), Stop::Destroyed);
    let report = node.report();
    assert_eq!((report.phase, reason(&report)), (Phase::Failed, "Killed"));
    let ended = saying(deleted(pod("p1"), 60), &report);
    assert_eq!(Node::new().pod(ended.clone()).record("p1", "boot-1").only(), Action::DeletePod);
    let mut leaving = Node::new().pod(ended).running("p1");
    leaving.domains[0].state = libvirt::State::Stopped(Stop::Destroyed);
    assert_eq!(leaving.actions(), []);
}

#[test]
fn a_pod_deleted_before_its_start_ends_without_one() {
    assert_eq!(reason(&Node::new().pod(deleted(pod("p1"), 60)).report()), "NeverStarted");
}

#[test]
fn an_ended_pod_never_changes_its_phase_and_a_domain_left_over_is_stopped() {
    let ended = saying(pod("p1"), &fail_of("Evicted"));
    assert_eq!(Node::new().pod(ended.clone()).actions(), []);
    assert_eq!(Node::new().pod(ended).running("p1").only(), Action::PressPowerButton(VMI_UID.into()));
}

#[test]
fn a_domain_whose_pod_is_not_listed_is_stopped_only_after_the_api_server_said_it_is_gone() {
    let mut node = Node::new().running("p1");
    let Action::ConfirmGone(id) = node.only() else { panic!() };
    assert_eq!(
        (id.namespace.as_str(), id.pod.as_str(), id.pod_uid.as_str()),
        ("default", "virt-launcher-web", "p1")
    );
    node.memory.gone.insert("p1".into());
    assert_eq!(node.only(), Action::PressPowerButton(VMI_UID.into()));
}

#[test]
fn a_domain_that_is_not_ours_is_never_touched() {
    let mut node = Node::new();
    node.domains.push(Domain { tags: BTreeMap::new(), ..domain("x") });
    node.memory.gone.insert("x".into());
    assert_eq!(node.actions(), []);
}

#[test]
fn a_folder_is_removed_only_when_its_pod_is_confirmed_gone() {
    let mut node = Node::new().record("p1", "boot-1");
    assert!(matches!(node.only(), Action::ConfirmGone(_)));
    node.memory.gone.insert("p1".into());
    assert!(matches!(node.only(), Action::RemoveFolder(_)));
}

#[test]
fn a_pod_that_can_never_run_here_fails_with_its_reason() {
    let mut huge = pod("p1");
    huge.metadata.annotations = None;
    assert_eq!(reason(&Node::new().pod(huge).report()), "InvalidSpec");
}

#[test]
fn two_pods_that_do_not_fit_together_are_not_both_started() {
    let mut node = Node::new();
    node.facts.allocatable =
        Some(Resources { cpu: 4000, memory: 300 << 20, pods: 10, ..Resources::default() });
    let node = node.pod(pod("p1")).running("p1").pod({
        let mut other = pod("p2");
        let annotation = other.metadata.annotations.as_mut().unwrap().get_mut("sheaf.dev/vmi").unwrap();
        *annotation = annotation.replace("web", "db").replace("0b0e6d2c", "ffffffff");
        other
    });
    let reports: Vec<_> = node
        .actions()
        .into_iter()
        .map(|action| match action {
            Action::Report(report) => reason(&report).to_owned(),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(reports, ["", "OutOfmemory"]);
}

#[test]
fn the_next_run_of_a_vm_waits_for_the_end_of_the_one_before() {
    let report = Node::new().pod(pod("p0")).running("p0").report();
    let node = Node::new().pod(saying(deleted(pod("p0"), 60), &report)).running("p0").pod(pod("p1"));
    let mut node = node;
    node.memory.stopping.insert("p0".into(), Stopping { since: NOW, pressed: NOW });
    assert_eq!(reason(&node.report()), "PreviousRunPresent");
}

#[test]
fn a_start_that_failed_says_why_before_it_is_tried_again() {
    let failure = FailedStart { times: 1, why: "no disk".into(), until: NOW + 5 };
    let mut node = Node::new().pod(pod("p1"));
    node.memory.failures.insert("p1".into(), failure.clone());
    let report = node.report();
    assert_eq!((report.phase, reason(&report)), (Phase::Pending, "StartError"));
    let mut node = Node::new().pod(saying(pod("p1"), &report));
    node.memory.failures.insert("p1".into(), failure);
    assert_eq!(node.plan(), Plan { actions: Vec::new(), wake: Some(NOW + 5) });
    node.now = NOW + 5;
    assert!(matches!(node.only(), Action::Start(_)));
}

#[test]
fn a_deleted_pod_whose_start_failed_does_not_wait_for_the_next_try() {
    let failure = FailedStart { times: 9, why: "no disk".into(), until: NOW + 300 };
    let said = waiting(&Why { reason: "StartError", message: "no disk".into() });
    let mut node = Node::new().pod(deleted(saying(pod("p1"), &said), 180));
    node.memory.failures.insert("p1".into(), failure.clone());
    let report = node.report();
    assert_eq!((report.phase, reason(&report)), (Phase::Failed, "NeverStarted"));
    let mut node = Node::new().pod(saying(deleted(pod("p1"), 180), &report));
    node.memory.failures.insert("p1".into(), failure);
    assert_eq!(node.only(), Action::DeletePod);
}

#[test]
fn a_pod_that_failed_before_any_start_is_removed_as_soon_as_it_is_deleted() {
    for why in ["InvalidSpec", "OutOfmemory"] {
        let ended = saying(pod("p1"), &fail_of(why));
        assert_eq!(Node::new().pod(deleted(ended, 180)).only(), Action::DeletePod);
    }
}

#[test]
fn a_pod_of_containers_waits_with_a_reason_and_is_let_go_when_deleted() {
    let mut container = pod("p1");
    container.spec.as_mut().unwrap().runtime_class_name = None;
    let report = Node::new().pod(container.clone()).report();
    assert_eq!((report.phase, reason(&report)), (Phase::Pending, "UnsupportedRuntime"));
    assert_eq!(Node::new().pod(saying(container.clone(), &report)).actions(), []);
    assert_eq!(Node::new().pod(deleted(container, 30)).only(), Action::DeletePod);
}

#[test]
fn an_importer_pod_is_no_vm_and_takes_no_resources() {
    let mut importer = pod("p1");
    importer.metadata.labels = Some([("sheaf.dev/import".to_owned(), "pvc-1".to_owned())].into());
    importer.metadata.annotations = None;
    let report = Node::new().pod(importer.clone()).report();
    assert_eq!((report.phase, reason(&report)), (Phase::Pending, "Importing"));
    assert_eq!(Node::new().pod(saying(importer.clone(), &report)).actions(), []);
    assert_eq!(Node::new().pod(deleted(importer, 0)).only(), Action::DeletePod);
}

#[test]
fn an_exporter_pod_is_no_vm_and_says_what_it_is_for() {
    let mut exporter = pod("p1");
    exporter.metadata.labels = Some([("sheaf.dev/export".to_owned(), "u".to_owned())].into());
    exporter.metadata.annotations = None;
    let report = Node::new().pod(exporter.clone()).report();
    assert_eq!((report.phase, reason(&report)), (Phase::Pending, "Exporting"));
    assert_eq!(Node::new().pod(deleted(exporter, 0)).only(), Action::DeletePod);
}

/// A VM on the volume pvc-1, whose domain runs and whose Pod says so.
fn on_volume() -> Node {
    let mut node = Node::new().running("p1");
    node.domains[0].devices = [("vda".to_owned(), "/dev/sheaf-default/pvc-1".into())].into();
    node.facts.volumes = Some([("pvc-1".to_owned(), volume(1 << 30))].into());
    node.memory.told.insert((VMI_UID.into(), "vda".into()), 1 << 30);
    let mut pod = pod("p1");
    pod.status = serde_json::from_value(json!({
        "phase": "Running",
        "conditions": [{"type": "Ready", "status": "True"}],
        "containerStatuses": [{"name": "compute", "image": "", "imageID": "", "ready": true, "restartCount": 0,
                               "state": {"running": {"startedAt": "2026-01-01T00:00:00Z"}},
                               "allocatedResources": {"cpu": "100m", "memory": "100Mi"}}],
    }))
    .unwrap();
    node.pod(pod)
}

fn volume(bytes: u64) -> crate::channels::Usable {
    let device = "/dev/sheaf-default/pvc-1".into();
    crate::channels::Usable { ready: true, readable: true, device, bytes, problem: None }
}

#[test]
fn a_guest_is_told_once_of_a_disk_that_has_grown() {
    let mut node = on_volume();
    assert_eq!(node.actions(), []);
    node.facts.volumes = Some([("pvc-1".to_owned(), volume(2 << 30))].into());
    let told = Action::ResizeDisk { uuid: VMI_UID.into(), disk: "vda".into(), bytes: 2 << 30 };
    assert_eq!(node.only(), told);
    node.memory.told.insert((VMI_UID.into(), "vda".into()), 2 << 30);
    assert_eq!(node.actions(), []);
}

#[test]
fn a_guest_that_its_full_disk_stopped_is_shown_and_goes_on_again_and_again_until_there_is_space() {
    let mut node = on_volume();
    node.domains[0].state = libvirt::State::PausedByDisk;
    let Action::Report(report) = node.only() else { panic!() };
    assert_eq!((report.phase, report.paused.is_some()), (Phase::Running, true));
    let said = json!({"type": "sheaf.dev/Paused", "status": "True", "reason": "PausedIOError"});
    let mut pod = Pod::clone(&node.pods["p1"]);
    let conditions = pod.status.as_mut().unwrap().conditions.as_mut().unwrap();
    conditions.push(serde_json::from_value(said).unwrap());
    node = node.pod(pod);
    assert_eq!(node.only(), Action::Resume(VMI_UID.into()));
    node.memory.resumed.insert("p1".into(), NOW);
    assert_eq!((node.actions(), node.plan().wake), (vec![], Some(NOW + RESUME_AGAIN)));
    // It runs: for a moment only, perhaps.
    node.domains[0].state = libvirt::State::Running;
    assert_eq!((node.actions(), node.plan().wake), (vec![], Some(NOW + RESUMED_AFTER)));
    node.memory.resumed.insert("p1".into(), NOW - RESUMED_AFTER);
    let Action::Report(report) = node.only() else { panic!() };
    assert_eq!(report.paused, None);
}

#[test]
fn a_volume_has_one_guest_at_a_time() {
    use sheaf_api::names::VMI_ANNOTATION;
    let spec = json!({"domain": {"memory": {"guest": "64Mi"}, "devices": {"disks": [{"name": "d"}]}},
                      "volumes": [{"name": "d", "persistentVolumeClaim": {"claimName": "data"}}]});
    let named = |uid: &str, name: &str, vmi: &str| {
        let mut pod = pod_of(uid, spec.clone());
        let annotation = json!({"name": name, "namespace": "default", "uid": vmi, "spec": spec}).to_string();
        pod.metadata.annotations = Some([(VMI_ANNOTATION.to_owned(), annotation)].into());
        let volumes = json!([{"name": "d", "persistentVolumeClaim": {"claimName": "data"}}]);
        pod.spec.as_mut().unwrap().volumes = serde_json::from_value(volumes).unwrap();
        pod
    };
    let (one, two) = ("0b0e6d2c-6a4e-4c9f-9a53-000000000001", "0b0e6d2c-6a4e-4c9f-9a53-000000000002");
    let mut node = Node::new().pod(named("p1", "one", one)).pod(named("p2", "two", two));
    node.facts.volumes = Some([("pvc-1".to_owned(), volume(1 << 30))].into());
    let claim = ClaimFact::Volume("pvc-1".into());
    node.facts.claims = [(("default".to_owned(), "data".to_owned()), claim)].into();
    let in_use = |action: &Action| match action {
        Action::Report(Report { state: State::Waiting { reason, message }, .. }) => {
            reason == "VolumeInUse" && message.contains("default_one")
        }
        _ => false,
    };
    // Both at once, one that is being started, one that runs.
    let actions = node.actions();
    let Action::Start(first) = actions[0].clone() else { panic!("{actions:?}") };
    assert!(in_use(&actions[1]), "{actions:?}");
    node.memory.busy.insert("p1".into());
    node.memory.starting.insert("p1".into(), *first);
    assert!(in_use(&node.only()));
    node.memory = Memory::default();
    node.pods.remove("p1");
    let devices = [("vda".to_owned(), "/dev/sheaf-default/pvc-1".into())].into();
    node.domains.push(Domain { name: "default_one".into(), devices, tags: BTreeMap::new(), ..domain("p1") });
    assert!(in_use(&node.only()));
}

#[test]
fn vms_share_a_volume_below_their_overlays_and_none_of_them_shares_it_with_one_that_writes_it() {
    let vm = |uid: &str, volume: serde_json::Value| {
        let mut spec =
            json!({"domain": {"memory": {"guest": "64Mi"}, "devices": {"disks": [{"name": "d"}]}}});
        spec["volumes"] = json!([volume]);
        let mut pod = pod_of(uid, spec);
        let claim = json!([{"name": "d", "persistentVolumeClaim": {"claimName": "data"}}]);
        pod.spec.as_mut().unwrap().volumes = serde_json::from_value(claim).unwrap();
        pod
    };
    let claim = json!({"claimName": "data"});
    let reader = || vm("p1", json!({"name": "d", "ephemeral": {"persistentVolumeClaim": claim}}));
    let writer = || vm("p1", json!({"name": "d", "persistentVolumeClaim": claim}));
    let action = |pod: Pod, devices: &[&str], bases: &[&str]| {
        let path = |path: &&str| std::path::PathBuf::from(*path);
        let devices = devices.iter().map(|device| ("vda".to_owned(), path(device))).collect();
        let bases = bases.iter().map(path).collect();
        let other = Domain {
            uuid: "other".into(),
            name: "default_one".into(),
            devices,
            bases,
            tags: BTreeMap::new(),
            ..domain("p9")
        };
        let mut node = Node::new().pod(pod);
        node.facts.claims =
            [(("default".to_owned(), "data".to_owned()), ClaimFact::Volume("pvc-1".into()))].into();
        node.facts.volumes = Some([("pvc-1".to_owned(), volume(1 << 30))].into());
        node.domains.push(other);
        node.only()
    };
    let device = &["/dev/sheaf-default/pvc-1"][..];
    assert!(matches!(action(reader(), &[], device), Action::Start(_)));
    for refused in [action(reader(), device, &[]), action(writer(), &[], device)] {
        let Action::Report(report) = refused else { panic!("{refused:?}") };
        assert_eq!(reason(&report), "VolumeInUse");
    }
}

#[test]
fn a_deletion_with_the_longest_grace_there_is_ends_the_vm_after_a_day_at_most() {
    let mut pod = deleted(pod("p1"), 60);
    pod.metadata.deletion_grace_period_seconds = Some(i64::MAX);
    let mut node = Node::new().pod(pod).running("p1");
    assert_eq!(node.only(), Action::PressPowerButton(VMI_UID.into()));
    let since = NOW - LONGEST_GRACE;
    node.memory.stopping.insert("p1".into(), Stopping { since, pressed: since });
    assert_eq!(node.only(), Action::Destroy(VMI_UID.into()));
}

#[test]
fn a_pod_that_others_failed_is_reported_as_ended_only_when_its_domain_is_gone() {
    let failed = |mut pod: Pod| {
        pod.status.as_mut().unwrap().phase = Some("Failed".into());
        deleted(pod, 0)
    };
    let running = saying(pod("p1"), &Node::new().pod(pod("p1")).running("p1").report());
    let mut node = Node::new().pod(failed(running)).running("p1");
    assert_eq!(node.only(), Action::PressPowerButton(VMI_UID.into()));
    node.domains.clear();
    node.memory.stops.insert("p1".into(), Stop::Shutdown);
    let report = node.report();
    assert_eq!((report.phase, reason(&report)), (Phase::Failed, "Completed"));
    assert!(matches!(report.state, State::Terminated { .. }));
    let node = Node::new().pod(saying(failed(pod("p1")), &report)).record("p1", "boot-1");
    assert_eq!(node.only(), Action::DeletePod);
    // Never started: nothing of it runs, and its finalizer must not stay.
    let report = Node::new().pod(failed(pod("p2"))).report();
    assert_eq!((report.phase, reason(&report)), (Phase::Failed, "NeverStarted"));
}

#[test]
fn of_two_pods_of_one_vm_that_are_bound_at_once_one_is_started() {
    let node = Node::new().pod(pod("p1")).pod(pod("p2"));
    let actions = node.actions();
    assert_eq!(actions.iter().filter(|action| matches!(action, Action::Start(_))).count(), 1, "{actions:?}");
}

#[test]
fn a_guest_that_somebody_paused_is_shown_as_that_and_never_resumed_by_the_node() {
    let mut node = on_volume();
    node.domains[0].state = libvirt::State::Paused;
    let Action::Report(report) = node.only() else { panic!() };
    assert_eq!((report.phase, report.paused), (Phase::Running, Some(Paused::ByUser)));
    let mut pod = Pod::clone(&node.pods["p1"]);
    let conditions = pod.status.as_mut().unwrap().conditions.as_mut().unwrap();
    let said = json!({"type": "sheaf.dev/Paused", "status": "True", "reason": "PausedByUser"});
    conditions.push(serde_json::from_value(said).unwrap());
    node = node.pod(pod);
    assert_eq!((node.actions(), node.plan().wake), (vec![], None));
    node.domains[0].state = libvirt::State::Running;
    let Action::Report(report) = node.only() else { panic!() };
    assert_eq!(report.paused, None);
}

/// Its domain has ended by `stop` while the node is going down.
fn ended_in_a_shutdown(pod: Pod, stop: Stop) -> Report {
    let mut node = Node::new().pod(pod).record("p1", "boot-1");
    node.facts.shutting_down = true;
    node.memory.stops.insert("p1".into(), stop);
    node.report()
}

#[test]
fn a_vm_that_its_nodes_shutdown_stopped_has_failed_so_that_rerun_on_failure_starts_it_again() {
    for (stop, code) in [(Stop::Shutdown, 0), (Stop::Destroyed, 137)] {
        let report = ended_in_a_shutdown(pod("p1"), stop);
        assert_eq!((report.phase, reason(&report)), (Phase::Failed, "NodeShutdown"), "{stop:?}");
        assert!(
            matches!(report.state, State::Terminated { exit_code, .. } if exit_code == code),
            "{report:?}"
        );
    }
    let crashed = ended_in_a_shutdown(pod("p1"), Stop::Crashed);
    assert_eq!((crashed.phase, reason(&crashed)), (Phase::Failed, "Crashed"));
}

#[test]
fn a_vm_that_its_node_stopped_for_want_of_a_lease_says_so() {
    let mut node = Node::new().pod(pod("p1")).record("p1", "boot-1");
    node.facts.without_lease.insert("p1".into());
    node.memory.stops.insert("p1".into(), Stop::Destroyed);
    assert_eq!((node.report().phase, reason(&node.report())), (Phase::Failed, "NodeLost"));
    node.memory.stops.insert("p1".into(), Stop::Crashed);
    assert_eq!(reason(&node.report()), "Crashed");
}

#[test]
fn a_vm_that_its_user_stops_during_a_shutdown_ended_as_its_user_asked() {
    let report = ended_in_a_shutdown(deleted(pod("p1"), 60), Stop::Shutdown);
    assert_eq!((report.phase, reason(&report)), (Phase::Succeeded, "Completed"));
}

#[test]
fn a_node_that_is_going_down_starts_nothing_and_says_when_it_will() {
    let mut node = Node::new().pod(pod("p1"));
    node.facts.shutting_down = true;
    let report = node.report();
    assert_eq!((report.phase, reason(&report)), (Phase::Pending, "NodeShutdown"));
    // Reported once; the boot after it starts the VM.
    let told = saying(pod("p1"), &report);
    node.pods.insert("p1".into(), Arc::new(told.clone()));
    assert_eq!(node.actions(), []);
    assert!(matches!(Node::new().pod(told).only(), Action::Start(_)));
    let mut gone = Node::new().pod(deleted(pod("p1"), 0));
    gone.facts.shutting_down = true;
    assert_eq!(reason(&gone.report()), "NeverStarted");
}
