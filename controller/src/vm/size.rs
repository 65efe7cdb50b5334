//! The size that an instance takes up while it runs: memory within `maxGuest`, sockets within `maxSockets`.
//!
//! Why here: pure; as KubeVirt's live updates (`pkg/virt-controller/watch/vm`), whose instance gets the new size in its spec. What
//! is set aside for it on the node, and what its domain has, is the instance controller's (`vmi::size`). A size below the one that
//! the VM started with, fewer sockets, or a VM that cannot grow, need a restart. Route in: the spec that the VM wants, its
//! instance. Route out: a [`Size`], steps of a JSON patch of the instance.

use serde_json::{Value, json};
use sheaf_api::{
    Amount, VirtualMachineInstance,
    size::{BLOCK, Size},
    vmi::VirtualMachineInstanceSpec,
};

/// The size that the instance takes up now or has, if it differs from that of its template in nothing that needs a restart.
pub fn live(wanted: &VirtualMachineInstanceSpec, vmi: &VirtualMachineInstance) -> Option<Size> {
    let (asked, has) = (Size::of(&wanted.domain), Size::of(&vmi.spec.domain));
    let fits = (asked.memory == has.memory || memory_fits(asked.memory, wanted, vmi))
        && (asked.sockets == has.sockets || sockets_fit(asked.sockets, wanted, vmi));
    fits.then_some(asked)
}

/// Steps of a JSON patch by which the instance takes it up; none if it has it.
pub fn steps(wanted: &VirtualMachineInstanceSpec, vmi: &VirtualMachineInstance) -> Vec<Value> {
    let (Some(asked), has) = (live(wanted, vmi), Size::of(&vmi.spec.domain)) else { return Vec::new() };
    let step = |path: &str, after: Value| json!({"op": "add", "path": path, "value": after});
    let mut steps = Vec::new();
    if asked.memory != has.memory {
        let guest = wanted.domain.memory.as_ref().and_then(|memory| memory.guest.as_ref());
        steps.push(step("/spec/domain/memory/guest", json!(guest)));
    }
    if asked.sockets != has.sockets {
        steps.push(step("/spec/domain/cpu/sockets", json!(asked.sockets)));
    }
    steps
}

fn memory_fits(asked: u64, wanted: &VirtualMachineInstanceSpec, vmi: &VirtualMachineInstance) -> bool {
    let (template, there) = (wanted.domain.memory.as_ref(), vmi.spec.domain.memory.as_ref());
    let same_limits = template.map(|memory| (&memory.max_guest, &memory.hugepages))
        == there.map(|memory| (&memory.max_guest, &memory.hugepages));
    let status = vmi.status.as_ref().and_then(|status| status.memory.as_ref());
    // Only a VM whose domain can grow has one.
    let boot = status.and_then(|memory| bytes(memory.guest_at_boot.as_ref()));
    let most = there.and_then(|memory| bytes(memory.max_guest.as_ref()));
    // The API server takes no guest that is larger than a request or a limit of the instance.
    let bounds =
        vmi.spec.domain.resources.iter().flat_map(|resources| [&resources.requests, &resources.limits]);
    let mut bounds = bounds.filter_map(|amounts| bytes(amounts.get("memory")));
    same_limits
        && asked.is_multiple_of(BLOCK)
        && boot.zip(most).is_some_and(|(boot, most)| (boot..=most).contains(&asked))
        && bounds.all(|bound| bound >= asked)
}

fn sockets_fit(asked: u32, wanted: &VirtualMachineInstanceSpec, vmi: &VirtualMachineInstance) -> bool {
    let rest = |spec: &VirtualMachineInstanceSpec| {
        spec.domain.cpu.as_ref().map(|cpu| (cpu.cores, cpu.threads, cpu.max_sockets))
    };
    let plugged = vmi.status.as_ref().and_then(|status| status.current_cpu_topology);
    let most = vmi.spec.domain.cpu.as_ref().and_then(|cpu| cpu.max_sockets);
    rest(wanted) == rest(&vmi.spec)
        && plugged.zip(most).is_some_and(|(plugged, most)| (plugged.sockets..=most).contains(&asked))
}

