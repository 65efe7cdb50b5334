//! Every run strategy as a table: what is done in each state of the instance, and the status.

use serde_json::{Value, json};

use super::*;
use crate::conditions::seconds;

const NOW: i64 = 1_800_000_000; // 2027-01-15T08:00:00Z

/// The plan for a VM without disks of its own.
fn plan(vm: &VirtualMachine, vmi: Option<&VirtualMachineInstance>, now: Timestamp) -> Plan {
    super::plan(&Sized::plain(vm), vmi, &[], now)
}

fn now() -> Timestamp {
    Timestamp::from_second(NOW).unwrap()
}

fn vm(strategy: &str, status: Value) -> VirtualMachine {
    serde_json::from_value(json!({
        "apiVersion": "kubevirt.io/v1", "kind": "VirtualMachine",
        "metadata": {"name": "web", "namespace": "shop", "uid": "vm-1", "generation": 3, "finalizers": [VM_FINALIZER]},
        "spec": {"runStrategy": strategy, "template": {"metadata": {"labels": {"app": "web"}},
            "spec": {"domain": {"memory": {"guest": "1Gi"}, "devices": {}}}}},
        "status": status,
    }))
    .unwrap()
}

/// An instance of [`vm`] that entered Running `ran` seconds ago, if it did, and `phase` now.
fn vmi(phase: &str, ran: Option<i64>) -> VirtualMachineInstance {
    let mut vmi = instance(&vm("Always", json!({})), false);
    vmi.metadata.uid = Some("vmi-1".into());
    let at = |second: i64| json!(seconds(Timestamp::from_second(second).unwrap()));
    let mut times = vec![];
    if let Some(ran) = ran {
        times.push(json!({"phase": "Running", "phaseTransitionTimestamp": at(NOW - ran)}));
    }
    if phase != "Running" {
        times.push(json!({"phase": phase, "phaseTransitionTimestamp": at(NOW)}));
    }
    vmi.status = serde_json::from_value(json!({"phase": phase, "phaseTransitionTimestamps": times})).unwrap();
    vmi
}

/// What is done beside writing the status.
fn done(plan: &Plan) -> Vec<&Action> {
    plan.actions.iter().filter(|action| !matches!(action, Action::WriteStatus(_))).collect()
}

fn starts(plan: &Plan) -> bool {
    plan.actions.iter().any(|action| matches!(action, Action::Start(_)))
}

fn stops(plan: &Plan) -> bool {
    plan.actions.iter().any(|action| matches!(action, Action::Stop { .. }))
}

#[test]
fn only_always_once_and_rerun_on_failure_start_by_themselves() {
    for (strategy, expected) in
        [("Always", true), ("Once", true), ("RerunOnFailure", true), ("Halted", false), ("Manual", false)]
    {
        assert_eq!(starts(&plan(&vm(strategy, json!({})), None, now())), expected, "{strategy}");
    }
}

#[test]
fn an_instance_is_called_as_its_vm_and_owned_by_it() {
    let vmi = instance(&vm("Always", json!({})), false);
    assert_eq!(vmi.metadata.name.as_deref(), Some("web"));
    assert_eq!(vmi.metadata.labels.as_ref().unwrap()["app"], "web");
    assert!(owns(&vm("Always", json!({})), &vmi));
}

#[test]
fn what_ended_is_removed_only_by_strategies_that_want_another() {
    for (strategy, after_success, after_failure) in [
        ("Always", true, true),
        ("RerunOnFailure", false, true),
        ("Once", false, false),
        ("Manual", false, false),
        ("Halted", true, true),
    ] {
        let vm = vm(strategy, json!({"runStrategy": strategy}));
        assert_eq!(stops(&plan(&vm, Some(&vmi("Succeeded", Some(500))), now())), after_success, "{strategy}");
        assert_eq!(stops(&plan(&vm, Some(&vmi("Failed", Some(500))), now())), after_failure, "{strategy}");
    }
}

