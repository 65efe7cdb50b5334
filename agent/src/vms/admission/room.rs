//! Whether there is room for a VM beside those that run.
//!
//! Pure. Route in: what its Pod asks for, what the node has and what is taken. Route out: nothing, or what is missing.

use super::{Check, MIB, Verdict, reject, wait};
use crate::channels::ContainerDisk;
use crate::vms::facts::{Facts, Resources};
use crate::vms::memory::overhead;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use sheaf_api::domain::{Memory, PageSize};
use sheaf_api::ephemeral::{self, Base};
use sheaf_api::names::VMI_ANNOTATION;
use sheaf_api::placeholder::PlacedVmi;
use sheaf_api::size::Size;
use std::collections::BTreeMap;

/// What a Pod asks the scheduler for.
pub fn requests(pod: &Pod) -> Resources {
    let containers = pod.spec.iter().flat_map(|spec| &spec.containers);
    let requests = containers.filter_map(|container| container.resources.as_ref()?.requests.as_ref());
    sum(requests)
}

/// What this node has allocated to a Pod: until a change of its requests is allocated, what it asked for before.
fn allocated(pod: &Pod) -> Option<Resources> {
    let containers = pod.status.iter().flat_map(|status| status.container_statuses.iter().flatten());
    let mut all = containers.filter_map(|container| container.allocated_resources.as_ref()).peekable();
    all.peek()?;
    Some(sum(all))
}

fn sum<'a>(all: impl Iterator<Item = &'a BTreeMap<String, Quantity>>) -> Resources {
    all.fold(Resources { pods: 1, ..Resources::default() }, |sum, one| sum.plus(Resources::of(one)))
}

/// What a VM takes of the node: what its Pod asks for, and never less memory than its guest and QEMU can use, nor less of
/// /data than its files may grow to, whatever the Pod says, as anyone may make Pods; less of the guest's memory where an
/// administrator chose to overcommit.
pub fn needs(pod: &Pod, facts: &Facts) -> Resources {
    needs_at(pod, facts, None)
}

/// The same of a VM that has `size` by now.
pub fn needs_at(pod: &Pod, facts: &Facts, size: Option<Size>) -> Resources {
    let asked = allocated(pod).unwrap_or_else(|| requests(pod));
    let annotation = pod.metadata.annotations.as_ref().and_then(|all| all.get(VMI_ANNOTATION));
    let Some(placed) = annotation.and_then(|text| PlacedVmi::from_annotation(text).ok()) else {
        return asked;
    };
    let domain = &size.map_or_else(|| placed.spec.domain.clone(), |size| size.put(&placed.spec.domain));
    let guest = domain.memory.as_ref().and_then(|memory| memory.guest.as_ref());
    let guest = guest.and_then(|amount| amount.units().ok()).unwrap_or(0);
    let cpus = domain.cpu.as_ref().map_or(1, sheaf_api::domain::Cpu::count);
    let graphics = domain.devices.autoattach_graphics_device.unwrap_or(true);
    let has_devices = domain.devices.of_node().next().is_some();
    // Huge pages are no part of the node's memory: all of the guest is on them.
    let page = domain.memory.as_ref().and_then(Memory::page_size);
    let huge = |size: PageSize| if page == Some(size) { guest } else { 0 };
    let set_aside = if page.is_some() { 0 } else { facts.cluster.set_aside(guest) };
    let least = set_aside.saturating_add(overhead(guest, cpus.into(), graphics, has_devices));
    let uid = pod.metadata.uid.clone().unwrap_or_default();
    let storage = ephemeral::bytes(&placed.spec, |base| match base {
        Base::ContainerDisk(volume, _) => {
            match facts.container_disks.get(&(uid.clone(), volume.to_owned())) {
                Some(ContainerDisk::Ready { bytes, .. }) => Some(*bytes),
                _ => None,
            }
        }
        Base::Image(name) => facts.images.get(name).copied(),
        Base::Claim(name) => facts.claim_bytes(&placed.namespace, name),
    });
    let dedicated = domain.cpu.as_ref().and_then(sheaf_api::domain::Cpu::dedicated).unwrap_or(0);
    Resources {
        cpu: asked.cpu.max(u64::from(dedicated).saturating_mul(1000)),
        memory: asked.memory.max(least),
        storage: asked.storage.max(storage),
        huge_2mi: asked.huge_2mi.max(huge(PageSize::Mi2)),
        huge_1gi: asked.huge_1gi.max(huge(PageSize::Gi1)),
        ..asked
    }
}

/// Refuses a VM of `memory` bytes that does not fit.
pub(super) fn fits(pod: &Pod, memory: u64, facts: &Facts, used: Resources) -> Check<()> {
    let all = match (&facts.allocatable, &facts.allocatable_problem) {
        (Some(all), _) => all,
        (None, Some(problem)) => {
            return Err(wait("NodeNotReady", format!("the allocatable resources of this node: {problem}")));
        }
        (None, None) => return Err(Verdict::Unknown),
    };
    let needs = needs(pod, facts);
    let want = used.plus(needs);
    let mib = |bytes: u64| bytes / MIB;
    if want.memory > all.memory {
        return Err(reject(
            "OutOfmemory",
            format!(
                "the guest has {} MiB and the VM needs {} MiB; of {} MiB on this node {} MiB are taken",
                mib(memory),
                mib(needs.memory),
                mib(all.memory),
                mib(used.memory)
            ),
        ));
    }
    let huge = [
        ("OutOfhugepages-2Mi", want.huge_2mi, all.huge_2mi, used.huge_2mi),
        ("OutOfhugepages-1Gi", want.huge_1gi, all.huge_1gi, used.huge_1gi),
    ];
    if let Some((reason, _, all, used)) = huge.into_iter().find(|(_, want, all, _)| want > all) {
        return Err(reject(
            reason,
            format!(
                "the guest has {} MiB; of {} MiB of huge pages on this node {} MiB are taken",
                mib(memory),
                mib(all),
                mib(used)
            ),
        ));
    }
    if want.cpu > all.cpu {
        return Err(reject(
            "OutOfcpu",
            format!("the VM asks for {}m; of {}m on this node {}m are taken", needs.cpu, all.cpu, used.cpu),
        ));
    }
    if want.pods > all.pods {
        return Err(reject("OutOfpods", format!("this node runs {} VMs, the most that it may", used.pods)));
    }
    Ok(())
}

/// Refuses a VM whose files may grow to `space` bytes, more than /data has left.
pub(super) fn has_space(space: u64, facts: &Facts, used: Resources) -> Check<()> {
    let Some(all) = &facts.allocatable else { return Err(Verdict::Unknown) };
    let mib = |bytes: u64| bytes / MIB;
    if used.storage.saturating_add(space) > all.storage {
        return Err(reject(
            "OutOfephemeral-storage",
            format!(
                "the files of the VM may grow to {} MiB; of {} MiB on this node's /data {} MiB are taken",
                mib(space),
                mib(all.storage),
                mib(used.storage)
            ),
        ));
    }
    Ok(())
}
