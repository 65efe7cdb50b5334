//! What is read about the volumes of an instance: its attachment Pods, its claims, and the node that has them.
//!
//! Why here: most instances have no volume that is added while they run, and a claim that is bound stays as it is; so little is
//! read, and only then. Route in: an instance. Route out: [`Volumes`], for [`super::attachments`] and [`super::volume_status`].

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim, Pod};
use kube::{Api, Client, api::ListParams};
use sheaf_api::{
    VirtualMachineInstance,
    names::{APP_LABEL, CREATED_BY_LABEL, HOSTNAME_LABEL, HOTPLUG_DISK},
    status::Phase,
    volumes::Volume,
};

use crate::object::{RequestError, doing};

/// What is read.
#[derive(Clone, Debug, Default)]
pub struct Volumes {
    /// Attachment Pods of the instance.
    pub attachments: Vec<Pod>,
    /// Claims whose size is not in the instance's status yet, by name.
    pub claims: BTreeMap<String, PersistentVolumeClaim>,
    /// The node that has a claim which is added once the VM runs; asked for only when the instance is to get its Pod.
    pub home: Option<String>,
}

/// Reads it; with `wants_home` the node, too.
pub async fn observe(
    client: &Client,
    vmi: &VirtualMachineInstance,
    wants_home: bool,
) -> Result<Volumes, RequestError> {
    let namespace = vmi.metadata.namespace.as_deref().unwrap_or_default();
    let mut volumes = Volumes::default();
    if has_attachments(vmi) {
        let uid = vmi.metadata.uid.as_deref().unwrap_or_default();
        let of_instance =
            ListParams::default().labels(&format!("{APP_LABEL}={HOTPLUG_DISK},{CREATED_BY_LABEL}={uid}"));
        let pods = Api::<Pod>::namespaced(client.clone(), namespace).list(&of_instance).await;
        volumes.attachments = pods.map_err(doing("listing its attachment Pods"))?.items;
    }
    let claims: Api<PersistentVolumeClaim> = Api::namespaced(client.clone(), namespace);
    for name in unread(vmi) {
        let claim = claims.get_opt(name).await.map_err(doing("reading a claim for the status"))?;
        volumes.claims.extend(claim.map(|claim| (name.to_owned(), claim)));
    }
    if wants_home {
        for name in vmi.spec.hotpluggable().filter_map(Volume::claim) {
            let claim = volumes.claims.get(name);
            let bound = claim.and_then(|claim| claim.spec.as_ref()?.volume_name.as_deref());
            let Some(bound) = bound else { continue };
            let of_cluster: Api<PersistentVolume> = Api::all(client.clone());
            let volume = of_cluster.get_opt(bound).await.map_err(doing("reading the volume of a claim"))?;
            volumes.home = volumes.home.or_else(|| volume.as_ref().and_then(node));
        }
    }
    Ok(volumes)
}

/// Whether there may be attachment Pods.
fn has_attachments(vmi: &VirtualMachineInstance) -> bool {
    let before = vmi.status.iter().flat_map(|status| &status.volume_status);
    vmi.spec.hotpluggable().next().is_some() || before.into_iter().any(|one| one.hotplug_volume.is_some())
}

/// Claims of the instance that are not known to be bound.
fn unread(vmi: &VirtualMachineInstance) -> impl Iterator<Item = &str> {
    let status = vmi.status.as_ref();
    let is_over = status.and_then(|status| status.phase).is_some_and(Phase::is_final);
    let is_known = move |claim: &str| {
        let known = status.into_iter().flat_map(|status| &status.volume_status);
        let mut known = known.filter_map(|one| one.persistent_volume_claim_info.as_ref());
        known.any(|info| info.claim_name == claim && !info.capacity.is_empty())
    };
    vmi.spec.volumes.iter().filter_map(Volume::claim).filter(move |claim| !is_over && !is_known(claim))
}

/// The node that has this volume.
pub fn node(volume: &PersistentVolume) -> Option<String> {
    let required = volume.spec.as_ref()?.node_affinity.as_ref()?.required.as_ref()?;
    let expressions =
        required.node_selector_terms.iter().flat_map(|term| term.match_expressions.iter().flatten());
    let mut names = expressions.filter(|expression| expression.key == HOSTNAME_LABEL);
    names.find_map(|expression| expression.values.as_ref()?.first().cloned())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn vmi(status: serde_json::Value) -> VirtualMachineInstance {
        serde_json::from_value(json!({
            "apiVersion": "kubevirt.io/v1", "kind": "VirtualMachineInstance", "metadata": {"name": "web"},
            "spec": {"domain": {"devices": {}}, "volumes": [
                {"name": "a", "persistentVolumeClaim": {"claimName": "one"}}, {"name": "b", "dataVolume": {"name": "two"}}]},
            "status": status,
        }))
        .unwrap()
    }

    #[test]
    fn a_claim_is_read_until_it_is_known_to_be_bound() {
        let of = |status| unread(&vmi(status)).map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(of(json!({})), ["one", "two"]);
        let info = |claim: &str, capacity| json!({"name": "x", "persistentVolumeClaimInfo": {"claimName": claim, "capacity": capacity}});
        let known = [info("one", json!({"storage": "1Gi"})), info("two", json!({}))];
        assert_eq!(of(json!({"volumeStatus": known})), ["two"]);
        assert_eq!(of(json!({"phase": "Succeeded"})), Vec::<String>::new());
    }

    #[test]
    fn the_node_of_a_volume_is_the_one_of_its_affinity() {
        let terms = json!([{"matchExpressions": [{"key": "kubernetes.io/hostname", "operator": "In", "values": ["n2"]}]}]);
        let volume = json!({"spec": {"nodeAffinity": {"required": {"nodeSelectorTerms": terms}}}});
        assert_eq!(node(&serde_json::from_value(volume).unwrap()).as_deref(), Some("n2"));
        assert_eq!(node(&PersistentVolume::default()), None);
    }
}
