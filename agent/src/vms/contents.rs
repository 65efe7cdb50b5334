//! Makes the images of a VM's read-only disks from Secrets, ConfigMaps and texts.
//!
//! Why here: all is read before the first file is made, and each Secret stays in memory until it is in its image. Route in: a
//! [`Guest`], the API server. Route out: images by the names of their disks, for [`super::files`].

use super::api::Cluster;
use super::guest::{Files, Guest, Keys, Object, Seed, Source, Text};
use super::iso9660;
use super::seed::{self, Texts};
use anyhow::{Context as _, ensure};
use sheaf_api::ephemeral::IMAGE_BYTES;
use std::collections::BTreeMap;
use std::time::Duration;

/// Longest wait for an object that a start reads.
const READ_TIMEOUT: Duration = Duration::from_secs(30);

/// Images by the names of their disks.
pub type Images = BTreeMap<String, Vec<u8>>;

/// The images of `guest`.
pub async fn read<C: Cluster>(cluster: &C, guest: &Guest) -> anyhow::Result<Images> {
    let mut images = Images::new();
    for disk in &guest.disks {
        let (label, files) = match &disk.source {
            Source::Seed(seed) => {
                let texts = texts(cluster, guest, seed).await?;
                (seed::label(seed.source), seed::files(guest, seed, texts))
            }
            Source::Files(Files::Made { label, files }) => (label.as_str(), files.clone()),
            Source::Files(Files::Keys(keys)) => (keys.label.as_str(), of_keys(cluster, guest, keys).await?),
            _ => continue,
        };
        let image = iso9660::image(label, &files);
        // No more than what is set aside for it: every file takes a block, however short it is.
        ensure!(
            image.len() as u64 <= IMAGE_BYTES,
            "disk {}: its {} files need {} KiB, more than the {} KiB of such a disk; use fewer or smaller files",
            disk.name,
            files.len(),
            image.len() >> 10,
            IMAGE_BYTES >> 10
        );
        images.insert(disk.name.clone(), image);
    }
    Ok(images)
}

async fn of_keys<C: Cluster>(
    cluster: &C,
    guest: &Guest,
    keys: &Keys,
) -> anyhow::Result<BTreeMap<String, Vec<u8>>> {
    let namespace = &guest.id.namespace;
    let Some(files) = values(cluster, guest, &keys.of).await? else {
        ensure!(keys.optional, "{} does not exist in namespace {namespace}; create it", keys.of);
        return Ok(BTreeMap::new());
    };
    let is_there = |name: &&str| files.keys().any(|key| key.eq_ignore_ascii_case(name));
    ensure!(
        keys.needs.is_empty() || keys.needs.iter().any(is_there),
        "{} of namespace {namespace} has no key {}",
        keys.of,
        keys.needs.join(" or ")
    );
    Ok(files)
}

/// Keys and values of an object; nothing if it does not exist.
async fn values<C: Cluster>(
    cluster: &C,
    guest: &Guest,
    object: &Object,
) -> anyhow::Result<Option<BTreeMap<String, Vec<u8>>>> {
    let read = tokio::time::timeout(READ_TIMEOUT, cluster.values(&guest.id.namespace, object)).await;
    read.with_context(|| format!("{object}: no answer of the API server"))?
}

async fn texts<C: Cluster>(cluster: &C, guest: &Guest, seed: &Seed) -> anyhow::Result<Texts> {
    let read = async |text: &Option<Text>| match text {
        None => Ok(None),
        Some(Text::Plain(bytes)) => Ok(Some(bytes.clone())),
        Some(Text::Secret { name, keys }) => {
            let namespace = &guest.id.namespace;
            let values = values(cluster, guest, &Object::Secret(name.clone())).await?;
            let mut values =
                values.with_context(|| format!("Secret {name} does not exist in namespace {namespace}"))?;
            let value = keys.iter().find_map(|key| values.remove(*key));
            let missing =
                || format!("Secret {name} of namespace {namespace} has no key {}", keys.join(" or "));
            value.with_context(missing).map(Some)
        }
    };
    let mut keys = Vec::new();
    for name in &seed.keys {
        let values = values(cluster, guest, &Object::Secret(name.clone())).await?;
        let values = values.with_context(|| format!("Secret {name} does not exist; create it"))?;
        let texts = values.values().map(|value| String::from_utf8_lossy(value).trim().to_owned());
        keys.extend(texts.filter(|text| !text.is_empty()));
    }
    let (user_data, network_data) = (read(&seed.user_data).await?, read(&seed.network_data).await?);
    Ok(Texts { user_data, network_data, keys })
}
