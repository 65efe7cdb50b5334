//! Carries steps out on the disk: one arm for each, no decisions.
//!
//! Route in: steps, the EFI system partition, the partitions of slots, a release whose manifest was verified. Route out: nothing,
//! or the step that failed; each may be done again.

use super::Partitions;
use super::plan::Step;
use sha2::{Digest as _, Sha256};
use sheaf_config::grub;
use sheaf_config::manifest::Manifest;
use sheaf_host::disk::{Disk, DiskError, Hold};
use sheaf_host::esp::{BootFiles, EspError};
use sheaf_release::boot::{self, ENVIRONMENT, Slot, UKIS};
use sheaf_release::image::{self, ImageError};
use sheaf_release::origin::Origin;
use sheaf_release::slot::fill;
use sheaf_release::verity::{Tree, VerityError};
use std::io::{self, Read};
use std::path::Path;

/// GRUB's variables lie in the first sector of their file.
const SECTOR: usize = 512;
/// Bytes of one read.
const READ: usize = 1 << 20;

/// A step that failed.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// The EFI system partition.
    #[error(transparent)]
    Esp(#[from] EspError),
    /// A partition of a slot.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// An image.
    #[error(transparent)]
    Image(#[from] ImageError),
    /// What was written is not the release.
    #[error(transparent)]
    Verity(#[from] VerityError),
    /// The UKI cannot be had.
    #[error("{file} of the release cannot be read")]
    Uki {
        /// Its name.
        file: String,
        /// Why not.
        source: io::Error,
    },
    /// A file is another one than was written.
    #[error("{0} differs from what was written when it is read back; the boot disk may be failing")]
    ReadBack(String),
    /// A bug.
    #[error("a step needs a release, and none was chosen (bug in sheaf-installer)")]
    NoRelease,
}

/// A release: where its files are, and its manifest, which was verified.
pub struct Release<'r> {
    /// Its files.
    pub origin: &'r Origin<'r>,
    /// What they are.
    pub manifest: &'r Manifest,
}

/// Opens the device at a path for writing.
pub type Open = dyn Fn(&Path) -> Result<Box<dyn Disk>, DiskError>;

/// What steps are applied with.
pub struct Env<'e> {
    /// The EFI system partition.
    pub files: &'e dyn BootFiles,
    /// Opens the partition at a path.
    pub open: &'e Open,
    /// Where partitions are.
    pub partitions: &'e Partitions,
    /// What is installed, if something is.
    pub release: Option<Release<'e>>,
    /// The node's own kernel arguments.
    pub arguments: &'e [String],
    /// Called with the bytes that were done since the last call.
    pub advance: &'e (dyn Fn(u64) + Sync),
}

/// Carries `step` out.
pub fn apply(env: &Env<'_>, step: &Step) -> Result<(), ApplyError> {
    let release = || env.release.as_ref().ok_or(ApplyError::NoRelease);
    match step {
        Step::Environment(variables) => set_environment(env.files, variables),
        Step::Rename { from, to } => {
            Ok(env.files.rename(&format!("{UKIS}/{from}"), &format!("{UKIS}/{to}"))?)
        }
        Step::Remove(name) => Ok(env.files.remove(&format!("{UKIS}/{name}"))?),
        Step::WriteSlot(slot) => write_slot(env, release()?, *slot),
        Step::WriteEntry(slot) => {
            let Manifest { node_uki, version, .. } = release()?.manifest;
            let text = boot::entry(node_uki, version, env.arguments);
            env.files.replace(&slot.entry(), &mut text.as_bytes())?;
            match env.files.read(&slot.entry())?.as_deref() == Some(text.as_bytes()) {
                true => Ok(()),
                false => Err(ApplyError::ReadBack(slot.entry())),
            }
        }
        Step::WriteUki(name) => write_uki(env, release()?, name),
    }
}

fn write_slot(env: &Env<'_>, release: &Release<'_>, slot: Slot) -> Result<(), ApplyError> {
    let Release { origin, manifest } = release;
    let (root, verity) = env.partitions.slot(slot);
    let (root, verity) = ((env.open)(&root)?, (env.open)(&verity)?);
    root.hold(Hold::Alone)?;
    verity.hold(Hold::Alone)?;
    image::write(origin, &(&manifest.verity).into(), &*verity, 0, env.advance)?;
    let tree = Tree::read(&*verity, &manifest.root_hash)?;
    // Blocks that are right already stay.
    fill(origin, &(&manifest.root).into(), &tree, &*root, None, env.advance)?;
    Ok(Tree::read(&*verity, &manifest.root_hash)?.verify(&*root, env.advance)?)
}

fn write_uki(env: &Env<'_>, release: &Release<'_>, name: &str) -> Result<(), ApplyError> {
    let uki = &release.manifest.node_uki;
    let file = format!("{UKIS}/{name}");
    let unreadable = |source| ApplyError::Uki { file: uki.file.clone(), source };
    let mut source = release.origin.open(&uki.file, uki.size, 0).map_err(unreadable)?;
    env.files.replace(&file, &mut *source)?;
    let mut hash = Sha256::new();
    if let Some(mut written) = env.files.open(&file)? {
        let mut buffer = vec![0; READ];
        loop {
            match written.read(&mut buffer).map_err(unreadable)? {
                0 => break,
                read => hash.update(&buffer[..read]),
            }
        }
    }
    if hex::encode(hash.finalize()) == uki.sha256.to_lowercase() {
        return Ok(());
    }
    // It must not be started.
    env.files.remove(&file)?;
    Err(ApplyError::ReadBack(file))
}

/// In place, as far as GRUB's file is there: GRUB does not look for one that moved.
fn set_environment(files: &dyn BootFiles, variables: &[(String, String)]) -> Result<(), ApplyError> {
    let variables: Vec<_> = variables.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let text = grub::environment(&variables).into_bytes();
    match files.read(ENVIRONMENT)?.is_some_and(|now| now.len() == text.len()) {
        true => files.overwrite(ENVIRONMENT, &text[..SECTOR])?,
        false => files.replace(ENVIRONMENT, &mut &text[..])?,
    }
    match files.read(ENVIRONMENT)?.as_deref() == Some(&text[..]) {
        true => Ok(()),
        false => Err(ApplyError::ReadBack(ENVIRONMENT.to_owned())),
    }
}
