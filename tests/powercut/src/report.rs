//! What came out of a replay: how many states, of which kind, and each failure by its name and reason.
//!
//! Route in: verdicts, one state after the other. Route out: text for people, a table for docs/reliability.md.

use crate::model::{FIRMWARES, Firmware, Verdict};
use crate::replay::{Phase, Recording};
use crate::states::{Random, StateName};
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// Failures that are kept with their names for each recording.
const KEPT: usize = 20;

/// A state that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The state.
    pub state: StateName,
    /// What starts the machine.
    pub firmware: Firmware,
    /// Why it is a failure.
    pub why: String,
}

/// What came out of one recording.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The recording.
    pub recording: Recording,
    /// Writes of the machine.
    pub writes: u64,
    /// Those to places that the model reads.
    pub read_writes: u64,
    /// Flushes.
    pub flushes: u64,
    /// Bytes written.
    pub bytes: u64,
    /// States that were judged.
    pub states: u64,
    /// Those that differ, to the model, from every one before.
    pub distinct: u64,
    /// For each firmware: states by what they count as.
    pub verdicts: [BTreeMap<String, u64>; 2],
    /// For each firmware: what the recording ends with.
    pub end: [Option<Verdict>; 2],
    /// A state of each kind for UEFI, chosen by the seed.
    pub examples: BTreeMap<String, StateName>,
    /// How many failures there are.
    pub failed: u64,
    /// The first of them.
    pub failures: Vec<Failure>,
}

impl Outcome {
    /// Nothing yet.
    pub fn of(recording: &Recording) -> Self {
        Self {
            recording: recording.clone(),
            writes: 0,
            read_writes: 0,
            flushes: 0,
            bytes: 0,
            states: 0,
            distinct: 0,
            verdicts: Default::default(),
            end: Default::default(),
            examples: BTreeMap::new(),
            failed: 0,
            failures: Vec::new(),
        }
    }

    fn failure(&self, verdict: &Verdict) -> Option<String> {
        verdict.failure(self.recording.phase == Phase::Installation)
    }

    /// Whether a state with these verdicts will be among the failures.
    pub fn keeps_reason(&self, verdicts: &[Verdict; 2]) -> bool {
        self.failures.len() < KEPT && verdicts.iter().any(|verdict| self.failure(verdict).is_some())
    }

    /// Counts a state.
    pub fn count(
        &mut self,
        name: &StateName,
        verdicts: &[Verdict; 2],
        is_new: bool,
        is_prefix: bool,
        seed: u64,
    ) {
        self.states += 1;
        self.distinct += u64::from(is_new);
        for (index, (firmware, verdict)) in FIRMWARES.into_iter().zip(verdicts).enumerate() {
            let label = verdict.label();
            let count = self.verdicts[index].entry(label.clone()).or_default();
            *count += 1;
            // Each state of a kind is as likely to be the example as any other.
            if firmware == Firmware::Uefi && Random::new(seed ^ self.states).below(*count) == 0 {
                self.examples.insert(label, name.clone());
            }
            if is_prefix {
                self.end[index] = Some(verdict.clone());
            }
            if let Some(why) = self.failure(verdict) {
                self.failed += 1;
                if self.failures.len() < KEPT {
                    self.failures.push(Failure { state: name.clone(), firmware, why });
                }
            }
        }
    }
}

/// What came out of all recordings.
#[derive(Clone, Debug)]
pub struct Report {
    /// The seed by which states were chosen.
    pub seed: u64,
    /// By recording.
    pub outcomes: Vec<Outcome>,
}

impl Report {
    /// How many failures there are.
    pub fn failed(&self) -> u64 {
        self.outcomes.iter().map(|outcome| outcome.failed).sum()
    }

    /// What came out of the recording `name`.
    pub fn of(&self, name: &str) -> Option<&Outcome> {
        self.outcomes.iter().find(|outcome| outcome.recording.name == name)
    }

