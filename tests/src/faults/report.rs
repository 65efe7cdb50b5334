//! What docs/reliability.md says of a run: a table of faults, and counts.
//!
//! Why here: figures in documentation are those that a run printed. Pure. Route in: each fault with what was measured. Route out:
//! Markdown between the marks `<!-- faults -->`.

use super::plan::Kind;
use super::silence::LIMIT;
use super::writes::Count;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

/// What was measured of one fault.
#[derive(Clone, Copy, Debug, Default)]
pub struct Measured {
    /// Longest time without an answer to a read.
    pub reads: Duration,
    /// Longest time without an acknowledged write.
    pub writes: Duration,
    /// From the end of the fault until every member was as before.
    pub healed: Duration,
}

/// A run.
#[derive(Default)]
pub struct Report {
    rows: BTreeMap<Kind, (usize, Measured)>,
    /// Faults that lasted too long for clients.
    pub failures: Vec<String>,
    /// Seed of the order.
    pub seed: u64,
    /// How long faults came.
    pub lasted: Duration,
    /// Writes.
    pub writes: Count,
    /// Reads that were answered.
    pub reads: usize,
    /// Terms of Raft that had a leader.
    pub terms: usize,
    /// Times at which a sheaf-controller led.
    pub leads: usize,
    /// Longest time in which two did.
    pub overlap: Duration,
    /// VMs that nodes started.
    pub starts: usize,
    /// Longest time for which this process itself had no processor.
    pub stall: Duration,
}

impl Report {
    /// One of a run whose order has this seed.
    pub fn of(seed: u64) -> Self {
        Self { seed, ..Self::default() }
    }

    /// One more fault.
    pub fn add(&mut self, kind: Kind, measured: Measured) {
        let (count, longest) = self.rows.entry(kind).or_default();
        *count += 1;
        longest.reads = longest.reads.max(measured.reads);
        longest.writes = longest.writes.max(measured.writes);
        longest.healed = longest.healed.max(measured.healed);
    }

    /// Faults so far.
    pub fn count(&self) -> usize {
        self.rows.values().map(|(count, _)| count).sum()
    }

    /// The section.
    pub fn markdown(&self) -> String {
        let single = |measure: fn(&Measured) -> Duration| {
            let rows = self.rows.iter().filter(|(kind, _)| kind.is_single());
            rows.map(|(_, (_, longest))| measure(longest)).max().unwrap_or_default().as_secs_f64()
        };
        let mut text = format!(
            "{} faults in {:.0} min, seed {}. {} writes acknowledged, none lost; {} without an answer; {} reads answered. Longest \
             silence after a single fault: {:.1} s for reads, {:.1} s for writes ({} s are allowed). {} terms of etcd with one leader \
             each; sheaf-controllers led {} times, two at once for {:.1} s at most. {} starts of VMs, none twice. Longest stall of the \
             machine that ran all of it: {:.1} s.\n\n",
            self.count(),
            self.lasted.as_secs_f64() / 60.0,
            self.seed,
            self.writes.acknowledged,
            self.writes.unknown,
            self.reads,
            single(|measured| measured.reads),
            single(|measured| measured.writes),
            LIMIT.as_secs(),
            self.terms,
            self.leads,
            self.overlap.as_secs_f64(),
            self.starts,
            self.stall.as_secs_f64(),
        );
        text += "| fault | times | longest without an answered read | longest without an acknowledged write | until all members were as \
                 before |\n|---|---|---|---|---|\n";
        for (kind, (count, longest)) in &self.rows {
            let seconds = [longest.reads, longest.writes, longest.healed]
                .map(|time| format!("{:.1} s", time.as_secs_f64()));
            // Writing to a String does not fail.
            let _ = writeln!(text, "| {kind} | {count} | {} |", seconds.join(" | "));
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::super::plan::Program;
    use super::*;

    #[test]
    fn the_table_has_the_longest_times_of_each_fault_and_the_silence_after_single_ones() {
        let seconds = Duration::from_secs;
        let mut report = Report { seed: 7, lasted: seconds(90), ..Report::default() };
        report.writes = Count { acknowledged: 500, unknown: 3 };
        let kill = Kind::Kill(Program::Etcd);
        report.add(kill, Measured { reads: seconds(2), writes: seconds(3), healed: seconds(9) });
        report.add(kill, Measured { reads: seconds(4), writes: seconds(1), healed: seconds(5) });
        report.add(Kind::CutAll, Measured { reads: seconds(12), writes: seconds(13), healed: seconds(6) });
        let text = report.markdown();
        assert!(text.contains("| etcd: SIGKILL | 2 | 4.0 s | 3.0 s | 9.0 s |"), "{text}");
        assert!(text.contains("| all members cut off for 8 s | 1 | 12.0 s | 13.0 s | 6.0 s |"), "{text}");
        assert!(
            text.starts_with("3 faults in 2 min, seed 7. 500 writes acknowledged, none lost; 3 without"),
            "{text}"
        );
        assert!(
            text.contains("single fault: 4.0 s for reads, 3.0 s for writes (10 s are allowed)"),
            "{text}"
        );
    }
}
