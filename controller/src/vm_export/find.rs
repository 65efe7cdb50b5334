//! Reads what an export is of.
//!
//! Why here: a VM, a snapshot and a claim lead to LocalVolumes by different objects; the plan sees one shape. Route in: an
//! export. Route out: a [`Source`], its exporter Pods.

use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim, Pod};
use kube::{Api, Client, api::ListParams};
use sheaf_api::{
    VirtualMachine, VirtualMachineInstance,
    names::EXPORT_LABEL,
    snapshot::VolumeSnapshot,
    vm_export::VirtualMachineExport,
    vm_snapshot::{VirtualMachineSnapshot, VirtualMachineSnapshotContent},
};

use super::plan::{Claim, Snapshot, Source, Taken};
use crate::{
    object::{RequestError, doing},
    vm_snapshot::content,
    volumes::{handle, local_volume, snapshot},
};

/// What `export` is of.
pub async fn source(client: &Client, export: &VirtualMachineExport) -> Result<Source, RequestError> {
    let namespace = export.metadata.namespace.as_deref().unwrap_or_default();
    let named = &export.spec.source;
    let instances: Api<VirtualMachineInstance> = Api::namespaced(client.clone(), namespace);
    let instances = || async {
        let listed = instances.list(&ListParams::default()).await;
        Ok(listed.map_err(doing("listing instances that may use the volumes"))?.items)
    };
    match named.kind.as_str() {
        "VirtualMachine" => {
            let machines: Api<VirtualMachine> = Api::namespaced(client.clone(), namespace);
            let vm = machines.get_opt(&named.name).await.map_err(doing("reading the VM to export"))?;
            let mut claims = Vec::new();
            for claim in vm.iter().flat_map(|vm| &vm.spec.template.spec.volumes).filter_map(|one| one.claim())
            {
                claims.push(self::claim(client, namespace, claim).await?);
            }
            Ok(Source::Vm { exists: vm.is_some(), claims, instances: instances().await? })
        }
        "VirtualMachineSnapshot" => Ok(Source::Snapshot(taken(client, namespace, &named.name).await?)),
        _ => Ok(Source::Claim {
            claim: Box::new(claim(client, namespace, &named.name).await?),
            instances: instances().await?,
        }),
    }
}

async fn claim(client: &Client, namespace: &str, name: &str) -> Result<Claim, RequestError> {
    let claims: Api<PersistentVolumeClaim> = Api::namespaced(client.clone(), namespace);
    let claim = claims.get_opt(name).await.map_err(doing("reading a claim to export"))?;
    let bound = claim.as_ref().and_then(|claim| claim.spec.as_ref()?.volume_name.clone());
    let persistents: Api<PersistentVolume> = Api::all(client.clone());
    let persistent = match bound {
        Some(bound) => persistents.get_opt(&bound).await.map_err(doing("reading the volume of a claim"))?,
        None => None,
    };
    let volume = match persistent.as_ref().and_then(handle) {
        Some(handle) => local_volume(client, handle).await?,
        None => None,
    };
    Ok(Claim { name: name.to_owned(), claim, persistent, volume })
}

async fn taken(client: &Client, namespace: &str, name: &str) -> Result<Option<Snapshot>, RequestError> {
    let snapshots: Api<VirtualMachineSnapshot> = Api::namespaced(client.clone(), namespace);
    let found = snapshots.get_opt(name).await.map_err(doing("reading the snapshot to export"))?;
    let Some(vm_snapshot) = found else { return Ok(None) };
    let contents: Api<VirtualMachineSnapshotContent> = Api::namespaced(client.clone(), namespace);
    let kept = contents.get_opt(&content::name(&vm_snapshot)).await;
    let kept = kept.map_err(doing("reading the content of the snapshot"))?;
    let volumes: Api<VolumeSnapshot> = Api::namespaced(client.clone(), namespace);
    let mut taken = Vec::new();
    for backup in kept.iter().flat_map(|kept| &kept.spec.volume_backups) {
        let found = match &backup.volume_snapshot_name {
            Some(name) => volumes.get_opt(name).await.map_err(doing("reading a VolumeSnapshot"))?,
            None => None,
        };
        let volume = match &found {
            Some(found) => local_volume(client, &snapshot::plan::name_for(found)).await?,
            None => None,
        };
        let claim = backup.persistent_volume_claim.metadata.name.clone().unwrap_or_default();
        taken.push(Taken { claim, volume });
    }
    let machine = kept.and_then(|kept| kept.spec.source.virtual_machine?.metadata.name);
    let is_ready = vm_snapshot.status.as_ref().and_then(|status| status.ready_to_use) == Some(true);
    Ok(Some(Snapshot { is_ready, machine, taken }))
}

/// The exporter Pods of `export`.
pub async fn exporters(client: &Client, export: &VirtualMachineExport) -> Result<Vec<Pod>, RequestError> {
    let namespace = export.metadata.namespace.as_deref().unwrap_or_default();
    let uid = export.metadata.uid.as_deref().unwrap_or_default();
    let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let of_export = ListParams::default().labels(&format!("{EXPORT_LABEL}={uid}"));
    Ok(pods.list(&of_export).await.map_err(doing("listing exporter Pods"))?.items)
}
