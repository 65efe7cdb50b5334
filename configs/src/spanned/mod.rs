//! Reads a TOML table key by key, remembering where each value stands.
//!
//! Why here: serde stops at the first mistake and forgets the line; a reader that asks for each key reports every
//! mistake with its line and continues. Route in: text, through [`Document::parse`]. Route out: [`At`] values for
//! the rules of `load`, problems for the [`Report`].
//!
//! A reader asks a [`Table`] for each key it knows and then calls [`Table::finish`], which refuses the others:
//! ```ignore
//! let mut table = document.root(&report);
//! let name = table.required("name", "name = \"sheaf\"", |value| value.string());
//! table.finish(&[]);
//! ```

mod overlay;
mod table;
mod value;

pub use sheaf_links::value::{Wrong, wrong};
pub use table::Table;
pub use value::Value;

use crate::diagnose::{Errors, Report};
use std::ops::Range;
use std::path::Path;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

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

/// The line, from 1, in which `path` (`network.bridge[0].ports`) stands in `text`, and true; of a path that continues below
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
        Table {
            report,
            path: String::new(),
            span: 0..0,
            table: self.root.get_ref(),
            known: Vec::new(),
            unread: false,
        }
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
