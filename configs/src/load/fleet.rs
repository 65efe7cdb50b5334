//! `[[node]]`: one file for many machines.
//!
//! Each table `[[node]]` is laid over the rest of the file and the result is read like a file of its own, so every
//! rule holds for every machine, and each problem is named by where it stands. Route in: the top table. Route out:
//! [`ConfigFile`], which gives one machine its config.

use super::{ELSEWHERE, Read, plain, read_root};
use crate::diagnose::{Errors, Problem, Report};
use crate::node::{Hostname, Identity, Match, NodeConfig};
use crate::spanned::{At, Table};
use crate::syntax;
use std::collections::BTreeMap;
use std::net::IpAddr;

/// How many machines an error lists: a screenful.
const LISTED: usize = 10;

/// A file for one machine or for many.
#[derive(Clone, Debug, PartialEq)]
pub struct ConfigFile {
    name: String,
    entries: Vec<Entry>,
}

/// The config of one machine in a file.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// By what the machine is recognised; none: the file is for one machine.
    pub matches: Option<Match>,
    /// Line of its `[[node]]`, from 1.
    pub line: usize,
    /// Line of its host name, from 1.
    hostname_line: usize,
    /// Its config; a template of a host name stays one.
    pub config: NodeConfig,
}

impl Entry {
    pub(super) fn single(read: Read, report: &Report<'_>) -> Self {
        let hostname_line = report.line(read.hostname.span.start);
        Self { matches: None, line: 1, hostname_line, config: read.config }
    }
}

impl ConfigFile {
    pub(super) fn new(name: &str, entries: Vec<Entry>) -> Self {
        Self { name: name.to_owned(), entries }
    }

    /// The file as messages call it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Every machine's config, in the file's order.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// Whether it is for many machines.
    pub fn is_fleet(&self) -> bool {
        self.entries.iter().any(|entry| entry.matches.is_some())
    }

    /// The config of a file for one machine.
    pub fn single(mut self) -> Result<NodeConfig, Errors> {
        match self.entries.pop() {
            Some(Entry { matches: None, config, .. }) => Ok(config),
            _ => Err(self.refuse(
                "is for several machines, and one for a single machine is needed here",
                "give the file of this machine",
            )),
        }
    }

    /// The config of `machine`: of the one `[[node]]` that matches it, its host name made out.
    pub fn for_machine(&self, machine: &Identity) -> Result<NodeConfig, Errors> {
        let holds = |entry: &&Entry| entry.matches.as_ref().is_none_or(|matches| matches.holds(machine));
        let fitting: Vec<_> = self.entries.iter().filter(holds).collect();
        let [entry] = fitting[..] else {
            let is = described(machine);
            return Err(match fitting.is_empty() {
                true => self.refuse(
                    format!(
                        "no [[node]] matches this machine ({is}); there are {}",
                        self.listed(self.entries.iter())
                    ),
                    "add one with a match that this machine has",
                ),
                false => self.refuse(
                    format!(
                        "several [[node]] match this machine ({is}): {}",
                        self.listed(fitting.into_iter())
                    ),
                    "give one of them a match that only one machine has",
                ),
            });
        };
        let mut config = entry.config.clone();
        config.system.hostname = self.hostname(entry, machine)?;
        Ok(config)
    }

    /// The file that says `config` and nothing of other machines: `text`, of which this was read, where that is so.
    pub fn text_of(&self, text: &str, config: &NodeConfig) -> Result<String, toml::ser::Error> {
        let is_this_one = !self.is_fleet() && self.entries.iter().any(|entry| entry.config == *config);
        match is_this_one {
            true => Ok(text.to_owned()),
            false => config.to_toml(),
        }
    }

    fn hostname(&self, entry: &Entry, machine: &Identity) -> Result<String, Errors> {
        let template = &entry.config.system.hostname;
        let problem = |what: String, remedy: String| Errors {
            file: self.name.clone(),
            problems: vec![Problem {
                line: Some(entry.hostname_line),
                path: "system.hostname".into(),
                what,
                remedy,
            }],
        };
        let made = Hostname::parse(template).and_then(|parsed| parsed.on(machine));
        let name = made.map_err(|what| problem(what, "write the name itself, or another field".into()))?;
        syntax::hostname(&name).map_err(|wrong| {
            let what = format!("\"{template}\" makes a name that cannot be used here: {}", wrong.0);
            problem(what, "write the name itself, or fewer characters: {serial:8}".into())
        })
    }

    fn refuse(&self, what: impl Into<String>, remedy: &str) -> Errors {
        Errors::whole_file(&self.name, what, remedy)
    }

    fn listed<'e>(&self, entries: impl Iterator<Item = &'e Entry>) -> String {
        let line = |entry: &Entry| Some(format!("{} (line {})", entry.matches.as_ref()?, entry.line));
        let mut all: Vec<_> = entries.filter_map(line).collect();
        let more = all.len().saturating_sub(LISTED);
        all.truncate(LISTED);
        if more > 0 {
            all.push(format!("{more} more"));
        }
        all.join(", ")
    }
}

fn described(machine: &Identity) -> String {
    let fact = |name: &str, value: &Option<String>| match value {
        Some(value) => format!("{name} \"{value}\""),
        None => format!("no {name}"),
    };
    let macs =
        if machine.macs.is_empty() { "no MAC".into() } else { format!("mac {}", machine.macs.join(" ")) };
    [fact("serial", &machine.serial), fact("uuid", &machine.uuid), macs].join(", ")
}

