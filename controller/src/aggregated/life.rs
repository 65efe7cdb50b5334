//! Decides what start, stop and restart do, by run strategy and by the state of the instance.
//!
//! Why here: pure, so that the whole table is tested. It is KubeVirt 1.7's (`pkg/virt-api/rest/lifecycle.go`), with its
//! status codes and its words, misspelling included: scripts match on them. A VM that runs by its strategy is started and
//! stopped by changing the strategy; one that is started and stopped by request (Manual, RerunOnFailure, and every restart)
//! gets the request into its status, for the VM controller. Route in: VM, instance, options. Route out: a [`Change`], or a
//! refusal.

use sheaf_api::{
    RunStrategy, VirtualMachine, VirtualMachineInstance,
    status::{Phase, StateChangeRequest},
};

use super::{
    answer::{Refusal, VM},
    options,
};

/// What is to be changed.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    /// Of the VM.
    pub what: What,
    /// Then the Pod of the instance is deleted with this grace, in seconds: a shorter one than it was made with.
    pub shorten_grace: Option<i64>,
}

/// A change of a VM.
#[derive(Clone, Debug, PartialEq)]
pub enum What {
    /// Its run strategy: Always for true, Halted for false.
    Run(bool),
    /// Its requests.
    Ask(Vec<StateChangeRequest>),
}

/// In messages.
const NOT_RUNNING: &str = "VM is not running";

/// The instance, with what matters of it.
struct Instance<'a> {
    uid: &'a str,
    phase: Option<Phase>,
}

impl<'a> Instance<'a> {
    fn of(vmi: &'a VirtualMachineInstance) -> Self {
        let phase = vmi.status.as_ref().and_then(|status| status.phase);
        Self { uid: vmi.metadata.uid.as_deref().unwrap_or_default(), phase }
    }

    fn is_final(&self) -> bool {
        self.phase.is_some_and(Phase::is_final)
    }
}

/// What `start` does.
pub fn start(
    vm: &VirtualMachine,
    vmi: Option<&VirtualMachineInstance>,
    options: &options::Start,
) -> Result<Change, Refusal> {
    let name = vm.metadata.name.as_deref().unwrap_or_default();
    let conflict = |why: String| Err(Refusal::conflict(VM, name, why));
    let instance = vmi.map(Instance::of);
    if instance.as_ref().is_some_and(|instance| !instance.is_final() && instance.phase.is_some()) {
        return conflict("VM is already running".into());
    }
    let request =
        if options.paused { StateChangeRequest::start_paused() } else { StateChangeRequest::start() };
    let strategy = vm.spec.strategy();
    let phase = instance.as_ref().and_then(|instance| instance.phase);
    let what = match strategy {
        // The VM controller changes the strategy: the request must be there before the instance is made.
        RunStrategy::Halted if options.paused => What::Ask(vec![request]),
        RunStrategy::Halted => What::Run(true),
        RunStrategy::RerunOnFailure if phase == Some(Phase::Failed) => {
            return conflict(format!("{strategy} does not support starting VM from failed state"));
        }
        RunStrategy::RerunOnFailure | RunStrategy::Manual => match instance {
            Some(instance) if instance.is_final() => {
                What::Ask(vec![StateChangeRequest::stop(instance.uid), request])
            }
            _ => What::Ask(vec![request]),
        },
        RunStrategy::Always | RunStrategy::Once => {
            return conflict(format!("{strategy} does not support manual start requests"));
        }
    };
    Ok(Change { what, shorten_grace: None })
}

/// What `stop` does.
pub fn stop(
    vm: &VirtualMachine,
    vmi: Option<&VirtualMachineInstance>,
    options: &options::Stop,
) -> Result<Change, Refusal> {
    let name = vm.metadata.name.as_deref().unwrap_or_default();
    let conflict = |why: String| Err(Refusal::conflict(VM, name, why));
    if options.grace_period.is_some_and(|seconds| seconds < 0) {
        return Err(Refusal::bad_request("gracePeriod has to be greater or equal to 0"));
    }
    let strategy = vm.spec.strategy();
    let running = vmi.map(Instance::of).filter(|instance| !instance.is_final());
    let before = vmi.and_then(|vmi| vmi.spec.termination_grace_period_seconds);
    let what = match (strategy, &running) {
        (RunStrategy::Always | RunStrategy::Once, _) => What::Run(false),
        (_, None) => return conflict(NOT_RUNNING.into()),
        (RunStrategy::Halted, Some(_))
            if options.grace_period.is_none_or(|seconds| before.is_some_and(|before| seconds >= before)) =>
        {
            return conflict(format!(
                "{strategy} only supports manual stop requests with a shorter graceperiod"
            ));
        }
        (_, Some(instance)) => What::Ask(vec![StateChangeRequest::stop(instance.uid)]),
    };
    let shorten_grace = options.grace_period.filter(|_| running.is_some());
    Ok(Change { what, shorten_grace })
}

/// What `restart` does.
pub fn restart(
    vm: &VirtualMachine,
    vmi: Option<&VirtualMachineInstance>,
    options: &options::Restart,
) -> Result<Change, Refusal> {
    let name = vm.metadata.name.as_deref().unwrap_or_default();
    let conflict = |why: String| Err(Refusal::conflict(VM, name, why));
    match options.grace_period_seconds {
        Some(1..) => {
            return Err(Refusal::bad_request("For force restart, only gracePeriod=0 is supported for now"));
        }
        Some(..0) => return Err(Refusal::bad_request("gracePeriod has to be greater or equal to 0")),
        Some(0) | None => {}
    }
    let strategy = vm.spec.strategy();
    if matches!(strategy, RunStrategy::Halted | RunStrategy::Once) {
        // KubeVirt's spelling.
        return conflict(format!("RunStategy {strategy} does not support manual restart requests"));
    }
    let Some(instance) = vmi.map(Instance::of) else {
        return conflict(format!("{NOT_RUNNING}: {}", RunStrategy::Halted));
    };
    let what = What::Ask(vec![StateChangeRequest::stop(instance.uid), StateChangeRequest::start()]);
    Ok(Change { what, shorten_grace: options.grace_period_seconds })
}

#[cfg(test)]
mod tests;
