//! What a snapshot's status says of the state that its VM was in.
//!
//! Why here: KubeVirt's words, from which people see whether their data are as after a power cut. Pure. Route in: the
//! instance, if the VM runs. Route out: indications, and a sentence for each.

use sheaf_api::{
    VirtualMachineInstance,
    vm_snapshot::{Indication, SourceIndication},
};

use crate::{conditions::find, vm::plan::is_paused};

/// The indications of a VM whose instance runs, or that has none.
pub fn of(running: Option<&VirtualMachineInstance>) -> Vec<Indication> {
    let Some(vmi) = running else { return Vec::new() };
    // A guest that stands still cannot answer.
    let second = match (is_paused(vmi), has_agent(vmi)) {
        (true, _) => Indication::Paused,
        (false, true) => Indication::GuestAgent,
        (false, false) => Indication::NoGuestAgent,
    };
    vec![Indication::Online, second]
}

/// The same, each with its meaning.
pub fn explained(indications: &[Indication]) -> Vec<SourceIndication> {
    let one = |indication: &Indication| SourceIndication {
        indication: *indication,
        message: meaning(*indication).into(),
    };
    indications.iter().map(one).collect()
}

fn meaning(indication: Indication) -> &'static str {
    match indication {
        Indication::Online => "the VM ran while the snapshot was taken",
        Indication::GuestAgent => "the guest agent froze the file systems while the snapshot was taken",
        Indication::NoGuestAgent => {
            "the guest agent did not answer: the snapshot is as the disks would be after a power cut"
        }
        Indication::QuiesceTimeout => {
            "the file systems were thawed before the last volume was taken: the snapshot is as the disks would be after a power cut"
        }
        Indication::Paused => {
            "the VM was paused and its guest could not be asked: the snapshot is as the disks would be after a power cut"
        }
    }
}

fn has_agent(vmi: &VirtualMachineInstance) -> bool {
    let conditions = vmi.status.as_ref().map(|status| status.conditions.as_slice()).unwrap_or_default();
    find(conditions, "AgentConnected").is_some_and(|agent| agent.status == "True")
}
