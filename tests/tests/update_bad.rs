//! Updates to releases with a fault, on a machine: each ends with the former release, healthy, and with the reason in the cluster.
//!
//! Why whole machines: who notices is the kernel, the hardware's watchdog, the boot loader or the health gate. The release is the
//! one under test with one more unit, which runs `/state/fault` (see [`Case::faulty_release`]). `update.rs` has a damaged root and
//! a release that lacks a pool.

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use sheaf_machine::node::BOOT_DEADLINE;
use sheaf_tests::harness::{Case, Cluster, NEXT, READY, Server, case, node_update, wait_update};
use std::time::Duration;

/// A slot of 500 MB written and read twice under emulation.
const STAGED: Duration = Duration::from_secs(900);
/// Three boots that end early or are not healthy in time, and the boot of the former release.
const ROLLED_BACK: Duration = Duration::from_secs(2400);
/// Seconds for a release that is never healthy.
const SHORT: u32 = 60;
/// Seconds in which a healthy one is found healthy under emulation.
const PATIENT: u32 = 1800;

/// A node of a cluster, and the faulty release on a web server.
struct Ground {
    cluster: Cluster,
    server: Server,
    first: String,
}

fn ground(case: &Case, fault: &str) -> Result<Ground> {
    let server = Server::folder(&case.faulty_release()?)?;
    let manifest: Value = serde_json::from_slice(&case.built()?.manifest()?)?;
    let first = manifest["version"].as_str().context("a manifest without a version")?.to_owned();
    let mut cluster = case.cluster()?;
    cluster.machine.goes_on_after_reboots()?;
    cluster.root(&format!("cat >/state/fault <<'END'\n{fault}\nEND\nsync"))?;
    Ok(Ground { cluster, server, first })
}

/// Updates to the release with `fault`; what is said when the former one runs again, which is healthy then,
/// and what the machine wrote on its serial line.
fn rolled_back(
    case: &Case,
    fault: &str,
    prepare: impl FnOnce(&mut Cluster) -> Result<()>,
) -> Result<(String, String)> {
    let Ground { mut cluster, server, first } = ground(case, fault)?;
    prepare(&mut cluster)?;
    cluster.operator.wait_apply(&node_update(NEXT, &server.url(), "Apply", SHORT), READY)?;
    let status = wait_update(&cluster.operator, "RolledBack", STAGED + ROLLED_BACK)?;
    ensure!(status["running"]["slot"] == "a" && status["running"]["version"] == first, "{status:#}");
    cluster.operator.wait_node_ready("node1", READY)?;
    let message = status["message"].as_str().map(str::to_owned).context("no reason")?;
    let serial = std::fs::read(cluster.machine.folder().join("serial.log"))?;
    Ok((message, String::from_utf8_lossy(&serial).into_owned()))
}

#[test]
fn a_release_whose_kernel_panics_is_rolled_back() {
    case("update-panics", |case| {
        let (message, _) = rolled_back(case, "echo c >/proc/sysrq-trigger", |_| Ok(()))?;
        ensure!(message.contains("its agent never reported"), "{message}");
        Ok(())
    });
}

#[test]
fn a_release_that_hangs_is_reset_by_the_watchdog_and_rolled_back() {
    // The first process is frozen: it starts nothing any more, and feeds no watchdog. Loops of real-time priority are no hang: the
    // kernel keeps 5 % of the time for the others, and what would take it away is locked down.
    let hang = "echo 1 >/sys/fs/cgroup/init.scope/cgroup.freeze";
    case("update-hangs", |case| {
        let (message, serial) =
            rolled_back(case, hang, |cluster| Ok(cluster.machine.obeys_its_watchdog()?))?;
        ensure!(message.contains("its agent never reported"), "{message}");
        ensure!(!serial.contains("nothing has judged it"), "systemd ran: this was no hang");
        Ok(())
    });
}

#[test]
fn a_release_that_loses_the_network_is_rolled_back() {
    let down = "while :; do ip link set enp0s5 down; sleep 1; done";
    case("update-network", |case| {
        let (message, _) = rolled_back(case, down, |_| Ok(()))?;
        ensure!(message.contains("network: "), "{message}");
        Ok(())
    });
}

#[test]
fn a_release_that_refuses_node_toml_is_rolled_back() {
    let refused = "echo 'version = 77' >/run/node.toml; mount --bind /run/node.toml /state/node.toml";
    case("update-config", |case| {
        let (message, _) = rolled_back(case, refused, |_| Ok(()))?;
        ensure!(message.contains("config: "), "{message}");
        Ok(())
    });
}

/// Fills the EFI system partition up, or removes what fills it.
fn boot_partition(cluster: &Cluster, command: &str) -> Result<String> {
    let mount =
        ". /run/sheaf/boot.env; mkdir -p /run/full; mount /dev/disk/by-partuuid/${INSTALL_ID%00}02 /run/full";
    Ok(cluster.machine.shell().run(&format!("{mount} && {{ {command}; }}; sync; umount /run/full"), READY)?)
}

#[test]
fn an_update_waits_for_space_on_the_boot_partition_and_goes_on_when_there_is_some() {
    case("update-full", |case| {
        let Ground { cluster, server, .. } = ground(case, "true")?;
        boot_partition(&cluster, "dd if=/dev/zero of=/run/full/full bs=1M 2>/dev/null; df /run/full")?;
        cluster.operator.wait_apply(&node_update(NEXT, &server.url(), "Apply", PATIENT), READY)?;
        let status = wait_update(&cluster.operator, "Failed", STAGED)?;
        let message = status["message"].as_str().unwrap_or_default();
        ensure!(message.contains("the EFI system partition is full: remove files from it"), "{message}");
        ensure!(status["running"]["slot"] == "a", "{status:#}");
        boot_partition(&cluster, "rm /run/full/full")?;
        let status = wait_update(&cluster.operator, "Updated", STAGED + BOOT_DEADLINE + READY)?;
        ensure!(status["running"]["version"] == NEXT, "{status:#}");
        Ok(())
    });
}
