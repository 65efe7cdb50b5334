//! What the agent says about the node: `/run/sheaf/status.json`.
//!
//! Why here: the console page, `sheaf-agent status` and tests read one document. Route in: each controller writes
//! its own section through its [`Section`], which no other has. Route out: the runtime puts it into the file on change.

mod section;

pub use section::{Controllers, Reader, Section, Sections, open};

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::IpAddr;

/// The whole document. No section ever holds a secret.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Status {
    /// Writer: the runtime.
    pub node: NodeSection,
    /// Writer: the runtime.
    pub boot: BootSection,
    /// Writer: the controllers' skeleton. By name of the controller.
    pub controllers: BTreeMap<String, ControllerSection>,
    /// Writer: `network`.
    pub network: NetworkSection,
    /// Writer: `policies`. NodeNetworkPolicies that concern this node.
    pub policies: Vec<PolicySection>,
    /// Writer: `cluster`.
    pub cluster: ClusterSection,
    /// Writer: `vms`.
    pub vms: Vec<VmSection>,
    /// Writer: `vms`. Ports of bridges with VMs behind them.
    pub vm_ports: Vec<PortSection>,
    /// Writer: `images`.
    pub images: Vec<ImageSection>,
    /// Writer: `volumes`.
    pub volumes: Vec<VolumeSection>,
    /// Writer: `disks`.
    pub disks: Vec<DiskSection>,
    /// Writer: `pools`.
    pub pools: Vec<PoolSection>,
    /// Writer: `update`.
    pub update: UpdateSection,
    /// Writer: `power`.
    pub power: PowerSection,
    /// Writer: `etcd`.
    pub etcd: EtcdSection,
    /// Writer: `vip`.
    pub vip: VipSection,
    /// Writer: `claim`.
    pub console: ConsoleSection,
}

/// What this node is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct NodeSection {
    /// Host name.
    pub name: String,
    /// Version of the running image.
    pub version: String,
    /// Why the node cannot do its work at all, with the remedy: a node config that is refused.
    pub problem: Option<String>,
    /// What the node config asks for and this node does not do: field, why, remedy.
    pub notes: Vec<String>,
}

/// From where it was booted.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct BootSection {
    /// `a` or `b`.
    pub slot: String,
    /// Disk that carries the installation.
    pub disk: String,
    /// The kernel's random identifier of this boot.
    pub boot_id: String,
}

/// Which release runs, and which shall.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct UpdateSection {
    /// Slot and version of the release that runs.
    pub running: String,
    /// The same of the other slot, if it can be started.
    pub other: Option<String>,
    /// Nothing older is staged.
    pub floor: Option<String>,
    /// Version that is complete in the other slot.
    pub staged: Option<String>,
    /// Version of systemd-boot on the disk.
    pub boot_loader: Option<String>,
    /// The disk has a recovery, which starts when no slot can be.
    pub has_recovery: bool,
    /// Version that is asked for.
    pub wanted: Option<String>,
    /// It was asked for on this node, not by the NodeUpdate.
    pub is_local: bool,
    /// Where it stands: the phase of the NodeUpdate.
    pub phase: Option<String>,
    /// What is being done, or why it is not.
    pub message: String,
    /// The steps that are under way.
    pub steps: Vec<String>,
}

/// Whether the machine is going down.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct PowerSection {
    /// It is, and VMs are being stopped for it.
    pub shutting_down: bool,
    /// What is waited for, and for how long at most.
    pub message: String,
    /// Pods, `namespace/name`, whose VMs were started and whose end is not reported yet.
    pub unreported: Vec<String>,
}

/// The address for people, on a node that may have it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct VipSection {
    /// The address; none where node.toml has none.
    pub address: Option<IpAddr>,
    /// It is on this node now.
    pub is_here: bool,
    /// Name of the node that has it, as far as this one knows.
    pub holder: Option<String>,
    /// Why it is not here, with the remedy.
    pub problem: Option<String>,
}

/// The administration console of a control-plane node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ConsoleSection {
    /// Where browsers find it: `https://ADDRESS/`.
    pub url: Option<String>,
    /// SHA-256 of its certificate, as browsers show it: `AB:CD:…`.
    pub fingerprint: Option<String>,
    /// While the cluster can be claimed: until when, or why it cannot. Never the code.
    pub claim: Option<String>,
}

/// etcd of this node, and its snapshots.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct EtcdSection {
    /// This node has one.
    pub is_here: bool,
    /// Its version.
    pub version: String,
    /// Revision of the newest change.
    pub revision: i64,
    /// Bytes of its database.
    pub bytes: u64,
    /// Bytes of it that hold something.
    pub bytes_in_use: u64,
    /// Bytes that it may have; beyond them etcd refuses writes.
    pub quota: u64,
    /// Alarms, by etcd's names.
    pub alarms: Vec<String>,
    /// Snapshots on this node, the oldest first.
    pub snapshots: Vec<SnapshotLine>,
    /// When the next one is due, RFC 3339.
    pub next_snapshot: Option<String>,
    /// Why the last try to take one failed.
    pub last_failure: Option<String>,
    /// What is wrong, with the remedy.
    pub problems: Vec<String>,
}

