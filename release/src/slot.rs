//! Fills the root partition of a slot: what is right already stays, what another slot holds is copied, the rest is fetched.
//!
//! Why here: an update that changes little moves little, and one that was interrupted is resumed by the same rule. Every
//! block is compared with the verified tree of the new root before it counts, wherever it came from.
//! Route in: the new root's [`Tree`] and [`Image`], the partition, the running root. Route out: a flushed partition, and how
//! much came from where; the caller verifies it by reading all of it again.

use crate::image::{Advance, Decoder, Image, ImageError, check_hash};
use crate::origin::Origin;
use crate::verity::{BLOCK, Tree};
use sheaf_config::manifest::Frame;
use sheaf_host::disk::{Buffer, Disk, DiskError};
use std::io::Read;

/// Blocks of one read of the running root.
const READ: u64 = 1024;

/// Where the blocks of a root came from, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Filled {
    /// They were in place.
    pub kept: u64,
    /// From the running root.
    pub copied: u64,
    /// Fetched: length of the frames on the wire.
    pub fetched: u64,
}

/// A root that blocks may be copied from.
pub struct Donor<'a> {
    /// Its partition.
    pub disk: &'a dyn Disk,
    /// How many blocks it has.
    pub blocks: u64,
}

/// The donor's blocks by the first bytes of their digests: 16 bytes each.
struct Index(Vec<(u64, u64)>);

impl Index {
    fn of(donor: &Donor<'_>, tree: &Tree) -> Result<Self, DiskError> {
        let mut entries = Vec::with_capacity(donor.blocks as usize);
        let mut buffer = Buffer::zeroed(READ as usize * BLOCK);
        let mut first = 0;
        while first < donor.blocks {
            let count = READ.min(donor.blocks - first);
            let piece = &mut buffer[..count as usize * BLOCK];
            donor.disk.read_at(first * BLOCK as u64, piece)?;
            entries
                .extend((first..).zip(piece.chunks(BLOCK)).map(|(at, block)| (key(&tree.digest(block)), at)));
            first += count;
        }
        entries.sort_unstable();
        entries.dedup_by_key(|(key, _)| *key);
        Ok(Self(entries))
    }

    fn find(&self, digest: &[u8]) -> Option<u64> {
        let key = key(digest);
        let at = self.0.binary_search_by_key(&key, |(key, _)| *key).ok()?;
        self.0.get(at).map(|(_, block)| *block)
    }
}

fn key(digest: &[u8]) -> u64 {
    digest.iter().take(8).fold(0, |key, byte| key << 8 | u64::from(*byte))
}

/// Makes the partition `disk` hold the root of `tree`, whose frames `image` describes.
pub fn fill(
    origin: &Origin<'_>,
    image: &Image<'_>,
    tree: &Tree,
    disk: &dyn Disk,
    donor: Option<&Donor<'_>>,
    advance: &Advance<'_>,
) -> Result<Filled, ImageError> {
    if image.raw_size.div_ceil(BLOCK as u64) != tree.blocks() {
        let what = format!("it has {} bytes, its tree is of {} blocks", image.raw_size, tree.blocks());
        return Err(ImageError::Differs { file: image.file.to_owned(), what });
    }
    let index = donor.map(|donor| Index::of(donor, tree)).transpose()?;
    let mut filled = Filled::default();
    let mut reader = Frames { origin, image, at: 0, open: None };
    let mut decoder = Decoder::of(image);
    let largest = image.frames.iter().map(|frame| frame.raw_size).max().unwrap_or(0) as usize;
    let mut buffer = Buffer::zeroed(largest.next_multiple_of(BLOCK));
    let (mut raw_offset, mut offset) = (0, 0);
    for (number, frame) in image.frames.iter().enumerate() {
        let piece = &mut buffer[..(frame.raw_size as usize).next_multiple_of(BLOCK)];
        let first = raw_offset / BLOCK as u64;
        disk.read_at(raw_offset, piece)?;
        match complete(piece, first, tree, donor, index.as_ref())? {
            Some(0) => filled.kept += frame.raw_size,
            Some(copied) => {
                disk.write_at(raw_offset, piece)?;
                filled.copied += copied;
                filled.kept += frame.raw_size.saturating_sub(copied);
            }
            None => {
                let bytes = reader.read(frame, offset)?;
                check_hash(image, number, frame, &bytes)?;
                let contents = decoder.decode(image, number, frame, &bytes)?;
                if let Some((at, _)) =
                    (first..).zip(contents.chunks(BLOCK)).find(|(at, block)| !tree.is(*at, block))
                {
                    let what = format!("block {at} of the root is not what its tree says");
                    return Err(ImageError::Differs { file: image.file.to_owned(), what });
                }
                disk.write_at(raw_offset, contents)?;
                filled.fetched += frame.size;
            }
        }
        advance(frame.raw_size);
        raw_offset += frame.raw_size;
        offset += frame.size;
    }
    disk.sync()?;
    Ok(filled)
}

