//! Decides what a NodeRemoval does next, and what its status is.
//!
//! Why here: pure, so that any order of events is a test. The status is written before anything is done, so that a controller that
//! dies is followed by one that knows what this object did. Until the phase is Removing everything can be undone, and nothing is
//! deleted; from then on nothing is deleted that is lost with the node and was not confirmed by its name. Route in: [`Observed`],
//! the time. Route out: a [`Plan`].

use std::time::Duration;

use k8s_openapi::{api::core::v1::Node, jiff::Timestamp};
use sheaf_api::{
    VirtualMachine,
    names::{OUT_OF_SERVICE_TAINT, REMOVAL_FINALIZER},
    node_maintenance::{Blocker, NodeMaintenance, NodeMaintenanceSpec, Phase as Drain},
    node_removal::{MOST_BLOCKERS, MOST_LOSSES, NodeRemovalStatus, Phase},
    storage::LocalVolume,
};

use super::{
    checks,
    observed::{Leftover, Observed},
    standing::{SILENT_AFTER, Standing, standing},
};
use crate::{
    conditions::seconds, events::Event, node_maintenance::plan::sentence, nodes::is_cordoned,
    object::has_finalizer, placeholder::end,
};

mod remove;

/// Between two looks at what is not watched: leases, volumes, what is deleted.
const LOOK: Duration = Duration::from_secs(5);
/// The same while somebody has to do something.
const REST: Duration = Duration::from_secs(30);

/// One thing to do. Whatever has a UID is changed or deleted only if it still is the object with this UID.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Put our finalizer on the object.
    AddFinalizer,
    /// Remove it.
    RemoveFinalizer,
    /// Write the whole status.
    WriteStatus(Box<NodeRemovalStatus>),
    /// Drain the node by this.
    CreateMaintenance(Box<NodeMaintenance>),
    /// End the NodeMaintenance with this UID.
    DeleteMaintenance(String),
    /// Declare the node out of service, or in service again.
    OutOfService(bool),
    /// Delete a Pod of a VM.
    DeletePod {
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
        /// Its UID.
        uid: String,
    },
    /// Record that the node has no identity any more: nothing is signed for it, and what it writes is refused.
    Revoke,
    /// Delete a volume, and remove the finalizer that only its node would remove.
    DeleteVolume(Box<LocalVolume>),
    /// Record an Event about a claim of this namespace and name.
    ClaimEvent {
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
        /// What happened.
        event: Event,
    },
    /// Delete an instance that has ended.
    DeleteInstance {
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
        /// Its UID.
        uid: String,
    },
    /// A VM has no state on the node any more.
    ForgetState(Box<VirtualMachine>),
    /// Delete an object of the node.
    Delete(Leftover),
    /// Delete the Node with this UID.
    DeleteNode(String),
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
    let removal = &o.removal;
    let deleting = removal.metadata.deletion_timestamp.is_some();
    let before = removal.status.clone().unwrap_or_default();
    let held = has_finalizer(removal, REMOVAL_FINALIZER);
    if before.phase == Some(Phase::Removed) {
        let actions = if held { vec![Action::RemoveFinalizer] } else { Vec::new() };
        return Plan { actions, requeue: None };
    }
    if !held {
        let actions = if deleting { Vec::new() } else { vec![Action::AddFinalizer] };
        return Plan { actions, requeue: None };
    }
    let mut status = NodeRemovalStatus {
        blockers: Vec::new(),
        observed_generation: removal.metadata.generation,
        ..before.clone()
    };
    let mut steps = if before.removing.is_some() {
        remove::remove(o, &mut status, now)
    } else if deleting || before.phase == Some(Phase::Cancelled) {
        undo(o, &mut status, deleting)
    } else {
        prepare(o, &mut status, now)
    };
    status.blockers.truncate(MOST_BLOCKERS);
    status.losses.truncate(MOST_LOSSES);
    let mut actions = Vec::new();
    if before != status {
        actions.push(Action::WriteStatus(Box::new(status.clone())));
    }
    actions.extend(event(&before, &status).map(Action::RecordEvent));
    actions.append(&mut steps);
    let waits = matches!(status.phase, Some(Phase::Blocked | Phase::Cancelled)) && !deleting;
    Plan { actions, requeue: Some(if waits { REST } else { LOOK }) }
}

