//! What of a node's journal is asked for.
//!
//! Why here: the parameters, bounds and refusals of a kubelet (KEP-2258, `kubectl get --raw .../proxy/logs/?query=UNIT`), pure; no
//! text of a client becomes an option of a program. Route in: a query. Route out: a [`Query`] and its command, or a text as
//! kubelet has it.

use super::super::answer::Refusal;
use http::StatusCode;
use k8s_openapi::jiff::Timestamp;
use sheaf_host::run::Command;
use std::fmt::Display;

/// Most units at once; kubelet's.
const MOST_UNITS: usize = 4;
/// Longest name of a unit, in bytes; kubelet's.
const LONGEST_UNIT: usize = 256;
/// Most lines from the end; kubelet's.
const MOST_LINES: u32 = 100_000;
/// Longest pattern, in bytes.
const LONGEST_PATTERN: usize = 1024;

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Query {
    /// What there is.
    Listing,
    /// A file, by its name.
    File(String),
    /// Lines of the journal.
    Journal(Journal),
}

/// Lines of the journal.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Journal {
    units: Vec<String>,
    since: Option<Timestamp>,
    until: Option<Timestamp>,
    lines: Option<u32>,
    /// 0 is the present boot, -1 the one before it.
    boot: Option<i32>,
    pattern: Option<String>,
}

impl Query {
    /// Reads the `query` of a request.
    pub fn parse(query: &str) -> Result<Self, Refusal> {
        let mut errors = Vec::new();
        let mut wrong = |name: &str, value: &dyn Display, why: &dyn Display| {
            errors.push(format!("{name}: Invalid value: \"{value}\": {why}"));
        };
        let (mut files, mut journal) = (Vec::new(), Journal::default());
        let mut names = 0;
        for (key, value) in form_urlencoded::parse(query.as_bytes()) {
            let time = || value.parse::<Timestamp>().map(Some);
            match &*key {
                "query" => {
                    names += 1;
                    match value.trim() {
                        "" => {}
                        name if name.contains('/') => files.push(name.trim_start_matches('/').to_owned()),
                        name if name.len() > LONGEST_UNIT => {
                            wrong("query", &name, &format!("length must be less than {LONGEST_UNIT}"));
                        }
                        name if !is_unit(name) => {
                            wrong("query", &name, &"input contains unsupported characters");
                        }
                        name => journal.units.push(name.to_owned()),
                    }
                }
                _ if value.is_empty() => {}
                "sinceTime" => match time() {
                    Ok(time) => journal.since = time,
                    Err(_) => wrong("sinceTime", &value, &"invalid time format"),
                },
                "untilTime" => match time() {
                    Ok(time) => journal.until = time,
                    Err(_) => wrong("untilTime", &value, &"invalid time format"),
                },
                "boot" => match value.parse() {
                    Ok(boot) if boot <= 0 => journal.boot = Some(boot),
                    Ok(_) => wrong("boot", &value, &"must be less than 1"),
                    Err(error) => wrong("boot", &value, &error),
                },
                "tailLines" => match value.parse() {
                    Ok(lines) if lines <= MOST_LINES => journal.lines = Some(lines),
                    _ => {
                        wrong("tailLines", &value, &format!("must be between 0 and {MOST_LINES}, inclusive"))
                    }
                },
                "pattern" if value.len() > LONGEST_PATTERN => {
                    wrong("pattern", &"...", &format!("length must be less than {LONGEST_PATTERN}"));
                }
                "pattern" => journal.pattern = Some(value.into_owned()),
                _ => {}
            }
        }
        if journal.since.zip(journal.until).is_some_and(|(since, until)| since > until) {
            errors.push("untilTime: Invalid value: must be after `sinceTime`".into());
        }
        if journal.units.len() > MOST_UNITS {
            errors.push(format!(
                "query: Too many: {}: must have at most {MOST_UNITS} items",
                journal.units.len()
            ));
        }
        let with_options = journal != Journal { units: journal.units.clone(), ..Journal::default() };
        let found = match (files.as_slice(), names) {
            ([], 0) if !with_options => Ok(Self::Listing),
            ([], _) if !journal.units.is_empty() || !errors.is_empty() => Ok(Self::Journal(journal)),
            ([], 0) => Err("query: Required value: cannot be empty with options"),
            ([], _) => Err("query: Invalid value: \"\": may not be empty"),
            (_, _) if !journal.units.is_empty() => {
                Err("query: Invalid value: cannot specify a file and service")
            }
            ([_, _, ..], _) => Err("query: Invalid value: cannot specify more than one file"),
            (_, _) if with_options => Err("query: Invalid value: cannot specify file with options"),
            ([file], _) => Ok(Self::File(file.clone())),
        };
        let bad = |text: String| Refusal::new(StatusCode::BAD_REQUEST, format!("{text}\n"));
        match (found, errors.as_slice()) {
            (Ok(found), []) => Ok(found),
            (Err(error), []) => Err(bad(error.into())),
            (_, [error]) => Err(bad(error.clone())),
            (_, errors) => Err(bad(format!("[{}]", errors.join(", ")))),
        }
    }
}

