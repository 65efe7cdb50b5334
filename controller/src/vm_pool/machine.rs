//! The VM of a pool with a number: its name, its spec, its labels.
//!
//! Why here: pure; what every VM needs for itself has the number at its end, as in KubeVirt: names of DataVolume templates with
//! the volumes that use them, and Secrets of cloud-init disks if the pool asks for it. Route in: the pool, a number, a VM as it
//! was read. Route out: a VM to create or to write.

use std::collections::BTreeMap;

use kube::{Resource, api::ObjectMeta};
use sheaf_api::{
    VirtualMachine,
    vm::VirtualMachineSpec,
    vm_pool::{REVISION_LABEL, VirtualMachinePool, VirtualMachineTemplate},
};

type Labels = BTreeMap<String, String>;

/// The name of the VM with this number.
pub fn name(pool: &VirtualMachinePool, ordinal: usize) -> String {
    format!("{}-{ordinal}", pool.metadata.name.as_deref().unwrap_or_default())
}

/// The number in the name of a VM of the pool.
pub fn ordinal(pool: &VirtualMachinePool, vm: &VirtualMachine) -> Option<usize> {
    let prefix = format!("{}-", pool.metadata.name.as_deref()?);
    vm.metadata.name.as_deref()?.strip_prefix(&prefix)?.parse().ok()
}

/// The VM to create, of the revision called `revision`.
pub fn made(pool: &VirtualMachinePool, ordinal: usize, revision: &str) -> VirtualMachine {
    let metadata = pool.spec.virtual_machine_template.metadata.clone().unwrap_or_default();
    let mut labels = metadata.labels;
    labels.insert(REVISION_LABEL.into(), revision.into());
    VirtualMachine {
        metadata: ObjectMeta {
            name: Some(name(pool, ordinal)),
            namespace: pool.metadata.namespace.clone(),
            labels: Some(labels),
            annotations: (!metadata.annotations.is_empty()).then_some(metadata.annotations),
            owner_references: pool.controller_owner_ref(&()).map(|owner| vec![owner]),
            ..ObjectMeta::default()
        },
        spec: numbered(pool, ordinal, revision),
        status: None,
    }
}

/// `vm` with the pool's template instead of `before`, if that is known. Labels and annotations of others stay.
pub fn changed(
    pool: &VirtualMachinePool,
    vm: &VirtualMachine,
    ordinal: usize,
    before: Option<&VirtualMachineTemplate>,
    revision: &str,
) -> VirtualMachine {
    let before = before.and_then(|template| template.metadata.clone()).unwrap_or_default();
    let after = pool.spec.virtual_machine_template.metadata.clone().unwrap_or_default();
    let mut changed = vm.clone();
    let mut labels = merged(vm.metadata.labels.clone(), &before.labels, after.labels);
    labels.insert(REVISION_LABEL.into(), revision.into());
    changed.metadata.labels = Some(labels);
    changed.metadata.annotations =
        Some(merged(vm.metadata.annotations.clone(), &before.annotations, after.annotations));
    changed.spec = numbered(pool, ordinal, revision);
    changed
}

fn merged(now: Option<Labels>, before: &Labels, after: Labels) -> Labels {
    let mut labels = now.unwrap_or_default();
    labels.retain(|key, _| !before.contains_key(key));
    labels.extend(after);
    labels
}

