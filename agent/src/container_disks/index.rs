//! What is kept: `/data/container-disks/index.json`.
//!
//! Why here: a file is complete and verified when it stands here, and otherwise it is rubbish. Route in: disks that were pulled,
//! uses. Route out: the disk for an image, or for a digest.

use crate::registry::Digest;
use crate::vms::guest::Format;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// A disk in the folder.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Kept {
    /// Digest of the manifest of its image.
    pub image: String,
    /// The path by which it was asked for; empty for the one file in `/disk`.
    pub path: String,
    /// Its file.
    pub file: String,
    /// Length of the file in bytes.
    pub length: u64,
    /// Bytes that a guest sees of it.
    pub bytes: u64,
    /// It is a qcow2 image; otherwise the bytes of a disk, or a boot file.
    pub qcow2: bool,
    /// It is a kernel or an initrd: nothing was checked of it, so no disk is made of it.
    #[serde(default)]
    pub boot: bool,
    /// When it was given to a VM last, in seconds since 1970.
    pub used: i64,
}

impl Kept {
    /// Its format.
    pub fn format(&self) -> Format {
        if self.qcow2 { Format::Qcow2 } else { Format::Raw }
    }
}

/// The index.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Index {
    /// All disks.
    pub disks: Vec<Kept>,
    /// Digest of the manifest that an image led to when its registry was asked last.
    pub images: BTreeMap<String, String>,
}

impl Index {
    /// The disk at `path` of the image with this manifest, or the boot file.
    pub fn of_digest(&self, digest: &Digest, path: Option<&str>, boot: bool) -> Option<&Kept> {
        let digest = digest.to_string();
        let path = path.unwrap_or_default();
        self.disks.iter().find(|kept| kept.image == digest && kept.path == path && kept.boot == boot)
    }

    /// The disk at `path` of `image`, or the boot file, as the registry last said.
    pub fn of_image(&self, image: &str, path: Option<&str>, boot: bool) -> Option<&Kept> {
        self.of_digest(&Digest::parse(self.images.get(image)?)?, path, boot)
    }

    /// `kept` is here, and `image` leads to it; a VM takes it at `now`.
    pub fn put(&mut self, image: &str, kept: Kept, now: i64) {
        self.images.insert(image.to_owned(), kept.image.clone());
        self.disks.retain(|other| other.file != kept.file);
        self.disks.push(Kept { used: now, ..kept });
        self.forget_images();
    }

    /// Keeps those for which `keep` holds.
    pub fn retain(&mut self, keep: impl Fn(&Kept) -> bool) {
        self.disks.retain(keep);
        self.forget_images();
    }

    /// Images by their names with the bytes that a guest sees, the one used last first.
    pub fn sizes(&self) -> Vec<(String, u64)> {
        let of = |(image, digest): (&String, &String)| {
            let disks = self.disks.iter().filter(|kept| kept.image == *digest && !kept.boot);
            disks.max_by_key(|kept| kept.bytes).map(|kept| (kept.used, image.clone(), kept.bytes))
        };
        let mut all: Vec<_> = self.images.iter().filter_map(of).collect();
        all.sort_by_key(|(used, ..)| std::cmp::Reverse(*used));
        all.into_iter().map(|(_, image, bytes)| (image, bytes)).collect()
    }

    fn forget_images(&mut self) {
        let here: BTreeSet<&String> = self.disks.iter().map(|kept| &kept.image).collect();
        self.images.retain(|_, digest| here.contains(digest));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(letter: &str, path: &str) -> Kept {
        let image = format!("sha256:{}", letter.repeat(64));
        Kept {
            file: format!("{letter}{}", path.len()),
            image,
            path: path.into(),
            bytes: 7,
            ..Kept::default()
        }
    }

    #[test]
    fn a_tag_leads_to_what_its_registry_said_last_and_a_disk_is_there_once() {
        let mut index = Index::default();
        index.put("quay.io/a:1", kept("a", ""), 1);
        index.put("quay.io/a:2", kept("a", ""), 2);
        assert_eq!((index.disks.len(), index.disks[0].used), (1, 2));
        index.put("quay.io/a:1", kept("b", ""), 3);
        assert_eq!(index.of_image("quay.io/a:1", None, false).unwrap().file, "b0");
        assert_eq!(index.of_image("quay.io/a:2", None, false).unwrap().file, "a0");
        assert_eq!(index.of_image("quay.io/a:2", Some("/x"), false), None, "another disk of the image");
        assert_eq!(index.of_image("quay.io/a:2", None, true), None, "a boot file is no disk");
        assert_eq!(index.sizes(), [("quay.io/a:1".to_owned(), 7), ("quay.io/a:2".to_owned(), 7)]);
        index.retain(|kept| kept.file != "a0");
        assert_eq!(index.images.keys().collect::<Vec<_>>(), ["quay.io/a:1"]);
    }
}
