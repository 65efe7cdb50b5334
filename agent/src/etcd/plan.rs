//! What follows for etcd from what was observed. Pure.
//!
//! Why the order: what ends an emergency comes first; a snapshot comes before anything is removed. Route in:
//! [`Observed`], the settings. Route out: [`Step`]s, and when the next snapshot is due. Sources:
//! <https://etcd.io/docs/v3.6/op-guide/maintenance/> (compaction, defragmentation, quota).

use super::program::{Alarm, Health};
use super::store::{Reason, Snapshot};
use sha2::{Digest as _, Sha256};
use sheaf_config::node::Snapshots;
use std::fmt;

const HOUR: u64 = 3600;

/// Percent of its quota from which a database counts as too large.
pub const NEAR_QUOTA: u64 = 80;
/// Percent of a database that may be free pages: beyond it, it is defragmented in [`QUIET`] hours.
const FRAGMENTED: u64 = 50;
/// The same near the quota, where no quiet hour is waited for.
const FRAGMENTED_NEAR_QUOTA: u64 = 20;
/// A smaller database is left as it is: nothing is gained.
const SMALL: u64 = 64 << 20; // bytes
/// Hours of the day (UTC) in which etcd may be silent for the seconds of a defragmentation.
const QUIET: std::ops::Range<u64> = 2..5;
/// Between two defragmentations, in seconds: one that gained nothing is not repeated all night.
const BETWEEN: u64 = 20 * HOUR;
/// The same while etcd refuses writes.
const BETWEEN_ALARMED: u64 = HOUR;

/// What a decision is made from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Observed {
    /// etcd, when it answers.
    pub health: Option<Health>,
    /// The snapshots that are there, the oldest first.
    pub snapshots: Vec<Snapshot>,
    /// Files in their folder that are nobody's.
    pub left_over: Vec<String>,
    /// Seconds since 1970.
    pub now: u64,
    /// When the database was defragmented last, in seconds since 1970; none since the agent started.
    pub defragmented: Option<u64>,
}

/// One thing to do.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Step {
    /// Forget revisions before this one: kube-apiserver cannot, while etcd refuses writes.
    Compact(i64),
    /// Give free pages back.
    Defragment,
    /// End the alarm.
    Disarm,
    /// Take a snapshot.
    Take,
    /// Remove a snapshot.
    Remove(String),
    /// Remove a file that a power cut left.
    Clear(String),
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Compact(revision) => write!(f, "compact etcd at revision {revision}"),
            Self::Defragment => f.write_str("defragment etcd"),
            Self::Disarm => f.write_str("disarm etcd's alarm"),
            Self::Take => f.write_str("take a snapshot of etcd"),
            Self::Remove(name) => write!(f, "remove the snapshot {name}"),
            Self::Clear(file) => write!(f, "remove {file}, which an interrupted snapshot left"),
        }
    }
}

/// Seconds by which `node` is later than the interval says, less than a tenth of it: members of one cluster do not all
/// take theirs at one moment.
pub fn jitter(node: &str, settings: &Snapshots) -> u64 {
    let digest = Sha256::digest(node);
    let number = digest.iter().take(4).fold(0, |number: u64, byte| number << 8 | u64::from(*byte));
    number % (u64::from(settings.interval_hours) * HOUR / 10).max(1)
}

/// When the next snapshot is due, in seconds since 1970. Those of a clock that was ahead do not count.
pub fn due(observed: &Observed, settings: &Snapshots, node: &str) -> u64 {
    let past = observed.snapshots.iter().map(Snapshot::seconds).filter(|taken| *taken <= observed.now);
    let interval = u64::from(settings.interval_hours) * HOUR + jitter(node, settings);
    past.max().map_or(observed.now, |newest| newest.saturating_add(interval))
}

/// Free pages of the database, in percent.
pub fn fragmentation(health: &Health) -> u64 {
    percent(health.size.saturating_sub(health.in_use), health.size)
}

/// `part` of `whole`, in percent.
pub fn percent(part: u64, whole: u64) -> u64 {
    (u128::from(part) * 100 / u128::from(whole.max(1))).try_into().unwrap_or(u64::MAX)
}

/// Decides.
pub fn plan(observed: &Observed, settings: &Snapshots, node: &str) -> Vec<Step> {
    // A learner answers nothing of this until it has caught up.
    let health = observed.health.as_ref().filter(|health| !health.is_learner);
    let mut steps = health.map(|health| care(observed, health)).unwrap_or_default();
    if health.is_some() && due(observed, settings, node) <= observed.now {
        steps.push(Step::Take);
    }
    steps.extend(surplus(&observed.snapshots, settings).into_iter().map(Step::Remove));
    steps.extend(observed.left_over.iter().cloned().map(Step::Clear));
    steps
}