#[test]
fn halting_stops_a_running_instance() {
    let plan = plan(&vm("Halted", json!({})), Some(&vmi("Running", Some(500))), now());
    assert!(stops(&plan));
    assert_eq!(plan.status.printable_status, Some(PrintableStatus::Stopping));
}

#[test]
fn once_is_not_started_again_and_rerun_on_failure_only_after_one() {
    assert!(!starts(&plan(&vm("Once", json!({"runStrategy": "Once"})), None, now())));
    let rerun = "RerunOnFailure";
    assert!(!starts(&plan(&vm(rerun, json!({"runStrategy": rerun})), None, now())));
    let failed = json!({"runStrategy": rerun, "startFailure": {"consecutiveFailCount": 0}});
    assert!(starts(&plan(&vm(rerun, failed), None, now())));
}

#[test]
fn failing_starts_wait_ever_longer_and_say_so() {
    let first = plan(&vm("Always", json!({})), Some(&vmi("Failed", None)), now());
    let failure = first.status.start_failure.clone().unwrap();
    assert_eq!(failure.consecutive_fail_count, 1);
    let mut again = vm("Always", json!({}));
    again.status = Some(first.status);
    // The same instance does not count twice.
    let repeated = plan(&again, Some(&vmi("Failed", None)), now());
    assert_eq!(repeated.status.start_failure, Some(failure));
    let waiting = plan(&again, None, now());
    assert_eq!(waiting.status.printable_status, Some(PrintableStatus::CrashLoopBackOff));
    assert_eq!(waiting.requeue, Some(Duration::from_secs(10)));
    assert!(!starts(&waiting));
    assert!(starts(&plan(&again, None, Timestamp::from_second(NOW + 10).unwrap())));
}

#[test]
fn a_failure_after_a_long_run_is_restarted_at_once() {
    let plan = plan(&vm("Always", json!({})), Some(&vmi("Failed", Some(3600))), now());
    assert_eq!(plan.status.start_failure.unwrap().retry_after_timestamp, None);
}

#[test]
fn an_instance_that_somebody_deleted_did_not_fail() {
    let mut deleted = vmi("Failed", Some(5));
    deleted.metadata.deletion_timestamp = Some(seconds(now()));
    let plan = plan(&vm("Always", json!({})), Some(&deleted), now());
    assert_eq!(plan.status.start_failure, None);
    assert_eq!(plan.status.printable_status, Some(PrintableStatus::Stopping));
}

#[test]
fn a_stable_run_ends_the_row_of_failures() {
    let failing =
        || vm("Always", json!({"startFailure": {"consecutiveFailCount": 3, "lastFailedVMIUID": "other"}}));
    let young = plan(&failing(), Some(&vmi("Running", Some(20))), now());
    assert!(young.status.start_failure.is_some());
    assert_eq!(young.requeue, Some(Duration::from_secs(40)));
    assert_eq!(plan(&failing(), Some(&vmi("Running", Some(60))), now()).status.start_failure, None);
}

#[test]
fn a_vm_that_fits_nowhere_says_so() {
    let mut waiting = vmi("Scheduling", None);
    let conditions = json!([{"type": "PodScheduled", "status": "False", "reason": "Unschedulable"}]);
    waiting.status.as_mut().unwrap().conditions = serde_json::from_value(conditions).unwrap();
    let plan = plan(&vm("Always", json!({})), Some(&waiting), now());
    assert_eq!(plan.status.printable_status, Some(PrintableStatus::ErrorUnschedulable));
}

#[test]
fn a_deleted_vm_stops_its_instance_first_and_goes_last() {
    let mut deleted = vm("Always", json!({}));
    deleted.metadata.deletion_timestamp = Some(seconds(now()));
    assert!(stops(&plan(&deleted, Some(&vmi("Running", Some(5))), now())));
    assert_eq!(done(&plan(&deleted, None, now())), [&Action::RemoveFinalizer]);
}

