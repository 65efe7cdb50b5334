//! What controllers tell one another: one watch channel per fact, one writer per channel.
//!
//! Why here: a controller knows these pages, not its neighbours; whatever travels is defined here. Route in: [`Context`]
//! for readers, [`Publish`] for the writers, both made by [`open`]. Route out: the last value; a slow reader never holds
//! up a writer.

mod container_disks;
mod disks;
mod etcd;
mod health;
mod node;
mod storage;

pub use container_disks::{ContainerDisk, ContainerDisks};
pub use disks::{Contents, Disk, Disks, Facts, PoolPartition, Seen, Settings};
pub use etcd::{EtcdState, Verdict};
pub use health::Health;
pub use node::{Hypervisor, Leases, NetworkState, PresentImage, Pressure};
pub use storage::{Pool, Usable, Volumes};

pub use crate::reconcile::Shutdown;

use crate::api_server::Joined;
use crate::paths::Paths;
use crate::reconcile::Registry;
use crate::status::{self, Reader, Sections};
use sheaf_config::node::NodeConfig;
use std::sync::Arc;
use tokio::sync::watch;
use tokio::time::Instant;

/// What every controller is given. Cloning it is cheap.
#[derive(Clone)]
pub struct Context {
    /// Where files lie.
    pub paths: Arc<Paths>,
    /// The node config. Writer: `config`.
    pub config: watch::Receiver<Arc<NodeConfig>>,
    /// The cluster, once this node is part of it. Writer: `cluster`. A rotated certificate gives a new value, and
    /// a client of the old one stops working when that certificate ends: follow the channel.
    pub cluster: watch::Receiver<Option<Joined>>,
    /// When the last renewal of the node's lease that succeeded was begun; none before the first of this agent's life. Writer: `cluster`.
    pub lease: watch::Receiver<Option<Instant>>,
    /// libvirt and KVM. Writer: `vms`.
    pub hypervisor: watch::Receiver<Hypervisor>,
    /// Addresses of VMs on the private network. Writer: `vms`.
    pub leases: watch::Receiver<Leases>,
    /// Addresses, bridges and time. Writer: `network`.
    pub network: watch::Receiver<NetworkState>,
    /// Images that are complete and verified. Writer: `images`.
    pub images: watch::Receiver<Vec<PresentImage>>,
    /// Container disks of this node. Writer: `container-disks`.
    pub container_disks: watch::Receiver<ContainerDisks>,
    /// Volumes of this node. Writer: `volumes`.
    pub volumes: watch::Receiver<Volumes>,
    /// Disks of this node. Writer: `disks`.
    pub disks: watch::Receiver<Disks>,
    /// Pools of this node. Writer: `pools`.
    pub pools: watch::Receiver<Vec<Pool>>,
    /// etcd of this node; none on a node without one. Writer: `etcd`.
    pub etcd: watch::Receiver<Option<EtcdState>>,
    /// Whether its certificates are valid; none on a node in no cluster. Writer: `certificates`.
    pub certificates: watch::Receiver<Option<Verdict>>,
    /// Whether this node can do what a node must; the lease is renewed only while it can. Writer: the runtime.
    pub health: watch::Receiver<Health>,
    /// The port at which the node's own API listens, while it does. Writer: `api`.
    pub api_port: watch::Receiver<Option<u16>>,
    /// The node's VMs are being stopped for a restart of the machine: none is started, and no end of one is reported.
    /// Writer: `update`.
    pub leaving: watch::Receiver<bool>,
    /// The machine is going down: no VM is started, and none is taken to have ended by itself. Writer: `power`.
    pub shutting_down: watch::Receiver<bool>,
    /// The status page, to read. Each controller writes its own section.
    pub status: Reader,
    /// Where controllers say how they stand.
    pub controllers: Registry,
    /// Becomes true when the agent ends.
    pub shutdown: Shutdown,
}

