//! What is read for one NodeRemoval.
//!
//! Why here: it changes nothing. Everything is read from the API server for each decision: what is deleted by it cannot be made
//! again. Of other nodes it reads labels, and which of them have the control plane. Route in: a NodeRemoval. Route out:
//! [`Observed`], for [`super::plan`].

use std::{collections::BTreeSet, fmt::Debug};

use k8s_openapi::{
    api::{
        certificates::v1::CertificateSigningRequest,
        coordination::v1::Lease,
        core::v1::{ConfigMap, Node, Pod},
    },
    jiff::Timestamp,
};
use kube::{Api, Client, Resource, ResourceExt as _, api::ListParams};
use serde::de::DeserializeOwned;
use sheaf_api::{
    VirtualMachine, VirtualMachineInstance,
    cluster_update::ClusterUpdate,
    names::{
        CONTROL_PLANE_ROLE_LABEL, IDENTITIES_MAP, IMAGE_LABEL_PREFIX, IMAGE_PRESENT, POD_FINALIZER,
        SYSTEM_NAMESPACE,
    },
    node_maintenance::NodeMaintenance,
    node_network::{NodeNetworkEnactment, NodeNetworkPolicy, NodeNetworkState},
    node_removal::NodeRemoval,
    node_update::NodeUpdate,
    status::Phase,
    storage::{BlockDevice, LocalVolume, StoragePool},
};

use super::{
    losses::{has_state, is_pinned},
    observed::{Busy, ControlPlaneNode, Identity, Kind, Leftover, Observed},
};
use crate::{
    cluster_update::standing::is_active,
    csr::{
        decide::{Requester, requester},
        identities::Identities,
    },
    object::{RequestError, doing, has_finalizer},
};

/// Namespace of the leases of nodes.
pub const LEASES: &str = "kube-node-lease";

/// Reads it.
pub async fn observe(client: &Client, removal: NodeRemoval) -> Result<Observed, RequestError> {
    let name = removal.spec.node_name.clone();
    let nodes: Api<Node> = Api::all(client.clone());
    let node = nodes.get_opt(&name).await.map_err(doing("reading the Node"))?;
    let leases: Api<Lease> = Api::namespaced(client.clone(), LEASES);
    let lease = leases.get_opt(&name).await.map_err(doing("reading the node's Lease"))?;
    let maintenances: Api<NodeMaintenance> = Api::all(client.clone());
    let maintenance = maintenances.get_opt(&name).await.map_err(doing("reading the NodeMaintenance"))?;
    let bound = ListParams::default().fields(&format!("spec.nodeName={name}"));
    let pods =
        Api::<Pod>::all(client.clone()).list(&bound).await.map_err(doing("listing the node's Pods"))?;
    let pods = pods.items.into_iter().filter(|pod| has_finalizer(pod, POD_FINALIZER)).collect();
    let volumes = Api::<LocalVolume>::all(client.clone()).list(&bound).await;
    let volumes = volumes.map_err(doing("listing the node's LocalVolumes"))?.items;
    let machines = Api::<VirtualMachine>::all(client.clone()).list(&ListParams::default()).await;
    let mut machines = machines.map_err(doing("listing VMs"))?.items;
    machines.retain(|machine| has_state(&name, machine) || is_pinned(&name, machine));
    let ended = ended(client, &name, &machines).await?;
    let plane = nodes.list(&ListParams::default().labels(CONTROL_PLANE_ROLE_LABEL)).await;
    let plane = plane.map_err(doing("listing control-plane Nodes"))?.items;
    Ok(Observed {
        renewed: lease.as_ref().and_then(renewed),
        images: images(&nodes, node.as_ref()).await?,
        control_plane: plane.iter().map(control_plane).collect(),
        busy: busy(client, &name).await?,
        leftovers: leftovers(client, &name, lease.as_ref()).await?,
        identity: identity(client, &name).await?,
        removal,
        node,
        maintenance,
        pods,
        volumes,
        machines,
        ended,
    })
}

/// Instances of `machines` that have state on the node, ran there and have ended.
async fn ended(
    client: &Client,
    node: &str,
    machines: &[VirtualMachine],
) -> Result<Vec<VirtualMachineInstance>, RequestError> {
    let mut ended = Vec::new();
    for machine in machines.iter().filter(|machine| has_state(node, machine)) {
        let namespace = machine.namespace().unwrap_or_default();
        let instances: Api<VirtualMachineInstance> = Api::namespaced(client.clone(), &namespace);
        let instance = instances.get_opt(&machine.name_any()).await.map_err(doing("reading an instance"))?;
        ended.extend(instance.filter(|instance| {
            let status = instance.status.as_ref();
            status.and_then(|status| status.node_name.as_deref()) == Some(node)
                && status.and_then(|status| status.phase).is_some_and(Phase::is_final)
        }));
    }
    Ok(ended)
}

fn renewed(lease: &Lease) -> Option<Timestamp> {
    Some(lease.spec.as_ref()?.renew_time.as_ref()?.0)
}

