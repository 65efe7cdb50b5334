//! Goes through recordings and judges every state that a power cut may have left.
//!
//! Why two passes: the first finds the partitions, which an installation writes last; from then on only writes to places
//! that the model reads make states. Why in place: each state is put onto one disk and taken off again, so that it costs
//! what it changes; two that are the same to the model are judged once. Route in: [`Recording`]s in the order in which
//! they were made, releases, a seed. Route out: a [`Report`]; or a state, put together by its name.

use crate::disk::{Disk, SECTOR, Write};
use crate::log::{Log, LogError};
use crate::model::gpt;
use crate::model::{Key, Layout, Model, NotANode, Verdict};
use crate::release::Release;
use crate::report::{Outcome, Report};
use crate::states::{self, Cut, Epoch, Random, StateName};
use std::collections::HashMap;

/// What was recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// An installation onto a blank disk: until there is a table, nothing boots.
    Installation,
    /// Anything after: something has to boot at every moment.
    Installed,
}

/// A recording.
#[derive(Clone, Debug)]
pub struct Recording {
    /// Its name, `install`: states are named after it.
    pub name: String,
    /// What it is of.
    pub phase: Phase,
}

/// Recordings that cannot be replayed.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// A log cannot be read.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The disk has no table, or not a node's.
    #[error(transparent)]
    NotANode(#[from] NotANode),
    /// A state of no recording.
    #[error("there is no recording {name}; there are: {known}")]
    Unknown {
        /// The name.
        name: String,
        /// Those that there are.
        known: String,
    },
}

/// Everything that is replayed.
#[derive(Debug)]
pub struct Replay<'r> {
    recordings: &'r [Recording],
    logs: &'r [Log],
    releases: &'r [Release],
    disk_size: u64,
    layout: Layout,
}

/// States that were judged, by what the model reads of them.
type Judged = HashMap<Key, [Verdict; 2]>;

impl<'r> Replay<'r> {
    /// Finds the partitions that the last recording ends with. `logs` are those of `recordings`, of a disk of `disk_size`
    /// bytes that was blank before the first.
    pub fn new(
        recordings: &'r [Recording],
        logs: &'r [Log],
        releases: &'r [Release],
        disk_size: u64,
    ) -> Result<Self, ReplayError> {
        let mut disk = Disk::blank(logs, disk_size);
        for (number, log) in (0..).zip(logs) {
            for entry in log.entries() {
                if let Some(write) = Write::of(&entry?, number) {
                    disk.put(&write);
                }
            }
        }
        let table = gpt::read(&disk)?.primary.map_err(NotANode)?;
        let layout = Layout::of(&table, disk_size / SECTOR)?;
        Ok(Self { recordings, logs, releases, disk_size, layout })
    }

    /// Judges all states. The same `seed` chooses the same.
    pub fn run(&self, seed: u64) -> Result<Report, ReplayError> {
        let mut run = Run {
            disk: Disk::blank(self.logs, self.disk_size),
            model: Model::blank(self.releases, self.layout.clone()),
            judged: Judged::new(),
            seed,
        };
        let mut outcomes = Vec::new();
        for ((number, log), recording) in (0..).zip(self.logs).zip(self.recordings) {
            let mut outcome = Outcome::of(recording);
            let layout = self.layout.clone();
            let reads = move |write: &Write| layout.reads(write);
            for entry in log.entries() {
                let entry = entry?;
                outcome.flushes += u64::from(entry.flush);
                if let Some(write) = Write::of(&entry, number) {
                    outcome.writes += 1;
                    outcome.bytes += states::bytes(&[write]);
                }
            }
            for epoch in states::epochs(log.entries(), number, reads) {
                run.epoch(&epoch?, &mut outcome)?;
            }
            outcomes.push(outcome);
        }
        Ok(Report { seed, outcomes })
    }