/// The writing ends, each handed to the one controller that owns it.
pub struct Publish {
    /// For `config`.
    pub config: watch::Sender<Arc<NodeConfig>>,
    /// For `cluster`.
    pub cluster: watch::Sender<Option<Joined>>,
    /// For `cluster`, too.
    pub lease: watch::Sender<Option<Instant>>,
    /// For `vms`.
    pub hypervisor: watch::Sender<Hypervisor>,
    /// For `leases`.
    pub leases: watch::Sender<Leases>,
    /// For `network`.
    pub network: watch::Sender<NetworkState>,
    /// For `images`.
    pub images: watch::Sender<Vec<PresentImage>>,
    /// For `container-disks`.
    pub container_disks: watch::Sender<ContainerDisks>,
    /// For `volumes`.
    pub volumes: watch::Sender<Volumes>,
    /// For `disks`.
    pub disks: watch::Sender<Disks>,
    /// For `pools`.
    pub pools: watch::Sender<Vec<Pool>>,
    /// For `etcd`.
    pub etcd: watch::Sender<Option<EtcdState>>,
    /// For `certificates`.
    pub certificates: watch::Sender<Option<Verdict>>,
    /// For the runtime.
    pub health: watch::Sender<Health>,
    /// For `api`.
    pub api_port: watch::Sender<Option<u16>>,
    /// For `update`.
    pub leaving: watch::Sender<bool>,
    /// For `power`.
    pub shutting_down: watch::Sender<bool>,
    /// For the runtime.
    pub shutdown: watch::Sender<bool>,
    /// Sections of the status.
    pub sections: Sections,
}

/// Opens all channels, with `config` as the first node config.
pub fn open(paths: Paths, config: NodeConfig) -> (Context, Publish) {
    let (config_out, config) = watch::channel(Arc::new(config));
    let (cluster_out, cluster) = watch::channel(None);
    let (lease_out, lease) = watch::channel(None);
    let (hypervisor_out, hypervisor) = watch::channel(Hypervisor::default());
    let (leases_out, leases) = watch::channel(Leases::new());
    let (network_out, network) = watch::channel(NetworkState::default());
    let (images_out, images) = watch::channel(Vec::new());
    let (container_disks_out, container_disks) = watch::channel(ContainerDisks::default());
    let (volumes_out, volumes) = watch::channel(None);
    let (disks_out, disks) = watch::channel(Disks::default());
    let (pools_out, pools) = watch::channel(Vec::new());
    let (etcd_out, etcd) = watch::channel(None);
    let (certificates_out, certificates) = watch::channel(None);
    let (health_out, health) = watch::channel(Health::default());
    let (api_port_out, api_port) = watch::channel(None);
    let (leaving_out, leaving) = watch::channel(false);
    let (shutting_down_out, shutting_down) = watch::channel(false);
    let (shutdown_out, shutdown) = Shutdown::channel();
    let (status, sections, controllers) = status::open();
    let controllers = Registry::new(controllers);
    (
        Context {
            paths: Arc::new(paths),
            config,
            cluster,
            lease,
            hypervisor,
            leases,
            network,
            images,
            container_disks,
            disks,
            pools,
            volumes,
            etcd,
            certificates,
            health,
            api_port,
            leaving,
            shutting_down,
            status,
            controllers,
            shutdown,
        },
        Publish {
            config: config_out,
            cluster: cluster_out,
            lease: lease_out,
            hypervisor: hypervisor_out,
            leases: leases_out,
            network: network_out,
            images: images_out,
            container_disks: container_disks_out,
            volumes: volumes_out,
            disks: disks_out,
            pools: pools_out,
            etcd: etcd_out,
            certificates: certificates_out,
            health: health_out,
            api_port: api_port_out,
            leaving: leaving_out,
            shutting_down: shutting_down_out,
            shutdown: shutdown_out,
            sections,
        },
    )
}