fn bytes(amount: Option<&Amount>) -> Option<u64> {
    amount.and_then(|amount| amount.units().ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vm::hotplug;

    fn spec(guest: &str, sockets: u32) -> VirtualMachineInstanceSpec {
        serde_json::from_value(json!({"domain": {"memory": {"guest": guest, "maxGuest": "4Gi"},
            "cpu": {"sockets": sockets, "cores": 2, "threads": 1, "maxSockets": 4}, "devices": {}}}))
        .unwrap()
    }

    /// Of an instance that started with 1Gi and one socket and has `guest` and `sockets` in its spec.
    fn running(guest: &str, sockets: u32) -> VirtualMachineInstance {
        let mut vmi = VirtualMachineInstance::new("web", spec(guest, sockets));
        vmi.metadata.uid = Some("u".into());
        vmi.metadata.generation = Some(7);
        vmi.status = serde_json::from_value(json!({
            "memory": {"guestAtBoot": "1Gi", "guestCurrent": "1Gi", "guestRequested": "1Gi"},
            "currentCPUTopology": {"cores": 2, "sockets": 1, "threads": 1},
        }))
        .unwrap();
        vmi
    }

    /// The size in the instance's spec after it followed.
    fn followed(wanted: &VirtualMachineInstanceSpec, vmi: &VirtualMachineInstance) -> Option<Size> {
        let mut value = serde_json::to_value(vmi).unwrap();
        json_patch::patch(&mut value, &hotplug::follow(wanted, vmi)?).unwrap();
        Some(Size::of(&serde_json::from_value::<VirtualMachineInstance>(value).unwrap().spec.domain))
    }

    fn restart(wanted: &VirtualMachineInstanceSpec, vmi: &VirtualMachineInstance) -> Vec<String> {
        hotplug::needs_restart(wanted, vmi)
    }

    const GIB: u64 = 1 << 30;

    #[test]
    fn memory_and_sockets_follow_the_template_within_what_the_vm_can_grow_to() {
        let wanted = spec("2048Mi", 3);
        assert_eq!(followed(&wanted, &running("1Gi", 1)), Some(Size { memory: 2 * GIB, sockets: 3 }));
        assert_eq!(restart(&wanted, &running("1Gi", 1)), Vec::<String>::new());
        assert_eq!(followed(&spec("1Gi", 1), &running("1Gi", 1)), None);
        assert_eq!(restart(&wanted, &running("2Gi", 3)), Vec::<String>::new(), "the same in other words");
    }

    #[test]
    fn memory_is_given_back_as_far_as_the_vm_started_with_less_and_sockets_that_are_plugged_are_not() {
        assert_eq!(followed(&spec("1Gi", 1), &running("2Gi", 1)), Some(Size { memory: GIB, sockets: 1 }));
        // Asked for and not plugged yet.
        assert_eq!(followed(&spec("1Gi", 1), &running("1Gi", 2)), Some(Size { memory: GIB, sockets: 1 }));
        let mut plugged = running("1Gi", 2);
        plugged.status.as_mut().unwrap().current_cpu_topology.as_mut().unwrap().sockets = 2;
        assert_eq!(followed(&spec("1Gi", 1), &plugged), None);
        assert_eq!(restart(&spec("1Gi", 1), &plugged), ["spec.template.spec.domain.cpu.sockets"]);
    }

    #[test]
    fn what_the_vm_cannot_grow_to_needs_a_restart_and_is_named() {
        let memory = ["spec.template.spec.domain.memory.guest"];
        let rows = [(spec("512Mi", 1), running("1Gi", 1)), (spec("1537Mi", 1), running("1Gi", 1)), {
            // Its domain has no memory to plug: it was started by an earlier version, for example.
            let mut vmi = running("1Gi", 1);
            vmi.status.as_mut().unwrap().memory = None;
            (spec("2Gi", 1), vmi)
        }];
        for (wanted, vmi) in rows {
            assert_eq!(followed(&wanted, &vmi), None);
            assert_eq!(restart(&wanted, &vmi), memory);
        }
        let mut wanted = spec("2Gi", 1);
        wanted.domain.memory.as_mut().unwrap().max_guest = serde_json::from_value(json!("8Gi")).unwrap();
        let both = ["spec.template.spec.domain.memory.guest", "spec.template.spec.domain.memory.maxGuest"];
        assert_eq!(restart(&wanted, &running("1Gi", 1)), both);
    }

    #[test]
    fn a_guest_that_is_larger_than_a_request_of_the_instance_needs_a_restart() {
        let with = |guest: &str, request: &str| {
            let mut spec = spec(guest, 1);
            spec.domain.resources = serde_json::from_value(json!({"requests": {"memory": request}})).unwrap();
            spec
        };
        let mut vmi = running("1Gi", 1);
        vmi.spec = with("1Gi", "1Gi");
        assert_eq!(followed(&with("2Gi", "2Gi"), &vmi), None);
        vmi.spec = with("1Gi", "3Gi");
        assert_eq!(followed(&with("2Gi", "3Gi"), &vmi), Some(Size { memory: 2 * GIB, sockets: 1 }));
    }
}
