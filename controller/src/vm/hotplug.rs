//! Disks of a VM that runs: what of a changed template its instance takes up, and what waits for a restart.
//!
//! Why here: pure; as KubeVirt's DeclarativeHotplugVolumes (`pkg/storage/hotplug`). Hotpluggable volumes that the template has
//! gained are added to the instance, those that it has lost are removed, and one that is another claim now is removed and then
//! added; volumes that were added to the instance alone stay. A CD-ROM drive is there from the start: only its medium comes and
//! goes. NICs are [`super::nics`]', memory and sockets [`super::size`]'s. Everything else that differs needs a restart, and is named. Route
//! in: the spec that the VM wants, its instance. Route out: a JSON patch of the instance; fields. `aggregated` makes its patches
//! here, too.

use std::collections::BTreeSet;

use kube::api::ObjectMeta;
use serde_json::{Value, json};
use sheaf_api::{
    VirtualMachineInstance, devices::Disk, names::OWN_VOLUMES_ANNOTATION, vmi::VirtualMachineInstanceSpec,
    volumes::Volume,
};

use super::{nics, requests::patch, size};

/// Most fields that a message names.
const MOST_FIELDS: usize = 4;

/// The patch by which the instance follows the VM, if it needs one.
pub fn follow(
    wanted: &VirtualMachineInstanceSpec,
    vmi: &VirtualMachineInstance,
) -> Option<json_patch::Patch> {
    let own = own_volumes(vmi);
    let stays = |volume: &Volume| {
        let same = wanted.volume(&volume.name).filter(|wanted| wanted.is_hotpluggable());
        // One that the template has as a volume from the start is left to a restart.
        let restarts = same.is_none() && wanted.volume(&volume.name).is_some();
        !volume.is_hotpluggable()
            || own.contains(volume.name.as_str())
            || restarts
            || same.is_some_and(|same| same.claim() == volume.claim())
    };
    let mut after = vmi.spec.clone();
    after.volumes.retain(stays);
    let left = |name: &str| vmi.spec.volume(name).is_some() && after.volume(name).is_none();
    let lost: Vec<String> =
        vmi.spec.volumes.iter().map(|volume| volume.name.clone()).filter(|name| left(name)).collect();
    after.domain.devices.disks.retain(|disk| disk.is_drive() || !lost.contains(&disk.name));
    for volume in wanted.hotpluggable() {
        let status = vmi.status.iter().flat_map(|status| &status.volume_status);
        // One that is still being removed is added once it is gone.
        let is_there = vmi.spec.volume(&volume.name).is_some()
            || status.into_iter().any(|status| status.name == volume.name);
        let (asked, has) = (wanted.disk(&volume.name), vmi.spec.disk(&volume.name));
        // A medium goes into a drive that is there, and a disk beside those that are.
        let fits = asked.is_some_and(Disk::is_drive) == has.is_some();
        if !is_there && fits {
            after.volumes.push(volume.clone());
            after.domain.devices.disks.extend(asked.filter(|_| has.is_none()).cloned());
        }
    }
    let mut steps = change("", &vmi.spec, &after.volumes, &after.domain.devices.disks);
    steps.extend(nics::steps(wanted, vmi));
    steps.extend(size::steps(wanted, vmi));
    if steps.is_empty() {
        return None;
    }
    steps.splice(0..0, as_read(&vmi.metadata));
    Some(patch(steps))
}

/// Steps of a JSON patch by which it is about the object, and the spec, that was read.
///
/// The spec's generation is tested, not its values: the API server compares strings as they are encoded, and encodes `&`, `<`
/// and `>`, which scripts for cloud-init are full of, in another way than a client does.
pub fn as_read(meta: &ObjectMeta) -> Vec<Value> {
    vec![
        json!({"op": "test", "path": "/metadata/uid", "value": meta.uid}),
        json!({"op": "test", "path": "/metadata/generation", "value": meta.generation}),
    ]
}

/// Steps of a JSON patch that give the spec at `prefix` these volumes and disks; none if it has them already.
pub fn change(
    prefix: &str,
    before: &VirtualMachineInstanceSpec,
    volumes: &[Volume],
    disks: &[Disk],
) -> Vec<Value> {
    if before.volumes == volumes && before.domain.devices.disks == disks {
        return Vec::new();
    }
    vec![
        json!({"op": "add", "path": format!("{prefix}/spec/volumes"), "value": volumes}),
        json!({"op": "add", "path": format!("{prefix}/spec/domain/devices/disks"), "value": disks}),
    ]
}

/// Volumes that were added to this instance alone.
pub fn own_volumes(vmi: &VirtualMachineInstance) -> BTreeSet<&str> {
    let annotation = vmi.metadata.annotations.as_ref().and_then(|all| all.get(OWN_VOLUMES_ANNOTATION));
    annotation.map(|names| names.split(',').collect()).unwrap_or_default()
}

