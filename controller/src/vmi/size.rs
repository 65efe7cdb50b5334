//! Decides how the Pod of an instance grows and shrinks with it: first what is set aside on the node, then what the guest has.
//!
//! Why here: pure, so that the order is a test. Memory that the guest may use is never more than what its node has allocated to
//! the Pod: the Pod is resized in place (KEP 1287), its node allocates that as a kubelet does, and only then is told the new size. A
//! size that shrinks goes the other way: the node takes it from the guest first. Nothing is half done: while the node has no room,
//! the VM keeps its size, and the conditions HotMemoryChange and HotVCPUChange (KubeVirt's) say why. Route in: the instance, its
//! Pod. Route out: [`Action`]s, parts of the status.

use std::collections::BTreeMap;

use k8s_openapi::{
    api::core::v1::{Container, ContainerStatus, Pod},
    apimachinery::pkg::api::resource::Quantity,
    jiff::Timestamp,
};
use serde_json::{Value, json};
use sheaf_api::{
    Amount, VirtualMachineInstance,
    cluster_config::ClusterConfigSpec,
    names::{COMPUTE_CONTAINER, RESIZE_IN_PROGRESS_CONDITION, RESIZE_PENDING_CONDITION},
    size::{Plugged, Size},
    status::{CpuTopology, MemoryStatus, VirtualMachineInstanceStatus},
};

use super::plan::Action;
use crate::{
    conditions::{clear, find, set},
    placeholder::resources::{Compute, compute},
};

/// Condition of an instance while its memory is changing; KubeVirt's.
const MEMORY_CHANGE: &str = "HotMemoryChange";
/// Condition of an instance while its sockets are changing; KubeVirt's.
const CPU_CHANGE: &str = "HotVCPUChange";
/// Reason of both while the API server refuses to resize the Pod: a quota, a node that is too small.
const REFUSED: &str = "ResizeRefused";
/// Reason of both while the change is under way.
const RESIZING: &str = "Resizing";
/// Reason while a guest has not taken up the memory that it was given, or not given back what it is to lose.
const GUEST_NOT_READY: &str = "GuestNotReady";

/// Where a change of an instance's size stands.
struct Change<'a> {
    pod: &'a Pod,
    plugged: Plugged,
    /// What the instance wants, as far as its domain can be so.
    wanted: Size,
    /// What is to be set aside: for what the guest has, and for what it is to get.
    compute: Compute,
}

/// Whether the size of the instance may have to change, so that the settings of the cluster matter.
pub fn may_change(vmi: &VirtualMachineInstance, pod: Option<&Pod>) -> bool {
    let Some(plugged) = pod.and_then(Plugged::of) else { return false };
    wanted(vmi, &plugged) != plugged.size || is_changing(vmi)
}

/// What is to be done about it; `pod` is that of an instance that runs.
pub fn plan(vmi: &VirtualMachineInstance, pod: &Pod, config: &ClusterConfigSpec) -> Vec<Action> {
    let Some(change) = observe(vmi, pod, config) else { return Vec::new() };
    let name = pod.metadata.name.clone().unwrap_or_default();
    let uid = pod.metadata.uid.clone().unwrap_or_default();
    let mut actions = Vec::new();
    let told = Size::wanted(pod).unwrap_or(change.plugged.boot);
    // Less needs nothing that is not set aside already.
    let is_set_aside = change.plugged.size.covers(change.wanted) || change.is_allocated();
    if told != change.wanted && is_set_aside {
        let size = change.wanted.to_annotation();
        actions.push(Action::SetSize { name: name.clone(), uid, size });
    }
    if !change.is_requested() {
        actions.push(Action::ResizePod { name, patch: change.patch() });
    }
    actions
}

