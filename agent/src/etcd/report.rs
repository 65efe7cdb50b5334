//! What is shown of etcd and its snapshots. Pure.
//!
//! Route in: what was observed, what failed last. Route out: the section `etcd`, the conditions of the Node, Events,
//! metrics.

use super::plan::{self, NEAR_QUOTA, Observed, percent};
use super::program::{Alarm, Health};
use super::store::Snapshot;
use crate::channels::{EtcdState, Verdict};
use crate::cluster::time::rfc3339;
use crate::human::binary;
use crate::reconcile::events::Event;
use crate::status::{EtcdSection, SnapshotLine};
use sheaf_config::node::Snapshots;
use std::time::{Duration, SystemTime};

/// A newest snapshot that is older than this many intervals is too old: one was missed.
const INTERVALS: u64 = 2;
const HOUR: u64 = 3600;

/// What did not work when it was tried last, with the reason.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Failures {
    /// Asking etcd how it is.
    pub asking: Option<String>,
    /// Taking a snapshot.
    pub snapshot: Option<String>,
    /// Anything else.
    pub care: Option<String>,
}

/// Conditions of the Node.
pub fn state(observed: &Observed, failures: &Failures, settings: &Snapshots) -> EtcdState {
    EtcdState {
        health: health(observed, failures),
        snapshots: snapshots(observed, failures, settings),
        quorum: quorum(observed.health.as_ref()),
    }
}

/// Whether the members can decide, and whether one of them may fail.
fn quorum(health: Option<&Health>) -> Verdict {
    let no = |reason, message: String| Verdict::new(Some(false), reason, message);
    let Some(health) = health else {
        return Verdict::new(None, "NotAsked", "etcd of this node does not answer");
    };
    if !health.has_leader {
        return no(
            "NoQuorum",
            "etcd has no leader: half of its members or more do not answer, and nothing can be changed in the cluster. Start \
             the other control-plane nodes; if they are lost for good, restore a snapshot on this node: sheaf-agent snapshot \
             list, sheaf-agent snapshot restore NAME"
                .into(),
        );
    }
    if health.is_learner {
        return Verdict::new(None, "Learner", "this member has no vote until it has caught up");
    }
    match health.members.iter().filter(|member| !member.is_learner).count() {
        0 => Verdict::new(None, "NotAsked", "the members of etcd are not known yet"),
        1 => Verdict::new(Some(true), "OneMember", "etcd has one member; without it nothing can be changed"),
        even if even % 2 == 0 => no(
            "EvenMembers",
            format!(
                "etcd has {even} members, and tolerates the loss of no more than {} would: add one (sheaf-agent token create \
                 --control-plane) or remove one (sheaf-agent etcd remove NAME)",
                even - 1
            ),
        ),
        odd => Verdict::new(
            Some(true),
            "OddMembers",
            format!("etcd has {odd} members; {} of them may fail", (odd - 1) / 2),
        ),
    }
}

fn health(observed: &Observed, failures: &Failures) -> Verdict {
    let no = |reason, message: &str| Verdict::new(Some(false), reason, message);
    let Some(health) = &observed.health else {
        return match &failures.asking {
            Some(_) => no("NoAnswer", "etcd of this node does not answer; read `journalctl -u etcd`"),
            None => Verdict::new(None, "NotAsked", "etcd of this node was not asked yet"),
        };
    };
    if health.alarms.contains(&Alarm::Corrupt) {
        return no(
            "Corrupt",
            "etcd reports that its data is damaged, and refuses writes; restore a snapshot: sheaf-agent snapshot restore",
        );
    }
    if health.alarms.contains(&Alarm::NoSpace) {
        return no(
            "NoSpace",
            "etcd's database has reached its quota, and etcd refuses writes; the node compacts it, and the alarm ends once \
             there is room: delete objects that are not needed",
        );
    }
    if percent(health.size, health.quota) >= NEAR_QUOTA {
        return no(
            "NearQuota",
            "etcd's database has more than 80 % of its quota; beyond it etcd refuses writes: delete objects that are not \
             needed",
        );
    }
    Verdict::new(Some(true), "Healthy", "etcd answers, and its database has room")
}

