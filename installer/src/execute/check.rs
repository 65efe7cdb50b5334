//! First pass over the medium: everything that will be written is compared with the manifest before anything is.
//!
//! Why twice: a medium that is damaged anywhere must leave the disk as it was. What is read here stays in the page
//! cache where memory allows, so the second pass seldom waits for the medium; it checks each frame again all the same.
//! What a server holds is fetched but once: small files into memory, of images the first frame alone, which tells a
//! wrong folder, a wrong length or a web page from the image before the disk is touched.
//! Route in: payloads and files of the plan. Route out: nothing, or which file is damaged.

use super::{Env, StepError, payload};
use crate::plan::{MediumFile, Partition, Payload};
use sha2::{Digest, Sha256};
use sheaf_host::disk::Disk;
use std::fs::File;
use std::io::Read;
use std::path::Path;

/// Bytes of one read.
const READ: usize = 1 << 20;

pub(super) fn medium(env: &Env<'_>, payloads: &[Payload], files: &[MediumFile]) -> Result<(), StepError> {
    let image = |payload: &Payload| match env.remote {
        Some(_) => payload.frames.first().map_or(0, |frame| frame.size),
        None => payload.size,
    };
    let total = payloads.iter().map(image).chain(files.iter().map(|file| file.size)).sum();
    env.progress.expect(total);
    for payload in payloads {
        payload::check(env, payload)?;
    }
    for file in files {
        self::file(env, file)?;
    }
    Ok(())
}

/// Where ext4 keeps its superblock, in bytes, and what of it is compared: the magic number and the UUID that the
/// installer gave it.
const SUPERBLOCK: u64 = 1024;
const MAGIC: (std::ops::Range<usize>, [u8; 2]) = (0x38..0x3a, [0x53, 0xef]);
const UUID: std::ops::Range<usize> = 0x68..0x78;

/// The data partition that stays holds the file system that the older installation made.
pub(super) fn data(disk: &dyn Disk, partition: &Partition) -> Result<(), StepError> {
    let mut superblock = vec![0; 1024];
    disk.read_at(partition.offset + SUPERBLOCK, &mut superblock)?;
    match superblock[MAGIC.0] == MAGIC.1 && superblock[UUID] == *partition.uuid.as_bytes() {
        true => Ok(()),
        false => Err(StepError::NoData { disk: disk.path().to_owned() }),
    }
}

fn file(env: &Env<'_>, file: &MediumFile) -> Result<(), StepError> {
    let read_error = |source| env.unreadable(&file.file, source);
    let damaged = |what: String| env.damaged(&file.file, what);
    let path = env.medium.join(&file.file);
    let advance = |bytes| env.progress.advance(bytes);
    let (length, hash) = match env.remote {
        Some(remote) => {
            remote.bring(&file.file, file.size, &path, advance).map_err(read_error)?;
            hash(&path, |_| ()).map_err(read_error)?
        }
        None => hash(&path, advance).map_err(read_error)?,
    };
    if length != file.size {
        return Err(damaged(format!("it has {length} bytes, {} are expected", file.size)));
    }
    if hash != file.sha256.to_lowercase() {
        return Err(damaged("it does not have the expected hash".into()));
    }
    Ok(())
}

/// Length and SHA-256 of a file.
pub(super) fn hash(path: &Path, mut advance: impl FnMut(u64)) -> std::io::Result<(u64, String)> {
    let mut file = File::open(path)?;
    let mut buffer = vec![0; READ];
    let mut hash = Sha256::new();
    let mut length = 0;
    loop {
        let read = file.read(&mut buffer)?;
        if read == 0 {
            return Ok((length, hex::encode(hash.finalize())));
        }
        hash.update(&buffer[..read]);
        length += read as u64;
        advance(read as u64);
    }
}