fn set(status: &mut NodeRemovalStatus, phase: Phase, message: impl Into<String>) {
    (status.phase, status.message) = (Some(phase), Some(message.into()));
}

/// Blocked, if there are blockers.
fn is_blocked(status: &mut NodeRemovalStatus, phase: Phase, blockers: Vec<Blocker>) -> bool {
    let Some(message) = sentence(&blockers) else { return false };
    set(status, phase, message);
    status.blockers = blockers;
    true
}

/// Before anything is deleted.
fn prepare(o: &Observed, status: &mut NodeRemovalStatus, now: Timestamp) -> Vec<Action> {
    status.losses = o.losses();
    status.node_uid = o.node.as_ref().and_then(|node| node.metadata.uid.clone());
    let standing = standing(o.node.as_ref(), o.renewed, now);
    // It reports after all: its VMs are stopped as those of any node.
    let mut steps = Vec::new();
    if standing == Standing::Reports {
        steps.extend(in_service(o, status));
    }
    let blockers = checks::blockers(o, standing, &status.losses);
    if is_blocked(status, Phase::Blocked, blockers) || !steps.is_empty() {
        return steps;
    }
    let drained = match standing {
        Standing::Silent(seconds) if seconds < SILENT_AFTER => {
            let left = SILENT_AFTER.saturating_sub(seconds);
            let message =
                format!("{} has not reported for {seconds} s: it is checked again in {left} s", o.name());
            // The status is not written again at each second.
            if status.phase != Some(Phase::Checking) {
                set(status, Phase::Checking, message);
            }
            return Vec::new();
        }
        Standing::Reports => drain(o, status),
        Standing::Silent(_) => declare(o, status),
        Standing::Absent => Ok(()),
    };
    match drained {
        Err(steps) => steps,
        Ok(()) if o.is_of_control_plane() => {
            let message = format!(
                "another control-plane node takes the member of {0} out of etcd; if it does not, run `sheaf-agent etcd remove {0}` \
                 there",
                o.name()
            );
            set(status, Phase::Demoting, message);
            Vec::new()
        }
        Ok(()) => {
            // What follows cannot be undone; so it follows only when this is written.
            status.removing = Some(seconds(now));
            set(status, Phase::Removing, format!("{} leaves the cluster", o.name()));
            Vec::new()
        }
    }
}

/// Stops the VMs of a node that reports, as a NodeMaintenance does. An error holds what is to be done first.
fn drain(o: &Observed, status: &mut NodeRemovalStatus) -> Result<(), Vec<Action>> {
    let wait = |status: &mut NodeRemovalStatus, message: String| {
        set(status, Phase::Draining, message);
        Err(Vec::new())
    };
    let Some(found) = &o.maintenance else {
        set(status, Phase::Draining, format!("{} is being put to rest", o.name()));
        return Err(vec![Action::CreateMaintenance(Box::new(maintenance(o)))]);
    };
    if found.metadata.deletion_timestamp.is_some() {
        return wait(status, format!("an earlier NodeMaintenance of {} is ending", o.name()));
    }
    let drain = found.status.clone().unwrap_or_default();
    let message = drain.message.unwrap_or_default();
    match drain.phase {
        Some(Drain::Blocked) => {
            is_blocked(status, Phase::Blocked, drain.blockers);
            set(status, Phase::Blocked, message);
            Err(Vec::new())
        }
        Some(Drain::Cancelled) if o.own_maintenance().is_some() => {
            set(status, Phase::Cancelled, message);
            Err(Vec::new())
        }
        Some(Drain::Cancelled) => {
            let blocker = Blocker {
                what: format!("NodeMaintenance {}", o.name()),
                why: "was cancelled by its deadline".into(),
                remedy: "delete it".into(),
            };
            is_blocked(status, Phase::Blocked, vec![blocker]);
            Err(Vec::new())
        }
        Some(Drain::InMaintenance) if o.node.as_ref().is_some_and(is_cordoned) => match o.pods.len() {
            0 => Ok(()),
            count => wait(status, format!("{count} Pods of its VMs are yet to go")),
        },
        _ => wait(status, message),
    }
}

