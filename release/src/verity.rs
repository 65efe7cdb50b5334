//! The hash tree of a root (dm-verity, format 1): read from a slot, verified up to the root hash, asked for blocks.
//!
//! Why here: its leaves name every block of 4 KiB of a root. With them a slot is verified, a copy that was interrupted is
//! resumed, and blocks that the node already has are not fetched. Route in: a disk with the tree, the root hash of a
//! signed manifest. Route out: [`Tree`], whose every digest the root hash vouches for. As the kernel's
//! Documentation/admin-guide/device-mapper/verity.rst has it.

use sha2::{Digest as _, Sha256};
use sheaf_host::disk::{Buffer, Disk, DiskError};
use std::path::PathBuf;

/// Bytes of a block, of data and of hashes.
pub const BLOCK: usize = 4096;
/// Bytes of a digest.
const DIGEST: usize = 32;
/// Digests in a block.
const DIGESTS: u64 = (BLOCK / DIGEST) as u64;
/// How a superblock begins: its name, version 1, hash type 1.
const MAGIC: [u8; 16] = *b"verity\0\0\x01\0\0\0\x01\0\0\0";

/// A tree that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum VerityError {
    /// There is none, or one of another kind.
    #[error("{}: holds no dm-verity tree of SHA-256 over blocks of 4096 bytes ({what})", .disk.display())]
    NotATree {
        /// The disk.
        disk: PathBuf,
        /// What differs.
        what: &'static str,
    },
    /// A block of it is not what the root hash vouches for.
    #[error("{}: block {block} of its dm-verity tree does not have the hash that the root hash vouches for", .disk.display())]
    Tree {
        /// The disk.
        disk: PathBuf,
        /// Its number on the disk.
        block: u64,
    },
    /// A block of the data is not what the tree says.
    #[error("{}: block {block} of the root differs from its dm-verity tree", .disk.display())]
    Data {
        /// The disk.
        disk: PathBuf,
        /// Its number.
        block: u64,
    },
    /// The disk failed.
    #[error(transparent)]
    Disk(#[from] DiskError),
}

/// A verified tree; its leaves are in memory, 32 bytes for each block of the root.
pub struct Tree {
    salt: Vec<u8>,
    blocks: u64,
    leaves: Vec<u8>,
}

/// Number of data blocks that the superblock of `disk` names, and its salt.
fn superblock(disk: &dyn Disk) -> Result<(u64, Vec<u8>), VerityError> {
    let wrong = |what| VerityError::NotATree { disk: disk.path().to_owned(), what };
    let mut block = Buffer::zeroed(BLOCK);
    disk.read_at(0, &mut block)?;
    if block[..16] != MAGIC {
        return Err(wrong("it begins otherwise"));
    }
    let number = |at: usize, len: usize| {
        block[at..at + len].iter().rev().fold(0_u64, |number, byte| number << 8 | u64::from(*byte))
    };
    if !block[32..64].starts_with(b"sha256\0") || number(64, 4) != 4096 || number(68, 4) != 4096 {
        return Err(wrong("it has another algorithm or size of blocks"));
    }
    let (blocks, salt) = (number(72, 8), number(80, 2) as usize);
    let salt = block.get(88..88 + salt.min(257)).filter(|salt| salt.len() <= 256);
    Ok((blocks, salt.ok_or_else(|| wrong("its salt is too long"))?.to_vec()))
}

/// How many blocks the root has whose tree is on `disk`; nothing is verified.
pub fn blocks(disk: &dyn Disk) -> Result<u64, VerityError> {
    Ok(superblock(disk)?.0)
}

impl Tree {
    /// Reads the tree on `disk` and verifies it against `root_hash`, hex.
    pub fn read(disk: &dyn Disk, root_hash: &str) -> Result<Self, VerityError> {
        let (blocks, salt) = superblock(disk)?;
        // From the leaves up to the single block on top.
        let mut levels = vec![blocks.div_ceil(DIGESTS)];
        while let Some(below) = levels.last().copied().filter(|below| *below > 1) {
            levels.push(below.div_ceil(DIGESTS));
        }
        if blocks == 0
            || levels.iter().sum::<u64>().saturating_add(1).saturating_mul(BLOCK as u64) > disk.size()
        {
            return Err(VerityError::NotATree {
                disk: disk.path().to_owned(),
                what: "it does not fit its partition",
            });
        }
        let mut above = hex::decode(root_hash).unwrap_or_default();
        let mut at = 1;
        for count in levels.iter().rev() {
            let mut level = Vec::with_capacity(*count as usize * BLOCK);
            let mut block = Buffer::zeroed(BLOCK);
            for (index, expected) in (0..*count).zip(above.chunks(DIGEST)) {
                disk.read_at((at + index) * BLOCK as u64, &mut block)?;
                if digest(&salt, &block)[..] != *expected {
                    return Err(VerityError::Tree { disk: disk.path().to_owned(), block: at + index });
                }
                level.extend_from_slice(&block);
            }
            if level.len() != *count as usize * BLOCK {
                return Err(VerityError::Tree { disk: disk.path().to_owned(), block: at });
            }
            at += count;
            above = level;
        }
        above.truncate(blocks as usize * DIGEST);
        Ok(Self { salt, blocks, leaves: above })
    }

