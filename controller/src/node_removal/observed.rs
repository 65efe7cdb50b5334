//! What a decision about a NodeRemoval is made from.
//!
//! Why here: [`super::observe`] fills it, and everything that decides reads it. Route in: objects as they were read. Route out: plain
//! values.

use std::collections::BTreeSet;

use k8s_openapi::{
    api::core::v1::{Node, Pod},
    jiff::Timestamp,
};
use sheaf_api::{
    VirtualMachine, VirtualMachineInstance,
    node_maintenance::NodeMaintenance,
    node_removal::{Loss, NodeRemoval},
    storage::LocalVolume,
};

use super::losses::losses;
use crate::replicas::owns;

/// What a decision is made from.
#[derive(Clone, Debug)]
pub struct Observed {
    /// The object.
    pub removal: NodeRemoval,
    /// Its Node.
    pub node: Option<Node>,
    /// When the node's lease was last renewed.
    pub renewed: Option<Timestamp>,
    /// The NodeMaintenance of the node.
    pub maintenance: Option<NodeMaintenance>,
    /// Pods of VMs that are bound to the node, those that are over included.
    pub pods: Vec<Pod>,
    /// LocalVolumes of the node.
    pub volumes: Vec<LocalVolume>,
    /// VMs that have state on the node, or may run on no other.
    pub machines: Vec<VirtualMachine>,
    /// Instances of those VMs that ran on the node and have ended: they name it as the one that has their state.
    pub ended: Vec<VirtualMachineInstance>,
    /// Images that no other node has.
    pub images: BTreeSet<String>,
    /// Nodes of the control plane.
    pub control_plane: Vec<ControlPlaneNode>,
    /// What is changing the node now.
    pub busy: Vec<Busy>,
    /// Further objects of the node.
    pub leftovers: Vec<Leftover>,
    /// What the record of names has about the node.
    pub identity: Identity,
}

/// A node of the control plane.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ControlPlaneNode {
    /// Its name.
    pub name: String,
    /// It is Ready.
    pub is_ready: bool,
}

/// An update or a change of links that is under way at the node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Busy {
    /// `ClusterUpdate to-0.3`.
    pub what: String,
    /// What ends it, as an order.
    pub remedy: String,
}

/// What the record of names has about the node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Identity {
    /// Nothing, or that the name is free.
    None,
    /// The key of a machine.
    Key,
    /// That the node was removed.
    Removed,
}

/// A kind of objects that are deleted with their node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[allow(missing_docs)] // the names say it
pub enum Kind {
    BlockDevice,
    StoragePool,
    NodeNetworkState,
    NodeNetworkEnactment,
    NodeUpdate,
    CertificateSigningRequest,
    Lease,
}

/// An object of the node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leftover {
    /// Its kind.
    pub kind: Kind,
    /// Its name.
    pub name: String,
    /// Its UID.
    pub uid: String,
}

impl Observed {
    /// Name of the node.
    pub fn name(&self) -> &str {
        &self.removal.spec.node_name
    }

    /// The NodeMaintenance, if this object made it.
    pub fn own_maintenance(&self) -> Option<&NodeMaintenance> {
        self.maintenance.as_ref().filter(|found| owns(self.removal.metadata.uid.as_deref(), *found))
    }

    /// What is lost with the node.
    pub fn losses(&self) -> Vec<Loss> {
        let mut all = losses(self.name(), &self.volumes, &self.machines, &self.images);
        let pools = self.leftovers.iter().filter(|left| left.kind == Kind::StoragePool && self.wipes_pools());
        all.extend(pools.map(|pool| Loss {
            name: format!("StoragePool/{}", pool.name),
            what: "a pool that is erased, with whatever is in it".into(),
            bytes: None,
        }));
        all.sort_by(|a, b| a.name.cmp(&b.name));
        all
    }

    /// Whether the node is of the control plane.
    pub fn is_of_control_plane(&self) -> bool {
        self.control_plane.iter().any(|node| node.name == self.name())
    }

    /// Whether the node erases its pools when it has left.
    fn wipes_pools(&self) -> bool {
        self.removal.spec.wipe.as_ref().is_some_and(|wipe| wipe.pools)
    }

    /// Whether the cluster has nothing of a node of that name.
    pub fn is_unknown(&self) -> bool {
        self.node.is_none()
            && self.pods.is_empty()
            && self.volumes.is_empty()
            && self.machines.is_empty()
            && self.leftovers.is_empty()
            && self.identity != Identity::Key
    }
}
