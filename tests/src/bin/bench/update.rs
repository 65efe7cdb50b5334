//! What an update costs: bytes that are fetched, seconds, the agent's memory, and what a VM on the node notices.
//!
//! Why here: a release is staged while VMs run, so its price is theirs. The next release differs in its version only: the least
//! that an update can be. Route in: that release on a server, a VM whose fio writes all the time. Route out: bytes and seconds by
//! step, fio's rounds before and while it is staged, and how long the VM was away.

use crate::Report;
use crate::kit::{Kit, MOUNT, RUN};
use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use sheaf_host::wait::until;
use sheaf_tests::harness::{Case, Cluster, NEXT, READY, Server, node_update, wait_update};
use std::time::{Duration, Instant};

/// A slot of 500 MB written and read twice under emulation; restart, boot, 90 s of health.
const STEP: Duration = Duration::from_secs(1800);
/// Rounds of fio that count before the update begins.
const ROUNDS: usize = 5;
/// Seconds in which the node is found healthy under emulation.
const PATIENT: u32 = 1800;

/// fio's IOPS of one round after the other, on a scratch disk.
const GUEST: &str = "device=$(dirname $(grep -l SCRATCH /sys/block/vd*/serial))
round=0
while :; do
    round=$((round + 1))
    iops=$(RUN fio --minimal --name=w --filename=/dev/${device##*/} --size=64M --direct=1 --ioengine=libaio --time_based --runtime=10 \
        --rw=randwrite --bs=4k --iodepth=4 | awk -F';' '$1 == 3 {print $49}')
    echo \"fio round=$round iops=$iops\"
done
";

impl Report {
    /// The section of this file.
    pub fn update(&mut self, case: &Case) -> Result<()> {
        let release = case.next_release()?;
        let manifest: Value = serde_json::from_slice(&std::fs::read(release.join("manifest.json"))?)?;
        let all: u64 =
            ["root", "verity", "node_uki"].iter().filter_map(|name| manifest[name]["size"].as_u64()).sum();
        let kit = Kit::get(case)?;
        let mut cluster = case.cluster()?;
        kit.offer(&cluster, "kit")?;
        cluster.machine.goes_on_after_reboots()?;
        cluster.start_vm(&vm(), "bench")?;
        let before = rounds(&cluster, ROUNDS)?;

        let server = Server::folder(&release)?;
        let start = Instant::now();
        cluster.operator.wait_apply(&node_update(NEXT, &server.url(), "Stage", PATIENT), READY)?;
        wait_update(&cluster.operator, "Staged", STEP)?;
        let staged = start.elapsed();
        let during: Vec<f64> = rounds(&cluster, before.len() + 1)?.split_off(before.len());
        let most = cluster.root(
            "awk '/^VmHWM/ {print $2}' /proc/$(systemctl show --property MainPID --value sheaf-agent)/status",
        )?;
        let fetched = server.sent();

        let start = Instant::now();
        cluster.operator.wait_apply(&node_update(NEXT, &server.url(), "Apply", PATIENT), READY)?;
        let gone = until(STEP, Duration::from_secs(1), || {
            cluster
                .root("virsh --connect qemu:///system list --name")
                .map_or(Some(()), |list| list.trim().is_empty().then_some(()))
        });
        gone.context("the VM is never stopped")?;
        let stopped = Instant::now();
        cluster.console_line("bench", "guest: up")?;
        let away = stopped.elapsed();
        wait_update(&cluster.operator, "Updated", STEP)?;
        let kept = start.elapsed();

        self.head(
            "An update of a node, to a release that differs in its version",
            "NodeUpdate with action Stage, then Apply; in the VM: fio --rw=randwrite --bs=4k --iodepth=4 --direct=1 --runtime=10, again and again",
            "what | figure",
        );
        let megabytes = |bytes: u64| format!("{:.1}", bytes as f64 / 1e6);
        self.row(&["release: root, hash tree and UKI, MB", &megabytes(all)]);
        self.row(&["fetched, MB", &megabytes(fetched)]);
        self.row(&["fetched ÷ release", &format!("{:.2}", fetched as f64 / all as f64)]);
        self.row(&["request until Staged, s", &format!("{:.0}", staged.as_secs_f64())]);
        let most: f64 = most.trim().parse().context("VmHWM")?;
        self.row(&[
            "the most memory that the agent had until then, MiB (bar: 64)",
            &format!("{:.1}", most / 1024.0),
        ]);
        let (before, during) = (median(before), median(during));
        self.row(&["VM, 4k random write before, IOPS", &format!("{before:.0}")]);
        self.row(&["while it is staged, IOPS", &format!("{during:.0}")]);
        self.row(&["÷ before (bar: 0.9)", &format!("{:.2}", during / before)]);
        self.row(&[
            "VM away: from its end to the guest's first line, s",
            &format!("{:.0}", away.as_secs_f64()),
        ]);
        self.row(&[
            "request until Updated, 90 s of health included, s",
            &format!("{:.0}", kept.as_secs_f64()),
        ]);
        self.line("\nOf two cores the machine has both, its control plane and its VM included; all of it is emulated.");
        ensure!(during > 0.0, "the VM wrote nothing while the release was staged");
        Ok(())
    }
}

fn vm() -> String {
    let user_data = format!("#!/bin/sh\n# hostname: bench\n{MOUNT}\n{}", GUEST.replace("RUN", RUN));
    json!({
        "apiVersion": "kubevirt.io/v1", "kind": "VirtualMachine", "metadata": {"name": "bench"},
        "spec": {"runStrategy": "Always", "template": {"spec": {
            "terminationGracePeriodSeconds": 30,
            "domain": {"memory": {"guest": "256Mi"}, "devices": {"disks": [
                {"name": "system", "bootOrder": 1, "disk": {"bus": "virtio"}},
                {"name": "kit", "disk": {"bus": "virtio"}},
                {"name": "data", "serial": "SCRATCH", "disk": {"bus": "virtio"}},
                {"name": "seed", "disk": {"bus": "virtio"}},
            ]}},
            "volumes": [
                {"name": "system", "hostDisk": {"path": "/data/images/guest.raw", "type": "Disk"}},
                {"name": "kit", "dataVolume": {"name": "kit"}},
                {"name": "data", "emptyDisk": {"capacity": "128Mi"}},
                {"name": "seed", "cloudInitNoCloud": {"userData": user_data}},
            ],
        }}},
    })
    .to_string()
}

/// IOPS of all rounds so far, once there are `count` of them.
fn rounds(cluster: &Cluster, count: usize) -> Result<Vec<f64>> {
    cluster.console_line("bench", &format!("guest: fio round={count} "))?;
    let said = cluster.root("cat /data/vms/*/console.log | grep -a 'guest: fio round='")?;
    let number = |line: &str| line.split_once("iops=")?.1.trim().parse().ok();
    Ok(said.lines().filter_map(number).collect())
}

fn median(mut numbers: Vec<f64>) -> f64 {
    numbers.sort_by(f64::total_cmp);
    numbers.get(numbers.len() / 2).copied().unwrap_or_default()
}