fn snapshots(observed: &Observed, failures: &Failures, settings: &Snapshots) -> Verdict {
    if let Some(why) = &failures.snapshot {
        return Verdict::new(Some(false), "Failed", format!("the last try to take a snapshot failed: {why}"));
    }
    let oldest = u64::from(settings.interval_hours) * HOUR * INTERVALS;
    match newest(observed) {
        None => Verdict::new(None, "NoneYet", "no snapshot was taken yet"),
        Some(newest) if observed.now.saturating_sub(newest.seconds()) > oldest => Verdict::new(
            Some(false),
            "TooOld",
            format!("the newest snapshot is older than {} h", oldest / HOUR),
        ),
        Some(newest) => Verdict::new(
            Some(true),
            "Current",
            format!(
                "a snapshot is taken every {} h; the newest, {}, is of {}",
                settings.interval_hours, newest.name, newest.taken
            ),
        ),
    }
}

/// The newest snapshot whose time is not in the future.
fn newest(observed: &Observed) -> Option<&Snapshot> {
    observed.snapshots.iter().rev().find(|snapshot| snapshot.seconds() <= observed.now)
}

/// The section of the status page.
pub fn section(observed: &Observed, failures: &Failures, settings: &Snapshots, node: &str) -> EtcdSection {
    let state = state(observed, failures, settings);
    let health = observed.health.clone().unwrap_or_default();
    let problem = |verdict: &Verdict| (verdict.holds == Some(false)).then(|| verdict.message.clone());
    let problems = [
        problem(&state.health),
        problem(&state.quorum),
        failures.asking.clone(),
        problem(&state.snapshots),
        failures.care.clone(),
    ];
    let time = |seconds: u64| rfc3339(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds));
    EtcdSection {
        is_here: true,
        version: health.version,
        revision: health.revision,
        bytes: health.size,
        bytes_in_use: health.in_use,
        quota: health.quota,
        alarms: health.alarms.iter().map(|alarm| word(*alarm).to_owned()).collect(),
        snapshots: observed.snapshots.iter().map(line).collect(),
        next_snapshot: Some(time(plan::due(observed, settings, node))),
        last_failure: failures.snapshot.clone(),
        problems: problems.into_iter().flatten().collect(),
    }
}

/// etcd's own word.
fn word(alarm: Alarm) -> &'static str {
    match alarm {
        Alarm::NoSpace => "NOSPACE",
        Alarm::Corrupt => "CORRUPT",
    }
}

fn line(snapshot: &Snapshot) -> SnapshotLine {
    SnapshotLine {
        name: snapshot.name.clone(),
        taken: snapshot.taken.clone(),
        reason: snapshot.reason.word().into(),
        revision: snapshot.revision,
        bytes: snapshot.bytes,
    }
}

/// What is new in `now` for people who look at the Node.
pub fn events(before: &EtcdState, now: &EtcdState) -> Vec<Event> {
    let turned = |before: &Verdict, now: &Verdict| {
        now.holds == Some(false) && (before.reason, &before.message) != (now.reason, &now.message)
    };
    let mut events = Vec::new();
    if turned(&before.health, &now.health) {
        events.push(Event::warning("EtcdUnhealthy", now.health.message.clone()));
    }
    if turned(&before.quorum, &now.quorum) {
        events.push(Event::warning("EtcdQuorum", now.quorum.message.clone()));
    }
    if turned(&before.snapshots, &now.snapshots) {
        events.push(Event::warning("EtcdSnapshotFailed", now.snapshots.message.clone()));
    }
    events
}

/// The snapshots in columns, the newest last.
pub fn table(snapshots: &[Snapshot]) -> String {
    if snapshots.is_empty() {
        return "no snapshots of etcd are on this node\n".into();
    }
    let mut text =
        format!("{:<24} {:<21} {:<9} {:>12} {:>9}\n", "NAME", "TAKEN", "REASON", "REVISION", "SIZE");
    for snapshot in snapshots {
        let Snapshot { name, taken, reason, revision, bytes, .. } = snapshot;
        text +=
            &format!("{name:<24} {taken:<21} {:<9} {revision:>12} {:>9}\n", reason.word(), binary(*bytes));
    }
    text
}

