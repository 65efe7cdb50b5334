//! Images in memory, and a registry that has them.

use super::manifest::KINDS;
use super::reference::Digest;
use flate2::write::GzEncoder;
use serde_json::json;
use sheaf_host::fakes::FakeFetch;
use std::io::Write as _;
use tar::{Builder, EntryType, Header};

/// An archive of files.
pub fn tar(files: &[(&str, &[u8])]) -> Vec<u8> {
    let kind = |name: &str| if name.ends_with('/') { EntryType::Directory } else { EntryType::Regular };
    tar_of(&files.iter().map(|(name, bytes)| (*name, kind(name), *bytes)).collect::<Vec<_>>())
}

/// An archive of entries of any kind; links lead to `/etc/passwd`.
pub fn tar_of(entries: &[(&str, EntryType, &[u8])]) -> Vec<u8> {
    let mut archive = Builder::new(Vec::new());
    for (name, kind, bytes) in entries {
        let mut header = Header::new_gnu();
        header.set_entry_type(*kind);
        header.set_mode(0o644);
        header.set_size(bytes.len() as u64);
        match kind {
            EntryType::Symlink => archive.append_link(&mut header, name, "/etc/passwd").unwrap(),
            _ => archive.append_data(&mut header, name, *bytes).unwrap(),
        }
    }
    archive.into_inner().unwrap()
}

pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut packed = GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packed.write_all(bytes).unwrap();
    packed.finish().unwrap()
}

/// Puts an image of `layers`, the lowest first, into the registry at `base`, `https://HOST/v2/REPOSITORY`; its digest.
pub fn push(fetch: &mut FakeFetch, base: &str, tag: &str, layers: &[Vec<u8>]) -> Digest {
    assert!(KINDS.contains("application/vnd.oci.image.manifest.v1+json"));
    let mut described = Vec::new();
    for layer in layers {
        let digest = Digest::of(layer).to_string();
        described.push(json!({"mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": digest, "size": layer.len()}));
        fetch.files.insert(format!("{base}/blobs/{digest}"), layer.clone());
    }
    let manifest = json!({"schemaVersion": 2, "config": {}, "layers": described}).to_string().into_bytes();
    let digest = Digest::of(&manifest);
    fetch.files.insert(format!("{base}/manifests/{digest}"), manifest.clone());
    fetch.files.insert(format!("{base}/manifests/{tag}"), manifest);
    digest
}
