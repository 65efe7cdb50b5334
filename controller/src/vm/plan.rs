//! Decides what a VirtualMachine's run strategy asks for now. Pure.
//!
//! A machine never has two instances: the next is made only when the last is gone from the API, and that happens
//! only when its Pod is. Starts that fail are repeated later and later, as KubeVirt does.
//! Route in: the VM, its instance, the time. Route out: [`Decision`].

use crate::is_deleted;
use crate::vmi::defaults;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use kube::api::ObjectMeta;
use kube::{Resource, ResourceExt};
use sheaf_api::names::{VM_FINALIZER, VM_NAME_LABEL};
use sheaf_api::status::{Condition, Phase, PrintableStatus, StartFailure, VirtualMachineStatus};
use sheaf_api::{RunStrategy, VirtualMachine, VirtualMachineInstance};
use std::fmt;

/// Wait before the second start after a failed one, in seconds; doubled with each further failure.
const FIRST_WAIT: u64 = 10;
/// Longest wait, in seconds: KubeVirt's.
const LONGEST_WAIT: u64 = 300;
/// An instance that ran so long, in seconds, had a good start: its failure is not one of starting.
const GOOD_START: i64 = 60;

/// One thing to do.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Put the finalizer there, or take it away.
    Hold(bool),
    /// Make the instance.
    Create(Box<VirtualMachineInstance>),
    /// Delete the instance of this UID.
    Delete(String),
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Hold(true) => f.write_str("held until its instance is gone"),
            Self::Hold(false) => f.write_str("released"),
            Self::Create(_) => f.write_str("start"),
            Self::Delete(_) => f.write_str("stop"),
        }
    }
}

/// What to do and what to say.
#[derive(Clone, Debug, PartialEq)]
pub struct Decision {
    /// In this order.
    pub actions: Vec<Action>,
    /// The status afterwards.
    pub status: VirtualMachineStatus,
    /// Look again after so many seconds, though nothing may have changed.
    pub look_again: Option<u64>,
}

/// What to do about `machine`.
pub fn plan(machine: &VirtualMachine, instance: Option<&VirtualMachineInstance>, now: Timestamp) -> Decision {
    let before = machine.status.clone().unwrap_or_default();
    // An instance of the same name that somebody else made is not ours to count or to stop.
    let instance = instance.filter(|instance| belongs(instance, machine));
    let strategy = machine.spec.strategy();
    let failure = failures(&before, instance, now);
    let wait = failure
        .as_ref()
        .and_then(|failure| failure.retry_after_timestamp.as_ref())
        .map(|until| until.0.as_second() - now.as_second())
        .filter(|seconds| *seconds > 0);
    let mut actions = Vec::new();
    let deleted = is_deleted(&machine.metadata);
    if deleted {
        match instance {
            Some(instance) if !is_deleted(&instance.metadata) => actions.push(delete(instance)),
            Some(_) => {}
            None => actions.push(Action::Hold(false)),
        }
    } else {
        let held = machine.finalizers().iter().any(|name| name == VM_FINALIZER);
        if !held {
            actions.push(Action::Hold(true));
        }
        match instance {
            Some(instance) => {
                if !is_deleted(&instance.metadata) && !keeps(strategy, phase(instance)) {
                    actions.push(delete(instance));
                }
            }
            None if starts(strategy, &before) && wait.is_none() => {
                actions.push(Action::Create(Box::new(instance_of(machine))));
            }
            None => {}
        }
    }
    let status = VirtualMachineStatus {
        created: instance.is_some(),
        ready: instance.is_some_and(is_ready),
        printable_status: Some(printable(deleted, strategy, instance, &before, wait.is_some())),
        conditions: conditions(&before, instance, failure.as_ref(), now),
        start_failure: failure,
        run_strategy: Some(strategy),
        observed_generation: instance.map_or(before.observed_generation, |_| machine.metadata.generation),
        desired_generation: machine.metadata.generation,
    };
    let waits_to_start = !deleted && instance.is_none() && starts(strategy, &before);
    let look_again = wait.filter(|_| waits_to_start).map(|seconds| seconds as u64);
    Decision { actions, status, look_again }
}

fn belongs(instance: &VirtualMachineInstance, machine: &VirtualMachine) -> bool {
    instance.owner_references().iter().any(|owner| Some(&owner.uid) == machine.metadata.uid.as_ref())
}

