//! Every field of every example deleted, given another type, misspelt and given twice: nothing panics, what must be
//! refused is refused, with the line, and nothing that was refused is ever written.
//!
//! Route in: examples, changed in one place by a TOML editor that keeps the lines. Route out: what the validator says.

mod golden;

use sheaf_config::diagnose::Errors;
use sheaf_config::load::parse_config_file;
use std::panic::catch_unwind;
use toml_edit::{DocumentMut, Item, Key, TableLike, Value};

/// A place in a document: keys, and numbers of elements of lists.
#[derive(Clone, Debug, PartialEq)]
enum Step {
    Key(String),
    Element(usize),
}

/// Every field of `table`, the inner ones too.
fn fields(table: &dyn TableLike, at: &[Step], found: &mut Vec<Vec<Step>>) {
    for (key, item) in table.iter() {
        let here = [at, &[Step::Key(key.into())]].concat();
        found.push(here.clone());
        if let Some(inner) = item.as_table_like() {
            fields(inner, &here, found);
        }
        if let Some(list) = item.as_array_of_tables() {
            for (index, inner) in list.iter().enumerate() {
                fields(inner, &[&here[..], &[Step::Element(index)]].concat(), found);
            }
        }
        for (index, value) in item.as_array().into_iter().flatten().enumerate() {
            if let Some(inner) = value.as_inline_table() {
                fields(inner, &[&here[..], &[Step::Element(index)]].concat(), found);
            }
        }
    }
}

/// The table that holds the last key of `path`, and that key.
fn holder<'d>(document: &'d mut DocumentMut, path: &'d [Step]) -> (&'d mut dyn TableLike, &'d str) {
    let (Some(Step::Key(last)), way) = (path.last(), &path[..path.len() - 1]) else { panic!("{path:?}") };
    let mut table: &mut dyn TableLike = document.as_table_mut();
    let mut way = way.iter().peekable();
    while let Some(Step::Key(key)) = way.next() {
        let item = table.get_mut(key).unwrap();
        table = match way.next_if(|step| matches!(step, Step::Element(_))) {
            Some(Step::Element(index)) if item.is_array_of_tables() => {
                item.as_array_of_tables_mut().unwrap().get_mut(*index).unwrap()
            }
            Some(Step::Element(index)) => {
                item.as_array_mut().unwrap().get_mut(*index).unwrap().as_inline_table_mut().unwrap()
            }
            _ => item.as_table_like_mut().unwrap(),
        };
    }
    (table, last)
}

/// `example` after `change` of its field at `path`.
fn changed(example: &str, path: &[Step], change: impl FnOnce(&mut dyn TableLike, &str)) -> String {
    let mut document: DocumentMut = example.parse().unwrap();
    let (table, key) = holder(&mut document, path);
    change(table, key);
    document.to_string()
}

/// What is said of `text`; a panic names it.
fn read(text: &str) -> Result<(), Errors> {
    let owned = text.to_owned();
    let read = catch_unwind(move || {
        let file = parse_config_file("node.toml", &owned)?;
        // What is accepted can be written, and is then the same again.
        for entry in file.entries() {
            let written = entry.config.to_toml().unwrap();
            let again = sheaf_config::load::parse_node_config("written.toml", &written);
            assert_eq!(again.unwrap_or_else(|errors| panic!("{errors}\n{written}")), entry.config);
        }
        Ok(())
    });
    read.unwrap_or_else(|_| panic!("panics at:\n{text}"))
}

/// The line, from 1, on which `needle` stands in `text`.
fn line_of(text: &str, needle: &str) -> usize {
    1 + text
        .lines()
        .position(|line| line.contains(needle))
        .unwrap_or_else(|| panic!("{needle} is not in\n{text}"))
}

/// Whether the keys of the table at `path` are the author's own: any is a good one.
fn is_free(path: &[Step]) -> bool {
    let is = |step: &Step, name: &str| matches!(step, Step::Key(key) if key == name);
    path.iter().rev().skip(1).any(|step| ["labels", "sysctl", "headers"].iter().any(|free| is(step, free)))
}

fn every_field(check: impl Fn(&str, &[Step])) {
    let mut number = 0;
    for path in golden::files("examples") {
        let example = std::fs::read_to_string(path).unwrap();
        let document: DocumentMut = example.parse().unwrap();
        let mut all = Vec::new();
        fields(document.as_table(), &[], &mut all);
        all.iter().for_each(|field| check(&example, field));
        number += all.len();
    }
    assert!(number > 150, "{number} fields");
}

