//! A first node of a case's own: installed by a firmware from a CD, and booted.
//!
//! Why here: cases about installations, slots and resets change the disk, and cannot start from the saved node of
//! [`super::cluster`]. Route in: a case, a firmware. Route out: the machine that was installed, and who administers it.

use super::{Case, READY};
use anyhow::Result;
use sheaf_machine::node::{self, BOOT_DEADLINE};
use sheaf_machine::spec::Forward;
use sheaf_machine::{Firmware, Machine, Medium, NodeMachine, Operator, lab, ports};

/// The first node, switched off after its installation.
pub struct Installed {
    /// Its machine.
    pub machine: NodeMachine,
    /// What its node.toml says.
    pub node: lab::Node,
    /// Anyone who administers it.
    pub operator: Operator,
}

impl Case {
    /// The first node, installed and switched off. The firmware is UEFI if none is given.
    pub fn installed(&self, firmware: Option<&Firmware>) -> Result<Installed> {
        let built = self.built()?;
        let operator = Operator::new(&built.sheaf, &built.kube, self.work());
        let node = self.first_node(&operator.admin_key()?)?;
        let iso = self.iso(&operator, &built, &node)?;
        let mut machine = NodeMachine::blank(&self.tools, &node, self.work(), &self.artefacts())?;
        if let Some(firmware) = firmware {
            machine.spec.firmware = firmware.clone();
        }
        machine.install(Medium::Cd(iso), |_| ())?;
        Ok(Installed { machine, node, operator })
    }
}

impl Installed {
    /// Boots it, as [`boot_first`] does.
    pub fn boot(&mut self) -> Result<Machine> {
        boot_first(&mut self.machine, &self.node, &self.operator)
    }
}

/// Boots an installed first node that restarts by itself, and waits until `operator` reaches it and it is Ready.
pub fn boot_first(machine: &mut NodeMachine, node: &lab::Node, operator: &Operator) -> Result<Machine> {
    let port = ports::free_port()?;
    machine.spec.forwards = vec![Forward { host: port, guest: node.address, port: 6443 }];
    let mut booted = machine.boot()?;
    booted.goes_on_after_reboots()?;
    let ca_hash = node::ca_hash(&mut booted)?;
    operator.wait_kubeconfig(&format!("https://127.0.0.1:{port}"), &ca_hash, BOOT_DEADLINE)?;
    operator.wait_node_ready(&node.name, READY)?;
    Ok(booted)
}
