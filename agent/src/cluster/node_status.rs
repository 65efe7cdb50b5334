//! What the Node object shall say, computed from facts alone.
//!
//! Why here: pure, so that every rule of it is a unit test. Route in: [`Machine`], hypervisor, network, images.
//! Route out: a NodeStatus and labels, as values.

use super::machine::Machine;
use crate::channels::{EtcdState, Health, Hypervisor, NetworkState, PresentImage, Verdict};
use k8s_openapi::api::core::v1::{NodeCondition, NodeStatus};
use serde_json::{Value, json};
use sheaf_api::names;
use std::collections::BTreeMap;

/// Kubernetes version whose node obligations the agent keeps; tools read it as the kubelet's.
pub const API_LEVEL: &str = "v1.37.0";

/// Most VMs on one node: beyond that libvirt's own bookkeeping is unmeasured.
const MOST_PODS: u64 = 250;

/// Most container disks that are listed: kubelet's `nodeStatusMaxImages`.
const MOST_IMAGES: usize = 50;

/// Number of slots of a device that VMs share without limit; KubeVirt's number.
const DEVICE_SLOTS: &str = "1000";

const MIB: u64 = 1 << 20;

/// What is kept from VMs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reserve {
    milli_cpu: u64,
    memory: u64,
}

impl Reserve {
    /// For the system: an idle worker takes 350 MiB; the control plane adds 450 MiB and grows with the cluster.
    pub fn of(control_plane: bool) -> Self {
        if control_plane {
            Self { milli_cpu: 500, memory: 1152 * MIB }
        } else {
            Self { milli_cpu: 100, memory: 448 * MIB }
        }
    }
}

/// Everything that may change while the node runs.
#[derive(Clone, Debug, PartialEq)]
pub struct Observed {
    /// libvirt and KVM.
    pub hypervisor: Hypervisor,
    /// Addresses and bridges.
    pub network: NetworkState,
    /// Images of VMs.
    pub images: Vec<PresentImage>,
    /// Container disks that it keeps, with the bytes that a guest sees, the one used last first.
    pub container_disks: Vec<(String, u64)>,
    /// What keeps it from its work.
    pub health: Health,
    /// Its etcd, if it has one.
    pub etcd: Option<EtcdState>,
    /// Whether its certificates are valid, once they were read.
    pub certificates: Option<Verdict>,
    /// Where the node's own API listens, while it does.
    pub api_port: Option<u16>,
    /// The machine is going down, or its VMs are being stopped for a restart.
    pub shutting_down: bool,
}

impl Observed {
    /// Whether VMs may be placed on the node.
    pub fn is_ready(&self) -> bool {
        self.hypervisor.answers && self.health.problems.is_empty() && !self.shutting_down
    }
}

