//! What is read for one NodeMaintenance.
//!
//! Why here: it changes nothing, and reads nothing of other nodes but which of them have the control plane. Route in: a
//! NodeMaintenance. Route out: [`Observed`], for [`super::plan`].

use k8s_openapi::api::{
    core::v1::{Node, PersistentVolume, PersistentVolumeClaim, Pod},
    policy::v1::PodDisruptionBudget,
};
use kube::{Api, Client, ResourceExt, api::ListParams};
use sheaf_api::{
    VirtualMachine, VirtualMachineInstance,
    names::{APP_LABEL, CONTROL_PLANE_ROLE_LABEL, DOMAIN_ANNOTATION, LAUNCHER, VM_NAME_LABEL},
    node_maintenance::NodeMaintenance,
    volumes::Volume,
};

use super::{
    plan::{Known, Observed},
    vms::Vm,
};
use crate::{
    object::{RequestError, doing},
    placeholder::end,
    vmi::{plan::runs_a_vm, volumes},
};

/// Reads it.
pub async fn observe(client: &Client, maintenance: NodeMaintenance) -> Result<Observed, RequestError> {
    let name = maintenance.spec.node_name.clone();
    let nodes: Api<Node> = Api::all(client.clone());
    let node = nodes.get_opt(&name).await.map_err(doing("reading the Node"))?;
    let here = ListParams::default()
        .labels(&format!("{APP_LABEL}={LAUNCHER}"))
        .fields(&format!("spec.nodeName={name}"));
    let pods = Api::<Pod>::all(client.clone()).list(&here).await.map_err(doing("listing the node's Pods"))?;
    let mut vms = Vec::new();
    for pod in pods.items.into_iter().filter(|pod| runs_a_vm(pod) && !end::is_over(pod, node.as_ref())) {
        vms.push(vm(client, &name, pod).await?);
    }
    let mut known = Vec::new();
    for entry in maintenance.status.iter().flat_map(|status| &status.stopped) {
        let (machine, instance) = machine(client, &entry.namespace, &entry.name).await?;
        known.push(Known { entry: entry.clone(), machine, instance });
    }
    let budgets = if vms.is_empty() {
        Vec::new()
    } else {
        let all = Api::<PodDisruptionBudget>::all(client.clone()).list(&ListParams::default()).await;
        all.map_err(doing("listing PodDisruptionBudgets"))?.items
    };
    let plane = ListParams::default().labels(CONTROL_PLANE_ROLE_LABEL);
    let plane = nodes.list(&plane).await.map_err(doing("listing control-plane Nodes"))?.items;
    let control_plane = plane.into_iter().map(|node| node.name_any()).collect();
    Ok(Observed { maintenance, node, vms, known, budgets, control_plane })
}

async fn machine(
    client: &Client,
    namespace: &str,
    name: &str,
) -> Result<(Option<VirtualMachine>, Option<VirtualMachineInstance>), RequestError> {
    let machines: Api<VirtualMachine> = Api::namespaced(client.clone(), namespace);
    let instances: Api<VirtualMachineInstance> = Api::namespaced(client.clone(), namespace);
    let machine = machines.get_opt(name).await.map_err(doing("reading a VM"))?;
    let instance = instances.get_opt(name).await.map_err(doing("reading an instance"))?;
    Ok((machine, instance))
}

/// The VM behind a placeholder Pod of the node `here`.
async fn vm(client: &Client, here: &str, pod: Pod) -> Result<Vm, RequestError> {
    let namespace = pod.namespace().unwrap_or_default();
    let annotated = pod.annotations().get(DOMAIN_ANNOTATION);
    let name = annotated.or_else(|| pod.labels().get(VM_NAME_LABEL)).cloned().unwrap_or_default();
    let (machine, instance) = machine(client, &namespace, &name).await?;
    let claims: Api<PersistentVolumeClaim> = Api::namespaced(client.clone(), &namespace);
    let of_cluster: Api<PersistentVolume> = Api::all(client.clone());
    let mut claims_here = Vec::new();
    let volumes = instance.iter().flat_map(|instance| &instance.spec.volumes);
    for claim in volumes.filter_map(Volume::claim) {
        let bound = claims.get_opt(claim).await.map_err(doing("reading a claim"))?;
        let Some(bound) = bound.and_then(|claim| claim.spec?.volume_name) else { continue };
        let volume = of_cluster.get_opt(&bound).await.map_err(doing("reading the volume of a claim"))?;
        if volume.as_ref().and_then(volumes::node).as_deref() == Some(here) {
            claims_here.push(claim.to_owned());
        }
    }
    Ok(Vm { name, pod, machine, instance, claims_here })
}
