//! The node as a whole: its hypervisor, how it is reached, its images.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

/// Whether VMs can run here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hypervisor {
    /// libvirt answers over D-Bus; the node is Ready only while it does.
    pub answers: bool,
    /// `/dev/kvm` can be used.
    pub kvm: bool,
    /// Version of libvirt, `11.3.0`.
    pub version: Option<String>,
    /// Why it does not answer.
    pub problem: Option<String>,
    /// Guests can run guests: KVM was loaded with nested virtualization.
    pub nested: bool,
    /// Processors that are kept from VMs which want some to themselves; nothing unless VMs can have such.
    pub reserved_cpus: Option<u64>,
    /// PCI devices that VMs may have to themselves, by resource: how many there are, and how many can be had.
    pub devices: BTreeMap<String, (u64, u64)>,
    /// Why the others cannot, a sentence for each.
    pub device_problems: Vec<String>,
    /// What the node is short of.
    pub pressure: Pressure,
    /// Bytes of /data that VMs cannot have: base images, and disks that no VM's Pod counts.
    pub held: u64,
}

/// What a node is short of, as conditions of its Node have it; each with the reason, and none while there is enough.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pressure {
    /// MemoryPressure.
    pub memory: Option<String>,
    /// DiskPressure.
    pub disk: Option<String>,
}

/// How this node is reached.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NetworkState {
    /// The node's own addresses, the one it is reached by first; no link-local ones.
    pub addresses: Vec<IpAddr>,
    /// Bridges that exist and are up: those of node.toml and those of policies that were confirmed here. VMs are
    /// plugged into these, by name.
    pub bridges: Vec<String>,
    /// Of those, the ones that keep VLANs apart: only they can give a VM one VLAN, or several, of their uplink.
    pub vlan_bridges: Vec<String>,
    /// Links that lead out of the machine, and whether each works: up, with a cable, addressed where it shall be.
    pub ways_out: BTreeMap<String, bool>,
    /// The clock was set by a time server since boot.
    pub time_synchronised: bool,
}

/// Leases of the private network by MAC: what its DHCP server answers.
pub type Leases = BTreeMap<[u8; 6], Ipv4Addr>;

/// An image in `/data/images`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PresentImage {
    /// File name.
    pub name: String,
    /// Bytes that a guest sees of it: the file's length, or what its header says if it is qcow2.
    pub virtual_bytes: u64,
}
