//! Decides whether a VM has an instance now, and what its status is.
//!
//! Why here: pure, so that every run strategy is a table of tests. An instance that is over is deleted before the next is
//! made, and the name is the VM's, so there are never two. The status is written before an instance is deleted, for what
//! a failure counts must be kept; that an instance was made is written only after it was. Requests to start and to stop
//! ([`StateChangeRequest`], written by `aggregated`) are acted upon one at a time and then removed, by an action of their own:
//! the requesters own them, not the status that is written here. Route in: the VM, its instance, its disks, the time. Route
//! out: a [`Plan`].

use std::time::Duration;

use k8s_openapi::{
    api::apps::v1::ControllerRevision, apimachinery::pkg::apis::meta::v1::Time, jiff::Timestamp,
};
use kube::{Resource, api::ObjectMeta};
use sheaf_api::{
    RunStrategy, VirtualMachine, VirtualMachineInstance,
    cdi::DataVolume,
    devices::Interface,
    names::{
        ERR_IMAGE_PULL, IMAGE_PULL_BACK_OFF, RESTART_ELSEWHERE_ANNOTATION, STATE_NODE_ANNOTATION, TRUE,
        VM_FINALIZER, VM_NAME_LABEL, VM_SPEC_ANNOTATION, VMI_FINALIZER,
    },
    status::{Phase, PrintableStatus, StartFailure, StateChange, StateChangeRequest, VirtualMachineStatus},
    vmi::{StartStrategy, VirtualMachineInstanceSpec},
};

use crate::{
    conditions::{clear, find, set},
    events::Event,
    instancetype::{Problem, Sized},
    object::has_finalizer,
    resolve::resolve,
    vm::{
        disks::{self, Disks},
        hotplug,
    },
    vmi::plan::{NODE_LOST, NODE_SILENT},
};

/// A run shorter than this that ended counts as a failed start.
const STABLE: i64 = 60; // s; long enough for a kernel that panics at boot, short enough for people
/// Until the next start after a failed one; it grows with the square of the failures, as KubeVirt's does.
const BACKOFF_UNIT: i64 = 10; // s
/// The longest such delay.
const BACKOFF_MAX: i64 = 300; // s

/// Most bytes of a VM's spec that its instance keeps: an object has 256 KiB of annotations.
const MOST_KEPT: usize = 128 << 10;

/// Until an instancetype that is missing is looked for again.
const LOOK_AGAIN: Duration = Duration::from_secs(10);

/// One thing to do.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Put our finalizer on the VM.
    AddFinalizer,
    /// Remove it: no instance remains.
    RemoveFinalizer,
    /// Keep an instancetype or a preference as the VM has it now.
    KeepRevision(Box<ControllerRevision>),
    /// Create a disk of the VM.
    CreateDisk(Box<DataVolume>),
    /// Change the run strategy to Always.
    RunAlways,
    /// Create the instance.
    Start(Box<VirtualMachineInstance>),
    /// Delete the instance, if it still is the one with this UID.
    Stop {
        /// Its UID.
        uid: String,
    },
    /// Change volumes, disks, interfaces and size of the instance that runs.
    Follow(Box<json_patch::Patch>),
    /// Write the whole status, requests apart.
    WriteStatus(Box<VirtualMachineStatus>),
    /// Remove the first request, which is done, if the requests still are those.
    RequestDone(Vec<StateChangeRequest>),
    /// Record an Event.
    RecordEvent(Event),
}

/// What to do, in order; a step that fails ends the plan.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// In order.
    pub actions: Vec<Action>,
    /// The whole status after it, written by one of the actions if it changed.
    pub status: VirtualMachineStatus,
    /// Reconcile again after this long.
    pub requeue: Option<Duration>,
}