/// How etcd is, a fact a line: what `sheaf-agent etcd` prints.
pub fn text(health: &Health) -> String {
    let line = |name: &str, value: String| format!("{name:<9} {value}\n");
    let alarms: Vec<&str> = health.alarms.iter().map(|alarm| word(*alarm)).collect();
    let used = percent(health.size, health.quota);
    [
        line("version", health.version.clone()),
        line("revision", health.revision.to_string()),
        line(
            "database",
            format!("{}, {used} % of its quota of {}", binary(health.size), binary(health.quota)),
        ),
        line("free", format!("{} % of the database", plan::fragmentation(health))),
        line("alarms", if alarms.is_empty() { "none".into() } else { alarms.join(", ") }),
    ]
    .concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::etcd::program::Member;
    use crate::etcd::store::testing::snapshot;

    const NOW: u64 = 1_600_000_000;

    fn observed(health: Health, taken: Option<u64>) -> Observed {
        let snapshots = taken.map(|taken| snapshot("etcd-a", taken)).into_iter().collect();
        Observed { health: Some(health), snapshots, now: NOW, ..Observed::default() }
    }

    fn well() -> Health {
        Health {
            size: 100 << 20,
            in_use: 60 << 20,
            quota: 2 << 30,
            version: "3.7.0".into(),
            has_leader: true,
            members: members(1, 0),
            ..Health::default()
        }
    }

    fn members(voters: usize, learners: usize) -> Vec<Member> {
        let of = |is_learner| Member { is_learner, ..Member::default() };
        std::iter::repeat_n(of(false), voters).chain(std::iter::repeat_n(of(true), learners)).collect()
    }

    #[test]
    fn an_even_number_of_members_and_a_lost_quorum_are_reported_with_what_to_do() {
        let of = |health: Health| {
            let Verdict { holds, reason, message } = quorum(Some(&health));
            (holds, reason, message)
        };
        let count = |voters, learners| of(Health { members: members(voters, learners), ..well() });
        assert_eq!(count(1, 1).1, "OneMember");
        assert_eq!(
            count(2, 0),
            (
                Some(false),
                "EvenMembers",
                "etcd has 2 members, and tolerates the loss of no more than 1 would: add one (sheaf-agent token create \
                 --control-plane) or remove one (sheaf-agent etcd remove NAME)"
                    .into()
            )
        );
        assert_eq!(count(3, 1), (Some(true), "OddMembers", "etcd has 3 members; 1 of them may fail".into()));
        assert_eq!(count(4, 0).1, "EvenMembers");
        assert_eq!(count(5, 0).2, "etcd has 5 members; 2 of them may fail");
        let lost = of(Health { has_leader: false, members: Vec::new(), ..well() });
        assert_eq!((lost.0, lost.1), (Some(false), "NoQuorum"));
        assert_eq!(
            lost.2,
            "etcd has no leader: half of its members or more do not answer, and nothing can be changed in the cluster. Start the \
             other control-plane nodes; if they are lost for good, restore a snapshot on this node: sheaf-agent snapshot list, \
             sheaf-agent snapshot restore NAME"
        );
        assert_eq!(of(Health { is_learner: true, ..well() }).1, "Learner");
    }

    fn verdicts(observed: &Observed, failures: &Failures) -> (String, String) {
        let state = state(observed, failures, &Snapshots::default());
        let text = |verdict: Verdict| format!("{:?} {}: {}", verdict.holds, verdict.reason, verdict.message);
        (text(state.health), text(state.snapshots))
    }

    #[test]
    fn a_node_says_whether_etcd_is_healthy_and_its_snapshots_are_current() {
        let none = Failures::default();
        let (health, snapshots) = verdicts(&observed(well(), Some(NOW - HOUR)), &none);
        assert_eq!(health, "Some(true) Healthy: etcd answers, and its database has room");
        let taken = rfc3339(SystemTime::UNIX_EPOCH + Duration::from_secs(NOW - HOUR));
        let current =
            format!("Some(true) Current: a snapshot is taken every 6 h; the newest, etcd-a, is of {taken}");
        assert_eq!(snapshots, current);
        let (health, snapshots) = verdicts(&Observed::default(), &none);
        assert_eq!(health, "None NotAsked: etcd of this node was not asked yet");
        assert_eq!(snapshots, "None NoneYet: no snapshot was taken yet");
        let old = verdicts(&observed(well(), Some(NOW - 12 * HOUR - 1)), &none).1;
        assert_eq!(old, "Some(false) TooOld: the newest snapshot is older than 12 h");
        let ahead = verdicts(&observed(well(), Some(NOW + 1)), &none).1;
        assert_eq!(ahead, "None NoneYet: no snapshot was taken yet");
    }

    #[test]
    fn what_is_wrong_is_named_with_what_to_do() {
        let asking = Failures { asking: Some("timeout".into()), ..Failures::default() };
        let silent = verdicts(&Observed { now: NOW, ..Observed::default() }, &asking).0;
        assert_eq!(
            silent,
            "Some(false) NoAnswer: etcd of this node does not answer; read `journalctl -u etcd`"
        );
        let none = Failures::default();
        let reason = |health| {
            let (health, _) = verdicts(&observed(health, None), &none);
            health.split(':').next().unwrap_or_default().to_owned()
        };
        let alarmed = |alarm| Health { alarms: vec![alarm], ..well() };
        assert_eq!(reason(alarmed(Alarm::NoSpace)), "Some(false) NoSpace");
        assert_eq!(reason(alarmed(Alarm::Corrupt)), "Some(false) Corrupt");
        assert_eq!(reason(Health { size: 1700 << 20, ..well() }), "Some(false) NearQuota");
        let failures = Failures { snapshot: Some("/data has no space".into()), ..none.clone() };
        assert_eq!(
            verdicts(&observed(well(), Some(NOW)), &failures).1,
            "Some(false) Failed: the last try to take a snapshot failed: /data has no space"
        );
    }

    #[test]
    fn an_event_is_recorded_when_something_turns_bad_and_not_again_while_it_stays_so() {
        let settings = Snapshots::default();
        let good = state(&observed(well(), Some(NOW)), &Failures::default(), &settings);
        let failures = Failures { snapshot: Some("no space".into()), ..Failures::default() };
        let full = Health { alarms: vec![Alarm::NoSpace], ..well() };
        let bad = state(&observed(full, Some(NOW)), &failures, &settings);
        let reasons: Vec<_> = events(&good, &bad).into_iter().map(|event| event.reason).collect();
        assert_eq!(reasons, ["EtcdUnhealthy", "EtcdSnapshotFailed"]);
        assert_eq!(events(&bad, &bad), []);
        assert_eq!(events(&bad, &good), []);
    }

    #[test]
    fn the_status_page_has_sizes_snapshots_and_problems() {
        let failures = Failures { snapshot: Some("no space".into()), ..Failures::default() };
        let shown = section(&observed(well(), Some(NOW)), &failures, &Snapshots::default(), "n1");
        assert_eq!((shown.bytes, shown.bytes_in_use, shown.quota), (100 << 20, 60 << 20, 2 << 30));
        assert_eq!(shown.snapshots[0].name, "etcd-a");
        assert_eq!(shown.problems, ["the last try to take a snapshot failed: no space"]);
    }

    #[test]
    fn snapshots_are_listed_in_columns() {
        assert_eq!(table(&[]), "no snapshots of etcd are on this node\n");
        assert_eq!(
            table(&[snapshot("etcd-20200913T122640Z", NOW)]),
            "NAME                     TAKEN                 REASON        REVISION      SIZE\n\
             etcd-20200913T122640Z    2020-09-13T12:26:40Z  schedule           812 544 bytes\n"
        );
    }

    #[test]
    fn the_database_is_shown_against_its_quota() {
        assert_eq!(
            text(&Health { alarms: vec![Alarm::NoSpace], ..well() }),
            "version   3.7.0\nrevision  0\ndatabase  100 MiB, 4 % of its quota of 2 GiB\nfree      40 % of the database\n\
             alarms    NOSPACE\n"
        );
    }
}
