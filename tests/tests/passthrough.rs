//! PCI devices of a node that VMs have to themselves: virtual functions of a NIC, one as an interface, one as it is.
//!
//! Why a whole machine: the IOMMU, vfio-pci, the NIC's driver, libvirt, AppArmor and QEMU's limits must agree. QEMU's igb has virtual
//! functions, and its AMD IOMMU translates for them. The VMs are the guest's firmware alone: what counts is what QEMU has.

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use sheaf_machine::node::BOOT_DEADLINE;
use sheaf_tests::harness::{Cluster, READY, RUNNING, case};

/// What the machine has beside what all have.
const DEVICES: [&str; 3] =
    ["amd-iommu,intremap=on", "pcie-root-port,id=of-nic,chassis=40", "igb,bus=of-nic,mac=52:54:00:5e:af:40"];
/// The NIC, Intel's 82576.
const NIC: &str = "8086:10c9";
/// Its functions, as a resource.
const FUNCTIONS: &str = "intel.com/82576-vf";

const PERMIT: &str = r#"
apiVersion: sheaf.dev/v1alpha1
kind: ClusterConfig
metadata: {name: cluster}
spec:
  permittedHostDevices:
    pciHostDevices: [{pciVendorSelector: "8086:10CA", resourceName: intel.com/82576-vf}]
"#;

const NETWORK: &str = r#"
apiVersion: k8s.cni.cncf.io/v1
kind: NetworkAttachmentDefinition
metadata: {name: fast, annotations: {k8s.v1.cni.cncf.io/resourceName: intel.com/82576-vf}}
spec: {config: '{"cniVersion": "0.3.1", "type": "sriov", "vlan": 100}'}
"#;

/// A VM with these devices and networks.
fn vm(name: &str, devices: &str, networks: &str) -> String {
    format!(
        "apiVersion: kubevirt.io/v1\nkind: VirtualMachine\nmetadata: {{name: {name}}}\nspec:\n  runStrategy: Always\n  \
         template:\n    spec:\n      terminationGracePeriodSeconds: 0\n      domain: {{memory: {{guest: 64Mi}}, \
         devices: {devices}}}\n      networks: {networks}\n"
    )
}

/// One whose interface is a function.
fn with_interface(name: &str) -> String {
    let interface = "{interfaces: [{name: fast, sriov: {}, macAddress: '02:00:00:5e:af:41'}]}";
    vm(name, interface, "[{name: fast, multus: {networkName: fast}}]")
}

/// One that has a function as it is.
fn with_device(name: &str) -> String {
    let device =
        format!("{{autoattachPodInterface: false, hostDevices: [{{name: nic, deviceName: {FUNCTIONS}}}]}}");
    vm(name, &device, "[]")
}

/// How many functions the node offers.
fn wait_offered(cluster: &Cluster, count: &str) -> Result<()> {
    cluster.operator.wait("virtual functions", &["node", "node1"], READY, |node| {
        (node["status"]["allocatable"][FUNCTIONS] == count).then_some(())
    })?;
    Ok(())
}

/// The PCI devices that QEMU of a VM shows its guest.
fn pci(cluster: &Cluster, vm: &str) -> Result<String> {
    cluster
        .root(&format!("virsh --connect qemu:///system qemu-monitor-command --hmp default_{vm} 'info pci'"))
}

#[test]
fn a_vm_has_a_virtual_function_of_a_nic_as_its_interface_and_another_one_as_a_device() {
    case("passthrough", |case| {
        let mut cluster = case.cluster()?;
        cluster.node.spec.devices = DEVICES.map(str::to_owned).to_vec();
        cluster.power_cycle()?;
        cluster.operator.wait_node_ready("node1", BOOT_DEADLINE + READY)?;

        let found = cluster.root(&format!(
            "for d in /sys/bus/pci/devices/*; do echo ${{d##*/}} $(cat $d/vendor $d/device); done | \
             awk '$2 \":\" $3 == \"0x{}:0x{}\" {{print $1}}'",
            &NIC[..4],
            &NIC[5..]
        ))?;
        let nic = format!("/sys/bus/pci/devices/{}", found.trim());
        let link = cluster.root(&format!("ls {nic}/net"))?;
        // As 90-sriov.network of configs/images/overlay-sriov has it: libvirt sets up no function of a NIC that is down.
        cluster.root(&format!("ip link set {} up", link.trim()))?;
        cluster.root(&format!("echo 0 > {nic}/sriov_drivers_autoprobe; echo 2 > {nic}/sriov_numvfs"))?;
        cluster.operator.wait_apply(PERMIT, READY)?;
        wait_offered(&cluster, "2")?;

        cluster.operator.wait_apply(NETWORK, READY)?;
        cluster.operator.wait_apply(&with_interface("fast"), READY)?;
        cluster.operator.wait_apply(&with_device("whole"), READY)?;
        for vm in ["fast", "whole"] {
            cluster.operator.wait_vm_running(vm, RUNNING)?;
            let devices = pci(&cluster, vm)?;
            ensure!(devices.contains("8086:10ca"), "{vm} has no virtual function: {devices}");
        }
        let functions = cluster.root(&format!("ip link show {}", link.trim()))?;
        let own = functions.lines().find(|line| line.contains("02:00:00:5e:af:41"));
        let own = own.with_context(|| format!("no function has the VM's address: {functions}"))?;
        ensure!(own.contains("vlan 100"), "the function is not in VLAN 100: {own}");

        // A third has to wait, and for what.
        cluster.operator.wait_apply(&with_device("third"), READY)?;
        cluster.operator.wait("reason of the third VM", &["vmi", "third"], READY, |vmi| {
            let conditions = vmi["status"]["conditions"].as_array().into_iter().flatten();
            let mut said = conditions.filter_map(|one| one["message"].as_str());
            said.any(|message| message.contains(&format!("Insufficient {FUNCTIONS}"))).then_some(())
        })?;

        // What one gives back the next one gets.
        cluster.operator.kubectl(&["delete", "vm", "whole", "--wait=true", "--timeout=120s"])?;
        cluster.operator.wait_vm_running("third", RUNNING)?;
        cluster.operator.kubectl(&["delete", "vm", "fast", "third", "--wait=true", "--timeout=120s"])?;
        cluster.operator.wait(
            "functions that are given back",
            &["node", "node1"],
            READY,
            |node: &Value| (node["status"]["allocatable"][FUNCTIONS] == "2").then_some(()),
        )?;
        let bound = cluster.root(&format!("for f in {nic}/virtfn*; do readlink $f/driver || true; done"))?;
        ensure!(!bound.contains("vfio"), "a function is still a VM's: {bound}");
        Ok(())
    });
}
