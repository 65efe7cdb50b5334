//! A release in a registry: an OCI artifact whose layers are the files of the release folder.
//!
//! Why as a [`Fetch`]: code that reads a release asks for a file below a base and the byte to begin at, and reading on after
//! a broken connection is done there. Here a file's name becomes the blob that holds it; mirrors, authorities and anonymous
//! tokens are those of [`crate::registry`]. Blocks. Route in: a reference, how its registry is reached. Route out: bytes of
//! files, which the signed manifest of the release vouches for.

use crate::registry::client::{Client, servers};
use crate::registry::credentials::Logins;
use crate::registry::manifest::Layer;
use crate::registry::{PullError, Reference};
use sheaf_config::manifest::FILE;
use sheaf_config::node::Registry;
use sheaf_host::fetch::policy::Policy;
use sheaf_host::fetch::{Fetch, FetchError, Rest, Source};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

/// Why there is no release in a registry.
#[derive(Debug, thiserror::Error)]
pub enum ArtifactError {
    /// It cannot be read.
    #[error("{0}; check the reference, the registry and [[registry]] in node.toml")]
    Pull(PullError),
    /// It is something else.
    #[error(
        "{reference} is not a release: none of its layers is called {FILE}; push the files of the release folder with \
         `oras push`, from within that folder"
    )]
    NoRelease {
        /// What was asked for.
        reference: String,
    },
}

/// The files of one artifact.
struct Artifact<'a> {
    client: Mutex<Client<'a>>,
    files: BTreeMap<String, Layer>,
}

/// Calls `work` with the files of the artifact `reference`, as if they were below its URL.
pub fn with<T>(
    fetch: &dyn Fetch,
    reference: &str,
    registries: &[Registry],
    work: impl FnOnce(&dyn Fetch) -> T,
) -> Result<T, ArtifactError> {
    let image = Reference::parse(reference).map_err(|error| ArtifactError::Pull(error.into()))?;
    // An administrator named it, as one names a URL.
    let servers = servers(&image, registries, &Arc::new(Policy::trusted()), None);
    let logins = Logins::default();
    let mut client = Client::new(fetch, &image, servers, &logins, &|| false);
    let layers = client.resolve().map_err(ArtifactError::Pull)?.layers;
    let named = |layer: Layer| Some((layer.title.clone()?, layer));
    let files: BTreeMap<String, Layer> = layers.into_iter().filter_map(named).collect();
    if !files.contains_key(FILE) {
        return Err(ArtifactError::NoRelease { reference: reference.to_owned() });
    }
    Ok(work(&Artifact { client: Mutex::new(client), files }))
}

impl Fetch for Artifact<'_> {
    fn fetch(&self, source: &Source, from: u64) -> Result<Rest, FetchError> {
        let (_, file) = source.url.rsplit_once('/').unwrap_or(("", &source.url));
        let Some(layer) = self.files.get(file) else {
            return Err(FetchError::Refused { url: source.url.clone(), status: 404 });
        };
        if from > layer.bytes {
            return Err(FetchError::PastEnd { url: source.url.clone(), from });
        }
        let mut client = self.client.lock().unwrap_or_else(PoisonError::into_inner);
        let rest = client.open(layer, from).map_err(|error| match error {
            // The registry itself is asked last.
            PullError::Servers { mut tried, .. } if !tried.is_empty() => tried.remove(tried.len() - 1),
            other => FetchError::Reach { url: source.url.clone(), source: Box::new(other) },
        })?;
        // What the artifact says; some registries send no length.
        Ok(Rest { total: rest.total.or(Some(layer.bytes)), ..rest })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::Digest;
    use serde_json::json;
    use sheaf_host::fakes::FakeFetch;
    use sheaf_release::remote::Remote;
    use std::io::Read as _;

    const BASE: &str = "https://registry.example.org/v2/sheaf";

    fn registry(files: &[(&str, &[u8])]) -> FakeFetch {
        let mut fetch = FakeFetch::default();
        let layers: Vec<_> = files
            .iter()
            .map(|(name, bytes)| {
                let digest = Digest::of(bytes).to_string();
                fetch.files.insert(format!("{BASE}/blobs/{digest}"), bytes.to_vec());
                json!({"mediaType": "application/octet-stream", "digest": digest, "size": bytes.len(),
                    "annotations": {"org.opencontainers.image.title": name}})
            })
            .collect();
        let manifest = json!({"schemaVersion": 2, "config": {}, "layers": layers}).to_string().into_bytes();
        fetch.files.insert(format!("{BASE}/manifests/0.2.0"), manifest);
        fetch
    }

    #[test]
    fn files_of_an_artifact_are_read_from_any_byte_and_on_after_a_break() {
        let fetch = registry(&[("manifest.json", b"{}"), ("node.efi", b"kernel")]);
        let reference = "registry.example.org/sheaf:0.2.0";
        let read = with(&fetch, reference, &[], |files| {
            fetch.breaks.lock().unwrap().push(2);
            let remote = Remote::new("oci://registry.example.org/sheaf:0.2.0", files)
                .with_timeout(std::time::Duration::from_secs(5), std::time::Duration::from_millis(1));
            let mut text = String::new();
            remote.open_at("node.efi", Some(6), 1).read_to_string(&mut text).unwrap();
            (text, remote.text("absent").unwrap_err().to_string())
        });
        let (text, absent) = read.unwrap();
        assert_eq!(text, "ernel");
        assert_eq!(absent, "oci://registry.example.org/sheaf:0.2.0/absent answers with HTTP status 404");
    }

    #[test]
    fn a_mirror_is_asked_before_the_registry() {
        let mut fetch = registry(&[("manifest.json", b"{}")]);
        let moved = std::mem::take(&mut fetch.files).into_iter();
        fetch.files = moved
            .map(|(url, bytes)| (url.replace("https://registry.example.org", "http://mirror:5000"), bytes))
            .collect();
        let mirror = Registry {
            name: "registry.example.org".into(),
            mirrors: vec!["http://mirror:5000".into()],
            ca: None,
        };
        let text = with(&fetch, "registry.example.org/sheaf:0.2.0", &[mirror], |files| {
            Remote::new("oci://x", files).text("manifest.json").unwrap()
        });
        assert_eq!(text.unwrap(), b"{}");
    }

    #[test]
    fn what_is_not_a_release_in_a_registry_is_refused_with_what_to_do() {
        let fetch = registry(&[("disk.img", b"")]);
        let refused = |reference: &str| with(&fetch, reference, &[], |_| ()).unwrap_err().to_string();
        assert_eq!(
            refused("registry.example.org/sheaf:0.2.0"),
            "registry.example.org/sheaf:0.2.0 is not a release: none of its layers is called manifest.json; push the files \
             of the release folder with `oras push`, from within that folder"
        );
        assert_eq!(
            refused("registry.example.org/sheaf:0.3.0"),
            "registry.example.org/sheaf:0.3.0: \
             https://registry.example.org/v2/sheaf/manifests/0.3.0 is answered with HTTP status 404; check the reference, \
             the registry and [[registry]] in node.toml"
        );
    }
}
