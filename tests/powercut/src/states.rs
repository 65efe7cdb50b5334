//! Which disks a power cut may leave, given the writes and the flushes between them.
//!
//! Why these: until it is told to flush, a disk may keep any of the writes that it accepted, in any order, and half of
//! the one that it was at. So after every flush there are the prefixes of the writes that follow, some of them torn, and
//! sets of them with holes. A write that asks for it (FUA) is kept as soon as it is done. Sectors of 512 bytes are
//! written whole. Pure. Route in: the writes between two flushes. Route out: [`Cut`]s, and names by which a state is
//! found again.

use crate::disk::{Disk, SECTOR, Write};
use crate::log::{Entry, Log, LogError};
use std::fmt;
use std::str::FromStr;

/// So many writes between two flushes are tried in every set that there is: 2^8.
const EXHAUSTIVE: usize = 8;
/// Of more, so many sets of each kind.
const SETS: usize = 32;
/// A write of up to so many sectors is torn at each; a longer one at its ends and in its middle.
const TORN: u64 = 8;

/// Numbers that look random and are the same for the same seed (SplitMix64).
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// Begins at `seed`.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number.
    pub fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `end`, which is not 0.
    pub fn below(&mut self, end: u64) -> u64 {
        self.number() % end
    }
}

/// The writes between two flushes that the model reads.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Epoch {
    /// Number of the first entry after the flush before.
    pub first: u64,
    /// Number of the entry that ends it: its flush, or one behind the last.
    pub end: u64,
    /// The writes.
    pub writes: Vec<Write>,
}

/// Parts of an epoch that are on the disk; all that was flushed before is, too.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cut {
    /// The first so many writes.
    Prefix(usize),
    /// The first so many, and so many sectors of the next.
    Torn(usize, u64),
    /// These, by their place in the epoch.
    Set(Vec<bool>),
}

impl Cut {
    /// What is written on top of what was flushed.
    pub fn writes(&self, epoch: &[Write]) -> Vec<Write> {
        match self {
            Self::Prefix(count) => epoch.iter().take(*count).copied().collect(),
            Self::Torn(whole, sectors) => {
                let torn = epoch.get(*whole).map(|write| write.torn(*sectors));
                epoch.iter().take(*whole).copied().chain(torn).collect()
            }
            Self::Set(chosen) => {
                epoch.iter().zip(chosen).filter(|(_, chosen)| **chosen).map(|(write, _)| *write).collect()
            }
        }
    }
}

/// Where `write` may be torn: in sectors that are written.
pub fn tears(write: &Write) -> Vec<u64> {
    match write.sectors {
        0 | 1 => Vec::new(),
        sectors if sectors <= TORN => (1..sectors).collect(),
        // A page, too: it is what file systems write.
        sectors => vec![1, 8.min(sectors - 1), sectors / 2, sectors - 1],
    }
}

/// Sets of writes of one epoch, without those that are prefixes; `random` chooses where there are too many.
pub fn sets(writes: &[Write], random: &mut Random) -> Vec<Cut> {
    let count = writes.len();
    let mut sets: Vec<Vec<bool>> = Vec::new();
    if count <= EXHAUSTIVE {
        let of = |set: usize| (0..count).map(|at| set >> at & 1 == 1).collect();
        sets.extend((1..1_usize << count).map(of));
    } else {
        let some = |random: &mut Random| -> Vec<usize> {
            match count <= SETS {
                true => (0..count).collect(),
                false => (0..SETS).map(|_| random.below(count as u64) as usize).collect(),
            }
        };
        // One that was kept alone, one that was lost alone, the order reversed, and whatever comes.
        sets.extend(some(random).into_iter().map(|one| (0..count).map(|at| at == one).collect()));
        sets.extend(some(random).into_iter().map(|one| (0..count).map(|at| at != one).collect()));
        sets.extend(some(random).into_iter().map(|one| (0..count).map(|at| at >= one).collect()));
        for _ in 0..SETS {
            let issued = random.below(count as u64) as usize + 1;
            sets.push((0..count).map(|at| at < issued && random.number() & 1 == 1).collect());
        }
    }
    for set in &mut sets {
        keep_fua(set, writes);
    }
    let is_prefix = |set: &Vec<bool>| set.iter().skip_while(|chosen| **chosen).all(|chosen| !chosen);
    sets.retain(|set| !is_prefix(set));
    sets.into_iter().map(Cut::Set).collect()
}

/// What was to be kept at once is there whenever something issued after it is.
fn keep_fua(set: &mut [bool], writes: &[Write]) {
    let last = set.iter().rposition(|chosen| *chosen).unwrap_or(0);
    for (chosen, _) in set.iter_mut().zip(writes).take(last).filter(|(_, write)| write.fua) {
        *chosen = true;
    }
}

