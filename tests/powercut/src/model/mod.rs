//! What a machine makes of a disk: which release it starts, from which slot, after how many boots.
//!
//! Why a model: a boot takes a minute under emulation and there are thousands of states; tests/tests/power_cut.rs boots a
//! sample, to show that the model agrees with the machine. It errs on the side of not booting: a slot with one wrong
//! block is bad, wherever the block is. Route in: a disk, [`Release`]s. Route out: [`facts::Facts`] and from them, by
//! [`uefi`] and [`bios`], a [`Verdict`].

pub mod bios;
pub mod facts;
pub mod fat;
pub mod gpt;
pub mod slots;
pub mod uefi;

use crate::content::Contents;
use crate::disk::{Disk, SECTOR, Write};
use crate::log::LogError;
use crate::release::Release;
use facts::Facts;
use sheaf_release::boot::Slot;
use slots::{Area, Slots};
use std::fmt;

/// A value that was read from a disk whose logs can be read.
pub type Read<T> = Result<T, LogError>;

/// A machine that did not start after so many boots never will.
const BOOTS: u32 = 8;

/// What starts a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[allow(missing_docs)] // the names say it
pub enum Firmware {
    Uefi,
    Bios,
}

impl fmt::Display for Firmware {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Uefi => "UEFI",
            Self::Bios => "BIOS",
        })
    }
}

/// Both of them.
pub const FIRMWARES: [Firmware; 2] = [Firmware::Uefi, Firmware::Bios];

/// What a machine makes of a disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It starts this release at the first boot.
    Boots {
        /// The release's version.
        version: String,
        /// The slot that holds its root.
        slot: Slot,
    },
    /// There is no partition table: an installer begins again, firmware takes the next disk.
    NoTable,
    /// It starts, but a boot loader first took something that cannot be started.
    LosesTries {
        /// The release's version.
        version: String,
        /// The slot that holds its root.
        slot: Slot,
        /// Number of the boot that succeeded.
        boots: u32,
        /// What could not be started.
        why: String,
    },
    /// It starts, and a damaged primary table could not be restored.
    NoBackup {
        /// What is wrong with the backup.
        why: String,
    },
    /// It starts the recovery, which waits for somebody.
    Recovers {
        /// What could not be started.
        why: String,
    },
    /// It starts nothing.
    Nothing {
        /// Why not.
        why: String,
    },
}

impl Verdict {
    /// What it counts as, in one line.
    pub fn label(&self) -> String {
        match self {
            Self::Boots { version, slot } => format!("boots {version} from slot {}", slot.name()),
            Self::NoTable => "no partition table".into(),
            Self::LosesTries { .. } => "loses tries".into(),
            Self::NoBackup { .. } => "no backup of the table".into(),
            Self::Recovers { .. } => "starts the recovery".into(),
            Self::Nothing { .. } => "boots nothing".into(),
        }
    }

    /// Why it is a failure, if it is one. While a disk is installed there may be no table.
    pub fn failure(&self, is_installation: bool) -> Option<String> {
        match self {
            Self::Boots { .. } => None,
            Self::NoTable if is_installation => None,
            Self::NoTable => Some("the protective MBR is gone".into()),
            Self::LosesTries { version, slot, boots, why } => {
                Some(format!("{version} starts from slot {} at boot {boots} only: {why}", slot.name()))
            }
            Self::NoBackup { why } => {
                Some(format!("the backup of the partition table cannot be used: {why}"))
            }
            Self::Recovers { why } => Some(format!("it starts the recovery: {why}")),
            Self::Nothing { why } => Some(why.clone()),
        }
    }
}

/// How one boot ended.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Boot {
    /// This release runs.
    Runs(usize, Slot),
    /// The recovery runs.
    Recovers(String),
    /// The machine restarts by itself, or somebody restarts it.
    Restarts(String),
    /// No boot will be different.
    Stops(String),
}

