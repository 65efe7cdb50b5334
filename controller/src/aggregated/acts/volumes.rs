//! Decides what addvolume and removevolume change.
//!
//! Why here: KubeVirt 1.7's checks, codes and words (`pkg/virt-api/rest/volumes.go`), pure. On a VM its template is changed,
//! and the instance that runs follows ([`crate::vm::hotplug`]); on an instance only the instance, which notes that the volume is
//! its own. Route in: a body, the VM or the instance. Route out: steps of a JSON patch, or a refusal.

use serde::Deserialize;
use serde_json::{Value, json};
use sheaf_api::{
    VirtualMachine, VirtualMachineInstance,
    devices::Disk,
    names::OWN_VOLUMES_ANNOTATION,
    status::Phase,
    strict,
    vmi::VirtualMachineInstanceSpec,
    volumes::{ClaimName, DataVolumeName, Volume},
};

use super::super::{
    answer::{Refusal, VM, VMI},
    options::is_dry,
};
use crate::vm::hotplug;

/// Most characters of a disk's serial number.
const MOST_SERIAL: usize = 20;

/// What is asked for.
#[derive(Clone, Debug, PartialEq)]
pub struct Request {
    what: What,
    /// Only say what would happen.
    pub dry: bool,
}

#[derive(Clone, Debug, PartialEq)]
enum What {
    Add(Box<(Volume, Disk)>),
    Remove(String),
}

/// Body of `addvolume`.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct AddVolume {
    name: String,
    disk: Option<Value>,
    volume_source: Option<Source>,
    dry_run: Vec<String>,
}

/// Body of `removevolume`.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct RemoveVolume {
    name: String,
    dry_run: Vec<String>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Source {
    data_volume: Option<DataVolumeName>,
    persistent_volume_claim: Option<ClaimName>,
}

/// Reads the body of `addvolume`, or of `removevolume`.
pub fn read(adds: bool, body: &[u8]) -> Result<Request, Refusal> {
    if body.trim_ascii().is_empty() {
        return Err(Refusal::bad_request("Request with no body, a new name is expected as the request body"));
    }
    let broken = |error: serde_json::Error| {
        Refusal::bad_request(format!("Can not unmarshal Request body to struct, error: {error}"))
    };
    if !adds {
        let RemoveVolume { name, dry_run } = serde_json::from_slice(body).map_err(broken)?;
        if name.is_empty() {
            return Err(Refusal::bad_request("RemoveVolumeOptions requires name to be set"));
        }
        return Ok(Request { what: What::Remove(name), dry: is_dry(&dry_run) });
    }
    let AddVolume { name, disk, volume_source, dry_run } = serde_json::from_slice(body).map_err(broken)?;
    if name.is_empty() {
        return Err(Refusal::bad_request("AddVolumeOptions requires name to be set"));
    }
    let disk = disk.ok_or_else(|| Refusal::bad_request("AddVolumeOptions requires disk to not be nil"))?;
    let disk = disk_of(disk, &name)?;
    let source = volume_source
        .ok_or_else(|| Refusal::bad_request("AddVolumeOptions requires VolumeSource to not be nil"))?;
    let data_volume = source.data_volume.map(|data| DataVolumeName { hotpluggable: Some(true), ..data });
    let claim = source.persistent_volume_claim.map(|claim| ClaimName { hotpluggable: Some(true), ..claim });
    if data_volume.is_some() == claim.is_some() {
        return Err(Refusal::bad_request(
            "volumeSource needs exactly one of dataVolume and persistentVolumeClaim",
        ));
    }
    let volume = Volume { name, data_volume, persistent_volume_claim: claim, ..Volume::default() };
    Ok(Request { what: What::Add(Box::new((volume, disk))), dry: is_dry(&dry_run) })
}

