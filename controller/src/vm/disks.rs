//! The disks that a VM makes and owns: its `dataVolumeTemplates`.
//!
//! Why here: pure; the VM's plan asks which are missing and whether the VM may start with those there are. A disk that
//! waits for its first consumer does not delay the VM: the VM is that consumer. Route in: the VM, and the DataVolumes of
//! its namespace that have the names of its templates. Route out: DataVolumes to make, and [`Disks`].

use kube::{Resource, api::ObjectMeta};
use sheaf_api::{
    VirtualMachine,
    cdi::{DataVolume, DataVolumePhase, DataVolumeTemplate},
    names::CREATED_BY_LABEL,
};

/// The state of a VM's disks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Disks {
    /// The VM may run; its node does the rest.
    Ready,
    /// One waits for the node that the VM is given.
    Waiting,
    /// One is being filled; the VM may be placed.
    Filling,
    /// One is not there yet.
    Missing,
    /// One cannot be made: its name and why.
    Failed(String),
}

/// The DataVolumes to make.
pub fn missing(vm: &VirtualMachine, existing: &[DataVolume]) -> Vec<DataVolume> {
    let templates = vm.spec.data_volume_templates.iter();
    templates
        .filter(|template| find(template, existing).is_none())
        .map(|template| made(vm, template))
        .collect()
}

/// The state of those that exist.
pub fn state(vm: &VirtualMachine, existing: &[DataVolume]) -> Disks {
    let mut state = Disks::Ready;
    for template in &vm.spec.data_volume_templates {
        let name = &template.metadata.name;
        let Some(data) = find(template, existing) else { return Disks::Missing };
        if !owns(vm, data) {
            return Disks::Failed(format!(
                "DataVolume {name} exists and does not belong to this VM; delete it or rename the template"
            ));
        }
        let status = data.status.clone().unwrap_or_default();
        let message = |type_: &str| {
            let condition = crate::conditions::find(&status.conditions, type_);
            condition.and_then(|condition| condition.message.clone()).unwrap_or_default()
        };
        let one = match status.phase {
            Some(DataVolumePhase::Failed) => {
                return Disks::Failed(format!("DataVolume {name} failed: {}", message("Running")));
            }
            None | Some(DataVolumePhase::Pending) => return Disks::Missing,
            Some(DataVolumePhase::WaitForFirstConsumer) => Disks::Waiting,
            Some(DataVolumePhase::Succeeded) => Disks::Ready,
            Some(_) => Disks::Filling,
        };
        if state != Disks::Filling && one != Disks::Ready {
            state = one;
        }
    }
    state
}

fn find<'a>(template: &DataVolumeTemplate, existing: &'a [DataVolume]) -> Option<&'a DataVolume> {
    existing.iter().find(|data| data.metadata.name.as_ref() == Some(&template.metadata.name))
}

fn owns(vm: &VirtualMachine, data: &DataVolume) -> bool {
    data.metadata.owner_references.iter().flatten().any(|owner| Some(&owner.uid) == vm.metadata.uid.as_ref())
}

fn made(vm: &VirtualMachine, template: &DataVolumeTemplate) -> DataVolume {
    let mut labels = template.metadata.labels.clone();
    labels.insert(CREATED_BY_LABEL.into(), vm.metadata.uid.clone().unwrap_or_default());
    let annotations = template.metadata.annotations.clone();
    DataVolume {
        metadata: ObjectMeta {
            name: Some(template.metadata.name.clone()),
            namespace: vm.metadata.namespace.clone(),
            labels: Some(labels),
            annotations: (!annotations.is_empty()).then_some(annotations),
            owner_references: vm.controller_owner_ref(&()).map(|owner| vec![owner]),
            ..ObjectMeta::default()
        },
        spec: template.spec.clone(),
        status: None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn vm() -> VirtualMachine {
        serde_json::from_value(json!({
            "apiVersion": "kubevirt.io/v1", "kind": "VirtualMachine",
            "metadata": {"name": "mill", "namespace": "shop", "uid": "vm-1"},
            "spec": {
                "runStrategy": "Always",
                "dataVolumeTemplates": [
                    {"metadata": {"name": "a", "labels": {"disk": "a"}}, "spec": {"source": {"blank": {}}}},
                    {"metadata": {"name": "b"}, "spec": {"source": {"blank": {}}}},
                ],
                "template": {"spec": {"domain": {"devices": {}}}},
            },
        }))
        .unwrap()
    }

    fn in_phases(phases: [&str; 2]) -> Vec<DataVolume> {
        let mut made = missing(&vm(), &[]);
        for (data, phase) in made.iter_mut().zip(phases) {
            data.status = serde_json::from_value(json!({
                "phase": phase, "conditions": [{"type": "Running", "status": "False", "message": "no such file"}],
            }))
            .unwrap();
        }
        made
    }

    #[test]
    fn each_template_becomes_a_data_volume_of_the_vm_once() {
        let made = missing(&vm(), &[]);
        assert_eq!(made.len(), 2);
        assert_eq!(made[0].metadata.owner_references.as_ref().unwrap()[0].uid, "vm-1");
        assert_eq!(made[0].metadata.labels.as_ref().unwrap()["disk"], "a");
        assert_eq!(missing(&vm(), &made), []);
        assert_eq!(state(&vm(), &made[..1]), Disks::Missing);
    }

    #[test]
    fn a_vm_may_start_while_its_disks_wait_for_it() {
        let of = |phases| state(&vm(), &in_phases(phases));
        assert_eq!(of(["Succeeded", "Succeeded"]), Disks::Ready);
        assert_eq!(of(["WaitForFirstConsumer", "Succeeded"]), Disks::Waiting);
        assert_eq!(of(["ImportInProgress", "WaitForFirstConsumer"]), Disks::Filling);
        assert_eq!(of(["WaitForFirstConsumer", "CloneScheduled"]), Disks::Filling);
        assert_eq!(of(["Succeeded", "Pending"]), Disks::Missing);
    }

    #[test]
    fn a_disk_that_failed_or_belongs_to_another_is_named() {
        let failed = Disks::Failed("DataVolume b failed: no such file".into());
        assert_eq!(state(&vm(), &in_phases(["Succeeded", "Failed"])), failed);
        let mut foreign = in_phases(["Succeeded", "Succeeded"]);
        foreign[0].metadata.owner_references = None;
        let Disks::Failed(why) = state(&vm(), &foreign) else { panic!() };
        assert_eq!(
            why,
            "DataVolume a exists and does not belong to this VM; delete it or rename the template"
        );
    }
}
