//! The numbers of one machine or node: an hour in steps of 30 s, a day in steps of 5 minutes.
//!
//! Why here: rings of a fixed size, so that what the memory of all is can be computed. A step is a slot of the clock, so that
//! rings of different machines can be added, and no times are kept. Pure. Route in: counters with their time. Route out: values a
//! slot, NaN where nothing is known.

use std::sync::Arc;

/// Processors in use, 1.0 is one.
pub const PROCESSORS: usize = 0;
/// Bytes in use.
pub const MEMORY: usize = 1;
/// Bytes read from disks, a second.
pub const READ: usize = 2;
/// Bytes written to disks, a second.
pub const WRITTEN: usize = 3;
/// Bytes received from networks, a second.
pub const RECEIVED: usize = 4;
/// Bytes sent to networks, a second.
pub const SENT: usize = 5;
const WIDTH: usize = 6;

/// What is kept of a slot. `f32` has seven digits: more than a plot shows.
pub type Values = [f32; WIDTH];
/// Nothing known.
pub const UNKNOWN: Values = [f32::NAN; WIDTH];
/// What an agent counts: in the place of a rate the counter since some start, NaN if it is not there.
pub type Counters = [f64; WIDTH];
/// None is there.
pub const NO_COUNTERS: Counters = [f64::NAN; WIDTH];

/// How a ring divides time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    /// Length of a slot.
    pub seconds: u64,
    /// Slots that are kept.
    pub slots: usize,
}

/// The last hour.
pub const RECENT: Step = Step { seconds: 30, slots: 120 };
/// The last day.
pub const DAY: Step = Step { seconds: 300, slots: 288 };

/// Bytes of one series with its key and its place in a map: the rings, and what is beside them, generously.
pub const BYTES: usize = (RECENT.slots + DAY.slots) * size_of::<Values>() + 512;

/// Readings that are further apart give no rate: what was between is not known, and one value would hide it.
const FAR: f64 = 300.0;

#[derive(Debug)]
struct Ring {
    step: Step,
    /// The slot that was written last.
    newest: u64,
    values: Box<[Values]>,
}

impl Ring {
    fn new(step: Step) -> Self {
        Self { step, newest: 0, values: vec![UNKNOWN; step.slots].into() }
    }

    fn place(&self, slot: u64) -> usize {
        usize::try_from(slot % self.values.len() as u64).unwrap_or(0)
    }

    fn get(&self, slot: u64) -> Values {
        let is_kept = slot <= self.newest && slot + self.values.len() as u64 > self.newest;
        if is_kept { self.values[self.place(slot)] } else { UNKNOWN }
    }

    fn put(&mut self, slot: u64, values: Values) {
        if slot + self.values.len() as u64 <= self.newest {
            return; // the clock went back by more than all of it
        }
        let first = (self.newest + 1).max((slot + 1).saturating_sub(self.values.len() as u64));
        for skipped in first..=slot {
            let place = self.place(skipped);
            self.values[place] = UNKNOWN;
        }
        let place = self.place(slot);
        self.values[place] = values;
        self.newest = self.newest.max(slot);
    }
}

/// One machine's or node's.
#[derive(Debug)]
pub struct Series {
    recent: Ring,
    day: Ring,
    /// The last reading: when, from which node, what.
    former: Option<(f64, Arc<str>, Counters)>,
}

impl Default for Series {
    fn default() -> Self {
        Self { recent: Ring::new(RECENT), day: Ring::new(DAY), former: None }
    }
}

impl Series {
    /// Takes what `node` counted at `at`, in seconds since 1970, for the round that began at `round`.
    pub fn take(&mut self, round: u64, at: f64, node: &Arc<str>, counters: Counters) {
        let former = self.former.replace((at, node.clone(), counters));
        let mut values = UNKNOWN;
        values[MEMORY] = counters[MEMORY] as f32;
        if let Some((before, _, counted)) = former.filter(|(_, there, _)| there == node) {
            let time = at - before;
            if time > 0.0 && time <= FAR {
                for (quantity, value) in values.iter_mut().enumerate().filter(|(at, _)| *at != MEMORY) {
                    let grown = counters[quantity] - counted[quantity];
                    // One that went back began again, with a QEMU or a node.
                    if grown >= 0.0 {
                        *value = (grown / time) as f32;
                    }
                }
            }
        }
        self.recent.put(round / RECENT.seconds, values);
        let day = round / DAY.seconds;
        self.day.put(day, self.mean(day));
    }

    /// Mean of the recent slots of a slot of the day.
    fn mean(&self, day: u64) -> Values {
        let each = DAY.seconds / RECENT.seconds;
        let slots: Vec<Values> = (day * each..(day + 1) * each).map(|slot| self.recent.get(slot)).collect();
        let mut mean = UNKNOWN;
        for (quantity, value) in mean.iter_mut().enumerate() {
            let known = || slots.iter().map(|values| values[quantity]).filter(|value| value.is_finite());
            let count = known().count();
            if count > 0 {
                *value = known().sum::<f32>() / count as f32;
            }
        }
        mean
    }

