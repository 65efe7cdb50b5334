//! `[[registry]]`: how the node reaches registries of container disks.
//!
//! Route in: the tables. Route out: [`Registry`]s with different names.

use super::{ELSEWHERE, each_once, plain, values};
use crate::diagnose::Report;
use crate::node::Registry;
use crate::spanned::{At, Table};
use crate::syntax;
use std::collections::BTreeMap;

pub(super) fn read(report: &Report<'_>, tables: Vec<Table<'_, '_>>) -> Option<Vec<Registry>> {
    let registries: Vec<_> = tables.into_iter().map(registry).collect();
    let mut seen = BTreeMap::new();
    for name in registries.iter().filter_map(|(name, _)| name.as_ref()) {
        if let Some(first) = seen.insert(name.value.clone(), report.line(name.span.start)) {
            let what = format!("\"{}\" is already the registry of line {first}", name.value);
            name.wrong(report, what, "put the mirrors of both into one table");
        }
    }
    registries.into_iter().map(|(_, registry)| registry).collect()
}

/// The name apart, since it counts also where the rest of the table is wrong.
fn registry(mut table: Table<'_, '_>) -> (Option<At<String>>, Option<Registry>) {
    let (report, place) = (table.report(), table.at());
    let name = table.required("name", "name = \"quay.io\"", |value| value.text(syntax::registry));
    let mirrors = table.optional("mirrors", |value| value.texts(syntax::mirror));
    let ca = table.optional("ca", |value| value.text(syntax::certificates));
    let is_empty = table.place("mirrors").is_none() && table.place("ca").is_none();
    table.finish(ELSEWHERE);
    if is_empty {
        place.wrong(report, "says nothing about the registry", "add mirrors or ca, or remove it");
    }
    let mirrors = mirrors.unwrap_or_default();
    each_once(report, &mirrors, Clone::clone);
    let registry = name.as_ref().map(|name| Registry {
        name: name.value.clone(),
        mirrors: values(mirrors),
        ca: plain(ca),
    });
    (name, registry)
}
