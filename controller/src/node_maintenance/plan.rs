//! Decides what a NodeMaintenance does next, and what its status is.
//!
//! Why here: pure, so that any order of events is a test. The status is written before anything is done about the node, so that
//! how it was before is never forgotten: whether it was cordoned, and which VMs need help to start again. Nothing is stopped
//! while some VM refuses to be ([`Verdict::Refused`]): the others would have been stopped for nothing. Route in: [`Observed`], the
//! time. Route out: a [`Plan`].

use std::time::Duration;

use k8s_openapi::{
    api::{core::v1::Node, policy::v1::PodDisruptionBudget},
    jiff::Timestamp,
};
use sheaf_api::{
    RunStrategy, VirtualMachine, VirtualMachineInstance,
    names::MAINTENANCE_FINALIZER,
    node_maintenance::{Blocker, NodeMaintenance, NodeMaintenanceStatus, Phase, StoppedVm},
    status::{self, StateChange, StateChangeRequest},
};

use super::vms::{Verdict, Vm, judge};
use crate::{conditions::seconds, events::Event, nodes::is_cordoned, object::has_finalizer};

/// Between two looks at what is not watched: PodDisruptionBudgets, VMs that are yet to end.
const LOOK: Duration = Duration::from_secs(5);
/// The same while nothing is awaited.
const REST: Duration = Duration::from_secs(60);
/// Most VMs and blockers that a status lists: its schema has the same number.
const MOST: usize = 250;

/// What a decision is made from.
#[derive(Clone, Debug)]
pub struct Observed {
    /// The object.
    pub maintenance: NodeMaintenance,
    /// Its Node.
    pub node: Option<Node>,
    /// VMs whose Pods are bound to the node and not over.
    pub vms: Vec<Vm>,
    /// What the status lists as stopped, as it is now.
    pub known: Vec<Known>,
    /// Of all namespaces; asked for only while there are VMs.
    pub budgets: Vec<PodDisruptionBudget>,
    /// Names of the nodes of the control plane.
    pub control_plane: Vec<String>,
}

/// A VM that this maintenance stopped.
#[derive(Clone, Debug)]
pub struct Known {
    /// As the status has it.
    pub entry: StoppedVm,
    /// The VirtualMachine of its name.
    pub machine: Option<VirtualMachine>,
    /// The instance of its name.
    pub instance: Option<VirtualMachineInstance>,
}

/// One thing to do.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Put our finalizer on the object.
    AddFinalizer,
    /// Remove it: nothing of the maintenance is left.
    RemoveFinalizer,
    /// Write the whole status.
    WriteStatus(Box<NodeMaintenanceStatus>),
    /// Cordon the node, or uncordon it.
    Cordon(bool),
    /// Evict the Pod of a VM, if it still is the one with this UID.
    Evict {
        /// Its namespace.
        namespace: String,
        /// Its name.
        pod: String,
        /// Its UID.
        uid: String,
    },
    /// Ask for the start of a VM that does not start by itself.
    Start {
        /// The VM as it was read.
        vm: Box<VirtualMachine>,
        /// What is asked for: its former instance goes first.
        requests: Vec<StateChangeRequest>,
    },
    /// Record an Event.
    RecordEvent(Event),
}

/// What to do, in order; a step that fails ends the plan.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    /// In order.
    pub actions: Vec<Action>,
    /// Reconcile again after this long.
    pub requeue: Option<Duration>,
}

