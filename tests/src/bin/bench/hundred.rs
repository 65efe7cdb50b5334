//! The agent with 100 VMs that run on real libvirt and QEMU, emulated: its memory, and what it computes while nothing happens.
//!
//! Why here: `many` asks the same of a whole node, but has only as many VMs as an emulated machine takes. Guests halt after their
//! greeting. Route in: the agent as it is in a release, in a network namespace. Route out: MiB, percent of a processor.

use crate::{Report, mebibytes, process};
use anyhow::{Context as _, Result, ensure};
use kube::api::ListParams;
use serde_json::{Value, json};
use sheaf_host::run::{Command, Run as _, System};
use sheaf_tests::harness::Case;
use sheaf_tests::lab::Lab;
use std::path::PathBuf;
use std::time::{Duration, Instant};

const VMS: usize = 100;
/// Longest wait for all: a hundred starts of QEMU, emulated.
const ALL: Duration = Duration::from_secs(2400);
/// Between two looks.
const LOOK: Duration = Duration::from_secs(2);
/// How long the idle agent is watched.
const WINDOW: Duration = Duration::from_secs(60);

impl Report {
    /// The section of this file.
    pub fn hundred(&mut self, case: &Case) -> Result<()> {
        self.head(
            &format!("The agent with {VMS} VMs"),
            "VmRSS of /proc/PID/status; utime + stime of /proc/PID/stat over 60 s. VMs of 64 MiB without a NIC, QEMU emulated",
            "what | value",
        );
        let build = Command::new("cargo").dir(case.root());
        System.run(&build.args(["build", "--release", "--quiet", "-p", "sheaf-agent"]))?;
        let program = case.root().join("target/release/sheaf-agent");
        let measured = tokio::runtime::Runtime::new()?.block_on(measure(program))?;
        self.row(&["RSS, no VM, MiB", &mebibytes(&measured.empty)]);
        self.row(&[&format!("RSS, {VMS} VMs, MiB (bar: 40)"), &mebibytes(&measured.full)]);
        self.row(&["processor while idle, no VM, %", &format!("{:.2}", measured.idle_empty)]);
        self.row(&[&format!("processor while idle, {VMS} VMs, %"), &format!("{:.2}", measured.idle_full)]);
        self.row(&["seconds until all run", &format!("{:.0}", measured.seconds)]);
        Ok(())
    }
}

struct Measured {
    empty: String,
    full: String,
    idle_empty: f64,
    idle_full: f64,
    seconds: f64,
}

async fn measure(program: PathBuf) -> Result<Measured> {
    let lab = Lab::with(program).await?;
    let pid = lab.agent().context("the agent runs")?;
    let idle_empty = busy(pid).await?;
    let empty = rss(pid)?;
    let begin = Instant::now();
    for number in 0..VMS {
        let uid = format!("0b0e6d2c-6a4e-4c9f-9a53-{number:012}");
        lab.place_with(&format!("vm{number}"), &uid, vm(), "10m").await?;
    }
    let ready = |pod: &&k8s_openapi::api::core::v1::Pod| {
        let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_ref());
        conditions.into_iter().flatten().any(|one| one.type_ == "Ready" && one.status == "True")
    };
    loop {
        let pods = lab.pods().list(&ListParams::default()).await?.items;
        let count = pods.iter().filter(ready).count();
        if count == VMS {
            break;
        }
        ensure!(begin.elapsed() < ALL, "{count} of {VMS} VMs run after {ALL:?}");
        tokio::time::sleep(LOOK).await;
    }
    let seconds = begin.elapsed().as_secs_f64();
    // What still follows from the last start is not rest.
    busy(pid).await?;
    let idle_full = busy(pid).await?;
    Ok(Measured { empty, full: rss(pid)?, idle_empty, idle_full, seconds })
}

/// VmRSS in KiB.
fn rss(pid: u32) -> Result<String> {
    Ok(process::memory(pid)?.all.to_string())
}

/// Percent of a processor that the process uses over [`WINDOW`].
async fn busy(pid: u32) -> Result<f64> {
    let (begin, before) = (Instant::now(), process::processor(pid)?);
    tokio::time::sleep(WINDOW).await; // what is measured
    Ok((process::processor(pid)? - before) / begin.elapsed().as_secs_f64() * 100.0)
}

fn vm() -> Value {
    json!({"domain": {"memory": {"guest": "64Mi"}, "devices": {"autoattachPodInterface": false,
            "disks": [{"name": "root", "disk": {"bus": "virtio"}}]}},
        "volumes": [{"name": "root", "hostDisk": {"path": "/data/images/tiny.raw", "type": "Disk"}}]})
}