/// A snapshot of etcd.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SnapshotLine {
    /// Its name.
    pub name: String,
    /// When it was taken, RFC 3339.
    pub taken: String,
    /// `schedule`, `request` or `update`.
    pub reason: String,
    /// Revision of the newest change in it.
    pub revision: i64,
    /// Its length.
    pub bytes: u64,
}

/// How it is reached.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct NetworkSection {
    /// One entry per link of the node config: bridges, VLANs, bonds, NICs.
    pub links: Vec<LinkSection>,
    /// The clock was set by a time server.
    pub time_synchronised: bool,
    /// What is wrong, with the remedy.
    pub problem: Option<String>,
    /// A change that is on trial.
    pub trial: Option<TrialSection>,
}

/// One NodeNetworkPolicy on this node.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct PolicySection {
    /// Its name.
    pub name: String,
    /// Generation that phase and message are about.
    pub generation: i64,
    /// Generation that the node runs.
    pub applied: Option<i64>,
    /// `Applied`, `RolledBack`, …
    pub phase: String,
    /// Why.
    pub message: Option<String>,
    /// The probe that failed, so that it was rolled back.
    pub failed_probe: Option<String>,
    /// What was asked before and after, a line each.
    pub probes: Vec<String>,
}

/// A change of the links that is on trial.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct TrialSection {
    /// Its name in messages.
    pub title: String,
    /// An operator tried it.
    pub by_hand: bool,
}

/// One link of the node config or of a policy.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct LinkSection {
    /// Its name in node.toml or in the policy.
    pub name: String,
    /// The policy that asks for it; none for those of node.toml.
    pub asked_by: Option<String>,
    /// `bridge`, `vlan`, `bond` or `nic`.
    pub kind: String,
    /// The kernel's name, where that is another.
    pub kernel_name: Option<String>,
    /// `up`, `down`, `configuring`, …
    pub state: String,
    /// Addresses it has.
    pub addresses: Vec<IpAddr>,
    /// The node config gives it a way to an address.
    pub is_addressed: bool,
    /// Links below it: ports of a bridge (except VMs) or bond, parent of a VLAN.
    pub ports: Vec<String>,
    /// Number of VMs' interfaces in it.
    pub vms: usize,
    /// Largest packet in bytes.
    pub mtu: u32,
    /// Number of a VLAN.
    pub vlan: Option<u16>,
    /// It is a bridge that keeps VLANs apart.
    pub vlan_aware: bool,
    /// Mode of a bond.
    pub mode: Option<String>,
    /// Port of a bond that is in use, where only one is.
    pub active_port: Option<String>,
}

/// How far the node is on its way into the cluster.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ClusterSection {
    /// Where it stands.
    pub phase: Phase,
    /// What it is doing or what failed, as a short sentence.
    pub step: String,
    /// Why the step failed.
    pub problem: Option<String>,
    /// What the operator can do about it.
    pub remedy: Option<String>,
    /// The API server in use, `https://HOST:6443`.
    pub server: Option<String>,
    /// All API servers that this node knows.
    pub servers: Vec<String>,
    /// The address for people, if there is one: no VM may claim it.
    pub vips: Vec<IpAddr>,
    /// `sha256:…` of the cluster CA's public key.
    pub ca_hash: Option<String>,
    /// Command by which further nodes are given a token.
    pub join: Option<String>,
    /// When the node's client certificate ends, RFC 3339.
    pub certificate_until: Option<String>,
    /// Its control plane, on a node that joined as one more of several.
    pub control_plane: Option<PlaneSection>,
}

/// The control plane of a node that joined.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct PlaneSection {
    /// What it is doing or what failed, as a short sentence.
    pub step: String,
    /// Why the step failed.
    pub problem: Option<String>,
    /// What the operator can do about it.
    pub remedy: Option<String>,
}

/// Where a node stands with its cluster.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// The node config names no cluster.
    #[default]
    None,
    /// The control plane is being made or started.
    Creating,
    /// On its way in.
    Joining,
    /// Part of the cluster, but not able to run VMs.
    NotReady,
    /// Part of the cluster and able to run VMs.
    Ready,
    /// A step failed; it is tried again.
    Failed,
}

/// One VM on this node.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct VmSection {
    /// `namespace/name`.
    pub name: String,
    /// UID of its VirtualMachineInstance.
    pub uid: String,
    /// `Running`, `Starting`, …
    pub phase: String,
    /// What is wrong with it.
    pub problem: Option<String>,
}

