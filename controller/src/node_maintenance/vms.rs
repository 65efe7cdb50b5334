//! What a maintenance may do with one VM of its node: stop it, wait for it, or leave it and say why.
//!
//! Why here: run strategies, eviction strategies and disks decide about one VM, whatever becomes of the others. A VM that can
//! be migrated will be a further [`Verdict`]. Pure. Route in: a [`Vm`]. Route out: a [`Verdict`].

use k8s_openapi::{
    api::{core::v1::Pod, policy::v1::PodDisruptionBudget},
    jiff::Timestamp,
};
use kube::{ResourceExt, core::SelectorExt};
use sheaf_api::{
    RunStrategy, VirtualMachine, VirtualMachineInstance,
    host_disk::{HostDiskPlace, place},
    names::HOSTNAME_LABEL,
    node_maintenance::{Blocker, StoppedVm},
    selector,
    vmi::{EvictionStrategy, VirtualMachineInstanceSpec},
};

use crate::placeholder::end;

/// Seconds after the end of its grace period within which a node reports that a VM stopped; later it counts as silent.
const REPORTED_WITHIN: i64 = 60;

/// A VM whose Pod is bound to the node and not over.
#[derive(Clone, Debug)]
pub struct Vm {
    /// Name of its instance.
    pub name: String,
    /// Its placeholder Pod.
    pub pod: Pod,
    /// The VirtualMachine of that name.
    pub machine: Option<VirtualMachine>,
    /// The instance of that name.
    pub instance: Option<VirtualMachineInstance>,
    /// Its claims whose volumes are on this node.
    pub claims_here: Vec<String>,
}

/// What is to be done about a VM.
#[derive(Clone, Debug, PartialEq)]
pub enum Verdict {
    /// Its Pod may be evicted; with how it starts again, if it needs this controller or the end of the maintenance for that.
    Stop(Option<StoppedVm>),
    /// It is powering off, in words.
    Stopping(String),
    /// It must not be stopped, or would not start again: nothing of the node is stopped before that is resolved.
    Refused(Blocker),
    /// It cannot be stopped now.
    Blocked(Blocker),
}

impl Vm {
    fn namespace(&self) -> String {
        self.pod.namespace().unwrap_or_default()
    }

    /// `namespace/name`.
    pub fn title(&self) -> String {
        format!("{}/{}", self.namespace(), self.name)
    }

    /// Its VirtualMachine, if the instance is its.
    fn owner(&self) -> Option<&VirtualMachine> {
        let machine = self.machine.as_ref()?;
        let owners = self.instance.as_ref()?.owner_references();
        owners.iter().any(|owner| Some(&owner.uid) == machine.metadata.uid.as_ref()).then_some(machine)
    }

    fn blocker(&self, why: impl Into<String>, remedy: impl Into<String>) -> Blocker {
        Blocker { what: format!("VM {}", self.title()), why: why.into(), remedy: remedy.into() }
    }

    /// Remedy: the VM is stopped by its user, or the template is changed.
    fn stop_or(&self, change: &str) -> String {
        format!("stop it (virtctl stop {} -n {}), or {change}", self.name, self.namespace())
    }
}

/// Decides about `vm` on the node called `node`, at `now`.
pub fn judge(vm: &Vm, node: &str, budgets: &[PodDisruptionBudget], now: Timestamp) -> Verdict {
    if let Some(end) = &vm.pod.metadata.deletion_timestamp {
        if end.0.as_second().saturating_add(REPORTED_WITHIN) > now.as_second() {
            let words = format!("{}: is asked to power off, and ended at {}", vm.title(), end.0);
            return Verdict::Stopping(words);
        }
        let remedy = "look at the node; its status page is on tty1 and on the serial line".to_owned();
        return Verdict::Blocked(vm.blocker(end::unconfirmed(&vm.pod), remedy));
    }
    let Some(instance) = vm.instance.as_ref().filter(|one| one.metadata.deletion_timestamp.is_none()) else {
        return Verdict::Stopping(format!("{}: is being stopped", vm.title()));
    };
    if let Some(refused) = refuse(vm, instance, node) {
        return Verdict::Refused(refused);
    }
    match budget(vm, budgets) {
        Some(blocker) => Verdict::Blocked(blocker),
        None => Verdict::Stop(stopped(vm, instance)),
    }
}

