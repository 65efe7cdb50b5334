//! What a VM's network costs: iperf3 between two VMs, each on a node of its own, beside iperf3 between these nodes.
//!
//! Why here: both go over the nodes' br0 and the same emulated NICs and switch. Route in: the first node, a second one
//! that is installed and joins for it, the kit on both. Route out: Mbit/s, and the quotient.

use crate::Report;
use crate::kit::{Kit, MOUNT, RUN};
use anyhow::{Context as _, Result};
use serde_json::json;
use sheaf_machine::{Machine, lab};
use sheaf_tests::harness::{Case, Cluster, READY, RUNNING};
use std::time::Duration;

/// Runs of each kind; odd, for the median.
const ROUNDS: usize = 3;
const TAKES: Duration = Duration::from_secs(60);
/// The shell of a node that joins comes with libvirt-dbus, which its agent calls.
const SHELL: Duration = Duration::from_secs(120);
const ADDRESS: &str = "192.168.77.1";
const CLIENT: &str = "iperf3 --client SERVER --time 8 --omit 2 --format m";
/// Mbit/s that arrived.
const PICK: &str =
    "awk '/receiver/ {for (i = 2; i <= NF; i++) if ($i == \"Mbits/sec\") print \"iperf3\", $(i - 1)}'";

impl Report {
    /// The section of this file.
    pub fn network(&mut self, case: &Case) -> Result<()> {
        let kit = Kit::get(case)?;
        let mut cluster = case.cluster()?;
        let mut second = second_node(case, &cluster)?;
        kit.plug(case, &mut cluster.machine)?;
        kit.plug(case, &mut second)?;
        self.head(
            "iperf3 between two VMs on two nodes beside iperf3 between the nodes",
            &format!("iperf3 --server; {CLIENT}"),
            &format!("between | Mbit/s, median of {ROUNDS} | ÷ nodes"),
        );
        second.shell().run(&format!("{RUN} iperf3 --server --daemon"), TAKES)?;
        let nodes = between_nodes(&cluster)?;
        let vms = between_vms(&kit, &cluster)?;
        self.row(&["two nodes", &format!("{nodes:.0}"), "1.00"]);
        self.row(&["two VMs, each on one of them", &format!("{vms:.0}"), &format!("{:.2}", vms / nodes)]);
        Ok(())
    }
}

/// node2, with what its VMs need, and a shell that answers.
fn second_node(case: &Case, cluster: &Cluster) -> Result<Machine> {
    let second = case.second_node(cluster)?;
    let label = format!("image.sheaf.dev/{}", sheaf_tests::harness::IMAGE);
    cluster.operator.wait("image's label on node2", &["node", "node2"], READY, |object| {
        object["metadata"]["labels"][&label].as_str().map(drop)
    })?;
    cluster.operator.wait("ready pool", &["storagepool", "default.node2"], READY, |pool| {
        (pool["status"]["phase"] == "Ready").then_some(())
    })?;
    let answer = sheaf_host::wait::until(SHELL, Duration::from_secs(2), || {
        second.shell().run("true", Duration::from_secs(5)).ok()
    });
    answer.with_context(|| format!("node2's shell does not answer within {} s", SHELL.as_secs()))?;
    Ok(second)
}

fn between_nodes(cluster: &Cluster) -> Result<f64> {
    let client = CLIENT.replace("SERVER", &lab::Node::second("", lab::TOKEN).address.to_string());
    let mut said = String::new();
    for _ in 0..ROUNDS {
        said += &(cluster.machine.shell().run(&format!("{RUN} {client} | {PICK}"), TAKES)? + "\n");
    }
    middle(&said)
}

/// The server's VM runs on node2; the client's on node1, where its console is read.
fn between_vms(kit: &Kit, cluster: &Cluster) -> Result<f64> {
    let network = format!("#!/bin/sh\n{MOUNT}\nip addr add ADDRESS/24 dev eth0\n");
    let server = network.replace("ADDRESS", ADDRESS) + &format!("{RUN} iperf3 --server\n");
    let client = CLIENT.replace("SERVER", ADDRESS);
    let rounds: String = (0..ROUNDS).map(|_| format!("{RUN} {client} 2>&1 | {PICK}\n")).collect();
    let client = network.replace("ADDRESS", "192.168.77.2")
        + &format!("until {RUN} {client} --time 1 >/dev/null; do sleep 1; done\n{rounds}echo rounds done\n");
    for (name, node, script) in [("server", "node2", server), ("client", "node1", client)] {
        kit.offer(cluster, &format!("kit-{name}"))?;
        cluster.operator.wait_apply(&vm(name, node, &script), READY)?;
    }
    cluster.operator.wait_vm_running("server", RUNNING)?;
    let vmi = cluster.operator.wait_vm_running("client", RUNNING)?;
    cluster.console_line("client", "guest: rounds done")?;
    let uid = vmi["metadata"]["uid"].as_str().context("a VirtualMachineInstance without a uid")?;
    middle(&cluster.root(&format!("grep -a 'guest: iperf3 ' /data/vms/{uid}/console.log"))?)
}

fn vm(name: &str, node: &str, script: &str) -> String {
    json!({
        "apiVersion": "kubevirt.io/v1", "kind": "VirtualMachine", "metadata": {"name": name},
        "spec": {"runStrategy": "Always", "template": {"spec": {
            "nodeSelector": {"kubernetes.io/hostname": node},
            "domain": {"memory": {"guest": "256Mi"}, "devices": {
                "disks": [
                    {"name": "system", "bootOrder": 1, "disk": {"bus": "virtio"}},
                    {"name": "kit", "disk": {"bus": "virtio"}},
                    {"name": "seed", "disk": {"bus": "virtio"}},
                ],
                "interfaces": [{"name": "lan", "bridge": {}}],
            }},
            "networks": [{"name": "lan", "pod": {}}],
            "volumes": [
                {"name": "system", "hostDisk": {"path": "/data/images/guest.raw", "type": "Disk"}},
                {"name": "kit", "dataVolume": {"name": format!("kit-{name}")}},
                {"name": "seed", "cloudInitNoCloud": {"userData": script}},
            ],
        }}},
    })
    .to_string()
}

/// The median of what iperf3 said.
fn middle(said: &str) -> Result<f64> {
    let of_line = |line: &str| line.split_once("iperf3 ")?.1.trim().parse::<f64>().ok();
    let numbers: Vec<f64> = said.lines().filter_map(of_line).collect();
    anyhow::ensure!(numbers.len() == ROUNDS, "{ROUNDS} results of iperf3 are wanted, it said {said:?}");
    Ok(crate::median(numbers))
}