/// One port of a bridge with a VM behind it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct PortSection {
    /// Name of the tap.
    pub name: String,
    /// `namespace/name`.
    pub vm: String,
    /// Name of the interface in the VM's spec.
    pub interface: String,
    /// The bridge.
    pub bridge: String,
    /// VLANs, `100` or `10,20-29`; empty for untagged.
    pub vlans: String,
    /// The guest's hardware address.
    pub mac: String,
    /// Addresses that the guest was seen with.
    pub addresses: Vec<IpAddr>,
    /// Frames of the guest that were dropped, by reason.
    pub dropped: BTreeMap<String, u64>,
}

/// One image of the node config.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ImageSection {
    /// File name.
    pub name: String,
    /// `present`, `fetching`, `failed`, …
    pub phase: String,
    /// Bytes that are here.
    pub bytes: u64,
    /// Bytes in all, when known.
    pub total: Option<u64>,
    /// What is wrong with it, with the remedy.
    pub problem: Option<String>,
}

/// One volume on this node.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct VolumeSection {
    /// Name of its LocalVolume and of its logical volume.
    pub name: String,
    /// Pool that it lies in.
    pub pool: String,
    /// `volume` or `snapshot`.
    pub kind: String,
    /// `Ready`, `Populating`, …; `Unclaimed` where no object asks for it.
    pub phase: String,
    /// Its size in bytes.
    pub bytes: u64,
    /// What of it is written, in percent.
    pub data_percent: Option<f64>,
    /// What it is filled from.
    pub source: String,
    /// How much of its source is here, in percent.
    pub progress: Option<u8>,
    /// Its device, where it has one.
    pub device: Option<String>,
    /// Somebody has it open.
    pub open: bool,
    /// What is done with it now or was done last.
    pub last: Option<String>,
    /// What is wrong with it.
    pub problem: Option<String>,
}

/// One disk of this node.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct DiskSection {
    /// Name of its BlockDevice.
    pub name: String,
    /// `Active` or `Missing`.
    pub state: String,
    /// Where it is now.
    pub device: Option<String>,
    /// Its length.
    pub bytes: u64,
    /// Model name.
    pub model: Option<String>,
    /// Serial number.
    pub serial: Option<String>,
    /// World-wide name.
    pub wwn: Option<String>,
    /// Its place in the machine.
    pub place: Option<String>,
    /// How it is attached.
    pub bus: Option<String>,
    /// What it says of itself: `passed`, `warning`, `failing`, `unknown`.
    pub health: String,
    /// What the operator wants of it: `none`, `pool NAME`, `passthrough`.
    pub role: String,
    /// Who uses it.
    pub used_by: Option<String>,
    /// Marks of present contents.
    pub signatures: Vec<String>,
    /// What is odd about it, and why something was not done.
    pub notes: Vec<String>,
}

/// One pool of this node.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct PoolSection {
    /// Its name.
    pub name: String,
    /// `Ready`, `Degraded`, `Full`, …
    pub phase: String,
    /// What volumes can hold together, in bytes.
    pub total: u64,
    /// How full that is, in percent.
    pub data_percent: Option<f64>,
    /// How full the metadata is, in percent.
    pub metadata_percent: Option<f64>,
    /// Number of volumes.
    pub volumes: usize,
    /// Its members.
    pub members: Vec<MemberSection>,
    /// What was done last.
    pub last: Option<String>,
    /// What is wrong, with the remedy.
    pub problems: Vec<String>,
}

/// One member of a pool.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct MemberSection {
    /// Name of its BlockDevice.
    pub name: String,
    /// `Active`, `Waiting`, `Leaving`, …
    pub state: String,
    /// Where it is.
    pub device: Option<String>,
    /// What it gives, in bytes.
    pub bytes: u64,
    /// While it is emptied: how much of it is done, in percent.
    pub progress: Option<f64>,
    /// Why it has this state.
    pub note: Option<String>,
}

/// How a controller stands.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ControllerSection {
    /// What it does now.
    #[serde(flatten)]
    pub state: ControllerState,
}

/// What a controller does now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state")]
pub enum ControllerState {
    /// It can do nothing before this is there.
    Waiting {
        /// In words: `the list of disks`.
        waiting_for: String,
    },
    /// It makes a round that takes longer than a second.
    Working {
        /// Since when, RFC 3339.
        since: String,
    },
    /// Nothing is left to do until something changes.
    Idle {
        /// How long the last round took, in whole seconds.
        ran_for_seconds: u64,
    },
}

impl Default for ControllerState {
    fn default() -> Self {
        Self::Idle { ran_for_seconds: 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_of_an_older_agent_is_read() {
        let status: Status = serde_json::from_str(r#"{"node":{"name":"n1"}}"#).unwrap();
        assert_eq!(status.node.name, "n1");
    }
}
