//! Finds the disk of a container disk in its layers.
//!
//! Why here: KubeVirt's contract for container disks: the one file in `/disk`, or the file that `path` names. Layers lie on one
//! another: a file of a higher layer hides the same one of a lower layer, and so do whiteouts (OCI image specification,
//! "Representing Changes"). Each layer is read once, as it comes; nothing of it but the disk is written. Route in: layers from the
//! highest to the lowest, unverified ones never. Route out: [`Search::found`], the disk in what `keep` made of it.

use crate::volumes::fill::FillError;
use crate::volumes::fill::image::{Peeked, unpack};
use std::collections::BTreeSet;
use std::io::{self, Read};
use tar::{Archive, EntryType};

/// Folder in which the disk lies unless `path` names it.
const FOLDER: &str = "disk";
/// Begins the name of what hides a file of lower layers.
const WHITEOUT: &str = ".wh.";
/// Hides everything that lower layers have in its folder.
const OPAQUE: &str = ".wh..wh..opq";

/// Why there is no disk.
#[derive(Debug, thiserror::Error)]
pub enum LayerError {
    /// A layer cannot be unpacked.
    #[error("a layer cannot be unpacked")]
    Unpack(#[from] FillError),
    /// A layer is no archive.
    #[error("a layer cannot be read as a tar archive")]
    Archive(#[source] io::Error),
    /// There is no file where it should be.
    #[error("it has no file {0}; is it a container disk?")]
    Missing(String),
    /// There are several.
    #[error("it has more than one file in /disk, {0} and {1}; name one with containerDisk.path")]
    Several(String, String),
    /// It is no regular file.
    #[error("/{0} is not a regular file; a container disk holds the disk itself, not a link to it")]
    NoFile(String),
    /// What was found cannot be kept.
    #[error(transparent)]
    Keep(#[from] io::Error),
}

/// Where a disk is looked for, and what was seen so far.
#[derive(Debug)]
pub struct Search {
    /// The file without its leading slash, or the folder.
    wanted: String,
    is_file: bool,
    /// What lower layers cannot show any more.
    hidden: BTreeSet<String>,
    is_opaque: bool,
    /// The path of the disk.
    pub found: Option<String>,
}

impl Search {
    /// For the file `path`, or the one file in `/disk`.
    pub fn new(path: Option<&str>) -> Self {
        let wanted = path.map_or_else(|| FOLDER.to_owned(), plain);
        Self { wanted, is_file: path.is_some(), hidden: BTreeSet::new(), is_opaque: false, found: None }
    }

    /// Whether lower layers can change what was found.
    pub fn is_over(&self) -> bool {
        self.is_opaque || self.is_file && (self.found.is_some() || self.hidden.contains(&self.wanted))
    }

    /// The disk that was found in all layers.
    pub fn end(self) -> Result<String, LayerError> {
        let place = if self.is_file { format!("/{}", self.wanted) } else { format!("in /{}", self.wanted) };
        self.found.ok_or(LayerError::Missing(place))
    }

    /// Reads the next lower layer; gives the disk to `keep` when it is there.
    pub fn layer(
        &mut self,
        packed: impl Read,
        keep: &mut dyn FnMut(&mut dyn Read) -> io::Result<()>,
    ) -> Result<(), LayerError> {
        let mut packed = Peeked::new(packed)?;
        let mut archive = Archive::new(unpack(&mut packed)?);
        let (mut hidden, mut is_opaque) = (BTreeSet::new(), false);
        for entry in archive.entries().map_err(LayerError::Archive)? {
            let mut entry = entry.map_err(LayerError::Archive)?;
            let path = plain(&String::from_utf8_lossy(&entry.path_bytes()));
            let (folder, name) = path.rsplit_once('/').unwrap_or(("", &path));
            if name == OPAQUE {
                is_opaque |= is_at_or_above(folder, &self.wanted);
                continue;
            }
            if let Some(name) = name.strip_prefix(WHITEOUT) {
                let gone = if folder.is_empty() { name.to_owned() } else { format!("{folder}/{name}") };
                is_opaque |= is_at_or_above(&gone, &self.wanted) && !(self.is_file && gone == self.wanted);
                hidden.insert(gone);
                continue;
            }
            let is_candidate = if self.is_file { path == self.wanted } else { folder == self.wanted };
            if !is_candidate || self.hidden.contains(&path) {
                continue;
            }
            match entry.header().entry_type() {
                EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => {}
                EntryType::Directory if !self.is_file => continue,
                _ => return Err(LayerError::NoFile(path)),
            }
            if let Some(found) = self.found.as_ref().filter(|found| **found != path) {
                return Err(LayerError::Several(found.clone(), path));
            }
            keep(&mut entry)?;
            hidden.insert(path.clone());
            self.found = Some(path);
        }
        self.hidden.append(&mut hidden);
        self.is_opaque |= is_opaque;
        Ok(())
    }
}

/// Whether `folder` is the wanted place or one of the folders around it.
fn is_at_or_above(folder: &str, wanted: &str) -> bool {
    wanted.strip_prefix(folder).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        && !folder.is_empty()
}

/// A path in an archive, or of a manifest, without slashes at its ends and without `.`.
fn plain(path: &str) -> String {
    path.split('/').filter(|part| !part.is_empty() && *part != ".").collect::<Vec<_>>().join("/")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::testing::{gzip, tar, tar_of};

    /// What a search through `layers`, the highest first, finds and keeps.
    fn search(path: Option<&str>, layers: &[Vec<u8>]) -> Result<(String, Vec<u8>), LayerError> {
        let (mut search, mut kept) = (Search::new(path), Vec::new());
        for layer in layers {
            if search.is_over() {
                break;
            }
            search.layer(layer.as_slice(), &mut |disk| {
                kept.clear();
                disk.read_to_end(&mut kept).map(drop)
            })?;
        }
        Ok((search.end()?, kept))
    }

    fn said(path: Option<&str>, layers: &[Vec<u8>]) -> String {
        search(path, layers).unwrap_err().to_string()
    }

    #[test]
    fn the_one_file_in_the_folder_is_the_disk_however_its_layer_is_packed_and_named() {
        let disk = tar(&[("etc/passwd", b"x"), ("./disk/", b""), ("./disk/a.qcow2", b"disk")]);
        let zstd = zstd::encode_all(disk.as_slice(), 1).unwrap();
        for layer in [gzip(&disk), zstd, disk] {
            let found = search(None, &[tar(&[("bin/sh", b"")]), layer, tar(&[])]).unwrap();
            assert_eq!(found, ("disk/a.qcow2".to_owned(), b"disk".to_vec()));
        }
    }

    #[test]
    fn a_higher_layer_hides_what_lower_ones_have() {
        let low = tar(&[("disk/a.img", b"old"), ("disk/b.img", b"other")]);
        let high = tar(&[("disk/a.img", b"new"), ("disk/.wh.b.img", b"")]);
        assert_eq!(search(None, &[high, low.clone()]).unwrap().1, b"new");
        let opaque = tar(&[("disk/.wh..wh..opq", b""), ("disk/c.img", b"only")]);
        assert_eq!(search(None, &[opaque, low.clone()]).unwrap().1, b"only");
        let gone = tar(&[(".wh.disk", b"")]);
        assert_eq!(said(None, &[gone, low.clone()]), "it has no file in /disk; is it a container disk?");
        let one = tar(&[("disk/.wh.b.img", b"")]);
        assert_eq!(
            said(Some("/disk/b.img"), &[one, low]),
            "it has no file /disk/b.img; is it a container disk?"
        );
    }

    #[test]
    fn a_path_names_one_of_several_files_anywhere() {
        let layer = tar(&[("disk/a.img", b"a"), ("disk/b.img", b"b"), ("opt/c.img", b"c")]);
        assert_eq!(search(Some("/disk/b.img"), std::slice::from_ref(&layer)).unwrap().1, b"b");
        assert_eq!(search(Some("opt//c.img"), std::slice::from_ref(&layer)).unwrap().1, b"c");
        assert_eq!(
            said(None, &[layer]),
            "it has more than one file in /disk, disk/a.img and disk/b.img; name one with containerDisk.path"
        );
    }

    #[test]
    fn links_and_what_is_no_archive_are_refused() {
        let link = tar_of(&[("disk/a.img", EntryType::Symlink, b"")]);
        assert!(said(None, &[link]).starts_with("/disk/a.img is not a regular file"));
        assert!(search(None, &[b"nonsense".repeat(200)]).is_err());
        assert!(search(None, &[b"\x1f\x8b\x08nonsense".to_vec()]).is_err());
        assert!(search(None, &[Vec::new()]).is_err());
    }
}