#[test]
fn an_instance_of_another_owner_is_not_touched() {
    let mut foreign = vmi("Running", Some(500));
    foreign.metadata.owner_references = None;
    let plan = plan(&vm("Halted", json!({})), Some(&foreign), now());
    assert!(done(&plan).is_empty());
    assert_eq!(find(&plan.status.conditions, "Failure").unwrap().reason.as_deref(), Some("NameTaken"));
}

#[test]
fn a_changed_template_asks_for_a_restart() {
    let mut changed = vm("Always", json!({}));
    let running = vmi("Running", Some(500));
    assert!(find(&plan(&changed, Some(&running), now()).status.conditions, "RestartRequired").is_none());
    changed.spec.template.spec.hostname = Some("other".into());
    let plan = plan(&changed, Some(&running), now());
    let required = find(&plan.status.conditions, "RestartRequired").unwrap().message.clone();
    assert_eq!(
        required.as_deref(),
        Some(
            "spec.template.spec.hostname changed since this instance was started; restart the VM to use the template"
        )
    );
    assert!(!plan.actions.iter().any(|action| matches!(action, Action::Follow(_))));
}

#[test]
fn an_instance_that_runs_gets_the_hotpluggable_volumes_of_a_changed_template_and_needs_no_restart() {
    let mut changed = vm("Always", json!({}));
    changed.spec.template.spec.volumes =
        serde_json::from_value(json!([{"name": "a", "dataVolume": {"name": "d", "hotpluggable": true}}]))
            .unwrap();
    let follows = |phase: &str| {
        let plan = plan(&changed, Some(&vmi(phase, Some(500))), now());
        assert!(find(&plan.status.conditions, "RestartRequired").is_none());
        plan.actions.iter().any(|action| matches!(action, Action::Follow(_)))
    };
    assert!(follows("Running"));
    assert!(!follows("Scheduled"), "it follows once it runs");
}

/// A VM that owns a disk, and the disk in `phase`.
fn with_disk(phase: &str) -> (VirtualMachine, Vec<DataVolume>) {
    let mut vm = vm("Always", json!({}));
    vm.spec.data_volume_templates =
        serde_json::from_value(json!([{"metadata": {"name": "root"}, "spec": {"source": {"blank": {}}}}]))
            .unwrap();
    let mut disks = crate::vm::disks::missing(&vm, &[]);
    disks[0].status = serde_json::from_value(json!({"phase": phase})).unwrap();
    (vm, disks)
}

#[test]
fn a_vm_makes_its_disks_before_it_starts_and_even_if_it_does_not() {
    let (mut vm, disks) = with_disk("Succeeded");
    let first = plan(&vm, None, now());
    assert!(matches!(done(&first).as_slice(), [Action::CreateDisk(_)]), "{first:?}");
    assert_eq!(first.status.printable_status, Some(PrintableStatus::Provisioning));
    assert!(starts(&super::plan(&Sized::plain(&vm), None, &disks, now())));
    vm.spec.run_strategy = Some(RunStrategy::Halted);
    let halted = plan(&vm, None, now());
    assert!(matches!(done(&halted).as_slice(), [Action::CreateDisk(_)]), "{halted:?}");
    assert_eq!(halted.status.printable_status, Some(PrintableStatus::Stopped));
}

#[test]
fn a_vm_is_the_consumer_that_its_disk_waits_for() {
    let (vm, disks) = with_disk("WaitForFirstConsumer");
    assert!(starts(&super::plan(&Sized::plain(&vm), None, &disks, now())));
    let placed = vmi("Scheduling", None);
    let printable = |disks: &[DataVolume]| {
        super::plan(&Sized::plain(&vm), Some(&placed), disks, now()).status.printable_status.unwrap()
    };
    assert_eq!(printable(&disks), PrintableStatus::WaitingForVolumeBinding);
    assert_eq!(printable(&with_disk("ImportInProgress").1), PrintableStatus::Provisioning);
    assert_eq!(printable(&with_disk("Succeeded").1), PrintableStatus::Starting);
}

