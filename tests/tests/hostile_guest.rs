//! Guests whose agents answer as no agent should: the node stays Ready, and other VMs start and stop as fast as before.
//!
//! Why here: only a node has libvirtd, libvirt-dbus and the agent as they run in earnest, with their limits of threads.

use anyhow::{Result, ensure};
use sheaf_tests::harness::{Cluster, READY, RUNNING, case};
use std::time::{Duration, Instant};

/// Each is a guest. Four that are silent took every thread of libvirt-dbus.
const MODES: [(&str, &str); 6] = [
    ("silent1", "silent"),
    ("silent2", "silent"),
    ("silent3", "silent"),
    ("large", "large"),
    ("nonsense", "nonsense"),
    // The node's own address: it must never become the Pod's.
    ("liar", "liar 10.0.2.15"),
];

/// Several rounds of questions, each up to 15 s, and the back-off after them.
const ASKED_FOR: Duration = Duration::from_secs(90);

fn vm(name: &str, script: &str) -> String {
    format!(
        r#"---
apiVersion: kubevirt.io/v1
kind: VirtualMachine
metadata: {{name: {name}}}
spec:
  runStrategy: Always
  template:
    spec:
      terminationGracePeriodSeconds: 60
      domain:
        memory: {{guest: 128Mi}}
        devices:
          autoattachGraphicsDevice: false
          disks: [{{name: system}}, {{name: seed}}]
          interfaces: [{{name: out, masquerade: {{}}}}]
      networks: [{{name: out, pod: {{}}}}]
      volumes:
        - name: system
          hostDisk: {{path: /data/images/guest.raw, type: Disk}}
        - name: seed
          cloudInitNoCloud:
            userData: |
              #!/bin/sh
              # hostname: {name}
              {script}
"#
    )
}

/// How long a VM takes from its manifest to Running, and from its deletion to nothing.
fn start_and_stop(cluster: &Cluster, name: &str) -> Result<(Duration, Duration)> {
    let began = Instant::now();
    cluster.operator.wait_apply(&vm(name, "true"), READY)?;
    cluster.operator.wait_vm_running(name, RUNNING)?;
    let started = began.elapsed();
    cluster.console_line(name, "guest: up")?;
    let began = Instant::now();
    cluster.operator.kubectl(&["delete", "vm", name, "--wait=true", "--timeout=180s"])?;
    Ok((started, began.elapsed()))
}

#[test]
fn guests_whose_agents_are_silent_flood_or_lie_take_nothing_from_the_node_or_from_other_vms() {
    case("hostile-guest", |case| {
        let cluster = case.cluster()?;
        // The first start of all probes QEMU; the second is the usual one.
        start_and_stop(&cluster, "first")?;
        let usual = start_and_stop(&cluster, "usual")?;
        for (name, mode) in MODES {
            cluster.operator.wait_apply(&vm(name, &format!("/etc/hostile-agent {mode}")), READY)?;
            cluster.console_line(name, "hostile-agent: asked")?;
        }
        let since = Instant::now();
        let mut rounds = 0;
        while since.elapsed() < ASKED_FOR {
            let among = start_and_stop(&cluster, "among")?;
            // Twice, and a moment: six guests more run on the same processors.
            let allowed = |usual: Duration| usual * 2 + Duration::from_secs(20);
            ensure!(among.0 < allowed(usual.0), "start took {:?}, usually {:?}", among.0, usual.0);
            ensure!(among.1 < allowed(usual.1), "stop took {:?}, usually {:?}", among.1, usual.1);
            rounds += 1;
        }
        ensure!(rounds > 0);
        let node = cluster.operator.wait_node_ready("node1", Duration::from_secs(20))?;
        let ready =
            node["status"]["conditions"].as_array().into_iter().flatten().find(|c| c["type"] == "Ready");
        ensure!(ready.is_some_and(|ready| ready["status"] == "True"), "{node}");
        let pods =
            ["get", "pods", "-l", "vm.kubevirt.io/name=liar", "-o", "jsonpath={.items[*].status.podIPs}"];
        let addresses = cluster.operator.kubectl(&pods)?;
        ensure!(!addresses.contains("10.0.2.15"), "the guest's word became the Pod's: {addresses}");
        let confined = cluster.root(CONFINED)?;
        ensure!(confined.trim().is_empty(), "QEMU that AppArmor does not confine: {confined}");
        for (name, _) in MODES {
            cluster.operator.kubectl(&["delete", "vm", name, "--wait=true", "--timeout=180s"])?;
        }
        Ok(())
    });
}

/// Names every QEMU whose AppArmor profile is not its own, enforced.
const CONFINED: &str = r#"for process in /proc/[0-9]*; do
    [ "$(cat $process/comm 2>/dev/null)" = qemu-system-x86 ] || continue
    profile=$(cat $process/attr/current)
    uuid=$(tr '\0' '\n' < $process/cmdline | grep -A1 '^-uuid$' | tail -n 1)
    [ "$profile" = "libvirt-$uuid (enforce)" ] || echo "$process $profile"
done"#;
