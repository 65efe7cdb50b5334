//! A table, read key by key.
//!
//! Route in: a document, or a [`Value`] that is a table. Route out: values of the keys asked for; the others as
//! problems.

use super::{At, Value};
use crate::diagnose::{Report, did_you_mean};
use std::ops::Range;
use toml::de::DeTable;

/// A table being read.
#[derive(Debug)]
pub struct Table<'d, 't> {
    pub(super) report: &'d Report<'t>,
    /// `network.bridge[0]`, empty at the top.
    pub(super) path: String,
    pub(super) span: Range<usize>,
    pub(super) table: &'d DeTable<'t>,
    pub(super) known: Vec<&'static str>,
    /// A key that is there could not be parsed.
    pub(super) unread: bool,
}

impl<'d, 't> Table<'d, 't> {
    /// The report that problems go to.
    pub fn report(&self) -> &'d Report<'t> {
        self.report
    }

    /// Its own place.
    pub fn at(&self) -> At<()> {
        At { value: (), path: self.path.clone(), span: self.span.clone() }
    }

    fn path_of(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }

    /// The place of `key` if it is there: for rules that forbid it.
    pub fn place(&self, key: &str) -> Option<At<()>> {
        let (found, _) = self.table.get_key_value(key)?;
        Some(At { value: (), path: self.path_of(key), span: found.span() })
    }

    /// What is in it.
    pub fn raw(&self) -> &'d DeTable<'t> {
        self.table
    }

    /// Whether every key that was asked for and is there could be read: rules about a part would mislead.
    pub fn is_whole(&self) -> bool {
        !self.unread
    }

    /// The same table once more, for [`Table::place_of`] after it was read.
    pub fn again(&self) -> Self {
        let (path, span) = (self.path.clone(), self.span.clone());
        Table { report: self.report, path, span, table: self.table, known: Vec::new(), unread: false }
    }

    /// The place of `path` below this table, `bond[0].ports[1]`; of what is not there, the place of the table that lacks it.
    /// An element of a list that is no table goes by the list's key and its own line.
    pub fn place_of(&self, path: &str) -> At<()> {
        let (mut table, mut place) = (self.table, self.at());
        for part in path.split('.').filter(|part| !part.is_empty()) {
            let (name, index) = match part.split_once('[') {
                Some((name, index)) => (name, index.trim_end_matches(']').parse::<usize>().ok()),
                None => (part, None),
            };
            let inner = |path: &str, part: &str| {
                if path.is_empty() { part.to_owned() } else { format!("{path}.{part}") }
            };
            let found = table.get_key_value(name);
            let element =
                found.and_then(|(_, value)| index.and_then(|index| value.get_ref().as_array()?.get(index)));
            match (found, element) {
                (_, Some(element)) => match element.get_ref().as_table() {
                    Some(inside) => {
                        (table, place.span, place.path) = (inside, element.span(), inner(&place.path, part));
                    }
                    None => (place.span, place.path) = (element.span(), inner(&place.path, name)),
                },
                (Some((key, value)), None) => {
                    place.path = inner(&place.path, name);
                    place.span = match value.get_ref().as_table() {
                        Some(inside) => {
                            table = inside;
                            key.span()
                        }
                        None => value.span(),
                    };
                }
                (None, None) => place.path = inner(&place.path, name),
            }
        }
        place
    }

    /// Allows `key`, which somebody else reads.
    pub fn allow(&mut self, key: &'static str) {
        self.known.push(key);
    }

    /// `table`, made by [`Table::overlaid`], in place of this one.
    pub fn over<'m>(&'m self, table: &'m DeTable<'t>) -> Table<'m, 't> {
        Table {
            report: self.report,
            path: String::new(),
            span: self.span.clone(),
            table,
            known: Vec::new(),
            unread: false,
        }
    }

    /// Reads `key` by `read`, when it is there.
    pub fn optional<T>(
        &mut self,
        key: &'static str,
        read: impl FnOnce(Value<'d, 't>) -> Option<T>,
    ) -> Option<T> {
        self.known.push(key);
        let (found, value) = self.table.get_key_value(key)?;
        let (path, key_span) = (self.path_of(key), found.span());
        let read = read(Value { report: self.report, path, key_span, value });
        self.unread |= read.is_none();
        read
    }

    /// Reads `key` by `read`; its absence is reported, with `example` as the line to add.
    pub fn required<T>(
        &mut self,
        key: &'static str,
        example: &str,
        read: impl FnOnce(Value<'d, 't>) -> Option<T>,
    ) -> Option<T> {
        if !self.table.contains_key(key) {
            let place = match self.path.is_empty() {
                true => String::new(),
                false if self.path.ends_with(']') => format!(" to this [[{}]]", header(&self.path)),
                false => format!(" to [{}]", header(&self.path)),
            };
            self.report.add(&self.span, &self.path_of(key), "is missing", format!("add {example}{place}"));
        }
        self.optional(key, read)
    }

    /// Refuses every key that was not asked for. `elsewhere` names keys that belong to other tables.
    pub fn finish(self, elsewhere: &[(&str, &str)]) {
        for key in self.table.keys().filter(|key| !self.known.contains(&key.get_ref().as_ref())) {
            let name = key.get_ref().as_ref();
            let home = |name| elsewhere.iter().find(|(key, table)| *key == name && *table != self.path);
            let there = did_you_mean(name, elsewhere.iter().map(|(key, _)| *key)).and_then(home);
            let remedy = match (home(name), did_you_mean(name, self.known.iter().copied()), there) {
                (Some((_, table)), _, _) => format!("it belongs to [{table}]"),
                (None, Some(meant), _) => format!("did you mean {meant}?"),
                (None, None, Some((meant, table))) => format!("did you mean {meant} in [{table}]?"),
                (None, None, None) => format!("known here: {}", self.known.join(", ")),
            };
            self.report.add(&key.span(), &self.path_of(name), "unknown key", remedy);
        }
    }

    /// Keys and values, for tables whose keys are the author's own.
    pub fn entries(self) -> impl Iterator<Item = (At<String>, Value<'d, 't>)> {
        self.table.iter().map(move |(key, value)| {
            let path = self.path_of(key.get_ref());
            let name = At { value: key.get_ref().to_string(), path: path.clone(), span: key.span() };
            (name, Value { report: self.report, path, key_span: key.span(), value })
        })
    }
}

/// `path` as a table's header is written: `network.bridge[0].routes` stands below `[[network.bridge.routes]]`.
pub(super) fn header(path: &str) -> String {
    let parts = path.split('.').map(|part| part.split_once('[').map_or(part, |(name, _)| name));
    parts.collect::<Vec<_>>().join(".")
}
