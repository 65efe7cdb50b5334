//! Which certificates somebody must do something about, and what. Pure.
//!
//! Route in: [`Entry`]s, the time, the node's part in its cluster. Route out: [`Finding`]s, each with its remedy, and the
//! condition of the Node.

use super::list::{Contents, Entry, Part, Renewal};
use crate::channels::Verdict;
use crate::cluster::time::rfc3339;
use std::time::{Duration, SystemTime};

/// What is fetched is reported so long before its end: time to plan a night's work.
pub const WARN_BEFORE: Duration = Duration::from_secs(30 * 24 * 3600);

/// What is renewed in time has more than a tenth of its life left at any moment. With less than a twentieth, renewal fails.
const LATE: u32 = 20;

/// What is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Wrong {
    /// It is past its end.
    Expired,
    /// It is not valid yet: the clock was ahead when it was made, or is behind now.
    NotYetValid,
    /// It cannot be read.
    Damaged,
    /// It ends soon, and the cluster has no other to fetch.
    EndsSoon,
    /// It ends soon, and should have been renewed.
    NotRenewed,
}

impl Wrong {
    /// The reason of the Node's condition.
    pub fn reason(self) -> &'static str {
        match self {
            Self::Expired => "Expired",
            Self::NotYetValid => "NotYetValid",
            Self::Damaged => "Damaged",
            Self::EndsSoon => "EndsSoon",
            Self::NotRenewed => "NotRenewed",
        }
    }
}

/// Something to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What is wrong.
    pub wrong: Wrong,
    /// One sentence, with the remedy; it holds no number that changes by itself.
    pub message: String,
}

/// All that is wrong with `entries` at `now`, the worst first.
pub fn judge(entries: &[Entry], part: Part, now: SystemTime) -> Vec<Finding> {
    let mut findings: Vec<Finding> = entries.iter().filter_map(|entry| judge_one(entry, part, now)).collect();
    findings.sort_by_key(|finding| finding.wrong);
    findings
}

fn judge_one(entry: &Entry, part: Part, now: SystemTime) -> Option<Finding> {
    let Entry { name, file, renewal, contents } = entry;
    let file = file.display();
    let facts = match contents {
        // What is not there yet is being made: joining and making a cluster report their own failures.
        Contents::Missing | Contents::Key => return None,
        Contents::Damaged(why) => {
            let message = format!("{name} ({file}) cannot be read: {why}; {}", remedy(entry, part));
            return Some(Finding { wrong: Wrong::Damaged, message });
        }
        Contents::Certificate(facts) => facts,
    };
    let (begin, end) = (rfc3339(facts.not_before), rfc3339(facts.not_after));
    let life = facts.not_after.duration_since(facts.not_before).unwrap_or_default();
    let left = facts.not_after.duration_since(now).unwrap_or_default();
    let (wrong, what) = match renewal {
        _ if left.is_zero() => (Wrong::Expired, format!("expired at {end}")),
        _ if now < facts.not_before => (Wrong::NotYetValid, format!("is valid only from {begin}")),
        Renewal::Fetched | Renewal::Given if left < WARN_BEFORE => {
            (Wrong::EndsSoon, format!("ends at {end}"))
        }
        Renewal::Agent | Renewal::Cluster if left < (life / LATE).min(WARN_BEFORE) => {
            (Wrong::NotRenewed, format!("ends at {end} and was not renewed"))
        }
        _ => return None,
    };
    let remedy = match wrong {
        Wrong::NotYetValid => "check the clock and its time servers",
        _ => remedy(entry, part),
    };
    Some(Finding { wrong, message: format!("{name} ({file}) {what}; {remedy}") })
}

/// What helps.
fn remedy(entry: &Entry, part: Part) -> &'static str {
    match (entry.renewal, part) {
        (Renewal::Agent, _) | (Renewal::Cluster, Part::Created) => {
            "restart the agent, which makes another, and read `journalctl -u sheaf-agent`"
        }
        (Renewal::Cluster, _) => {
            "if the client certificate has expired, put a new token (`sheaf-agent token create` on a control-plane node) into \
             /state/node.toml and restart the agent; the node keeps its key and its name. Otherwise read `journalctl -u \
             sheaf-agent`"
        }
        (Renewal::Fetched, _) => {
            "the agents of control-plane nodes make another two years before its end, and this one fetches it: read `journalctl -u \
             sheaf-agent` there and here"
        }
        (Renewal::Given, _) => "put another certificate and its key into `[console]` of node.toml",
        (Renewal::Endless, _) => "restore it from the file that `sheaf-agent snapshot save-keys` wrote",
    }
}

