//! The definitions of DataVolume and CDIConfig, of instancetypes, preferences, of the snapshot kinds, of clones and exports: other projects' words, as far as Sheaf speaks them.
//!
//! Why here: a DataVolume has fields of CDI's that are refused by name, as a VirtualMachine has KubeVirt's; the class of
//! snapshots has no spec, so `kube` cannot derive it. Route in: types and rules. Route out: what the controller applies.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, CustomResourceDefinitionVersion,
};
use kube::CustomResourceExt;
use serde_json::json;

use super::{CrdError, SCHEMA, add_rules, at, refuse, rule::Rule, tidy};
use crate::{
    cdi::{self, CdiConfig, DataVolume},
    instancetype::{self, VirtualMachineInstancetype, preference::VirtualMachinePreference},
    snapshot::{self, VolumeSnapshot, VolumeSnapshotClass, VolumeSnapshotContent},
    vm_clone::{self, VirtualMachineClone},
    vm_export::{self, VirtualMachineExport},
    vm_snapshot::{self, VirtualMachineRestore, VirtualMachineSnapshot, VirtualMachineSnapshotContent},
};

/// All of them.
pub fn all() -> Result<Vec<CustomResourceDefinition>, CrdError> {
    let mut all = vec![
        finish("VolumeSnapshotClass", snapshot_class()?, None, &[("", snapshot::CLASS_RULES)])?,
        finish("VolumeSnapshotContent", VolumeSnapshotContent::crd(), None, &[])?,
        finish("VolumeSnapshot", VolumeSnapshot::crd(), None, &[("", snapshot::RULES)])?,
        finish(
            "DataVolume",
            DataVolume::crd(),
            Some("cdi.DataVolumeSpec"),
            &[("", cdi::rules::ALONE), ("spec", cdi::rules::SPEC)],
        )?,
        finish("CDIConfig", CdiConfig::crd(), Some("cdi.CDIConfigSpec"), &[("", cdi::rules::CONFIG)])?,
        finish(
            "VirtualMachineSnapshot",
            VirtualMachineSnapshot::crd(),
            None,
            &[("", vm_snapshot::rules::SNAPSHOT)],
        )?,
        finish("VirtualMachineSnapshotContent", VirtualMachineSnapshotContent::crd(), None, &[])?,
        finish(
            "VirtualMachineRestore",
            VirtualMachineRestore::crd(),
            None,
            &[("", vm_snapshot::rules::RESTORE)],
        )?,
        finish("VirtualMachineClone", VirtualMachineClone::crd(), None, &[("", vm_clone::RULES)])?,
        also_served(
            finish("VirtualMachineExport", VirtualMachineExport::crd(), None, &[("", vm_export::RULES)])?,
            vm_export::LATER_VERSION,
        ),
    ];
    let of_namespaces = [
        (
            VirtualMachineInstancetype::crd(),
            instancetype::INSTANCETYPES,
            "instancetype.VirtualMachineInstancetypeSpec",
        ),
        (
            VirtualMachinePreference::crd(),
            instancetype::PREFERENCES,
            "instancetype.VirtualMachinePreferenceSpec",
        ),
    ];
    for (derived, kinds, fact) in of_namespaces {
        for kind in kinds {
            let mut definition = finish(kind.kind, derived.clone(), Some(fact), &[])?;
            definition.spec.names.short_names =
                Some(kind.short.iter().map(|&name| name.to_owned()).collect());
            all.push(if kind.namespaced { definition } else { of_cluster(definition, &kind)? });
        }
    }
    Ok(all)
}

/// The kind of the cluster that is like a kind of namespaces.
fn of_cluster(
    derived: CustomResourceDefinition,
    kind: &instancetype::Kind,
) -> Result<CustomResourceDefinition, CrdError> {
    let mut crd = serde_json::to_value(derived)?;
    crd["metadata"]["name"] = json!(format!("{}.{}", kind.plural, instancetype::GROUP));
    crd["spec"]["scope"] = json!("Cluster");
    let names = &mut crd["spec"]["names"];
    // `kubectl get all` shows what is in a namespace.
    names["categories"] = json!([]);
    for (field, value) in [("kind", kind.kind), ("plural", kind.plural), ("singular", kind.singular)] {
        names[field] = json!(value);
    }
    let text = &mut crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["description"];
    *text = json!(text.as_str().unwrap_or_default().replace("of a namespace ", ""));
    Ok(serde_json::from_value(crd)?)
}

