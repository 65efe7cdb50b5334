//! Processors of VMs: their own with `dedicatedCpuPlacement`, and those that all other VMs share.
//!
//! Why here: the agent is the node's CPU manager, as a kubelet with the static policy is: processors of its own are given to a VM
//! for its whole run, full cores first and from one NUMA cell if it fits ([`choose()`]); who has which is read from records
//! and domains ([`ledger`]); VMs without dedicated processors run on the rest, which changes while they run. What
//! `vms.reserved-cpus` of node.toml names is never given to one VM. Pure, but for [`observe`]. Route in: node config, sysfs,
//! what VMs ask for. Route out: a [`Placement`] of each guest ([`crate::vms::domain_xml`]).

mod choose;
mod ledger;

pub use choose::choose;
pub use ledger::{Ledger, own};

use sheaf_host::cpus::{CpuReport, CpuSet, Topology};

/// Processors of a node that gives VMs processors of their own.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeCpus {
    /// Those that are online.
    pub topology: Topology,
    /// Those that no VM has to itself.
    pub reserved: CpuSet,
}

/// What a VM with `dedicatedCpuPlacement` asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Its virtual CPUs, each of which has a processor.
    pub vcpus: u32,
    /// One more for QEMU's other threads.
    pub emulator: bool,
    /// Its NUMA cells are those of its processors.
    pub numa: bool,
}

impl Wanted {
    /// Processors in all.
    pub fn count(self) -> u32 {
        self.vcpus.saturating_add(self.emulator.into())
    }
}

/// Where the threads of a VM run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Placement {
    /// On any processor: the node gives no VM processors of its own.
    #[default]
    Anywhere,
    /// On those that no VM has to itself.
    Shared(CpuSet),
    /// On its own.
    Own(Own),
}

impl Placement {
    /// Those that the VM has to itself.
    pub fn own(&self) -> Option<CpuSet> {
        match self {
            Self::Own(own) => Some(own.all()),
            Self::Anywhere | Self::Shared(_) => None,
        }
    }
}

/// Processors of one VM.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Own {
    /// One for each virtual CPU, in their order: those of one core are neighbours.
    pub vcpus: Vec<u32>,
    /// The one of QEMU's other threads; without it they share those of the virtual CPUs.
    pub emulator: Option<u32>,
    /// NUMA cells of the guest; none unless it asked for them.
    pub cells: Vec<Cell>,
}

impl Own {
    /// All of them.
    pub fn all(&self) -> CpuSet {
        self.vcpus.iter().copied().chain(self.emulator).collect()
    }
}

/// A NUMA cell of a guest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cell {
    /// The cell of the node that its memory is from.
    pub host: u32,
    /// Virtual CPUs in it.
    pub vcpus: CpuSet,
}

/// The processors of this node if its config has `reserved`, `vms.reserved-cpus`; or why VMs cannot have any of their own.
pub fn observe(reserved: Option<&str>, host: &dyn CpuReport) -> Result<Option<NodeCpus>, String> {
    let Some(text) = reserved else { return Ok(None) };
    let refused = |why: String| format!("vms.reserved-cpus = {text:?} of node.toml: {why}");
    let reserved = CpuSet::parse(text).ok_or_else(|| refused("it is not a list such as 0-1,8".into()))?;
    let topology = host.topology().map_err(|error| format!("{:#}", anyhow::Error::from(error)))?;
    let all = topology.all();
    if reserved.common(&all).is_empty() {
        return Err(refused(format!("none of them is online; this machine has {all}")));
    }
    if all.is_within(&reserved) {
        return Err(refused(format!("this machine has {all}, so none is left for VMs")));
    }
    Ok(Some(NodeCpus { topology, reserved }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use sheaf_host::fakes::FakeCpus;

    #[test]
    fn a_node_without_the_setting_gives_no_vm_processors_of_its_own() {
        assert_eq!(observe(None, &FakeCpus::of(1, 2, 1)), Ok(None));
    }

    #[test]
    fn reserved_processors_must_be_some_of_the_machine_and_not_all() {
        let of =
            |text| observe(Some(text), &FakeCpus::of(1, 2, 2)).map(|cpus| cpus.unwrap().reserved.to_string());
        assert_eq!(of("0,2"), Ok("0,2".into()));
        let refused = |why: &str| Err(format!("vms.reserved-cpus = {why}"));
        assert_eq!(of("8"), refused("\"8\" of node.toml: none of them is online; this machine has 0-3"));
        assert_eq!(of("0-7"), refused("\"0-7\" of node.toml: this machine has 0-3, so none is left for VMs"));
        assert_eq!(of("x"), refused("\"x\" of node.toml: it is not a list such as 0-1,8"));
    }

    #[test]
    fn processors_that_cannot_be_read_are_reported() {
        let host = FakeCpus::of(1, 2, 1);
        host.fails(true);
        assert_eq!(observe(Some("0"), &host), Err("cpu/online: cannot be read: injected failure".into()));
    }
}
