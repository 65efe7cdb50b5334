//! Manifests of an export: what makes the VM elsewhere, with its disks imported from here.
//!
//! Why here: `virtctl vmexport download --manifest` writes them to a file for another cluster. As KubeVirt's: the authority of
//! this server, the VM as it is expanded, its DataVolumes with links of the export as their sources, and a Secret with the
//! token where that is asked for. Sheaf itself wants a checksum of what it imports, which nobody knows before a download.
//! Route in: an export that is Ready. Route out: objects.

use http::HeaderValue;
use kube::Api;
use serde_json::{Map, Value, json};
use sheaf_api::{
    Amount, VirtualMachine,
    vm_export::{ExportVolume, ExportedVolume, Format, TOKEN_HEADER, VirtualMachineExport},
    vm_snapshot::{VirtualMachineSnapshot, VirtualMachineSnapshotContent},
};

use super::{super::answer::Refusal, super::serve::State, not_found};
use crate::{instancetype, vm_snapshot::content};

/// What kubectl notes of an object is of the object that it was read from.
const APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// A Secret by which CDI sends the token.
pub fn header(export: &str, token: &HeaderValue) -> Result<Value, Refusal> {
    let token = token.to_str().map_err(Refusal::bad_request)?;
    Ok(json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": {"name": secret(export)},
        "stringData": {"token": format!("{TOKEN_HEADER}:{token}")},
    }))
}

fn secret(export: &str) -> String {
    format!("header-secret-{export}")
}

/// The authority, the VM and its DataVolumes.
pub async fn all(
    state: &State,
    export: &VirtualMachineExport,
    exported: &[ExportedVolume],
) -> Result<Vec<Value>, Refusal> {
    let name = export.metadata.name.as_deref().unwrap_or_default();
    let links = export.status.as_ref().and_then(|status| status.links.as_ref()?.external.as_ref());
    let links = links.ok_or_else(|| not_found("the export is not ready"))?;
    let vm = machine(state, export).await?;
    let import = Import { export: name, volumes: &links.volumes, exported };
    let mut objects = vec![json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": import.authority()},
        "data": {"ca.pem": links.cert},
    })];
    objects.extend(import.objects(&vm)?);
    Ok(objects)
}

/// The VM with its instancetype and preference put in; of a snapshot, as it was.
async fn machine(state: &State, export: &VirtualMachineExport) -> Result<VirtualMachine, Refusal> {
    let namespace = export.metadata.namespace.as_deref().unwrap_or_default();
    let source = &export.spec.source;
    let missing = || not_found(format!("{} {} has no VM to write down", source.kind, source.name));
    let vm = match source.kind.as_str() {
        "VirtualMachine" => {
            let machines: Api<VirtualMachine> = Api::namespaced(state.client.clone(), namespace);
            machines.get_opt(&source.name).await.map_err(Refusal::of_api)?.ok_or_else(missing)?
        }
        "VirtualMachineSnapshot" => {
            let snapshots: Api<VirtualMachineSnapshot> = Api::namespaced(state.client.clone(), namespace);
            let snapshot = snapshots.get_opt(&source.name).await.map_err(Refusal::of_api)?;
            let contents: Api<VirtualMachineSnapshotContent> =
                Api::namespaced(state.client.clone(), namespace);
            let name = content::name(&snapshot.ok_or_else(missing)?);
            let kept = contents.get_opt(&name).await.map_err(Refusal::of_api)?.ok_or_else(missing)?;
            let saved = kept.spec.source.virtual_machine.ok_or_else(missing)?;
            let mut vm = VirtualMachine::new(saved.metadata.name.as_deref().unwrap_or_default(), saved.spec);
            vm.metadata = saved.metadata;
            vm
        }
        _ => return Err(missing()),
    };
    let sized = instancetype::expand(&state.client, &vm).await.map_err(Refusal::internal)?;
    instancetype::shown(&sized).map_err(Refusal::internal)
}

/// How another cluster imports what this export has.
struct Import<'a> {
    export: &'a str,
    volumes: &'a [ExportVolume],
    exported: &'a [ExportedVolume],
}