/// Decides.
pub fn plan(o: &Observed, now: Timestamp) -> Plan {
    let maintenance = &o.maintenance;
    let deleting = maintenance.metadata.deletion_timestamp.is_some();
    if !has_finalizer(maintenance, MAINTENANCE_FINALIZER) {
        let actions = if deleting { Vec::new() } else { vec![Action::AddFinalizer] };
        return Plan { actions, requeue: None };
    }
    let before = maintenance.status.clone().unwrap_or_default();
    let mut status = NodeMaintenanceStatus {
        blockers: Vec::new(),
        stopping: Vec::new(),
        warnings: Vec::new(),
        observed_generation: maintenance.metadata.generation,
        ..before.clone()
    };
    let cancelled = before.phase == Some(Phase::Cancelled) || is_late(o, &before, now);
    let (mut steps, requeue) = match deleting || cancelled {
        true => give_back(o, &mut status, deleting, now),
        false => rest(o, &mut status, now),
    };
    let mut actions = Vec::new();
    if before != status {
        actions.push(Action::WriteStatus(Box::new(status.clone())));
    }
    actions.extend(event(&before, &status).map(Action::RecordEvent));
    actions.append(&mut steps);
    Plan { actions, requeue: Some(requeue) }
}

fn name(o: &Observed) -> &str {
    &o.maintenance.spec.node_name
}

/// Whether the deadline passed before the node was drained.
fn is_late(o: &Observed, before: &NodeMaintenanceStatus, now: Timestamp) -> bool {
    let (Some(deadline), Some(since)) = (o.maintenance.spec.deadline_seconds, &before.since) else {
        return false;
    };
    before.drained.is_none()
        && !o.vms.is_empty()
        && now.as_second() >= since.0.as_second().saturating_add(deadline.into())
}

/// On the way to rest, or at rest.
fn rest(o: &Observed, status: &mut NodeMaintenanceStatus, now: Timestamp) -> (Vec<Action>, Duration) {
    let since = status.since.get_or_insert_with(|| seconds(now)).clone();
    let Some(node) = &o.node else {
        status.blockers.push(Blocker {
            what: format!("Node {}", name(o)),
            why: "does not exist".into(),
            remedy: "delete this NodeMaintenance, or wait for the node to join".into(),
        });
        settle(status, o, false);
        return (Vec::new(), REST);
    };
    let cordoned = is_cordoned(node);
    status.was_cordoned.get_or_insert(cordoned);
    status.warnings = warnings(o);
    let verdicts: Vec<(&Vm, Verdict)> =
        o.vms.iter().map(|vm| (vm, judge(vm, name(o), &o.budgets, now))).collect();
    let refused = verdicts.iter().any(|(_, verdict)| matches!(verdict, Verdict::Refused(_)));
    let mut steps = Vec::new();
    if !cordoned {
        steps.push(Action::Cordon(true));
    }
    let mut restarts = keep(o, status, false);
    for (vm, verdict) in verdicts {
        match verdict {
            Verdict::Stopping(words) => status.stopping.push(words),
            Verdict::Refused(blocker) | Verdict::Blocked(blocker) => status.blockers.push(blocker),
            // A VM that is stopped before the node is cordoned could come back to it.
            Verdict::Stop(entry) if cordoned && !refused => {
                remember(status, entry);
                steps.push(evict(vm));
            }
            Verdict::Stop(_) => {}
        }
    }
    steps.append(&mut restarts);
    settle(status, o, cordoned);
    if status.phase == Some(Phase::InMaintenance) {
        status.drained.get_or_insert_with(|| seconds(now));
    }
    let waits = status.phase != Some(Phase::InMaintenance) || status.stopped.iter().any(|one| one.restart);
    let mut requeue = if waits { LOOK } else { REST };
    if let Some(deadline) = o.maintenance.spec.deadline_seconds.filter(|_| status.drained.is_none()) {
        let left = since.0.as_second().saturating_add(deadline.into()).saturating_sub(now.as_second());
        requeue = requeue.min(Duration::from_secs(u64::try_from(left).unwrap_or_default().max(1)));
    }
    (steps, requeue)
}

