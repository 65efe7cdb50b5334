//! Certificates in columns, as JSON, and as Events. Pure.
//!
//! Route in: [`Entry`]s and the time. Route out: text; Events of what has become wrong.

use super::judge::Finding;
use super::list::{Contents, Entry};
use crate::channels::Verdict;
use crate::cluster::time::rfc3339;
use crate::console::columns::columns;
use crate::reconcile::events::Event;
use serde_json::{Value, json};
use std::time::SystemTime;

const DAY: u64 = 24 * 3600; // seconds

/// Whole days until `end`, negative after it.
fn days(end: SystemTime, now: SystemTime) -> i64 {
    let number = |days: u64| i64::try_from(days).unwrap_or(i64::MAX);
    match end.duration_since(now) {
        Ok(left) => number(left.as_secs() / DAY),
        Err(past) => -number(past.duration().as_secs().div_ceil(DAY)),
    }
}

/// A line for each.
pub fn table(entries: &[Entry], now: SystemTime) -> String {
    if entries.is_empty() {
        return "this node is in no cluster: it has no certificates\n".into();
    }
    let head = ["NAME", "ENDS", "DAYS", "RENEWED BY", "SUBJECT", "ISSUER", "FILE"].map(str::to_owned);
    let mut rows = vec![head];
    for entry in entries {
        let (ends, left, subject, issuer) = match &entry.contents {
            Contents::Certificate(facts) => (
                rfc3339(facts.not_after),
                days(facts.not_after, now).to_string(),
                facts.subject.clone(),
                facts.issuer.clone(),
            ),
            Contents::Key => ("never".into(), "-".into(), "-".into(), "-".into()),
            Contents::Missing => ("not made yet".into(), "-".into(), "-".into(), "-".into()),
            Contents::Damaged(_) => ("damaged".into(), "-".into(), "-".into(), "-".into()),
        };
        let file = entry.file.display().to_string();
        rows.push([entry.name.clone(), ends, left, entry.renewal.word().into(), subject, issuer, file]);
    }
    columns(&rows)
}

/// All of it, for programs.
pub fn document(entries: &[Entry], findings: &[Finding], now: SystemTime) -> Value {
    let shown = entries.iter().map(|entry| {
        let mut value = json!({
            "name": entry.name, "file": entry.file, "renewedBy": entry.renewal.word(), "state": "valid",
        });
        match &entry.contents {
            Contents::Certificate(facts) => {
                value["subject"] = facts.subject.clone().into();
                value["issuer"] = facts.issuer.clone().into();
                value["begins"] = rfc3339(facts.not_before).into();
                value["ends"] = rfc3339(facts.not_after).into();
                value["daysLeft"] = days(facts.not_after, now).into();
                if now >= facts.not_after {
                    value["state"] = "expired".into();
                } else if now < facts.not_before {
                    value["state"] = "notYetValid".into();
                }
            }
            Contents::Key => value["state"] = "key".into(),
            Contents::Missing => value["state"] = "missing".into(),
            Contents::Damaged(why) => {
                value["state"] = "damaged".into();
                value["why"] = why.clone().into();
            }
        }
        value
    });
    let problems: Vec<Value> = findings
        .iter()
        .map(|finding| json!({"reason": finding.wrong.reason(), "message": finding.message}))
        .collect();
    json!({"certificates": shown.collect::<Vec<_>>(), "problems": problems})
}

/// What is new in `now` for people who look at the Node.
pub fn event(before: Option<&Verdict>, now: &Verdict) -> Option<Event> {
    (now.holds == Some(false) && before != Some(now))
        .then(|| Event::warning("CertificatesNotValid", now.message.clone()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::certificates::judge::{Wrong, judge, verdict};
    use crate::certificates::list::{Part, Renewal};
    use crate::cluster::keys::{self, Authority, Key, Subject};
    use std::time::Duration;

    fn entries(now: SystemTime) -> Vec<Entry> {
        let (pem, key) = Authority::create("kubernetes", now).unwrap();
        let subject = Subject::node("n1");
        let public = Key::generate().unwrap().public_der().unwrap();
        let valid = Duration::from_secs(3 * DAY);
        let leaf =
            Authority::from_pem(&pem, &key).unwrap().issue_client(&subject, &public, valid, now).unwrap();
        let entry = |name: &str, renewal, contents| Entry {
            name: name.into(),
            file: format!("/pki/{name}").into(),
            renewal,
            contents,
        };
        vec![
            entry("ca", Renewal::Fetched, Contents::Certificate(keys::facts(&pem).unwrap())),
            entry("client", Renewal::Cluster, Contents::Certificate(keys::facts(&leaf).unwrap())),
            entry("sa.key", Renewal::Endless, Contents::Key),
            entry("serving", Renewal::Cluster, Contents::Missing),
        ]
    }

    #[test]
    fn the_table_names_subject_issuer_end_and_who_renews_it() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_600_000_000);
        let text = table(&entries(now), now);
        let rows: Vec<Vec<&str>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(
            rows[2],
            [
                "client",
                "2020-09-16T12:26:40Z",
                "3",
                "agent,",
                "signed",
                "by",
                "the",
                "cluster",
                "CN=system:node:n1,O=system:nodes",
                "CN=kubernetes",
                "/pki/client"
            ]
        );
        assert_eq!(rows[1][..4], ["ca", "2030-09-11T12:26:40Z", "3650", "agent,"]);
        assert!(text.contains("sa.key   never"), "{text}");
        assert!(text.contains("serving  not made yet"), "{text}");
        assert_eq!(table(&[], now), "this node is in no cluster: it has no certificates\n");
    }

    #[test]
    fn the_document_says_what_has_expired_and_the_problems() {
        let made = SystemTime::UNIX_EPOCH + Duration::from_secs(1_600_000_000);
        let (entries, now) = (entries(made), made + Duration::from_secs(4 * DAY));
        let findings = judge(&entries, Part::Joined, now);
        let document = document(&entries, &findings, now);
        assert_eq!(document["certificates"][1]["state"], "expired");
        assert_eq!(document["certificates"][1]["daysLeft"], -1);
        assert_eq!(document["certificates"][0]["state"], "valid");
        assert_eq!(document["certificates"][3]["state"], "missing");
        assert_eq!(document["problems"][0]["reason"], Wrong::Expired.reason());
        let verdict = verdict(&findings);
        assert!(
            event(None, &verdict).unwrap().note.starts_with("client (/pki/client) expired at 2020-09-16")
        );
        assert_eq!(event(Some(&verdict), &verdict), None, "it was said already");
    }
}