/// Reads a file with `[[node]]`.
pub(super) fn read(mut root: Table<'_, '_>) -> Option<Vec<Entry>> {
    let report = root.report();
    let place = root.place("node")?;
    let tables = root.optional("node", |value| value.tables())?;
    if tables.is_empty() {
        place.wrong(report, "is empty", "remove the key, or write [[node]] once for each machine");
    }
    let mut entries = Vec::new();
    for (index, mut over) in tables.into_iter().enumerate() {
        let matches = over.required("match", "match = { serial = \"…\" }", |value| matches(value.table()?));
        if let Some(version) = over.place("version") {
            version.wrong(report, "is set once for the whole file", "remove it here");
        }
        let (merged, starts) = root.overlaid("node", &over, "match");
        let read = report.inside(format!("node[{index}]"), starts, || read_root(over.over(&merged), false));
        entries.push((over.at(), matches, read));
    }
    machines_differ(report, &entries);
    names_differ(report, &entries);
    addresses_differ(report, &entries);
    let entry = |(place, matches, read): (At<()>, Option<At<Match>>, Option<Read>)| {
        let line = report.line(place.span.start);
        Some(Entry { matches: Some(plain(matches)?), line, ..Entry::single(read?, report) })
    };
    entries.into_iter().map(entry).collect()
}

fn matches(mut table: Table<'_, '_>) -> Option<At<Match>> {
    let (report, place) = (table.report(), table.at());
    let is_empty = ["mac", "serial", "uuid"].iter().all(|key| table.place(key).is_none());
    let mac = table.optional("mac", |value| value.text(syntax::mac));
    let serial = table.optional("serial", |value| value.text(syntax::machine_fact));
    let uuid = table.optional("uuid", |value| value.text(syntax::uuid));
    table.finish(ELSEWHERE);
    if is_empty {
        place.wrong(report, "matches every machine", "give at least one of mac, serial, uuid");
    }
    Some(place.map(|()| Match { mac: plain(mac), serial: plain(serial), uuid: plain(uuid) }))
}

type Readings = [(At<()>, Option<At<Match>>, Option<Read>)];

/// Two tables that one machine could match would leave the choice to chance.
fn machines_differ(report: &Report<'_>, entries: &Readings) {
    let mut seen: BTreeMap<(&str, String), Vec<&At<Match>>> = BTreeMap::new();
    for matches in entries.iter().filter_map(|(_, matches, _)| matches.as_ref()) {
        let facts =
            [("mac", &matches.value.mac), ("serial", &matches.value.serial), ("uuid", &matches.value.uuid)];
        let mut reported = false;
        for (key, value) in facts {
            let Some(value) = value else { continue };
            let same = seen.entry((key, value.to_lowercase())).or_default();
            let clash = same.iter().find(|first| !differ(&first.value, &matches.value));
            if let (Some(first), false) = (clash, reported) {
                let line = report.line(first.span.start);
                matches.wrong(
                    report,
                    format!("matches the machine of line {line} too"),
                    "give each machine one [[node]]",
                );
                reported = true;
            }
            same.push(matches);
        }
    }
}

/// Whether some key that both give has two values.
fn differ(a: &Match, b: &Match) -> bool {
    let two = |a: &Option<String>, b: &Option<String>| match (a, b) {
        (Some(a), Some(b)) => !a.eq_ignore_ascii_case(b),
        _ => false,
    };
    two(&a.mac, &b.mac) || two(&a.serial, &b.serial) || two(&a.uuid, &b.uuid)
}

fn names_differ(report: &Report<'_>, entries: &Readings) {
    let mut seen = BTreeMap::new();
    for (index, (_, _, read)) in entries.iter().enumerate() {
        let Some(Read { hostname, .. }) = read else { continue };
        if Hostname::parse(&hostname.value).is_ok_and(|parsed| !parsed.is_fixed()) {
            continue;
        }
        let Some(first) = seen.insert(&hostname.value, hostname.span.start) else { continue };
        if first == hostname.span.start {
            let remedy = "write system.hostname in each [[node]], or a template: \"node-{serial}\"";
            hostname.wrong(report, format!("\"{}\" is the name of several machines", hostname.value), remedy);
        } else {
            let what =
                format!("\"{}\" is already the machine of line {}", hostname.value, report.line(first));
            let place = At { path: format!("node[{index}].{}", hostname.path), ..hostname.clone() };
            place.wrong(report, what, "rename one of them");
        }
    }
}

fn addresses_differ(report: &Report<'_>, entries: &Readings) {
    let mut seen: BTreeMap<IpAddr, (usize, usize)> = BTreeMap::new();
    for (index, (_, _, read)) in entries.iter().enumerate() {
        for address in read.iter().flat_map(|read| &read.addresses) {
            let start = address.span.start;
            let Some((first, owner)) = seen.insert(address.value.addr(), (start, index)) else { continue };
            if owner == index {
                continue; // the machine's own rules say it
            }
            let ip = address.value.addr();
            if first == start {
                let remedy = "write the addresses in each [[node]], or use DHCP";
                address.wrong(report, format!("\"{ip}\" is an address of several machines"), remedy);
            } else {
                let what =
                    format!("\"{ip}\" is already an address of the machine in line {}", report.line(first));
                let place = At { path: format!("node[{index}].{}", address.path), ..address.clone() };
                place.wrong(report, what, "give each machine its own");
            }
        }
    }
}