/// The disk, with the name of its volume.
fn disk_of(mut disk: Value, name: &str) -> Result<Disk, Refusal> {
    disk["name"] = json!(name);
    if disk.get("lun").is_some_and(|lun| !lun.is_null()) {
        return Err(Refusal::bad_request(
            "disk.lun is not supported by Sheaf: a volume is no SCSI device that takes a guest's commands; use disk \
             (virtctl addvolume --disk-type disk)",
        ));
    }
    let mut disk: Disk = strict::from_json(&disk.to_string())
        .map_err(|error| Refusal::bad_request(format!("disk.{error}: not supported by Sheaf; remove it")))?;
    // virtctl's own choice, of which a guest reads as much.
    if disk.serial.as_deref() == Some(name) {
        disk.serial = Some(name.chars().take(MOST_SERIAL).collect());
    }
    Ok(disk)
}

/// The change of a VM.
pub fn of_vm(vm: &VirtualMachine, request: &Request) -> Result<Vec<Value>, Refusal> {
    let name = vm.metadata.name.as_deref().unwrap_or_default();
    let spec = &vm.spec.template.spec;
    let (volumes, disks) = after(spec, request).map_err(|why| Refusal::conflict(VM, name, why))?;
    let mut steps = hotplug::as_read(&vm.metadata);
    steps.extend(hotplug::change("/spec/template", spec, &volumes, &disks));
    Ok(steps)
}

/// The change of an instance.
pub fn of_vmi(vmi: &VirtualMachineInstance, request: &Request) -> Result<Vec<Value>, Refusal> {
    let name = vmi.metadata.name.as_deref().unwrap_or_default();
    let conflict = |why: String| Refusal::conflict(VMI, name, why);
    if vmi.status.as_ref().and_then(|status| status.phase) != Some(Phase::Running) {
        return Err(conflict("VMI is not running".into()));
    }
    let (volumes, disks) = after(&vmi.spec, request).map_err(conflict)?;
    let mut own = hotplug::own_volumes(vmi);
    let of_vm = vmi.metadata.owner_references.iter().flatten().any(|owner| owner.kind == "VirtualMachine");
    match &request.what {
        What::Add(added) => {
            own.insert(&added.0.name);
        }
        What::Remove(volume) => {
            if !own.remove(volume.as_str()) && of_vm {
                return Err(conflict(format!(
                    "Unable to remove volume [{volume}] because the VirtualMachine has it; remove it there (virtctl \
                     removevolume --persist)"
                )));
            }
        }
    }
    let mut steps = hotplug::as_read(&vmi.metadata);
    let own: Vec<&str> = own.into_iter().filter(|name| !name.is_empty()).collect();
    steps.extend(note_own(vmi, &own.join(",")));
    steps.extend(hotplug::change("", &vmi.spec, &volumes, &disks));
    Ok(steps)
}

/// Notes in the annotation which volumes are the instance's own, if it still says what was read.
fn note_own(vmi: &VirtualMachineInstance, names: &str) -> Vec<Value> {
    let all = vmi.metadata.annotations.as_ref().filter(|all| !all.is_empty());
    let path = format!("/metadata/annotations/{}", OWN_VOLUMES_ANNOTATION.replace('/', "~1"));
    match all {
        // null is what a missing map or key is tested for.
        None => vec![
            json!({"op": "test", "path": "/metadata/annotations", "value": null}),
            json!({"op": "add", "path": "/metadata/annotations", "value": {OWN_VOLUMES_ANNOTATION: names}}),
        ],
        Some(all) => vec![
            json!({"op": "test", "path": path, "value": all.get(OWN_VOLUMES_ANNOTATION)}),
            json!({"op": "add", "path": path, "value": names}),
        ],
    }
}