/// The status, without times.
pub fn status(
    name: &str,
    machine: &Machine,
    observed: &Observed,
    reserve: Reserve,
) -> anyhow::Result<NodeStatus> {
    let mut capacity: BTreeMap<String, String> = BTreeMap::from([
        ("cpu".into(), machine.cpus.to_string()),
        ("memory".into(), machine.memory.to_string()),
        ("ephemeral-storage".into(), machine.storage.to_string()),
        ("pods".into(), MOST_PODS.to_string()),
    ]);
    let mut in_huge_pages = 0;
    for (size, number) in &machine.huge_pages {
        let suffix =
            if size % (1 << 30) == 0 { format!("{}Gi", size >> 30) } else { format!("{}Mi", size >> 20) };
        capacity.insert(format!("hugepages-{suffix}"), (size * number).to_string());
        in_huge_pages += size * number;
    }
    if observed.hypervisor.kvm {
        capacity.insert(names::KVM_RESOURCE.into(), DEVICE_SLOTS.into());
    }
    for bridge in &observed.network.bridges {
        capacity.insert(names::bridge_resource(bridge), DEVICE_SLOTS.into());
    }
    for bridge in &observed.network.vlan_bridges {
        capacity.insert(names::vlan_resource(bridge), DEVICE_SLOTS.into());
    }
    for (resource, (count, _)) in &observed.hypervisor.devices {
        capacity.insert(resource.clone(), count.to_string());
    }
    let mut allocatable = capacity.clone();
    for (resource, (_, usable)) in &observed.hypervisor.devices {
        allocatable.insert(resource.clone(), usable.to_string());
    }
    // What is reserved in whole processors cannot be promised in parts: a VM that wants them to itself would not get them.
    let reserved = observed.hypervisor.reserved_cpus.unwrap_or(0).saturating_mul(1000).max(reserve.milli_cpu);
    allocatable.insert("cpu".into(), format!("{}m", (machine.cpus * 1000).saturating_sub(reserved)));
    allocatable
        .insert("memory".into(), machine.memory.saturating_sub(reserve.memory + in_huge_pages).to_string());
    let storage = machine.storage.saturating_sub(observed.hypervisor.held);
    allocatable.insert("ephemeral-storage".into(), storage.to_string());

    let mut addresses: Vec<Value> = observed
        .network
        .addresses
        .iter()
        .map(|address| json!({"type": "InternalIP", "address": address}))
        .collect();
    addresses.push(json!({"type": "Hostname", "address": name}));
    let own = observed.images.iter().map(|image| (format!("sheaf.dev/{}", image.name), image.virtual_bytes));
    let pulled = observed.container_disks.iter().cloned();
    let images: Vec<Value> = own
        .chain(pulled.take(MOST_IMAGES))
        .map(|(name, bytes)| json!({"names": [name], "sizeBytes": bytes}))
        .collect();
    Ok(serde_json::from_value(json!({
        "capacity": capacity,
        "allocatable": allocatable,
        "addresses": addresses,
        "images": images,
        "conditions": conditions(observed),
        // attach and exec speak WebSockets; kube-apiserver would translate them to SPDY for a node that does not say so.
        "declaredFeatures": observed.api_port.map(|_| ["ExtendWebSocketsToKubelet"]),
        // Absent it would mean 10250: 0 says that nothing listens.
        "daemonEndpoints": {"kubeletEndpoint": {"Port": observed.api_port.unwrap_or(0)}},
        "nodeInfo": {
            "machineID": machine.machine_id, "systemUUID": machine.system_uuid, "bootID": machine.boot_id,
            "kernelVersion": machine.kernel, "osImage": machine.os_image,
            "containerRuntimeVersion": format!("libvirt://{}", observed.hypervisor.version.as_deref().unwrap_or("0.0.0")),
            "kubeletVersion": format!("{API_LEVEL}+sheaf-{}", env!("CARGO_PKG_VERSION")),
            "kubeProxyVersion": "",
            "operatingSystem": "linux",
            "architecture": if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" },
        },
    }))?)
}

fn conditions(observed: &Observed) -> Value {
    let Hypervisor { answers, kvm, problem, .. } = &observed.hypervisor;
    let problem = problem.clone().unwrap_or_else(|| "libvirt has not answered yet".into());
    let word = |holds: bool| if holds { "True" } else { "False" };
    let problems = &observed.health.problems;
    let is_ready = observed.is_ready();
    let ready = match (answers, is_ready) {
        // The words are a kubelet's (pkg/kubelet/nodeshutdown).
        _ if observed.shutting_down => (names::REASON_NODE_SHUTDOWN, "node is shutting down".to_owned()),
        (true, true) => ("HypervisorReady", "libvirt answers".to_owned()),
        (true, false) => ("NodeStalled", problems.join("; ")),
        (false, _) => ("HypervisorNotReady", problem),
    };
    let kvm_words =
        if *kvm { ("KvmUsable", "/dev/kvm can be used") } else { ("NoKvm", "/dev/kvm cannot be used") };
    let devices = &observed.hypervisor;
    let devices = match (devices.device_problems.is_empty(), devices.devices.is_empty()) {
        (false, _) => ("False", "DevicesInUse", devices.device_problems.join("; ")),
        (true, false) => ("True", "DevicesOffered", "VMs can have the devices that are permitted".to_owned()),
        (true, true) => {
            ("True", "NonePermitted", "ClusterConfig cluster permits no devices of nodes".to_owned())
        }
    };
    let mut conditions = json!([
        {"type": "HostDevicesReady", "status": devices.0, "reason": devices.1, "message": devices.2},
        pressure("MemoryPressure", &observed.hypervisor.pressure.memory, "memory is available"),
        pressure("DiskPressure", &observed.hypervisor.pressure.disk, "/data and /var have space"),
        {"type": "PIDPressure", "status": "False", "reason": "NotUnderPressure", "message": "no containers run here"},
        {"type": "KvmReady", "status": word(*kvm), "reason": kvm_words.0, "message": kvm_words.1},
        {"type": "Ready", "status": word(is_ready), "reason": ready.0, "message": ready.1},
    ]);
    if let (Some(etcd), Some(list)) = (&observed.etcd, conditions.as_array_mut()) {
        list.extend([
            verdict("EtcdHealthy", &etcd.health),
            verdict("EtcdSnapshots", &etcd.snapshots),
            verdict("EtcdQuorum", &etcd.quorum),
        ]);
    }
    if let (Some(certificates), Some(list)) = (&observed.certificates, conditions.as_array_mut()) {
        list.push(verdict("CertificatesValid", certificates));
    }
    conditions
}