/// Puts into `piece`, which holds what the partition has, the blocks of the donor that belong there; how many bytes, or
/// nothing when a block is neither here nor there.
fn complete(
    piece: &mut [u8],
    first: u64,
    tree: &Tree,
    donor: Option<&Donor<'_>>,
    index: Option<&Index>,
) -> Result<Option<u64>, DiskError> {
    let mut copied = 0;
    let mut candidate = Buffer::zeroed(BLOCK);
    for (at, block) in (first..).zip(piece.chunks_mut(BLOCK)) {
        if tree.is(at, block) {
            continue;
        }
        let found = index.and_then(|index| index.find(tree.leaf(at)));
        let (Some(found), Some(donor)) = (found, donor) else { return Ok(None) };
        donor.disk.read_at(found * BLOCK as u64, &mut candidate)?;
        if !tree.is(at, &candidate) {
            return Ok(None);
        }
        block.copy_from_slice(&candidate);
        copied += BLOCK as u64;
    }
    Ok(Some(copied))
}

/// Frames of a file: those that follow one another come by one request.
struct Frames<'o> {
    origin: &'o Origin<'o>,
    image: &'o Image<'o>,
    at: u64,
    open: Option<Box<dyn Read + 'o>>,
}

impl Frames<'_> {
    fn read(&mut self, frame: &Frame, offset: u64) -> Result<Vec<u8>, ImageError> {
        let fail = |source| self.image.unreadable(source);
        let mut reader = match self.open.take().filter(|_| self.at == offset) {
            Some(reader) => reader,
            None => self.origin.open(self.image.file, self.image.size, offset).map_err(fail)?,
        };
        let mut bytes = vec![0; frame.size as usize];
        reader.read_exact(&mut bytes).map_err(fail)?;
        (self.at, self.open) = (offset + frame.size, Some(reader));
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::remote::Remote;
    use crate::verity::testing::format;
    use sha2::{Digest as _, Sha256};
    use sheaf_config::manifest::Compressed;
    use sheaf_host::fakes::{FakeDisk, FakeFetch};
    use std::sync::atomic::{AtomicU64, Ordering};

    /// Bytes of a frame: 4 blocks.
    const FRAME: usize = 4 * BLOCK;

    struct Release {
        raw: Vec<u8>,
        root: Compressed,
        verity: FakeDisk,
        hash: String,
        fetch: FakeFetch,
    }

    /// 40 blocks, each of its own byte and none of zeros; those of `changed` of another.
    fn release(changed: &[usize]) -> Release {
        let byte = |block: usize| if changed.contains(&block) { 200 } else { block + 1 } as u8;
        let raw: Vec<u8> = (0..40).flat_map(|block| vec![byte(block); BLOCK]).collect();
        let packed: Vec<Vec<u8>> =
            raw.chunks(FRAME).map(|raw| zstd::bulk::compress(raw, 1).unwrap()).collect();
        let frames = packed.iter().map(|bytes| Frame {
            size: bytes.len() as u64,
            raw_size: FRAME as u64,
            sha256: hex::encode(Sha256::digest(bytes)),
        });
        let root = Compressed {
            file: "root.erofs.zst".into(),
            size: packed.iter().map(|bytes| bytes.len() as u64).sum(),
            raw_size: raw.len() as u64,
            raw_sha256: hex::encode(Sha256::digest(&raw)),
            frames: frames.collect(),
        };
        let (tree, hash) = format(&raw, b"of this release");
        let fetch = FakeFetch {
            files: [("http://r/root.erofs.zst".to_owned(), packed.concat())].into(),
            ..FakeFetch::default()
        };
        Release { raw, root, verity: FakeDisk::new("/dev/verity-b", 1 << 20).holding(0, &tree), hash, fetch }
    }

    fn filled(release: &Release, disk: &FakeDisk, donor: Option<&Donor<'_>>) -> Result<Filled, ImageError> {
        let tree = Tree::read(&release.verity, &release.hash).unwrap();
        let remote = Remote::new("http://r", &release.fetch);
        let done = AtomicU64::new(0);
        let advance = |bytes| {
            done.fetch_add(bytes, Ordering::Relaxed);
        };
        let filled = fill(&Origin::Server(&remote), &(&release.root).into(), &tree, disk, donor, &advance)?;
        tree.verify(disk, &|_| ()).unwrap();
        assert_eq!(done.into_inner(), release.raw.len() as u64);
        Ok(filled)
    }

    #[test]
    fn an_empty_slot_is_fetched_by_one_request() {
        let release = release(&[]);
        let disk = FakeDisk::new("/dev/root-b", 1 << 20);
        let filled = filled(&release, &disk, None).unwrap();
        assert_eq!(filled, Filled { fetched: release.root.size, ..Filled::default() });
        assert_eq!(release.fetch.asked.lock().unwrap().len(), 1);
    }

    #[test]
    fn only_frames_with_a_block_that_the_running_root_lacks_are_fetched() {
        let (old, new) = (release(&[]), release(&[5, 30]));
        let running = FakeDisk::new("/dev/root-a", 1 << 20).holding(0, &old.raw);
        let disk = FakeDisk::new("/dev/root-b", 1 << 20);
        let donor = Donor { disk: &running, blocks: 40 };
        let filled = filled(&new, &disk, Some(&donor)).unwrap();
        let wire = |frame: usize| new.root.frames[frame].size;
        assert_eq!(filled.fetched, wire(1) + wire(7));
        assert_eq!(filled.copied, 8 * FRAME as u64);
        assert_eq!(new.fetch.asked.lock().unwrap().len(), 2);
    }

    #[test]
    fn a_slot_that_was_cut_short_anywhere_is_resumed_with_what_is_there() {
        let release = release(&[]);
        for writes in 0..10 {
            let disk = FakeDisk::new("/dev/root-b", 1 << 20).fails_from_write(writes);
            let error = filled(&release, &disk, None).unwrap_err();
            assert!(matches!(error, ImageError::Disk(_)), "{error}");
            let mut left = vec![0; release.raw.len()];
            disk.read_at(0, &mut left).unwrap();
            let disk = FakeDisk::new("/dev/root-b", 1 << 20).holding(0, &left);
            assert_eq!(filled(&release, &disk, None).unwrap().kept, writes * FRAME as u64);
        }
    }

    #[test]
    fn a_frame_that_is_not_what_the_manifest_says_reaches_no_disk() {
        let mut release = release(&[]);
        release.fetch.files.values_mut().for_each(|file| file[9] ^= 1);
        let disk = FakeDisk::new("/dev/root-b", 1 << 20);
        let error = filled(&release, &disk, None).unwrap_err().to_string();
        assert!(error.contains("frame 1 of 10 does not have the hash in the manifest"), "{error}");
        assert_eq!(disk.writes(), []);
    }
}
