//! Resolves the options of disks: block sizes of what is behind them, and which threads do their I/O.
//!
//! Pure. Route in: disks of the annotation, facts. Route out: [`DiskOptions`], the number of threads.

use super::{Check, wait};
use crate::vms::facts::Facts;
use crate::vms::guest::{Blocks, Disk, DiskOptions, Source};
use sheaf_api::devices::{self, DiskBus};
use sheaf_api::disk_options::IoThreadsPolicy;
use sheaf_api::domain::DomainSpec;

/// The options of `disk`, which is on `source`; its thread is [`threads`]' to choose.
pub(super) fn options(disk: &devices::Disk, source: &Source, facts: &Facts) -> Check<DiskOptions> {
    Ok(DiskOptions {
        readonly: disk.disk.as_ref().is_some_and(|target| target.readonly == Some(true)),
        io: disk.io,
        thread: None,
        blocks: blocks(disk, source, facts)?,
        error_policy: disk.error_policy,
    })
}

fn blocks(disk: &devices::Disk, source: &Source, facts: &Facts) -> Check<Option<Blocks>> {
    let Some(size) = &disk.block_size else { return Ok(None) };
    if let Some(custom) = &size.custom {
        let (logical, physical) = (custom.logical, custom.physical);
        return Ok(Some(Blocks { logical, physical, discard: custom.discard_granularity }));
    }
    if !size.matches_volume() {
        return Ok(None);
    }
    let known = match source {
        Source::Device(device) => facts.blocks.get(device),
        // A file has no other size than that of its file system.
        _ => facts.blocks.get(&facts.data),
    };
    let unknown = || wait("VolumeNotReady", format!("disk {}: its block sizes are not known yet", disk.name));
    known.copied().map(Some).ok_or_else(unknown)
}

/// Gives each virtio disk its thread; the number of threads. `asked` are the disks of the spec, in the same order. The numbers
/// are KubeVirt's (`getIOThreadsCountType`, `setIOThreads` in pkg/virt-launcher/virtwrap/converter).
pub(super) fn threads(domain: &DomainSpec, asked: &[devices::Disk], disks: &mut [Disk]) -> u32 {
    let is_dedicated = |disk: &devices::Disk| disk.dedicated_io_thread == Some(true);
    let count = |dedicated: bool| {
        u32::try_from(asked.iter().filter(|disk| is_dedicated(disk) == dedicated).count()).unwrap_or(u32::MAX)
    };
    let dedicated = count(true);
    let limit = match domain.io_threads_policy {
        None if dedicated == 0 => return 0,
        None | Some(IoThreadsPolicy::Shared) => 1,
        Some(IoThreadsPolicy::Auto) => requested_cpus(domain).saturating_mul(2),
    };
    let mut shared = count(false);
    if shared.saturating_add(dedicated) > limit {
        shared = limit.saturating_sub(dedicated).max(1);
    }
    let (mut next_shared, mut next_dedicated) = (1, shared + 1);
    for (disk, asked) in disks.iter_mut().zip(asked).filter(|(disk, _)| disk.bus == DiskBus::Virtio) {
        let next = match is_dedicated(asked) {
            true => {
                next_dedicated += 1;
                next_dedicated - 1
            }
            false => {
                let next = next_shared;
                next_shared = next_shared % shared + 1;
                next
            }
        };
        disk.options.thread = Some(next);
    }
    shared + dedicated
}

/// CPUs that the VM asks to be set aside, at least one.
fn requested_cpus(domain: &DomainSpec) -> u32 {
    let Some(resources) = &domain.resources else { return 1 };
    let asked = resources.requests.get("cpu").or_else(|| resources.limits.get("cpu"));
    let cpus = asked.and_then(|amount| amount.units().ok()).unwrap_or(1);
    u32::try_from(cpus).unwrap_or(u32::MAX).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    /// Thread of each disk, and the number of threads.
    fn of(policy: Value, cpus: &str, disks: &[(DiskBus, bool)]) -> (Vec<Option<u32>>, u32) {
        let domain =
            json!({"devices": {}, "ioThreadsPolicy": policy, "resources": {"requests": {"cpu": cpus}}});
        let asked: Vec<devices::Disk> = disks
            .iter()
            .map(|(_, own)| devices::Disk { dedicated_io_thread: Some(*own), ..devices::Disk::default() })
            .collect();
        let disk = |(bus, _): &(DiskBus, bool)| Disk {
            name: "d".into(),
            cdrom: false,
            bus: *bus,
            source: Source::Empty(1),
            boot_order: None,
            serial: None,
            cache: None,
            options: DiskOptions::default(),
        };
        let mut disks: Vec<Disk> = disks.iter().map(disk).collect();
        let count = threads(&serde_json::from_value(domain).unwrap(), &asked, &mut disks);
        (disks.iter().map(|disk| disk.options.thread).collect(), count)
    }

    #[test]
    fn disks_share_threads_as_in_kubevirt() {
        use DiskBus::{Sata, Virtio};
        assert_eq!(of(json!(null), "1", &[(Virtio, false)]), (vec![None], 0));
        assert_eq!(of(json!("shared"), "1", &[(Virtio, false); 3]), (vec![Some(1); 3], 1));
        assert_eq!(of(json!("auto"), "1", &[(Virtio, false); 3]), (vec![Some(1), Some(2), Some(1)], 2));
        assert_eq!(of(json!("auto"), "4", &[(Virtio, false), (Sata, false)]), (vec![Some(1), None], 2));
        assert_eq!(
            of(json!(null), "1", &[(Virtio, true), (Virtio, false), (Virtio, false)]),
            (vec![Some(2), Some(1), Some(1)], 2)
        );
        assert_eq!(of(json!("auto"), "4", &[(Virtio, true), (Virtio, true)]), (vec![Some(1), Some(2)], 2));
    }
}