impl Journal {
    /// The program that prints them, oldest first, in UTC.
    pub fn command(&self) -> Command {
        // Seconds since the epoch: any other form is read in the node's own time zone.
        let time = |time: &Timestamp| format!("@{}", time.as_second());
        let options = [
            self.since.as_ref().map(|since| format!("--since={}", time(since))),
            self.until.as_ref().map(|until| format!("--until={}", time(until))),
            self.lines.map(|lines| format!("--lines={lines}")),
            self.pattern.as_ref().map(|pattern| format!("--grep={pattern}")),
            self.boot.map(|boot| format!("--boot={boot}")),
        ];
        Command::new("journalctl")
            .args(["--utc", "--no-pager", "--output=short-precise"])
            .args(options.into_iter().flatten())
            .args(self.units.iter().map(|unit| format!("--unit={unit}")))
    }
}

/// Whether a text can be the name of a unit, and nothing that a program reads as a pattern.
fn is_unit(name: &str) -> bool {
    name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.:@".contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn command(query: &str) -> String {
        match Query::parse(query).unwrap() {
            Query::Journal(journal) => journal.command().to_string(),
            other => format!("{other:?}"),
        }
    }

    #[test]
    fn kubectls_examples_become_calls_of_journalctl() {
        let base = "journalctl --utc --no-pager --output=short-precise";
        assert_eq!(command("query=sheaf-agent"), format!("{base} --unit=sheaf-agent"));
        assert_eq!(
            command(
                "query=libvirtd&query=virtlogd&sinceTime=2026-11-30T10:00:00Z&untilTime=2026-11-30T13:00:00%2B02:00\
                 &tailLines=5&pattern=time%20out&boot=-1"
            ),
            format!(
                "{base} --since=@1796032800 --until=@1796036400 --lines=5 '--grep=time out' \
                 --boot=-1 --unit=libvirtd --unit=virtlogd"
            )
        );
        assert_eq!(Query::parse(""), Ok(Query::Listing));
        assert_eq!(Query::parse("query=/node.toml"), Ok(Query::File("node.toml".into())));
    }

    #[test]
    fn what_a_kubelet_refuses_is_refused_in_its_words() {
        for (query, text) in [
            ("query=", "query: Invalid value: \"\": may not be empty"),
            ("query=%20%20", "query: Invalid value: \"\": may not be empty"),
            ("tailLines=5", "query: Required value: cannot be empty with options"),
            ("query=a&query=/b", "query: Invalid value: cannot specify a file and service"),
            ("query=/a&query=/b", "query: Invalid value: cannot specify more than one file"),
            ("query=/a&boot=0", "query: Invalid value: cannot specify file with options"),
            ("query=a&query=b&query=c&query=d&query=e", "query: Too many: 5: must have at most 4 items"),
            ("query=a;b", "query: Invalid value: \"a;b\": input contains unsupported characters"),
            ("query=a*", "query: Invalid value: \"a*\": input contains unsupported characters"),
            ("query=a&boot=1", "boot: Invalid value: \"1\": must be less than 1"),
            ("query=a&sinceTime=today", "sinceTime: Invalid value: \"today\": invalid time format"),
            (
                "query=a&tailLines=100001",
                "tailLines: Invalid value: \"100001\": must be between 0 and 100000, inclusive",
            ),
            (
                "query=a&tailLines=-1&boot=1",
                "[tailLines: Invalid value: \"-1\": must be between 0 and 100000, inclusive, boot: Invalid value: \
                 \"1\": must be less than 1]",
            ),
            (
                "query=a&sinceTime=2026-11-30T10:00:00Z&untilTime=2026-11-30T09:00:00Z",
                "untilTime: Invalid value: must be after `sinceTime`",
            ),
        ] {
            let refusal = Query::parse(query).unwrap_err();
            assert_eq!((refusal.0.as_u16(), refusal.1.trim_end()), (400, text), "{query}");
        }
    }

    #[test]
    fn no_text_becomes_an_option() {
        assert!(command("query=--rotate&pattern=--rotate").ends_with(" --grep=--rotate --unit=--rotate"));
    }
}