/// Decides; `data_volumes` are those that have the names of the VM's templates, `sized` is the VM with its instancetype and
/// preference put in.
pub fn plan(
    sized: &Sized,
    vmi: Option<&VirtualMachineInstance>,
    data_volumes: &[DataVolume],
    now: Timestamp,
) -> Plan {
    let vm = &sized.vm;
    let mut before = vm.status.clone().unwrap_or_default();
    let requests = std::mem::take(&mut before.state_change_requests);
    // The controllers of snapshots and restores own these.
    before.snapshot_in_progress = None;
    let restored = before.restore_in_progress.take().is_some();
    let mut plan = Plan { actions: Vec::new(), status: before.clone(), requeue: None };
    let held = has_finalizer(vm, VM_FINALIZER);
    let deleting = vm.metadata.deletion_timestamp.is_some();
    if !deleting && !held {
        plan.actions.push(Action::AddFinalizer);
        return plan;
    }
    let foreign = vmi.is_some_and(|vmi| !owns(vm, vmi));
    let own = vmi.filter(|_| !foreign);
    let printable = if deleting {
        match own {
            Some(vmi) if vmi.metadata.deletion_timestamp.is_none() => plan.actions.push(stop(vmi)),
            None if held => plan.actions.push(Action::RemoveFinalizer),
            _ => {}
        }
        PrintableStatus::Terminating
    } else if foreign {
        let message = "a VirtualMachineInstance of this name exists and does not belong to this VM; delete it or rename the VM";
        set(&mut plan.status.conditions, "Failure", "True", "NameTaken", message, now);
        PrintableStatus::Stopped
    } else {
        plan.actions.extend(
            disks::missing(vm, data_volumes).into_iter().map(|data| Action::CreateDisk(Box::new(data))),
        );
        let disks = disks::state(vm, data_volumes);
        plan.actions.extend(sized.revisions.iter().map(|kept| Action::KeepRevision(Box::new(kept.clone()))));
        plan.status.instancetype_ref.clone_from(&sized.instancetype);
        plan.status.preference_ref.clone_from(&sized.preference);
        match (&sized.problem, &disks) {
            (Some(Problem { reason, message }), _) => {
                set(&mut plan.status.conditions, "Failure", "True", reason, message, now);
            }
            (None, Disks::Failed(why)) => {
                set(&mut plan.status.conditions, "Failure", "True", "DataVolumeError", why, now)
            }
            (None, _) => clear(&mut plan.status.conditions, "Failure"),
        }
        match own {
            Some(vmi) => {
                let printable = with_instance(&mut plan, vm, vmi, requests.first(), &disks, now);
                let runs = matches!(printable, PrintableStatus::Running | PrintableStatus::Paused);
                let follow = runs.then(|| hotplug::follow(&wanted(vm), vmi)).flatten();
                // A VM that cannot be put together changes nothing.
                plan.actions.extend(
                    follow.filter(|_| sized.problem.is_none()).map(|patch| Action::Follow(Box::new(patch))),
                );
                printable
            }
            None if sized.problem.is_some() => {
                // What it names may be created at any time.
                plan.requeue = Some(LOOK_AGAIN);
                PrintableStatus::Stopped
            }
            // It starts with what is restored, not with half of it.
            None if restored => PrintableStatus::Stopped,
            None => without_instance(&mut plan, sized, requests.first(), &disks, now),
        }
    };
    if !deleting && !foreign && requests.first().is_some_and(|request| is_done(request, own)) {
        plan.actions.push(Action::RequestDone(requests));
    }
    complete(&mut plan.status, sized, own, printable, now);
    if before != plan.status {
        let starts = plan.actions.iter().position(|action| matches!(action, Action::Start(_)));
        let place = starts.map_or(0, |start| start + 1);
        plan.actions.insert(place, Action::WriteStatus(Box::new(plan.status.clone())));
    }
    plan
}

/// The Event when the API server refused something that the plan wanted; it is retried.
pub fn refused(what: &str, reason: &str, why: &kube::Error) -> Event {
    Event::warning(reason, format!("{what}: {why}"))
}

/// Whether what was asked for is there: the instance that was to start, or the end of the one that was to stop.
fn is_done(request: &StateChangeRequest, own: Option<&VirtualMachineInstance>) -> bool {
    match request.action {
        StateChange::Start => own.is_some(),
        StateChange::Stop => own.is_none_or(|vmi| !asks_to_stop(request, vmi)),
    }
}

/// Whether `request` is about this instance: one without a UID is about none.
fn asks_to_stop(request: &StateChangeRequest, vmi: &VirtualMachineInstance) -> bool {
    request.action == StateChange::Stop && request.uid.is_some() && request.uid == vmi.metadata.uid
}

