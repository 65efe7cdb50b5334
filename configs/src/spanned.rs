//! Reads a TOML table key by key, remembering where each value stands.
//!
//! Why here: serde stops at the first mistake and forgets the line; a reader that asks for each key reports every
//! mistake with its line and goes on. Route in: text, through [`Document::parse`]. Route out: [`At`] values for
//! the rules of `load`, problems for the [`Report`].
//!
//! A reader asks a [`Table`] for each key it knows and then calls [`Table::finish`], which refuses the others:
//! ```ignore
//! let mut table = document.root(&report);
//! let name = table.required("name", "name = \"sheaf\"", |value| value.string());
//! table.finish(&[]);
//! ```

use crate::diagnose::{Errors, Report, did_you_mean};
use crate::syntax::quoted;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::path::Path;
use toml::Spanned;
use toml::de::{DeArray, DeString, DeTable, DeValue};

/// Largest file that is read, in bytes: a node config for a thousand machines is half of it.
pub const LARGEST: u64 = 4 << 20;

/// Reads the text of `path`: UTF-8, at most [`LARGEST`].
pub fn read(path: &Path) -> Result<String, Errors> {
    use std::io::Read;
    let name = path.display().to_string();
    let refuse =
        |error: std::io::Error| Errors::whole_file(&name, error.to_string(), "give a file that can be read");
    let file = std::fs::File::open(path).map_err(refuse)?;
    let mut bytes = Vec::new();
    // One byte more than allowed tells a file that is too long, also where a length is not known (a pipe).
    file.take(LARGEST + 1).read_to_end(&mut bytes).map_err(refuse)?;
    text(&name, bytes)
}

/// Checks that `bytes` are text of a permitted length.
pub fn text(name: &str, bytes: Vec<u8>) -> Result<String, Errors> {
    if bytes.len() as u64 > LARGEST {
        let what = format!("is larger than {} MiB", LARGEST >> 20);
        return Err(Errors::whole_file(name, what, "give the config itself, not an image or an archive"));
    }
    if bytes.starts_with(&[0xff, 0xfe]) || bytes.starts_with(&[0xfe, 0xff]) {
        return Err(Errors::whole_file(name, "is UTF-16", "save it as UTF-8"));
    }
    String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        let byte = error.as_bytes()[at];
        let report = String::from_utf8_lossy(&error.as_bytes()[..at]).into_owned();
        let report = Report::new(name, &report);
        report.add(&(at..at), "text", format!("byte 0x{byte:02x} is not UTF-8"), "save the file as UTF-8");
        report.finish::<()>(None).unwrap_err()
    })
}

/// The line, from 1, in which `path` (`network.bridge[0].ports`) stands in `text`, and true; of a path that goes on below
/// what is there, the line of the last part that is, and false.
pub fn line_of(text: &str, path: &str) -> Option<(usize, bool)> {
    let (root, _) = DeTable::parse_recoverable(text);
    let (mut table, mut start, mut left) = (root.get_ref(), None, path.split('.').count());
    for part in path.split('.') {
        let (name, index) = match part.split_once('[') {
            Some((name, index)) => (name, index.trim_end_matches(']').parse::<usize>().ok()),
            None => (part, None),
        };
        let Some((key, value)) = table.get_key_value(name) else { break };
        let element = match (index, value.get_ref()) {
            (Some(index), DeValue::Array(array)) => array.get(index)?,
            _ => value,
        };
        start = Some(if index.is_some() { element.span().start } else { key.span().start });
        left -= 1;
        let Some(inner) = element.get_ref().as_table() else { break };
        table = inner;
    }
    Some((Report::new("", text).line(start?), left == 0))
}

/// A parsed text.
#[derive(Debug)]
pub struct Document<'t> {
    root: Spanned<DeTable<'t>>,
}

