//! The whole route: medium, unattended installation, boot, cluster, VM.

use sheaf_machine::operator::condition;
use sheaf_tests::harness::{case, field};

#[test]
fn a_machine_installs_itself_makes_a_cluster_and_runs_a_vm_under_kvm() {
    case("route", |case| {
        let cluster = case.cluster()?;
        let serial = case.snapshot_serial()?;
        assert!(serial.contains("sheaf-installer: timing {"), "the installer tells how long each phase took");

        let node = cluster.operator.wait_node_ready("node1", sheaf_tests::harness::READY)?;
        let taint = &node["spec"]["taints"][0];
        assert_eq!((&taint["key"], &taint["effect"]), (&"sheaf.dev/vm-only".into(), &"NoSchedule".into()));
        assert_eq!(
            node["status"]["allocatable"]["devices.kubevirt.io/kvm"], "1k",
            "quantities are written in short"
        );
        assert_eq!(condition(&node, "MemoryPressure"), Some("False"));

        let up = cluster.start_vm(include_str!("../../docs/examples/vm.yaml"), "wheat")?;
        assert_eq!(field(&up, "hostname"), "wheat", "the seed reached the guest: {up}");
        assert!(field(&up, "ip").starts_with("10.0.2."), "the guest is on the node's LAN: {up}");
        let domain = cluster.root("virsh --connect qemu:///system list --name | head -n 1 | xargs virsh --connect qemu:///system dumpxml")?;
        assert!(domain.contains("<domain type='kvm'"), "{domain}");
        // The Pod shows the console's end.
        let tail =
            cluster.operator.wait_console("wheat", &field(&up, "boot-id"), sheaf_tests::harness::RUNNING)?;
        assert!(tail.contains("hostname=wheat"), "{tail}");

        // The same API refuses what it does not do, by name.
        let refused = include_str!("../../docs/examples/vm.yaml")
            .replace("cores: 1", "cores: 1\n          realtime: {}");
        let error = cluster.operator.apply(&refused).unwrap_err().to_string();
        assert!(error.contains("realtime"), "{error}");
        Ok(())
    });
}
