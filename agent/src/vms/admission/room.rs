//! Whether there is room for a VM beside those that run.
//!
//! Pure. Route in: what its Pod asks for, what the node has and what is taken. Route out: nothing, or what is missing.

use super::{Check, MIB, reject, wait};
use crate::vms::facts::{Facts, Resources};
use k8s_openapi::api::core::v1::Pod;

/// What a Pod asks the scheduler for.
pub fn requests(pod: &Pod) -> Resources {
    let containers = pod.spec.iter().flat_map(|spec| &spec.containers);
    let mut sum = Resources { pods: 1, ..Resources::default() };
    for requests in containers.filter_map(|container| container.resources.as_ref()?.requests.as_ref()) {
        sum = sum.plus(Resources::of(requests));
    }
    sum
}

/// Refuses a VM of `memory` bytes that does not fit.
pub(super) fn fits(pod: &Pod, memory: u64, facts: &Facts, used: Resources) -> Check<()> {
    let Some(all) = facts.allocatable else {
        return Err(wait("NodeNotReady", "what this node has to give is not known yet"));
    };
    let want = used.plus(requests(pod));
    let mib = |bytes: u64| bytes / MIB;
    if want.memory > all.memory || memory > all.memory {
        return Err(reject(
            "OutOfmemory",
            format!(
                "the VM has {} MiB and asks for {} MiB; of {} MiB on this node {} MiB are taken",
                mib(memory),
                mib(requests(pod).memory),
                mib(all.memory),
                mib(used.memory)
            ),
        ));
    }
    if want.cpu > all.cpu {
        return Err(reject(
            "OutOfcpu",
            format!(
                "it asks for {}m; of {}m on this node {}m are taken",
                requests(pod).cpu,
                all.cpu,
                used.cpu
            ),
        ));
    }
    if want.pods > all.pods {
        return Err(reject(
            "OutOfpods",
            format!("this node runs {} VMs already, as many as it may", used.pods),
        ));
    }
    Ok(())
}
