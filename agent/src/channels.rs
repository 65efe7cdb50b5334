//! What controllers tell one another: one watch channel per fact, one writer per channel.
//!
//! Why here: a controller knows this page, not its neighbours. Route in: [`Context`] for readers, [`Publish`] for
//! the writers, both made by [`open`]. Route out: the last value; a slow reader never holds up a writer.

use crate::cluster::Joined;
use crate::disks::Disks;
use crate::paths::Paths;
use crate::pools::Pool;
use crate::status::{Status, StatusSender};
use crate::vms::filters::leases::Leases;
use crate::volumes::Volumes;
use sheaf_config::node::NodeConfig;
use std::net::IpAddr;
use std::sync::Arc;
use tokio::sync::watch;

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
    /// libvirt and KVM. Writer: `vms`.
    pub hypervisor: watch::Receiver<Hypervisor>,
    /// Addresses of VMs on the private network. Writer: `vms`.
    pub leases: watch::Receiver<Leases>,
    /// Addresses, bridges and time. Writer: `network`.
    pub network: watch::Receiver<NetworkState>,
    /// Images that are complete and verified. Writer: `images`.
    pub images: watch::Receiver<Vec<PresentImage>>,
    /// Volumes of this node. Writer: `volumes`.
    pub volumes: watch::Receiver<Volumes>,
    /// Disks of this node. Writer: `disks`.
    pub disks: watch::Receiver<Disks>,
    /// Pools of this node. Writer: `pools`.
    pub pools: watch::Receiver<Vec<Pool>>,
    /// The status page. Each controller writes its own section.
    pub status: StatusSender,
    /// Becomes true when the agent ends.
    pub shutdown: Shutdown,
}

/// The writing ends, each handed to the one controller that owns it.
pub struct Publish {
    /// For `config`.
    pub config: watch::Sender<Arc<NodeConfig>>,
    /// For `cluster`.
    pub cluster: watch::Sender<Option<Joined>>,
    /// For `vms`.
    pub hypervisor: watch::Sender<Hypervisor>,
    /// For `leases`.
    pub leases: watch::Sender<Leases>,
    /// For `network`.
    pub network: watch::Sender<NetworkState>,
    /// For `images`.
    pub images: watch::Sender<Vec<PresentImage>>,
    /// For `volumes`.
    pub volumes: watch::Sender<Volumes>,
    /// For `disks`.
    pub disks: watch::Sender<Disks>,
    /// For `pools`.
    pub pools: watch::Sender<Vec<Pool>>,
    /// For the runtime.
    pub shutdown: watch::Sender<bool>,
}

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
    /// The clock was set by a time server since boot.
    pub time_synchronised: bool,
}

/// An image in `/data/images`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PresentImage {
    /// File name.
    pub name: String,
    /// Size of the file.
    pub bytes: u64,
}

/// Tells a controller to return.
#[derive(Clone)]
pub struct Shutdown(watch::Receiver<bool>);

impl Shutdown {
    /// Waits until the agent ends.
    pub async fn requested(&mut self) {
        // An error means that the runtime is gone, which is an end as well.
        let _ = self.0.wait_for(|end| *end).await;
    }

    /// Whether the agent is ending.
    pub fn is_requested(&self) -> bool {
        *self.0.borrow()
    }
}

/// Opens all channels, with `config` as the first node config.
pub fn open(paths: Paths, config: NodeConfig) -> (Context, Publish) {
    let (config_out, config) = watch::channel(Arc::new(config));
    let (cluster_out, cluster) = watch::channel(None);
    let (hypervisor_out, hypervisor) = watch::channel(Hypervisor::default());
    let (leases_out, leases) = watch::channel(Leases::new());
    let (network_out, network) = watch::channel(NetworkState::default());
    let (images_out, images) = watch::channel(Vec::new());
    let (volumes_out, volumes) = watch::channel(None);
    let (disks_out, disks) = watch::channel(Disks::default());
    let (pools_out, pools) = watch::channel(Vec::new());
    let (shutdown_out, shutdown) = watch::channel(false);
    let status = StatusSender::new(Status::default());
    let paths = Arc::new(paths);
    let shutdown = Shutdown(shutdown);
    (
        Context {
            paths,
            config,
            cluster,
            hypervisor,
            leases,
            network,
            images,
            disks,
            pools,
            volumes,
            status,
            shutdown,
        },
        Publish {
            config: config_out,
            cluster: cluster_out,
            hypervisor: hypervisor_out,
            leases: leases_out,
            network: network_out,
            images: images_out,
            volumes: volumes_out,
            disks: disks_out,
            pools: pools_out,
            shutdown: shutdown_out,
        },
    )
}