fn verdict(kind: &str, verdict: &Verdict) -> Value {
    let status = match verdict.holds {
        Some(true) => "True",
        Some(false) => "False",
        None => "Unknown",
    };
    json!({"type": kind, "status": status, "reason": verdict.reason, "message": verdict.message})
}

/// A condition that is True while the node is short of something, for the reason `why`.
fn pressure(kind: &str, why: &Option<String>, enough: &str) -> Value {
    match why {
        Some(why) => json!({"type": kind, "status": "True", "reason": "UnderPressure", "message": why}),
        None => json!({"type": kind, "status": "False", "reason": "NotUnderPressure", "message": enough}),
    }
}

/// Labels the node gives itself.
pub fn labels(
    name: &str,
    images: &[PresentImage],
    hypervisor: &Hypervisor,
    configured: &BTreeMap<String, String>,
) -> BTreeMap<String, String> {
    let architecture = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
    let mut labels = configured.clone();
    for (key, value) in [
        ("kubernetes.io/hostname", name),
        ("kubernetes.io/os", "linux"),
        ("kubernetes.io/arch", architecture),
        (names::VM_NODE_LABEL, names::TRUE),
        (names::SCHEDULABLE_LABEL, names::TRUE),
    ] {
        labels.insert(key.into(), value.into());
    }
    for (label, holds) in [
        (names::NESTED_LABEL, hypervisor.nested),
        (names::CPU_MANAGER_LABEL, hypervisor.reserved_cpus.is_some()),
    ] {
        if holds {
            labels.insert(label.into(), names::TRUE.into());
        }
    }
    for image in images {
        labels.insert(format!("{}{}", names::IMAGE_LABEL_PREFIX, image.name), names::IMAGE_PRESENT.into());
    }
    labels
}

/// Whether `label` is one that only [`labels`] sets, and so may be removed when it no longer says so.
pub fn owned(label: &str) -> bool {
    label.starts_with(names::IMAGE_LABEL_PREFIX)
        || [names::NESTED_LABEL, names::CPU_MANAGER_LABEL].contains(&label)
}

