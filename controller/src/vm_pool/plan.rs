//! Decides which VMs a pool creates, changes, restarts and deletes, and what its status is.
//!
//! Why here: pure, so that every strategy is a test. A VM that is being deleted counts until it is gone, for its name is its
//! number's: there are never two of one name. Instances are restarted by the requests that `virtctl restart` writes, so the VM
//! controller does it, by its own rules. Route in: [`Observed`]. Route out: a list of [`Action`]s, and the status after them.

use json_patch::Patch;
use k8s_openapi::{api::apps::v1::ControllerRevision, jiff::Timestamp};
use sheaf_api::{
    RunStrategy, VirtualMachine, VirtualMachineInstance,
    status::StateChangeRequest,
    vm_pool::{
        Place, REVISION_LABEL, VirtualMachinePool, VirtualMachinePoolStatus,
        strategy::{ScaleInStrategy, SortPolicy, UpdateStrategy},
    },
};

use super::{machine, revisions::Revisions};
use crate::{
    conditions::find,
    events::Event,
    replicas::{BURST, Failure, conditions, count, matches, owns, selector_text},
    vm::requests,
};

/// What a decision is made from; VMs are read before instances, so a restart that was requested is seen in one of the two.
pub struct Observed<'a> {
    /// The pool.
    pub pool: &'a VirtualMachinePool,
    /// The VMs of its namespace.
    pub machines: &'a [VirtualMachine],
    /// The instances of its namespace.
    pub instances: &'a [VirtualMachineInstance],
    /// The ControllerRevisions of its namespace.
    pub revisions: &'a [ControllerRevision],
}

/// One thing to do.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Keep the template that VMs are made from.
    KeepRevision(Box<ControllerRevision>),
    /// Create a VM.
    Create(Box<VirtualMachine>),
    /// Write the VM, whose template changed.
    Change(Box<VirtualMachine>),
    /// Request a restart of the VM's instance.
    Restart {
        /// Name of the VM.
        name: String,
        /// Patch of its status.
        patch: Patch,
    },
    /// Delete the VM of this name and UID.
    Delete {
        /// Its name.
        name: String,
        /// Its UID.
        uid: String,
    },
    /// Remove the pool from the VM's owners: its labels no longer match.
    Release(Box<VirtualMachine>),
    /// Delete the revision of this name, which nothing refers to.
    Forget(String),
}

impl Action {
    /// The reason of the condition ReplicaFailure when it fails.
    pub fn failure(&self) -> &'static str {
        match self {
            Self::KeepRevision(_) | Self::Create(_) => "FailedScaleOut",
            Self::Delete { .. } | Self::Release(_) => "FailedScaleIn",
            Self::Change(_) | Self::Restart { .. } => "FailedUpdate",
            Self::Forget(_) => "FailedRevisionPruning",
        }
    }
}

/// Decides; a step that fails ends the plan.
pub fn plan(observed: &Observed) -> Vec<Action> {
    let pool = observed.pool;
    if pool.metadata.deletion_timestamp.is_some() || pool.spec.paused {
        return Vec::new();
    }
    let released = owned(observed).filter(|vm| !matches(&pool.spec.selector, *vm));
    let mut actions: Vec<_> = released.map(|vm| Action::Release(Box::new(vm.clone()))).collect();
    let kept: Vec<_> = kept(observed).collect();
    let stay = delete(observed, &kept, &mut actions);
    let revisions = Revisions::of(pool, observed.revisions);
    let to_keep = revisions.made();
    let name_to_keep = to_keep.metadata.name.clone().unwrap_or_default();
    let revision = revisions.current().unwrap_or(&name_to_keep);
    let mut writes = change(pool, &stay, &revisions, revision);
    writes.extend(create(observed, kept.len(), revision));
    if !writes.is_empty() && revisions.current().is_none() {
        actions.push(Action::KeepRevision(Box::new(to_keep.clone())));
    }
    actions.extend(writes);
    actions.extend(restart(observed, &stay, &revisions));
    if actions.is_empty() {
        let of_instances = observed.instances.iter().filter_map(|vmi| label(vmi.metadata.labels.as_ref()));
        let of_machines = observed.machines.iter().filter_map(|vm| label(vm.metadata.labels.as_ref()));
        let used: Vec<&str> = of_instances.chain(of_machines).collect();
        let names = revisions.unused(&used).filter_map(|revision| revision.metadata.name.clone());
        actions.extend(names.map(Action::Forget));
    }
    actions
}

