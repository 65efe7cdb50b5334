//! One value, read as what it must be.
//!
//! Route in: a key of a [`Table`]. Route out: the value with its place, or a problem.

use super::table::header;
use super::{At, Table, Wrong, wrong};
use crate::diagnose::{Report, did_you_mean};
use crate::syntax::quoted;
use std::collections::BTreeMap;
use std::ops::Range;
use toml::Spanned;
use toml::de::DeValue;

/// A value being read; each method says what it must be.
#[derive(Debug)]
pub struct Value<'d, 't> {
    pub(super) report: &'d Report<'t>,
    pub(super) path: String,
    pub(super) key_span: Range<usize>,
    pub(super) value: &'d Spanned<DeValue<'t>>,
}

impl<'d, 't> Value<'d, 't> {
    /// The report that problems go to.
    pub fn report(&self) -> &'d Report<'t> {
        self.report
    }

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
            _ => self.not("a string", "write it in quotes"),
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
                Err(_) => self.not("a number of at most 63 bits", "write a smaller number"),
            },
            _ => self.not("a whole number", "write digits only"),
        }
    }

    /// A point in time: seconds since 1970, a date of TOML, or a text; the latter two go through `check`.
    pub fn time(self, check: impl FnOnce(&str) -> Result<u64, Wrong>) -> Option<At<u64>> {
        let report = self.report;
        match self.value.get_ref() {
            DeValue::Integer(_) => self.integer()?.check(report, |seconds| {
                let wrong = |_| {
                    Wrong(
                        "lies before 1970".into(),
                        "write seconds since 1970, as `date +%s` prints them".into(),
                    )
                };
                u64::try_from(*seconds).map_err(wrong)
            }),
            DeValue::Datetime(time) => {
                let text = time.to_string();
                self.found(text)?.check(report, |text| check(text))
            }
            DeValue::String(_) => self.text(check),
            _ => self.not("a time", "write it as \"2027-06-01T00:00:00Z\""),
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
            return self.not("a list of strings", "write [\"…\", \"…\"]");
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
                unread: false,
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
                DeValue::Table(table) => Some(Table {
                    report: self.report,
                    path,
                    span: value.span(),
                    table,
                    known: Vec::new(),
                    unread: false,
                }),
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
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "a whole number",
        DeValue::Float(_) => "a number with a fraction",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}
