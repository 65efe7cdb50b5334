//! Decides which instances a replica set creates and deletes, and what its status is.
//!
//! Why here: pure, so that every order of events is a test. An instance that is over or being deleted does not count, as in
//! KubeVirt; the name of each is the API server's choice, so the next is never mistaken for it. An instance that ends soon
//! after its creation is replaced after [`REPLACE`], or a template that cannot run would fill the API server with its
//! instances. Route in: the replica set and the instances of its namespace, as one answer of the API server has them. Route
//! out: a [`Plan`], and the status after it.

use std::{cmp::Reverse, time::Duration};

use k8s_openapi::jiff::{SignedDuration, Timestamp};
use kube::{Resource, api::ObjectMeta};
use sheaf_api::{
    VirtualMachineInstance,
    replica_set::{VirtualMachineInstanceReplicaSet, VirtualMachineInstanceReplicaSetStatus},
    status::Phase,
};

use crate::{
    conditions::find,
    events::Event,
    replicas::{BURST, Failure, conditions, count, matches, owns, selector_text},
};

/// Sooner after its creation no instance is replaced that ended.
pub const REPLACE: SignedDuration = SignedDuration::from_secs(10);

/// One thing to do.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Create an instance.
    Create(Box<VirtualMachineInstance>),
    /// Delete the instance of this name and UID.
    Delete {
        /// Its name.
        name: String,
        /// Its UID.
        uid: String,
        /// Why, for the Event.
        why: &'static str,
    },
    /// Remove the replica set from the instance's owners: its labels no longer match.
    Release(Box<VirtualMachineInstance>),
}

impl Action {
    /// The reason of the condition ReplicaFailure when it fails.
    pub fn failure(&self) -> &'static str {
        match self {
            Self::Create(_) => "FailedCreate",
            Self::Delete { .. } => "FailedDelete",
            Self::Release(_) => "FailedRelease",
        }
    }
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
pub fn plan(
    set: &VirtualMachineInstanceReplicaSet,
    instances: &[VirtualMachineInstance],
    now: Timestamp,
) -> Plan {
    let mut plan = Plan::default();
    if set.metadata.deletion_timestamp.is_some() || set.spec.paused {
        return plan;
    }
    let released = owned(set, instances).filter(|vmi| !matches(&set.spec.selector, *vmi));
    plan.actions.extend(released.map(|vmi| Action::Release(Box::new(vmi.clone()))));
    let mut active: Vec<_> = active(set, instances).collect();
    let over = kept(set, instances).filter(|vmi| is_over(vmi) && vmi.metadata.deletion_timestamp.is_none());
    let (early, over): (Vec<_>, Vec<_>) = over.partition(|vmi| wait(vmi, now).is_some());
    // One that ended early keeps its place until it may be replaced; when there is none for it, it goes at once.
    let wanted = set.spec.wanted();
    let waiting = early.len().min(wanted.saturating_sub(active.len()));
    let missing = wanted.saturating_sub(active.len() + waiting);
    plan.actions.extend(over.iter().chain(&early[waiting..]).map(|vmi| delete(vmi, "it is over")));
    plan.requeue = early[..waiting].iter().filter_map(|vmi| wait(vmi, now)).min();
    active.sort_by_key(|vmi| (is_running(vmi), is_ready(vmi), Reverse(created(vmi))));
    let surplus = active.len().saturating_sub(wanted);
    plan.actions.extend(active[..surplus].iter().map(|vmi| delete(vmi, "there are more than spec.replicas")));
    plan.actions.extend((0..missing.min(BURST)).map(|_| Action::Create(Box::new(made(set)))));
    plan
}

/// The status after a plan that failed as `failure` says, if it did, with the Events that tell of it.
pub fn status(
    set: &VirtualMachineInstanceReplicaSet,
    instances: &[VirtualMachineInstance],
    failure: Option<&Failure>,
    now: Timestamp,
) -> (VirtualMachineInstanceReplicaSetStatus, Vec<Event>) {
    let mut status = set.status.clone().unwrap_or_default();
    status.replicas = count(active(set, instances).count());
    status.ready_replicas = count(active(set, instances).filter(|vmi| is_ready(vmi)).count());
    status.label_selector = selector_text(&set.spec.selector);
    let events = conditions(&mut status.conditions, set.spec.paused, failure, now);
    (status, events)
}

/// Instances that the replica set owns.
fn owned<'a>(
    set: &'a VirtualMachineInstanceReplicaSet,
    instances: &'a [VirtualMachineInstance],
) -> impl Iterator<Item = &'a VirtualMachineInstance> {
    instances.iter().filter(|vmi| owns(set.metadata.uid.as_deref(), *vmi))
}

/// Those whose labels match.
fn kept<'a>(
    set: &'a VirtualMachineInstanceReplicaSet,
    instances: &'a [VirtualMachineInstance],
) -> impl Iterator<Item = &'a VirtualMachineInstance> {
    owned(set, instances).filter(|vmi| matches(&set.spec.selector, *vmi))
}

/// Those that count.
fn active<'a>(
    set: &'a VirtualMachineInstanceReplicaSet,
    instances: &'a [VirtualMachineInstance],
) -> impl Iterator<Item = &'a VirtualMachineInstance> {
    kept(set, instances).filter(|vmi| !is_over(vmi) && vmi.metadata.deletion_timestamp.is_none())
}

fn phase(vmi: &VirtualMachineInstance) -> Phase {
    vmi.status.as_ref().and_then(|status| status.phase).unwrap_or(Phase::Pending)
}

fn is_over(vmi: &VirtualMachineInstance) -> bool {
    phase(vmi).is_final()
}

fn is_running(vmi: &VirtualMachineInstance) -> bool {
    phase(vmi) == Phase::Running
}

fn is_ready(vmi: &VirtualMachineInstance) -> bool {
    let conditions = vmi.status.as_ref().map_or(&[][..], |status| &status.conditions);
    find(conditions, "Ready").is_some_and(|condition| condition.status == "True")
}

fn created(vmi: &VirtualMachineInstance) -> Option<Timestamp> {
    vmi.metadata.creation_timestamp.as_ref().map(|time| time.0)
}

/// How long the instance, which is over, is not replaced yet.
fn wait(vmi: &VirtualMachineInstance, now: Timestamp) -> Option<Duration> {
    let left = REPLACE - now.duration_since(created(vmi)?);
    left.is_positive().then(|| left.unsigned_abs())
}

fn delete(vmi: &VirtualMachineInstance, why: &'static str) -> Action {
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    Action::Delete { name: text(&vmi.metadata.name), uid: text(&vmi.metadata.uid), why }
}

/// An instance of the template; the API server completes its name.
fn made(set: &VirtualMachineInstanceReplicaSet) -> VirtualMachineInstance {
    let metadata = set.spec.template.metadata.clone().unwrap_or_default();
    VirtualMachineInstance {
        metadata: ObjectMeta {
            generate_name: set.metadata.name.clone(),
            namespace: set.metadata.namespace.clone(),
            labels: Some(metadata.labels),
            annotations: (!metadata.annotations.is_empty()).then_some(metadata.annotations),
            owner_references: set.controller_owner_ref(&()).map(|owner| vec![owner]),
            ..ObjectMeta::default()
        },
        spec: set.spec.template.spec.clone(),
        status: None,
    }
}

#[cfg(test)]
mod tests;