    /// How many blocks the root has.
    pub fn blocks(&self) -> u64 {
        self.blocks
    }

    /// Digest of a block, with the tree's salt.
    pub fn digest(&self, block: &[u8]) -> [u8; DIGEST] {
        digest(&self.salt, block)
    }

    /// Digest that block `index` must have.
    pub fn leaf(&self, index: u64) -> &[u8] {
        let at = (index as usize).saturating_mul(DIGEST);
        self.leaves.get(at..at.saturating_add(DIGEST)).unwrap_or_default()
    }

    /// Whether `block` is block `index` of the root.
    pub fn is(&self, index: u64, block: &[u8]) -> bool {
        self.digest(block)[..] == *self.leaf(index)
    }

    /// Reads the whole root on `disk` and compares each block; `advance` is called with bytes read.
    pub fn verify(&self, disk: &dyn Disk, advance: &dyn Fn(u64)) -> Result<(), VerityError> {
        const READ: u64 = 1024; // blocks of one read, 4 MiB
        let mut buffer = Buffer::zeroed(READ as usize * BLOCK);
        let mut first = 0;
        while first < self.blocks {
            let count = READ.min(self.blocks - first);
            let piece = &mut buffer[..count as usize * BLOCK];
            disk.read_at(first * BLOCK as u64, piece)?;
            for (index, block) in (first..).zip(piece.chunks(BLOCK)) {
                if !self.is(index, block) {
                    return Err(VerityError::Data { disk: disk.path().to_owned(), block: index });
                }
            }
            advance(piece.len() as u64);
            first += count;
        }
        Ok(())
    }
}

fn digest(salt: &[u8], block: &[u8]) -> [u8; DIGEST] {
    Sha256::new().chain_update(salt).chain_update(block).finalize().into()
}

/// Trees of tests.
#[doc(hidden)]
pub mod testing {
    use super::{BLOCK, DIGEST, DIGESTS, MAGIC, digest};

    /// A tree over `root`, whose length is a multiple of a block, and its root hash: what `veritysetup format` makes.
    pub fn format(root: &[u8], salt: &[u8]) -> (Vec<u8>, String) {
        let mut superblock = vec![0; BLOCK];
        superblock[..16].copy_from_slice(&MAGIC);
        superblock[32..38].copy_from_slice(b"sha256");
        superblock[64..68].copy_from_slice(&(BLOCK as u32).to_le_bytes());
        superblock[68..72].copy_from_slice(&(BLOCK as u32).to_le_bytes());
        superblock[72..80].copy_from_slice(&((root.len() / BLOCK) as u64).to_le_bytes());
        superblock[80..82].copy_from_slice(&(salt.len() as u16).to_le_bytes());
        superblock[88..88 + salt.len()].copy_from_slice(salt);
        let mut levels: Vec<Vec<u8>> = Vec::new();
        let mut below = root.to_vec();
        loop {
            let mut level: Vec<u8> = below.chunks(BLOCK).flat_map(|block| digest(salt, block)).collect();
            level.resize(level.len().next_multiple_of(DIGEST * DIGESTS as usize), 0);
            below.clone_from(&level);
            levels.push(level);
            if below.len() == BLOCK {
                break;
            }
        }
        let tree = superblock.into_iter().chain(levels.into_iter().rev().flatten()).collect();
        (tree, hex::encode(digest(salt, &below)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sheaf_host::fakes::FakeDisk;

    fn root(blocks: usize) -> Vec<u8> {
        (0..blocks * BLOCK).map(|at| (at / BLOCK * 31 + at % 251) as u8).collect()
    }

    fn tree(blocks: usize) -> (FakeDisk, FakeDisk, String) {
        let (tree, hash) = testing::format(&root(blocks), b"salt");
        let disk = |name: &str, bytes: &[u8]| FakeDisk::new(name, 64 << 20).holding(0, bytes);
        (disk("/dev/verity-b", &tree), disk("/dev/root-b", &root(blocks)), hash)
    }

    #[test]
    fn a_tree_of_two_levels_vouches_for_every_block_of_its_root() {
        let (verity, root, hash) = tree(300);
        let tree = Tree::read(&verity, &hash).unwrap();
        assert_eq!(tree.blocks(), 300);
        tree.verify(&root, &|_| ()).unwrap();
        let root = root.holding(299 * BLOCK as u64 + 5, &[0xee]);
        let error = tree.verify(&root, &|_| ()).unwrap_err().to_string();
        assert_eq!(error, "/dev/root-b: block 299 of the root differs from its dm-verity tree");
    }

    #[test]
    fn a_changed_hash_anywhere_in_the_tree_is_found() {
        for place in [BLOCK + 3, 2 * BLOCK + 40, 3 * BLOCK + 40] {
            let (verity, _, hash) = tree(300);
            let verity = verity.holding(place as u64, &[1]);
            assert!(matches!(Tree::read(&verity, &hash), Err(VerityError::Tree { .. })), "{place}");
        }
        let (verity, _, hash) = tree(300);
        assert!(matches!(Tree::read(&verity, &hash.replace('a', "b")), Err(VerityError::Tree { .. })));
        let empty = FakeDisk::new("/dev/verity-b", 1 << 20);
        assert!(matches!(Tree::read(&empty, &hash), Err(VerityError::NotATree { .. })));
    }
}
