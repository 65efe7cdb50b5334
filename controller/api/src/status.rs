//! What the controller reports of a VM and of its instance, with KubeVirt's names.
//!
//! Why here: KubeVirt's tools and people's scripts wait for these words. Route in: the Pod's status, which the
//! node's agent writes. Route out: `kubectl get vm,vmi`.

use std::{collections::BTreeMap, fmt};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{instancetype::StatusRef, quantity::Amount, vm::RunStrategy, volume_status::VolumeStatus};

/// What is observed of a virtual machine.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct VirtualMachineStatus {
    /// An instance exists.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub created: bool,
    /// The instance runs.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub ready: bool,
    /// One word for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub printable_status: Option<PrintableStatus>,
    /// Details by type: Ready, Failure, RestartRequired.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
    /// Failed starts in a row, and when the next is tried.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_failure: Option<StartFailure>,
    /// The run strategy that was last acted upon.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run_strategy: Option<RunStrategy>,
    /// Generation of the VM that the current instance was made from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Generation of the VM now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub desired_generation: Option<i64>,
    /// The instancetype as the VM had it when it was created or last named another.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instancetype_ref: Option<StatusRef>,
    /// The preference, likewise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preference_ref: Option<StatusRef>,
    /// The node that has the persistent UEFI variables and TPM of the VM: it starts there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state_node: Option<String>,
    /// What somebody asked for through the subresources start, stop and restart and is not done yet; the first is acted
    /// upon, then removed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 2))]
    pub state_change_requests: Vec<StateChangeRequest>,
    /// The VirtualMachineSnapshot that is being taken of the VM.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snapshot_in_progress: Option<String>,
    /// The VirtualMachineRestore that is changing the VM: it does not start meanwhile.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restore_in_progress: Option<String>,
}

/// A start or a stop that was asked for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct StateChangeRequest {
    /// Which.
    pub action: StateChange,
    /// Of a stop: UID of the instance that is to end, so that it never ends a later one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uid: Option<String>,
    /// Of a start: `paused: "true"` for a guest that stands still from its first instruction.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub data: BTreeMap<String, String>,
}

/// Key of a start's data: the guest is to stand still from its first instruction.
const PAUSED: &str = "paused";

/// What can be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum StateChange {
    /// The VM gets an instance.
    Start,
    /// Its instance ends.
    Stop,
}

impl StateChangeRequest {
    /// A start.
    pub fn start() -> Self {
        Self { action: StateChange::Start, uid: None, data: BTreeMap::new() }
    }

    /// A start of a guest that stands still from its first instruction.
    pub fn start_paused() -> Self {
        Self { data: BTreeMap::from([(PAUSED.into(), "true".into())]), ..Self::start() }
    }

    /// Whether it is a start of a guest that is to stand still.
    pub fn is_start_paused(&self) -> bool {
        self.action == StateChange::Start && self.data.get(PAUSED).is_some_and(|value| value == "true")
    }

    /// The end of the instance with this UID.
    pub fn stop(uid: &str) -> Self {
        Self { action: StateChange::Stop, uid: Some(uid.to_owned()), data: BTreeMap::new() }
    }
}

/// Human-readable status of a virtual machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum PrintableStatus {
    /// No instance, and none is wanted.
    Stopped,
    /// An instance is being placed or started.
    Starting,
    /// The guest runs.
    Running,
    /// The guest stands still: somebody paused it, or a disk has no space left.
    Paused,
    /// The instance is being shut down.
    Stopping,
    /// A disk of it is being made or filled.
    Provisioning,
    /// A disk of it waits for a node.
    WaitingForVolumeBinding,
    /// A disk of it cannot be made; the condition Failure says why.
    DataVolumeError,
    /// The VM itself is being deleted.
    Terminating,
    /// Starts keep failing; the next try waits.
    CrashLoopBackOff,
    /// No node fits.
    ErrorUnschedulable,
    /// The image of a disk cannot be pulled; the condition Ready says why.
    ErrImagePull,
    /// The image of a disk cannot be pulled; the next try waits.
    ImagePullBackOff,
    /// The node does not answer.
    Unknown,
}

