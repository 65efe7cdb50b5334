//! The release that comes after the one under test, and how a node is asked to run it.
//!
//! Why here: the cases of updates and their benchmark need the same. Route in: the recipe, built again under another version.
//! Route out: its folder, which [`super::Server::folder`] serves; the NodeUpdate of the first node.

use super::{Case, READY};
use anyhow::{Result, ensure};
use serde_json::{Value, json};
use sheaf_host::run::{Command, Run as _, System};
use sheaf_machine::node::{self, BOOT_DEADLINE};
use sheaf_machine::spec::Forward;
use sheaf_machine::{Machine, NodeMachine, Operator, lab, ports};
use std::path::PathBuf;
use std::time::Duration;

/// The next version.
pub const NEXT: &str = "0.1.1";
/// Root and tree compressed again, all else from the cache.
const BUILD: Duration = Duration::from_secs(1800);

impl Case {
    /// The next release: the same recipe under another version, in the case's own folder.
    pub fn next_release(&self) -> Result<PathBuf> {
        let sheaf = self.built()?.sheaf;
        let build = Command::new(&sheaf)
            .args(["build", "configs/images/sheaf.toml", "--version", NEXT, "--into"])
            .arg(self.work())
            .dir(self.root())
            .deadline(BUILD);
        System.run(&build)?;
        Ok(self.work().join(format!("releases/sheaf-{NEXT}")))
    }
}

/// The NodeUpdate of the first node; `health` is its `healthTimeoutSeconds`.
pub fn node_update(version: &str, url: &str, action: &str, health: u32) -> String {
    json!({
        "apiVersion": "sheaf.dev/v1alpha1", "kind": "NodeUpdate", "metadata": {"name": "node1"},
        "spec": {
            "nodeName": "node1", "version": version, "source": {"url": url}, "action": action,
            "healthTimeoutSeconds": health,
        },
    })
    .to_string()
}

/// Waits until the first node's NodeUpdate is in `phase`; its status. One that ends otherwise is not waited for.
pub fn wait_update(operator: &Operator, phase: &str, deadline: Duration) -> Result<Value> {
    let what = format!("NodeUpdate {phase}");
    let status = operator.wait(&what, &["nodeupdate", "node1"], deadline, |object| {
        let status = &object["status"];
        // What it says of an earlier request is no answer.
        let is_of_request = status["observedGeneration"] == object["metadata"]["generation"];
        let now = status["phase"].as_str()?;
        (is_of_request && [phase, "Refused", "RolledBack"].contains(&now)).then(|| status.clone())
    })?;
    ensure!(status["phase"] == phase, "{status:#}");
    Ok(status)
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