impl<'t> Document<'t> {
    /// Parses the text of `report`. With mistakes of syntax there is no document: what the rest of the file means
    /// is then a guess. Values are never quoted here: one of them may be a secret.
    pub fn parse(report: &Report<'t>) -> Option<Self> {
        let (root, errors) = DeTable::parse_recoverable(report.text());
        for error in &errors {
            let span = error.span().unwrap_or_default();
            let what = format!("{} at column {}", error.message().trim_end(), report.column(span.start));
            report.add(&span, "TOML", what, "correct the line (format: https://toml.io)");
        }
        errors.is_empty().then_some(Self { root })
    }

    /// The top table.
    pub fn root<'d>(&'d self, report: &'d Report<'t>) -> Table<'d, 't> {
        Table { report, path: String::new(), span: 0..0, table: self.root.get_ref(), known: Vec::new() }
    }
}

/// A value with the place where it stands.
#[derive(Clone, Debug, PartialEq)]
pub struct At<T> {
    /// What was read.
    pub value: T,
    /// Its key, `system.hostname`.
    pub path: String,
    /// Bytes of the text it stands in.
    pub span: Range<usize>,
}

impl<T> At<T> {
    /// The same place with another value.
    pub fn map<U>(self, change: impl FnOnce(T) -> U) -> At<U> {
        At { value: change(self.value), path: self.path, span: self.span }
    }

    /// Reports a problem with it.
    pub fn wrong(&self, report: &Report<'_>, what: impl Into<String>, remedy: impl Into<String>) {
        report.add(&self.span, &self.path, what, remedy);
    }

    /// Passes it through `check`, whose error is (what, remedy).
    pub fn check<U>(self, report: &Report<'_>, check: impl FnOnce(&T) -> Result<U, Wrong>) -> Option<At<U>> {
        match check(&self.value) {
            Ok(value) => Some(At { value, path: self.path, span: self.span }),
            Err(Wrong(what, remedy)) => {
                self.wrong(report, what, remedy);
                None
            }
        }
    }
}

/// Why a value is refused, and what to write instead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wrong(pub String, pub String);

/// Builds a [`Wrong`].
pub fn wrong<T>(what: impl Into<String>, remedy: impl Into<String>) -> Result<T, Wrong> {
    Err(Wrong(what.into(), remedy.into()))
}

/// A table being read.
#[derive(Debug)]
pub struct Table<'d, 't> {
    report: &'d Report<'t>,
    /// `network.bridge[0]`, empty at the top.
    path: String,
    span: Range<usize>,
    table: &'d DeTable<'t>,
    known: Vec<&'static str>,
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

    /// Allows `key`, which somebody else reads.
    pub fn allow(&mut self, key: &'static str) {
        self.known.push(key);
    }

    /// This table but its key `parts`, with the keys of `over` but `own` laid over it: tables key by key, lists of tables
    /// with names by name, everything else as a whole. The second value is where keys and values of `over` begin.
    pub fn overlaid(&self, parts: &str, over: &Self, own: &str) -> (DeTable<'t>, BTreeSet<usize>) {
        let mut starts = BTreeSet::from([over.span.start]);
        let mut merged = DeTable::new();
        for (key, value) in self.table.iter().filter(|(key, _)| key.get_ref() != parts) {
            merged.insert(key.clone(), value.clone());
        }
        for (key, value) in over.table.iter().filter(|(key, _)| key.get_ref() != own) {
            merge(&mut merged, key, value, &mut starts);
        }
        (merged, starts)
    }

