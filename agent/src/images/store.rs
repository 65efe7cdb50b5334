//! The directory of images: one image, brought from whatever is there to verified and complete.
//!
//! Blocks: run it off the agent's thread. Route in: an [`Image`] and what is remembered of its file.
//! Route out: [`Outcome`], or [`ImageError`] that says what to do.

use super::fetch::{Received, receive};
use super::known::VerifiedFile;
use crate::channels::Shutdown;
use sha2::{Digest, Sha256};
use sheaf_config::node::Image;
use sheaf_host::fetch::{Fetch, FetchError};
use std::collections::BTreeMap;
use std::fs::{self, File, Permissions};
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Bytes read at once: large enough that a system call does not count, small beside the agent's memory.
pub(super) const PIECE: usize = 256 << 10;
/// Name ending of what is not complete.
const PART: &str = ".part";
/// Everyone reads an image, nobody writes it: overlays of VMs depend on every byte.
const READ_ONLY: u32 = 0o444;

/// Tells how far it is: phase, bytes, bytes in all.
pub(super) type Progress<'a> = &'a dyn Fn(&str, u64, Option<u64>);

/// How a try ended well.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// The image is there.
    Present(VerifiedFile),
    /// The agent ends; the next one resumes.
    Interrupted,
}

/// Why an image is not there.
#[derive(Debug, thiserror::Error)]
pub(super) enum ImageError {
    /// The file that is there is another.
    #[error(
        "{path} has SHA-256 {found}, node.toml says {wanted}; correct sha256, or give the new image a new name"
    )]
    OtherFile { path: String, found: String, wanted: String },
    /// The server gave another file.
    #[error("{url} gave a file of SHA-256 {found}, node.toml says {wanted}; correct url or sha256")]
    OtherDownload { url: String, found: String, wanted: String },
    /// The installer should have put it there.
    #[error(
        "{path} is not there, and its source {url} was the install medium; put the file there, or give an https URL"
    )]
    NotFromMedium { path: String, url: String },
    /// The server.
    #[error("fetching it failed; the next try resumes where it broke off")]
    Fetch(#[from] FetchError),
    /// The connection broke.
    #[error("{url}: the connection broke after {bytes} bytes; the next try resumes there")]
    Broken { url: String, bytes: u64, source: io::Error },
    /// The disk.
    #[error("{path} cannot be {verb}; is the data partition full, read-only or damaged?")]
    Disk { path: String, verb: &'static str, source: io::Error },
}

impl ImageError {
    /// Whether another try can help while node.toml and the server's file stay as they are.
    pub(super) fn is_passing(&self) -> bool {
        match self {
            // A link comes up, a server is repaired, space is freed, the file is put there.
            Self::Fetch(_) | Self::Broken { .. } | Self::Disk { .. } | Self::NotFromMedium { .. } => true,
            // These bytes are complete and wrong.
            Self::OtherFile { .. } | Self::OtherDownload { .. } => false,
        }
    }
}

pub(super) fn disk(path: &Path, verb: &'static str) -> impl FnOnce(io::Error) -> ImageError {
    let path = path.display().to_string();
    move |source| ImageError::Disk { path, verb, source }
}

/// The directory.
pub(super) struct Store {
    /// `/data/images`.
    pub images: PathBuf,
    /// Where files come from.
    pub source: Arc<dyn Fetch>,
    /// Ends a long work.
    pub end: Shutdown,
}

impl Store {
    /// Makes `image` present.
    pub(super) fn ensure(
        &self,
        image: &Image,
        remembered: Option<&VerifiedFile>,
        progress: Progress<'_>,
    ) -> Result<Outcome, ImageError> {
        let path = self.images.join(&image.name);
        if path.exists() {
            return self.verify(image, &path, remembered, progress);
        }
        if image.url.starts_with("medium:") {
            return Err(ImageError::NotFromMedium {
                path: path.display().to_string(),
                url: image.url.clone(),
            });
        }
        fs::create_dir_all(&self.images).map_err(disk(&self.images, "made"))?;
        let part = self.images.join(format!("{}{PART}", image.name));
        let found = loop {
            let received = receive(self, image, &part, progress)?;
            let Some(Received { sha256, resumed }) = received else { return Ok(Outcome::Interrupted) };
            if sha256 == image.sha256 {
                break sha256;
            }
            // Nothing of it can be used. What was all sent now is another file; what was here before may be damaged.
            fs::remove_file(&part).map_err(disk(&part, "removed"))?;
            if !resumed {
                let (url, wanted) = (image.url.clone(), image.sha256.clone());
                return Err(ImageError::OtherDownload { url, found: sha256, wanted });
            }
            tracing::warn!(
                image = image.name,
                "what an earlier try had fetched is damaged: all of it is fetched again"
            );
        };
        let file = File::open(&part).map_err(disk(&part, "opened"))?;
        file.set_permissions(Permissions::from_mode(READ_ONLY)).map_err(disk(&part, "made read-only"))?;
        file.sync_all().map_err(disk(&part, "written"))?;
        fs::rename(&part, &path).map_err(disk(&path, "named"))?;
        File::open(&self.images).and_then(|dir| dir.sync_all()).map_err(disk(&self.images, "written"))?;
        VerifiedFile::of(&path, &found).map(Outcome::Present).map_err(disk(&path, "read"))
    }

    /// Sees to it that the file at `path` is `image`, reading it only when nothing is known of it.
    fn verify(
        &self,
        image: &Image,
        path: &Path,
        remembered: Option<&VerifiedFile>,
        progress: Progress<'_>,
    ) -> Result<Outcome, ImageError> {
        let other = |found: String| ImageError::OtherFile {
            path: path.display().to_string(),
            found,
            wanted: image.sha256.clone(),
        };
        if let Some(remembered) = remembered {
            let now = VerifiedFile::of(path, &remembered.sha256).map_err(disk(path, "read"))?;
            if now == *remembered && now.sha256 == image.sha256 {
                return Ok(Outcome::Present(now));
            }
            if now == *remembered {
                return Err(other(now.sha256));
            }
        }
        let mut hash = Sha256::new();
        let mut file = File::open(path).map_err(disk(path, "opened"))?;
        let total = file.metadata().map_err(disk(path, "read"))?.len();
        let show = |bytes| progress("verifying", bytes, Some(total));
        if !self.hash(&mut file, &mut hash, &show).map_err(disk(path, "read"))? {
            return Ok(Outcome::Interrupted);
        }
        let found = digits(hash);
        if found != image.sha256 {
            return Err(other(found));
        }
        VerifiedFile::of(path, &found).map(Outcome::Present).map_err(disk(path, "read"))
    }

    /// Hashes the rest of `file`; false when the agent ends before.
    pub(super) fn hash(&self, file: &mut File, hash: &mut Sha256, show: &dyn Fn(u64)) -> io::Result<bool> {
        let mut piece = vec![0; PIECE];
        let mut steps = Steps::default();
        let mut bytes = 0;
        loop {
            if self.end.is_requested() {
                return Ok(false);
            }
            match file.read(&mut piece)? {
                0 => return Ok(true),
                read => {
                    hash.update(&piece[..read]);
                    bytes += read as u64;
                    steps.at(bytes, show);
                }
            }
        }
    }

    /// Files that the config does not list, with their lengths. They are kept: a VM's disk may stand on one.
    pub(super) fn unlisted(&self, wanted: &[Image]) -> BTreeMap<String, u64> {
        let entries = fs::read_dir(&self.images).into_iter().flatten().flatten();
        let files = entries.filter_map(|entry| {
            let name = entry.file_name().into_string().ok()?;
            let is_listed = wanted.iter().any(|image| image.name == name.strip_suffix(PART).unwrap_or(&name));
            let facts = entry.metadata().ok().filter(|facts| facts.is_file() && !is_listed)?;
            Some((name, facts.len()))
        });
        files.collect()
    }
}

/// Shows progress now and then: a status that is written for every piece would keep the disk busy.
#[derive(Default)]
pub(super) struct Steps(u64);

/// Bytes between two steps of progress: about a second of a gigabit link.
const STEP: u64 = 64 << 20;

impl Steps {
    pub(super) fn at(&mut self, bytes: u64, show: &dyn Fn(u64)) {
        if bytes / STEP != self.0 {
            self.0 = bytes / STEP;
            show(bytes);
        }
    }
}

pub(super) fn digits(hash: Sha256) -> String {
    hex::encode(hash.finalize())
}