/// No instance: is one wanted?
fn without_instance(
    plan: &mut Plan,
    sized: &Sized,
    request: Option<&StateChangeRequest>,
    disks: &Disks,
    now: Timestamp,
) -> PrintableStatus {
    let vm = &sized.vm;
    let strategy = vm.spec.strategy();
    let acted_upon = plan.status.run_strategy == Some(strategy);
    let asked = request.is_some_and(|request| request.action == StateChange::Start);
    let paused = request.is_some_and(StateChangeRequest::is_start_paused);
    if paused && strategy == RunStrategy::Halted {
        // As KubeVirt: such a start makes it a VM that runs.
        plan.actions.push(Action::RunAlways);
        return PrintableStatus::Starting;
    }
    let wanted = match strategy {
        RunStrategy::Always => true,
        RunStrategy::Halted => false,
        RunStrategy::Manual => asked,
        RunStrategy::Once => !acted_upon,
        // Started by itself once, and again after a failure.
        RunStrategy::RerunOnFailure => asked || !acted_upon || plan.status.start_failure.is_some(),
    };
    if !wanted {
        if matches!(strategy, RunStrategy::Halted | RunStrategy::Manual) {
            plan.status.start_failure = None;
        }
        plan.status.run_strategy = Some(strategy);
        return PrintableStatus::Stopped;
    }
    let retry = plan.status.start_failure.as_ref().and_then(|failure| failure.retry_after_timestamp.as_ref());
    let wait = retry.map_or(0, |retry| retry.0.as_second().saturating_sub(now.as_second()));
    if wait > 0 {
        plan.requeue = Some(Duration::from_secs(wait.min(BACKOFF_MAX).unsigned_abs()));
        return PrintableStatus::CrashLoopBackOff;
    }
    match disks {
        Disks::Missing => return PrintableStatus::Provisioning,
        Disks::Failed(_) => return PrintableStatus::DataVolumeError,
        Disks::Ready | Disks::Waiting | Disks::Filling => {}
    }
    let mut vmi = instance(vm, paused);
    let written = serde_json::to_string(&sized.written).ok();
    if let Some(written) = written.filter(|written| written.len() <= MOST_KEPT) {
        vmi.metadata.annotations.get_or_insert_default().insert(VM_SPEC_ANNOTATION.into(), written);
    }
    plan.actions.push(Action::Start(Box::new(vmi)));
    plan.actions.push(Action::RecordEvent(Event::normal("SuccessfulCreate", "started the virtual machine")));
    plan.status.run_strategy = Some(strategy);
    plan.status.observed_generation = vm.metadata.generation;
    PrintableStatus::Starting
}

/// An instance: may it stay?
fn with_instance(
    plan: &mut Plan,
    vm: &VirtualMachine,
    vmi: &VirtualMachineInstance,
    request: Option<&StateChangeRequest>,
    disks: &Disks,
    now: Timestamp,
) -> PrintableStatus {
    let strategy = vm.spec.strategy();
    plan.status.run_strategy = Some(strategy);
    let phase = vmi.status.as_ref().and_then(|status| status.phase);
    let over = phase.is_some_and(Phase::is_final);
    let failed = phase == Some(Phase::Failed);
    if vmi.metadata.deletion_timestamp.is_some() {
        // Somebody wanted it to end: that is no failure.
        return if node_is_silent(vmi) { PrintableStatus::Unknown } else { PrintableStatus::Stopping };
    }
    if over {
        count_failure(plan, vmi, failed, now);
    } else {
        forget_failure(plan, vmi, now);
    }
    let asked = request.is_some_and(|request| asks_to_stop(request, vmi));
    let remove = asked
        || match strategy {
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
        None | Some(Phase::Pending | Phase::Scheduling) => match disks {
            Disks::Failed(_) => PrintableStatus::DataVolumeError,
            Disks::Waiting => PrintableStatus::WaitingForVolumeBinding,
            Disks::Filling | Disks::Missing => PrintableStatus::Provisioning,
            Disks::Ready => PrintableStatus::Starting,
        },
        Some(Phase::Scheduled) => match not_ready(vmi) {
            Some(ERR_IMAGE_PULL) => PrintableStatus::ErrImagePull,
            Some(IMAGE_PULL_BACK_OFF) => PrintableStatus::ImagePullBackOff,
            _ => PrintableStatus::Starting,
        },
        Some(Phase::Running) if node_is_silent(vmi) => PrintableStatus::Unknown,
        Some(Phase::Running) if is_paused(vmi) => PrintableStatus::Paused,
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
    // The node's end is no failure of the VM, whose next run is awaited within the minute.
    let is_lost = vmi.status.as_ref().and_then(|status| status.reason.as_deref()) == Some(NODE_LOST);
    let is_short = match (entered(vmi, Phase::Running), ended(vmi)) {
        (Some(start), Some(end)) => end.saturating_sub(start) < STABLE,
        (None, _) => true,
        _ => false,
    };
    let soon = is_short && !is_lost;
    if !soon {
        // It ran well for a while: what follows is the first failure of a new row, without a wait.
        plan.status.start_failure = failed.then_some(StartFailure {
            consecutive_fail_count: 0,
            last_failed_vmi_uid: uid,
            retry_after_timestamp: None,
        });
        return;
    }
    let count = before.consecutive_fail_count.saturating_add(1);
    let squared = i64::from(count).saturating_mul(i64::from(count));
    let wait = squared.saturating_mul(BACKOFF_UNIT).min(BACKOFF_MAX);
    let retry = Timestamp::from_second(now.as_second().saturating_add(wait)).unwrap_or(now);
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
    let ran = entered(vmi, Phase::Running).map_or(0, |start| now.as_second().saturating_sub(start));
    if ran >= STABLE {
        plan.status.start_failure = None;
    } else {
        plan.requeue = Some(Duration::from_secs(STABLE.saturating_sub(ran).clamp(1, STABLE).unsigned_abs()));
    }
}

/// Fills in what follows from the instance.
fn complete(
    status: &mut VirtualMachineStatus,
    sized: &Sized,
    vmi: Option<&VirtualMachineInstance>,
    printable: PrintableStatus,
    now: Timestamp,
) {
    let vm = &sized.vm;
    let conditions = vmi.and_then(|vmi| vmi.status.as_ref()).map(|status| status.conditions.as_slice());
    let ready = conditions.and_then(|conditions| find(conditions, "Ready"));
    status.created = vmi.is_some();
    status.ready = ready.is_some_and(|ready| ready.status == "True");
    status.printable_status = Some(printable);
    status.desired_generation = vm.metadata.generation;
    match vmi {
        Some(vmi) if vmi.spec.keeps_state() && has_run(vmi) => {
            status.state_node = vmi.status.as_ref().and_then(|status| status.node_name.clone());
        }
        // A VM that starts once without any forgets where it was.
        None if !vm.spec.template.spec.keeps_state() => status.state_node = None,
        _ => {}
    }
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
            set(&mut status.conditions, "Ready", "False", "GuestNotRunning", "the guest is not running", now)
        }
        (None, None) => {
            set(&mut status.conditions, "Ready", "False", "VMINotExists", "the VM is not running", now)
        }
    }
    // A VM that cannot be put together is compared with nothing.
    let instance = vmi.filter(|_| sized.problem.is_none());
    let fields = instance.map(|vmi| hotplug::needs_restart(&wanted(vm), vmi)).unwrap_or_default();
    if fields.is_empty() {
        clear(&mut status.conditions, "RestartRequired");
    } else {
        let (fields, last) = (fields.join(", "), "changed since this instance was started");
        let message = format!("{fields} {last}; restart the VM to use the template");
        set(&mut status.conditions, "RestartRequired", "True", "TemplateChanged", &message, now);
    }
}

