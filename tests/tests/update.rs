//! A node's release replaced by the next one, kept when the node is as healthy as before, and rolled back when it is not.
//!
//! Why whole machines: two boot loaders, dm-verity and systemd decide together which release starts. The next release is
//! built here from the same content under another version. Node and VM say on their consoles how it went.

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use sheaf_machine::node::BOOT_DEADLINE;
use sheaf_machine::{Firmware, Operator};
use sheaf_tests::harness::{Case, Cluster, NEXT, READY, Server, case, node_update, wait_update};
use std::time::Duration;

/// A slot of 500 MB written and read twice under emulation.
const STAGED: Duration = Duration::from_secs(900);
/// Restart, boot, control plane, 90 s of health.
const KEPT: Duration = Duration::from_secs(1200);
/// Three boots that end in the initrd, and one that does not.
const ROLLED_BACK: Duration = Duration::from_secs(2400);
/// Seconds in which a healthy node is found healthy under emulation, its control plane and its VM included.
const PATIENT: u32 = 1800;
/// Seconds for one that never is.
const SHORT: u32 = 120;

const VM: &str = r"
apiVersion: kubevirt.io/v1
kind: VirtualMachine
metadata: {name: web}
spec:
  runStrategy: Always
  template:
    spec:
      terminationGracePeriodSeconds: 30
      domain:
        memory: {guest: 128Mi}
        devices:
          disks: [{name: system}, {name: seed}]
          interfaces: [{name: out, masquerade: {}}]
      networks: [{name: out, pod: {}}]
      volumes:
        - name: system
          hostDisk: {path: /data/images/guest.raw, type: Disk}
        - name: seed
          cloudInitNoCloud: {userData: '# hostname: web'}
";

/// The slot and version of the release that runs, as the node reports it.
fn running(status: &Value) -> String {
    let of = |name: &str| status["running"][name].as_str().unwrap_or_default().to_owned();
    format!("{} {}", of("slot"), of("version"))
}

/// A VM that runs when the update begins runs when it is over, on another boot of its own.
fn is_kept(cluster: &Cluster, url: &str) -> Result<()> {
    let up = cluster.start_vm(VM, "web")?;
    let boot = cluster.boot_id(READY)?;
    cluster.operator.wait_apply(&node_update(NEXT, url, "Apply", PATIENT), READY)?;
    let status = wait_update(&cluster.operator, "Updated", STAGED + KEPT)?;
    ensure!(
        running(&status) == format!("b {NEXT}") && status["running"]["triesLeft"].is_null(),
        "{status:#}"
    );
    ensure!(status["floor"] == NEXT, "{status:#}");
    ensure!(cluster.boot_id(BOOT_DEADLINE)? != boot, "the machine was not restarted");
    let again = cluster.new_console_line("web", "guest: up", &sheaf_tests::harness::field(&up, "boot-id"))?;
    ensure!(again.contains("guest: up"), "{again}");
    Ok(())
}

/// Back to the release in the other slot, by asking for its version.
fn goes_back(operator: &Operator, first: &str) -> Result<()> {
    let patch = json!({"spec": {"version": first}}).to_string();
    operator.kubectl(&["patch", "nodeupdate", "node1", "--type=merge", "-p", &patch])?;
    let status = wait_update(operator, "Updated", KEPT)?;
    ensure!(running(&status) == format!("a {first}"), "{status:#}");
    operator.kubectl(&["delete", "nodeupdate", "node1"])?;
    Ok(())
}

/// A byte of the staged root changes after it was verified for the last time: the kernel refuses it at each try.
fn damaged_is_rolled_back(cluster: &Cluster, url: &str, first: &str) -> Result<()> {
    cluster.operator.wait_apply(&node_update(NEXT, url, "Stage", PATIENT), READY)?;
    wait_update(&cluster.operator, "Staged", STAGED)?;
    // As Apply ends, but for the slot's last verification.
    cluster.operator.wait_apply(&node_update(NEXT, url, "Apply", PATIENT), READY)?;
    let damage = "until [ -e /state/update/trial.json ]; do sleep 0.2; done
        . /run/sheaf/boot.env; root=/dev/disk/by-partuuid/${INSTALL_ID%00}06
        dd if=/dev/urandom of=$root bs=1M count=64 seek=1 oflag=direct conv=notrunc,fsync 2>/dev/null; echo damaged";
    let said = cluster.machine.shell().run(damage, STAGED)?;
    ensure!(said.contains("damaged"), "{said}");
    let status = wait_update(&cluster.operator, "RolledBack", ROLLED_BACK)?;
    ensure!(running(&status) == format!("a {first}"), "{status:#}");
    let message = status["message"].as_str().unwrap_or_default();
    ensure!(message.contains("its agent never reported"), "{message}");
    cluster.operator.kubectl(&["delete", "nodeupdate", "node1"])?;
    Ok(())
}

/// The next release comes up, and never becomes what its trial demands: a pool is named there that the node never had.
fn never_healthy_is_rolled_back(cluster: &Cluster, url: &str, first: &str) -> Result<()> {
    cluster.operator.wait_apply(&node_update(NEXT, url, "Apply", SHORT), READY)?;
    // The trial of the next release demands a pool that no release makes.
    let pool = "until grep -q '\"pools\": \\[' /state/update/trial.json 2>/dev/null; do sleep 0.2; done
        sed 's/\"pools\": \\[/\"pools\": [ \"no-such-pool\",/; s/,\\s*\\]/]/' /state/update/trial.json >/state/update/new &&
        sync && mv /state/update/new /state/update/trial.json && sync && echo changed";
    let said = cluster.machine.shell().run(pool, STAGED)?;
    ensure!(said.contains("changed"), "{said}");
    let status = wait_update(&cluster.operator, "RolledBack", ROLLED_BACK)?;
    ensure!(running(&status) == format!("a {first}"), "{status:#}");
    let message = status["message"].as_str().unwrap_or_default();
    ensure!(message.contains("pools: pool no-such-pool cannot be used"), "{message}");
    Ok(())
}

fn version(case: &Case) -> Result<String> {
    let manifest: Value = serde_json::from_slice(&case.built()?.manifest()?)?;
    manifest["version"].as_str().map(str::to_owned).context("a manifest without a version")
}

#[test]
fn an_update_comes_back_with_its_vms_and_a_bad_one_goes_back_with_the_reason() {
    case("update", |case| {
        let server = Server::folder(&case.next_release()?)?;
        let (url, first) = (server.url(), version(case)?);
        let mut cluster = case.cluster()?;
        cluster.machine.goes_on_after_reboots()?;
        is_kept(&cluster, &url)?;
        goes_back(&cluster.operator, &first)?;
        damaged_is_rolled_back(&cluster, &url, &first)?;
        never_healthy_is_rolled_back(&cluster, &url, &first)
    });
}

#[test]
fn a_node_that_starts_by_bios_is_updated_and_goes_back_too() {
    case("update-bios", |case| {
        let server = Server::folder(&case.next_release()?)?;
        let (url, first) = (server.url(), version(case)?);
        let mut node = case.installed(Some(&Firmware::Bios))?;
        let _booted = node.boot()?;
        let operator = &node.operator;
        operator.wait_apply(&node_update(NEXT, &url, "Apply", PATIENT), READY)?;
        let status = wait_update(operator, "Updated", STAGED + KEPT)?;
        ensure!(running(&status) == format!("b {NEXT}"), "{status:#}");
        goes_back(operator, &first)
    });
}
