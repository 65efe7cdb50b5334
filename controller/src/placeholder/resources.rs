//! What a VM costs its node: requests and limits of the placeholder Pod.
//!
//! Why here: the scheduler, quotas and the node's agent all count what stands here, so no tenant can ask for less than the
//! VM may use. Memory: all of the guest's and QEMU's, unless an administrator chose to overcommit. Disk: every file below
//! /data that the VM may fill. Pure. Route in: the resolved spec. Route out: `resources` of container `compute`.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use sheaf_api::{
    Amount,
    cluster_config::ClusterConfigSpec,
    domain::{Cpu, Memory},
    ephemeral,
    names::{KVM_RESOURCE, bridge_resource, vlan_resource},
    vmi::VirtualMachineInstanceSpec,
};

use super::{images, overhead};
use crate::networks::{self, Networks};

/// CPU requested for each virtual CPU unless the VM says otherwise, in thousandths; KubeVirt's ratio of ten.
const MILLI_PER_CPU: u64 = 100;

/// Requests and limits of CPU and memory, by their names: what changes while a VM runs.
pub struct Compute {
    /// What the scheduler sets aside; always both.
    pub requests: BTreeMap<String, Amount>,
    /// Only those that the VM asks for.
    pub limits: BTreeMap<String, Amount>,
    /// Bytes of the guest that are on huge pages.
    huge: u64,
}

/// Requests and limits of CPU and memory of a VM with `spec`.
pub fn compute(spec: &VirtualMachineInstanceSpec, config: &ClusterConfigSpec) -> Compute {
    let cpus = spec.domain.cpu.as_ref().map_or(1, Cpu::count);
    let asked = spec.domain.resources.clone().unwrap_or_default();
    let bytes = |amount: Option<&Amount>| amount.and_then(|amount| amount.units().ok());
    let guest =
        bytes(spec.domain.memory.as_ref().and_then(|memory| memory.guest.as_ref())).unwrap_or_default();
    let overhead = overhead::bytes(spec, guest, cpus);
    // Huge pages are a resource of their own, and are never overcommitted.
    let page = spec.domain.memory.as_ref().and_then(Memory::page_size);
    let (guest, huge) = if page.is_some() { (0, guest) } else { (guest, 0) };
    let beside_huge = |amount: Option<&Amount>| bytes(amount).map(|amount| amount.saturating_sub(huge));
    // A request may raise what is set aside, never lower it; the API server refuses one that would.
    let memory = beside_huge(asked.requests.get("memory")).filter(|asked| *asked > guest);
    let memory = memory.unwrap_or_else(|| config.set_aside(guest)).saturating_add(overhead);
    let cpu = asked.requests.get("cpu").cloned();
    let requests = BTreeMap::from([
        ("cpu".to_string(), cpu.unwrap_or_else(|| Amount::of_milli(u64::from(cpus) * MILLI_PER_CPU))),
        ("memory".to_string(), Amount::of_bytes(memory)),
    ]);
    let mut limits = BTreeMap::new();
    // As in KubeVirt: whole CPUs, and limits that are equal, by which the Pod is of QoS class Guaranteed.
    if let Some(dedicated) = spec.domain.cpu.as_ref().and_then(Cpu::dedicated) {
        let mut requests = requests;
        requests.insert("cpu".to_string(), Amount::of_milli(u64::from(dedicated) * 1000));
        return Compute { limits: requests.clone(), requests, huge };
    }
    if let Some(cpu) = asked.limits.get("cpu") {
        limits.insert("cpu".to_string(), cpu.clone());
    }
    if let Some(limit) = beside_huge(asked.limits.get("memory")) {
        limits.insert("memory".to_string(), Amount::of_bytes(limit.max(guest).saturating_add(overhead)));
    }
    Compute { requests, limits, huge }
}

