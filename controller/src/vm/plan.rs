//! Decides whether a VM has an instance now, and what is said of it.
//!
//! Why here: pure, so that every run strategy is a table of tests. Route in: the VM, its instance, the time.
//! Route out: a [`Plan`]. An instance that is over is deleted before the next is made, and the name is the VM's,
//! so there are never two.

use std::time::Duration;

use k8s_openapi::{apimachinery::pkg::apis::meta::v1::Time, jiff::Timestamp};
use kube::{Resource, api::ObjectMeta};
use sheaf_api::{
    RunStrategy, VirtualMachine, VirtualMachineInstance,
    names::{VM_FINALIZER, VM_NAME_LABEL, VMI_FINALIZER},
    status::{Phase, PrintableStatus, StartFailure, VirtualMachineStatus},
};

use crate::{
    conditions::{clear, find, set},
    resolve::resolve,
    tell::News,
};

/// A run shorter than this that ended counts as a failed start.
const STABLE: i64 = 60; // s; long enough for a kernel that panics at boot, short enough for people
/// The first wait after a failed start; it grows with the square of the failures, as KubeVirt's does.
const BACKOFF_UNIT: i64 = 10; // s
/// No wait is longer.
const BACKOFF_MAX: i64 = 300; // s

/// One thing to do.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Put our finalizer on the VM.
    Hold,
    /// Take it off: no instance remains.
    Release,
    /// Create the instance.
    Start(Box<VirtualMachineInstance>),
    /// Delete the instance, if it still is the one with this UID.
    Stop {
        /// Its UID.
        uid: String,
    },
    /// Tell people.
    Tell(News),
}

/// What to do, in order, the status after it, and when to look again without a change.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// In order.
    pub actions: Vec<Action>,
    /// The whole status.
    pub status: VirtualMachineStatus,
    /// Look again after this long.
    pub again: Option<Duration>,
}

/// Decides.
pub fn plan(vm: &VirtualMachine, vmi: Option<&VirtualMachineInstance>, now: Timestamp) -> Plan {
    let mut plan = Plan { actions: Vec::new(), status: vm.status.clone().unwrap_or_default(), again: None };
    let held = vm.metadata.finalizers.iter().flatten().any(|finalizer| finalizer == VM_FINALIZER);
    let deleting = vm.metadata.deletion_timestamp.is_some();
    if !deleting && !held {
        plan.actions.push(Action::Hold);
        return plan;
    }
    let foreign = vmi.is_some_and(|vmi| !owns(vm, vmi));
    let own = vmi.filter(|_| !foreign);
    let printable = if deleting {
        match own {
            Some(vmi) if vmi.metadata.deletion_timestamp.is_none() => plan.actions.push(stop(vmi)),
            None if held => plan.actions.push(Action::Release),
            _ => {}
        }
        PrintableStatus::Terminating
    } else if foreign {
        let message = "a VirtualMachineInstance of this name exists and belongs to somebody else; delete it or rename the VM";
        set(&mut plan.status.conditions, "Failure", "True", "NameTaken", message, now);
        PrintableStatus::Stopped
    } else {
        clear(&mut plan.status.conditions, "Failure");
        match own {
            Some(vmi) => with_instance(&mut plan, vm, vmi, now),
            None => without_instance(&mut plan, vm, now),
        }
    };
    say(&mut plan.status, vm, own, printable, now);
    plan
}

/// No instance: is one wanted?
fn without_instance(plan: &mut Plan, vm: &VirtualMachine, now: Timestamp) -> PrintableStatus {
    let strategy = vm.spec.strategy();
    let acted_upon = plan.status.run_strategy == Some(strategy);
    let wanted = match strategy {
        RunStrategy::Always => true,
        RunStrategy::Halted | RunStrategy::Manual => false,
        RunStrategy::Once => !acted_upon,
        // Started by itself once, and again after a failure.
        RunStrategy::RerunOnFailure => !acted_upon || plan.status.start_failure.is_some(),
    };
    if !wanted {
        if matches!(strategy, RunStrategy::Halted | RunStrategy::Manual) {
            plan.status.start_failure = None;
        }
        plan.status.run_strategy = Some(strategy);
        return PrintableStatus::Stopped;
    }
    let retry = plan.status.start_failure.as_ref().and_then(|failure| failure.retry_after_timestamp.as_ref());
    let wait = retry.map_or(0, |retry| retry.0.as_second() - now.as_second());
    if wait > 0 {
        plan.again = Some(Duration::from_secs(wait.unsigned_abs()));
        return PrintableStatus::CrashLoopBackOff;
    }
    plan.actions.push(Action::Start(Box::new(instance(vm))));
    plan.actions.push(Action::Tell(News::normal("SuccessfulCreate", "started the virtual machine")));
    plan.status.run_strategy = Some(strategy);
    plan.status.observed_generation = vm.metadata.generation;
    PrintableStatus::Starting
}

