//! Composes the content of a snapshot, its VolumeSnapshots and its status.
//!
//! Why here: pure; names are KubeVirt's and follow from the snapshot's UID, so that nothing is made twice. Route in: the
//! snapshot, its VM and the VM's claims. Route out: objects to create, and what is observed of them.

use std::collections::BTreeMap;

use k8s_openapi::{api::core::v1::PersistentVolumeClaim, jiff::Timestamp};
use kube::{Resource, api::ObjectMeta};
use sheaf_api::{
    VirtualMachine, VirtualMachineInstance,
    names::VM_SPEC_ANNOTATION,
    snapshot::{self, SnapshotError, VolumeSnapshot, VolumeSnapshotSpec},
    vm::VirtualMachineSpec,
    vm_snapshot::{
        CONTENT_FINALIZER, STATE_ANNOTATION, VirtualMachineSnapshot, VirtualMachineSnapshotContent,
        content::{
            SavedClaim, SavedMachine, SavedRevision, SnapshotSource, VirtualMachineSnapshotContentSpec,
            VirtualMachineSnapshotContentStatus, VolumeBackup, VolumeSnapshotState,
        },
    },
};

use super::revisions;
use crate::{conditions::seconds, resolve, volumes::annotation};

/// Annotation of a VolumeSnapshot: the VirtualMachineSnapshot that it is a part of.
pub const PART_ANNOTATION: &str = "sheaf.dev/vm-snapshot";
/// Labels of a VolumeSnapshot, KubeVirt's: name and namespace of the VM.
const SOURCE_LABELS: [&str; 2] =
    ["snapshot.kubevirt.io/source-vm-name", "snapshot.kubevirt.io/source-vm-namespace"];
/// What kubectl notes of an object is of the object that it was read from.
const APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// Name of a snapshot's content.
pub fn name(snapshot: &VirtualMachineSnapshot) -> String {
    format!("vmsnapshot-content-{}", snapshot.metadata.uid.as_deref().unwrap_or_default())
}

/// The content of `snapshot`, with `vm` as it is now, every claim of it that exists, and those of `revisions` that belong to the
/// spec which is kept.
pub fn content(
    snapshot: &VirtualMachineSnapshot,
    vm: &VirtualMachine,
    vmi: Option<&VirtualMachineInstance>,
    claims: &[PersistentVolumeClaim],
    revisions: &[SavedRevision],
) -> VirtualMachineSnapshotContent {
    let backup = |volume: &sheaf_api::volumes::Volume| {
        let claim = volume.claim()?;
        let claim = claims.iter().find(|found| found.metadata.name.as_deref() == Some(claim))?;
        let uid = snapshot.metadata.uid.as_deref().unwrap_or_default();
        Some(VolumeBackup {
            volume_name: volume.name.clone(),
            persistent_volume_claim: SavedClaim {
                metadata: ObjectMeta {
                    owner_references: claim.metadata.owner_references.clone(),
                    ..kept(&claim.metadata)
                },
                spec: claim.spec.clone().unwrap_or_default(),
            },
            volume_snapshot_name: Some(format!("vmsnapshot-{uid}-volume-{}", volume.name)),
        })
    };
    let spec = saved(vm, vmi);
    let volume_backups = spec.template.spec.volumes.iter().filter_map(backup).collect();
    let revisions = revisions.iter().filter(|one| revisions::is_of(&spec, one)).cloned().collect();
    let state = state_node(vm, vmi, &spec);
    let mut content = VirtualMachineSnapshotContent::new(
        &name(snapshot),
        VirtualMachineSnapshotContentSpec {
            virtual_machine_snapshot_name: snapshot.metadata.name.clone(),
            source: SnapshotSource {
                virtual_machine: Some(SavedMachine { metadata: kept(&vm.metadata), spec, revisions }),
            },
            volume_backups,
        },
    );
    content.metadata.namespace.clone_from(&snapshot.metadata.namespace);
    content.metadata.finalizers = Some(vec![CONTENT_FINALIZER.into()]);
    content.metadata.annotations = state.map(|node| [(STATE_ANNOTATION.to_owned(), node)].into());
    content
}

/// The node that has UEFI variables or a TPM of the VM; empty if it keeps some and has not run.
fn state_node(
    vm: &VirtualMachine,
    vmi: Option<&VirtualMachineInstance>,
    spec: &VirtualMachineSpec,
) -> Option<String> {
    // A preference may have given them to the instance.
    let of_instance = vmi.filter(|vmi| vmi.spec.keeps_state());
    let of_instance = of_instance.and_then(|vmi| vmi.status.as_ref()?.node_name.clone());
    let known = of_instance.or_else(|| vm.status.as_ref()?.state_node.clone());
    known.or_else(|| spec.template.spec.keeps_state().then(String::new))
}

/// The node that has a copy of UEFI variables and TPM for `content`, if there is one.
pub fn copied_on(content: &VirtualMachineSnapshotContent) -> Option<&str> {
    annotation(content, STATE_ANNOTATION).filter(|node| !node.is_empty())
}