    /// The disk of a state; writes that the model does not read are on it, too.
    pub fn state(&self, name: &StateName) -> Result<Disk<'r>, ReplayError> {
        let mut disk = Disk::blank(self.logs, self.disk_size);
        for ((number, log), recording) in (0..).zip(self.logs).zip(self.recordings) {
            if recording.name == name.recording {
                states::make(&mut disk, log, number, name, |write| self.layout.reads(write))?;
                return Ok(disk);
            }
            for entry in log.entries() {
                if let Some(write) = Write::of(&entry?, number) {
                    disk.put(&write);
                }
            }
        }
        let known: Vec<&str> = self.recordings.iter().map(|recording| recording.name.as_str()).collect();
        Err(ReplayError::Unknown { name: name.recording.clone(), known: known.join(", ") })
    }

    /// What either firmware makes of the disk of a state, for one state alone.
    pub fn judge(&self, disk: &Disk<'_>) -> Result<[Verdict; 2], ReplayError> {
        let mut model = Model::blank(self.releases, self.layout.clone());
        let Layout { ends: [head, tail], bios, esp, roots, trees } = &self.layout;
        for (first, sectors) in [head, tail, bios, esp].into_iter().chain(roots).chain(trees) {
            model.changed(disk, *first, *sectors)?;
        }
        Ok(model.verdicts(disk)?)
    }
}

struct Run<'r> {
    disk: Disk<'r>,
    model: Model<'r>,
    judged: Judged,
    seed: u64,
}

impl Run<'_> {
    /// Judges what may be left of an epoch, and puts it onto the disk.
    fn epoch(&mut self, epoch: &Epoch, outcome: &mut Outcome) -> Result<(), ReplayError> {
        let mut random = Random::new(self.seed ^ epoch.first.rotate_left(32));
        for cut in states::sets(&epoch.writes, &mut random) {
            self.with(&cut.writes(&epoch.writes), |run| run.judge(epoch, &cut, outcome))?;
        }
        for (at, write) in epoch.writes.iter().enumerate() {
            for sectors in states::tears(write) {
                let cut = Cut::Torn(at, sectors);
                self.with(&[write.torn(sectors)], |run| run.judge(epoch, &cut, outcome))?;
            }
            self.disk.put(write);
            self.model.changed(&self.disk, write.sector, write.sectors)?;
            self.judge(epoch, &Cut::Prefix(at + 1), outcome)?;
        }
        outcome.read_writes += epoch.writes.len() as u64;
        Ok(())
    }

    /// Does `work` while `writes` are on the disk.
    fn with(
        &mut self,
        writes: &[Write],
        work: impl FnOnce(&mut Self) -> Result<(), ReplayError>,
    ) -> Result<(), ReplayError> {
        let mut undos = Vec::with_capacity(writes.len());
        for write in writes {
            undos.push(self.disk.put(write));
            self.model.changed(&self.disk, write.sector, write.sectors)?;
        }
        let done = work(self);
        for (undo, write) in undos.into_iter().zip(writes).rev() {
            self.disk.undo(undo);
            self.model.changed(&self.disk, write.sector, write.sectors)?;
        }
        done
    }

    fn judge(&mut self, epoch: &Epoch, cut: &Cut, outcome: &mut Outcome) -> Result<(), ReplayError> {
        let key = self.model.key();
        let (mut verdicts, is_new) = match self.judged.get(&key) {
            Some(verdicts) => (verdicts.clone(), false),
            None => {
                let verdicts = self.model.verdicts(&self.disk)?;
                self.judged.insert(key, verdicts.clone());
                (verdicts, true)
            }
        };
        let name = StateName::of(&outcome.recording.name, epoch, cut);
        if !is_new && outcome.keeps_reason(&verdicts) {
            // The verdict is the same, its reason may count other blocks.
            verdicts = self.model.verdicts(&self.disk)?;
        }
        outcome.count(&name, &verdicts, is_new, matches!(cut, Cut::Prefix(_)), self.seed);
        Ok(())
    }
}
