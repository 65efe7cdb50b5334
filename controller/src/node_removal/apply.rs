//! Does one action of a plan.
//!
//! Why here: one arm an action, and no decision. Every deletion names the UID that was read. Route in: an [`Action`]. Route out:
//! requests to the API server.

use std::fmt::Debug;

use k8s_openapi::api::{
    certificates::v1::CertificateSigningRequest,
    coordination::v1::Lease,
    core::v1::{ConfigMap, Node, PersistentVolumeClaim, Pod, Taint},
};
use kube::{
    Api, Resource, ResourceExt as _,
    api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions},
};
use serde::de::DeserializeOwned;
use serde_json::json;
use sheaf_api::{
    VirtualMachine, VirtualMachineInstance,
    names::{IDENTITIES_MAP, OUT_OF_SERVICE_TAINT, REMOVAL_FINALIZER, SYSTEM_NAMESPACE},
    node_maintenance::NodeMaintenance,
    node_network::{NodeNetworkEnactment, NodeNetworkState},
    node_removal::NodeRemoval,
    node_update::NodeUpdate,
    storage::{BlockDevice, LocalVolume, StoragePool, local_volume},
};

use super::{
    observe::LEASES,
    observed::{Kind, Leftover, Observed},
    plan::Action,
};
use crate::{
    csr::identities::REMOVED,
    object::{
        Context, RequestError, add_finalizer, doing, has_finalizer, ok_if_exists, ok_if_gone,
        remove_finalizer, write_status,
    },
};

/// Does it.
pub async fn apply(
    context: &Context,
    objects: &Api<NodeRemoval>,
    observed: &Observed,
    action: &Action,
) -> Result<(), RequestError> {
    let (client, removal) = (context.client.clone(), &observed.removal);
    let node = removal.spec.node_name.as_str();
    match action {
        Action::AddFinalizer => add_finalizer(objects, removal, REMOVAL_FINALIZER).await,
        Action::RemoveFinalizer => remove_finalizer(objects, removal, REMOVAL_FINALIZER).await,
        Action::WriteStatus(status) => write_status(objects, removal, removal.status.as_ref(), status).await,
        Action::CreateMaintenance(made) => {
            let all: Api<NodeMaintenance> = Api::all(client);
            ok_if_exists(all.create(&PostParams::default(), made).await)
                .map_err(doing("creating the NodeMaintenance"))
        }
        Action::DeleteMaintenance(uid) => delete(&Api::<NodeMaintenance>::all(client), node, uid).await,
        Action::OutOfService(is_out) => {
            let Some(read) = &observed.node else { return Ok(()) };
            // If the Node changed since it was read, that is an error, and retried.
            let patch = json!({
                "metadata": {"resourceVersion": read.metadata.resource_version},
                "spec": {"taints": taints(read, *is_out)},
            });
            let nodes: Api<Node> = Api::all(client);
            let patched = nodes.patch(node, &PatchParams::default(), &Patch::Merge(&patch)).await;
            patched.map(drop).map_err(doing("changing the taint out-of-service of the Node"))
        }
        Action::DeletePod { namespace, name, uid } => {
            delete(&Api::<Pod>::namespaced(client, namespace), name, uid).await
        }
        Action::Revoke => {
            let maps: Api<ConfigMap> = Api::namespaced(client, SYSTEM_NAMESPACE);
            let patch = json!({"data": {node: REMOVED}});
            let patched = maps.patch(IDENTITIES_MAP, &PatchParams::default(), &Patch::Merge(&patch)).await;
            patched.map(drop).map_err(doing("recording that the node has no identity any more"))
        }
        Action::DeleteVolume(volume) => {
            let all: Api<LocalVolume> = Api::all(client);
            let uid = volume.uid().unwrap_or_default();
            delete(&all, &volume.name_any(), &uid).await?;
            match has_finalizer(&**volume, local_volume::FINALIZER) {
                true => remove_finalizer(&all, &**volume, local_volume::FINALIZER).await,
                false => Ok(()),
            }
        }
        Action::ClaimEvent { namespace, name, event } => {
            let claims: Api<PersistentVolumeClaim> = Api::namespaced(client, namespace);
            if let Some(claim) = claims.get_opt(name).await.map_err(doing("reading a claim"))? {
                context.events.record(&claim, event).await;
            }
            Ok(())
        }
        Action::DeleteInstance { namespace, name, uid } => {
            delete(&Api::<VirtualMachineInstance>::namespaced(client, namespace), name, uid).await
        }
        Action::ForgetState(machine) => {
            let namespace = machine.namespace().unwrap_or_default();
            let all: Api<VirtualMachine> = Api::namespaced(client, &namespace);
            let patch = json!({"metadata": {"uid": machine.uid()}, "status": {"stateNode": null}});
            let patched =
                all.patch_status(&machine.name_any(), &PatchParams::default(), &Patch::Merge(&patch)).await;
            ok_if_gone(patched).map_err(doing("recording that a VM has no state on the node any more"))
        }
        Action::Delete(leftover) => left(context, leftover).await,
        Action::DeleteNode(uid) => delete(&Api::<Node>::all(client), node, uid).await,
        Action::RecordEvent(event) => {
            context.events.record(removal, event).await;
            Ok(())
        }
    }
}

