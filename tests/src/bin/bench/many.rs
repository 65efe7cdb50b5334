//! A node's memory with 1, 10 and 50 VMs: what each costs beyond its guest and its QEMU.
//!
//! Why here: agent, libvirt, control plane and kernel hold something for every VM; a pool of machines is sized by it.
//! Route in: the first node, booted with memory for 50 VMs. Route out: MiB.

use crate::{AGENT_RSS, Report, mebibytes};
use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use sheaf_machine::node::BOOT_DEADLINE;
use sheaf_tests::harness::{Case, Cluster, READY};
use std::time::Duration;

/// How many VMs run at each look.
const COUNTS: [usize; 3] = [1, 10, 50];
/// MiB of the node: 50 guests of 64 MiB, about 50 MiB of QEMU each, and what a first node needs.
const NODE_MEMORY: u32 = 12 << 10;
/// Fifty starts, one after the other on two emulated processors.
const START_TIMEOUT: Duration = Duration::from_secs(1500);
/// KiB in use, KiB of all QEMU processes (guests included), how many these are.
const USED: &str = "awk '/^MemTotal/ {t=$2} /^MemAvailable/ {a=$2} END {print t-a}' /proc/meminfo; \
    for p in $(pgrep -f qemu-system); do awk '/^Pss:/ {print $2}' /proc/$p/smaps_rollup; done | \
    awk '{sum+=$1} END {print sum+0; print NR}'";

/// One look at the node, KiB.
struct Look {
    /// All that is in use, without QEMU.
    rest: f64,
    /// QEMU, guests included.
    qemu: f64,
    /// VmRSS of the agent.
    agent: String,
}

impl Report {
    /// The section of this file.
    pub fn many(&mut self, case: &Case) -> Result<()> {
        self.head(
            "Memory of a node by the number of its VMs",
            "MemTotal − MemAvailable of /proc/meminfo without the PSS of the QEMU processes; VMs of 64 MiB without a disk, masquerade",
            "VMs | node without QEMU, MiB | more than without VMs, MiB a VM | QEMU with its guest, MiB a VM | agent RSS, MiB",
        );
        let mut cluster = case.cluster()?;
        cluster.node.spec.memory = NODE_MEMORY;
        cluster.power_cycle()?;
        cluster.boot_id(BOOT_DEADLINE)?;
        cluster.operator.wait_node_ready("node1", BOOT_DEADLINE)?;
        let idle = look(&cluster, 0)?;
        self.row(&["0", &format!("{:.0}", idle.rest / 1024.0), "", "", &mebibytes(&idle.agent)]);
        for count in COUNTS {
            start(&cluster, count)?;
            let now = look(&cluster, count)?;
            let each = |kib: f64| format!("{:.1}", kib / 1024.0 / count as f64);
            self.row(&[
                &count.to_string(),
                &format!("{:.0}", now.rest / 1024.0),
                &each(now.rest - idle.rest),
                &each(now.qemu),
                &mebibytes(&now.agent),
            ]);
        }
        Ok(())
    }
}

/// Brings the number of running VMs to `count`.
fn start(cluster: &Cluster, count: usize) -> Result<()> {
    let items: Vec<Value> = (0..count).map(vm).collect();
    cluster
        .operator
        .wait_apply(&json!({"apiVersion": "v1", "kind": "List", "items": items}).to_string(), READY)?;
    cluster.operator.wait(&format!("{count} VMs that run"), &["vms"], START_TIMEOUT, |list| {
        let runs = |vm: &&Value| vm["status"]["printableStatus"] == "Running";
        (list["items"].as_array()?.iter().filter(runs).count() == count).then_some(())
    })?;
    Ok(())
}

fn look(cluster: &Cluster, count: usize) -> Result<Look> {
    let answer = cluster.root(USED)?;
    let numbers: Vec<f64> = answer.split_whitespace().filter_map(|word| word.parse().ok()).collect();
    let [used, qemu, processes] = numbers[..] else { anyhow::bail!("memory of the node: {answer}") };
    ensure!(processes as usize == count, "{processes} QEMU processes for {count} VMs");
    let agent = cluster.root(AGENT_RSS).context("the agent's memory")?;
    Ok(Look { rest: used - qemu, qemu, agent })
}

fn vm(number: usize) -> Value {
    json!({
        "apiVersion": "kubevirt.io/v1", "kind": "VirtualMachine", "metadata": {"name": format!("many-{number}")},
        "spec": {"runStrategy": "Always", "template": {"spec": {"domain": {
            "cpu": {"cores": 1}, "memory": {"guest": "64Mi"}, "devices": {}, "resources": {"requests": {"cpu": "10m"}},
        }}}},
    })
}