/// The status after a plan that failed as `failure` says, if it did, with the Events that tell of it.
pub fn status(
    observed: &Observed,
    failure: Option<&Failure>,
    now: Timestamp,
) -> (VirtualMachinePoolStatus, Vec<Event>) {
    let pool = observed.pool;
    let mut status = pool.status.clone().unwrap_or_default();
    status.replicas = count(kept(observed).count());
    status.ready_replicas = count(kept(observed).filter(|vm| is_ready(vm)).count());
    status.label_selector = selector_text(&pool.spec.selector);
    let events = conditions(&mut status.conditions, pool.spec.paused, failure, now);
    (status, events)
}

/// Deletes what is too much, and returns the VMs that stay.
fn delete<'a>(
    observed: &Observed,
    kept: &[&'a VirtualMachine],
    actions: &mut Vec<Action>,
) -> Vec<&'a VirtualMachine> {
    let pool = observed.pool;
    let mut live: Vec<_> =
        kept.iter().copied().filter(|vm| vm.metadata.deletion_timestamp.is_none()).collect();
    let Some(order) = ScaleInStrategy::order(pool.spec.scale_in_strategy.as_ref()) else { return live };
    // Those being deleted are among the surplus already.
    let surplus = live.len().saturating_sub(pool.spec.wanted());
    sort(pool, &mut live, order);
    let stay = live.split_off(surplus);
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    actions.extend(
        live.iter().map(|vm| Action::Delete { name: text(&vm.metadata.name), uid: text(&vm.metadata.uid) }),
    );
    stay
}

/// VMs that are missing, with the lowest numbers that no VM of the namespace has.
fn create(observed: &Observed, kept: usize, revision: &str) -> Vec<Action> {
    let pool = observed.pool;
    let missing = pool.spec.wanted().saturating_sub(kept).min(BURST);
    let is_free = |ordinal: &usize| {
        let name = machine::name(pool, *ordinal);
        !observed.machines.iter().any(|vm| vm.metadata.name.as_ref() == Some(&name))
    };
    let made = |ordinal| Action::Create(Box::new(machine::made(pool, ordinal, revision)));
    (0..).filter(is_free).take(missing).map(made).collect()
}

/// VMs whose revision holds another template than the pool.
fn change(
    pool: &VirtualMachinePool,
    stay: &[&VirtualMachine],
    revisions: &Revisions,
    revision: &str,
) -> Vec<Action> {
    if !UpdateStrategy::changes(pool.spec.update_strategy.as_ref()) {
        return Vec::new();
    }
    let outdated = stay.iter().filter(|vm| !is_current(pool, vm, revisions)).take(BURST);
    let changed = |vm: &&VirtualMachine| {
        let ordinal = machine::ordinal(pool, vm)?;
        let changed = machine::changed(pool, vm, ordinal, revisions.named_by(*vm), revision);
        Some(Action::Change(Box::new(changed)))
    };
    outdated.filter_map(changed).collect()
}

