//! `sheaf.dev/v1alpha1` LocalVolume: one thin volume, or a snapshot of one, in a pool of one node.
//!
//! Why here: the controller makes it for a claim that the scheduler gave a node; the node's agent makes the logical
//! volume of the same name, fills it and says how far it is. Route in: PersistentVolumeClaim, VolumeSnapshot,
//! DataVolume. Route out: the device `/dev/sheaf-<pool>/<name>` and this object's status.

use kube::CustomResource;
use schemars::JsonSchema;
use serde::de::value::StrDeserializer;
use serde::{Deserialize, Serialize};

pub use crate::names::volume_group;
use crate::names::{CLAIM_ANNOTATION, IMAGE_ANNOTATION};
use crate::status::Condition;
use std::collections::BTreeSet;

/// Held by the agent until the logical volume is gone.
pub const FINALIZER: &str = "sheaf.dev/local-volume";

/// The condition that says whether the volume may be used, and if not, why.
pub const READY: &str = "Ready";
/// The condition that says whether the volume has the size asked for; there while it was ever grown.
pub const RESIZED: &str = "Resized";

/// A thin volume, or a snapshot of one, in a pool of one node.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema, CustomResource)]
#[kube(
    group = "sheaf.dev",
    version = "v1alpha1",
    kind = "LocalVolume",
    plural = "localvolumes",
    shortname = "lv",
    category = "sheaf",
    derive = "PartialEq",
    status = "LocalVolumeStatus",
    doc = "A thin volume, or a snapshot of one, in a pool of one node.",
    selectable = ".spec.nodeName",
    printcolumn = r#"{"name":"Node","type":"string","jsonPath":".spec.nodeName"}"#,
    printcolumn = r#"{"name":"Pool","type":"string","jsonPath":".spec.pool"}"#,
    printcolumn = r#"{"name":"Kind","type":"string","jsonPath":".spec.kind"}"#,
    printcolumn = r#"{"name":"Bytes","type":"integer","jsonPath":".status.sizeBytes"}"#,
    printcolumn = r#"{"name":"Phase","type":"string","jsonPath":".status.phase"}"#,
    printcolumn = r#"{"name":"Progress","type":"integer","description":"Percent","jsonPath":".status.progress.percent"}"#,
    printcolumn = r#"{"name":"Reason","type":"string","priority":1,"jsonPath":".status.conditions[?(@.type=='Ready')].reason"}"#,
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#
)]
#[serde(rename_all = "camelCase")]
pub struct LocalVolumeSpec {
    /// Name of the Node that holds it.
    #[schemars(length(min = 1, max = 253))]
    pub node_name: String,
    /// Name of the pool on that node, without the node's.
    #[schemars(length(min = 1, max = 40), regex(pattern = r"^[a-z0-9]([a-z0-9-]*[a-z0-9])?$"))]
    pub pool: String,
    /// Size that its user sees. It can be raised, not lowered; the node rounds it up to its extents.
    #[schemars(range(min = 1_048_576))]
    pub size_bytes: u64,
    /// What it is. Default: Volume.
    #[serde(default)]
    pub kind: VolumeKind,
    /// Its initial contents.
    pub source: VolumeSource,
}

/// What a LocalVolume is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum VolumeKind {
    /// A volume that a VM writes.
    #[default]
    Volume,
    /// A read-only snapshot: source is the volume it is of.
    Snapshot,
}

/// What is in a volume at first; exactly one.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct VolumeSource {
    /// Nothing: it reads as zeros.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub blank: Option<Blank>,
    /// The contents of another volume in the same pool at that moment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub volume: Option<Origin>,
    /// The contents of a snapshot in the same pool.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snapshot: Option<Origin>,
    /// An image from a server: raw or qcow2, plain or compressed by xz, zstd or gzip.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http: Option<HttpSource>,
    /// The disk in a container disk of a registry.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub registry: Option<RegistrySource>,
    /// An image that a client sends to the node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upload: Option<Upload>,
}

impl VolumeSource {
    /// Whether the node brings an image in, from wherever.
    pub fn is_brought_in(&self) -> bool {
        self.http.is_some() || self.registry.is_some() || self.upload.is_some()
    }

    /// What the node must read in the claim's namespace before it can bring the image in.
    pub fn references(&self) -> References<'_> {
        match (&self.http, &self.registry) {
            (Some(http), _) => http.references(),
            (_, Some(registry)) => registry.references(),
            _ => References::default(),
        }
    }
}

/// Objects of the claim's namespace that a source names. The node may read them only while an importer Pod names them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct References<'a> {
    /// Secrets, each once.
    pub secrets: BTreeSet<&'a str>,
    /// A ConfigMap.
    pub config_map: Option<&'a str>,
}

impl References<'_> {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.secrets.is_empty() && self.config_map.is_none()
    }
}

/// Where the image of a volume comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ImageSource {
    /// A file of a server.
    Http(HttpSource),
    /// A container disk.
    Registry(RegistrySource),
}

/// Zeros; it has no settings.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Blank {}