    /// `table`, made by [`Table::overlaid`], in place of this one.
    pub fn over<'m>(&'m self, table: &'m DeTable<'t>) -> Table<'m, 't> {
        Table { report: self.report, path: String::new(), span: self.span.clone(), table, known: Vec::new() }
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
        read(Value { report: self.report, path, key_span, value })
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

/// A value being read; each method says what it must be.
#[derive(Debug)]
pub struct Value<'d, 't> {
    report: &'d Report<'t>,
    path: String,
    key_span: Range<usize>,
    value: &'d Spanned<DeValue<'t>>,
}

impl<'d, 't> Value<'d, 't> {
    /// Its place.
    pub fn at(&self) -> At<()> {
        At { value: (), path: self.path.clone(), span: self.key_span.clone() }
    }

    fn found<T>(self, value: T) -> Option<At<T>> {
        Some(At { value, span: self.value.span(), path: self.path })
    }

    fn not<T>(self, wanted: &str, remedy: &str) -> Option<T> {
        let what = format!("is {}, must be {wanted}", kind(self.value.get_ref()));
        // A table's own span can start at its header; the key's is always in the line an author looks at.
        let span = if self.value.get_ref().is_table() { self.key_span } else { self.value.span() };
        self.report.add(&span, &self.path, what, remedy);
        None
    }

    /// A text.
    pub fn string(self) -> Option<At<String>> {
        match self.value.get_ref() {
            DeValue::String(text) => self.found(text.to_string()),
            _ => self.not("a text", "write it in quotes"),
        }
    }

    /// A text that `check` accepts.
    pub fn text<T>(self, check: impl FnOnce(&str) -> Result<T, Wrong>) -> Option<At<T>> {
        let report = self.report;
        self.string()?.check(report, |text| check(text))
    }

    /// true or false.
    pub fn boolean(self) -> Option<At<bool>> {
        match self.value.get_ref() {
            DeValue::Boolean(value) => self.found(*value),
            _ => self.not("true or false", "write it without quotes"),
        }
    }

    /// A whole number.
    pub fn integer(self) -> Option<At<i64>> {
        match self.value.get_ref() {
            DeValue::Integer(digits) => match i64::from_str_radix(digits.as_str(), digits.radix()) {
                Ok(number) => self.found(number),
                Err(_) => self.not("one of at most 63 bits", "write a smaller number"),
            },
            _ => self.not("a whole number", "write digits alone"),
        }
    }

    /// One of several words.
    pub fn one_of<T: Copy>(self, words: &[(&'static str, T)]) -> Option<At<T>> {
        self.text(|text| word_of(text, words))
    }

    /// A list of words of `words`.
    pub fn words<T: Copy>(self, words: &[(&'static str, T)]) -> Option<Vec<At<T>>> {
        self.texts(|text| word_of(text, words))
    }

    /// A list of texts that `check` accepts; an element's problem carries the list's key and its own line.
    pub fn texts<T>(self, check: impl Fn(&str) -> Result<T, Wrong>) -> Option<Vec<At<T>>> {
        let DeValue::Array(array) = self.value.get_ref() else {
            return self.not("a list of texts", "write [\"…\", \"…\"]");
        };
        let elements = array.iter().map(|value| {
            let (path, key_span) = (self.path.clone(), value.span());
            Value { report: self.report, path, key_span, value }.text(&check)
        });
        // Every element is looked at, also after a bad one.
        elements.collect::<Vec<_>>().into_iter().collect()
    }

    /// A table, `[key]`.
    pub fn table(self) -> Option<Table<'d, 't>> {
        match self.value.get_ref() {
            DeValue::Table(table) => Some(Table {
                report: self.report,
                path: self.path,
                span: self.key_span,
                table,
                known: Vec::new(),
            }),
            _ => {
                let remedy = format!("write [{}] with its keys below", header(&self.path));
                self.not("a table", &remedy)
            }
        }
    }

    /// A list of tables, `[[key]]`.
    pub fn tables(self) -> Option<Vec<Table<'d, 't>>> {
        let remedy = format!("write [[{}]] once for each", header(&self.path));
        let DeValue::Array(array) = self.value.get_ref() else {
            return self.not("a list of tables", &remedy);
        };
        let elements = array.iter().enumerate().map(|(index, value)| {
            let path = format!("{}[{index}]", self.path);
            match value.get_ref() {
                DeValue::Table(table) => {
                    Some(Table { report: self.report, path, span: value.span(), table, known: Vec::new() })
                }
                _ => {
                    Value { report: self.report, path, key_span: value.span(), value }.not("a table", &remedy)
                }
            }
        });
        elements.collect::<Vec<_>>().into_iter().collect()
    }

    /// A table of texts whose keys are the author's own.
    pub fn map<T>(
        self,
        check: impl Fn(&At<String>, &str) -> Result<T, Wrong>,
    ) -> Option<BTreeMap<String, At<T>>> {
        let entries = self.table()?.entries().map(|(key, value)| {
            let value = value.text(|text| check(&key, text))?;
            Some((key.value, value))
        });
        entries.collect::<Vec<_>>().into_iter().collect()
    }
}

/// `path` as a table's header is written: `network.bridge[0].routes` stands below `[[network.bridge.routes]]`.
fn header(path: &str) -> String {
    let parts = path.split('.').map(|part| part.split_once('[').map_or(part, |(name, _)| name));
    parts.collect::<Vec<_>>().join(".")
}

/// Lays `value` over what `key` has in `into`.
fn merge<'t>(
    into: &mut DeTable<'t>,
    key: &Spanned<DeString<'t>>,
    value: &Spanned<DeValue<'t>>,
    starts: &mut BTreeSet<usize>,
) {
    starts.insert(key.span().start);
    note(value, starts);
    let mut value = value.clone();
    // Taken out first: a map keeps the key it has, with the place where that one stood.
    let below = into.remove_entry(key.get_ref().as_ref()).map(|(_, below)| below.into_inner());
    match (below, value.get_mut()) {
        (Some(DeValue::Table(mut below)), DeValue::Table(over)) => {
            for (key, value) in over.iter() {
                merge(&mut below, key, value, starts);
            }
            *over = below;
        }
        (Some(DeValue::Array(mut below)), DeValue::Array(over)) if named(&below) && named(over) => {
            for element in over.iter() {
                merge_named(&mut below, element, starts);
            }
            *over = below;
        }
        _ => {}
    }
    into.insert(key.clone(), value);
}

/// Whether `array` is one of tables that have names, such as bridges.
fn named(array: &DeArray<'_>) -> bool {
    !array.is_empty() && array.iter().all(|element| name(element).is_some())
}

fn name<'v>(element: &'v Spanned<DeValue<'_>>) -> Option<&'v str> {
    element.get_ref().as_table()?.get("name")?.get_ref().as_str()
}

/// Lays `element` over the one of its name, or adds it.
fn merge_named<'t>(below: &mut DeArray<'t>, element: &Spanned<DeValue<'t>>, starts: &mut BTreeSet<usize>) {
    let same = |other: &&mut Spanned<DeValue<'t>>| name(other) == name(element);
    let (Some(other), DeValue::Table(over)) = (below.iter_mut().find(same), element.get_ref()) else {
        below.push(element.clone());
        return;
    };
    let mut merged = element.clone();
    if let (DeValue::Table(table), DeValue::Table(into)) = (other.get_ref(), merged.get_mut()) {
        *into = table.clone();
        for (key, value) in over.iter() {
            merge(into, key, value, starts);
        }
    }
    *other = merged;
}

/// Where `value` and everything in it begins.
fn note(value: &Spanned<DeValue<'_>>, starts: &mut BTreeSet<usize>) {
    starts.insert(value.span().start);
    match value.get_ref() {
        DeValue::Array(array) => array.iter().for_each(|element| note(element, starts)),
        DeValue::Table(table) => table.iter().for_each(|(key, value)| {
            starts.insert(key.span().start);
            note(value, starts);
        }),
        _ => {}
    }
}

fn word_of<T: Copy>(text: &str, words: &[(&'static str, T)]) -> Result<T, Wrong> {
    if let Some((_, value)) = words.iter().find(|(word, _)| *word == text) {
        return Ok(*value);
    }
    let what = format!("{} is not known", quoted(text));
    let all: Vec<_> = words.iter().map(|(word, _)| format!("\"{word}\"")).collect();
    match did_you_mean(text, words.iter().map(|(word, _)| *word)) {
        Some(meant) => wrong(what, format!("did you mean \"{meant}\"?")),
        None => wrong(what, format!("write {}", all.join(" or "))),
    }
}

fn kind(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a text",
        DeValue::Integer(_) => "a whole number",
        DeValue::Float(_) => "a number with a fraction",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}