/// What the database needs.
fn care(observed: &Observed, health: &Health) -> Vec<Step> {
    let rested =
        |seconds: u64| observed.defragmented.is_none_or(|at| observed.now.saturating_sub(at) >= seconds);
    let is_near = percent(health.size, health.quota) >= NEAR_QUOTA;
    if health.alarms.contains(&Alarm::NoSpace) {
        return match (is_near, rested(BETWEEN_ALARMED)) {
            (false, _) => vec![Step::Disarm],
            (true, true) => vec![Step::Compact(health.revision), Step::Defragment],
            (true, false) => Vec::new(),
        };
    }
    let free = fragmentation(health);
    let is_quiet = QUIET.contains(&(observed.now / HOUR % 24));
    let is_worth_it = health.size >= SMALL && rested(BETWEEN);
    let is_due = is_quiet && free >= FRAGMENTED || is_near && free >= FRAGMENTED_NEAR_QUOTA;
    if is_worth_it && is_due { vec![Step::Defragment] } else { Vec::new() }
}

/// Names of snapshots that are too many or too large together, the oldest first. The newest stays, whatever the
/// settings say; the newest that was taken before an update does not count as one of the many.
pub fn surplus(snapshots: &[Snapshot], settings: &Snapshots) -> Vec<String> {
    let Some(newest) = snapshots.last() else { return Vec::new() };
    let before_update = snapshots.iter().rev().find(|snapshot| snapshot.reason == Reason::Update);
    let mut bytes: u64 = 0;
    let mut kept = 0;
    let mut removed = Vec::new();
    for snapshot in snapshots.iter().rev() {
        let is_besides = before_update.is_some_and(|kept| kept.name == snapshot.name);
        let fits = bytes.saturating_add(snapshot.bytes) <= settings.max_size.0;
        let is_wanted = fits && (is_besides || kept < settings.keep);
        if snapshot.name == newest.name || is_wanted {
            bytes = bytes.saturating_add(snapshot.bytes);
            kept += u32::from(!is_besides);
        } else {
            removed.push(snapshot.name.clone());
        }
    }
    removed.reverse();
    removed
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::etcd::store::testing::snapshot;
    use proptest::prelude::*;
    use sheaf_config::node::Size;

    /// A noon.
    const NOON: u64 = 1_600_000_000 / 86400 * 86400 + 12 * HOUR;
    const MIB: u64 = 1 << 20;

    fn health(size: u64, in_use: u64) -> Health {
        Health { size, in_use, quota: 2048 * MIB, revision: 812, ..Health::default() }
    }

    fn observed(health: Health, snapshots: Vec<Snapshot>) -> Observed {
        Observed { health: Some(health), snapshots, now: NOON, ..Observed::default() }
    }

    fn steps(observed: &Observed) -> Vec<String> {
        plan(observed, &Snapshots::default(), "n1").iter().map(ToString::to_string).collect()
    }

    fn recent() -> Vec<Snapshot> {
        vec![snapshot("a", NOON - 60)]
    }

    #[test]
    fn the_first_snapshot_is_taken_at_once_and_the_next_when_the_interval_is_over() {
        let settings = Snapshots::default();
        assert_eq!(steps(&observed(health(MIB, MIB), Vec::new())), ["take a snapshot of etcd"]);
        assert_eq!(steps(&observed(health(MIB, MIB), recent())), [""; 0]);
        let late = 6 * HOUR + jitter("n1", &settings);
        let of = |age: u64| observed(health(MIB, MIB), vec![snapshot("a", NOON - age)]);
        assert_eq!(steps(&of(late - 1)), [""; 0]);
        assert_eq!(steps(&of(late)), ["take a snapshot of etcd"]);
        assert_eq!(due(&of(60), &settings, "n1"), NOON - 60 + late);
    }

    #[test]
    fn a_snapshot_from_the_future_holds_up_none() {
        let ahead = vec![snapshot("a", NOON + 999 * HOUR)];
        assert_eq!(steps(&observed(health(MIB, MIB), ahead)), ["take a snapshot of etcd"]);
        let both = vec![snapshot("b", NOON - 60), snapshot("a", NOON + 999 * HOUR)];
        assert_eq!(steps(&observed(health(MIB, MIB), both)), [""; 0]);
    }

    #[test]
    fn nodes_differ_by_less_than_a_tenth_of_the_interval() {
        let settings = Snapshots::default();
        let of: std::collections::BTreeSet<u64> =
            (0..100).map(|number| jitter(&format!("n{number}"), &settings)).collect();
        assert!(of.len() > 90 && of.iter().all(|seconds| *seconds < 6 * HOUR / 10), "{of:?}");
    }

    #[test]
    fn etcd_that_does_not_answer_is_asked_for_nothing() {
        let silent = Observed { now: NOON, left_over: vec!["x.part".into()], ..Observed::default() };
        assert_eq!(steps(&silent), ["remove x.part, which an interrupted snapshot left"]);
    }

    #[test]
    fn the_oldest_are_removed_first_and_the_one_before_an_update_is_kept_besides() {
        let mut snapshots: Vec<_> = (1..=5).map(|n| snapshot(&format!("s{n}"), NOON - 60 + n)).collect();
        let settings = Snapshots { keep: 2, ..Snapshots::default() };
        assert_eq!(surplus(&snapshots, &settings), ["s1", "s2", "s3"]);
        snapshots[0].reason = Reason::Update;
        assert_eq!(surplus(&snapshots, &settings), ["s2", "s3"]);
        snapshots[1].reason = Reason::Update;
        assert_eq!(surplus(&snapshots, &settings), ["s1", "s3"], "only the newest of them");
        assert_eq!(surplus(&[], &settings), [""; 0]);
    }

    #[test]
    fn together_they_take_no_more_than_the_bound_but_the_newest_is_kept() {
        let mut snapshots: Vec<_> = (1..=4).map(|n| snapshot(&format!("s{n}"), NOON - 60 + n)).collect();
        snapshots.iter_mut().for_each(|snapshot| snapshot.bytes = 100 * MIB);
        let settings = Snapshots { max_size: Size(256 * MIB), ..Snapshots::default() };
        assert_eq!(surplus(&snapshots, &settings), ["s1", "s2"]);
        snapshots[3].bytes = 300 * MIB;
        assert_eq!(surplus(&snapshots, &settings), ["s1", "s2", "s3"]);
    }

    #[test]
    fn a_fragmented_database_is_defragmented_in_a_quiet_hour_and_once_a_day() {
        let night = |hour: u64| Observed {
            now: NOON + (12 + hour) * HOUR,
            snapshots: vec![snapshot("a", NOON + (12 + hour) * HOUR)],
            ..observed(health(100 * MIB, 50 * MIB), Vec::new())
        };
        assert_eq!(steps(&night(3)), ["defragment etcd"]);
        assert_eq!(steps(&night(1)), [""; 0]);
        assert_eq!(steps(&night(5)), [""; 0]);
        let done = Observed { defragmented: Some(night(2).now), ..night(3) };
        assert_eq!(steps(&done), [""; 0]);
        let small = Observed { health: Some(health(63 * MIB, MIB)), ..night(3) };
        assert_eq!(steps(&small), [""; 0]);
        let whole = Observed { health: Some(health(100 * MIB, 51 * MIB)), ..night(3) };
        assert_eq!(steps(&whole), [""; 0]);
    }

    #[test]
    fn near_the_quota_no_quiet_hour_is_waited_for() {
        assert_eq!(steps(&observed(health(1700 * MIB, 1300 * MIB), recent())), ["defragment etcd"]);
        assert_eq!(steps(&observed(health(1700 * MIB, 1600 * MIB), recent())), [""; 0]);
    }

    #[test]
    fn etcd_without_space_is_compacted_and_defragmented_and_then_its_alarm_is_disarmed() {
        let learner = Health { is_learner: true, alarms: vec![Alarm::NoSpace], ..health(MIB, MIB) };
        let asked = Observed { health: Some(learner), ..Observed::default() };
        assert_eq!(plan(&asked, &Snapshots::default(), "n1"), [], "it answers nothing of this");
        let alarmed = |size| Health { alarms: vec![Alarm::NoSpace], ..health(size, size) };
        let full = observed(alarmed(2048 * MIB), recent());
        assert_eq!(steps(&full), ["compact etcd at revision 812", "defragment etcd"]);
        let again = Observed { defragmented: Some(NOON - 60), ..full.clone() };
        assert_eq!(steps(&again), [""; 0], "objects must be deleted first");
        let later = Observed { defragmented: Some(NOON - HOUR), ..full };
        assert_eq!(steps(&later).len(), 2);
        assert_eq!(steps(&observed(alarmed(100 * MIB), recent())), ["disarm etcd's alarm"]);
        let corrupt = Health { alarms: vec![Alarm::Corrupt], ..health(MIB, MIB) };
        assert_eq!(steps(&observed(corrupt, recent())), [""; 0], "nothing ends that by itself");
    }

    proptest! {
        #[test]
        fn any_numbers_give_a_plan_that_keeps_the_newest_snapshot(
            size: u64, in_use: u64, quota: u64, now: u64, defragmented: Option<u64>, taken in prop::collection::vec(any::<u32>(), 0..6),
            bytes: u64, max: u64, keep: u32, interval_hours: u32,
        ) {
            let mut snapshots: Vec<_> =
                taken.iter().map(|at| Snapshot { bytes, ..snapshot(&at.to_string(), u64::from(*at)) }).collect();
            snapshots.sort_by_key(Snapshot::seconds);
            let health = Some(Health { size, in_use, quota, ..Health::default() });
            let observed = Observed { health, snapshots, now, defragmented, left_over: Vec::new() };
            let settings = Snapshots { interval_hours, keep, max_size: Size(max) };
            let steps = plan(&observed, &settings, "n1");
            if let Some(newest) = observed.snapshots.last() {
                prop_assert!(!steps.contains(&Step::Remove(newest.name.clone())));
            }
        }
    }
}