/// Puts what the node reports of the size, and how far a change is, into the status; `runs` is the Pod of an instance that runs.
pub fn report(
    status: &mut VirtualMachineInstanceStatus,
    vmi: &VirtualMachineInstance,
    runs: Option<&Pod>,
    config: &ClusterConfigSpec,
    now: Timestamp,
) {
    let Some(plugged) = runs.and_then(Plugged::of) else {
        clear(&mut status.conditions, MEMORY_CHANGE);
        clear(&mut status.conditions, CPU_CHANGE);
        return;
    };
    status.memory = (plugged.most.memory > plugged.boot.memory).then(|| MemoryStatus {
        guest_at_boot: Some(Amount::of_bytes(plugged.boot.memory)),
        guest_current: Some(Amount::of_bytes(plugged.taken)),
        guest_requested: Some(Amount::of_bytes(plugged.size.memory)),
    });
    let cpu = vmi.spec.domain.cpu.clone().unwrap_or_default();
    status.current_cpu_topology = (plugged.most.sockets > plugged.boot.sockets).then(|| CpuTopology {
        cores: cpu.cores.unwrap_or(1),
        sockets: plugged.size.sockets,
        threads: cpu.threads.unwrap_or(1),
    });
    let Some(change) = runs.and_then(|pod| observe(vmi, pod, config)) else {
        clear(&mut status.conditions, MEMORY_CHANGE);
        clear(&mut status.conditions, CPU_CHANGE);
        return;
    };
    let is_memory = change.wanted.memory != plugged.size.memory || plugged.taken != change.wanted.memory;
    let is_cpu = change.wanted.sockets != plugged.size.sockets;
    for (condition, is_it) in [(MEMORY_CHANGE, is_memory), (CPU_CHANGE, is_cpu)] {
        let was = find(&vmi.status.clone().unwrap_or_default().conditions, condition).cloned();
        // The Pod is still larger than what was given back.
        let is_left = was.is_some() && !(is_memory || is_cpu) && !change.is_requested();
        if !is_it && !is_left {
            clear(&mut status.conditions, condition);
            continue;
        }
        let was_refused = was.filter(|was| was.reason.as_deref() == Some(REFUSED));
        let (reason, message) = match was_refused.filter(|_| !change.is_requested()) {
            Some(was) => (REFUSED.to_owned(), was.message.unwrap_or_default()),
            None => change.why(),
        };
        set(&mut status.conditions, condition, "True", &reason, &message, now);
    }
}

/// The status when the API server refused to resize the Pod; nothing if nothing is changing.
pub fn refused(
    vmi: &VirtualMachineInstance,
    message: &str,
    now: Timestamp,
) -> Option<VirtualMachineInstanceStatus> {
    let mut status = vmi.status.clone()?;
    for condition in [MEMORY_CHANGE, CPU_CHANGE] {
        if find(&status.conditions, condition).is_some() {
            set(&mut status.conditions, condition, "True", REFUSED, message, now);
        }
    }
    Some(status)
}

/// The size that the instance wants, as far as its domain can be so: sockets are not taken away.
fn wanted(vmi: &VirtualMachineInstance, plugged: &Plugged) -> Size {
    let Plugged { boot, most, size, .. } = plugged;
    let asked = Size::of(&vmi.spec.domain);
    Size {
        memory: asked.memory.min(most.memory).max(boot.memory),
        sockets: asked.sockets.min(most.sockets).max(size.sockets),
    }
}

fn is_changing(vmi: &VirtualMachineInstance) -> bool {
    let conditions = vmi.status.as_ref().map(|status| status.conditions.as_slice()).unwrap_or_default();
    [MEMORY_CHANGE, CPU_CHANGE].iter().any(|type_| find(conditions, type_).is_some())
}

/// The change of the instance's size that is due or under way.
fn observe<'a>(vmi: &VirtualMachineInstance, pod: &'a Pod, config: &ClusterConfigSpec) -> Option<Change<'a>> {
    let plugged = Plugged::of(pod).filter(|_| may_change(vmi, Some(pod)))?;
    let wanted = wanted(vmi, &plugged);
    let mut spec = vmi.spec.clone();
    spec.domain = wanted.max(plugged.size).put(&spec.domain);
    Some(Change { pod, plugged, wanted, compute: compute(&spec, config) })
}