fn control_plane(node: &Node) -> ControlPlaneNode {
    let conditions = node.status.iter().flat_map(|status| status.conditions.iter().flatten());
    let is_ready = conditions.into_iter().any(|found| found.type_ == "Ready" && found.status == "True");
    ControlPlaneNode { name: node.name_any(), is_ready }
}

/// Names of the images that lie on `node` and on no other.
async fn images(nodes: &Api<Node>, node: Option<&Node>) -> Result<BTreeSet<String>, RequestError> {
    let images = |labels: &std::collections::BTreeMap<String, String>| -> BTreeSet<String> {
        let present = labels.iter().filter(|(_, value)| *value == IMAGE_PRESENT);
        present.filter_map(|(label, _)| label.strip_prefix(IMAGE_LABEL_PREFIX)).map(str::to_owned).collect()
    };
    let Some(node) = node else { return Ok(BTreeSet::new()) };
    let mut only = images(node.labels());
    if only.is_empty() {
        return Ok(only);
    }
    let all = nodes.list_metadata(&ListParams::default()).await.map_err(doing("listing labels of Nodes"))?;
    for other in all.items.iter().filter(|other| other.name_any() != node.name_any()) {
        for image in images(other.labels()) {
            only.remove(&image);
        }
    }
    Ok(only)
}

/// Updates and changes of links that are under way at the node.
async fn busy(client: &Client, name: &str) -> Result<Vec<Busy>, RequestError> {
    let every = ListParams::default();
    let mut busy = Vec::new();
    let updates = Api::<ClusterUpdate>::all(client.clone()).list(&every).await;
    for update in updates.map_err(doing("listing ClusterUpdates"))?.items {
        let at = update.status.iter().flat_map(|status| &status.updating_nodes);
        if at.into_iter().any(|node| node == name) {
            let what = format!("ClusterUpdate {}", update.name_any());
            busy.push(Busy { what, remedy: "set its spec.cancelled: true".into() });
        }
    }
    let update = Api::<NodeUpdate>::all(client.clone()).get_opt(name).await;
    let update = update.map_err(doing("reading the NodeUpdate"))?;
    if busy.is_empty() && update.as_ref().is_some_and(is_active) {
        busy.push(Busy { what: format!("NodeUpdate {name}"), remedy: "delete it".into() });
    }
    let policies = Api::<NodeNetworkPolicy>::all(client.clone()).list(&every).await;
    for policy in policies.map_err(doing("listing NodeNetworkPolicies"))?.items {
        let at = policy.status.iter().flat_map(|status| &status.updating_nodes);
        if at.into_iter().any(|node| node == name) {
            let what = format!("NodeNetworkPolicy {}", policy.name_any());
            busy.push(Busy {
                what,
                remedy: "change its nodeSelector so that it leaves this node out".into(),
            });
        }
    }
    Ok(busy)
}

/// What the record of names has about the node.
async fn identity(client: &Client, name: &str) -> Result<Identity, RequestError> {
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), SYSTEM_NAMESPACE);
    let map = maps.get_opt(IDENTITIES_MAP).await.map_err(doing("reading the record of names"))?;
    let known = Identities::read(&map.and_then(|map| map.data).unwrap_or_default());
    Ok(match known.get(name) {
        None => Identity::None,
        Some(identity) if identity.removed => Identity::Removed,
        Some(identity) if identity.released => Identity::None,
        Some(_) => Identity::Key,
    })
}

/// Objects of the node that are deleted with it.
async fn leftovers(
    client: &Client,
    name: &str,
    lease: Option<&Lease>,
) -> Result<Vec<Leftover>, RequestError> {
    let of_node = ListParams::default().fields(&format!("spec.nodeName={name}"));
    let mut found = Vec::new();
    found.extend(listed::<BlockDevice>(client, &of_node, Kind::BlockDevice).await?);
    found.extend(listed::<StoragePool>(client, &of_node, Kind::StoragePool).await?);
    found.extend(listed::<NodeNetworkState>(client, &of_node, Kind::NodeNetworkState).await?);
    found.extend(listed::<NodeNetworkEnactment>(client, &of_node, Kind::NodeNetworkEnactment).await?);
    found.extend(listed::<NodeUpdate>(client, &of_node, Kind::NodeUpdate).await?);
    let requests: Api<CertificateSigningRequest> = Api::all(client.clone());
    let requests =
        requests.list(&ListParams::default()).await.map_err(doing("listing certificate requests"))?;
    let own = requests.items.iter().filter(|request| requester(request) == Requester::Node(name));
    found.extend(own.map(|request| leftover(request, Kind::CertificateSigningRequest)));
    found.extend(lease.map(|lease| leftover(lease, Kind::Lease)));
    Ok(found)
}

fn leftover<K: Resource>(object: &K, kind: Kind) -> Leftover {
    Leftover { kind, name: object.name_any(), uid: object.uid().unwrap_or_default() }
}

async fn listed<K>(client: &Client, which: &ListParams, kind: Kind) -> Result<Vec<Leftover>, RequestError>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned,
{
    let list = Api::<K>::all(client.clone()).list_metadata(which).await;
    let list = list.map_err(doing("listing what is left of the node"))?;
    Ok(list.items.iter().map(|object| leftover(object, kind)).collect())
}