    /// The slots of `step` that end with the one of `now`, oldest first.
    pub fn read(&self, step: Step, now: u64) -> Vec<Values> {
        let ring = if step == RECENT { &self.recent } else { &self.day };
        let last = now / ring.step.seconds;
        let first = (last + 1).saturating_sub(ring.values.len() as u64);
        (first..=last).map(|slot| ring.get(slot)).collect()
    }

    /// When it was last written, in seconds since 1970.
    pub fn written(&self) -> u64 {
        self.recent.newest * RECENT.seconds
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BEGIN: u64 = 1_800_000_000; // a whole slot of the day

    fn node() -> Arc<str> {
        "n1".into()
    }

    /// A reading every 30 s, each counting `rate` a second.
    fn fed(series: &mut Series, from: u64, readings: u64, rate: f64) {
        for number in 0..readings {
            let at = from + number * 30;
            let mut counters = [(at - BEGIN) as f64 * rate; 6];
            counters[MEMORY] = 4096.0;
            series.take(at, at as f64, &node(), counters);
        }
    }

    #[test]
    fn counters_become_rates_by_their_own_time_and_memory_stays_what_it_is() {
        let mut series = Series::default();
        fed(&mut series, BEGIN, 1, 0.5);
        let first = series.read(RECENT, BEGIN);
        assert_eq!(first.len(), 120);
        assert!(first[119][PROCESSORS].is_nan(), "one reading is no rate");
        assert_eq!(first[119][MEMORY], 4096.0);
        // The answer came a second late.
        series.take(BEGIN + 30, (BEGIN + 31) as f64, &node(), [15.5; 6]);
        let values = series.read(RECENT, BEGIN + 30)[119];
        assert_eq!((values[PROCESSORS], values[SENT]), (0.5, 0.5));
    }

    #[test]
    fn an_hour_and_a_day_are_kept_and_no_more() {
        let mut series = Series::default();
        fed(&mut series, BEGIN, 3 * 2880, 2.0);
        let now = BEGIN + (3 * 2880 - 1) * 30;
        for step in [RECENT, DAY] {
            let values = series.read(step, now);
            assert_eq!(values.len(), step.slots);
            assert!(values.iter().all(|values| values[READ] == 2.0), "{step:?}");
        }
        // Ten minutes later nothing was read: the end is unknown, the rest is there.
        let later = series.read(RECENT, now + 600);
        assert!(later[100..].iter().all(|values| values[READ].is_nan()));
        assert_eq!(later[99][READ], 2.0);
        assert!(series.read(DAY, now + 100_000).iter().all(|values| values[READ].is_nan()));
    }

    #[test]
    fn a_pause_is_a_gap_and_not_one_high_value() {
        let mut series = Series::default();
        fed(&mut series, BEGIN, 10, 1.0);
        fed(&mut series, BEGIN + 1200, 10, 1.0);
        let values = series.read(RECENT, BEGIN + 1200 + 270);
        let known: Vec<bool> = values.iter().map(|values| values[READ].is_finite()).collect();
        assert_eq!(known.iter().filter(|known| **known).count(), 9 + 9);
        assert!(!known[110], "the first after the pause has no rate");
    }

    #[test]
    fn a_counter_that_went_back_or_is_of_another_node_gives_no_rate() {
        let mut series = Series::default();
        series.take(BEGIN, BEGIN as f64, &node(), [100.0; 6]);
        series.take(BEGIN + 30, (BEGIN + 30) as f64, &node(), [10.0; 6]);
        assert!(series.read(RECENT, BEGIN + 30)[119][PROCESSORS].is_nan());
        series.take(BEGIN + 60, (BEGIN + 60) as f64, &"n2".into(), [1000.0; 6]);
        assert!(series.read(RECENT, BEGIN + 60)[119][PROCESSORS].is_nan(), "it was moved");
        let mut without_disks = [1030.0; 6];
        without_disks[READ] = f64::NAN;
        series.take(BEGIN + 90, (BEGIN + 90) as f64, &"n2".into(), without_disks);
        let values = series.read(RECENT, BEGIN + 90)[119];
        assert_eq!((values[PROCESSORS], values[READ].is_nan()), (1.0, true));
    }

    #[test]
    fn whatever_the_clock_does_nothing_breaks() {
        let mut series = Series::default();
        for at in [BEGIN, 0, BEGIN + 86_400 * 400, BEGIN, 30, u64::from(u32::MAX) * 4, BEGIN] {
            series.take(at, at as f64, &node(), [1.0; 6]);
            assert_eq!(series.read(DAY, at).len().min(1), 1);
        }
    }
}
