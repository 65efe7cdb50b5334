//! Volumes whose files are made from objects of the cluster: Secrets, ConfigMaps, metadata of the VM's Pod.
//!
//! Why here: names and meanings are KubeVirt's. Each is a read-only ISO 9660 image, made when the VM starts: a change of the
//! object takes effect at the next start. Route in: `spec.volumes` of a VMI. Route out: images that the agent makes.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::volumes::SecretName;

/// Label of a volume that does not name one.
pub const LABEL: &str = "cfgdata";
/// Label of the volume of Windows Setup: KubeVirt's.
pub const SYSPREP_LABEL: &str = "unattendCD";
/// Files of which Windows Setup needs one; the case of its letters does not matter.
pub const SYSPREP_FILES: [&str; 2] = ["autounattend.xml", "unattend.xml"];

/// A file for each key of a Secret of the VM's namespace.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SecretVolume {
    /// Name of the Secret.
    #[schemars(length(min = 1, max = 253))]
    pub secret_name: String,
    /// The disk is empty if there is no such Secret. Default: false, the VM does not start without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub optional: Option<bool>,
    /// Label of the file system. Default: cfgdata.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = r"^[ -~]{0,32}$"))]
    pub volume_label: Option<String>,
}

/// A file for each key of a ConfigMap of the VM's namespace.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ConfigMapVolume {
    /// Name of the ConfigMap.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// The disk is empty if there is no such ConfigMap. Default: false, the VM does not start without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub optional: Option<bool>,
    /// Label of the file system. Default: cfgdata.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = r"^[ -~]{0,32}$"))]
    pub volume_label: Option<String>,
}

/// Answers of Windows Setup, in a key `autounattend.xml` or `unattend.xml`; exactly one of configMap and secret.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Sysprep {
    /// A ConfigMap of the VM's namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config_map: Option<ConfigMapName>,
    /// A Secret of the VM's namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<SecretName>,
}

/// Name of a ConfigMap in the VM's namespace.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ConfigMapName {
    /// Name of the ConfigMap.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
}

/// Metadata of the VM's Pod as files.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DownwardApi {
    /// The files.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub fields: Vec<DownwardFile>,
    /// Label of the file system. Default: cfgdata.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = r"^[ -~]{0,32}$"))]
    pub volume_label: Option<String>,
}

/// One file of metadata.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DownwardFile {
    /// Its path on the disk.
    #[schemars(
        length(max = 253),
        regex(pattern = r"^[A-Za-z0-9_-][A-Za-z0-9._-]*(/[A-Za-z0-9_-][A-Za-z0-9._-]*){0,7}$")
    )]
    pub path: String,
    /// What is in it.
    pub field_ref: FieldRef,
}

/// A field of the VM's Pod.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct FieldRef {
    /// v1, the only one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = r"^v1$"))]
    pub api_version: Option<String>,
    /// metadata.name, metadata.namespace, metadata.uid, metadata.labels, metadata.annotations, or one label or annotation:
    /// metadata.labels['KEY']. Name and UID are the Pod's, annotations the VMI's.
    #[schemars(
        length(max = 400),
        regex(
            pattern = r"^metadata\.(name|namespace|uid|(labels|annotations)(\['[A-Za-z0-9][A-Za-z0-9._/-]*'\])?)$"
        )
    )]
    pub field_path: String,
}

/// What a field path means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)] // the names say it
pub enum Field<'a> {
    Name,
    Namespace,
    Uid,
    Labels,
    Label(&'a str),
    Annotations,
    Annotation(&'a str),
}

impl FieldRef {
    /// What it means; nothing when it is no field that can be read.
    pub fn field(&self) -> Option<Field<'_>> {
        let path = self.field_path.strip_prefix("metadata.")?;
        let key = |of: &str| path.strip_prefix(of)?.strip_prefix("['")?.strip_suffix("']");
        Some(match path {
            "name" => Field::Name,
            "namespace" => Field::Namespace,
            "uid" => Field::Uid,
            "labels" => Field::Labels,
            "annotations" => Field::Annotations,
            _ => {
                return key("labels").map(Field::Label).or_else(|| key("annotations").map(Field::Annotation));
            }
        })
    }
}

impl DownwardApi {
    /// Whether it shows annotations.
    pub fn shows_annotations(&self) -> bool {
        let is = |field| matches!(field, Some(Field::Annotations | Field::Annotation(_)));
        self.fields.iter().any(|file| is(file.field_ref.field()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_path_is_read_as_a_pods_is() {
        let of = |path: &str| FieldRef { api_version: None, field_path: path.into() };
        assert_eq!(of("metadata.labels").field(), Some(Field::Labels));
        assert_eq!(of("metadata.labels['a/b']").field(), Some(Field::Label("a/b")));
        assert_eq!(of("metadata.annotations['x']").field(), Some(Field::Annotation("x")));
        assert_eq!(of("spec.nodeName").field(), None);
        assert_eq!(of("metadata.labels['a").field(), None);
    }
}
