//! Many nodes in one process, on a real control plane: every one joins, keeps its lease, and runs VMs on fakes of its machine.
//!
//! Why here: what a node costs the API server is known only when there are a thousand of them, and machines in QEMU are two at
//! most. A node is the agent's own controllers ([`node`]), so it makes the requests of an agent, and no others. Route in: a
//! [`Cluster`]. Route out: nodes that are Ready, and how long each took; dropped, all of them end as after `kill -9`. Processes
//! of such nodes ([`process`]) are started by `bench`, for a process may not open as many files as a thousand nodes need.

pub mod machine;
pub mod node;
pub mod process;

use anyhow::{Context as _, Result, bail, ensure};
use futures::StreamExt as _;
use machine::Machine;
use node::{Shared, SimulatedNode};
use std::ops::Range;
use std::time::Duration;
use tokio::runtime::Runtime;

/// Nodes that join at a time. An operator switches on a rack, not a hall; and requests for certificates are decided one after
/// the other.
const JOINING: usize = 20;
/// Threads that run controllers. An agent has one for itself; these share the machine with the control plane.
const WORKERS: usize = 2;
/// Threads for what blocks: files and fakes, which answer at once.
const BLOCKING: usize = 8;
/// Open files of a node: eleven connections, of which each is three (client, and both ends of the agent's forwarder), the
/// forwarder's port and two sockets.
const FILES_PER_NODE: u64 = 38;
/// Open files of the process itself.
const OWN_FILES: u64 = 200;

/// The cluster to join.
#[derive(Clone)]
pub struct Cluster {
    /// `https://HOST:6443`.
    pub server: String,
    /// `sha256:…` of its CA.
    pub ca_hash: String,
    /// Makes the nodes' tokens.
    pub admin: kube::Client,
}

/// The nodes of this process.
pub struct Fleet {
    nodes: Vec<SimulatedNode>,
    shared: Shared,
    /// All nodes are on it, so that their end is that of a process.
    runtime: Option<Runtime>,
}

impl Drop for Fleet {
    fn drop(&mut self) {
        self.nodes.clear();
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl Fleet {
    /// One without nodes; each will be on a machine with one empty disk.
    pub fn new() -> Result<Self> {
        Self::on(Machine::default())
    }

    /// One without nodes; each will be on a machine like this.
    pub fn on(machine: Machine) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(WORKERS)
            .max_blocking_threads(BLOCKING)
            .thread_name("fleet")
            .enable_all()
            .build()?;
        Ok(Self { nodes: Vec::new(), shared: Shared::of(machine), runtime: Some(runtime) })
    }

    /// Starts the nodes of these numbers, some at a time, and waits until every one is Ready; `joined` is called for each, with
    /// its name and the time from its agent's start.
    pub async fn join(
        &mut self,
        cluster: &Cluster,
        numbers: Range<u32>,
        mut joined: impl FnMut(&str, Duration),
    ) -> Result<()> {
        let all = self.nodes.len() + numbers.len();
        fits(all, most_files()?)?;
        let runtime = self.runtime.as_ref().context("the fleet runs")?.handle().clone();
        let start = |number| {
            let (cluster, shared) = (cluster.clone(), self.shared.clone());
            runtime.spawn(async move {
                let node = SimulatedNode::start(&cluster, number, &shared).await?;
                let took = node.ready().await?;
                anyhow::Ok((node, took))
            })
        };
        let mut starts = futures::stream::iter(numbers).map(start).buffer_unordered(JOINING);
        while let Some(started) = starts.next().await {
            let (node, took) = started??;
            joined(&node.name, took);
            self.nodes.push(node);
        }
        Ok(())
    }

    /// The nodes that run.
    pub fn nodes(&self) -> &[SimulatedNode] {
        &self.nodes
    }

    /// Ends the agent of node `name` as `kill -9` does; its domains are gone with it.
    pub fn kill(&mut self, name: &str) {
        self.nodes.retain(|node| node.name != name);
    }

    /// Fails if a controller of a node has ended: none does while its agent runs.
    pub fn check(&mut self) -> Result<()> {
        self.nodes.iter_mut().try_for_each(SimulatedNode::check)
    }
}

/// Most nodes of a process that may have `files` open.
pub fn most_nodes(files: u64) -> u32 {
    u32::try_from(files.saturating_sub(OWN_FILES) / FILES_PER_NODE).unwrap_or(u32::MAX)
}

/// Refuses more nodes than a process that may have `files` open can have: it would fail in the middle.
fn fits(nodes: usize, files: u64) -> Result<()> {
    let most = most_nodes(files);
    ensure!(
        nodes <= most as usize,
        "{nodes} nodes in one process: it may have {files} files open (`ulimit -n`), which is enough for {most}; raise the limit, \
         or start more processes"
    );
    Ok(())
}

/// Files that this process may have open.
pub fn most_files() -> Result<u64> {
    let path = "/proc/self/limits";
    open_files(&std::fs::read_to_string(path).context(path)?).context(path)
}

/// The soft limit of open files in `/proc/PID/limits` (proc_pid_limits(5)).
fn open_files(limits: &str) -> Result<u64> {
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"));
    let Some(soft) = line.and_then(|line| line.split_whitespace().next()) else {
        bail!("no line \"Max open files\"");
    };
    Ok(if soft == "unlimited" { u64::MAX } else { soft.parse()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_nodes_than_the_process_may_have_files_for_are_refused_before_any_starts() {
        fits(521, 20_000).unwrap();
        assert_eq!(
            fits(522, 20_000).unwrap_err().to_string(),
            "522 nodes in one process: it may have 20000 files open (`ulimit -n`), which is enough for 521; raise the limit, or \
             start more processes"
        );
        assert_eq!(most_nodes(100), 0);
        assert_eq!(most_nodes(u64::MAX), u32::MAX);
    }

    #[test]
    fn the_limit_of_open_files_is_the_soft_one() {
        let limits = "Limit                     Soft Limit           Hard Limit           Units     \n\
                      Max processes             95977                95977                processes \n\
                      Max open files            1024                 524288               files     \n";
        assert_eq!(open_files(limits).unwrap(), 1024);
        assert_eq!(open_files("Max open files unlimited unlimited files").unwrap(), u64::MAX);
        assert_eq!(open_files("").unwrap_err().to_string(), "no line \"Max open files\"");
    }
}
