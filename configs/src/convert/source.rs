//! A tree of values that is taken apart key by key, so that what is left is known.
//!
//! Route in: the values of another installer's file. Route out: what a converter takes; the rest, as notes.

use serde_json::{Map, Value};
use std::cell::RefCell;
use std::rc::Rc;

/// A table of the other file, with the notes of all.
pub(super) struct Source {
    path: String,
    values: Map<String, Value>,
    notes: Rc<RefCell<Vec<String>>>,
}

impl Source {
    pub fn new(tree: Value) -> Self {
        let values = match tree {
            Value::Object(values) => values,
            _ => Map::new(),
        };
        Self { path: String::new(), values, notes: Rc::default() }
    }

    fn path_of(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }

    /// Says what becomes of `key`.
    pub fn note(&self, key: &str, what: &str) {
        self.notes.borrow_mut().push(format!("{}: {what}", self.path_of(key)));
    }

    /// Takes `key`, whatever it is. Both spellings of a key with hyphens are known.
    pub fn take(&mut self, key: &str) -> Option<Value> {
        let value = self.values.remove(key).or_else(|| self.values.remove(&key.replace('-', "_")));
        value.filter(|value| !value.is_null())
    }

    /// Takes a text, or a number where one was written without quotes.
    pub fn text(&mut self, key: &str) -> Option<String> {
        match self.take(key)? {
            Value::String(text) if text.is_empty() => None,
            Value::String(text) => Some(text),
            Value::Number(number) => Some(number.to_string()),
            _ => self.odd(key),
        }
    }

    pub fn number(&mut self, key: &str) -> Option<i64> {
        match self.take(key)? {
            Value::Number(number) => number.as_i64().filter(|number| *number != 0),
            Value::String(text) => text.parse().ok().or_else(|| self.odd(key)),
            _ => self.odd(key),
        }
    }

    pub fn flag(&mut self, key: &str) -> bool {
        match self.take(key) {
            Some(Value::Bool(flag)) => flag,
            Some(_) => self.odd::<()>(key).is_some(),
            None => false,
        }
    }

    /// Takes a list of strings, or one text as a list.
    pub fn texts(&mut self, key: &str) -> Vec<String> {
        let text = |value: Value| match value {
            Value::String(text) => Some(text),
            Value::Number(number) => Some(number.to_string()),
            _ => None,
        };
        match self.take(key) {
            Some(Value::Array(list)) => list.into_iter().filter_map(text).collect(),
            Some(value) => text(value).into_iter().collect(),
            None => Vec::new(),
        }
    }

    /// Takes a table of texts.
    pub fn map(&mut self, key: &str) -> Vec<(String, String)> {
        let mut inner = self.table(key);
        let keys: Vec<_> = inner.values.keys().cloned().collect();
        keys.into_iter().filter_map(|key| Some((key.clone(), inner.text(&key)?))).collect()
    }

    /// Takes a table; an absent one is empty. What nobody takes out of it is noted with the rest.
    pub fn table(&mut self, key: &str) -> Self {
        let values = match self.take(key) {
            Some(Value::Object(values)) => values,
            Some(_) => self.odd(key).unwrap_or_default(),
            None => Map::new(),
        };
        Self { path: self.path_of(key), values, notes: Rc::clone(&self.notes) }
    }

    /// Takes a list of tables.
    pub fn tables(&mut self, key: &str) -> Vec<Self> {
        let Some(Value::Array(list)) = self.take(key) else { return Vec::new() };
        let path = self.path_of(key);
        let one = |(index, value)| match value {
            Value::Object(values) => {
                Some(Self { path: format!("{path}[{index}]"), values, notes: Rc::clone(&self.notes) })
            }
            _ => None,
        };
        list.into_iter().enumerate().filter_map(one).collect()
    }

    /// Notes each of `keys` that is given, and takes it.
    pub fn none_of(&mut self, keys: &[&str], why: &str) {
        for key in keys {
            if self.take(key).is_some() {
                self.note(key, why);
            }
        }
    }

    fn odd<T>(&self, key: &str) -> Option<T> {
        self.note(key, "is not of the kind that belongs here, and was left out");
        None
    }

    /// All notes; dropping a table notes what is left in it.
    pub fn finish(self) -> Vec<String> {
        let notes = Rc::clone(&self.notes);
        drop(self);
        let mut notes = notes.take();
        notes.sort();
        notes.dedup();
        notes
    }
}

impl Drop for Source {
    fn drop(&mut self) {
        let left = std::mem::take(&mut self.values);
        for (key, _) in left.iter().filter(|(_, value)| !value.is_null()) {
            self.note(key, "has no counterpart");
        }
    }
}