/// The taints of the Node with or without the one that declares it out of service.
fn taints(node: &Node, is_out: bool) -> Vec<Taint> {
    let all = node.spec.as_ref().and_then(|spec| spec.taints.clone()).unwrap_or_default();
    let mut taints: Vec<Taint> = all.into_iter().filter(|taint| taint.key != OUT_OF_SERVICE_TAINT).collect();
    if is_out {
        taints.push(Taint {
            key: OUT_OF_SERVICE_TAINT.into(),
            value: Some("nodeshutdown".into()),
            effect: "NoExecute".into(),
            time_added: None,
        });
    }
    taints
}

async fn left(context: &Context, Leftover { kind, name, uid }: &Leftover) -> Result<(), RequestError> {
    let client = context.client.clone();
    match kind {
        Kind::BlockDevice => delete(&Api::<BlockDevice>::all(client), name, uid).await,
        Kind::StoragePool => delete(&Api::<StoragePool>::all(client), name, uid).await,
        Kind::NodeNetworkState => delete(&Api::<NodeNetworkState>::all(client), name, uid).await,
        Kind::NodeNetworkEnactment => delete(&Api::<NodeNetworkEnactment>::all(client), name, uid).await,
        Kind::NodeUpdate => delete(&Api::<NodeUpdate>::all(client), name, uid).await,
        Kind::CertificateSigningRequest => {
            delete(&Api::<CertificateSigningRequest>::all(client), name, uid).await
        }
        Kind::Lease => delete(&Api::<Lease>::namespaced(client, LEASES), name, uid).await,
    }
}

async fn delete<K>(api: &Api<K>, name: &str, uid: &str) -> Result<(), RequestError>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned,
{
    let only = Preconditions { uid: Some(uid.to_owned()), resource_version: None };
    ok_if_gone(api.delete(name, &DeleteParams::default().preconditions(only)).await)
        .map_err(doing("deleting what is left of the node"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_other_taints_of_a_node_stay_when_it_is_declared_out_of_service_and_when_it_is_not_any_more() {
        let node = json!({"spec": {"taints": [{"key": "a", "effect": "NoSchedule"},
            {"key": OUT_OF_SERVICE_TAINT, "value": "x", "effect": "NoExecute"}]}, "metadata": {"name": "n1"}});
        let node: Node = serde_json::from_value(node).unwrap();
        let keys = |is_out| taints(&node, is_out).into_iter().map(|taint| taint.key).collect::<Vec<_>>();
        assert_eq!(keys(false), ["a"]);
        assert_eq!(keys(true), ["a", OUT_OF_SERVICE_TAINT]);
    }
}
