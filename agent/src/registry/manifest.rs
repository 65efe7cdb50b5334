//! Manifests: which layers an image is made of, and which image of a list is for this machine.
//!
//! Pure. Route in: bytes that a registry gave. Route out: layers in the order in which they lie on one another, or the digest
//! to ask for next. Formats: OCI image specification 1.1, Docker's image manifest version 2 schema 2.

use super::reference::Digest;
use serde::Deserialize;
use std::collections::BTreeMap;

/// Kinds of manifests that are understood, as the header `Accept` has them.
pub const KINDS: &str = "application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json, \
    application/vnd.docker.distribution.manifest.list.v2+json, application/vnd.docker.distribution.manifest.v2+json";
/// Longest manifest, in bytes: what registries accept.
pub const LONGEST: u64 = 4 << 20;
/// Annotation with the name of a file (OCI image specification, "Pre-Defined Annotation Keys").
const TITLE: &str = "org.opencontainers.image.title";
/// Most layers of an image: what overlayfs could hold, twice.
const MOST_LAYERS: usize = 1000;

/// A layer as it lies in the registry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layer {
    /// Its digest.
    pub digest: Digest,
    /// Its length in bytes.
    pub bytes: u64,
    /// Name of the file that it is, in an artifact: its annotation `org.opencontainers.image.title`.
    pub title: Option<String>,
}

/// What a manifest says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Manifest {
    /// An image's layers, the lowest first.
    Image(Vec<Layer>),
    /// The digest of the manifest for this machine.
    List(Digest),
}

