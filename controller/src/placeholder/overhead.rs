//! Memory that a VM costs its node beyond what the guest sees.
//!
//! Why here: the scheduler must set it aside, or guests are killed when the node runs out of memory.
//! Route in: the resolved spec. Route out: bytes, added to the Pod's request.

use sheaf_api::vmi::VirtualMachineInstanceSpec;

const MIB: u64 = 1 << 20;
/// QEMU's own text, heap, device models and I/O buffers, and its share of libvirtd.
const QEMU: u64 = 100 * MIB;
/// Per virtual CPU: thread stack, KVM's structures, in-flight I/O.
const PER_CPU: u64 = 8 * MIB;
/// One page table entry (8 bytes) for each 4 KiB page of the guest.
const PAGE_TABLE_SHARE: u64 = 512;
/// Video memory of the VGA adapter.
const GRAPHICS: u64 = 16 * MIB;

/// Of a VM with devices of the node: their memory is mapped and locked beside the guest's; KubeVirt's number.
const VFIO: u64 = 1024 * MIB;

/// Bytes that the VM costs beyond `guest` bytes of memory.
pub fn bytes(spec: &VirtualMachineInstanceSpec, guest: u64, cpus: u32) -> u64 {
    let graphics = if spec.domain.devices.autoattach_graphics_device == Some(false) { 0 } else { GRAPHICS };
    let devices = if spec.domain.devices.has_devices_of_node() { VFIO } else { 0 };
    let per_cpu = u64::from(cpus).saturating_mul(PER_CPU);
    QEMU.saturating_add(per_cpu)
        .saturating_add(guest / PAGE_TABLE_SHARE)
        .saturating_add(graphics)
        .saturating_add(devices)
}
