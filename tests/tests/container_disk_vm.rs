//! VMs whose disks a node pulls from a registry: the reference registry of the protocol, on this machine.
//!
//! Why a whole machine: the disk goes from the registry to QEMU through the image's own programs, rights and AppArmor.

use anyhow::{bail, ensure};
use sheaf_host::wait::until;
use sheaf_tests::harness::{READY, RUNNING, case};
use sheaf_tests::registry::Registry;
use std::time::Duration;

/// As KubeVirt's examples write it; the registry is theirs, too.
fn vm(name: &str, tag: &str) -> String {
    format!(
        "apiVersion: kubevirt.io/v1\nkind: VirtualMachine\nmetadata: {{name: {name}}}\nspec:\n  runStrategy: Always\n  \
         template:\n    spec:\n      terminationGracePeriodSeconds: 0\n      domain:\n        memory: {{guest: 128Mi}}\n        \
         devices:\n          disks:\n          - disk: {{bus: virtio}}\n            name: containerdisk\n      volumes:\n      - \
         containerDisk: {{image: 'registry:5000/kubevirt/guest{tag}'}}\n        name: containerdisk\n"
    )
}

/// A VM with a volume of its own that is filled from the same image, as KubeVirt's `vm-alpine-datavolume` has it.
fn filled(name: &str) -> String {
    format!(
        "apiVersion: kubevirt.io/v1\nkind: VirtualMachine\nmetadata: {{name: {name}}}\nspec:\n  runStrategy: Always\n  \
         dataVolumeTemplates:\n  - metadata: {{name: {name}-dv}}\n    spec:\n      pvc:\n        accessModes: [ReadWriteOnce]\n        \
         resources: {{requests: {{storage: 2Gi}}}}\n      source: {{registry: {{url: 'docker://registry:5000/kubevirt/guest:devel'}}}}\n  \
         template:\n    spec:\n      terminationGracePeriodSeconds: 0\n      domain:\n        memory: {{guest: 128Mi}}\n        \
         devices: {{disks: [{{disk: {{bus: virtio}}, name: root}}]}}\n      volumes: [{{dataVolume: {{name: {name}-dv}}, name: root}}]\n"
    )
}

#[test]
fn a_vm_runs_from_a_disk_of_a_registry_which_is_kept_for_the_next_one() {
    case("container-disk-vm", |case| {
        let cluster = case.cluster()?;
        let registry = Registry::start()?;
        registry.push("kubevirt/guest", "devel", &case.guest_disk()?)?;
        let table =
            format!("\\n[[registry]]\\nname = \"registry:5000\"\\nmirrors = [\"{}\"]\\n", registry.mirror());
        cluster.root(&format!("printf '{table}' >> /state/node.toml && systemctl restart sheaf-agent"))?;
        cluster.operator.wait_apply(&vm("first", ":devel"), READY)?;
        cluster.operator.wait_vm_running("first", RUNNING)?;
        cluster.operator.wait_console("first", "guest: up", RUNNING)?;

        // What it wrote is in its overlay; what was pulled is read-only, and the VM holds on to it.
        let kept = cluster.root("stat -c '%h %a' /data/container-disks/*.img")?;
        ensure!(kept.trim() == "2 444", "links and mode of the disk: {kept}");
        let images =
            cluster.operator.kubectl(&["get", "node", "node1", "-o", "jsonpath={.status.images}"])?;
        ensure!(images.contains("registry:5000/kubevirt/guest:devel"), "{images}");

        // A volume is filled from the same disk, which is not pulled again.
        let pulls = || registry.log().matches("GET /v2/kubevirt/guest/blobs/").count();
        let before = pulls();
        ensure!(before > 0, "the registry's log has no pull: {}", registry.log());
        cluster.operator.wait_apply(&filled("filled"), READY)?;
        cluster.operator.wait_vm_running("filled", RUNNING)?;
        cluster.operator.wait_console("filled", "guest: up", RUNNING)?;
        ensure!(pulls() == before, "the volume's image was pulled again: {}", registry.log());

        // Without its registry: what is here is used, and what has to be asked for says why it waits.
        drop(registry);
        cluster.operator.wait_apply(&vm("second", ":devel"), READY)?;
        cluster.operator.wait_vm_running("second", RUNNING)?;
        let kept = cluster.root("stat -c '%h' /data/container-disks/*.img")?;
        ensure!(kept.trim() == "3", "the second VM has a disk of its own: {kept}");
        cluster.operator.wait_apply(&vm("latest", ""), READY)?;
        cluster.operator.wait("image cannot be pulled", &["vm", "latest"], RUNNING, |vm| {
            let status = vm["status"]["printableStatus"].as_str()?;
            matches!(status, "ErrImagePull" | "ImagePullBackOff").then_some(())
        })?;
        let vmi =
            cluster.operator.kubectl(&["get", "vmi", "latest", "-o", "jsonpath={.status.conditions}"])?;
        ensure!(vmi.contains("registry:5000/kubevirt/guest:latest: http://10.0.2.2:"), "{vmi}");

        // A VM that is gone gives its link back.
        cluster.operator.kubectl(&[
            "delete",
            "vm",
            "first",
            "second",
            "latest",
            "filled",
            "--wait=true",
            "--timeout=180s",
        ])?;
        let freed = until(READY, Duration::from_secs(1), || {
            cluster
                .root("stat -c '%h' /data/container-disks/*.img")
                .is_ok_and(|links| links.trim() == "1")
                .then_some(())
        });
        if freed.is_none() {
            let left = cluster.root(
                "ls -la /data/container-disks /data/vms /data/vms/*; journalctl -u sheaf-agent -n 30 -o cat",
            )?;
            bail!("VMs that are gone still hold their disk: {left}");
        }
        Ok(())
    });
}
