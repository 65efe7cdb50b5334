//! Composes the VM and the claims that a restore makes.
//!
//! Why here: pure. A volume that the VM has a template for stays one of its DataVolumes, of a new name, whose source is the
//! VolumeSnapshot: were it the image of the template, a DataVolume that is made again would come up empty of what the guest
//! wrote. Every other claim of the VM becomes a claim. Route in: the restore, the content of its snapshot, the VM if there is
//! one. Route out: objects to create, or the sentence that says why not.

use k8s_openapi::{
    api::core::v1::{PersistentVolumeClaim, PersistentVolumeClaimSpec, TypedLocalObjectReference},
    apimachinery::pkg::apis::meta::v1::OwnerReference,
};
use kube::{Resource, api::ObjectMeta};
use sheaf_api::{
    Amount, RunStrategy, VirtualMachine,
    cdi::{DataVolumeSource, DataVolumeTemplate, SourceName},
    snapshot::{self, VolumeSnapshot},
    vm::VirtualMachineSpec,
    vm_snapshot::{
        VirtualMachineRestore,
        content::{SavedMachine, VolumeBackup},
        restore::{
            LAST_RESTORE_ANNOTATION, NAME_ANNOTATION, SOURCE_NAME_LABEL, SOURCE_NAMESPACE_LABEL,
            VolumeRestore, VolumeRestoreOverride,
        },
    },
    volumes::{ClaimName, DataVolumeName, Volume},
};

use super::patches;
use crate::{
    resolve,
    vm_snapshot::revisions,
    volumes::{annotation, room},
};

/// Annotations of a claim that Kubernetes and CDI gave it for itself.
const NOT_COPIED: [&str; 6] = [
    "pv.kubernetes.io",
    "volume.beta.kubernetes.io",
    "volume.kubernetes.io",
    "cdi.kubevirt.io",
    "sheaf.dev/source",
    "k8s.io/Clone",
];

/// What the annotation of a VM, a claim or a DataVolume says of the restore that it was last made by.
pub fn mark(restore: &VirtualMachineRestore) -> String {
    let meta = &restore.metadata;
    format!("{}-{}", meta.name.as_deref().unwrap_or_default(), meta.uid.as_deref().unwrap_or_default())
}

/// Whether `object`, a VM, a claim or a DataVolume, is as `restore` has made it.
pub fn is_restored<K: Resource>(restore: &VirtualMachineRestore, object: &K) -> bool {
    annotation(object, LAST_RESTORE_ANNOTATION) == Some(mark(restore).as_str())
}

/// The volumes to restore, with their new names.
pub fn restores(
    restore: &VirtualMachineRestore,
    saved: &SavedMachine,
    backups: &[VolumeBackup],
) -> Vec<VolumeRestore> {
    let uid = restore.metadata.uid.as_deref().unwrap_or_default();
    let one = |backup: &VolumeBackup| {
        let asked = of(restore, &backup.volume_name).and_then(|of| of.restore_name.clone());
        let name = asked.unwrap_or_else(|| format!("restore-{uid}-{}", backup.volume_name));
        let claim = saved.spec.template.spec.volume(&backup.volume_name).and_then(Volume::claim);
        let template = claim.and_then(|claim| template(&saved.spec, claim));
        Some(VolumeRestore {
            volume_name: backup.volume_name.clone(),
            persistent_volume_claim: name.clone(),
            volume_snapshot_name: backup.volume_snapshot_name.clone()?,
            data_volume_name: template.map(|_| name),
        })
    };
    backups.iter().filter_map(one).collect()
}

fn of<'a>(restore: &'a VirtualMachineRestore, volume: &str) -> Option<&'a VolumeRestoreOverride> {
    restore.spec.volume_restore_overrides.iter().find(|of| of.volume_name == volume)
}

fn template<'a>(spec: &'a VirtualMachineSpec, claim: &str) -> Option<&'a DataVolumeTemplate> {
    spec.data_volume_templates.iter().find(|template| template.metadata.name == claim)
}

/// What a volume of a restore is made from.
pub struct Origin<'a> {
    /// Its claim as it was.
    pub backup: &'a VolumeBackup,
    /// Its contents.
    pub snapshot: &'a VolumeSnapshot,
}

