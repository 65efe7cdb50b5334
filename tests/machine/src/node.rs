//! A node's way from an empty disk to a running system.
//!
//! Why here: demo, cases and benchmarks all go it. Route in: a [`lab::Node`] and a medium. Route out: a [`Machine`]
//! that has booted from its own disk, and what it said on the way.

use crate::{Disk, Machine, MachineError, Medium, Spec, Tools, files, lab};
use sheaf_host::run::RunError;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Firmware, kernel and installer under emulation, and some GB written and read again.
pub const INSTALL_DEADLINE: Duration = Duration::from_secs(600);
/// From power-on to a control plane that answers, under emulation (72 s for the control plane alone).
pub const BOOT_DEADLINE: Duration = Duration::from_secs(420);
/// Room for VMs of any case; a qcow2 file holds only what was written.
const DISK_SIZE: &str = "64G";

/// Processors of a node. Of two emulated ones, one came back from a guest of KVM onto the kernel stack of a thread that
/// ran on the other by then: one node in eight reset itself or stood still while its first VM started
/// (docs/testing.md). With one there is no other.
const PROCESSORS: u32 = 2;

/// A node's machine, switched on or off.
#[derive(Clone, Debug)]
pub struct NodeMachine {
    /// Without a medium: the machine that boots from its disk.
    pub spec: Spec,
    tools: Tools,
    artefacts: PathBuf,
}

impl NodeMachine {
    /// A machine with an empty disk in `work`, whose logs go to `artefacts`.
    pub fn blank(tools: &Tools, node: &lab::Node, work: &Path, artefacts: &Path) -> Result<Self, RunError> {
        let machine = Self::existing(tools, node, work, artefacts);
        files::blank(tools, &machine.spec.disks[0].path, DISK_SIZE)?;
        files::uefi_variables(tools, &vars(node, work))?;
        Ok(machine)
    }

    /// The machine whose files an earlier [`NodeMachine::blank`] made in `work`.
    pub fn existing(tools: &Tools, node: &lab::Node, work: &Path, artefacts: &Path) -> Self {
        let mut spec = Spec::new(&node.name, vars(node, work));
        spec.mac = node.mac.clone();
        spec.cpus = PROCESSORS;
        spec.disks.push(Disk::qcow2(work.join(format!("{}.qcow2", node.name)), &node.disk_serial()));
        Self { spec, tools: tools.clone(), artefacts: artefacts.join(&node.name) }
    }

    /// Boots the medium.
    pub fn boot_medium(&self, medium: Medium) -> Result<Machine, MachineError> {
        let mut machine = Machine::start(
            &Spec { medium: Some(medium), ..self.spec.clone() },
            &self.tools,
            &self.artefacts,
        )?;
        let ends = ["INSTALLATION FAILED", "the installer stopped unexpectedly"];
        machine.fatal.extend(ends.map(str::to_owned));
        Ok(machine)
    }

    /// Boots the medium and lets it install; gives each line of the serial line to `said`. The machine is off after.
    pub fn install(&self, medium: Medium, mut said: impl FnMut(&str)) -> Result<(), MachineError> {
        let mut machine = self.boot_medium(medium)?;
        machine.wait("end of the installation", INSTALL_DEADLINE, |machine| {
            // Each line is told once: the cursor passes all of them.
            while let Some(line) = machine.serial.next(|line| Some(line.to_owned())) {
                said(&line);
                if line.starts_with("Installed ") {
                    return Some(());
                }
            }
            None
        })?;
        machine.wait_off(INSTALL_DEADLINE)
    }

    /// Switches it on without a medium.
    pub fn boot(&self) -> Result<Machine, MachineError> {
        Machine::start(&self.spec, &self.tools, &self.artefacts)
    }
}

fn vars(node: &lab::Node, work: &Path) -> PathBuf {
    work.join(format!("{}-vars.qcow2", node.name))
}

/// Reads the hash of the cluster's CA where an operator does: on the node's status page.
pub fn ca_hash(machine: &mut Machine) -> Result<String, MachineError> {
    machine.wait("status page with the cluster's CA hash", BOOT_DEADLINE, |machine| {
        machine.serial.next(|line| {
            let (_, rest) = line.split_once("sha256:")?;
            let digits: String = rest.chars().take_while(char::is_ascii_hexdigit).collect();
            (digits.len() == 64).then(|| format!("sha256:{digits}"))
        })
    })
}