impl Import<'_> {
    fn authority(&self) -> String {
        format!("export-ca-cm-{}", self.export)
    }

    /// The source of a DataVolume for the claim `name`, if it is exported.
    fn source(&self, name: &str) -> Option<Value> {
        let volume = self.volumes.iter().find(|volume| volume.name == name)?;
        let format = volume.formats.iter().find(|format| format.format == Format::Gzip)?;
        Some(json!({"http": {
            "url": format.url, "certConfigMap": self.authority(), "secretExtraHeaders": [secret(self.export)],
        }}))
    }

    /// The VM, and a DataVolume for each of its claims that it has no template for.
    fn objects(&self, vm: &VirtualMachine) -> Result<Vec<Value>, Refusal> {
        let mut spec = serde_json::to_value(&vm.spec).map_err(Refusal::internal)?;
        let mut made = Vec::new();
        for template in spec["dataVolumeTemplates"].as_array_mut().into_iter().flatten() {
            let name = template["metadata"]["name"].as_str().unwrap_or_default().to_owned();
            if let Some(source) = self.source(&name) {
                template["spec"]["source"] = source;
            }
            made.push(name);
        }
        let meta = &vm.metadata;
        let mut annotations = meta.annotations.clone().unwrap_or_default();
        annotations.remove(APPLIED);
        let mut metadata = Map::new();
        metadata.insert("name".into(), json!(meta.name));
        for (field, values) in
            [("labels", meta.labels.clone().unwrap_or_default()), ("annotations", annotations)]
        {
            if !values.is_empty() {
                metadata.insert(field.into(), json!(values));
            }
        }
        let mut objects = vec![json!({
            "apiVersion": "kubevirt.io/v1", "kind": "VirtualMachine", "metadata": metadata, "spec": spec,
        })];
        let claims = vm.spec.template.spec.volumes.iter().filter_map(|volume| volume.claim());
        for claim in claims.filter(|claim| !made.iter().any(|made| made == claim)) {
            let exported = self.exported.iter().find(|exported| exported.name == claim);
            let (Some(source), Some(exported)) = (self.source(claim), exported) else { continue };
            let requests = json!({"storage": Amount::of_bytes(exported.bytes)});
            objects.push(json!({
                "apiVersion": "cdi.kubevirt.io/v1beta1", "kind": "DataVolume", "metadata": {"name": claim},
                "spec": {"source": source, "storage": {"resources": {"requests": requests}}},
            }));
        }
        Ok(objects)
    }
}

/// A list, as KubeVirt indents it.
pub fn json(objects: &[Value]) -> Result<String, Refusal> {
    let list = json!({"apiVersion": "v1", "kind": "List", "metadata": {}, "items": objects});
    serde_json::to_string_pretty(&list).map_err(Refusal::internal)
}

/// Documents.
pub fn yaml(objects: &[Value]) -> Result<String, Refusal> {
    let document =
        |object| Ok(format!("{}---\n", serde_saphyr::to_string(object).map_err(Refusal::internal)?));
    objects.iter().map(document).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use sheaf_api::vm_export::ExportFormat;

    #[test]
    fn a_vm_is_written_down_with_its_disks_to_be_imported_and_without_what_is_of_this_cluster() {
        let vm: VirtualMachine = serde_json::from_value(json!({
            "apiVersion": "kubevirt.io/v1", "kind": "VirtualMachine",
            "metadata": {"name": "web", "namespace": "shop", "uid": "u", "labels": {"team": "a"},
                         "annotations": {APPLIED: "{}"}},
            "spec": {"runStrategy": "Halted",
                     "dataVolumeTemplates": [{"metadata": {"name": "root"},
                                              "spec": {"source": {"blank": {}}, "storage": {}}}],
                     "template": {"spec": {"domain": {"devices": {}}, "volumes": [
                         {"name": "a", "dataVolume": {"name": "root"}},
                         {"name": "b", "persistentVolumeClaim": {"claimName": "data"}},
                         {"name": "c", "emptyDisk": {"capacity": "1Gi"}}]}}},
            "status": {"created": true},
        }))
        .unwrap();
        let volume = |name: &str| ExportVolume {
            name: name.into(),
            formats: vec![ExportFormat { format: Format::Gzip, url: format!("https://h/{name}.gz") }],
        };
        let exported =
            |name: &str| ExportedVolume { name: name.into(), volume: "pvc-1".into(), bytes: 1 << 30 };
        let import = Import {
            export: "away",
            volumes: &[volume("root"), volume("data")],
            exported: &[exported("root"), exported("data")],
        };
        let objects = import.objects(&vm).unwrap();
        let source = |name: &str| {
            json!({"http": {"url": format!("https://h/{name}.gz"), "certConfigMap": "export-ca-cm-away",
                            "secretExtraHeaders": ["header-secret-away"]}})
        };
        assert_eq!(objects[0]["metadata"], json!({"name": "web", "labels": {"team": "a"}}));
        assert!(objects[0].get("status").is_none());
        assert_eq!(objects[0]["spec"]["dataVolumeTemplates"][0]["spec"]["source"], source("root"));
        assert_eq!((objects.len(), &objects[1]["metadata"]["name"]), (2, &json!("data")));
        assert_eq!(objects[1]["spec"]["source"], source("data"));
        assert_eq!(objects[1]["spec"]["storage"]["resources"]["requests"]["storage"], "1Gi");
    }

    #[test]
    fn documents_are_kept_apart_and_read_back() {
        let header = header("away", &HeaderValue::from_static("t0ken")).unwrap();
        let text = yaml(&[header.clone(), json!({"a": "x: y"})]).unwrap();
        let documents: Vec<&str> = text.split("---\n").collect();
        assert_eq!(serde_saphyr::from_str::<Value>(documents[0]).unwrap(), header);
        assert_eq!(serde_saphyr::from_str::<Value>(documents[1]).unwrap(), json!({"a": "x: y"}));
        assert_eq!(header["stringData"]["token"], "x-kubevirt-export-token:t0ken");
    }
}