/// An instance: may it stay?
fn with_instance(
    plan: &mut Plan,
    vm: &VirtualMachine,
    vmi: &VirtualMachineInstance,
    now: Timestamp,
) -> PrintableStatus {
    let strategy = vm.spec.strategy();
    plan.status.run_strategy = Some(strategy);
    let phase = vmi.status.as_ref().and_then(|status| status.phase);
    let over = phase.is_some_and(Phase::is_final);
    let failed = phase == Some(Phase::Failed);
    if vmi.metadata.deletion_timestamp.is_some() {
        // Whoever deletes an instance wants it to end: that is no failure.
        return PrintableStatus::Stopping;
    }
    if over {
        count_failure(plan, vmi, failed, now);
    } else {
        forget_failure(plan, vmi, now);
    }
    let remove = match strategy {
        RunStrategy::Halted => true,
        RunStrategy::Always => over,
        RunStrategy::RerunOnFailure => failed,
        RunStrategy::Manual | RunStrategy::Once => false,
    };
    if remove {
        plan.actions.push(stop(vmi));
        return PrintableStatus::Stopping;
    }
    match phase {
        None | Some(Phase::Pending | Phase::Scheduling) if unschedulable(vmi) => {
            PrintableStatus::ErrorUnschedulable
        }
        None | Some(Phase::Pending | Phase::Scheduling | Phase::Scheduled) => PrintableStatus::Starting,
        Some(Phase::Running) => PrintableStatus::Running,
        Some(Phase::Succeeded | Phase::Failed) => PrintableStatus::Stopped,
    }
}

/// A run that ended soon, or badly, delays the next; each instance counts once.
fn count_failure(plan: &mut Plan, vmi: &VirtualMachineInstance, failed: bool, now: Timestamp) {
    let uid = vmi.metadata.uid.clone();
    let before = plan.status.start_failure.clone().unwrap_or_default();
    if uid.is_some() && before.last_failed_vmi_uid == uid {
        return;
    }
    let soon = match (entered(vmi, Phase::Running), ended(vmi)) {
        (Some(start), Some(end)) => end - start < STABLE,
        (None, _) => true,
        _ => false,
    };
    if !soon {
        // It ran well for a while: what follows is the first failure of a new row, without a wait.
        plan.status.start_failure = failed.then_some(StartFailure {
            consecutive_fail_count: 0,
            last_failed_vmi_uid: uid,
            retry_after_timestamp: None,
        });
        return;
    }
    let count = before.consecutive_fail_count + 1;
    let wait = (i64::from(count) * i64::from(count) * BACKOFF_UNIT).min(BACKOFF_MAX);
    let retry = Timestamp::from_second(now.as_second() + wait).unwrap_or(now);
    plan.status.start_failure = Some(StartFailure {
        consecutive_fail_count: count,
        last_failed_vmi_uid: uid,
        retry_after_timestamp: Some(Time(retry)),
    });
}

/// A run that has been stable ends the row of failures.
fn forget_failure(plan: &mut Plan, vmi: &VirtualMachineInstance, now: Timestamp) {
    if plan.status.start_failure.is_none()
        || vmi.status.as_ref().and_then(|s| s.phase) != Some(Phase::Running)
    {
        return;
    }
    let ran = entered(vmi, Phase::Running).map_or(0, |start| now.as_second() - start);
    if ran >= STABLE {
        plan.status.start_failure = None;
    } else {
        plan.again = Some(Duration::from_secs((STABLE - ran).unsigned_abs()));
    }
}

/// What is said of the VM.
fn say(
    status: &mut VirtualMachineStatus,
    vm: &VirtualMachine,
    vmi: Option<&VirtualMachineInstance>,
    printable: PrintableStatus,
    now: Timestamp,
) {
    let conditions = vmi.and_then(|vmi| vmi.status.as_ref()).map(|status| status.conditions.as_slice());
    let ready = conditions.and_then(|conditions| find(conditions, "Ready"));
    status.created = vmi.is_some();
    status.ready = ready.is_some_and(|ready| ready.status == "True");
    status.printable_status = Some(printable);
    status.desired_generation = vm.metadata.generation;
    match (vmi, ready) {
        (_, Some(ready)) => {
            let text = |text: &Option<String>| text.clone().unwrap_or_default();
            set(
                &mut status.conditions,
                "Ready",
                &ready.status,
                &text(&ready.reason),
                &text(&ready.message),
                now,
            );
        }
        (Some(_), None) => {
            set(&mut status.conditions, "Ready", "False", "GuestNotRunning", "the guest does not run", now)
        }
        (None, None) => {
            set(&mut status.conditions, "Ready", "False", "VMINotExists", "the VM does not run", now)
        }
    }
    let changed = vmi.is_some_and(|vmi| {
        vmi.spec != resolve(&vm.spec.template.spec, vm.metadata.uid.as_deref().unwrap_or_default())
    });
    if changed {
        let message = "the template changed since this instance was started; restart the VM to use it";
        set(&mut status.conditions, "RestartRequired", "True", "TemplateChanged", message, now);
    } else {
        clear(&mut status.conditions, "RestartRequired");
    }
}