/// The fields of the template that the instance takes up only when the VM is restarted.
pub fn needs_restart(wanted: &VirtualMachineInstanceSpec, vmi: &VirtualMachineInstance) -> Vec<String> {
    // That it was started paused is no difference.
    let mut there = VirtualMachineInstanceSpec { start_strategy: wanted.start_strategy, ..vmi.spec.clone() };
    // Nor is a size that it takes up.
    if size::live(wanted, vmi).is_some() {
        if let (Some(has), Some(asked)) = (&mut there.domain.memory, &wanted.domain.memory) {
            has.guest.clone_from(&asked.guest);
        }
        if let (Some(has), Some(asked)) = (&mut there.domain.cpu, &wanted.domain.cpu) {
            has.sockets = asked.sockets;
        }
    }
    let mut fields = Vec::new();
    differences("spec.template.spec", &fixed(wanted, &there), &fixed(&there, wanted), &mut fields);
    fields.extend(nics::needs_restart(wanted, vmi));
    fields.truncate(MOST_FIELDS);
    fields
}

/// What of `spec`, NICs apart, cannot change while the VM runs; among it are disks of volumes that both have.
fn fixed(spec: &VirtualMachineInstanceSpec, other: &VirtualMachineInstanceSpec) -> Value {
    let mut fixed = spec.without_hotpluggable();
    fixed.networks.clear();
    fixed.domain.devices.interfaces.clear();
    fixed.domain.devices.autoattach_pod_interface = None;
    let is_shared = |volume: &&Volume| {
        other.hotpluggable().any(|other| other.name == volume.name && other.claim() == volume.claim())
    };
    let mut shared: Vec<&Volume> = spec.hotpluggable().filter(is_shared).collect();
    shared.sort_by_key(|volume| &volume.name);
    let of_shared = shared.iter().filter_map(|volume| spec.disk(&volume.name));
    // Drives are there already.
    fixed.domain.devices.disks.extend(of_shared.filter(|disk| !disk.is_drive()).cloned());
    serde_json::to_value(fixed).unwrap_or_default()
}