/// The NodeMaintenance that drains the node.
fn maintenance(o: &Observed) -> NodeMaintenance {
    let reason = o.removal.spec.reason.as_deref().map(|reason| format!(": {reason}")).unwrap_or_default();
    let spec = NodeMaintenanceSpec {
        node_name: o.name().to_owned(),
        reason: Some(format!("NodeRemoval{reason}").chars().take(256).collect()),
        deadline_seconds: o.removal.spec.deadline_seconds,
    };
    let mut made = NodeMaintenance::new(o.name(), spec);
    made.metadata.owner_references =
        kube::Resource::controller_owner_ref(&o.removal, &()).map(|owner| vec![owner]);
    made
}

/// Declares a silent node out of service, and its VMs ended. An error holds what is to be done first.
fn declare(o: &Observed, status: &mut NodeRemovalStatus) -> Result<(), Vec<Action>> {
    let Some(node) = &o.node else { return Ok(()) };
    if !end::is_out_of_service(node) {
        status.tainted |= !has_taint(node);
        set_draining(o, status, format!("{} is being declared out of service", o.name()));
        return Err(vec![Action::OutOfService(true)]);
    }
    if o.pods.is_empty() {
        return Ok(());
    }
    let open = o.pods.iter().filter(|pod| pod.metadata.deletion_timestamp.is_none());
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    let steps = open.map(|pod| Action::DeletePod {
        namespace: text(&pod.metadata.namespace),
        name: text(&pod.metadata.name),
        uid: text(&pod.metadata.uid),
    });
    let steps = steps.collect();
    set_draining(o, status, format!("{} Pods of its VMs are yet to go", o.pods.len()));
    Err(steps)
}

/// The message of a drain, which may have to follow the point of no return.
fn set_draining(o: &Observed, status: &mut NodeRemovalStatus, message: String) {
    let is_removing = o.removal.status.as_ref().is_some_and(|status| status.removing.is_some());
    set(status, if is_removing { Phase::Removing } else { Phase::Draining }, message);
}

fn has_taint(node: &Node) -> bool {
    let mut taints = node.spec.iter().flat_map(|spec| spec.taints.iter().flatten());
    taints.any(|taint| taint.key == OUT_OF_SERVICE_TAINT)
}

/// Declares the node in service again, if this object has declared it out of service.
fn in_service(o: &Observed, status: &mut NodeRemovalStatus) -> Option<Action> {
    status.tainted &= o.node.as_ref().is_some_and(has_taint);
    status.tainted.then_some(Action::OutOfService(false))
}

/// The node takes VMs again.
fn undo(o: &Observed, status: &mut NodeRemovalStatus, deleting: bool) -> Vec<Action> {
    let mut steps = Vec::new();
    let own = o.own_maintenance();
    let open = own.filter(|found| found.metadata.deletion_timestamp.is_none());
    steps.extend(open.and_then(|found| found.metadata.uid.clone()).map(Action::DeleteMaintenance));
    steps.extend(in_service(o, status));
    if deleting {
        status.message =
            Some(format!("cancelled: {} is as before once its VMs may run there again", o.name()));
        if own.is_none() && steps.is_empty() {
            steps.push(Action::RemoveFinalizer);
        }
    }
    steps
}

/// The Event for the change from `before`.
fn event(before: &NodeRemovalStatus, status: &NodeRemovalStatus) -> Option<Event> {
    let note = status.message.clone().unwrap_or_default();
    let is_new = before.phase != status.phase;
    if !status.blockers.is_empty() && (is_new || before.blockers != status.blockers) {
        return Some(Event::warning("Blocked", note));
    }
    match status.phase? {
        Phase::Draining if is_new => Some(Event::normal("Draining", note)),
        Phase::Demoting if is_new => Some(Event::normal("Demoting", note)),
        Phase::Removing if is_new => Some(Event::normal("Removing", note)),
        Phase::Removed if is_new => Some(Event::normal("Removed", note)),
        Phase::Cancelled if is_new => Some(Event::warning("DeadlineExceeded", note)),
        _ => None,
    }
}

#[cfg(test)]
mod any_order;
#[cfg(test)]
mod tests;