impl Origin<'_> {
    /// The size of a claim that is made from it: the claim's, and at least what the snapshot has.
    fn bytes(&self) -> u64 {
        let spec = &self.backup.persistent_volume_claim.spec;
        let requests = spec.resources.as_ref().and_then(|resources| resources.requests.as_ref());
        let asked = room::bytes(requests.and_then(|requests| requests.get("storage")));
        let least = self.snapshot.status.as_ref().and_then(|status| status.restore_size.as_ref());
        asked.max(least.and_then(|least| least.units().ok()).unwrap_or_default())
    }
}

/// The claim of a volume that the VM has no template for; `owner` has it until the VM does.
pub fn claim(
    restore: &VirtualMachineRestore,
    saved: &SavedMachine,
    volume: &VolumeRestore,
    origin: &Origin,
    owner: Option<OwnerReference>,
) -> PersistentVolumeClaim {
    let was = &origin.backup.persistent_volume_claim;
    let mut labels = was.metadata.labels.clone().unwrap_or_default();
    for (label, value) in
        [(SOURCE_NAME_LABEL, &saved.metadata.name), (SOURCE_NAMESPACE_LABEL, &saved.metadata.namespace)]
    {
        // A name may be longer than the value of a label.
        labels.extend(value.clone().filter(|value| value.len() <= 63).map(|value| (label.to_owned(), value)));
    }
    let mut annotations = was.metadata.annotations.clone().unwrap_or_default();
    annotations.retain(|name, _| !NOT_COPIED.iter().any(|prefix| name.starts_with(prefix)));
    if let Some(more) = of(restore, &volume.volume_name) {
        labels.extend(more.labels.clone());
        annotations.extend(more.annotations.clone());
    }
    annotations.insert(NAME_ANNOTATION.into(), restore.metadata.name.clone().unwrap_or_default());
    annotations.insert(LAST_RESTORE_ANNOTATION.into(), mark(restore));
    let mut resources = was.spec.resources.clone().unwrap_or_default();
    let size = room::quantity(origin.bytes());
    resources.requests.get_or_insert_default().insert("storage".into(), size);
    PersistentVolumeClaim {
        metadata: ObjectMeta {
            name: Some(volume.persistent_volume_claim.clone()),
            namespace: restore.metadata.namespace.clone(),
            labels: Some(labels),
            annotations: Some(annotations),
            owner_references: owner.map(|owner| vec![owner]),
            ..ObjectMeta::default()
        },
        spec: Some(PersistentVolumeClaimSpec {
            access_modes: was.spec.access_modes.clone(),
            resources: Some(resources),
            storage_class_name: was.spec.storage_class_name.clone(),
            volume_mode: was.spec.volume_mode.clone(),
            data_source: Some(TypedLocalObjectReference {
                api_group: Some(snapshot::GROUP.into()),
                kind: "VolumeSnapshot".into(),
                name: volume.volume_snapshot_name.clone(),
            }),
            ..PersistentVolumeClaimSpec::default()
        }),
        status: None,
    }
}

/// The VM as it is to be; `origin` finds what a volume is made from.
pub fn machine<'a>(
    restore: &VirtualMachineRestore,
    saved: &SavedMachine,
    vm: Option<&VirtualMachine>,
    volumes: &[VolumeRestore],
    origin: impl Fn(&str) -> Option<Origin<'a>>,
) -> Result<VirtualMachine, String> {
    let mut spec = saved.spec.clone();
    for volume in volumes {
        let found = origin(&volume.volume_name)
            .ok_or_else(|| format!("VolumeSnapshot {} does not exist", volume.volume_snapshot_name))?;
        put(restore, &mut spec, volume, &found);
    }
    revisions::name_them(saved, &restore.spec.target.name, &mut spec);
    match vm {
        Some(vm) => {
            spec.run_strategy = vm.spec.run_strategy;
            // As KubeVirt: a VM that has the deprecated field is stopped, and started by its user.
            spec.running = vm.spec.running.map(|_| false);
            let mut vm = VirtualMachine { metadata: vm.metadata.clone(), spec, status: None };
            let annotations = vm.metadata.annotations.get_or_insert_default();
            annotations.insert(LAST_RESTORE_ANNOTATION.into(), mark(restore));
            Ok(vm)
        }
        None => another(restore, saved, spec),
    }
}

