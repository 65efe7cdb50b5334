//! Blocks known by their content, so that comparing them costs nothing the second time.
//!
//! Why here: each state is compared with releases of some hundred MB. Data in a log never changes, so what was hashed
//! once by its place there need not be read again. Route in: a disk, sectors of it. Route out: a [`Digest`].

use crate::disk::{Disk, Place, SECTOR};
use crate::log::LogError;
use sha2::{Digest as _, Sha256};
use std::cell::RefCell;
use std::collections::HashMap;

/// The first half of a SHA-256: two blocks that differ by chance are not to be expected.
pub type Digest = u128;

/// Digest of `bytes`.
pub fn digest(bytes: &[u8]) -> Digest {
    Sha256::digest(bytes).iter().take(16).fold(0, |digest, byte| digest << 8 | u128::from(*byte))
}

/// Digests of `bytes` in pieces of `chunk` bytes; the last may be shorter.
pub fn digests(bytes: &[u8], chunk: usize) -> Vec<Digest> {
    bytes.chunks(chunk).map(digest).collect()
}

/// What was hashed already.
#[derive(Debug, Default)]
pub struct Contents {
    /// By place and number of sectors.
    known: RefCell<HashMap<(Option<Place>, u64), Digest>>,
}

impl Contents {
    /// Digest of `sectors` sectors of `disk` from `sector`.
    pub fn digest(&self, disk: &Disk<'_>, sector: u64, sectors: u64) -> Result<Digest, LogError> {
        let place = disk.place(sector, sectors);
        let known = place.and_then(|place| self.known.borrow().get(&(place, sectors)).copied());
        if let Some(known) = known {
            return Ok(known);
        }
        let mut bytes = vec![0; (sectors * SECTOR) as usize];
        disk.read(sector, &mut bytes)?;
        let digest = digest(&bytes);
        if let Some(place) = place {
            self.known.borrow_mut().insert((place, sectors), digest);
        }
        Ok(digest)
    }
}

/// A file whose every byte is known.
#[derive(Debug)]
pub struct Known {
    bytes: Vec<u8>,
    /// By length of a piece in bytes.
    digests: RefCell<HashMap<usize, Vec<Digest>>>,
}

impl Known {
    /// The file with these bytes.
    pub fn new(bytes: Vec<u8>) -> Self {
        Self { bytes, digests: RefCell::default() }
    }

    /// Its bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Digest of piece `index` of `chunk` bytes; none when it has no whole piece there.
    pub fn digest(&self, chunk: usize, index: usize) -> Option<Digest> {
        let mut all = self.digests.borrow_mut();
        let of = all.entry(chunk).or_insert_with(|| self.bytes.chunks_exact(chunk).map(digest).collect());
        of.get(index).copied()
    }
}