/// The instance that the VM wants.
fn instance(vm: &VirtualMachine) -> VirtualMachineInstance {
    let name = vm.metadata.name.clone().unwrap_or_default();
    let template = vm.spec.template.metadata.clone().unwrap_or_default();
    let mut labels = template.labels;
    labels.insert(VM_NAME_LABEL.into(), name.clone());
    VirtualMachineInstance {
        metadata: ObjectMeta {
            name: Some(name),
            namespace: vm.metadata.namespace.clone(),
            labels: Some(labels),
            annotations: (!template.annotations.is_empty()).then_some(template.annotations),
            owner_references: vm.controller_owner_ref(&()).map(|owner| vec![owner]),
            finalizers: Some(vec![VMI_FINALIZER.into()]),
            ..ObjectMeta::default()
        },
        spec: resolve(&vm.spec.template.spec, vm.metadata.uid.as_deref().unwrap_or_default()),
        status: None,
    }
}

fn owns(vm: &VirtualMachine, vmi: &VirtualMachineInstance) -> bool {
    vmi.metadata.owner_references.iter().flatten().any(|owner| Some(&owner.uid) == vm.metadata.uid.as_ref())
}

fn stop(vmi: &VirtualMachineInstance) -> Action {
    Action::Stop { uid: vmi.metadata.uid.clone().unwrap_or_default() }
}

fn unschedulable(vmi: &VirtualMachineInstance) -> bool {
    let conditions = vmi.status.as_ref().map(|status| status.conditions.as_slice()).unwrap_or_default();
    find(conditions, "PodScheduled")
        .is_some_and(|condition| condition.reason.as_deref() == Some("Unschedulable"))
}

/// When the instance entered `phase`, in seconds.
fn entered(vmi: &VirtualMachineInstance, phase: Phase) -> Option<i64> {
    let transitions = &vmi.status.as_ref()?.phase_transition_timestamps;
    let transition = transitions.iter().find(|transition| transition.phase == phase)?;
    Some(transition.phase_transition_timestamp.0.as_second())
}

/// When the instance ended, in seconds.
fn ended(vmi: &VirtualMachineInstance) -> Option<i64> {
    entered(vmi, Phase::Succeeded).or_else(|| entered(vmi, Phase::Failed))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::conditions::seconds;

    const NOW: i64 = 1_800_000_000; // 2027-01-15T08:00:00Z

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
        let mut vmi = instance(&vm("Always", json!({})));
        vmi.metadata.uid = Some("vmi-1".into());
        let at = |second: i64| json!(seconds(Timestamp::from_second(second).unwrap()));
        let mut times = vec![];
        if let Some(ran) = ran {
            times.push(json!({"phase": "Running", "phaseTransitionTimestamp": at(NOW - ran)}));
        }
        if phase != "Running" {
            times.push(json!({"phase": phase, "phaseTransitionTimestamp": at(NOW)}));
        }
        vmi.status =
            serde_json::from_value(json!({"phase": phase, "phaseTransitionTimestamps": times})).unwrap();
        vmi
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
        let vmi = instance(&vm("Always", json!({})));
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
            assert_eq!(
                stops(&plan(&vm, Some(&vmi("Succeeded", Some(500))), now())),
                after_success,
                "{strategy}"
            );
            assert_eq!(
                stops(&plan(&vm, Some(&vmi("Failed", Some(500))), now())),
                after_failure,
                "{strategy}"
            );
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
        assert_eq!(waiting.again, Some(Duration::from_secs(10)));
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
        let failing = || {
            vm("Always", json!({"startFailure": {"consecutiveFailCount": 3, "lastFailedVMIUID": "other"}}))
        };
        let young = plan(&failing(), Some(&vmi("Running", Some(20))), now());
        assert!(young.status.start_failure.is_some());
        assert_eq!(young.again, Some(Duration::from_secs(40)));
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
        assert_eq!(plan(&deleted, None, now()).actions, [Action::Release]);
    }

    #[test]
    fn an_instance_of_somebody_else_is_not_touched() {
        let mut foreign = vmi("Running", Some(500));
        foreign.metadata.owner_references = None;
        let plan = plan(&vm("Halted", json!({})), Some(&foreign), now());
        assert!(plan.actions.is_empty());
        assert_eq!(find(&plan.status.conditions, "Failure").unwrap().reason.as_deref(), Some("NameTaken"));
    }

    #[test]
    fn a_changed_template_asks_for_a_restart() {
        let mut changed = vm("Always", json!({}));
        let running = vmi("Running", Some(500));
        assert!(find(&plan(&changed, Some(&running), now()).status.conditions, "RestartRequired").is_none());
        changed.spec.template.spec.hostname = Some("other".into());
        assert!(find(&plan(&changed, Some(&running), now()).status.conditions, "RestartRequired").is_some());
    }
}