/// What a client sends; it has no settings.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Upload {}

/// Another LocalVolume of the same node and pool.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Origin {
    /// Its name.
    #[schemars(length(min = 1, max = 63), regex(pattern = r"^[a-z]([a-z0-9-]*[a-z0-9])?$"))]
    pub name: String,
}

/// An image from a server.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HttpSource {
    /// Its address: http or https, without user name and password.
    #[schemars(length(max = 2048), regex(pattern = r"^https?://[^\s/?#@]+([/?#]\S*)?$"))]
    pub url: String,
    /// SHA-256 of the file as the server sends it: `sha256:` and 64 hexadecimal digits.
    #[schemars(length(max = 71), regex(pattern = r"^sha256:[0-9a-fA-F]{64}$"))]
    pub checksum: String,
    /// Secret with a user name (accessKeyId) and a password (secretKey), in the namespace of the claim that the volume is
    /// for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253), regex(pattern = r"^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$"))]
    pub secret_ref: Option<String>,
    /// ConfigMap with certificate authorities in PEM, in that namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253), regex(pattern = r"^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$"))]
    pub cert_config_map: Option<String>,
    /// Secrets whose values are headers, in that namespace.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 8),
        inner(length(max = 253), regex(pattern = r"^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$"))
    )]
    pub secret_extra_headers: Vec<String>,
}

impl HttpSource {
    /// What it names in the claim's namespace.
    pub fn references(&self) -> References<'_> {
        References {
            secrets: self.secret_ref.iter().chain(&self.secret_extra_headers).map(String::as_str).collect(),
            config_map: self.cert_config_map.as_deref(),
        }
    }

    /// `URL sha256:DIGITS`, by the same rules as the fields.
    fn noted(text: &str) -> Option<Self> {
        let (url, checksum) = text.trim().split_once(char::is_whitespace)?;
        let checksum = checksum.trim();
        let rest = url.strip_prefix("http://").or_else(|| url.strip_prefix("https://"))?;
        let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
        let is_url = !authority.is_empty() && !authority.contains('@') && url.len() <= 2048;
        let is_hash = checksum.starts_with("sha256:") && sha256_digits(checksum).is_some();
        (is_hash && is_url).then(|| Self {
            url: url.to_owned(),
            checksum: checksum.to_owned(),
            ..Self::default()
        })
    }
}

/// Without the URL, which may hold a password: this is what logs and statuses show.
impl std::fmt::Debug for HttpSource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HttpSource").field("checksum", &self.checksum).finish_non_exhaustive()
    }
}

/// A container disk: an image of a registry with the image of a disk in its folder `/disk`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RegistrySource {
    /// The image, as a VM's containerDisk names it.
    #[schemars(length(min = 1, max = 1024))]
    pub image: String,
    /// Secret with a user name (accessKeyId) and a password (secretKey) of the registry, in the namespace of the claim that
    /// the volume is for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253), regex(pattern = r"^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$"))]
    pub secret_ref: Option<String>,
    /// ConfigMap with certificate authorities of the registry in PEM, in that namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253), regex(pattern = r"^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$"))]
    pub cert_config_map: Option<String>,
}

impl RegistrySource {
    /// What it names in the claim's namespace.
    pub fn references(&self) -> References<'_> {
        References {
            secrets: self.secret_ref.as_deref().into_iter().collect(),
            config_map: self.cert_config_map.as_deref(),
        }
    }
}

/// The 64 hexadecimal digits of a SHA-256 in lower case, from text with or without `sha256:` before them.
pub fn sha256_digits(text: &str) -> Option<String> {
    let digits = text.strip_prefix("sha256:").unwrap_or(text);
    let is_hash = digits.len() == 64 && digits.bytes().all(|digit| digit.is_ascii_hexdigit());
    is_hash.then(|| digits.to_ascii_lowercase())
}

/// What the node reports about a volume.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LocalVolumeStatus {
    /// How far it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phase: Option<VolumePhase>,
    /// The device, once it is Ready.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device_path: Option<String>,
    /// Size of the device; more than requested where the node's extents are large.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size_bytes: Option<u64>,
    /// Progress of filling it from its source.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub progress: Option<Progress>,
    /// Generation of the spec that this is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Details by type: Ready, Resized.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
}

/// Phase of a volume.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum VolumePhase {
    /// It cannot be made now; its condition Ready says why, and the node tries again.
    Pending,
    /// The logical volume is being made.
    Creating,
    /// Its source is being brought in.
    Populating,
    /// It may be used.
    Ready,
    /// It will not come to be; its condition Ready says why. The node does not try again.
    Failed,
}

/// How much of a source is here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Progress {
    /// Bytes received.
    pub done_bytes: u64,
    /// Total bytes, where the source says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub total_bytes: Option<u64>,
    /// The same in percent, where it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub percent: Option<u8>,
}

impl Progress {
    /// `done` bytes of `total`.
    pub fn of(done: u64, total: Option<u64>) -> Self {
        let percent = |total| u128::from(done.min(total)) * 100 / u128::from(total);
        let percent = total.filter(|total| *total > 0).map(|total| percent(total) as u8);
        Self { done_bytes: done, total_bytes: total, percent }
    }
}

