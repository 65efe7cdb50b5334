//! The agent's memory on a node with many disks and volumes.
//!
//! Route in: small disks that are plugged into the first node, objects of volumes on its own pool. Route out: MiB.

use crate::{AGENT_RSS, Report, mebibytes};
use anyhow::Result;
use serde_json::{Value, json};
use sheaf_machine::Disk;
use sheaf_tests::harness::{Case, READY};
use std::time::{Duration, Instant};

const DISKS: usize = 24;
const DISK: u64 = 64 << 20;
const VOLUMES: usize = 100;
const VOLUME: u64 = 16 << 20;
/// A new disk is looked at by udev, the agent and smartctl; emulated, one after the other.
const SEEN: Duration = Duration::from_secs(300);
/// Some steps of LVM for each volume, seconds each.
const MADE: Duration = Duration::from_secs(1800);
/// The most that the agent ever had.
const AGENT_PEAK: &str =
    "awk '/^VmHWM/ {print $2}' /proc/$(systemctl show --property MainPID --value sheaf-agent)/status";

impl Report {
    /// The section of this file.
    pub fn agent(&mut self, case: &Case) -> Result<()> {
        self.head(
            &format!("Agent with {DISKS} disks and {VOLUMES} volumes"),
            "VmRSS and VmHWM of /proc/$(systemctl show --property MainPID --value sheaf-agent)/status",
            "what | MiB",
        );
        let mut cluster = crate::volumes::with_pool(case)?;
        self.row(&["agent RSS, idle", &mebibytes(&cluster.root(AGENT_RSS)?)]);

        for number in 0..DISKS {
            let (serial, file) =
                (format!("BENCH{number:02}"), case.work().join(format!("disk-{number}.raw")));
            std::fs::File::create(&file)?.set_len(DISK)?;
            cluster.machine.plug(&Disk::raw(file, &serial), None)?;
        }
        cluster.operator.wait("the disks' objects", &["blockdevices"], SEEN, |list| {
            let is_ours = |disk: &&Value| {
                let serial = disk["spec"]["identity"]["serial"].as_str().unwrap_or_default();
                serial.starts_with("BENCH") && disk["status"]["state"] == "Active"
            };
            (list["items"].as_array()?.iter().filter(is_ours).count() == DISKS).then_some(())
        })?;
        self.row(&[&format!("agent RSS, {DISKS} disks more"), &mebibytes(&cluster.root(AGENT_RSS)?)]);

        let start = Instant::now();
        let volumes: Vec<Value> = (0..VOLUMES).map(volume).collect();
        let list = json!({"apiVersion": "v1", "kind": "List", "items": volumes});
        cluster.operator.wait_apply(&list.to_string(), READY)?;
        cluster.operator.wait("volumes that are all Ready", &["localvolumes"], MADE, |list| {
            let is_ready = |volume: &&Value| volume["status"]["phase"] == "Ready";
            (list["items"].as_array()?.iter().filter(is_ready).count() == VOLUMES).then_some(())
        })?;
        let took = start.elapsed().as_secs();
        let what = format!("agent RSS, {DISKS} disks more and {VOLUMES} volumes (bar: 45)");
        self.row(&[&what, &mebibytes(&cluster.root(AGENT_RSS)?)]);
        self.row(&["the most it ever had on the way", &mebibytes(&cluster.root(AGENT_PEAK)?)]);
        self.line(&format!("\nThe {VOLUMES} volumes, asked for at once, were Ready after {took} s."));
        Ok(())
    }
}

fn volume(number: usize) -> Value {
    json!({
        "apiVersion": "sheaf.dev/v1alpha1", "kind": "LocalVolume", "metadata": {"name": format!("many-{number}")},
        "spec": {"nodeName": "node1", "pool": "default", "sizeBytes": VOLUME, "source": {"blank": {}}},
    })
}
