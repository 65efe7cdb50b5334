//! Memory and processors in a domain's XML, and what it can grow to while it runs.
//!
//! Why here: as KubeVirt does it: a virtio-mem device holds what lies between the memory at the start and `maxGuest`, of which
//! nothing is offered at first; sockets up to `maxSockets` are in the topology, and those beyond the first are offline. Memory that
//! is not offered is not allocated on the node. Route in: a [`Guest`]. Route out: lines of XML.

use super::cpus;
use crate::vms::guest::Guest;
use sheaf_api::size::BLOCK;
use std::fmt::{Result, Write};

/// Bytes that can be plugged while it runs.
fn pluggable(guest: &Guest) -> u64 {
    guest.hardware.most.map_or(0, |most| most.memory.saturating_sub(guest.memory))
}

/// Whether it has a device for memory.
pub(super) fn has_device(guest: &Guest) -> bool {
    pluggable(guest) > 0
}

/// Sockets of its topology.
pub(super) fn most_sockets(guest: &Guest) -> u32 {
    guest.hardware.most.map_or(guest.topology.0, |most| most.sockets.max(guest.topology.0))
}

/// Virtual CPUs in so many sockets.
fn count(guest: &Guest, sockets: u32) -> u64 {
    let (_, cores, threads) = guest.topology;
    u64::from(sockets).saturating_mul(cores.into()).saturating_mul(threads.into())
}

/// Elements `maxMemory` and `memory`.
pub(super) fn write_memory(xml: &mut String, guest: &Guest) -> Result {
    let plugged = pluggable(guest);
    if plugged > 0 {
        // A virtio-mem device takes no slot, and libvirt wants one.
        writeln!(
            xml,
            "  <maxMemory slots='1' unit='b'>{}</maxMemory>",
            guest.memory.saturating_add(plugged)
        )?;
    }
    writeln!(xml, "  <memory unit='b'>{}</memory>", guest.memory)
}

/// Element `vcpu`.
pub(super) fn write_cpus(xml: &mut String, guest: &Guest) -> Result {
    let (now, most) = (count(guest, guest.topology.0), count(guest, most_sockets(guest)));
    let current = if now < most { format!(" current='{now}'") } else { String::new() };
    let set = cpus::of_domain(guest).map(|set| format!(" cpuset='{set}'")).unwrap_or_default();
    writeln!(xml, "  <vcpu placement='static'{set}{current}>{most}</vcpu>")
}

/// Element `numa` of the CPU: the cells of the guest's processors, or one that memory is plugged into.
pub(super) fn write_numa(xml: &mut String, guest: &Guest) -> Result {
    if cpus::has_cells(guest) {
        return cpus::write_cells(xml, guest);
    }
    if !has_device(guest) {
        return Ok(());
    }
    let last = count(guest, most_sockets(guest)).saturating_sub(1);
    let cpus = if last == 0 { "0".to_owned() } else { format!("0-{last}") };
    writeln!(
        xml,
        "    <numa>\n      <cell id='0' cpus='{cpus}' memory='{}' unit='b'/>\n    </numa>",
        guest.memory
    )
}

/// The virtio-mem device.
pub(super) fn write_device(xml: &mut String, guest: &Guest) -> Result {
    if !has_device(guest) {
        return Ok(());
    }
    writeln!(xml, "    <memory model='virtio-mem'>\n      <target>")?;
    writeln!(xml, "        <size unit='b'>{}</size>\n        <node>0</node>", pluggable(guest))?;
    writeln!(xml, "        <block unit='b'>{BLOCK}</block>\n        <requested unit='b'>0</requested>")?;
    writeln!(xml, "      </target>\n    </memory>")
}