#[test]
fn a_vm_whose_disk_failed_does_not_start_and_says_why() {
    let (vm, disks) = with_disk("Failed");
    let plan = super::plan(&Sized::plain(&vm), None, &disks, now());
    assert!(!starts(&plan));
    assert_eq!(plan.status.printable_status, Some(PrintableStatus::DataVolumeError));
    let failure = find(&plan.status.conditions, "Failure").unwrap();
    assert_eq!(failure.message.as_deref(), Some("DataVolume root failed: "));
}

#[test]
fn the_status_is_written_before_an_instance_is_deleted_and_after_one_was_made() {
    let order = |plan: Plan| {
        let place = |wanted: fn(&Action) -> bool| plan.actions.iter().position(wanted);
        (
            place(|action| matches!(action, Action::WriteStatus(_))),
            place(|action| matches!(action, Action::Start(_) | Action::Stop { .. })),
        )
    };
    let (written, stopped) = order(plan(&vm("Always", json!({})), Some(&vmi("Failed", None)), now()));
    assert!(written.unwrap() < stopped.unwrap());
    let (written, started) = order(plan(&vm("Always", json!({})), None, now()));
    assert!(started.unwrap() < written.unwrap());
}

#[test]
fn a_vm_whose_node_is_silent_is_unknown() {
    let mut silent = vmi("Running", Some(500));
    silent.status.as_mut().unwrap().conditions =
        serde_json::from_value(json!([{"type": "Ready", "status": "False", "reason": "NodeUnreachable"}]))
            .unwrap();
    let printable = |vmi: &VirtualMachineInstance| {
        plan(&vm("Always", json!({})), Some(vmi), now()).status.printable_status
    };
    assert_eq!(printable(&silent), Some(PrintableStatus::Unknown));
    silent.metadata.deletion_timestamp = Some(seconds(now()));
    assert_eq!(printable(&silent), Some(PrintableStatus::Unknown));
}

proptest::proptest! {
    #[test]
    fn no_status_that_was_ever_stored_and_no_clock_makes_the_plan_panic(
        count in proptest::num::u32::ANY, retry in 0i64..250_000_000_000,
        clock in 0i64..250_000_000_000, ran in -200_000_000_000i64..1_000_000_000,
        phase in proptest::sample::select(vec!["Pending", "Running", "Succeeded", "Failed"]),
        strategy in proptest::sample::select(vec!["Always", "Halted", "Manual", "RerunOnFailure", "Once"]),
    ) {
        let Ok(retry) = Timestamp::from_second(retry) else { return Ok(()) };
        let Ok(clock) = Timestamp::from_second(clock) else { return Ok(()) };
        let status = json!({"startFailure": {"consecutiveFailCount": count, "retryAfterTimestamp": seconds(retry)}});
        let vm = vm(strategy, status);
        let started = Timestamp::from_second(NOW.saturating_sub(ran)).is_ok().then_some(ran);
        for vmi in [None, Some(vmi(phase, started))] {
            let plan = plan(&vm, vmi.as_ref(), clock);
            proptest::prop_assert!(plan.requeue.is_none_or(|wait| wait <= Duration::from_secs(300)), "{:?}", plan.requeue);
        }
    }
}

#[test]
fn a_request_to_start_starts_what_is_started_by_request_alone_and_is_done_once_there_is_an_instance() {
    let asked = json!({"runStrategy": "Manual", "stateChangeRequests": [{"action": "Start"}]});
    let first = plan(&vm("Manual", asked.clone()), None, now());
    assert!(starts(&first) && !first.actions.iter().any(|action| matches!(action, Action::RequestDone(_))));
    assert!(first.status.state_change_requests.is_empty(), "the status that is written claims no request");
    let second = plan(&vm("Manual", asked.clone()), Some(&vmi("Running", Some(5))), now());
    assert_eq!(second.actions.last(), Some(&Action::RequestDone(vec![StateChangeRequest::start()])));
    assert!(!stops(&second));
    assert!(!starts(&plan(&vm("Halted", asked), None, now())));
    let rerun = json!({"runStrategy": "RerunOnFailure", "stateChangeRequests": [{"action": "Start"}]});
    assert!(starts(&plan(&vm("RerunOnFailure", rerun), None, now())));
}

