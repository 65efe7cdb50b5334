//! The node's daemon: joins the cluster, runs its VMs, keeps its network, images and console.
//!
//! Why a library: the program in `main.rs` is thin, and tests run the very same controllers with fake hosts.
//! Route in: `/state/node.toml`, Kubernetes, libvirt. Route out: Node and Pod status, domains, `/run/sheaf`.
//!
//! Each folder is one controller: `pub async fn run(ctx: Context, …) -> anyhow::Result<()>`, whose header says what
//! it reads, owns and never touches. It returns only at shutdown; whatever can fail and be retried is retried
//! inside it. An error returned is a bug: the agent ends, systemd starts it again, VMs do not notice.

pub use sheaf_host::human;

pub mod administrators;
pub mod api_server;
pub mod authorities;
pub mod boots;
pub mod certificates;
pub mod channels;
pub mod claim;
pub mod cluster;
pub mod config;
pub mod console;
pub mod container_disks;
pub mod dhcp;
pub mod disks;
pub mod encryption;
pub mod etcd;
pub mod health;
pub mod identity_provider;
pub mod images;
pub mod listed;
pub mod names;
pub mod network;
pub mod node_api;
pub mod objects;
pub mod paths;
pub mod pools;
pub mod power;
pub mod reconcile;
pub mod registry;
pub mod reset;
pub mod runtime;
pub mod service_accounts;
pub mod shared_keys;
#[cfg(test)]
pub(crate) mod stalls;
pub mod status;
pub mod support;
pub mod update;
pub mod vip;
pub mod vms;
pub mod volumes;
pub mod without_lease;
