//! A VM with the hardware that Windows 11 wants, on a node: Secure Boot, a TPM that remembers, Hyper-V's features.
//!
//! Why a whole machine: OVMF and swtpm are the image's, and AppArmor guards what they write.

use anyhow::ensure;
use sheaf_tests::harness::{READY, RUNNING, case};

const VM: &str = r"
apiVersion: kubevirt.io/v1
kind: VirtualMachine
metadata: {name: win}
spec:
  runStrategy: Always
  preference: {name: windows.11}
  template:
    spec:
      terminationGracePeriodSeconds: 1
      domain:
        cpu: {cores: 2}
        memory: {guest: 256Mi}
        devices:
          disks: [{name: system}]
          interfaces: [{name: out, masquerade: {}}]
      networks: [{name: out, pod: {}}]
      volumes:
        - name: system
          hostDisk: {path: /data/images/guest.raw, type: Disk}
";

/// windows.11 without its least amount of memory, which a small node has not.
const SMALL: &str = r#"[{"op": "remove", "path": "/spec/requirements"}]"#;

#[test]
fn a_vm_with_secure_boot_and_a_tpm_runs_and_keeps_their_state_between_two_instances() {
    case("hardware-vm", |case| {
        let cluster = case.cluster()?;
        cluster.operator.kubectl(&["patch", "vmcp", "windows.11", "--type=json", "-p", SMALL])?;
        cluster.operator.wait_apply(VM, READY)?;
        let first = cluster.operator.wait_vm_running("win", RUNNING)?;
        let xml = cluster.root("virsh --connect qemu:///system dumpxml default_win")?;
        for part in [
            "OVMF_CODE_4M.ms.fd",
            "<smm state='on'",
            "model='tpm-crb'",
            "<relaxed state='on'/>",
            "bus='sata'",
        ] {
            ensure!(xml.contains(part), "the domain has no {part}: {xml}");
        }
        let state = "ls -i /data/state/default/*/nvram.fd /data/state/default/*/tpm/*/* 2>/dev/null || find /data/state";
        let before = cluster.root(state)?;
        ensure!(before.contains("nvram.fd") && before.contains("tpm"), "{before}");
        cluster.operator.kubectl(&["delete", "vmi", "win", "--wait=true", "--timeout=120s"])?;
        let second = cluster.operator.wait_vm_running("win", RUNNING)?;
        ensure!(first["metadata"]["uid"] != second["metadata"]["uid"], "{second}");
        let after = cluster.root(state)?;
        ensure!(after.contains("nvram.fd") && after.contains("tpm"), "{after}");
        let node = cluster.operator.kubectl(&["get", "vm", "win", "-o", "jsonpath={.status.stateNode}"])?;
        ensure!(node == "node1", "the VM's state is on \"{node}\"");
        Ok(())
    });
}
