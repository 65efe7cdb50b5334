//! What is on one node only, and is lost with it.
//!
//! Why here: an administrator confirms each by its name, so the names must be exact and stay the same. A volume's name holds the
//! UID of its claim: what is confirmed is this volume, not the next one of a claim of the same name. Pure. Route in: the node's
//! volumes, VMs that keep something on it, its images. Route out: [`Loss`]es, in a fixed order.

use std::collections::BTreeSet;

use kube::ResourceExt as _;
use sheaf_api::{
    VirtualMachine,
    host_disk::{HostDiskPlace, place},
    names::{CLAIM_ANNOTATION, HOSTNAME_LABEL, SNAPSHOT_ANNOTATION},
    node_removal::Loss,
    storage::LocalVolume,
};

use crate::volumes::annotation;

/// Everything that is lost with the node called `node`: `volumes` are on it, `machines` are all VMs, `images` are on no other.
pub fn losses(
    node: &str,
    volumes: &[LocalVolume],
    machines: &[VirtualMachine],
    images: &BTreeSet<String>,
) -> Vec<Loss> {
    // One that is being deleted is no loss.
    let wanted = volumes.iter().filter(|volume| volume.metadata.deletion_timestamp.is_none());
    let mut losses: Vec<Loss> = wanted.map(of_volume).collect();
    losses.extend(machines.iter().filter_map(|machine| of_machine(node, machine)));
    losses.extend(images.iter().map(|image| Loss {
        name: format!("Image/{image}"),
        what: format!("image {image}, which no other node has"),
        bytes: None,
    }));
    losses.sort_by(|a, b| a.name.cmp(&b.name));
    losses
}

/// The name by which a LocalVolume is confirmed.
pub fn name_of_volume(volume: &LocalVolume) -> String {
    format!("LocalVolume/{}", volume.name_any())
}

/// The name by which the state of a VM is confirmed.
pub fn name_of_machine(machine: &VirtualMachine) -> String {
    format!("VirtualMachine/{}/{}", machine.namespace().unwrap_or_default(), machine.name_any())
}

fn of_volume(volume: &LocalVolume) -> Loss {
    let what = match (annotation(volume, SNAPSHOT_ANNOTATION), annotation(volume, CLAIM_ANNOTATION)) {
        (Some(snapshot), _) => format!("snapshot {snapshot}"),
        (None, Some(claim)) => format!("claim {claim}"),
        (None, None) => "a volume of no claim".to_owned(),
    };
    Loss { name: name_of_volume(volume), what, bytes: Some(volume.spec.size_bytes) }
}

/// Whether the node has the persistent UEFI variables and TPM of the VM.
pub fn has_state(node: &str, machine: &VirtualMachine) -> bool {
    machine.status.as_ref().and_then(|status| status.state_node.as_deref()) == Some(node)
}

/// Whether the VM may run on this node only.
pub fn is_pinned(node: &str, machine: &VirtualMachine) -> bool {
    machine.spec.template.spec.node_selector.get(HOSTNAME_LABEL).map(String::as_str) == Some(node)
}

fn of_machine(node: &str, machine: &VirtualMachine) -> Option<Loss> {
    let namespace = machine.namespace().unwrap_or_default();
    // A file is on the node that the VM is bound to; of other VMs no object says where it is.
    let disks = machine.spec.template.spec.volumes.iter().filter_map(|volume| volume.host_disk.as_ref());
    let mut files = disks
        .map(|disk| disk.path.as_str())
        .filter(|path| matches!(place(path, &namespace), Ok(HostDiskPlace::Disk { .. })));
    let file = files.next().filter(|_| is_pinned(node, machine));
    let what = match (file, has_state(node, machine)) {
        (Some(file), true) => format!("its disk {file}, its UEFI variables and TPM"),
        (Some(file), false) => format!("its disk {file}"),
        (None, true) => "its UEFI variables and TPM".to_owned(),
        (None, false) => return None,
    };
    Some(Loss { name: name_of_machine(machine), what, bytes: None })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::volumes::testing::{GIB, volume};

    fn machine(name: &str, template: Value, state_node: Option<&str>) -> VirtualMachine {
        let mut spec = json!({"domain": {"memory": {"guest": "1Gi"}, "devices": {}}});
        spec.as_object_mut().unwrap().extend(template.as_object().unwrap().clone());
        serde_json::from_value(json!({
            "apiVersion": "kubevirt.io/v1", "kind": "VirtualMachine",
            "metadata": {"name": name, "namespace": "shop"},
            "spec": {"runStrategy": "Always", "template": {"spec": spec}},
            "status": {"stateNode": state_node},
        }))
        .unwrap()
    }

    fn noted(name: &str, key: &str, value: &str) -> LocalVolume {
        let mut volume = volume(name, "n1", 4 * GIB);
        volume.metadata.annotations = Some([(key.to_owned(), value.to_owned())].into());
        volume
    }

    #[test]
    fn volumes_snapshots_files_firmware_and_the_last_copy_of_an_image_are_lost_with_what_they_are() {
        let mut leaving = noted("pvc-3", CLAIM_ANNOTATION, "shop/old");
        leaving.metadata.deletion_timestamp = Some(crate::conditions::seconds(Default::default()));
        let mut bare = volume("bare", "n1", GIB);
        bare.metadata.annotations = None;
        let volumes = [
            noted("snap-1", SNAPSHOT_ANNOTATION, "shop/friday"),
            noted("pvc-2", CLAIM_ANNOTATION, "shop/data"),
            leaving,
            bare,
        ];
        let disk = json!({"volumes": [{"name": "a", "hostDisk": {"path": "/data/disks/shop/a", "type": "Disk"}}],
            "nodeSelector": {HOSTNAME_LABEL: "n1"}});
        let mut elsewhere = disk.clone();
        elsewhere["nodeSelector"] = json!({HOSTNAME_LABEL: "n2"});
        let machines = [
            machine("file", disk.clone(), None),
            machine("both", disk, Some("n1")),
            machine("firm", json!({}), Some("n1")),
            machine("other", elsewhere, Some("n2")),
        ];
        let found = losses("n1", &volumes, &machines, &BTreeSet::from(["debian-13".to_owned()]));
        let found: Vec<_> =
            found.iter().map(|loss| (loss.name.as_str(), loss.what.as_str(), loss.bytes)).collect();
        assert_eq!(
            found,
            [
                ("Image/debian-13", "image debian-13, which no other node has", None),
                ("LocalVolume/bare", "a volume of no claim", Some(GIB)),
                ("LocalVolume/pvc-2", "claim shop/data", Some(4 * GIB)),
                ("LocalVolume/snap-1", "snapshot shop/friday", Some(4 * GIB)),
                ("VirtualMachine/shop/both", "its disk /data/disks/shop/a, its UEFI variables and TPM", None),
                ("VirtualMachine/shop/file", "its disk /data/disks/shop/a", None),
                ("VirtualMachine/shop/firm", "its UEFI variables and TPM", None),
            ]
        );
    }
}