/// The spec of the template with the number in it.
fn numbered(pool: &VirtualMachinePool, ordinal: usize, revision: &str) -> VirtualMachineSpec {
    let mut spec = pool.spec.virtual_machine_template.spec.clone();
    let mut names = BTreeMap::new();
    for template in &mut spec.data_volume_templates {
        let numbered = format!("{}-{ordinal}", template.metadata.name);
        names.insert(std::mem::replace(&mut template.metadata.name, numbered.clone()), numbered);
    }
    for volume in &mut spec.template.spec.volumes {
        let claim = volume.persistent_volume_claim.as_mut().map(|claim| &mut claim.claim_name);
        let data = volume.data_volume.as_mut().map(|data| &mut data.name);
        for name in claim.into_iter().chain(data) {
            if let Some(numbered) = names.get(name) {
                name.clone_from(numbered);
            }
        }
        let mut objects = Vec::new();
        if pool.spec.numbers_secrets() {
            let seeds = volume.cloud_init_no_cloud.iter_mut().chain(&mut volume.cloud_init_config_drive);
            let secrets = seeds.flat_map(|seed| [&mut seed.secret_ref, &mut seed.network_data_secret_ref]);
            objects.extend(secrets.flatten().map(|secret| &mut secret.name));
            objects.extend(volume.secret.iter_mut().map(|secret| &mut secret.secret_name));
        }
        if pool.spec.numbers_config_maps() {
            objects.extend(volume.config_map.iter_mut().map(|map| &mut map.name));
        }
        for name in objects {
            *name = format!("{name}-{ordinal}");
        }
    }
    let metadata = spec.template.metadata.get_or_insert_default();
    metadata.labels.insert(REVISION_LABEL.into(), revision.into());
    spec
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pool(numbers: bool) -> VirtualMachinePool {
        serde_json::from_value(json!({
            "apiVersion": "pool.kubevirt.io/v1beta1", "kind": "VirtualMachinePool",
            "metadata": {"name": "web", "namespace": "shop", "uid": "pool-1"},
            "spec": {
                "selector": {"matchLabels": {"app": "web"}},
                "nameGeneration": {"appendIndexToSecretRefs": numbers, "appendIndexToConfigMapRefs": numbers},
                "virtualMachineTemplate": {
                    "metadata": {"labels": {"app": "web"}, "annotations": {"note": "new"}},
                    "spec": {
                        "runStrategy": "Always",
                        "dataVolumeTemplates": [{"metadata": {"name": "root"}, "spec": {"source": {"blank": {}}}}],
                        "template": {"spec": {"domain": {"devices": {}}, "volumes": [
                            {"name": "a", "dataVolume": {"name": "root"}},
                            {"name": "b", "persistentVolumeClaim": {"claimName": "root"}},
                            {"name": "c", "cloudInitNoCloud": {"secretRef": {"name": "user"},
                                                               "networkDataSecretRef": {"name": "net"}}},
                            {"name": "d", "secret": {"secretName": "keys"}},
                            {"name": "e", "configMap": {"name": "settings"}},
                        ]}},
                    },
                },
            },
        }))
        .unwrap()
    }

    #[test]
    fn each_vm_has_disks_of_its_own() {
        let vm = made(&pool(false), 7, "web-1");
        assert_eq!(vm.metadata.name.as_deref(), Some("web-7"));
        assert_eq!(vm.spec.data_volume_templates[0].metadata.name, "root-7");
        let volumes = &vm.spec.template.spec.volumes;
        assert_eq!(volumes[0].claim(), Some("root-7"));
        assert_eq!(volumes[1].claim(), Some("root-7"));
        assert_eq!(ordinal(&pool(false), &vm), Some(7));
    }

    #[test]
    fn secrets_and_config_maps_have_the_number_only_if_that_is_asked_for() {
        let names = |numbers: bool| {
            let volumes = made(&pool(numbers), 0, "web-1").spec.template.spec.volumes;
            let seed = volumes[2].cloud_init_no_cloud.clone().unwrap();
            let of_seed = [seed.secret_ref.unwrap().name, seed.network_data_secret_ref.unwrap().name];
            let secret = volumes[3].secret.clone().unwrap().secret_name;
            (of_seed, secret, volumes[4].config_map.clone().unwrap().name)
        };
        assert_eq!(names(true), (["user-0".into(), "net-0".into()], "keys-0".into(), "settings-0".into()));
        assert_eq!(names(false), (["user".into(), "net".into()], "keys".into(), "settings".into()));
    }

    #[test]
    fn the_vm_and_its_instances_name_their_revision_and_their_owner() {
        let vm = made(&pool(false), 0, "web-3");
        assert_eq!(vm.metadata.labels.as_ref().unwrap()[REVISION_LABEL], "web-3");
        assert_eq!(vm.spec.template.metadata.unwrap().labels[REVISION_LABEL], "web-3");
        assert_eq!(vm.metadata.owner_references.unwrap()[0].uid, "pool-1");
    }

    #[test]
    fn a_changed_vm_keeps_what_others_wrote_and_loses_what_the_template_no_longer_has() {
        let mut before = pool(false).spec.virtual_machine_template;
        before.metadata.get_or_insert_default().labels.insert("old".into(), "a".into());
        let mut vm = made(&pool(false), 0, "web-1");
        let labels = vm.metadata.labels.as_mut().unwrap();
        labels.extend([("old".to_string(), "a".to_string()), ("of-a-user".into(), "b".into())]);
        let after = changed(&pool(false), &vm, 0, Some(&before), "web-2");
        let labels = after.metadata.labels.unwrap();
        let labels: Vec<_> = labels.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
        assert_eq!(labels, [("app", "web"), (REVISION_LABEL, "web-2"), ("of-a-user", "b")]);
    }
}
