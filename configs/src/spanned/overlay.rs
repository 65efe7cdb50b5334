//! One table laid over another, each value keeping its place.
//!
//! Why here: a file for many machines is read as each machine's own, and a problem is still named by the line it
//! stands in. Route in: two tables. Route out: one, and where the upper one's keys and values begin.

use super::Table;
use std::collections::BTreeSet;
use toml::Spanned;
use toml::de::{DeArray, DeString, DeTable, DeValue};

impl<'t> Table<'_, 't> {
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