/// Epochs of a log, in order, with the writes for which `is_read`. The last may end without a flush.
pub fn epochs<'e>(
    entries: impl Iterator<Item = Result<Entry, LogError>> + 'e,
    log: u8,
    is_read: impl Fn(&Write) -> bool + 'e,
) -> impl Iterator<Item = Result<Epoch, LogError>> + 'e {
    let mut entries = entries.fuse();
    let mut epoch = Epoch::default();
    let mut carried: Option<Entry> = None;
    std::iter::from_fn(move || {
        loop {
            let entry = match carried.take() {
                // A flush that carries data: the data comes after it.
                Some(entry) => Entry { flush: false, ..entry },
                None => match entries.next() {
                    Some(Ok(entry)) => entry,
                    Some(Err(error)) => return Some(Err(error)),
                    None => {
                        let last = std::mem::take(&mut epoch);
                        return (last.end > last.first).then_some(Ok(last));
                    }
                },
            };
            if entry.flush {
                let next = Epoch { first: entry.number, end: entry.number, writes: Vec::new() };
                let done = std::mem::replace(&mut epoch, next);
                carried = Some(entry);
                if done.end > done.first {
                    return Some(Ok(Epoch { end: entry.number, ..done }));
                }
                continue;
            }
            epoch.end = entry.number + 1;
            epoch.writes.extend(Write::of(&entry, log).filter(|write| is_read(write)));
        }
    })
}

/// The name of a state, by which it can be made again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StateName {
    /// Name of the recording.
    pub recording: String,
    /// Entries of its log before this are on the disk.
    pub first: u64,
    /// What else is.
    pub more: More,
}

/// What is on the disk of a state beside what was flushed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum More {
    /// Nothing.
    Nothing,
    /// So many sectors of the next entry.
    Sectors(u64),
    /// Of the entries before this one, writes that the model reads: those that are marked.
    Set(u64, Vec<bool>),
}

impl StateName {
    /// The name of `cut` in `epoch` of `recording`.
    pub fn of(recording: &str, epoch: &Epoch, cut: &Cut) -> Self {
        let number = |at: usize| epoch.writes.get(at).map_or(epoch.end, |write| write.number);
        let (first, more) = match cut {
            Cut::Prefix(0) => (epoch.first, More::Nothing),
            Cut::Prefix(count) => (number(count - 1) + 1, More::Nothing),
            Cut::Torn(whole, sectors) => (number(*whole), More::Sectors(*sectors)),
            Cut::Set(chosen) => (epoch.first, More::Set(epoch.end, chosen.clone())),
        };
        Self { recording: recording.to_owned(), first, more }
    }
}

impl fmt::Display for StateName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.recording, self.first)?;
        match &self.more {
            More::Nothing => Ok(()),
            More::Sectors(sectors) => write!(f, "+{sectors}"),
            More::Set(end, chosen) => {
                let digits: String = chosen
                    .chunks(4)
                    .map(|four| four.iter().rev().fold(0, |digit, one| digit << 1 | u32::from(*one)))
                    .filter_map(|digit| char::from_digit(digit, 16))
                    .collect();
                write!(f, "-{end}:{digits}")
            }
        }
    }
}

/// A text that names no state.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0} is not the name of a state; one is update/1234, update/1234+3 or update/1200-1260:0f3a")]
pub struct NotAState(String);

impl FromStr for StateName {
    type Err = NotAState;

    fn from_str(text: &str) -> Result<Self, NotAState> {
        let parsed = || {
            let (recording, rest) = text.split_once('/').filter(|(name, _)| !name.is_empty())?;
            let (first, more) = if let Some((first, sectors)) = rest.split_once('+') {
                (first, More::Sectors(sectors.parse().ok()?))
            } else if let Some((first, set)) = rest.split_once('-') {
                let (end, digits) = set.split_once(':')?;
                let digits = digits.chars().map(|digit| digit.to_digit(16)).collect::<Option<Vec<_>>>()?;
                let bits = digits.into_iter().flat_map(|digit| (0..4).map(move |at| digit >> at & 1 == 1));
                (first, More::Set(end.parse().ok()?, bits.collect()))
            } else {
                (rest, More::Nothing)
            };
            Some(Self { recording: recording.to_owned(), first: first.parse().ok()?, more })
        };
        parsed().ok_or_else(|| NotAState(text.to_owned()))
    }
}

/// Puts onto `disk`, which holds all of the logs before log number `log`, what the state has of that log. Writes that
/// the model does not read are all there, up to where the state ends.
pub fn make(
    disk: &mut Disk<'_>,
    log: &Log,
    number: u8,
    name: &StateName,
    is_read: impl Fn(&Write) -> bool,
) -> Result<(), LogError> {
    let end = match &name.more {
        More::Nothing => name.first,
        More::Sectors(_) => name.first + 1,
        More::Set(end, _) => *end,
    };
    let mut chosen = match &name.more {
        More::Set(_, chosen) => chosen.iter(),
        _ => [].iter(),
    };
    for entry in log.entries() {
        let entry = entry?;
        if entry.number >= end {
            break;
        }
        let Some(write) = Write::of(&entry, number) else { continue };
        let write = match (&name.more, entry.number >= name.first) {
            (More::Sectors(sectors), true) => write.torn(*sectors),
            (More::Set(..), true) if is_read(&write) && !chosen.next().copied().unwrap_or(false) => continue,
            _ => write,
        };
        disk.put(&write);
    }
    Ok(())
}