/// Why the VM must not be stopped, or would not start again as it was.
fn refuse(vm: &Vm, instance: &VirtualMachineInstance, node: &str) -> Option<Blocker> {
    let machine = vm.owner();
    // What holds at its next start.
    let spec = machine.map_or(&instance.spec, |machine| &machine.spec.template.spec);
    if spec.eviction_strategy == Some(EvictionStrategy::LiveMigrate) {
        return Some(vm.blocker(
            "its evictionStrategy LiveMigrate forbids to stop it, and Sheaf does not migrate VMs yet",
            vm.stop_or("set evictionStrategy: LiveMigrateIfPossible in its template"),
        ));
    }
    let Some(machine) = machine else {
        // A replica set creates another instance.
        let has_owner = instance.owner_references().iter().any(|owner| owner.controller == Some(true));
        return (!has_owner).then(|| {
            vm.blocker(
                "it is an instance without a VirtualMachine: nothing starts it again",
                format!("delete it: kubectl delete vmi {} -n {}", vm.name, vm.namespace()),
            )
        });
    };
    if machine.spec.strategy() == RunStrategy::Once {
        return Some(vm.blocker(
            "its runStrategy Once does not start it again",
            vm.stop_or("change its runStrategy to RerunOnFailure"),
        ));
    }
    let file = file_of_a_node(spec, &vm.namespace())?;
    (!spec.node_selector.contains_key(HOSTNAME_LABEL)).then(|| {
        vm.blocker(
            format!("its disk {file} is a file of this node, and it may start on another one without it"),
            vm.stop_or(&format!("set nodeSelector {HOSTNAME_LABEL}: {node} in its template")),
        )
    })
}

/// A disk of the VM that is a file of its node.
fn file_of_a_node<'a>(spec: &'a VirtualMachineInstanceSpec, namespace: &str) -> Option<&'a str> {
    let disks = spec.volumes.iter().filter_map(|volume| volume.host_disk.as_ref());
    let mut files = disks.map(|disk| disk.path.as_str());
    files.find(|path| matches!(place(path, namespace), Ok(HostDiskPlace::Disk { .. })))
}

/// A PodDisruptionBudget that does not let the Pod go now.
fn budget(vm: &Vm, budgets: &[PodDisruptionBudget]) -> Option<Blocker> {
    let matches = |budget: &&PodDisruptionBudget| {
        let selector = budget.spec.as_ref().and_then(|spec| spec.selector.as_ref()).and_then(selector::of);
        budget.namespace() == vm.pod.namespace()
            && selector.is_some_and(|selector| selector.matches(vm.pod.labels()))
    };
    let of_pod: Vec<_> = budgets.iter().filter(matches).collect();
    let allowed = |budget: &PodDisruptionBudget| {
        budget.status.as_ref().and_then(|status| status.disruptions_allowed).unwrap_or_default()
    };
    match of_pod.as_slice() {
        [] => None,
        [one] if allowed(one) > 0 => None,
        [one] => Some(vm.blocker(
            format!("PodDisruptionBudget {} allows no disruption now", one.name_any()),
            "run more VMs of its selector on other nodes, or change the PodDisruptionBudget",
        )),
        // The API server refuses such an eviction.
        several => {
            let names: Vec<_> = several.iter().map(|budget| budget.name_any()).collect();
            Some(vm.blocker(
                format!("several PodDisruptionBudgets match it: {}", names.join(", ")),
                "leave one that matches it",
            ))
        }
    }
}

/// What is to be remembered of a VM that is stopped.
fn stopped(vm: &Vm, instance: &VirtualMachineInstance) -> Option<StoppedVm> {
    let machine = vm.owner()?;
    let spec = &machine.spec.template.spec;
    let held =
        !vm.claims_here.is_empty() || spec.keeps_state() || file_of_a_node(spec, &vm.namespace()).is_some();
    let restart = machine.spec.strategy() == RunStrategy::Manual;
    (held || restart).then(|| StoppedVm {
        namespace: vm.namespace(),
        name: vm.name.clone(),
        uid: machine.metadata.uid.clone().unwrap_or_default(),
        instance: instance.metadata.uid.clone().unwrap_or_default(),
        held,
        restart,
    })
}