#[test]
fn a_request_to_stop_ends_the_instance_that_it_names_and_no_later_one() {
    let asked =
        |uid: &str| json!({"stateChangeRequests": [{"action": "Stop", "uid": uid}, {"action": "Start"}]});
    for strategy in ["Always", "Manual", "RerunOnFailure", "Once", "Halted"] {
        let running = vmi("Running", Some(100));
        let stopping = plan(&vm(strategy, asked("vmi-1")), Some(&running), now());
        assert!(stops(&stopping), "{strategy}");
        assert!(
            !stopping.actions.iter().any(|action| matches!(action, Action::RequestDone(_))),
            "{strategy}"
        );
        // Of an instance that is gone: done, and the one that runs stays.
        let later = plan(&vm(strategy, asked("vmi-0")), Some(&running), now());
        assert_eq!(stops(&later), strategy == "Halted", "{strategy}");
        assert!(later.actions.iter().any(|action| matches!(action, Action::RequestDone(_))), "{strategy}");
    }
    // The start that follows waits until the stop is done.
    let between = plan(&vm("Manual", asked("vmi-1")), None, now());
    assert!(!starts(&between));
    assert!(between.actions.iter().any(|action| matches!(action, Action::RequestDone(_))));
}

#[test]
fn a_paused_guest_is_shown_as_paused() {
    let mut paused = vmi("Running", Some(100));
    let conditions = &mut paused.status.as_mut().unwrap().conditions;
    conditions.push(serde_json::from_value(json!({"type": "Paused", "status": "True"})).unwrap());
    let plan = plan(&vm("Always", json!({})), Some(&paused), now());
    assert_eq!(plan.status.printable_status, Some(PrintableStatus::Paused));
}

#[test]
fn a_vm_whose_tpm_outlives_instances_starts_on_the_node_that_has_it() {
    let with = |status: Value, tpm: Value| {
        let mut vm = vm("Always", status);
        vm.spec.template.spec.domain.devices.tpm = serde_json::from_value(tpm).unwrap();
        vm
    };
    let persistent = json!({"persistent": true});
    let machine = with(json!({}), persistent.clone());
    let on_node = |phase: &str, ran| {
        let mut ran = vmi(phase, ran);
        ran.spec = instance(&machine, false).spec;
        ran.status.as_mut().unwrap().node_name = Some("n1".into());
        ran
    };
    let node =
        |vm: &VirtualMachine, vmi: Option<&VirtualMachineInstance>| plan(vm, vmi, now()).status.state_node;
    assert_eq!(node(&machine, Some(&on_node("Scheduling", None))), None, "nothing is there before it ran");
    assert_eq!(node(&machine, Some(&on_node("Running", Some(5)))).as_deref(), Some("n1"));
    assert_eq!(node(&machine, Some(&on_node("Failed", Some(5)))).as_deref(), Some("n1"));

    let known = json!({"stateNode": "n1"});
    let annotations = instance(&with(known.clone(), persistent), false).metadata.annotations.unwrap();
    assert_eq!(annotations[STATE_NODE_ANNOTATION], "n1");
    let without = with(known, json!({}));
    let annotations = instance(&without, false).metadata.annotations.unwrap_or_default();
    assert!(!annotations.contains_key(STATE_NODE_ANNOTATION));
    assert_eq!(node(&without, None), None);
}