/// Volumes and disks after the change.
fn after(spec: &VirtualMachineInstanceSpec, request: &Request) -> Result<(Vec<Volume>, Vec<Disk>), String> {
    let (mut volumes, mut disks) = (spec.volumes.clone(), spec.domain.devices.disks.clone());
    match &request.what {
        What::Add(added) => {
            let (volume, disk) = &**added;
            let name = &volume.name;
            if spec.volume(name).is_some() {
                return Err(format!(
                    "Unable to add volume [{name}] because volume with that name already exists"
                ));
            }
            if let Some(claim) =
                volume.claim().filter(|claim| volumes.iter().any(|one| one.claim() == Some(*claim)))
            {
                return Err(format!("Unable to add volume source [{claim}] because it already exists"));
            }
            volumes.push(volume.clone());
            // It goes into the empty CD-ROM drive of its name, if there is one: virtctl asks for a disk or a lun.
            if !spec.disk(name).is_some_and(Disk::is_drive) {
                disks.push(disk.clone());
            }
        }
        What::Remove(name) => {
            let volume = spec
                .volume(name)
                .ok_or_else(|| format!("Unable to remove volume [{name}] because it does not exist"))?;
            if !volume.is_hotpluggable() {
                return Err(format!("Unable to remove volume [{name}] because it is not hotpluggable"));
            }
            volumes.retain(|volume| volume.name != *name);
            disks.retain(|disk| disk.is_drive() || disk.name != *name);
        }
    }
    Ok((volumes, disks))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn add(name: &str, source: Value) -> Request {
        let disk = json!({"disk": {"bus": "scsi"}, "serial": name});
        let body = json!({"name": name, "disk": disk, "volumeSource": source}).to_string();
        read(true, body.as_bytes()).unwrap()
    }

    fn remove(name: &str) -> Request {
        read(false, json!({"name": name}).to_string().as_bytes()).unwrap()
    }

    fn spec() -> Value {
        json!({"domain": {"devices": {"disks": [{"name": "root"}, {"name": "data"}]}},
               "volumes": [{"name": "root", "dataVolume": {"name": "r"}},
                           {"name": "data", "persistentVolumeClaim": {"claimName": "c", "hotpluggable": true}}]})
    }

    fn vm() -> VirtualMachine {
        serde_json::from_value(json!({
            "apiVersion": "kubevirt.io/v1", "kind": "VirtualMachine", "metadata": {"name": "web", "uid": "u", "generation": 3},
            "spec": {"runStrategy": "Halted", "template": {"spec": spec()}},
        }))
        .unwrap()
    }

    fn vmi(phase: &str, own: &str) -> VirtualMachineInstance {
        serde_json::from_value(json!({
            "apiVersion": "kubevirt.io/v1", "kind": "VirtualMachineInstance",
            "metadata": {"name": "web", "uid": "u", "generation": 3, "annotations": {OWN_VOLUMES_ANNOTATION: own},
                "ownerReferences": [{"apiVersion": "kubevirt.io/v1", "kind": "VirtualMachine", "name": "web", "uid": "v"}]},
            "spec": spec(), "status": {"phase": phase},
        }))
        .unwrap()
    }

    fn why(result: Result<Vec<Value>, Refusal>) -> String {
        let refusal = result.unwrap_err();
        let (_, why) = refusal.message.split_once("\": ").unwrap();
        format!("{} {why}", refusal.code)
    }

    #[test]
    fn a_disk_that_virtctl_adds_is_hotpluggable_and_has_the_name_of_its_volume() {
        let name = "a-volume-with-a-long-name";
        let steps = of_vm(&vm(), &add(name, json!({"dataVolume": {"name": "d"}}))).unwrap();
        let value = |path: &str| {
            steps.iter().find(|step| step["op"] == "add" && step["path"] == path).unwrap()["value"].clone()
        };
        let volume = json!({"name": name, "dataVolume": {"name": "d", "hotpluggable": true}});
        assert_eq!(value("/spec/template/spec/volumes")[2], volume);
        let disk = json!({"name": name, "disk": {"bus": "scsi"}, "serial": "a-volume-with-a-long"});
        assert_eq!(value("/spec/template/spec/domain/devices/disks")[2], disk);
    }

    #[test]
    fn what_is_taken_absent_or_fixed_is_refused_in_kubevirts_words() {
        let claim = |name: &str| json!({"persistentVolumeClaim": {"claimName": name}});
        let rows = [
            (
                add("data", claim("x")),
                "409 Unable to add volume [data] because volume with that name already exists",
            ),
            (add("x", claim("c")), "409 Unable to add volume source [c] because it already exists"),
            (remove("x"), "409 Unable to remove volume [x] because it does not exist"),
            (remove("root"), "409 Unable to remove volume [root] because it is not hotpluggable"),
        ];
        for (request, expected) in rows {
            assert_eq!(why(of_vm(&vm(), &request)), expected);
            assert_eq!(why(of_vmi(&vmi("Running", ""), &request)), expected);
            assert_eq!(why(of_vmi(&vmi("Scheduled", ""), &request)), "409 VMI is not running");
        }
    }

    #[test]
    fn a_volume_that_is_added_under_the_name_of_an_empty_drive_is_its_medium_and_the_drive_stays_without_it()
    {
        let mut vm = vm();
        let drive = json!({"name": "cd", "cdrom": {"bus": "sata"}});
        let disks = json!([{"name": "root"}, {"name": "data"}, drive]);
        vm.spec.template.spec.domain.devices.disks = serde_json::from_value(disks.clone()).unwrap();
        let steps = of_vm(&vm, &add("cd", json!({"dataVolume": {"name": "iso"}}))).unwrap();
        let mut value = serde_json::to_value(&vm).unwrap();
        json_patch::patch(&mut value, &crate::vm::requests::patch(steps)).unwrap();
        let spec = &value["spec"]["template"]["spec"];
        assert_eq!(spec["domain"]["devices"]["disks"], disks);
        let medium = json!({"name": "cd", "dataVolume": {"name": "iso", "hotpluggable": true}});
        assert_eq!(spec["volumes"][2], medium);
        let with = serde_json::from_value(value).unwrap();
        let steps = of_vm(&with, &remove("cd")).unwrap();
        let mut value = serde_json::to_value(&with).unwrap();
        json_patch::patch(&mut value, &crate::vm::requests::patch(steps)).unwrap();
        assert_eq!(value, serde_json::to_value(&vm).unwrap());
    }

    #[test]
    fn an_instance_notes_which_volumes_are_its_own_and_keeps_those_of_its_vm() {
        let note = |steps: Vec<Value>| steps[3]["value"].clone();
        let running = vmi("Running", "data");
        let more = add("more", json!({"dataVolume": {"name": "d"}}));
        assert_eq!(note(of_vmi(&running, &more).unwrap()), "data,more");
        assert_eq!(note(of_vmi(&running, &remove("data")).unwrap()), "");
        let said = why(of_vmi(&vmi("Running", ""), &remove("data")));
        assert!(said.contains("because the VirtualMachine has it"), "{said}");
    }

    #[test]
    fn bodies_without_what_is_needed_or_with_what_sheaf_does_not_do_are_bad_requests() {
        let said = |adds, body: Value| {
            let refusal = read(adds, body.to_string().as_bytes()).unwrap_err();
            assert_eq!(refusal.code, 400);
            refusal.message
        };
        assert_eq!(said(false, json!({})), "RemoveVolumeOptions requires name to be set");
        assert_eq!(said(true, json!({"disk": {}})), "AddVolumeOptions requires name to be set");
        assert_eq!(said(true, json!({"name": "a"})), "AddVolumeOptions requires disk to not be nil");
        assert_eq!(
            said(true, json!({"name": "a", "disk": {}})),
            "AddVolumeOptions requires VolumeSource to not be nil"
        );
        let lun = said(true, json!({"name": "a", "disk": {"lun": {"bus": "scsi"}}}));
        assert!(lun.starts_with("disk.lun is not supported by Sheaf"), "{lun}");
        let shareable = said(true, json!({"name": "a", "disk": {"shareable": true}}));
        assert_eq!(shareable, "disk.shareable: unknown field: not supported by Sheaf; remove it");
        assert_eq!(read(true, b" ").unwrap_err().code, 400);
    }
}