/// Requests and limits of the Pod.
pub fn of(
    spec: &VirtualMachineInstanceSpec,
    networks: &Networks,
    config: &ClusterConfigSpec,
    images: &images::Sizes,
) -> Value {
    let Compute { mut requests, mut limits, huge } = compute(spec, config);
    let files = ephemeral::bytes(spec, |base| images.of(base));
    requests.insert("ephemeral-storage".to_string(), Amount::of_bytes(files));
    // Extended resources are not overcommitted: request and limit must agree.
    let mut ports: BTreeMap<String, u64> = BTreeMap::from([(KVM_RESOURCE.to_string(), 1)]);
    for interface in &spec.domain.devices.interfaces {
        if let Some((bridge, has_vlans)) = networks::port(spec, networks, interface) {
            *ports.entry(bridge_resource(bridge)).or_default() += 1;
            // A bridge without VLANs would let its guest into the untagged network.
            if has_vlans {
                *ports.entry(vlan_resource(bridge)).or_default() += 1;
            }
        }
    }
    let devices = || spec.domain.devices.of_node();
    let functions = networks.functions.values().map(|function| &function.resource_name);
    for resource in devices().filter_map(|device| device.device_name.as_ref()).chain(functions) {
        *ports.entry(resource.clone()).or_default() += 1;
    }
    for (name, count) in ports {
        requests.insert(name.clone(), Amount::of_milli(count * 1000));
        limits.insert(name, Amount::of_milli(count * 1000));
    }
    if let Some(page) = spec.domain.memory.as_ref().and_then(Memory::page_size) {
        requests.insert(page.resource().to_string(), Amount::of_bytes(huge));
        limits.insert(page.resource().to_string(), Amount::of_bytes(huge));
    }
    let of_claims = devices().filter_map(|device| Some((device.claim_name.as_ref()?, &device.request_name)));
    let claims: Vec<Value> =
        of_claims.map(|(name, request)| json!({"name": name, "request": request})).collect();
    let mut resources = json!({"requests": requests, "limits": limits});
    if !claims.is_empty() {
        resources["claims"] = json!(claims);
    }
    resources
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::resolve::resolve;

    const MIB: u64 = 1 << 20;

    fn resources(spec: Value, percent: Option<u32>) -> Value {
        let spec = resolve(&serde_json::from_value(spec).unwrap(), "u-1");
        of(
            &spec,
            &Networks::default(),
            &ClusterConfigSpec { memory_overcommit_percent: percent, ..Default::default() },
            &images::Sizes {
                images: [("sheaf.dev/debian".to_owned(), 3 << 30)].into(),
                ..images::Sizes::default()
            },
        )
    }

    /// Bytes of memory that are requested.
    fn memory(spec: Value, percent: Option<u32>) -> u64 {
        serde_json::from_value::<Amount>(resources(spec, percent)["requests"]["memory"].clone())
            .unwrap()
            .units()
            .unwrap()
    }

    #[test]
    fn the_pod_asks_for_everything_the_vm_costs() {
        let of = resources(
            json!({"domain": {"cpu": {"cores": 2}, "memory": {"guest": "1Gi"},
                              "devices": {"autoattachPodInterface": false}}}),
            None,
        );
        // 1024 guest + 100 QEMU + 2×8 CPUs + 2 page tables + 16 graphics
        let requests = json!({"cpu": "200m", "memory": "1158Mi", "ephemeral-storage": "16Mi", "devices.kubevirt.io/kvm": "1"});
        assert_eq!(of, json!({"requests": requests, "limits": {"devices.kubevirt.io/kvm": "1"}}));
    }

    #[test]
    fn a_guest_on_huge_pages_asks_for_them_and_for_memory_only_what_qemu_needs() {
        let of = resources(
            json!({"domain": {"memory": {"guest": "1Gi", "hugepages": {"pageSize": "2Mi"}},
                              "resources": {"requests": {"memory": "1Gi"}, "limits": {"memory": "2Gi"}},
                              "devices": {"autoattachPodInterface": false}}}),
            Some(200),
        );
        // 100 QEMU + 8 CPU + 2 page tables + 16 graphics
        assert_eq!((&of["requests"]["memory"], &of["limits"]["memory"]), (&json!("126Mi"), &json!("1150Mi")));
        assert_eq!(
            (&of["requests"]["hugepages-2Mi"], &of["limits"]["hugepages-2Mi"]),
            (&json!("1Gi"), &json!("1Gi"))
        );
    }

    #[test]
    fn a_vm_with_dedicated_cpus_asks_for_whole_ones_and_one_more_for_qemu_and_its_limits_are_equal() {
        let of = |cpu: Value| {
            let domain =
                json!({"cpu": cpu, "memory": {"guest": "1Gi"}, "devices": {"autoattachPodInterface": false}});
            resources(json!({ "domain": domain }), None)
        };
        let with = of(
            json!({"cores": 2, "threads": 2, "dedicatedCpuPlacement": true, "isolateEmulatorThread": true}),
        );
        // 1024 guest + 100 QEMU + 4×8 CPUs + 2 page tables + 16 graphics
        let limits = json!({"cpu": "5", "memory": "1174Mi", "devices.kubevirt.io/kvm": "1"});
        assert_eq!(with["limits"], limits);
        assert_eq!((&with["requests"]["cpu"], &with["requests"]["memory"]), (&json!("5"), &json!("1174Mi")));
        let without = of(json!({"cores": 2, "dedicatedCpuPlacement": true}));
        assert_eq!(without["requests"]["cpu"], "2");
        assert_eq!(of(json!({"cores": 2, "dedicatedCpuPlacement": false}))["requests"]["cpu"], "200m");
    }

    #[test]
    fn every_port_is_asked_for_at_the_bridge_that_its_network_means() {
        let spec = json!({
            "domain": {"memory": {"guest": "1Gi"}, "devices": {"interfaces": [
                {"name": "out", "masquerade": {}}, {"name": "a", "bridge": {}}, {"name": "b", "bridge": {}},
                {"name": "plain", "bridge": {}}]}},
            "networks": [{"name": "out", "pod": {}}, {"name": "a", "multus": {"networkName": "lan"}},
                {"name": "b", "multus": {"networkName": "lan"}}, {"name": "plain", "multus": {"networkName": "p"}}],
        });
        let to = |vlan| sheaf_api::network::Attachment { bridge: "br1".into(), vlan, trunk: Vec::new() };
        let attachments = [("a", Some(100)), ("b", Some(100)), ("plain", None)];
        let attachments = attachments.map(|(name, vlan)| (name.to_owned(), to(vlan))).into();
        let networks = Networks { attachments, ..Networks::default() };
        let spec = resolve(&serde_json::from_value(spec).unwrap(), "u-1");
        assert_eq!(
            of(&spec, &networks, &ClusterConfigSpec::default(), &images::Sizes::default())["limits"],
            json!({"bridge.sheaf.dev/br1": "3", "vlan.bridge.sheaf.dev/br1": "2", "bridge.sheaf.dev/masq0": "1",
                   "devices.kubevirt.io/kvm": "1"})
        );
    }

    #[test]
    fn every_device_of_the_node_is_asked_for_and_what_locked_memory_costs() {
        let of = |devices: Value| {
            resources(json!({"domain": {"memory": {"guest": "1Gi"}, "devices": devices}}), None)
        };
        let gpu = |name: &str| json!({"name": name, "deviceName": "nvidia.com/T4"});
        let with = of(json!({"autoattachPodInterface": false, "gpus": [gpu("a"), gpu("b")],
            "hostDevices": [{"name": "c", "deviceName": "intel.com/x710"}]}));
        let limits = json!({"nvidia.com/T4": "2", "intel.com/x710": "1", "devices.kubevirt.io/kvm": "1"});
        assert_eq!(with["limits"], limits);
        // 1 GiB more than without.
        assert_eq!(with["requests"]["memory"], "2174Mi");
    }

    #[test]
    fn a_device_of_a_claim_is_asked_for_by_the_claim() {
        let gpu = json!({"name": "a", "claimName": "mine", "requestName": "gpu"});
        let of = resources(json!({"domain": {"memory": {"guest": "1Gi"}, "devices": {"gpus": [gpu]}}}), None);
        assert_eq!(of["claims"], json!([{"name": "mine", "request": "gpu"}]));
        assert_eq!(of["limits"], json!({"devices.kubevirt.io/kvm": "1", "bridge.sheaf.dev/masq0": "1"}));
    }

    #[test]
    fn a_virtual_function_is_asked_for_by_its_resource_and_no_port_of_a_bridge() {
        let spec = json!({
            "domain": {"memory": {"guest": "1Gi"}, "devices": {"interfaces": [{"name": "fast", "sriov": {}}]}},
            "networks": [{"name": "fast", "multus": {"networkName": "fast"}}],
        });
        let function = sheaf_api::network::Function { resource_name: "intel.com/vf".into(), vlan: None };
        let networks = Networks { functions: [("fast".to_owned(), function)].into(), ..Networks::default() };
        let spec = resolve(&serde_json::from_value(spec).unwrap(), "u-1");
        let of = of(&spec, &networks, &ClusterConfigSpec::default(), &images::Sizes::default());
        assert_eq!(of["limits"], json!({"intel.com/vf": "1", "devices.kubevirt.io/kvm": "1"}));
        // 1024 guest + 100 QEMU + 8 CPU + 2 page tables + 16 graphics + 1024 locked
        assert_eq!(of["requests"]["memory"], "2174Mi");
    }

    #[test]
    fn an_administrator_may_overcommit_and_a_tenant_may_not() {
        let spec = |request: &str| {
            json!({"domain": {"memory": {"guest": "1Gi"}, "devices": {},
            "resources": {"requests": {"memory": request}, "limits": {"memory": "1Mi"}}}})
        };
        let overhead = 1142 * MIB - 1024 * MIB + 8 * MIB;
        assert_eq!(memory(spec("1Mi"), None), 1024 * MIB + overhead);
        assert_eq!(memory(spec("2Gi"), None), 2048 * MIB + overhead);
        assert_eq!(memory(spec("1Mi"), Some(200)), 512 * MIB + overhead);
        assert_eq!(resources(spec("1Mi"), None)["limits"]["memory"], "1150Mi");
    }

    #[test]
    fn every_file_below_data_that_a_vm_may_fill_is_asked_for() {
        let spec = json!({"domain": {"memory": {"guest": "1Gi"}, "devices": {"disks": [{"name": "a"}, {"name": "b"}]}},
            "volumes": [{"name": "a", "emptyDisk": {"capacity": "2Gi"}},
                        {"name": "b", "hostDisk": {"path": "/data/images/debian", "type": "Disk", "capacity": "8Gi"}}]});
        assert_eq!(resources(spec, None)["requests"]["ephemeral-storage"], "10256Mi");
        let overlay = json!({"domain": {"memory": {"guest": "1Gi"}, "devices": {"disks": [{"name": "b"}]}},
            "volumes": [{"name": "b", "hostDisk": {"path": "/data/images/debian", "type": "Disk"}}]});
        assert_eq!(resources(overlay, None)["requests"]["ephemeral-storage"], "3088Mi", "all of the image");
    }

    proptest! {
        #[test]
        fn whatever_a_tenant_writes_no_less_than_the_guests_memory_is_set_aside(
            guest in any::<u64>(), request in proptest::option::of(any::<u64>()), cpus in 1u32..=512,
        ) {
            let mut spec = json!({"domain": {"cpu": {"cores": cpus}, "memory": {"guest": guest}, "devices": {}}});
            if let Some(request) = request {
                spec["domain"]["resources"] = json!({"requests": {"memory": request}});
            }
            prop_assert!(memory(spec, None) >= guest.saturating_add(100 * MIB));
        }
    }
}
