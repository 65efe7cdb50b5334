//! The size of a VM that runs: what of its Pod's requests this node allocates, and what of memory and processors is plugged.
//!
//! Why here: the scheduler and admission count what is allocated, so that comes first, as a kubelet answers a resize in place
//! (KEP 1287): allocated if there is room beside all others, else deferred, or infeasible. Only what is allocated is plugged, and
//! never is less allocated than what the domain may use. What a domain has is read from libvirt in every round. Route in:
//! [`Observed`]. Route out: an [`Action`], parts of the [`super::Report`] of a VM that runs.

use super::{Action, Observed, Plan};
use crate::vms::admission::{self, Why, needs_at, requests};
use crate::vms::facts::Resources;
use crate::vms::memory;
use crate::vms::report::{Allocated, allocated};
use k8s_openapi::api::core::v1::Pod;
use sheaf_api::domain::Cpu;
use sheaf_api::placeholder::PlacedVmi;
use sheaf_api::size::{Plugged, Size};
use sheaf_host::libvirt::Domain;

const MIB: u64 = 1 << 20;

/// Reason of a resize that waits for room; Kubernetes' own.
const DEFERRED: &str = "Deferred";
/// Reason of a resize that this node can never do; Kubernetes' own.
const INFEASIBLE: &str = "Infeasible";

/// What the domain of `pod` has and can have; nothing if it cannot grow.
pub(super) fn plugged(pod: &Pod, domain: &Domain) -> Option<Plugged> {
    of(&admission::placed(pod)?, domain)
}

fn of(placed: &PlacedVmi, domain: &Domain) -> Option<Plugged> {
    let boot = Size::of(&placed.spec.domain);
    let per_socket = per_socket(placed);
    // Of one that an earlier version started it is less than what its spec allows.
    let sockets = |cpus: u32| cpus.checked_div(per_socket).unwrap_or(0).max(boot.sockets);
    let memory = domain.memory.unwrap_or_default();
    let most = Size { memory: boot.memory.saturating_add(memory.size), sockets: sockets(domain.cpus.most) };
    let size = Size {
        memory: boot.memory.saturating_add(memory.requested.max(memory.current)),
        sockets: sockets(domain.cpus.current),
    };
    let taken = boot.memory.saturating_add(memory.current);
    (most != boot).then_some(Plugged { size, taken, boot, most })
}

fn per_socket(placed: &PlacedVmi) -> u32 {
    let cpu = placed.spec.domain.cpu.clone().unwrap_or_default();
    Cpu { sockets: Some(1), ..cpu }.count().max(1)
}

/// What is allocated to the Pod of a VM that runs, with `used` taken on the node by all VMs, this one included.
pub(super) fn allocate(
    o: &Observed<'_>,
    pod: &Pod,
    has: Option<Size>,
    counted: Resources,
    used: &mut Resources,
) -> Allocated {
    let asked = Allocated::asked(pod);
    let Some(before) = allocated(pod).filter(|before| *before != asked.requests) else { return asked };
    let wait = |reason: &'static str, message: String| Allocated {
        requests: before.clone(),
        pending: Some(Why { reason, message }),
    };
    let wants = requests(pod);
    // The Pod as if all that it asks for were allocated: what its guest and QEMU can use is the least.
    let least = needs_at(&without_status(pod), o.facts, has).memory;
    if wants.memory < least {
        let (asked, least) = (wants.memory / MIB, least.div_ceil(MIB));
        return wait(
            INFEASIBLE,
            format!(
                "{asked} MiB are less than the {least} MiB that the VM uses; its guest must give memory back first"
            ),
        );
    }
    let Some(all) = o.facts.allocatable else { return Allocated { requests: before, pending: None } };
    let more = Resources {
        cpu: wants.cpu.saturating_sub(counted.cpu),
        memory: wants.memory.saturating_sub(counted.memory),
        ..Resources::default()
    };
    let then = used.plus(more);
    let short = |what: &str, more: u64, taken: u64, all: u64, unit: &str| {
        format!(
            "the VM needs {more}{unit} of {what} more; of {all}{unit} on this node {taken}{unit} are taken"
        )
    };
    let message = if then.memory > all.memory && more.memory > 0 {
        short("memory", more.memory.div_ceil(MIB), used.memory / MIB, all.memory / MIB, " MiB")
    } else if then.cpu > all.cpu && more.cpu > 0 {
        short("CPU", more.cpu, used.cpu, all.cpu, "m")
    } else {
        *used = then;
        return asked;
    };
    let is_possible = wants.memory <= all.memory && wants.cpu <= all.cpu;
    wait(if is_possible { DEFERRED } else { INFEASIBLE }, message)
}

/// The Pod as if this node had not allocated anything to it.
fn without_status(pod: &Pod) -> Pod {
    Pod { status: None, ..pod.clone() }
}

/// The next step towards the size that the controller wrote, if what that needs is allocated.
pub(super) fn next(
    plan: &mut Plan,
    o: &Observed<'_>,
    uid: &str,
    pod: &Pod,
    domain: &Domain,
) -> Option<Action> {
    let placed = admission::placed(pod)?;
    let has = of(&placed, domain)?;
    let wanted = Size::wanted(pod)?;
    let wanted = Size {
        memory: wanted.memory.min(has.most.memory).max(has.boot.memory),
        // A socket stays: the guest runs on it.
        sockets: wanted.sockets.min(has.most.sockets).max(has.size.sockets),
    };
    let offered = domain.memory.map_or(0, |memory| memory.requested);
    let offer = wanted.memory.saturating_sub(has.boot.memory);
    let (memory, cpus) = (
        (offer != offered).then_some(offer),
        (wanted.sockets != has.size.sockets).then(|| wanted.sockets.saturating_mul(per_socket(&placed))),
    );
    if memory.is_none() && cpus.is_none() {
        return None;
    }
    let after = wanted.max(has.size);
    let is_allocated = allocated(pod).is_some_and(|allocated| {
        let needs = needs_at(&without_requests(pod), o.facts, Some(after)).memory;
        Resources::of(&allocated).memory >= needs
    });
    if !has.size.covers(wanted) && !is_allocated {
        return None;
    }
    let until = o.memory.failures.get(uid).map_or(o.now, |failure| failure.until);
    if until > o.now {
        plan.wake_at(until);
        return None;
    }
    let graphics = placed.spec.domain.devices.autoattach_graphics_device.unwrap_or(true);
    let count = u64::from(after.sockets).saturating_mul(per_socket(&placed).into());
    let has_devices = placed.spec.domain.devices.of_node().next().is_some();
    let limit = memory::limit_of(after.memory, count, graphics, false, has_devices);
    Some(Action::SetSize { uuid: domain.uuid.clone(), memory, cpus, limit })
}

/// The Pod as if it asked for nothing: what its guest and QEMU can use alone is counted.
fn without_requests(pod: &Pod) -> Pod {
    let mut pod = without_status(pod);
    for container in pod.spec.iter_mut().flat_map(|spec| &mut spec.containers) {
        container.resources = None;
    }
    pod
}
