//! How much memory QEMU of a VM may take.
//!
//! Why here: without a limit one QEMU that leaks, or serves a hostile guest, takes the node's memory, and the kernel then
//! kills what the node needs. Pure. Route in: a [`Guest`]. Route out: bytes: what admission counts, and the limit of the
//! VM's control group (`memory.max`), beyond which the kernel kills that QEMU alone.

use super::guest::Guest;

const MIB: u64 = 1 << 20;
/// QEMU's own text, heap, device models and I/O buffers, and its share of libvirtd. As sheaf-controller counts it.
const QEMU: u64 = 100 * MIB;
/// For each virtual CPU: thread stack, KVM's structures, in-flight I/O.
const PER_CPU: u64 = 8 * MIB;
/// One page table entry (8 bytes) for each 4 KiB page of the guest.
const PAGE_TABLE_SHARE: u64 = 512;
/// Video memory of the VGA adapter.
const GRAPHICS: u64 = 16 * MIB;
/// What the limit leaves above what is counted: vhost and socket buffers, and page cache of disks with `cache: writeback`,
/// are charged to the group too. A limit that is too small kills sound guests (kubevirt/kubevirt#4560).
const SLACK: u64 = 256 * MIB;

/// Of a VM with devices of the node: their memory is mapped and locked beside the guest's. As sheaf-controller counts it.
const VFIO: u64 = 1024 * MIB;

/// Bytes that a VM of `guest` bytes and `cpus` costs the node beyond what its guest sees.
pub fn overhead(guest: u64, cpus: u64, graphics: bool, devices: bool) -> u64 {
    let video = if graphics { GRAPHICS } else { 0 };
    let devices = if devices { VFIO } else { 0 };
    QEMU + video + devices + guest / PAGE_TABLE_SHARE + cpus.saturating_mul(PER_CPU)
}

/// The limit of the whole QEMU process, in bytes: the guest, twice its overhead, and some.
pub fn limit(guest: &Guest) -> u64 {
    let (sockets, cores, threads) = guest.topology;
    let cpus =
        [cores, threads].iter().fold(u64::from(sockets), |all, more| all.saturating_mul((*more).into()));
    limit_of(
        guest.memory,
        cpus,
        guest.graphics,
        guest.hardware.page_size.is_some(),
        !guest.host_devices.is_empty(),
    )
}

/// The same for a guest of `guest` bytes and `cpus`; with `huge` it is on huge pages, which are not charged to the group.
pub fn limit_of(guest: u64, cpus: u64, graphics: bool, huge: bool, devices: bool) -> u64 {
    let overhead = overhead(guest, cpus, graphics, devices);
    let memory = if huge { 0 } else { guest };
    memory.saturating_add(overhead.saturating_mul(2)).saturating_add(SLACK)
}