/// Whether the instance ran, so that its node has what it keeps.
fn has_run(vmi: &VirtualMachineInstance) -> bool {
    let Some(status) = &vmi.status else { return false };
    status.phase == Some(Phase::Running)
        || status.phase_transition_timestamps.iter().any(|transition| transition.phase == Phase::Running)
}

/// The instance that the VM wants.
fn instance(vm: &VirtualMachine, paused: bool) -> VirtualMachineInstance {
    let name = vm.metadata.name.clone().unwrap_or_default();
    let mut template = vm.spec.template.metadata.clone().unwrap_or_default();
    let node = vm.status.as_ref().and_then(|status| status.state_node.clone());
    if let Some(node) = node.filter(|_| vm.spec.template.spec.keeps_state()) {
        template.annotations.insert(STATE_NODE_ANNOTATION.into(), node);
    }
    // One that is not started again by itself need not be stopped by its node either.
    if matches!(vm.spec.strategy(), RunStrategy::Always | RunStrategy::RerunOnFailure) {
        template.annotations.entry(RESTART_ELSEWHERE_ANNOTATION.into()).or_insert_with(|| TRUE.into());
    }
    let mut labels = template.labels;
    labels.insert(VM_NAME_LABEL.into(), name.clone());
    // What is absent is in the template only to be removed from an instance that runs.
    let mut spec = wanted(vm).without_interfaces(Interface::is_absent);
    if paused {
        spec.start_strategy = Some(StartStrategy::Paused);
    }
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
        spec,
        status: None,
    }
}

/// The spec of the instance that the VM wants.
fn wanted(vm: &VirtualMachine) -> VirtualMachineInstanceSpec {
    resolve(&vm.spec.template.spec, vm.metadata.uid.as_deref().unwrap_or_default())
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

/// Whether the instance should be gone and its node does not say that it is.
fn node_is_silent(vmi: &VirtualMachineInstance) -> bool {
    not_ready(vmi) == Some(NODE_SILENT)
}

/// Reason for which the instance is not ready.
fn not_ready(vmi: &VirtualMachineInstance) -> Option<&str> {
    let conditions = vmi.status.as_ref().map(|status| status.conditions.as_slice()).unwrap_or_default();
    find(conditions, "Ready")?.reason.as_deref()
}

/// Whether the guest stands still.
pub fn is_paused(vmi: &VirtualMachineInstance) -> bool {
    let conditions = vmi.status.as_ref().map(|status| status.conditions.as_slice()).unwrap_or_default();
    find(conditions, "Paused").is_some_and(|paused| paused.status == "True")
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
mod tests;
