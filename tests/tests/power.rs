//! A node that is restarted, and one whose power button is pressed, with VMs: each guest powers off by itself first, and runs
//! again after the boot.
//!
//! Why whole machines: systemd's order of stopping units, logind and libvirt decide together whether a guest's disk is whole.
//! A guest says on its serial console that it got the power button, and that its disk is unmounted; links to these logs outlive
//! the VMs' folders.

use anyhow::{Context as _, Result, ensure};
use sheaf_machine::node::BOOT_DEADLINE;
use sheaf_tests::harness::{Cluster, READY, case, field};
use std::time::Duration;

/// Two guests that power off under two emulations, and the node after them.
const DOWN: Duration = Duration::from_secs(600);
/// By run strategy: one that always runs, and one that its guest may end for good.
const VMS: [(&str, &str); 2] = [("wheat", "Always"), ("rye", "RerunOnFailure")];

fn manifest(name: &str, strategy: &str) -> String {
    format!(
        "apiVersion: kubevirt.io/v1
kind: VirtualMachine
metadata: {{name: {name}}}
spec:
  runStrategy: {strategy}
  template:
    spec:
      terminationGracePeriodSeconds: 300
      domain:
        memory: {{guest: 128Mi}}
        devices:
          disks: [{{name: system}}, {{name: seed}}]
          interfaces: [{{name: out, masquerade: {{}}}}]
      networks: [{{name: out, pod: {{}}}}]
      volumes:
        - name: system
          hostDisk: {{path: /data/images/guest.raw, type: Disk}}
        - name: seed
          cloudInitNoCloud: {{userData: '# hostname: {name}'}}
"
    )
}

/// Links the console log of the VM that runs now as `/data/NAME.ROUND.log`; the boot of its guest.
fn follow(cluster: &Cluster, name: &str, round: &str) -> Result<String> {
    let up = cluster.console_line(name, "guest: up")?;
    let uid = cluster.operator.kubectl(&["get", "vmi", name, "-o", "jsonpath={.metadata.uid}"])?;
    cluster.root(&format!("ln /data/vms/{}/console.log /data/{name}.{round}.log", uid.trim()))?;
    Ok(field(&up, "boot-id"))
}

/// Whether the guests of that round ended cleanly and run again, each on another boot.
fn came_back(cluster: &Cluster, round: &str, before: &[String]) -> Result<()> {
    cluster.operator.wait_node_ready("node1", READY)?;
    for ((name, _), boot) in VMS.iter().zip(before) {
        let log = cluster.root(&format!("cat /data/{name}.{round}.log"))?;
        ensure!(log.contains("guest: power button"), "{name} did not get the power button: {log}");
        ensure!(log.contains("guest: stopped"), "the disk of {name} was not unmounted: {log}");
        cluster.new_console_line(name, "guest: up", boot)?;
    }
    let reasons =
        ["get", "events", "--field-selector=reason=NodeShutdown", "-o", "jsonpath={.items[*].type}"];
    ensure!(!cluster.operator.kubectl(&reasons)?.is_empty(), "no Event says why the VMs ended");
    Ok(())
}

#[test]
fn guests_power_off_before_their_node_does_and_run_again_after_its_boot() {
    case("power", |case| {
        let mut cluster = case.cluster()?;
        for (name, strategy) in VMS {
            cluster.start_vm(&manifest(name, strategy), name)?;
        }
        cluster.machine.goes_on_after_reboots()?;
        let boot = cluster.boot_id(READY)?;
        let before: Vec<String> =
            VMS.iter().map(|(name, _)| follow(&cluster, name, "restart")).collect::<Result<_>>()?;
        cluster.machine.serial.skip_all();
        // Later: the shell that is asked is stopped at once.
        cluster.root("(sleep 2; systemctl --no-block reboot) >/dev/null 2>&1 &")?;
        let line = cluster.machine.wait_for("sheaf: waiting at most", DOWN)?;
        ensure!(line.contains("VMs to power off: default/"), "{line}");
        let again = sheaf_host::wait::until(DOWN + BOOT_DEADLINE, Duration::from_secs(2), || {
            let shell = cluster.machine.shell();
            let now = shell.run("cat /proc/sys/kernel/random/boot_id", Duration::from_secs(5)).ok()?;
            (now.trim() != boot.trim()).then_some(())
        });
        again.context("the node does not start again")?;
        came_back(&cluster, "restart", &before)?;

        // The power button of the machine goes the same way, by logind.
        let before: Vec<String> =
            VMS.iter().map(|(name, _)| follow(&cluster, name, "button")).collect::<Result<_>>()?;
        cluster.machine.press_power()?;
        cluster.machine.wait_off(DOWN)?;
        cluster.machine = cluster.node.boot()?;
        cluster.boot_id(BOOT_DEADLINE)?;
        came_back(&cluster, "button", &before)
    });
}