/// What is wrong with a manifest.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ManifestError {
    /// It is none.
    #[error("its manifest cannot be read: {0}")]
    Unreadable(String),
    /// It is of a kind that is not supported.
    #[error("its manifest is of a kind that is not supported: {0}")]
    Kind(String),
    /// It has no image for this architecture.
    #[error("it has no image for linux/{wanted}, only for {found}")]
    Architecture {
        /// What this machine is.
        wanted: &'static str,
        /// What there is.
        found: String,
    },
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Raw {
    #[serde(default)]
    schema_version: u32,
    media_type: Option<String>,
    layers: Option<Vec<Descriptor>>,
    manifests: Option<Vec<Descriptor>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Descriptor {
    digest: String,
    size: u64,
    #[serde(default)]
    media_type: String,
    platform: Option<Platform>,
    #[serde(default)]
    annotations: BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct Platform {
    #[serde(default)]
    os: String,
    #[serde(default)]
    architecture: String,
}

/// This machine, as images name it.
pub const fn architecture() -> &'static str {
    if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" }
}

/// Reads a manifest.
pub fn read(bytes: &[u8]) -> Result<Manifest, ManifestError> {
    let unreadable = |what: String| ManifestError::Unreadable(what);
    let raw: Raw = serde_json::from_slice(bytes).map_err(|error| unreadable(error.to_string()))?;
    let digest = |text: &str| {
        Digest::parse(text).ok_or_else(|| unreadable(format!("{text:?} is not sha256: and 64 hex digits")))
    };
    match (raw.layers, raw.manifests) {
        _ if raw.schema_version == 1 => {
            Err(ManifestError::Kind("Docker's schema 1; push the image again".into()))
        }
        (Some(layers), None) if layers.len() <= MOST_LAYERS => {
            let layer = |mut layer: Descriptor| match layer.media_type.contains("foreign")
                || layer.media_type.contains("nondistributable")
            {
                true => Err(ManifestError::Kind(layer.media_type)),
                false => Ok(Layer {
                    digest: digest(&layer.digest)?,
                    bytes: layer.size,
                    title: layer.annotations.remove(TITLE),
                }),
            };
            Ok(Manifest::Image(layers.into_iter().map(layer).collect::<Result<_, _>>()?))
        }
        (Some(layers), None) => Err(unreadable(format!("it has {} layers", layers.len()))),
        (None, Some(manifests)) => Ok(Manifest::List(digest(&choose(manifests)?)?)),
        _ => {
            Err(ManifestError::Kind(raw.media_type.unwrap_or_else(|| "neither layers nor manifests".into())))
        }
    }
}

fn choose(manifests: Vec<Descriptor>) -> Result<String, ManifestError> {
    let mut found = Vec::new();
    for one in manifests {
        let Some(platform) = one.platform else { continue };
        if platform.os == "linux" && platform.architecture == architecture() {
            return Ok(one.digest);
        }
        // Attestations of BuildKit are for no machine.
        if platform.os != "unknown" {
            found.push(format!("{}/{}", platform.os, platform.architecture));
        }
    }
    let found = if found.is_empty() { "no machine".to_owned() } else { found.join(", ") };
    Err(ManifestError::Architecture { wanted: architecture(), found })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn digest(letter: &str) -> String {
        format!("sha256:{}", letter.repeat(64))
    }

    fn said(manifest: serde_json::Value) -> String {
        read(manifest.to_string().as_bytes()).unwrap_err().to_string()
    }

    #[test]
    fn layers_come_in_their_order_and_of_a_list_the_one_for_this_machine() {
        let image = json!({"schemaVersion": 2, "config": {}, "layers": [
            {"mediaType": "application/vnd.oci.image.layer.v1.tar+gzip", "digest": digest("a"), "size": 3},
            {"mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": digest("b"), "size": 4}]});
        let layer =
            |letter, bytes| Layer { digest: Digest::parse(&digest(letter)).unwrap(), bytes, title: None };
        assert_eq!(
            read(image.to_string().as_bytes()),
            Ok(Manifest::Image(vec![layer("a", 3), layer("b", 4)]))
        );
        let list = json!({"schemaVersion": 2, "manifests": [
            {"digest": digest("a"), "size": 1, "platform": {"os": "unknown", "architecture": "unknown"}},
            {"digest": digest("b"), "size": 1, "platform": {"os": "linux", "architecture": "s390x"}},
            {"digest": digest("c"), "size": 1, "platform": {"os": "linux", "architecture": architecture()}}]});
        assert_eq!(
            read(list.to_string().as_bytes()),
            Ok(Manifest::List(Digest::parse(&digest("c")).unwrap()))
        );
    }

    #[test]
    fn the_files_of_an_artifact_have_the_names_that_they_were_pushed_by() {
        let artifact = json!({"schemaVersion": 2, "artifactType": "application/vnd.sheaf.release", "config": {}, "layers": [
            {"mediaType": "application/json", "digest": digest("a"), "size": 3,
             "annotations": {"org.opencontainers.image.title": "manifest.json"}}]});
        let Ok(Manifest::Image(layers)) = read(artifact.to_string().as_bytes()) else { panic!("{artifact}") };
        assert_eq!(layers[0].title.as_deref(), Some("manifest.json"));
    }

    #[test]
    fn what_cannot_be_used_is_said() {
        let other = json!({"manifests": [{"digest": digest("b"), "size": 1, "platform": {"os": "linux", "architecture": "s390x"}},
            {"digest": digest("a"), "size": 1, "platform": {"os": "unknown", "architecture": "unknown"}}]});
        assert_eq!(
            said(other),
            format!("it has no image for linux/{}, only for linux/s390x", architecture())
        );
        assert_eq!(
            said(json!({"schemaVersion": 1, "fsLayers": []})),
            "its manifest is of a kind that is not supported: Docker's schema 1; push the image again"
        );
        assert_eq!(
            said(json!({"mediaType": "application/vnd.cncf.helm.config.v1+json"})),
            "its manifest is of a kind that is not supported: application/vnd.cncf.helm.config.v1+json"
        );
        assert!(
            said(json!({"layers": [{"digest": "sha256:../../etc", "size": 1}]})).contains("is not sha256:")
        );
        assert!(said(json!([])).contains("cannot be read"));
    }

    proptest! {
        #[test]
        fn no_bytes_stop_the_agent(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = read(&bytes);
        }
    }
}