#[test]
fn a_misspelt_key_is_refused_in_its_line_with_what_was_meant() {
    every_field(|example, path| {
        if is_free(path) {
            return;
        }
        let text = changed(example, path, |table, key| {
            let item = table.remove(key).unwrap();
            table.insert(&format!("{key}q"), item);
        });
        let errors = read(&text).expect_err(&text);
        let Some(Step::Key(key)) = path.last() else { unreachable!() };
        let wrong = format!("{key}q");
        let said = errors.problems.iter().find(|p| p.what == "unknown key" && p.path.ends_with(&wrong));
        let said = said.unwrap_or_else(|| panic!("{wrong}: {errors}\n{text}"));
        assert!(said.remedy.starts_with(&format!("did you mean {key}")), "{errors}\n{text}");
        let (line, there) = (said.line.unwrap(), line_of(&text, &wrong));
        // A table is named by its header, or by the first line that mentions it.
        assert!(
            text.lines().nth(line - 1).unwrap().contains(&wrong),
            "{line}, not {there}: {errors}\n{text}"
        );
    });
}

#[test]
fn a_value_of_another_type_is_refused_in_its_line() {
    let others: [(&str, Value); 6] = [
        ("date", "1979-05-27".parse::<toml_edit::Datetime>().unwrap().into()),
        ("number", 7.into()),
        ("fraction", 0.5.into()),
        ("text", "§".into()),
        ("boolean", true.into()),
        ("table", toml_edit::InlineTable::new().into()),
    ];
    every_field(|example, path| {
        for (kind, value) in &others {
            let mut same = false;
            let text = changed(example, path, |table, key| {
                let old = table.get(key).unwrap();
                same = old.type_name() == value.type_name()
                    || (*kind == "number" && old.is_integer())
                    || (*kind == "table" && old.is_table_like());
                table.remove(key);
                table.insert(key, Item::Value(value.clone()));
            });
            let read = read(&text);
            if same {
                continue; // another value of the same type may be good; that it does not panic was checked
            }
            let errors = read.expect_err(&text);
            let Some(Step::Key(key)) = path.last() else { unreachable!() };
            let is_here =
                |line: usize| text.lines().nth(line - 1).is_some_and(|line| line.contains(key.as_str()));
            let said =
                errors.problems.iter().any(|p| p.path.contains(key.as_str()) && p.line.is_some_and(is_here));
            assert!(said, "{key} as {kind}: {errors}\n{text}");
        }
    });
}

#[test]
fn a_field_that_is_missing_is_said_or_not_needed() {
    /// Keys without which their table says nothing or something else.
    const NEEDED: [&str; 15] = [
        "version", "hostname", "disk", "mode", "server", "ca-hash", "name", "id", "parent", "url", "sha256",
        "path", "content", "to", "match",
    ];
    every_field(|example, path| {
        let text = changed(example, path, |table, key| drop(table.remove(key)));
        let Some(Step::Key(key)) = path.last() else { unreachable!() };
        if let Err(errors) = read(&text) {
            let named = |p: &sheaf_config::diagnose::Problem| {
                p.line.is_none_or(|line| (1..=text.lines().count().max(1)).contains(&line))
            };
            assert!(errors.problems.iter().all(named), "{errors}\n{text}");
        } else {
            // mode has a default in a bond, path and mode are one of several facts of a NIC, a disk and a file.
            let inner = path.len() > 2 && ["mode", "path", "url"].contains(&key.as_str());
            let is_fleet = text.contains("[[node]]") && ["hostname", "disk"].contains(&key.as_str());
            // Without its only key the table is not there either.
            let is_gone = key == "disk" && !text.contains("install");
            let in_a_node = matches!(path.first(), Some(Step::Key(first)) if first == "node");
            assert!(
                !NEEDED.contains(&key.as_str()) || inner || is_fleet || in_a_node || is_free(path) || is_gone,
                "{key} is not missed in\n{text}"
            );
        }
    });
}

#[test]
fn a_key_that_is_given_twice_is_refused_in_its_line() {
    every_field(|example, path| {
        // The second one is spelt otherwise at first, since the editor knows no key twice.
        let mut is_table = false;
        let text = changed(example, path, |table, key| {
            let item = table.get(key).unwrap().clone();
            is_table = !item.is_value();
            table.entry_format(&Key::new(format!("{key}-twice"))).or_insert(item);
        });
        if is_table {
            return; // [a] and [a] again: tests/bad has it
        }
        let Some(Step::Key(key)) = path.last() else { unreachable!() };
        let text = text.replacen(&format!("{key}-twice"), key, 1);
        let errors = read(&text).expect_err(&text);
        let said = errors.problems.iter().any(|p| {
            p.path == "TOML"
                && p.line
                    .is_some_and(|line| text.lines().nth(line - 1).is_some_and(|l| l.contains(key.as_str())))
        });
        assert!(said, "{key}: {errors}\n{text}");
    });
}