/// Why a volume is not Ready, or not as large as asked for: the reasons of its conditions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub enum VolumeReason {
    /// The node has no such pool, or not yet.
    PoolNotFound,
    /// The pool has not the space.
    OutOfSpace,
    /// The origin is not on the node, or in another pool.
    SourceNotFound,
    /// The origin is not Ready yet.
    SourceNotReady,
    /// The server does not answer, or broke off; tried again.
    SourceUnreachable,
    /// The server says no.
    SourceRefused,
    /// The ImportPolicy does not allow the server; tried again.
    SourceForbidden,
    /// A Secret or ConfigMap that the source names cannot be read, or does not hold what it must; tried again.
    CredentialsUnavailable,
    /// The file is not the one whose checksum was given.
    ChecksumMismatch,
    /// The file is no disk image that can be read.
    BadImage,
    /// The image is larger than the volume.
    ImageTooLarge,
    /// Another logical volume has its name, and is none of ours.
    NameTaken,
    /// It was Ready once and its logical volume is gone: it is not recreated, for that would hide the loss.
    Lost,
    /// The node could not; tried again.
    NodeFailed,
    /// The logical volume is being made.
    Creating,
    /// The source is being brought in.
    Populating,
    /// A user is still there: a running VM, or a clone that is being made.
    InUse,
    /// No problem is known.
    Ready,
}

impl VolumeReason {
    /// Whether the claim may be given another node instead: nothing on this one will help soon.
    pub fn is_for_another_node(self) -> bool {
        matches!(self, Self::PoolNotFound | Self::OutOfSpace)
    }

    /// The reason of that name.
    pub fn of(word: &str) -> Option<Self> {
        Self::deserialize(StrDeserializer::<serde::de::value::Error>::new(word)).ok()
    }
}

impl std::fmt::Display for VolumeReason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Debug::fmt(self, f)
    }
}

impl LocalVolume {
    /// Whether its user may open it now.
    pub fn is_ready(&self) -> bool {
        self.status.as_ref().and_then(|status| status.phase) == Some(VolumePhase::Ready)
    }

    /// The claim that it is for, `namespace/name`; the volume's own name where there is none.
    pub fn claim(&self) -> &str {
        let noted = self.metadata.annotations.as_ref().and_then(|all| all.get(CLAIM_ANNOTATION));
        noted.or(self.metadata.name.as_ref()).map_or("", String::as_str)
    }

    /// What is in it at first, where that comes from a server: the source itself, or for an upload what an operator noted
    /// in [`IMAGE_ANNOTATION`]; an error says what of that cannot be read.
    pub fn image(&self) -> Option<Result<ImageSource, String>> {
        match &self.spec.source {
            VolumeSource { http: Some(http), .. } => return Some(Ok(ImageSource::Http(http.clone()))),
            VolumeSource { registry: Some(registry), .. } => {
                return Some(Ok(ImageSource::Registry(registry.clone())));
            }
            source => source.upload.as_ref()?,
        };
        let noted = self.metadata.annotations.as_ref()?.get(IMAGE_ANNOTATION)?;
        Some(HttpSource::noted(noted).map(ImageSource::Http).ok_or_else(|| {
            format!("annotation {IMAGE_ANNOTATION} is not \"http://HOST/FILE sha256:64 DIGITS\"")
        }))
    }

    /// Why it is as it is: the reason and the sentence of its condition Ready.
    pub fn why(&self) -> Option<(VolumeReason, &str)> {
        let conditions = &self.status.as_ref()?.conditions;
        let ready = conditions.iter().find(|condition| condition.type_ == READY)?;
        let reason = VolumeReason::of(ready.reason.as_deref()?)?;
        Some((reason, ready.message.as_deref().unwrap_or_default()))
    }
}

/// The device of a volume on its node.
pub fn device_path(pool: &str, volume: &str) -> String {
    format!("/dev/{}/{volume}", volume_group(pool))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_is_logged_without_its_url() {
        let source = HttpSource { url: "https://h/a?token=secret".into(), ..HttpSource::default() };
        assert!(!format!("{source:?}").contains("secret"));
    }

    #[test]
    fn a_noted_image_has_no_user_name_and_a_whole_sha256() {
        let zeros = "0".repeat(64);
        let noted = |url: &str, digits: &str| HttpSource::noted(&format!("{url} sha256:{digits}"));
        assert!(noted("http://192.0.2.5:8080/a?b@c", &zeros).is_some());
        assert!(noted("http://user:word@192.0.2.5/a", &zeros).is_none());
        assert!(noted("http:///a", &zeros).is_none());
        assert!(noted("http://192.0.2.5/a", &zeros[1..]).is_none());
        assert_eq!(sha256_digits(&"AB".repeat(32)), Some("ab".repeat(32)));
        assert_eq!(sha256_digits(&"xy".repeat(32)), None);
    }
}