/// Restarts of instances that were made from another template than their VM has, as many as may be unavailable.
fn restart(observed: &Observed, stay: &[&VirtualMachine], revisions: &Revisions) -> Vec<Action> {
    let pool = observed.pool;
    let Some(order) = UpdateStrategy::restarts(pool.spec.update_strategy.as_ref()) else { return Vec::new() };
    let mut machines = stay.to_vec();
    sort(pool, &mut machines, order);
    let mut available = 0;
    let (mut broken, mut ready) = (Vec::new(), Vec::new());
    for vm in machines.iter().filter(|vm| vm.spec.strategy() != RunStrategy::Halted) {
        let instance = instance(observed, vm);
        let is_up = instance.is_some_and(is_instance_ready) && !is_asked(vm);
        available += usize::from(is_up);
        let outdated = instance.filter(|vmi| {
            vmi.metadata.deletion_timestamp.is_none()
                && !is_asked(vm)
                && vm.spec.strategy() != RunStrategy::Once
                && is_current(pool, vm, revisions)
                && !is_instance_current(pool, vmi, revisions)
        });
        if let Some(vmi) = outdated {
            if is_up { ready.push((vm, vmi)) } else { broken.push((vm, vmi)) }
        }
    }
    // One that is not Ready loses nothing by it; of the others, as many as leave enough.
    let running = machines.iter().filter(|vm| vm.spec.strategy() != RunStrategy::Halted).count();
    let budget = pool.spec.unavailable().saturating_sub(running - available);
    let asked = broken.into_iter().chain(ready.into_iter().take(budget));
    let restarted = |(vm, vmi): (&&VirtualMachine, &VirtualMachineInstance)| {
        let uid = vmi.metadata.uid.as_deref().unwrap_or_default();
        let patch = requests::ask(vm, &[StateChangeRequest::stop(uid), StateChangeRequest::start()]).ok()?;
        Some(Action::Restart { name: vm.metadata.name.clone().unwrap_or_default(), patch })
    };
    asked.filter_map(restarted).collect()
}

fn sort(pool: &VirtualMachinePool, machines: &mut [&VirtualMachine], order: SortPolicy) {
    let place = |vm: &VirtualMachine| Place {
        ordinal: machine::ordinal(pool, vm),
        created: vm.metadata.creation_timestamp.as_ref().map(|time| time.0),
        uid: vm.metadata.uid.clone().unwrap_or_default(),
    };
    machines.sort_by(|a, b| order.compare(&place(a), &place(b)));
}

/// VMs that the pool owns.
fn owned<'a>(observed: &'a Observed) -> impl Iterator<Item = &'a VirtualMachine> {
    observed.machines.iter().filter(|vm| owns(observed.pool.metadata.uid.as_deref(), *vm))
}

/// Those whose labels match.
fn kept<'a>(observed: &'a Observed) -> impl Iterator<Item = &'a VirtualMachine> {
    owned(observed).filter(|vm| matches(&observed.pool.spec.selector, *vm))
}

/// The instance of `vm`.
fn instance<'a>(observed: &Observed<'a>, vm: &VirtualMachine) -> Option<&'a VirtualMachineInstance> {
    let of_vm = |vmi: &&VirtualMachineInstance| {
        vmi.metadata.name == vm.metadata.name && owns(vm.metadata.uid.as_deref(), *vmi)
    };
    observed.instances.iter().find(of_vm)
}

fn label(labels: Option<&std::collections::BTreeMap<String, String>>) -> Option<&str> {
    labels?.get(REVISION_LABEL).map(String::as_str)
}

/// Whether the VM has the pool's template.
fn is_current(pool: &VirtualMachinePool, vm: &VirtualMachine, revisions: &Revisions) -> bool {
    revisions.named_by(vm).is_some_and(|template| *template == pool.spec.virtual_machine_template)
}

/// Whether the instance was made from what the pool's template says of instances.
fn is_instance_current(
    pool: &VirtualMachinePool,
    vmi: &VirtualMachineInstance,
    revisions: &Revisions,
) -> bool {
    let wanted = &pool.spec.virtual_machine_template.spec;
    revisions.named_by(vmi).is_some_and(|template| {
        template.spec.template == wanted.template
            && template.spec.instancetype == wanted.instancetype
            && template.spec.preference == wanted.preference
    })
}

/// Whether a start, a stop or a restart was requested and is not done.
fn is_asked(vm: &VirtualMachine) -> bool {
    vm.status.as_ref().is_some_and(|status| !status.state_change_requests.is_empty())
}

fn is_ready(vm: &VirtualMachine) -> bool {
    let conditions = vm.status.as_ref().map_or(&[][..], |status| &status.conditions);
    find(conditions, "Ready").is_some_and(|condition| condition.status == "True")
}

fn is_instance_ready(vmi: &VirtualMachineInstance) -> bool {
    let conditions = vmi.status.as_ref().map_or(&[][..], |status| &status.conditions);
    vmi.metadata.deletion_timestamp.is_none()
        && find(conditions, "Ready").is_some_and(|condition| condition.status == "True")
}

#[cfg(test)]
mod tests;
