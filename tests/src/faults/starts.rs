//! Whether a VM ran twice.
//!
//! Why here: what counts is what nodes started, not what objects say. A VM may run as often as it was asked to, and in one place at a
//! time. Pure. Route in: requests to start VMs, and the domains of nodes. Route out: the VM that ran twice.

use std::collections::BTreeMap;

/// A node as its libvirt has it.
#[derive(Clone, Debug, Default)]
pub struct Node {
    /// Its name.
    pub name: String,
    /// Names of the domains that run now.
    pub running: Vec<String>,
    /// Names of the domains that were started, one for each start.
    pub started: Vec<String>,
}

/// How often VMs were asked to start.
#[derive(Default)]
pub struct Starts {
    asked: BTreeMap<String, usize>,
    most: usize,
}

impl Starts {
    /// The VM with this domain is about to be asked to start. Said before the request: one without an answer may be obeyed.
    pub fn ask(&mut self, domain: &str) {
        *self.asked.entry(domain.to_owned()).or_default() += 1;
    }

    /// Starts that nodes had made at the last look.
    pub fn count(&self) -> usize {
        self.most
    }

    /// What is wrong on these nodes, all of the cluster's.
    pub fn judge(&mut self, nodes: &[Node]) -> Option<String> {
        let mut seen: BTreeMap<&str, &str> = BTreeMap::new();
        for node in nodes {
            for domain in &node.running {
                if let Some(other) = seen.insert(domain, &node.name) {
                    return Some(format!("{domain} runs on {other} and on {}", node.name));
                }
            }
        }
        let mut started: BTreeMap<&str, usize> = BTreeMap::new();
        for domain in nodes.iter().flat_map(|node| &node.started) {
            *started.entry(domain).or_default() += 1;
        }
        self.most = started.values().sum();
        started.into_iter().find_map(|(domain, count)| {
            let asked = self.asked.get(domain).copied().unwrap_or_default();
            (count > asked).then(|| format!("{domain} was started {count} times; it was asked for {asked}"))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(name: &str, running: &[&str], started: &[&str]) -> Node {
        let all = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        Node { name: name.into(), running: all(running), started: all(started) }
    }

    #[test]
    fn a_vm_that_runs_on_two_nodes_is_found() {
        let mut starts = Starts::default();
        starts.ask("default_vm");
        starts.ask("default_vm");
        let nodes = [node("n1", &["default_vm"], &["default_vm"]), node("n2", &[], &[])];
        assert_eq!(starts.judge(&nodes), None);
        let nodes =
            [node("n1", &["default_vm"], &["default_vm"]), node("n2", &["default_vm"], &["default_vm"])];
        assert_eq!(starts.judge(&nodes).unwrap(), "default_vm runs on n1 and on n2");
    }

    #[test]
    fn a_vm_that_is_started_more_often_than_asked_is_found_and_one_that_is_asked_again_is_not() {
        let mut starts = Starts::default();
        starts.ask("default_vm");
        let nodes = [node("n1", &[], &["default_vm"]), node("n2", &["default_vm"], &["default_vm"])];
        assert_eq!(starts.judge(&nodes).unwrap(), "default_vm was started 2 times; it was asked for 1");
        starts.ask("default_vm");
        assert_eq!(starts.judge(&nodes), None);
        assert_eq!(starts.count(), 2);
        let nodes = [node("n1", &["default_other"], &["default_other"])];
        assert_eq!(starts.judge(&nodes).unwrap(), "default_other was started 1 times; it was asked for 0");
    }
}
