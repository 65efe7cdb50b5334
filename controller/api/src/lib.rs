//! What Sheaf and its users say to one another through Kubernetes: the supported subset of `kubevirt.io/v1`,
//! the names of labels, annotations and resources, and the CustomResourceDefinitions made from them.
//!
//! Why here: the controller writes what the node's agent reads; both must mean the same by every name.
//! Route in: a manifest, checked by the API server against [`crd`]. Route out: the placeholder Pod's annotation
//! ([`placeholder::PlacedVmi`]), which the agent of the chosen node reads.

pub mod access;
pub mod agents;
pub mod attachment;
pub mod cdi;
pub mod clock;
pub mod cluster_config;
pub mod cluster_update;
pub mod conditions;
pub mod config_volumes;
pub mod console;
pub mod crd;
pub mod devices;
pub mod disk_options;
pub mod domain;
pub mod ephemeral;
pub mod features;
pub mod firmware;
pub mod host_disk;
pub mod identity_provider;
pub mod import_policy;
pub mod instancetype;
pub mod join_token;
pub mod links;
pub mod names;
pub mod network;
pub mod node_maintenance;
pub mod node_network;
pub mod node_removal;
pub mod node_update;
pub mod peripherals;
pub mod placeholder;
pub mod ports;
pub mod quantity;
pub mod replica_set;
pub mod restart_elsewhere;
pub mod selector;
pub mod size;
pub mod snapshot;
pub mod status;
pub mod storage;
pub mod strict;
pub mod vm;
pub mod vm_clone;
pub mod vm_export;
pub mod vm_pool;
pub mod vm_snapshot;
pub mod vmi;
pub mod volume_status;
pub mod volumes;
mod words;

pub use cluster_config::ClusterConfig;
pub use network::NetworkAttachmentDefinition;
pub use quantity::Amount;
pub use vm::{RunStrategy, VirtualMachine};
pub use vmi::VirtualMachineInstance;