/// Puts `new` over `old`: conditions of others stay, times of transition stay where nothing changed.
pub fn merge(old: &NodeStatus, mut new: NodeStatus, now: &Value) -> anyhow::Result<NodeStatus> {
    let time: k8s_openapi::apimachinery::pkg::apis::meta::v1::Time = serde_json::from_value(now.clone())?;
    let before: Vec<NodeCondition> = old.conditions.clone().unwrap_or_default();
    let mut conditions = new.conditions.take().unwrap_or_default();
    for condition in &mut conditions {
        let same = before.iter().find(|old| old.type_ == condition.type_ && old.status == condition.status);
        condition.last_transition_time =
            same.and_then(|old| old.last_transition_time.clone()).or(Some(time.clone()));
        condition.last_heartbeat_time = Some(time.clone());
    }
    conditions.extend(
        before
            .into_iter()
            .filter(|old| !conditions.iter().any(|new| new.type_ == old.type_))
            .collect::<Vec<_>>(),
    );
    Ok(NodeStatus {
        capacity: new.capacity,
        allocatable: new.allocatable,
        addresses: new.addresses,
        images: new.images,
        node_info: new.node_info,
        daemon_endpoints: new.daemon_endpoints,
        declared_features: new.declared_features,
        conditions: Some(conditions),
        ..old.clone()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine() -> Machine {
        Machine {
            cpus: 4,
            memory: 8192 * MIB,
            huge_pages: BTreeMap::from([(2 * MIB, 512), (1 << 30, 0)]),
            ..Machine::default()
        }
    }

    fn observed(answers: bool, kvm: bool) -> Observed {
        Observed {
            hypervisor: Hypervisor { answers, kvm, version: Some("11.3.0".into()), ..Hypervisor::default() },
            network: NetworkState {
                addresses: vec!["192.0.2.1".parse().unwrap(), "2001:db8::1".parse().unwrap()],
                bridges: vec!["br0".into(), "br1".into()],
                vlan_bridges: vec!["br1".into()],
                ways_out: BTreeMap::from([("br0".into(), true), ("br1".into(), true)]),
                time_synchronised: true,
            },
            container_disks: vec![("quay.io/a/b:1".into(), 2 << 20)],
            images: vec![PresentImage { name: "guest.qcow2".into(), virtual_bytes: 7 }],
            health: Health::default(),
            etcd: None,
            certificates: None,
            api_port: Some(10250),
            shutting_down: false,
        }
    }

    #[test]
    fn a_node_that_is_shutting_down_is_not_ready_and_says_so() {
        let going = Observed { shutting_down: true, ..observed(true, true) };
        assert!(!going.is_ready() && observed(true, true).is_ready());
        let conditions = conditions(&going);
        let ready =
            conditions.as_array().unwrap().iter().find(|condition| condition["type"] == "Ready").unwrap();
        assert_eq!(
            (&ready["status"], &ready["reason"], &ready["message"]),
            (&json!("False"), &json!("NodeShutdown"), &json!("node is shutting down"))
        );
    }

    #[test]
    fn a_node_that_cannot_do_its_work_is_not_ready_though_libvirt_answers() {
        let health =
            Health { problems: vec!["controller vms has been in one round for more than 60 s".into()] };
        let conditions = conditions(&Observed { health, ..observed(true, true) });
        let ready =
            conditions.as_array().unwrap().iter().find(|condition| condition["type"] == "Ready").unwrap();
        assert_eq!((&ready["status"], &ready["reason"]), (&json!("False"), &json!("NodeStalled")));
    }

    #[test]
    fn a_control_plane_node_says_how_its_etcd_is_and_a_worker_does_not() {
        let etcd = EtcdState {
            health: Verdict::new(Some(true), "Healthy", "etcd answers"),
            snapshots: Verdict::new(None, "NoneYet", "no snapshot was taken yet"),
            quorum: Verdict::new(Some(false), "EvenMembers", "etcd has 2 members"),
        };
        let of = |etcd, kind: &str| {
            let conditions = conditions(&Observed { etcd, ..observed(true, true) });
            let found = conditions.as_array().unwrap().iter().find(|condition| condition["type"] == kind);
            found.map(|condition| (condition["status"].clone(), condition["reason"].clone()))
        };
        assert_eq!(of(Some(etcd.clone()), "EtcdHealthy"), Some((json!("True"), json!("Healthy"))));
        assert_eq!(of(Some(etcd.clone()), "EtcdSnapshots"), Some((json!("Unknown"), json!("NoneYet"))));
        assert_eq!(of(Some(etcd), "EtcdQuorum"), Some((json!("False"), json!("EvenMembers"))));
        assert_eq!(of(None, "EtcdHealthy"), None);
    }

    #[test]
    fn a_node_says_whether_its_certificates_are_valid_once_they_were_read() {
        let of = |certificates| {
            let conditions = conditions(&Observed { certificates, ..observed(true, true) });
            let found = conditions.as_array().unwrap().iter().find(|one| one["type"] == "CertificatesValid");
            found.map(|one| (one["status"].clone(), one["reason"].clone()))
        };
        assert_eq!(of(None), None);
        let expired = Verdict::new(Some(false), "Expired", "the CA expired");
        assert_eq!(of(Some(expired)), Some((json!("False"), json!("Expired"))));
    }

    fn quantity(
        map: &Option<BTreeMap<String, k8s_openapi::apimachinery::pkg::api::resource::Quantity>>,
        name: &str,
    ) -> Option<String> {
        map.as_ref().unwrap().get(name).map(|quantity| quantity.0.clone())
    }

    /// Decision 24: what else grows on the state partition leaves etcd its database (2 GiB by default,
    /// `--quota-backend-bytes`) and the copy that defragmenting makes.
    #[test]
    fn logs_leave_etcd_the_space_that_it_can_grow_to() {
        const GIB: u64 = 1 << 30;
        const ETCD: u64 = 2 * 2 * GIB;
        let rootfs = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../os-image/image/rootfs");
        let value = |file: &str, key: &str| -> String {
            let text = std::fs::read_to_string(rootfs.join(file)).unwrap();
            let lines = text.lines().filter_map(|line| line.split_once('='));
            lines
                .map(|(name, value)| (name.trim(), value.trim().to_owned()))
                .find(|(name, _)| *name == key)
                .unwrap()
                .1
        };
        let journald = |key: &str| -> u64 {
            let text = value("usr/lib/systemd/journald.conf.d/sheaf.conf", key);
            text.strip_suffix('G').unwrap().parse::<u64>().unwrap() * GIB
        };
        let virtlogd = |key: &str| -> u64 { value("etc/libvirt/virtlogd.conf", key).parse().unwrap() };
        let logs_of_vms = virtlogd("max_size") * (1 + virtlogd("max_backups")) * MOST_PODS;
        assert!(logs_of_vms <= GIB / 4, "{logs_of_vms}");
        assert!(journald("SystemKeepFree") >= ETCD);
        let server =
            std::fs::read_to_string(rootfs.join("usr/lib/systemd/system/kube-apiserver.service")).unwrap();
        let audit = |flag: &str| -> u64 {
            let value = server.split(&format!("--audit-log-{flag}=")).nth(1).unwrap();
            value.split_whitespace().next().unwrap().parse().unwrap()
        };
        // The file that is written, the one that is being packed, and those that are.
        let audit = audit("maxsize") * MIB * (audit("maxbackup") + 2);
        assert!(audit <= 288 * MIB, "{audit}");
        assert!(journald("SystemMaxUse") + logs_of_vms + audit + ETCD < 32 * GIB);
        let etcd = std::fs::read_to_string(rootfs.join("usr/lib/systemd/system/etcd.service")).unwrap();
        assert!(!etcd.contains("quota-backend-bytes"), "the default is what is compared here");
    }

    #[test]
    fn disks_and_images_that_outlive_vms_are_not_offered_to_others() {
        let mut observed = observed(true, true);
        let machine = Machine { storage: 100 << 30, ..machine() };
        for (held, offered) in [(0, 100_u64), (30 << 30, 70), (u64::MAX, 0)] {
            observed.hypervisor.held = held;
            let status = status("n1", &machine, &observed, Reserve::of(false)).unwrap();
            let storage = quantity(&status.allocatable, "ephemeral-storage").unwrap();
            assert_eq!(storage, (offered << 30).to_string());
            assert_eq!(quantity(&status.capacity, "ephemeral-storage").unwrap(), (100_u64 << 30).to_string());
        }
    }

    #[test]
    fn allocatable_is_capacity_less_reserve_and_huge_pages() {
        let status = status("n1", &machine(), &observed(true, true), Reserve::of(false)).unwrap();
        assert_eq!(quantity(&status.allocatable, "memory").unwrap(), ((8192 - 448 - 1024) * MIB).to_string());
        assert_eq!(quantity(&status.allocatable, "cpu").unwrap(), "3900m");
        assert_eq!(quantity(&status.capacity, "hugepages-2Mi").unwrap(), (1024 * MIB).to_string());
        assert_eq!(quantity(&status.capacity, "hugepages-1Gi").unwrap(), "0");
        assert_eq!(quantity(&status.capacity, "bridge.sheaf.dev/br0").unwrap(), "1000");
        assert_eq!(quantity(&status.capacity, "vlan.bridge.sheaf.dev/br1").unwrap(), "1000");
        assert_eq!(quantity(&status.capacity, "vlan.bridge.sheaf.dev/br0"), None);
    }

    #[test]
    fn a_machine_smaller_than_the_reserve_offers_nothing() {
        let tiny = Machine { memory: 100 * MIB, ..machine() };
        let status = status("n1", &tiny, &observed(true, true), Reserve::of(true)).unwrap();
        assert_eq!(quantity(&status.allocatable, "memory").unwrap(), "0");
    }

    #[test]
    fn reserved_processors_are_not_offered() {
        let mut observed = observed(true, true);
        let offered = |observed: &Observed, control_plane| {
            let status = status("n1", &machine(), observed, Reserve::of(control_plane)).unwrap();
            quantity(&status.allocatable, "cpu").unwrap()
        };
        assert_eq!(offered(&observed, true), "3500m");
        observed.hypervisor.reserved_cpus = Some(1);
        assert_eq!((offered(&observed, false), offered(&observed, true)), ("3000m".into(), "3000m".into()));
        observed.hypervisor.reserved_cpus = Some(2);
        assert_eq!(offered(&observed, false), "2000m");
        observed.hypervisor.reserved_cpus = Some(u64::MAX);
        assert_eq!(offered(&observed, false), "0m");
    }

    #[test]
    fn devices_that_are_permitted_are_offered_as_far_as_they_can_be_had() {
        let mut observed = observed(true, true);
        let told = |observed: &Observed| {
            let status = status("n1", &machine(), observed, Reserve::of(false)).unwrap();
            let conditions = status.conditions.clone().unwrap();
            let condition = conditions.into_iter().find(|one| one.type_ == "HostDevicesReady").unwrap();
            let of = |map| quantity(map, "nvidia.com/T4");
            (of(&status.capacity), of(&status.allocatable), condition.status, condition.reason.unwrap())
        };
        assert_eq!(told(&observed), (None, None, "True".into(), "NonePermitted".into()));
        observed.hypervisor.devices = [("nvidia.com/T4".to_owned(), (2, 1))].into();
        let offered = (Some("2".to_owned()), Some("1".to_owned()));
        assert_eq!(
            told(&observed),
            (offered.0.clone(), offered.1.clone(), "True".into(), "DevicesOffered".into())
        );
        observed.hypervisor.device_problems = vec!["0000:01:00.0 (nvidia.com/T4): it is in use".into()];
        assert_eq!(told(&observed), (offered.0, offered.1, "False".into(), "DevicesInUse".into()));
    }

    #[test]
    fn without_kvm_no_vm_can_be_placed_and_without_libvirt_it_is_not_ready() {
        let status = status("n1", &machine(), &observed(false, false), Reserve::of(false)).unwrap();
        assert_eq!(quantity(&status.capacity, "devices.kubevirt.io/kvm"), None);
        let ready =
            status.conditions.unwrap().into_iter().find(|condition| condition.type_ == "Ready").unwrap();
        assert_eq!((ready.status.as_str(), ready.reason.as_deref()), ("False", Some("HypervisorNotReady")));
    }

    #[test]
    fn a_node_that_is_short_of_disk_or_memory_has_that_condition_and_the_reason() {
        let mut short = observed(true, true);
        short.hypervisor.pressure.disk = Some("less than 10 % of /data is free".into());
        let status = status("n1", &machine(), &short, Reserve::of(false)).unwrap();
        let of = |kind: &str| {
            let conditions = status.conditions.clone().unwrap();
            let condition = conditions.into_iter().find(|condition| condition.type_ == kind).unwrap();
            (condition.status, condition.message.unwrap())
        };
        assert_eq!(of("DiskPressure"), ("True".into(), "less than 10 % of /data is free".into()));
        assert_eq!(of("MemoryPressure").0, "False");
    }

    #[test]
    fn the_time_of_a_transition_stays_while_nothing_changes() {
        let compute =
            |answers| status("n1", &machine(), &observed(answers, true), Reserve::of(false)).unwrap();
        let first = merge(&NodeStatus::default(), compute(true), &json!("2026-01-01T00:00:00Z")).unwrap();
        let second = merge(&first, compute(true), &json!("2026-01-01T00:01:00Z")).unwrap();
        let third = merge(&second, compute(false), &json!("2026-01-01T00:02:00Z")).unwrap();
        let ready = |status: &NodeStatus| {
            let all = status.conditions.clone().unwrap();
            serde_json::to_value(all.into_iter().find(|condition| condition.type_ == "Ready").unwrap())
                .unwrap()
        };
        assert_eq!(ready(&second)["lastTransitionTime"], "2026-01-01T00:00:00Z");
        assert_eq!(ready(&second)["lastHeartbeatTime"], "2026-01-01T00:01:00Z");
        assert_eq!(ready(&third)["lastTransitionTime"], "2026-01-01T00:02:00Z");
    }

    #[test]
    fn labels_of_node_toml_do_not_override_the_nodes_own() {
        let configured = BTreeMap::from([
            ("rack".to_owned(), "7".to_owned()),
            ("kubernetes.io/os".to_owned(), "plan9".to_owned()),
        ]);
        let images = observed(true, true).images;
        let none = labels("n1", &images, &Hypervisor::default(), &configured);
        assert!(!none.contains_key(names::NESTED_LABEL) && !none.contains_key(names::CPU_MANAGER_LABEL));
        let all = Hypervisor { nested: true, reserved_cpus: Some(1), ..Hypervisor::default() };
        let labels = labels("n1", &images, &all, &configured);
        assert_eq!(labels["cpumanager"], "true");
        assert!(labels.keys().filter(|label| !none.contains_key(*label)).all(|label| owned(label)));
        assert_eq!(labels["sheaf.dev/nested-virtualization"], "true");
        assert_eq!(labels["rack"], "7");
        assert_eq!(labels["kubernetes.io/os"], "linux");
        assert_eq!(labels["image.sheaf.dev/guest.qcow2"], "present");
    }
}