/// Serves the same under another version, too; the first stays the one that is stored.
fn also_served(mut definition: CustomResourceDefinition, version: &str) -> CustomResourceDefinition {
    let later = definition.spec.versions.first().cloned().map(|stored| CustomResourceDefinitionVersion {
        name: version.into(),
        storage: false,
        ..stored
    });
    definition.spec.versions.extend(later);
    definition
}

/// Adds to a definition what types cannot say; `fact` is the type whose other fields are refused in its spec.
fn finish(
    kind: &'static str,
    derived: CustomResourceDefinition,
    fact: Option<&str>,
    tables: &[(&str, &[Rule])],
) -> Result<CustomResourceDefinition, CrdError> {
    let mut crd = serde_json::to_value(derived)?;
    // The API server serves names below k8s.io only to definitions that say who agreed to them.
    if kind.starts_with("VolumeSnapshot") {
        crd["metadata"]["annotations"] = json!({
            "api-approved.kubernetes.io": "https://github.com/kubernetes-csi/external-snapshotter/pull/665",
        });
    }
    let missing = |path: &str| CrdError::NoSuchPath { kind, path: path.into() };
    let schema = crd.pointer_mut(SCHEMA).ok_or_else(|| missing("spec.versions[0].schema"))?;
    tidy::tidy(schema);
    if let Some(fact) = fact {
        refuse::unsupported(at(schema, "spec").ok_or_else(|| missing("spec"))?, fact);
    }
    for (root, table) in tables {
        add_rules(kind, at(schema, root).ok_or_else(|| missing(root))?, table)?;
    }
    Ok(serde_json::from_value(crd)?)
}

/// The class of snapshots, whose fields are beside its metadata.
fn snapshot_class() -> Result<CustomResourceDefinition, CrdError> {
    let mut schema = serde_json::to_value(schemars::schema_for!(VolumeSnapshotClass))?;
    for word in ["$schema", "title"] {
        schema.as_object_mut().map(|schema| schema.remove(word));
    }
    // The one type that it refers to, in its place: a definition knows no references.
    let policy = schema["$defs"]["DeletionPolicy"].clone();
    let values: Vec<_> =
        policy["oneOf"].as_array().into_iter().flatten().map(|one| one["const"].clone()).collect();
    schema["properties"]["deletionPolicy"] = json!({
        "type": "string", "enum": values, "description": schema["properties"]["deletionPolicy"]["description"],
    });
    schema.as_object_mut().map(|schema| schema.remove("$defs"));
    Ok(serde_json::from_value(json!({
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": format!("volumesnapshotclasses.{}", snapshot::GROUP)},
        "spec": {
            "group": snapshot::GROUP,
            "names": {
                "kind": "VolumeSnapshotClass", "plural": "volumesnapshotclasses", "singular": "volumesnapshotclass",
                "shortNames": ["vsclass", "vsclasses"],
            },
            "scope": "Cluster",
            "versions": [{
                "name": "v1", "served": true, "storage": true,
                "additionalPrinterColumns": [
                    {"name": "Driver", "type": "string", "jsonPath": ".driver"},
                    {"name": "DeletionPolicy", "type": "string", "jsonPath": ".deletionPolicy"},
                    {"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"},
                ],
                "schema": {"openAPIV3Schema": schema},
            }],
        },
    }))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instancetypes_and_preferences_have_kubevirts_short_names() {
        let all = all().unwrap();
        let names = |kind: &str| {
            let found = all.iter().find(|crd| crd.spec.names.kind == kind).unwrap();
            (
                found.spec.names.short_names.clone().unwrap(),
                found.spec.names.categories.clone().unwrap_or_default(),
            )
        };
        // pkg/virt-operator/resource/generate/components/crds.go of KubeVirt 1.7.
        let (short, categories) = names("VirtualMachineClusterInstancetype");
        assert_eq!(short, ["vmclusterinstancetype", "vmclusterinstancetypes", "vmcf", "vmcfs"]);
        assert_eq!(categories, [""; 0]);
        assert_eq!(names("VirtualMachineClusterPreference").0, ["vmcp", "vmcps"]);
        let (short, categories) = names("VirtualMachinePreference");
        assert_eq!((short.concat(), categories.concat()), ("vmprefvmprefsvmpvmps".into(), "all".into()));
    }
}