/// UUID of the firmware of the VM in `content`.
pub fn uuid(content: &VirtualMachineSnapshotContent) -> Option<String> {
    let machine = content.spec.source.virtual_machine.as_ref()?;
    let uid = machine.metadata.uid.as_deref().unwrap_or_default();
    resolve::resolve(&machine.spec.template.spec, uid).domain.firmware?.uuid
}

/// The spec that is kept: of a VM that runs, the one that it was started with, but for its volumes, which are taken as they
/// are now.
fn saved(vm: &VirtualMachine, vmi: Option<&VirtualMachineInstance>) -> VirtualMachineSpec {
    let started = vmi.and_then(|vmi| serde_json::from_str(annotation(vmi, VM_SPEC_ANNOTATION)?).ok());
    let Some(mut spec): Option<VirtualMachineSpec> = started else { return vm.spec.clone() };
    spec.data_volume_templates.clone_from(&vm.spec.data_volume_templates);
    spec.template.spec.volumes.clone_from(&vm.spec.template.spec.volumes);
    spec.template.spec.domain.devices.disks.clone_from(&vm.spec.template.spec.domain.devices.disks);
    spec
}

/// The part of an object's metadata that is kept.
fn kept(meta: &ObjectMeta) -> ObjectMeta {
    let mut annotations = meta.annotations.clone();
    annotations.iter_mut().for_each(|all| drop(all.remove(APPLIED)));
    ObjectMeta {
        name: meta.name.clone(),
        namespace: meta.namespace.clone(),
        uid: meta.uid.clone(),
        labels: meta.labels.clone(),
        annotations,
        ..ObjectMeta::default()
    }
}

/// Names of a content's VolumeSnapshots.
pub fn names(content: &VirtualMachineSnapshotContent) -> Vec<&str> {
    content.spec.volume_backups.iter().filter_map(|backup| backup.volume_snapshot_name.as_deref()).collect()
}

/// The VolumeSnapshots of a content; it owns them.
pub fn volume_snapshots(
    snapshot: &VirtualMachineSnapshot,
    content: &VirtualMachineSnapshotContent,
    class: Option<&str>,
) -> Vec<VolumeSnapshot> {
    let machine = content.spec.source.virtual_machine.as_ref().map(|machine| &machine.metadata);
    let source = machine.map(|meta| [meta.name.clone(), meta.namespace.clone()]).unwrap_or_default();
    let labels: BTreeMap<String, String> = SOURCE_LABELS
        .iter()
        .zip(source)
        .filter_map(|(label, value)| Some(((*label).to_owned(), value.filter(|value| value.len() <= 63)?)))
        .collect();
    let part = snapshot.metadata.name.clone().unwrap_or_default();
    let one = |backup: &VolumeBackup| {
        let claim = backup.persistent_volume_claim.metadata.name.clone();
        let mut made = VolumeSnapshot::new(
            backup.volume_snapshot_name.as_deref()?,
            VolumeSnapshotSpec {
                source: snapshot::SnapshotSource {
                    persistent_volume_claim_name: claim,
                    ..snapshot::SnapshotSource::default()
                },
                volume_snapshot_class_name: class.map(str::to_owned),
            },
        );
        made.metadata.namespace.clone_from(&content.metadata.namespace);
        made.metadata.labels = Some(labels.clone());
        made.metadata.annotations = Some([(PART_ANNOTATION.to_owned(), part.clone())].into());
        made.metadata.owner_references = content.controller_owner_ref(&()).map(|owner| vec![owner]);
        Some(made)
    };
    content.spec.volume_backups.iter().filter_map(one).collect()
}

/// What is observed of a content by its VolumeSnapshots.
pub fn status(
    content: &VirtualMachineSnapshotContent,
    volumes: &[VolumeSnapshot],
) -> VirtualMachineSnapshotContentStatus {
    let wanted = names(content);
    let state = |name: &&str| {
        let volume = volumes.iter().find(|volume| volume.metadata.name.as_deref() == Some(*name))?;
        let status = volume.status.clone().unwrap_or_default();
        Some(VolumeSnapshotState {
            volume_snapshot_name: (*name).to_owned(),
            creation_time: status.creation_time,
            ready_to_use: status.ready_to_use,
            error: status.error,
        })
    };
    let states: Vec<_> = wanted.iter().filter_map(state).collect();
    let wrong = states.iter().find_map(|state| Some((&state.volume_snapshot_name, state.error.as_ref()?)));
    let error = wrong.map(|(name, error)| SnapshotError {
        time: error.time.clone(),
        message: Some(format!("VolumeSnapshot {name}: {}", error.message.as_deref().unwrap_or_default())),
    });
    let ready = states.len() == wanted.len() && states.iter().all(|state| state.ready_to_use == Some(true));
    VirtualMachineSnapshotContentStatus {
        creation_time: content.status.as_ref().and_then(|status| status.creation_time.clone()),
        ready_to_use: Some(ready),
        error,
        volume_snapshot_status: states,
    }
}

/// An error with the time at which it was first reported.
pub fn error(why: String, before: Option<SnapshotError>, now: Timestamp) -> Option<SnapshotError> {
    match before {
        Some(before) if before.message.as_ref() == Some(&why) => Some(before),
        _ => Some(SnapshotError { time: Some(seconds(now)), message: Some(why) }),
    }
}