/// A VM that does not exist yet.
fn another(
    restore: &VirtualMachineRestore,
    saved: &SavedMachine,
    mut spec: VirtualMachineSpec,
) -> Result<VirtualMachine, String> {
    let name = restore.spec.target.name.clone();
    match spec.running {
        Some(_) => spec.running = Some(false),
        None => spec.run_strategy = Some(RunStrategy::Halted),
    }
    if saved.metadata.name.as_ref() == Some(&name) {
        // The same VM, created again: its guest sees the machine that it knows.
        same_identity(&mut spec, saved.metadata.uid.as_deref().unwrap_or_default());
    }
    let mut vm = VirtualMachine::new(&name, spec);
    vm.metadata.labels.clone_from(&saved.metadata.labels);
    vm.metadata.annotations.clone_from(&saved.metadata.annotations);
    let mut vm = patches::apply(&vm, &restore.spec.patches)?;
    vm.metadata.name = Some(name);
    vm.metadata.namespace.clone_from(&restore.metadata.namespace);
    vm.metadata.annotations.get_or_insert_default().insert(LAST_RESTORE_ANNOTATION.into(), mark(restore));
    vm.status = None;
    Ok(vm)
}

/// Writes down the UUID and MACs that follow from the UID of the VM that it was.
fn same_identity(spec: &mut VirtualMachineSpec, uid: &str) {
    let instance = &mut spec.template.spec;
    let was = resolve::resolve(instance, uid);
    let firmware = instance.domain.firmware.get_or_insert_default();
    firmware.uuid = was.domain.firmware.and_then(|firmware| firmware.uuid);
    for interface in &mut instance.domain.devices.interfaces {
        let same = was.domain.devices.interfaces.iter().find(|was| was.name == interface.name);
        interface.mac_address = same.and_then(|same| same.mac_address.clone());
    }
}

/// Puts a restored volume in the place of the one that it was.
fn put(
    restore: &VirtualMachineRestore,
    spec: &mut VirtualMachineSpec,
    restored: &VolumeRestore,
    origin: &Origin,
) {
    let Some(volume) =
        spec.template.spec.volumes.iter_mut().find(|volume| volume.name == restored.volume_name)
    else {
        return;
    };
    let was = volume.claim().map(str::to_owned);
    let hotpluggable = volume.is_hotpluggable().then_some(true);
    let Some(name) = restored.data_volume_name.clone() else {
        let claim_name = restored.persistent_volume_claim.clone();
        volume.data_volume = None;
        volume.persistent_volume_claim = Some(ClaimName { claim_name, hotpluggable });
        return;
    };
    match volume.data_volume.is_some() {
        true => volume.data_volume = Some(DataVolumeName { name: name.clone(), hotpluggable }),
        false => {
            volume.persistent_volume_claim = Some(ClaimName { claim_name: name.clone(), hotpluggable });
        }
    }
    let template = spec
        .data_volume_templates
        .iter_mut()
        .find(|template| Some(template.metadata.name.as_str()) == was.as_deref());
    let Some(template) = template else { return };
    template.metadata.name = name;
    if let Some(more) = of(restore, &restored.volume_name) {
        template.metadata.labels.extend(more.labels.clone());
        template.metadata.annotations.extend(more.annotations.clone());
    }
    // By which its claim is known.
    template.metadata.annotations.insert(LAST_RESTORE_ANNOTATION.into(), mark(restore));
    let snapshot = SourceName { name: restored.volume_snapshot_name.clone(), namespace: None };
    template.spec.source = DataVolumeSource { snapshot: Some(snapshot), ..DataVolumeSource::default() };
    let class = origin.backup.persistent_volume_claim.spec.storage_class_name.clone();
    let size = Amount::of_bytes(origin.bytes());
    for claim in [&mut template.spec.storage, &mut template.spec.pvc].into_iter().flatten() {
        claim.storage_class_name.clone_from(&class);
        let resources = claim.resources.get_or_insert_default();
        resources.requests.insert("storage".into(), size.clone());
    }
}