impl Change<'_> {
    fn container(&self) -> Option<&Container> {
        self.pod.spec.iter().flat_map(|spec| &spec.containers).find(|one| one.name == COMPUTE_CONTAINER)
    }

    fn status(&self) -> Option<&ContainerStatus> {
        let all = self.pod.status.iter().flat_map(|status| status.container_statuses.iter().flatten());
        all.into_iter().find(|one| one.name == COMPUTE_CONTAINER)
    }

    /// Whether the Pod asks for exactly what is to be set aside.
    fn is_requested(&self) -> bool {
        let resources = self.container().and_then(|container| container.resources.as_ref());
        let has = |all: Option<&BTreeMap<String, Quantity>>, name: &str, amount: &Amount| {
            all.and_then(|all| milli(all.get(name)?)) == amount.milli().ok()
        };
        let requests = resources.and_then(|resources| resources.requests.as_ref());
        let limits = resources.and_then(|resources| resources.limits.as_ref());
        self.compute.requests.iter().all(|(name, amount)| has(requests, name, amount))
            && self.compute.limits.iter().all(|(name, amount)| has(limits, name, amount))
    }

    /// Whether the node has allocated what is to be set aside, or more.
    fn is_allocated(&self) -> bool {
        let allocated = self.status().and_then(|status| status.allocated_resources.as_ref());
        let covers = |(name, amount): (&String, &Amount)| {
            let has = allocated.and_then(|allocated| milli(allocated.get(name)?));
            has.zip(amount.milli().ok()).is_some_and(|(has, needs)| has >= needs)
        };
        self.compute.requests.iter().all(covers)
    }

    /// A patch of the Pod's subresource `resize`.
    fn patch(&self) -> Value {
        let resources = json!({"requests": self.compute.requests, "limits": self.compute.limits});
        json!({
            "metadata": {"resourceVersion": self.pod.metadata.resource_version},
            "spec": {"containers": [{"name": COMPUTE_CONTAINER, "resources": resources}]},
        })
    }

    /// Why it is not done: reason and message.
    fn why(&self) -> (String, String) {
        let conditions = self.pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
        let by_node = |type_: &str| {
            let mut conditions = conditions.clone();
            let found = conditions.find(|one| one.type_ == type_ && one.status == "True")?;
            let text = |text: &Option<String>| text.clone().unwrap_or_default();
            Some((text(&found.reason), text(&found.message)))
        };
        if let Some(why) = by_node(RESIZE_PENDING_CONDITION).or_else(|| by_node(RESIZE_IN_PROGRESS_CONDITION))
        {
            return why;
        }
        let Plugged { size, taken, .. } = &self.plugged;
        if *size == self.wanted && *taken != size.memory {
            let mib = |bytes: u64| bytes >> 20;
            let message = format!(
                "the guest has {} MiB of {} MiB: it needs a driver for virtio-mem, and gives memory back as it can",
                mib(*taken),
                mib(size.memory)
            );
            return (GUEST_NOT_READY.into(), message);
        }
        (RESIZING.into(), String::new())
    }
}