/// The node takes VMs again.
fn give_back(
    o: &Observed,
    status: &mut NodeMaintenanceStatus,
    deleting: bool,
    now: Timestamp,
) -> (Vec<Action>, Duration) {
    let mut steps = Vec::new();
    let cordoned = o.node.as_ref().is_some_and(is_cordoned);
    let uncordon = cordoned && status.was_cordoned == Some(false);
    if uncordon {
        steps.push(Action::Cordon(false));
    } else {
        // Whoever cordons it from now on wants that for another reason.
        status.was_cordoned = None;
    }
    steps.extend(keep(o, status, true));
    for one in &mut status.stopped {
        one.held = false;
    }
    status.stopped.retain(|one| one.restart);
    let is_over = !uncordon && status.stopped.is_empty();
    if deleting {
        status.phase = Some(Phase::Ending);
        status.message = Some(match status.stopped.len() {
            0 => format!("{} takes VMs again", name(o)),
            count => format!("{} takes VMs again; {count} to be started as they are Manual", name(o)),
        });
        if is_over {
            steps.push(Action::RemoveFinalizer);
        }
        return (steps, LOOK);
    }
    if status.phase != Some(Phase::Cancelled) {
        status.phase = Some(Phase::Cancelled);
        status.message = Some(cancelled(o, now));
    }
    (steps, if is_over { REST } else { LOOK })
}

/// Why the maintenance was cancelled.
fn cancelled(o: &Observed, now: Timestamp) -> String {
    let why = o.vms.iter().map(|vm| match judge(vm, name(o), &o.budgets, now) {
        Verdict::Refused(blocker) | Verdict::Blocked(blocker) => format!("{}: {}", blocker.what, blocker.why),
        Verdict::Stopping(words) => words,
        Verdict::Stop(_) => format!("VM {}: not stopped yet", vm.title()),
    });
    let why: Vec<_> = why.take(3).collect();
    format!(
        "not drained within {} s, so {} takes VMs again: {}. Remove what blocks, delete this object and create it again",
        o.maintenance.spec.deadline_seconds.unwrap_or_default(),
        name(o),
        why.join("; ")
    )
}

/// The phase, and the message for it.
fn settle(status: &mut NodeMaintenanceStatus, o: &Observed, cordoned: bool) {
    status.blockers.truncate(MOST);
    status.stopping.truncate(MOST);
    let (phase, message) = match (sentence(&status.blockers), o.vms.len()) {
        (Some(blocked), _) => (Phase::Blocked, blocked),
        (None, 0) if !cordoned => (Phase::Draining, format!("{} is being cordoned", name(o))),
        (None, 0) => {
            let held = status.stopped.iter().filter(|one| one.held).count();
            let held = if held == 0 { String::new() } else { format!("; {held} wait for their disks here") };
            (
                Phase::InMaintenance,
                format!("no VM runs on {}{held}; delete this object to end the maintenance", name(o)),
            )
        }
        (None, count) => (Phase::Draining, format!("{count} of its VMs are yet to power off")),
    };
    (status.phase, status.message) = (Some(phase), Some(message));
}

/// The first of the blockers as a message, and how many others there are.
pub fn sentence(blockers: &[Blocker]) -> Option<String> {
    let (first, others) = blockers.split_first()?;
    let more = if others.is_empty() { String::new() } else { format!(" (and {} more)", others.len()) };
    Some(format!("{}: {}; {}{more}", first.what, first.why, first.remedy))
}

fn warnings(o: &Observed) -> Vec<String> {
    let is_last = o.control_plane == [name(o)];
    let is_last = is_last.then(|| {
        format!(
            "{} is the only node of the control plane: while it is switched off, nothing of the cluster can be changed, and \
             VMs of other nodes run on",
            name(o)
        )
    });
    is_last.into_iter().collect()
}

fn evict(vm: &Vm) -> Action {
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    let meta = &vm.pod.metadata;
    Action::Evict { namespace: text(&meta.namespace), pod: text(&meta.name), uid: text(&meta.uid) }
}

/// Puts a VM that is about to be stopped into the status.
fn remember(status: &mut NodeMaintenanceStatus, entry: Option<StoppedVm>) {
    let Some(entry) = entry else { return };
    status.stopped.retain(|one| one.uid != entry.uid);
    if status.stopped.len() < MOST {
        status.stopped.push(entry);
    }
}

