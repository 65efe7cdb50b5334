//! Roots and trees of both slots, compared with releases block by block as they change.
//!
//! Why incremental: a slot has some 130,000 blocks, and a write changes a few. For each slot and release the number of
//! blocks that differ is kept; a slot holds a release when none does. Route in: places that changed. Route out: which
//! release each slot holds, or how far it is from it.

use super::{Layout, Read};
use crate::content::{Contents, Digest, digest};
use crate::disk::{Disk, SECTOR};
use crate::release::{BLOCK, Release};
use sheaf_release::boot::Slot;
use std::collections::HashMap;
use std::sync::LazyLock;

/// Sectors of a block.
const SECTORS: u64 = BLOCK as u64 / SECTOR;
/// Both slots, in the order of a [`Layout`].
pub const SLOTS: [Slot; 2] = [Slot::A, Slot::B];

/// Places of a disk whose contents are known as one number, whatever was written there in which order.
#[derive(Debug)]
pub struct Area {
    places: [(u64, u64); 4],
    /// Digests of blocks that are not zeros, by number of the block on the disk.
    blocks: HashMap<u64, Digest>,
    fingerprint: u128,
}

/// Numbers of blocks of `places` that have a sector in a range.
fn touched(first: u64, sectors: u64, sector: u64, count: u64) -> std::ops::Range<u64> {
    let start = sector.max(first);
    let end = (sector + count).min(first + sectors);
    match start < end {
        true => start / SECTORS..end.div_ceil(SECTORS),
        false => 0..0,
    }
}

/// What a blank disk has.
static ZEROS: LazyLock<Digest> = LazyLock::new(|| digest(&[0; BLOCK]));

/// Tells a content at one place from the same at another.
fn mixed(block: u64, content: Digest) -> u128 {
    let place = u128::from(block).wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835);
    (content ^ place).wrapping_mul(0x2545_f491_4f6c_dd1d_9e37_79b9_7f4a_7c15).rotate_left(47)
        ^ content.wrapping_mul(0xd6e8_feb8_6659_fd93_a5a3_564e_27f8_8b6d)
}

impl Area {
    /// These places of a blank disk, as first sector and number of sectors.
    pub fn new(places: [(u64, u64); 4]) -> Self {
        Self { places, blocks: HashMap::new(), fingerprint: 0 }
    }

    /// Reads sectors that changed.
    pub fn changed(&mut self, disk: &Disk<'_>, contents: &Contents, sector: u64, count: u64) -> Read<()> {
        let zeros = *ZEROS;
        for (first, sectors) in self.places {
            for block in touched(first, sectors, sector, count) {
                let now = contents.digest(disk, block * SECTORS, SECTORS)?;
                let before = match now == zeros {
                    true => self.blocks.remove(&block),
                    false => self.blocks.insert(block, now),
                };
                // Zeros count for nothing, so that a blank disk and one that was wiped are the same.
                self.fingerprint ^= before.map_or(0, |before| mixed(block, before));
                self.fingerprint ^= if now == zeros { 0 } else { mixed(block, now) };
            }
        }
        Ok(())
    }

    /// The number.
    pub fn fingerprint(&self) -> u128 {
        self.fingerprint
    }
}

/// A root or a tree in one slot.
#[derive(Debug)]
struct Part {
    first: u64,
    sectors: u64,
    blocks: HashMap<u64, Digest>,
    /// For each release: blocks that differ.
    wrong: Vec<usize>,
}

impl Part {
    fn blank((first, sectors): (u64, u64), expected: &[&[Digest]]) -> Self {
        let zeros = *ZEROS;
        let wrong = expected.iter().map(|blocks| blocks.iter().filter(|block| **block != zeros).count());
        Self { first, sectors, blocks: HashMap::new(), wrong: wrong.collect() }
    }

    fn changed(
        &mut self,
        disk: &Disk<'_>,
        contents: &Contents,
        expected: &[&[Digest]],
        (sector, count): (u64, u64),
    ) -> Read<()> {
        let zeros = *ZEROS;
        for block in touched(self.first, self.sectors, sector, count) {
            let now = contents.digest(disk, block * SECTORS, SECTORS)?;
            let before = match now == zeros {
                true => self.blocks.remove(&block),
                false => self.blocks.insert(block, now),
            }
            .unwrap_or(zeros);
            let index = (block - self.first / SECTORS) as usize;
            for (wrong, blocks) in self.wrong.iter_mut().zip(expected) {
                let Some(right) = blocks.get(index) else { continue };
                *wrong -= usize::from(before != *right);
                *wrong += usize::from(now != *right);
            }
        }
        Ok(())
    }

    /// Whether it begins as a release does: superblock and UUID, by which the kernel looks for it.
    fn begins_as(&self, expected: &[Digest]) -> bool {
        let first = self.blocks.get(&(self.first / SECTORS)).copied().unwrap_or(*ZEROS);
        expected.first() == Some(&first)
    }
}

/// How a slot compares with a release.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fit {
    /// Blocks of the root that differ.
    pub root: usize,
    /// Blocks of the tree that differ.
    pub tree: usize,
    /// It has root or tree of the release, as far as their UUIDs say.
    pub is_named: bool,
}

/// Both slots.
#[derive(Debug)]
pub struct Slots<'r> {
    releases: &'r [Release],
    parts: [(Part, Part); 2],
}

impl<'r> Slots<'r> {
    /// Slots of a blank disk.
    pub fn blank(releases: &'r [Release], layout: &Layout) -> Self {
        let (roots, trees) = expected(releases);
        let of =
            |slot: usize| (Part::blank(layout.roots[slot], &roots), Part::blank(layout.trees[slot], &trees));
        Self { releases, parts: [of(0), of(1)] }
    }

    /// Reads sectors that changed.
    pub fn changed(&mut self, disk: &Disk<'_>, contents: &Contents, sector: u64, count: u64) -> Read<()> {
        let (roots, trees) = expected(self.releases);
        for (root, tree) in &mut self.parts {
            root.changed(disk, contents, &roots, (sector, count))?;
            tree.changed(disk, contents, &trees, (sector, count))?;
        }
        Ok(())
    }

    /// How `slot` compares with release number `release`.
    pub fn fit(&self, slot: Slot, release: usize) -> Fit {
        let (root, tree) = &self.parts[usize::from(slot == Slot::B)];
        let of = &self.releases[release];
        let is_named = root.begins_as(&of.root) || tree.begins_as(&of.tree);
        Fit { root: root.wrong[release], tree: tree.wrong[release], is_named }
    }

    /// All that decides about slots.
    pub fn signs(&self) -> Vec<bool> {
        let fits =
            SLOTS.iter().flat_map(|slot| (0..self.releases.len()).map(|release| self.fit(*slot, release)));
        fits.flat_map(|fit| [fit.root == 0, fit.tree == 0, fit.is_named]).collect()
    }
}

fn expected(releases: &[Release]) -> (Vec<&[Digest]>, Vec<&[Digest]>) {
    releases.iter().map(|release| (&release.root[..], &release.tree[..])).unzip()
}