impl fmt::Display for PrintableStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// Failed starts in a row.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct StartFailure {
    /// How many.
    #[serde(default)]
    pub consecutive_fail_count: u32,
    /// UID of the instance that failed last.
    #[serde(default, rename = "lastFailedVMIUID", skip_serializing_if = "Option::is_none")]
    pub last_failed_vmi_uid: Option<String>,
    /// The next start is not tried before this time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after_timestamp: Option<Time>,
}

/// What is observed of an instance.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct VirtualMachineInstanceStatus {
    /// How far the instance is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phase: Option<Phase>,
    /// Why it is there, in one CamelCase word.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Node it was placed on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node_name: Option<String>,
    /// Details by type: Ready, PodScheduled, Synchronized, LiveMigratable, HotMemoryChange, HotVCPUChange.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
    /// When each phase was entered.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub phase_transition_timestamps: Vec<PhaseTransition>,
    /// Interfaces with the addresses that are known.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub interfaces: Vec<InterfaceStatus>,
    /// Volumes with their disks; of those that are added while the VM runs, how far that is.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub volume_status: Vec<VolumeStatus>,
    /// Memory of a VM that can grow while it runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<MemoryStatus>,
    /// CPU of a VM that can grow while it runs, as its domain has it.
    #[serde(default, skip_serializing_if = "Option::is_none", rename = "currentCPUTopology")]
    pub current_cpu_topology: Option<CpuTopology>,
    /// Pods of this instance that have not ended: UID and node name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub active_pods: BTreeMap<String, String>,
}

/// Memory of a VM that can grow while it runs.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MemoryStatus {
    /// What the guest started with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub guest_at_boot: Option<Amount>,
    /// What the guest has taken up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub guest_current: Option<Amount>,
    /// What the domain offers to the guest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub guest_requested: Option<Amount>,
}

/// CPU of a domain.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CpuTopology {
    /// Cores per socket.
    #[serde(default)]
    pub cores: u32,
    /// Sockets.
    #[serde(default)]
    pub sockets: u32,
    /// Threads per core.
    #[serde(default)]
    pub threads: u32,
}

/// Phase of an instance. It only moves forward, and never leaves Succeeded or Failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub enum Phase {
    /// Accepted; no Pod yet.
    Pending,
    /// The Pod waits for a node.
    Scheduling,
    /// The Pod has a node, and the node prepares.
    Scheduled,
    /// QEMU runs.
    Running,
    /// Shut down in good order.
    Succeeded,
    /// Crashed, killed, or refused by its node.
    Failed,
}

impl Phase {
    /// True when the instance is over for good.
    pub fn is_final(self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed)
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// When a phase was entered.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PhaseTransition {
    /// The phase.
    pub phase: Phase,
    /// The time.
    pub phase_transition_timestamp: Time,
}

/// One aspect of a VM or an instance.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Condition {
    /// Which aspect.
    #[serde(rename = "type")]
    pub type_: String,
    /// True, False or Unknown.
    pub status: String,
    /// When the status last changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_transition_time: Option<Time>,
    /// Why, in one CamelCase word.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Why, in a sentence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// An interface with the addresses that are known.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct InterfaceStatus {
    /// Name in the spec.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Hardware address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mac: Option<String>,
    /// The first of ipAddresses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ip_address: Option<String>,
    /// All addresses.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ip_addresses: Vec<String>,
    /// Where this is known from, by commas: domain (the VM's own definition), dhcp (the lease that its node gave it),
    /// neighbour (ARP and neighbour discovery of the guest), guest-agent (what the guest reports itself), multus-status (a Pod
    /// that carries its network is there).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub info_source: Option<String>,
    /// up or down, as the domain has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub link_state: Option<String>,
}