/// Removes from the status what needs nothing more, and returns the starts that are to be asked for. With `ends` a VM that
/// was not stopped after all is forgotten.
fn keep(o: &Observed, status: &mut NodeMaintenanceStatus, ends: bool) -> Vec<Action> {
    let mut starts = Vec::new();
    status.stopped.retain_mut(|entry| {
        let Some(known) = o.known.iter().find(|known| known.entry == *entry) else { return true };
        let is_same = |machine: &&VirtualMachine| {
            machine.metadata.uid.as_ref() == Some(&entry.uid) && machine.metadata.deletion_timestamp.is_none()
        };
        let Some(machine) = known.machine.as_ref().filter(is_same) else { return false };
        let strategy = machine.spec.strategy();
        entry.held &= strategy != RunStrategy::Halted;
        if entry.restart {
            match start(o, entry, machine, known.instance.as_ref(), ends) {
                Start::Done => entry.restart = false,
                Start::Wait => {}
                Start::Ask(requests) => {
                    starts.push(Action::Start { vm: Box::new(machine.clone()), requests });
                }
            }
        }
        entry.held || entry.restart
    });
    starts
}

/// What a VM that does not start by itself needs.
enum Start {
    /// Nothing: it has another instance, is asked to start already, or nobody wants it to run.
    Done,
    /// Its former instance has not ended.
    Wait,
    /// These requests.
    Ask(Vec<StateChangeRequest>),
}

fn start(
    o: &Observed,
    entry: &StoppedVm,
    machine: &VirtualMachine,
    instance: Option<&VirtualMachineInstance>,
    ends: bool,
) -> Start {
    if machine.spec.strategy() != RunStrategy::Manual {
        return Start::Done;
    }
    let requests = machine.status.iter().flat_map(|status| &status.state_change_requests);
    if requests.into_iter().any(|request| request.action == StateChange::Start) {
        return Start::Done;
    }
    let Some(instance) = instance else { return Start::Ask(vec![StateChangeRequest::start()]) };
    let uid = instance.metadata.uid.as_deref().unwrap_or_default();
    let phase = instance.status.as_ref().and_then(|status| status.phase);
    match (uid == entry.instance, instance.metadata.deletion_timestamp.is_some()) {
        (false, _) => Start::Done,
        // Its user stops it.
        (true, true) => Start::Done,
        (true, false) if phase.is_some_and(status::Phase::is_final) => {
            Start::Ask(vec![StateChangeRequest::stop(uid), StateChangeRequest::start()])
        }
        (true, false) => {
            // Its Pod was not evicted, and is not any more.
            let runs_on = o.vms.iter().any(|vm| {
                let of = vm.instance.as_ref().and_then(|instance| instance.metadata.uid.as_deref());
                of == Some(uid) && vm.pod.metadata.deletion_timestamp.is_none()
            });
            if ends && runs_on { Start::Done } else { Start::Wait }
        }
    }
}

/// The Event for the change from `before`.
fn event(before: &NodeMaintenanceStatus, status: &NodeMaintenanceStatus) -> Option<Event> {
    let note = status.message.clone().unwrap_or_default();
    let is_new = before.phase != status.phase;
    match status.phase? {
        // Another reason is worth another Event.
        Phase::Blocked if is_new || before.blockers != status.blockers => {
            Some(Event::warning("Blocked", note))
        }
        Phase::Draining if is_new => Some(Event::normal("Draining", note)),
        Phase::InMaintenance if is_new => Some(Event::normal("Drained", note)),
        Phase::Ending if is_new => Some(Event::normal("Ending", note)),
        Phase::Cancelled if is_new => Some(Event::warning("DeadlineExceeded", note)),
        _ => None,
    }
}

#[cfg(test)]
mod any_order;
#[cfg(test)]
mod tests;