/// Paths of the values that differ, the deepest that both have.
fn differences(path: &str, a: &Value, b: &Value, found: &mut Vec<String>) {
    match (a, b) {
        (Value::Object(a), Value::Object(b)) => {
            let keys: BTreeSet<&String> = a.keys().chain(b.keys()).collect();
            for key in keys {
                let of = |map: &serde_json::Map<String, Value>| map.get(key).cloned().unwrap_or_default();
                differences(&format!("{path}.{key}"), &of(a), &of(b), found);
            }
        }
        (a, b) if a != b => found.push(path.to_owned()),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(disks: Value, volumes: Value) -> VirtualMachineInstanceSpec {
        let domain = json!({"memory": {"guest": "1Gi"}, "devices": {"disks": disks}});
        serde_json::from_value(json!({"domain": domain, "volumes": volumes})).unwrap()
    }

    fn root() -> (Value, Value) {
        (
            json!({"name": "root", "disk": {"bus": "virtio"}}),
            json!({"name": "root", "dataVolume": {"name": "root"}}),
        )
    }

    /// With the volume `data` of this claim, which is added while the VM runs.
    fn with(claim: &str) -> VirtualMachineInstanceSpec {
        let (disk, volume) = root();
        let data =
            json!({"name": "data", "persistentVolumeClaim": {"claimName": claim, "hotpluggable": true}});
        spec(json!([disk, {"name": "data", "disk": {"bus": "scsi"}}]), json!([volume, data]))
    }

    fn bare() -> VirtualMachineInstanceSpec {
        let (disk, volume) = root();
        spec(json!([disk]), json!([volume]))
    }

    fn running(spec: VirtualMachineInstanceSpec, own: &str) -> VirtualMachineInstance {
        let mut vmi = VirtualMachineInstance::new("web", spec);
        vmi.metadata.uid = Some("u".into());
        vmi.metadata.generation = Some(7);
        vmi.metadata.annotations = Some([(OWN_VOLUMES_ANNOTATION.to_owned(), own.to_owned())].into());
        vmi
    }

    /// The spec of the instance after it followed; nothing if it stays.
    fn followed(
        wanted: &VirtualMachineInstanceSpec,
        vmi: &VirtualMachineInstance,
    ) -> Option<VirtualMachineInstanceSpec> {
        let mut value = serde_json::to_value(vmi).unwrap();
        json_patch::patch(&mut value, &follow(wanted, vmi)?).unwrap();
        Some(serde_json::from_value::<VirtualMachineInstance>(value).unwrap().spec)
    }

    #[test]
    fn a_hotpluggable_volume_of_the_template_is_added_and_removed_again() {
        assert_eq!(followed(&with("c"), &running(bare(), "")), Some(with("c")));
        assert_eq!(followed(&bare(), &running(with("c"), "")), Some(bare()));
        assert_eq!(followed(&with("c"), &running(with("c"), "")), None);
    }

    #[test]
    fn a_volume_that_is_another_claim_now_is_removed_and_added_once_it_is_gone() {
        let mut vmi = running(with("c"), "");
        assert_eq!(followed(&with("d"), &vmi), Some(bare()));
        vmi.spec = bare();
        vmi.status = serde_json::from_value(
            json!({"volumeStatus": [{"name": "data", "target": "sda", "phase": "Detaching"}]}),
        )
        .unwrap();
        assert_eq!(followed(&with("d"), &vmi), None);
        vmi.status = None;
        assert_eq!(followed(&with("d"), &vmi), Some(with("d")));
    }

    /// A drive `cd`, with the medium of this claim.
    fn drive(claim: Option<&str>) -> VirtualMachineInstanceSpec {
        let (disk, volume) = root();
        let medium = claim.map(|claim| {
            json!({"name": "cd", "persistentVolumeClaim": {"claimName": claim, "hotpluggable": true}})
        });
        let volumes: Vec<Value> = [volume].into_iter().chain(medium).collect();
        spec(json!([disk, {"name": "cd", "cdrom": {"bus": "sata"}}]), json!(volumes))
    }

    #[test]
    fn a_medium_is_inserted_and_ejected_and_its_drive_stays() {
        assert_eq!(followed(&drive(Some("iso")), &running(drive(None), "")), Some(drive(Some("iso"))));
        assert_eq!(followed(&drive(None), &running(drive(Some("iso")), "")), Some(drive(None)));
        assert_eq!(followed(&drive(Some("next")), &running(drive(Some("iso")), "")), Some(drive(None)));
        for medium in [None, Some("iso"), Some("next")] {
            assert_eq!(needs_restart(&drive(medium), &running(drive(Some("iso")), "")), Vec::<String>::new());
        }
    }

    #[test]
    fn a_drive_that_the_vm_did_not_start_with_needs_a_restart_and_so_does_one_that_is_another() {
        let (vmi, wanted) = (running(bare(), ""), drive(Some("iso")));
        assert_eq!(followed(&wanted, &vmi), None);
        assert_eq!(needs_restart(&wanted, &vmi), ["spec.template.spec.domain.devices.disks"]);
        let mut other = drive(Some("iso"));
        other.domain.devices.disks[1].cdrom.get_or_insert_default().bus =
            Some(sheaf_api::devices::DiskBus::Scsi);
        let vmi = running(drive(None), "");
        assert_eq!(followed(&other, &vmi), Some(drive(Some("iso"))), "its medium is inserted all the same");
        assert_eq!(needs_restart(&other, &vmi), ["spec.template.spec.domain.devices.disks"]);
        // A disk under the name of a drive is no medium of it.
        let mut disk = with("iso");
        disk.volumes[1].name = "cd".into();
        disk.domain.devices.disks[1].name = "cd".into();
        assert_eq!(followed(&disk, &vmi), None);
    }

    #[test]
    fn a_medium_that_is_not_hotpluggable_needs_a_restart() {
        let mut wanted = drive(Some("iso"));
        wanted.volumes[1].persistent_volume_claim.as_mut().unwrap().hotpluggable = None;
        let vmi = running(drive(None), "");
        assert_eq!(followed(&wanted, &vmi), None);
        assert_eq!(needs_restart(&wanted, &vmi), ["spec.template.spec.volumes"]);
    }

    #[test]
    fn a_volume_of_the_instance_alone_stays() {
        assert_eq!(followed(&bare(), &running(with("c"), "data")), None);
        assert_eq!(needs_restart(&bare(), &running(with("c"), "data")), Vec::<String>::new());
    }

    #[test]
    fn what_cannot_change_while_the_vm_runs_is_named_and_left() {
        let mut wanted = with("c");
        wanted.domain.cpu = serde_json::from_value(json!({"cores": 2})).unwrap();
        wanted.hostname = Some("other".into());
        let vmi = running(bare(), "");
        assert_eq!(
            needs_restart(&wanted, &vmi),
            ["spec.template.spec.domain.cpu", "spec.template.spec.hostname"]
        );
        assert_eq!(followed(&wanted, &vmi), Some(with("c")), "its disk is added all the same");
        // The root disk became hotpluggable: it is in use as it was.
        let (disk, _) = root();
        let hot = spec(
            json!([disk]),
            json!([{"name": "root", "dataVolume": {"name": "root", "hotpluggable": true}}]),
        );
        assert_eq!(followed(&hot, &vmi), None);
        assert_eq!(
            needs_restart(&hot, &vmi),
            ["spec.template.spec.domain.devices.disks", "spec.template.spec.volumes"]
        );
    }

    #[test]
    fn another_bus_of_a_disk_that_was_added_needs_a_restart_and_another_claim_does_not() {
        let mut wanted = with("c");
        wanted.domain.devices.disks[1].serial = Some("x".into());
        let vmi = running(with("c"), "");
        assert_eq!(needs_restart(&wanted, &vmi), ["spec.template.spec.domain.devices.disks"]);
        assert_eq!(needs_restart(&with("d"), &vmi), Vec::<String>::new());
    }
}