#[test]
fn a_start_that_asks_for_a_paused_guest_gives_one_and_a_halted_vm_runs_from_then_on() {
    let asked = json!({"stateChangeRequests": [{"action": "Start", "data": {"paused": "true"}}]});
    let halted = plan(&vm("Halted", asked.clone()), None, now());
    assert!(halted.actions.contains(&Action::RunAlways) && !starts(&halted));
    for strategy in ["Always", "Manual"] {
        let started = plan(&vm(strategy, asked.clone()), None, now());
        let instance = started.actions.iter().find_map(|action| match action {
            Action::Start(vmi) => Some(vmi),
            _ => None,
        });
        let instance = instance.unwrap();
        assert_eq!(serde_json::to_value(&instance.spec).unwrap()["startStrategy"], "Paused");
        // It is no other template.
        let mut running = vmi("Running", Some(5));
        running.spec = instance.spec.clone();
        let next = plan(&vm(strategy, asked.clone()), Some(&running), now());
        assert!(find(&next.status.conditions, "RestartRequired").is_none());
        assert!(next.actions.iter().any(|action| matches!(action, Action::RequestDone(_))));
    }
}

#[test]
fn a_vm_that_is_being_restored_does_not_start_and_what_others_wrote_into_its_status_stays_theirs() {
    let held = vm("Always", json!({"restoreInProgress": "back", "snapshotInProgress": "nightly"}));
    let plan = plan(&held, None, now());
    assert!(!starts(&plan), "{plan:?}");
    assert_eq!(plan.status.printable_status, Some(PrintableStatus::Stopped));
    assert_eq!((plan.status.restore_in_progress, plan.status.snapshot_in_progress), (None, None));
    assert!(starts(&super::plan(&Sized::plain(&vm("Always", json!({}))), None, &[], now())));
}

#[test]
fn an_instance_keeps_the_spec_that_its_vm_had_when_it_was_started() {
    let vm = vm("Always", json!({}));
    let plan = plan(&vm, None, now());
    let Some(Action::Start(vmi)) = plan.actions.iter().find(|action| matches!(action, Action::Start(_)))
    else {
        panic!("{plan:?}")
    };
    let kept = serde_json::from_str(&vmi.metadata.annotations.as_ref().unwrap()[VM_SPEC_ANNOTATION]).unwrap();
    assert_eq!(vm.spec, kept);
}

#[test]
fn a_vm_that_is_started_again_by_itself_asks_to_be_started_elsewhere_unless_its_user_says_no() {
    let asked = |strategy: &str, own: Value| {
        let mut machine = vm(strategy, json!({}));
        machine.spec.template.metadata = serde_json::from_value(json!({"annotations": own})).unwrap();
        let annotations = instance(&machine, false).metadata.annotations.unwrap_or_default();
        annotations.get("sheaf.dev/restart-elsewhere").cloned()
    };
    assert_eq!(asked("Always", json!({})).as_deref(), Some("true"));
    assert_eq!(asked("RerunOnFailure", json!({})).as_deref(), Some("true"));
    assert_eq!(asked("Manual", json!({})), None);
    assert_eq!(asked("Once", json!({})), None);
    let no = json!({"sheaf.dev/restart-elsewhere": "false"});
    assert_eq!(asked("Always", no).as_deref(), Some("false"));
}

#[test]
fn a_vm_whose_node_was_lost_soon_after_its_start_does_not_wait_for_its_next_run() {
    for strategy in ["Always", "RerunOnFailure"] {
        let machine = vm(strategy, json!({"runStrategy": strategy}));
        let mut ended = vmi("Failed", Some(5));
        let failure = |ended: &VirtualMachineInstance| {
            let status = plan(&machine, Some(ended), now()).status;
            status
                .start_failure
                .map(|failure| (failure.consecutive_fail_count, failure.retry_after_timestamp.is_some()))
        };
        assert_eq!(failure(&ended), Some((1, true)), "it failed by itself");
        ended.status.as_mut().unwrap().reason = Some("NodeLost".into());
        assert_eq!(failure(&ended), Some((0, false)));
    }
}