/// A quantity in thousandths.
fn milli(quantity: &Quantity) -> Option<u64> {
    Amount::try_from(quantity).ok()?.milli().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: u64 = 1 << 30;
    /// QEMU's share of a VM with one processor and 1 GiB: 100 + 8 + 2 + 16 MiB.
    const BOOT: &str = "1150Mi";
    /// Of one with 2 GiB: 2 MiB more for page tables.
    const GROWN: &str = "2176Mi";

    fn now() -> Timestamp {
        Timestamp::from_second(1_800_000_000).unwrap()
    }

    fn vmi(guest: &str, sockets: u32) -> VirtualMachineInstance {
        let domain = json!({"memory": {"guest": guest, "maxGuest": "4Gi"}, "devices": {},
            "cpu": {"sockets": sockets, "cores": 1, "threads": 1, "maxSockets": 4}});
        serde_json::from_value(json!({
            "apiVersion": "kubevirt.io/v1", "kind": "VirtualMachineInstance", "metadata": {"name": "web", "uid": "u"},
            "spec": {"domain": domain}, "status": {"phase": "Running"},
        }))
        .unwrap()
    }

    /// The Pod of a VM that started with 1Gi and one socket: what it asks for, what its node allocated, what is plugged.
    fn pod(memory: &str, allocated: &str, plugged: Size) -> Pod {
        let boot = Size { memory: GIB, sockets: 1 };
        let most = Size { memory: 4 * GIB, sockets: 4 };
        let report = Plugged { size: plugged, taken: plugged.memory, boot, most };
        let told = (plugged != boot).then(|| plugged.to_annotation());
        let cpu = |memory: &str| json!({"cpu": "100m", "memory": memory, "ephemeral-storage": "16Mi"});
        serde_json::from_value(json!({
            "metadata": {"name": "p", "uid": "p-1", "resourceVersion": "7",
                         "annotations": {"sheaf.dev/plugged": report.to_annotation(),
                                         "sheaf.dev/size": told.unwrap_or_else(|| boot.to_annotation())}},
            "spec": {"containers": [{"name": "compute", "resources": {"requests": cpu(memory)}}]},
            "status": {"containerStatuses": [{"name": "compute", "image": "", "imageID": "", "ready": true,
                       "restartCount": 0, "state": {"running": {}}, "allocatedResources": cpu(allocated)}]},
        }))
        .unwrap()
    }

    fn at(gib: u64) -> Size {
        Size { memory: gib * GIB, sockets: 1 }
    }

    fn planned(vmi: &VirtualMachineInstance, pod: &Pod) -> Vec<Action> {
        plan(vmi, pod, &ClusterConfigSpec::default())
    }

    fn condition(vmi: &VirtualMachineInstance, pod: &Pod, type_: &str) -> Option<(String, String)> {
        let mut status = vmi.status.clone().unwrap();
        report(&mut status, vmi, Some(pod), &ClusterConfigSpec::default(), now());
        let found = find(&status.conditions, type_)?;
        Some((found.reason.clone().unwrap_or_default(), found.message.clone().unwrap_or_default()))
    }

    fn told(size: Size) -> Vec<Action> {
        vec![Action::SetSize { name: "p".into(), uid: "p-1".into(), size: size.to_annotation() }]
    }

    fn resizes(actions: &[Action]) -> Option<String> {
        actions.iter().find_map(|action| match action {
            Action::ResizePod { patch, .. } => {
                let requests = &patch["spec"]["containers"][0]["resources"]["requests"];
                assert_eq!(patch["metadata"]["resourceVersion"], "7", "only the Pod that was read");
                Some(requests["memory"].as_str().unwrap().to_owned())
            }
            _ => None,
        })
    }

    #[test]
    fn a_vm_whose_size_is_its_own_is_left_alone() {
        assert_eq!(planned(&vmi("1Gi", 1), &pod(BOOT, BOOT, at(1))), []);
        assert_eq!(condition(&vmi("1Gi", 1), &pod(BOOT, BOOT, at(1)), MEMORY_CHANGE), None);
        assert!(
            !may_change(&vmi("2Gi", 1), Some(&Pod::default())),
            "it cannot grow, or its node does not say so"
        );
    }

    #[test]
    fn memory_is_set_aside_first_and_the_node_is_told_only_when_it_is_allocated() {
        let wants = vmi("2Gi", 1);
        let asked = planned(&wants, &pod(BOOT, BOOT, at(1)));
        assert_eq!((asked.len(), resizes(&asked).as_deref()), (1, Some(GROWN)));
        // The Pod asks, and the node has not answered.
        assert_eq!(planned(&wants, &pod(GROWN, BOOT, at(1))), []);
        assert_eq!(planned(&wants, &pod(GROWN, GROWN, at(1))), told(at(2)));
        let mut was_told = pod(GROWN, GROWN, at(1));
        let annotations = was_told.metadata.annotations.get_or_insert_default();
        annotations.insert("sheaf.dev/size".into(), at(2).to_annotation());
        assert_eq!(planned(&wants, &was_told), []);
        assert_eq!(condition(&wants, &was_told, MEMORY_CHANGE), Some((RESIZING.into(), String::new())));
        assert_eq!(condition(&wants, &pod(GROWN, GROWN, at(2)), MEMORY_CHANGE), None);
    }

    #[test]
    fn sockets_grow_the_same_way() {
        let wants = vmi("1Gi", 2);
        let asked = planned(&wants, &pod(BOOT, BOOT, at(1)));
        // 8 MiB and a tenth of a core for the second processor.
        assert_eq!(resizes(&asked).as_deref(), Some("1158Mi"));
        assert!(condition(&wants, &pod(BOOT, BOOT, at(1)), CPU_CHANGE).is_some());
        assert_eq!(condition(&wants, &pod(BOOT, BOOT, at(1)), MEMORY_CHANGE), None);
    }

    #[test]
    fn memory_that_is_given_back_leaves_the_guest_before_it_is_free_for_others() {
        let mut less = vmi("1Gi", 1);
        assert_eq!(planned(&less, &pod(GROWN, GROWN, at(2)))[..], told(at(1))[..]);
        let status = less.status.as_mut().unwrap();
        set(&mut status.conditions, MEMORY_CHANGE, "True", RESIZING, "", now());
        let asked = planned(&less, &pod(GROWN, GROWN, at(1)));
        assert_eq!((asked.len(), resizes(&asked).as_deref()), (1, Some(BOOT)));
        assert!(condition(&less, &pod(GROWN, GROWN, at(1)), MEMORY_CHANGE).is_some());
        assert_eq!(condition(&less, &pod(BOOT, GROWN, at(1)), MEMORY_CHANGE), None);
    }

    #[test]
    fn why_a_node_does_not_grow_a_vm_is_what_the_condition_says() {
        let mut waits = pod(GROWN, BOOT, at(1));
        let pending = json!([{"type": "PodResizePending", "status": "True", "reason": "Deferred", "message": "no room"}]);
        waits.status.as_mut().unwrap().conditions = serde_json::from_value(pending).unwrap();
        let wants = vmi("2Gi", 1);
        assert_eq!(condition(&wants, &waits, MEMORY_CHANGE), Some(("Deferred".into(), "no room".into())));
        assert_eq!(planned(&wants, &waits), [], "and the VM keeps its size");
        // It is given up: nothing was plugged, and what is set aside shrinks again.
        let mut back = vmi("1Gi", 1);
        back.status.as_mut().unwrap().conditions.clone_from(&{
            let mut status = wants.status.clone().unwrap();
            report(&mut status, &wants, Some(&waits), &ClusterConfigSpec::default(), now());
            status.conditions
        });
        assert_eq!(resizes(&planned(&back, &waits)).as_deref(), Some(BOOT));
    }

    #[test]
    fn a_refusal_of_the_api_server_stays_until_the_pod_is_resized() {
        let mut wants = vmi("2Gi", 1);
        let bare = pod(BOOT, BOOT, at(1));
        let mut status = wants.status.clone().unwrap();
        report(&mut status, &wants, Some(&bare), &ClusterConfigSpec::default(), now());
        wants.status = Some(status);
        wants.status = refused(&wants, "exceeded quota", now());
        assert_eq!(condition(&wants, &bare, MEMORY_CHANGE), Some((REFUSED.into(), "exceeded quota".into())));
        let accepted = pod(GROWN, BOOT, at(1));
        assert_eq!(condition(&wants, &accepted, MEMORY_CHANGE), Some((RESIZING.into(), String::new())));
    }

    #[test]
    fn a_guest_without_a_driver_keeps_what_it_has_and_that_is_said() {
        let mut stays = pod(GROWN, GROWN, at(2));
        let mut plugged = Plugged::of(&stays).unwrap();
        plugged.taken = GIB;
        let annotations = stays.metadata.annotations.get_or_insert_default();
        annotations.insert("sheaf.dev/plugged".into(), plugged.to_annotation());
        let mut wants = vmi("2Gi", 1);
        set(&mut wants.status.as_mut().unwrap().conditions, MEMORY_CHANGE, "True", RESIZING, "", now());
        let (reason, message) = condition(&wants, &stays, MEMORY_CHANGE).unwrap();
        assert_eq!(reason, GUEST_NOT_READY);
        assert_eq!(
            message,
            "the guest has 1024 MiB of 2048 MiB: it needs a driver for virtio-mem, and gives memory back as it can"
        );
    }

    #[test]
    fn sizes_that_a_vm_can_grow_to_are_reported_and_of_others_nothing() {
        let of = |most: Size| {
            let mut pod = pod(BOOT, BOOT, at(1));
            let report_of = Plugged { most, ..Plugged::of(&pod).unwrap() };
            let annotations = pod.metadata.annotations.get_or_insert_default();
            annotations.insert("sheaf.dev/plugged".into(), report_of.to_annotation());
            let (vmi, mut status) = (vmi("1Gi", 1), VirtualMachineInstanceStatus::default());
            report(&mut status, &vmi, Some(&pod), &ClusterConfigSpec::default(), now());
            (status.memory.is_some(), status.current_cpu_topology.map(|topology| topology.sockets))
        };
        assert_eq!(of(Size { memory: 4 * GIB, sockets: 4 }), (true, Some(1)));
        assert_eq!(of(Size { memory: GIB, sockets: 4 }), (false, Some(1)));
        assert_eq!(of(Size { memory: 4 * GIB, sockets: 1 }), (true, None));
    }
}