/// A boot loader: what it does at each boot, with the counters that it keeps on the disk.
trait Loader {
    /// One boot. What it passes over that it should have been able to start goes to `lost`.
    fn boot(&mut self, facts: &Facts, lost: &mut Vec<String>) -> Boot;
}

/// Boots until something runs.
fn settle(facts: &Facts, mut loader: impl Loader) -> Verdict {
    let mut lost = Vec::new();
    for boots in 1..=BOOTS {
        match loader.boot(facts, &mut lost) {
            Boot::Runs(release, slot) => {
                let version = facts.versions[release].clone();
                let Some(why) = lost.into_iter().next() else { return Verdict::Boots { version, slot } };
                return Verdict::LosesTries { version, slot, boots, why };
            }
            Boot::Recovers(why) => return Verdict::Recovers { why: lost.into_iter().next().unwrap_or(why) },
            Boot::Restarts(why) => lost.push(why),
            Boot::Stops(why) => {
                return Verdict::Nothing { why: lost.into_iter().next().unwrap_or(why) };
            }
        }
    }
    let first = lost.into_iter().next().unwrap_or_default();
    Verdict::Nothing { why: format!("nothing runs after {BOOTS} boots: {first}") }
}

/// What `firmware` makes of a disk with a table.
fn verdict(facts: &Facts, firmware: Firmware) -> Verdict {
    // The kernel finds its root by a partition, and it does not look at the backup.
    if let Err(why) = &facts.tables.primary {
        return Verdict::Nothing { why: format!("the primary partition table cannot be used: {why}") };
    }
    let verdict = match firmware {
        Firmware::Uefi => uefi::start(facts),
        Firmware::Bios => bios::start(facts),
    };
    match (&verdict, &facts.tables.backup) {
        (Verdict::Boots { .. }, Err(why)) => Verdict::NoBackup { why: why.clone() },
        _ => verdict,
    }
}

/// Where on the disk the model reads, in sectors.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    /// The first sectors, with MBR and primary table, and the last, with the backup.
    pub ends: [(u64, u64); 2],
    /// GRUB's core.
    pub bios: (u64, u64),
    /// The EFI system partition.
    pub esp: (u64, u64),
    /// Roots of slots A and B.
    pub roots: [(u64, u64); 2],
    /// Hash trees of slots A and B.
    pub trees: [(u64, u64); 2],
}

/// Sectors of header and entries of a table with 128 entries, and the MBR.
const TABLE: u64 = 34;

/// A disk without the partitions of a node.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("the disk that the recording ends with is not a node's: {0}")]
pub struct NotANode(pub String);

impl Layout {
    /// The layout of a table: partitions are known by their names.
    pub fn of(table: &gpt::Table, disk_sectors: u64) -> Result<Self, NotANode> {
        let place = |name: &str| match table.named(name) {
            Some(partition) => Ok((partition.first, partition.sectors)),
            None => Err(NotANode(format!("it has no partition {name}"))),
        };
        Ok(Self {
            ends: [(0, TABLE), (disk_sectors - TABLE, TABLE)],
            bios: place("bios")?,
            esp: place("esp")?,
            roots: [place("root-a")?, place("root-b")?],
            trees: [place("verity-a")?, place("verity-b")?],
        })
    }

    /// Whether the model reads anything that `write` changes.
    pub fn reads(&self, write: &Write) -> bool {
        let [head, tail] = self.ends;
        let [(root_a, root_b), (tree_a, tree_b)] =
            [(self.roots[0], self.roots[1]), (self.trees[0], self.trees[1])];
        let touches = |(first, sectors): (u64, u64)| {
            write.sector < first + sectors && write.sector + write.sectors > first
        };
        [head, tail, self.bios, self.esp, root_a, root_b, tree_a, tree_b].into_iter().any(touches)
    }
}

/// All of a disk that the model reads, kept up to date while writes are put on and taken off.
#[derive(Debug)]
pub struct Model<'r> {
    releases: &'r [Release],
    layout: Layout,
    contents: Contents,
    slots: Slots<'r>,
    /// Stands for the contents of all but the slots.
    area: Area,
}