fn delete(instance: &VirtualMachineInstance) -> Action {
    Action::Delete(instance.uid().unwrap_or_default())
}

fn phase(instance: &VirtualMachineInstance) -> Phase {
    instance.status.as_ref().and_then(|status| status.phase).unwrap_or(Phase::Pending)
}

/// Whether the strategy lets an instance in this phase be.
fn keeps(strategy: RunStrategy, phase: Phase) -> bool {
    match strategy {
        RunStrategy::Always => !phase.is_final(),
        RunStrategy::Halted => false,
        RunStrategy::Manual | RunStrategy::Once => true,
        RunStrategy::RerunOnFailure => phase != Phase::Failed,
    }
}

/// Whether the strategy wants an instance where there is none.
fn starts(strategy: RunStrategy, before: &VirtualMachineStatus) -> bool {
    match strategy {
        RunStrategy::Always | RunStrategy::RerunOnFailure => true,
        RunStrategy::Halted | RunStrategy::Manual => false,
        // Once in the life of the VM: an instance it had is remembered by its generation.
        RunStrategy::Once => before.observed_generation.is_none(),
    }
}

fn is_ready(instance: &VirtualMachineInstance) -> bool {
    let conditions = instance.status.iter().flat_map(|status| &status.conditions);
    conditions.into_iter().any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

/// Failed starts in a row, the present instance included.
fn failures(
    before: &VirtualMachineStatus,
    instance: Option<&VirtualMachineInstance>,
    now: Timestamp,
) -> Option<StartFailure> {
    let last = before.start_failure.clone();
    let Some(instance) = instance else { return last };
    match phase(instance) {
        Phase::Running if ran_for(instance, now) >= GOOD_START => None,
        Phase::Failed if ran_for(instance, now) >= GOOD_START => None,
        Phase::Failed => {
            let uid = instance.uid();
            if last.as_ref().is_some_and(|last| last.last_failed_vmi_uid == uid) {
                return last;
            }
            let count = last.map_or(0, |last| last.consecutive_fail_count) + 1;
            let wait = FIRST_WAIT.saturating_mul(1 << (count - 1).min(16)).min(LONGEST_WAIT);
            Some(StartFailure {
                consecutive_fail_count: count,
                last_failed_vmi_uid: uid,
                retry_after_timestamp: Some(Time(now + SignedDuration::from_secs(wait as i64))),
            })
        }
        Phase::Succeeded => None,
        _ => last,
    }
}

/// Seconds from running to the end, or to now.
fn ran_for(instance: &VirtualMachineInstance, now: Timestamp) -> i64 {
    let entered = |wanted: &dyn Fn(Phase) -> bool| {
        let all = instance.status.iter().flat_map(|status| &status.phase_transition_timestamps);
        all.into_iter().find(|one| wanted(one.phase)).map(|one| one.phase_transition_timestamp.0.as_second())
    };
    let end = entered(&Phase::is_final).unwrap_or(now.as_second());
    entered(&|phase| phase == Phase::Running).map_or(0, |start| end - start)
}

fn printable(
    deleted: bool,
    strategy: RunStrategy,
    instance: Option<&VirtualMachineInstance>,
    before: &VirtualMachineStatus,
    waits: bool,
) -> PrintableStatus {
    if deleted {
        return PrintableStatus::Terminating;
    }
    let Some(instance) = instance else {
        return match starts(strategy, before) {
            true if waits => PrintableStatus::CrashLoopBackOff,
            true => PrintableStatus::Starting,
            false => PrintableStatus::Stopped,
        };
    };
    let condition = |kind: &str| {
        let all = instance.status.iter().flat_map(|status| &status.conditions);
        all.into_iter().find(|condition| condition.type_ == kind)
    };
    match phase(instance) {
        Phase::Failed if waits && starts(strategy, before) => PrintableStatus::CrashLoopBackOff,
        phase if phase.is_final() => PrintableStatus::Stopped,
        _ if is_deleted(&instance.metadata) => PrintableStatus::Stopping,
        Phase::Running if condition("Ready").is_some_and(|ready| ready.status == "Unknown") => {
            PrintableStatus::Unknown
        }
        Phase::Running => PrintableStatus::Running,
        _ if condition("PodScheduled").is_some_and(|placed| placed.status == "False") => {
            PrintableStatus::ErrorUnschedulable
        }
        _ => PrintableStatus::Starting,
    }
}

fn conditions(
    before: &VirtualMachineStatus,
    instance: Option<&VirtualMachineInstance>,
    failure: Option<&StartFailure>,
    now: Timestamp,
) -> Vec<Condition> {
    let copied = |kind: &str| {
        let all =
            instance.into_iter().flat_map(|instance| &instance.status).flat_map(|status| &status.conditions);
        all.into_iter().find(|condition| condition.type_ == kind).cloned()
    };
    let mut ready = copied("Ready").unwrap_or_else(|| Condition {
        type_: "Ready".into(),
        status: "False".into(),
        last_transition_time: None,
        reason: Some(if instance.is_some() { "GuestNotRunning" } else { "VMINotExists" }.into()),
        message: Some(
            if instance.is_some() { "the instance does not run yet" } else { "there is no instance" }.into(),
        ),
    });
    ready.last_transition_time = None;
    let mut conditions = vec![ready];
    conditions.extend(copied("PodScheduled").filter(|placed| placed.status == "False"));
    if let Some(failure) = failure {
        let message = format!("{} starts in a row failed", failure.consecutive_fail_count);
        conditions.push(Condition {
            type_: "Failure".into(),
            status: "True".into(),
            last_transition_time: None,
            reason: Some("FailedStart".into()),
            message: Some(message),
        });
    }
    crate::vmi::conditions::dated(conditions, &before.conditions, now)
}

/// The instance that the template describes now.
pub fn instance_of(machine: &VirtualMachine) -> VirtualMachineInstance {
    let template = machine.spec.template.clone();
    let given = template.metadata.unwrap_or_default();
    let mut spec = template.spec;
    // The same at every start of this VM, whatever node it lands on.
    defaults::identity(&mut spec, machine.metadata.uid.as_deref().unwrap_or_default());
    let mut instance = VirtualMachineInstance::new(&machine.name_any(), spec);
    let mut labels = given.labels;
    labels.insert(VM_NAME_LABEL.into(), machine.name_any());
    instance.metadata = ObjectMeta {
        name: Some(machine.name_any()),
        namespace: machine.namespace(),
        labels: Some(labels),
        annotations: Some(given.annotations),
        owner_references: machine.controller_owner_ref(&()).map(|owner| vec![owner]),
        ..ObjectMeta::default()
    };
    instance
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn now() -> Timestamp {
        "2026-01-01T00:10:00Z".parse().unwrap()
    }

    fn machine(strategy: &str) -> VirtualMachine {
        serde_json::from_value(json!({
            "apiVersion": "kubevirt.io/v1", "kind": "VirtualMachine",
            "metadata": {"name": "web", "namespace": "team", "uid": "m-1", "generation": 3, "finalizers": [VM_FINALIZER]},
            "spec": {"runStrategy": strategy, "template": {
                "metadata": {"labels": {"app": "web"}},
                "spec": {"domain": {"memory": {"guest": "64Mi"}, "devices": {"interfaces": [{"name": "lan", "bridge": {}}]}}},
            }},
        }))
        .unwrap()
    }

    fn instance(phase: &str, running: Option<&str>, ended: Option<&str>) -> VirtualMachineInstance {
        let mut instance = instance_of(&machine("Always"));
        instance.metadata.uid = Some("i-1".into());
        let mut times = Vec::new();
        for (phase, time) in [("Running", running), (phase, ended)] {
            times.extend(time.map(|time| json!({"phase": phase, "phaseTransitionTimestamp": time})));
        }
        instance.status =
            serde_json::from_value(json!({"phase": phase, "phaseTransitionTimestamps": times})).unwrap();
        instance
    }

    fn actions(machine: &VirtualMachine, instance: Option<&VirtualMachineInstance>) -> Vec<Action> {
        plan(machine, instance, now()).actions
    }

    fn creates(actions: &[Action]) -> bool {
        matches!(actions, [Action::Create(_)])
    }

    fn deletes(actions: &[Action]) -> bool {
        matches!(actions, [Action::Delete(uid)] if uid == "i-1")
    }

    #[test]
    fn a_new_machine_is_held_before_it_is_started() {
        let mut machine = machine("Always");
        machine.metadata.finalizers = None;
        assert!(matches!(&actions(&machine, None)[..], [Action::Hold(true), Action::Create(_)]));
    }

    #[test]
    fn the_instance_has_the_templates_labels_and_an_identity_that_stays() {
        let first = instance_of(&machine("Always"));
        assert_eq!(first.labels()["app"], "web");
        assert_eq!(first.labels()[VM_NAME_LABEL], "web");
        assert!(first.spec.domain.firmware.as_ref().unwrap().uuid.is_some());
        assert!(first.spec.domain.devices.interfaces[0].mac_address.is_some());
        assert_eq!(first.spec, instance_of(&machine("Always")).spec);
    }

    #[test]
    fn always_starts_again_after_every_end_but_only_when_the_old_instance_is_gone() {
        let machine = machine("Always");
        for phase in ["Succeeded", "Failed"] {
            assert!(deletes(&actions(&machine, Some(&instance(phase, None, None)))), "{phase}");
        }
        let mut leaving = instance("Succeeded", None, None);
        leaving.metadata.deletion_timestamp = Some(Time(now()));
        assert_eq!(actions(&machine, Some(&leaving)), []);
        assert!(creates(&actions(&machine, None)));
    }

    #[test]
    fn halted_stops_and_manual_leaves_alone() {
        assert!(deletes(&actions(&machine("Halted"), Some(&instance("Running", None, None)))));
        assert_eq!(actions(&machine("Halted"), None), []);
        assert_eq!(actions(&machine("Manual"), None), []);
        assert_eq!(actions(&machine("Manual"), Some(&instance("Running", None, None))), []);
    }

    #[test]
    fn rerun_on_failure_starts_again_after_a_failure_only() {
        let machine = machine("RerunOnFailure");
        assert!(deletes(&actions(&machine, Some(&instance("Failed", None, None)))));
        assert_eq!(actions(&machine, Some(&instance("Succeeded", None, None))), []);
    }

    #[test]
    fn once_means_once() {
        let mut machine = machine("Once");
        assert!(creates(&actions(&machine, None)));
        assert_eq!(actions(&machine, Some(&instance("Failed", None, None))), []);
        machine.status = Some(plan(&machine, Some(&instance("Failed", None, None)), now()).status);
        assert_eq!(actions(&machine, None), []);
    }

    #[test]
    fn starts_that_fail_are_repeated_later_and_later() {
        let mut machine = machine("Always");
        let mut waits = Vec::new();
        for round in 0..7 {
            let mut failed = instance("Failed", None, None);
            failed.metadata.uid = Some(format!("i-{round}"));
            machine.status = Some(plan(&machine, Some(&failed), now()).status);
            let decision = plan(&machine, None, now());
            assert_eq!(decision.actions, []);
            assert_eq!(decision.status.printable_status, Some(PrintableStatus::CrashLoopBackOff));
            waits.extend(decision.look_again);
        }
        assert_eq!(waits, [10, 20, 40, 80, 160, 300, 300]);
    }

    #[test]
    fn a_machine_that_ran_well_and_lost_its_node_starts_again_at_once() {
        let mut machine = machine("Always");
        let failed = instance("Failed", Some("2026-01-01T00:00:00Z"), Some("2026-01-01T00:05:00Z"));
        machine.status = Some(plan(&machine, Some(&failed), now()).status);
        assert!(creates(&actions(&machine, None)));
    }

    #[test]
    fn a_deleted_machine_goes_only_after_its_instance() {
        let mut machine = machine("Always");
        machine.metadata.deletion_timestamp = Some(Time(now()));
        let running = instance("Running", None, None);
        let decision = plan(&machine, Some(&running), now());
        assert!(deletes(&decision.actions));
        assert_eq!(decision.status.printable_status, Some(PrintableStatus::Terminating));
        assert_eq!(actions(&machine, None), [Action::Hold(false)]);
    }

    #[test]
    fn somebody_elses_instance_of_the_same_name_is_not_stopped() {
        let mut foreign = instance("Running", None, None);
        foreign.metadata.owner_references = None;
        assert!(!deletes(&actions(&machine("Halted"), Some(&foreign))));
    }
}