/// The condition CertificatesValid of the Node.
pub fn verdict(findings: &[Finding]) -> Verdict {
    match findings.first() {
        None => {
            Verdict::new(Some(true), "Valid", "every certificate of this node is valid, and renewed in time")
        }
        Some(worst) => {
            let messages: Vec<&str> = findings.iter().map(|finding| &*finding.message).collect();
            Verdict::new(Some(false), worst.wrong.reason(), messages.join("; "))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::keys::Facts;

    const DAY: Duration = Duration::from_secs(24 * 3600);
    const YEAR: u32 = 365;

    fn at(day: u32) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(1_600_000_000) + DAY * day
    }

    /// A certificate that is valid from day 0 to day `end`.
    fn entry(renewal: Renewal, end: u32) -> Entry {
        let facts = Facts {
            not_before: at(0),
            not_after: at(end),
            public_der: Vec::new(),
            subject: "CN=a".into(),
            issuer: "CN=b".into(),
            addresses: Vec::new(),
            names: Vec::new(),
        };
        Entry { name: "x".into(), file: "/x.crt".into(), renewal, contents: Contents::Certificate(facts) }
    }

    fn wrong(renewal: Renewal, end: u32, day: u32) -> Option<Wrong> {
        judge(&[entry(renewal, end)], Part::Created, at(day)).first().map(|finding| finding.wrong)
    }

    #[test]
    fn a_certificate_that_is_fetched_is_reported_thirty_days_before_its_end() {
        assert_eq!(wrong(Renewal::Fetched, 10 * YEAR, 10 * YEAR - 30), None);
        assert_eq!(wrong(Renewal::Fetched, 10 * YEAR, 10 * YEAR - 29), Some(Wrong::EndsSoon));
        assert_eq!(wrong(Renewal::Fetched, 10 * YEAR, 10 * YEAR), Some(Wrong::Expired));
    }

    #[test]
    fn one_that_is_renewed_is_reported_when_that_did_not_happen_however_short_its_life() {
        for renewal in [Renewal::Agent, Renewal::Cluster] {
            // A node asks at 90 % of a year at the latest.
            assert_eq!(wrong(renewal, YEAR, YEAR * 9 / 10 + 1), None);
            assert_eq!(wrong(renewal, YEAR, YEAR - 18), Some(Wrong::NotRenewed));
            assert_eq!(wrong(renewal, 1, 0), None, "one day of life is much for a certificate of a day");
            assert_eq!(wrong(renewal, YEAR, YEAR + 400), Some(Wrong::Expired));
        }
        assert_eq!(wrong(Renewal::Agent, YEAR, 0), None);
    }

    #[test]
    fn one_that_begins_in_the_future_is_a_matter_of_the_clock() {
        let early = at(0) - DAY;
        let found = judge(&[entry(Renewal::Fetched, YEAR)], Part::Created, early);
        assert_eq!(found[0].wrong, Wrong::NotYetValid);
        assert_eq!(
            found[0].message,
            "x (/x.crt) is valid only from 2020-09-13T12:26:40Z; check the clock and its time servers"
        );
    }

    #[test]
    fn a_worker_whose_client_certificate_expired_needs_a_new_token_and_a_control_plane_makes_another_itself()
    {
        let expired = [entry(Renewal::Cluster, 1)];
        assert_eq!(
            judge(&expired, Part::Joined, at(2))[0].message,
            "x (/x.crt) expired at 2020-09-14T12:26:40Z; if the client certificate has expired, put a new token \
             (`sheaf-agent token create` on a control-plane node) into /state/node.toml and restart the agent; the node keeps \
             its key and its name. Otherwise read `journalctl -u sheaf-agent`"
        );
        assert_eq!(
            judge(&expired, Part::Created, at(2))[0].message,
            "x (/x.crt) expired at 2020-09-14T12:26:40Z; restart the agent, which makes another, and read `journalctl -u \
             sheaf-agent`"
        );
    }

    #[test]
    fn the_worst_is_the_reason_and_all_are_in_the_message() {
        let damaged = Entry { contents: Contents::Damaged("no PEM".into()), ..entry(Renewal::Agent, 1) };
        let missing = Entry { contents: Contents::Missing, ..entry(Renewal::Cluster, 1) };
        let entries = [damaged, missing, entry(Renewal::Fetched, 1)];
        let found = verdict(&judge(&entries, Part::Joined, at(9)));
        assert_eq!((found.holds, found.reason), (Some(false), "Expired"));
        assert_eq!(
            found.message,
            "x (/x.crt) expired at 2020-09-14T12:26:40Z; the agents of control-plane nodes make another two years before its end, and \
             this one fetches it: read `journalctl -u sheaf-agent` there and here; x (/x.crt) cannot be read: no PEM; restart the agent, which makes another, and read `journalctl -u \
             sheaf-agent`"
        );
        assert_eq!(verdict(&[]).holds, Some(true));
    }
}