/// Two states with the same key are the same to the model.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Key(u128, Vec<bool>);

impl<'r> Model<'r> {
    /// The model of a blank disk.
    pub fn blank(releases: &'r [Release], layout: Layout) -> Self {
        let [head, tail] = layout.ends;
        let area = Area::new([head, tail, layout.bios, layout.esp]);
        let slots = Slots::blank(releases, &layout);
        Self { releases, contents: Contents::default(), slots, area, layout }
    }

    /// Where it reads.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// Reads `sectors` sectors of `disk` from `sector` again: they changed.
    pub fn changed(&mut self, disk: &Disk<'_>, sector: u64, sectors: u64) -> Read<()> {
        self.area.changed(disk, &self.contents, sector, sectors)?;
        self.slots.changed(disk, &self.contents, sector, sectors)
    }

    /// The key of what the disk holds now.
    pub fn key(&self) -> Key {
        Key(self.area.fingerprint(), self.slots.signs())
    }

    /// What either firmware makes of the disk now.
    pub fn verdicts(&self, disk: &Disk<'_>) -> Read<[Verdict; 2]> {
        let tables = gpt::read(disk)?;
        if !tables.is_protected {
            return Ok([Verdict::NoTable, Verdict::NoTable]);
        }
        let facts = facts::read(disk, tables, &self.contents, self.releases, &self.layout, &self.slots)?;
        Ok(FIRMWARES.map(|firmware| verdict(&facts, firmware)))
    }
}

/// Bytes of `sectors` sectors.
pub(crate) fn bytes(sectors: u64) -> usize {
    (sectors * SECTOR) as usize
}

/// Facts of tests.
#[cfg(test)]
mod testing {
    use super::facts::{Esp, Facts, Uki};
    use super::gpt::{Table, Tables};
    use super::slots::Fit;

    pub fn uki(name: &str, release: usize) -> Uki {
        Uki { name: name.into(), release: Ok(release) }
    }

    /// 0.1.0 is in slot A and 0.1.1 in slot B, both whole, with GRUB's scripts for both.
    pub fn facts(ukis: Vec<Uki>) -> Facts {
        let (here, not) =
            (Fit { root: 0, tree: 0, is_named: true }, Fit { root: 9, tree: 9, is_named: false });
        Facts {
            versions: vec!["0.1.0".into(), "0.1.1".into()],
            tables: Tables {
                is_protected: true,
                primary: Ok(Table::default()),
                backup: Ok(Table::default()),
                unchecked: None,
            },
            grub: Ok(()),
            esp: Ok(Esp {
                loader: Ok(()),
                ukis,
                menu: Ok(()),
                entries: [Some(Ok(0)), Some(Ok(1))],
                recovery: [Some(Ok(())), Some(Ok(()))],
                variables: Some(vec![("order".into(), "a b".into())]),
            }),
            fits: [vec![here.clone(), not.clone()], vec![not, here]],
        }
    }

    /// What is wrong with a slot.
    #[derive(Clone, Copy, Debug)]
    pub enum Damage {
        Root,
        Tree,
        /// Neither root nor tree is found.
        Gone,
    }

    /// Every pair of damages, of slot A and of slot B.
    pub fn damages() -> impl Iterator<Item = (Damage, Damage)> {
        let all = [Damage::Root, Damage::Tree, Damage::Gone];
        all.into_iter().flat_map(move |a| all.map(|b| (a, b)))
    }

    /// 0.1.0 in slot A has the damage `a`, 0.1.1 in slot B `b`.
    pub fn damage(facts: &mut Facts, a: Damage, b: Damage) {
        for (slot, damage) in [a, b].into_iter().enumerate() {
            let fit = &mut facts.fits[slot][slot];
            match damage {
                Damage::Root => fit.root = 1,
                Damage::Tree => fit.tree = 1,
                Damage::Gone => fit.is_named = false,
            }
        }
    }
}
