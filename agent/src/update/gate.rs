//! The health gate: whether a new release does on this node what the former one did. Pure.
//!
//! Why compared with before: a cluster that was lost before the update, or a pool that was broken, is no reason to roll back
//! a fleet. Route in: the node's parts as they are now, and as they were. Route out: the parts that fail, each with what is
//! wrong.

use super::records::Before;
use crate::channels::Context;
use crate::status::{Phase, VmSection};
use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

/// The parts are as they should be for so long before the release counts as good: longer than a crash loop of the agent
/// takes, or a VM that starts and ends again.
pub const STABLE: Duration = Duration::from_secs(90);

/// The node's parts, as the controllers report them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Parts {
    /// What keeps the agent from its work.
    pub agent: Vec<String>,
    /// What is wrong with the node config or the state partition.
    pub problem: Option<String>,
    /// The node has an address.
    pub network: bool,
    /// Links that lead out of the machine, and whether each works.
    pub links: BTreeMap<String, bool>,
    /// libvirt answers.
    pub libvirt: bool,
    /// VMs can run.
    pub kvm: bool,
    /// Pools that can be used.
    pub pools: Vec<String>,
    /// VMs of this node, `namespace/name`, with what they are doing.
    pub vms: BTreeMap<String, String>,
    /// The API server is reached.
    pub cluster: bool,
}

/// A part that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failing {
    /// Its name.
    pub part: &'static str,
    /// What is wrong.
    pub what: String,
}

impl fmt::Display for Failing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.part, self.what)
    }
}

/// All that fail, in words; empty when none does.
pub fn listed(failing: &[Failing]) -> String {
    failing.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

/// The parts now.
pub fn parts(ctx: &Context) -> Parts {
    let status = ctx.status.read();
    let running = |vm: &VmSection| (vm.name.clone(), vm.phase.clone());
    let hypervisor = ctx.hypervisor.borrow();
    let network = ctx.network.borrow();
    Parts {
        agent: ctx.health.borrow().problems.clone(),
        problem: status.node.problem.clone(),
        network: !network.addresses.is_empty(),
        links: network.ways_out.clone(),
        libvirt: hypervisor.answers,
        kvm: hypervisor.kvm,
        pools: ctx
            .pools
            .borrow()
            .iter()
            .filter(|pool| pool.is_usable)
            .map(|pool| pool.name.clone())
            .collect(),
        vms: status.vms.iter().map(running).collect(),
        cluster: matches!(status.cluster.phase, Phase::Ready | Phase::NotReady),
    }
}

impl Parts {
    /// What a later release is compared with.
    pub fn before(&self) -> Before {
        let runs = |(name, phase): (&String, &String)| (phase == RUNNING).then(|| name.clone());
        Before {
            vms: self.vms.iter().filter_map(runs).collect(),
            pools: self.pools.clone(),
            cluster: self.cluster,
            network: self.network,
            links: self.links.iter().filter(|(_, works)| **works).map(|(name, _)| name.clone()).collect(),
            kvm: self.kvm,
            problem: self.problem.clone(),
        }
    }
}

/// What the status calls a VM that runs.
const RUNNING: &str = "Running";

/// The parts that are worse than before.
pub fn judge(now: &Parts, before: &Before) -> Vec<Failing> {
    let mut failing = Vec::new();
    let mut fails = |part, what: String| failing.push(Failing { part, what });
    if !now.agent.is_empty() {
        fails("agent", now.agent.join("; "));
    }
    if let Some(problem) = now.problem.as_ref().filter(|_| now.problem != before.problem) {
        fails("config", problem.clone());
    }
    if before.network && !now.network {
        fails("network", "the node has no address".into());
    }
    // A link that nobody asks for any more is missed by nobody.
    let lost = |link: &&String| now.links.get(*link) == Some(&false);
    let lost: Vec<&str> = before.links.iter().filter(lost).map(String::as_str).collect();
    if !lost.is_empty() {
        fails("network", format!("no longer up with a cable and its address: {}", lost.join(", ")));
    }
    if !now.libvirt {
        fails("libvirt", "it does not answer".into());
    } else if before.kvm && !now.kvm {
        fails("libvirt", "/dev/kvm cannot be used".into());
    }
    for pool in before.pools.iter().filter(|pool| !now.pools.contains(pool)) {
        fails("pools", format!("pool {pool} cannot be used"));
    }
    // One that is not here is elsewhere, or will come with the API server.
    for vm in &before.vms {
        if let Some(phase) = now.vms.get(vm).filter(|phase| *phase != RUNNING) {
            fails("vms", format!("{vm} is {phase}"));
        }
    }
    if before.cluster && !now.cluster {
        fails("cluster", "the API server is not reached".into());
    }
    failing
}

#[cfg(test)]
mod tests {
    use super::*;

    fn able() -> Parts {
        Parts {
            network: true,
            links: [("br0".to_owned(), true), ("br1".to_owned(), true), ("bond0".to_owned(), false)].into(),
            libvirt: true,
            kvm: true,
            cluster: true,
            pools: vec!["default".into()],
            vms: [("default/web".to_owned(), RUNNING.to_owned())].into(),
            ..Parts::default()
        }
    }

    #[test]
    fn each_part_that_is_worse_than_before_is_named() {
        let before = able().before();
        assert_eq!(judge(&able(), &before), []);
        let broken = Parts {
            agent: vec!["controller vms hangs".into()],
            problem: Some("node.toml:3: wrong".into()),
            vms: [("default/web".to_owned(), "Failed".to_owned())].into(),
            ..Parts::default()
        };
        assert_eq!(
            listed(&judge(&broken, &before)),
            "agent: controller vms hangs; config: node.toml:3: wrong; network: the node has no address; \
             libvirt: it does not answer; pools: pool default cannot be used; vms: default/web is Failed; \
             cluster: the API server is not reached"
        );
        let without_kvm = Parts { kvm: false, ..able() };
        assert_eq!(listed(&judge(&without_kvm, &before)), "libvirt: /dev/kvm cannot be used");
    }

    #[test]
    fn a_link_that_worked_and_has_lost_its_cable_fails_though_its_fixed_address_is_still_there() {
        let links = [("br0".to_owned(), false), ("br1".to_owned(), true), ("bond0".to_owned(), false)].into();
        let unplugged = Parts { links, ..able() };
        assert_eq!(
            listed(&judge(&unplugged, &able().before())),
            "network: no longer up with a cable and its address: br0"
        );
        let withdrawn = Parts { links: [("br1".to_owned(), true)].into(), ..able() };
        assert_eq!(judge(&withdrawn, &able().before()), []);
    }

    #[test]
    fn what_was_lost_before_the_update_is_no_reason_to_roll_back() {
        let lost = Parts { libvirt: true, problem: Some("no state".into()), ..Parts::default() };
        assert_eq!(judge(&lost, &lost.before()), []);
    }

    #[test]
    fn a_vm_that_was_started_on_another_node_meanwhile_is_not_waited_for() {
        let moved = Parts { vms: BTreeMap::new(), ..able() };
        assert_eq!(judge(&moved, &able().before()), []);
    }

    #[test]
    fn a_node_whose_state_is_lost_passes_only_without_a_problem() {
        let lost = Parts { problem: Some("state partition: cannot be mounted".into()), ..able() };
        assert_eq!(listed(&judge(&lost, &Before::default())), "config: state partition: cannot be mounted");
    }
}