/// Bytes that `writes` write.
pub fn bytes(writes: &[Write]) -> u64 {
    writes.iter().map(|write| write.sectors * SECTOR).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::Kind;

    fn write(number: u64, sectors: u64) -> Write {
        Write { number, sector: number * 100, sectors, data: None, fua: false }
    }

    fn entry(number: u64, length: u64, flush: bool) -> Result<Entry, LogError> {
        let kind = if length == 0 { Kind::Nothing } else { Kind::Write(0) };
        Ok(Entry { number, kind, offset: number * 51200, length, flush, fua: false })
    }

    fn of(entries: Vec<Result<Entry, LogError>>) -> Vec<(u64, u64, Vec<u64>)> {
        let epochs = epochs(entries.into_iter(), 0, |write| write.sector != 300);
        let shown =
            |epoch: Epoch| (epoch.first, epoch.end, epoch.writes.iter().map(|write| write.number).collect());
        epochs.map(|epoch| shown(epoch.unwrap())).collect()
    }

    #[test]
    fn flushes_end_epochs_and_writes_that_nobody_reads_are_in_none() {
        let entries = vec![
            entry(0, 512, false),
            entry(1, 512, false),
            entry(2, 0, true),
            entry(3, 512, false),
            entry(4, 512, false),
        ];
        assert_eq!(of(entries), [(0, 2, vec![0, 1]), (2, 5, vec![4])]);
    }

    #[test]
    fn data_that_a_flush_carries_is_of_the_epoch_after_it() {
        let entries = vec![entry(0, 512, false), entry(1, 512, true), entry(2, 0, true)];
        assert_eq!(of(entries), [(0, 1, vec![0]), (1, 2, vec![1]), (2, 3, vec![])]);
    }

    #[test]
    fn few_writes_are_tried_in_every_set_that_is_not_a_prefix() {
        let writes: Vec<Write> = (0..4).map(|number| write(number, 1)).collect();
        let sets = sets(&writes, &mut Random::new(1));
        assert_eq!(sets.len(), 16 - 5, "all sets but the five prefixes");
        assert!(sets.contains(&Cut::Set(vec![false, true, false, true])));
    }

    #[test]
    fn of_many_writes_single_ones_are_kept_and_lost_and_the_same_seed_gives_the_same_sets() {
        let writes: Vec<Write> = (0..20).map(|number| write(number, 1)).collect();
        let chosen = sets(&writes, &mut Random::new(7));
        for at in 1..20 {
            assert!(chosen.contains(&Cut::Set((0..20).map(|other| other == at).collect())), "only {at}");
        }
        for at in 0..19 {
            assert!(chosen.contains(&Cut::Set((0..20).map(|other| other != at).collect())), "all but {at}");
        }
        assert!(chosen.contains(&Cut::Set((0..20).map(|other| other >= 12).collect())), "the order reversed");
        assert_eq!(chosen, sets(&writes, &mut Random::new(7)));
        assert_ne!(chosen, sets(&writes, &mut Random::new(8)));
    }

    #[test]
    fn a_write_that_is_kept_at_once_is_in_every_set_with_something_after_it() {
        let mut writes: Vec<Write> = (0..4).map(|number| write(number, 1)).collect();
        writes[1].fua = true;
        for cut in sets(&writes, &mut Random::new(1)) {
            let Cut::Set(set) = cut else { panic!("{cut:?}") };
            assert!(set[1] || !(set[2] || set[3]), "{set:?}");
        }
    }

    #[test]
    fn a_page_is_torn_at_each_sector_and_a_long_write_at_its_ends() {
        assert!(tears(&write(0, 1)).is_empty());
        assert_eq!(tears(&write(0, 8)), [1, 2, 3, 4, 5, 6, 7]);
        assert_eq!(tears(&write(0, 100)), [1, 8, 50, 99]);
    }

    #[test]
    fn names_of_states_read_back() {
        let epoch = Epoch { first: 10, end: 16, writes: vec![write(11, 1), write(13, 4), write(14, 1)] };
        for (cut, name) in [
            (Cut::Prefix(0), "update/10"),
            (Cut::Prefix(2), "update/14"),
            (Cut::Torn(1, 3), "update/13+3"),
            (Cut::Set(vec![true, false, true]), "update/10-16:5"),
        ] {
            let of = StateName::of("update", &epoch, &cut);
            assert_eq!(of.to_string(), name);
            let read: StateName = name.parse().unwrap();
            assert_eq!((&read.recording, read.first), (&of.recording, of.first));
            assert_eq!(read.to_string(), name);
        }
        let error = "update".parse::<StateName>().unwrap_err().to_string();
        let said =
            "update is not the name of a state; one is update/1234, update/1234+3 or update/1200-1260:0f3a";
        assert_eq!(error, said);
    }
}