    /// Tables for docs/reliability.md.
    pub fn markdown(&self) -> String {
        let mut text = String::from(
            "| recording | writes | of which the model reads | flushes | MB | states | distinct | failures |\n\
             |---|---|---|---|---|---|---|---|\n",
        );
        for outcome in &self.outcomes {
            // Writing to a String cannot fail.
            let _ = writeln!(
                text,
                "| {} | {} | {} | {} | {} | {} | {} | {} |",
                outcome.recording.name,
                outcome.writes,
                outcome.read_writes,
                outcome.flushes,
                outcome.bytes / 1_000_000,
                outcome.states,
                outcome.distinct,
                outcome.failed
            );
        }
        text.push_str("\n| recording | firmware | verdict | states |\n|---|---|---|---|\n");
        for outcome in &self.outcomes {
            for (firmware, verdicts) in FIRMWARES.iter().zip(&outcome.verdicts) {
                for (label, count) in verdicts {
                    let _ = writeln!(text, "| {} | {firmware} | {label} | {count} |", outcome.recording.name);
                }
            }
        }
        let _ = writeln!(text, "\nSeed {}.", self.seed);
        for failure in self.failures() {
            let _ = writeln!(text, "- {failure}");
        }
        text
    }

    /// The failures that were kept.
    pub fn failures(&self) -> impl Iterator<Item = String> + '_ {
        self.outcomes.iter().flat_map(|outcome| &outcome.failures).map(|failure| {
            let Failure { state, firmware, why } = failure;
            format!("{firmware}, state {state}, seed {}: {why}", self.seed)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sheaf_release::boot::Slot;

    fn outcome(phase: Phase) -> Outcome {
        Outcome::of(&Recording { name: "update".into(), phase })
    }

    fn boots() -> Verdict {
        Verdict::Boots { version: "0.1.0".into(), slot: Slot::A }
    }

    #[test]
    fn states_are_counted_by_firmware_and_failures_are_named() {
        let mut outcome = outcome(Phase::Installed);
        let nothing = Verdict::Nothing { why: "there is no UKI".into() };
        outcome.count(&"update/3".parse().unwrap(), &[boots(), boots()], true, true, 1);
        outcome.count(&"update/4+1".parse().unwrap(), &[boots(), nothing], true, false, 1);
        (outcome.writes, outcome.read_writes, outcome.flushes, outcome.bytes) = (9, 2, 3, 5_000_000);
        let report = Report { seed: 1, outcomes: vec![outcome] };
        assert_eq!(report.failed(), 1);
        assert_eq!(report.of("update").unwrap().end, [Some(boots()), Some(boots())]);
        assert_eq!(
            report.markdown(),
            "| recording | writes | of which the model reads | flushes | MB | states | distinct | failures |\n\
             |---|---|---|---|---|---|---|---|\n\
             | update | 9 | 2 | 3 | 5 | 2 | 2 | 1 |\n\n\
             | recording | firmware | verdict | states |\n|---|---|---|---|\n\
             | update | UEFI | boots 0.1.0 from slot a | 2 |\n\
             | update | BIOS | boots 0.1.0 from slot a | 1 |\n\
             | update | BIOS | boots nothing | 1 |\n\n\
             Seed 1.\n\
             - BIOS, state update/4+1, seed 1: there is no UKI\n"
        );
    }

    #[test]
    fn a_disk_without_a_table_fails_only_where_there_was_one() {
        for (phase, failed) in [(Phase::Installation, 0), (Phase::Installed, 2)] {
            let mut outcome = outcome(phase);
            outcome.count(&"update/1".parse().unwrap(), &[Verdict::NoTable, Verdict::NoTable], true, true, 1);
            assert_eq!(outcome.failed, failed, "{phase:?}");
        }
    }

    #[test]
    fn no_more_failures_are_kept_than_people_read() {
        let mut outcome = outcome(Phase::Installed);
        for _ in 0..30 {
            outcome.count(&"update/1".parse().unwrap(), &[Verdict::NoTable, boots()], false, true, 1);
        }
        assert_eq!((outcome.failed, outcome.failures.len()), (30, KEPT));
        assert!(!outcome.keeps_reason(&[Verdict::NoTable, boots()]));
    }
}
