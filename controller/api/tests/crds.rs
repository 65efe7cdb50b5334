//! The CRDs that people read are the ones that the controller applies.
//!
//! `UPDATE=1 cargo test -p sheaf-api --test crds` writes them again after a change of types or rules.

use std::{fs, path::Path};

use serde_json::Value;
use sheaf_api::crd;

#[test]
fn the_files_in_crds_are_what_the_types_and_rules_say() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("crds");
    for definition in crd::all().unwrap() {
        let file = folder.join(format!("{}.json", definition.metadata.name.as_deref().unwrap()));
        let now = serde_json::to_string_pretty(&definition).unwrap() + "\n";
        if std::env::var_os("UPDATE").is_some() {
            fs::create_dir_all(&folder).unwrap();
            fs::write(&file, &now).unwrap();
        }
        let kept = fs::read_to_string(&file).unwrap_or_default();
        assert!(
            kept == now,
            "{} is not what the types say; run UPDATE=1 cargo test -p sheaf-api --test crds",
            file.display()
        );
    }
}

/// Patterns of a schema, with the path of each.
fn patterns(path: &str, schema: &Value, found: &mut Vec<(String, String)>) {
    match schema {
        Value::Object(map) => {
            for (key, value) in map {
                match value {
                    Value::String(pattern) if key == "pattern" => {
                        found.push((path.to_owned(), pattern.clone()))
                    }
                    value => patterns(&format!("{path}.{key}"), value, found),
                }
            }
        }
        Value::Array(list) => list.iter().for_each(|value| patterns(path, value, found)),
        _ => {}
    }
}

#[test]
fn no_pattern_repeats_more_often_than_the_api_servers_regular_expressions_can() {
    // Of Go's package regexp/syntax; the API server refuses the whole definition otherwise.
    const MOST: u32 = 1000;
    let mut found = Vec::new();
    for crd in crd::all().unwrap() {
        let value = serde_json::to_value(&crd).unwrap();
        patterns(crd.metadata.name.as_deref().unwrap_or_default(), &value, &mut found);
    }
    assert!(found.len() > 10, "{found:?}");
    for (path, pattern) in found {
        for count in pattern.split(['{', '}', ',']).filter_map(|part| part.parse::<u32>().ok()) {
            assert!(count <= MOST, "{path}: {pattern}");
        }
    }
}
