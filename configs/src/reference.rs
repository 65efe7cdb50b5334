//! The reference of `node.toml` in docs/config.md, made of the types and their comments.
//!
//! Why here: what an operator reads and what the validator takes cannot drift apart. Route in: the schema.
//! Route out: Markdown, one section for each table; a test keeps the page current.

use crate::node::DiskSelector;
use serde_json::{Map, Value};
use std::fmt::Write;

/// Keys that several tables share: they are described once.
struct Shared {
    title: &'static str,
    keys: Vec<String>,
    /// The table that describes them anyway; none: a section of their own.
    home: Option<&'static str>,
}

/// The sections of all tables, in the order of the file.
pub fn node() -> String {
    let schema = crate::schema::node();
    let keys = |schema: schemars::Schema| properties(schema.as_value()).map(|(key, _)| key.clone()).collect();
    let shared = [
        Shared {
            title: "Addresses of a link",
            keys: keys(schemars::schema_for!(sheaf_links::Addressing)),
            home: None,
        },
        Shared {
            title: "[install.disk]",
            keys: keys(schemars::schema_for!(DiskSelector)),
            home: Some("install.disk"),
        },
    ];
    let mut text = String::new();
    let defs = schema["$defs"].as_object().cloned().unwrap_or_default();
    section(&mut text, &schema, "", false, &defs, &shared);
    let addressing = schemars::schema_for!(sheaf_links::Addressing).to_value();
    text += "### Addresses of a link\nThe same keys on a bridge, a VLAN, a bond and a NIC.\n\n";
    let defs = addressing["$defs"].as_object().cloned().unwrap_or_default();
    rows(&mut text, &addressing, &defs, &[]);
    below(&mut text, &addressing, "network.bridge", &defs, &[]);
    text
}

fn properties(schema: &Value) -> impl Iterator<Item = (&String, &Value)> {
    schema["properties"].as_object().into_iter().flatten()
}

/// `schema` with its definition in place.
fn resolved(schema: &Value, defs: &Map<String, Value>) -> Value {
    let one = |schema: &Value| {
        let name = schema["$ref"].as_str().and_then(|path| path.rsplit('/').next());
        let mut whole = name.and_then(|name| defs.get(name)?.as_object().cloned()).unwrap_or_default();
        whole.extend(
            schema.as_object().into_iter().flatten().map(|(key, value)| (key.clone(), value.clone())),
        );
        Value::Object(whole)
    };
    // An optional table is written as "this or null".
    let inner = schema["anyOf"].as_array().and_then(|any| any.iter().find(|schema| schema["type"] != "null"));
    match inner {
        Some(inner) if schema["$ref"].is_null() && schema["properties"].is_null() => {
            let mut whole = one(inner);
            if let (Some(whole), Some(text)) = (whole.as_object_mut(), schema.get("description")) {
                whole.insert("description".into(), text.clone());
            }
            whole
        }
        _ => one(schema),
    }
}

/// The table that a key holds, and whether it is a list of such.
fn table(schema: &Value, defs: &Map<String, Value>) -> Option<(Value, bool)> {
    let schema = resolved(schema, defs);
    if schema["items"].is_object() {
        let item = resolved(&schema["items"], defs);
        return item["properties"].is_object().then_some((item, true));
    }
    schema["properties"].is_object().then_some((schema, false))
}

fn section(
    text: &mut String,
    schema: &Value,
    path: &str,
    is_list: bool,
    defs: &Map<String, Value>,
    shared: &[Shared],
) {
    let title = match (path.is_empty(), is_list) {
        (true, _) => "top".to_owned(),
        (false, true) => format!("`[[{path}]]`"),
        (false, false) => format!("`[{path}]`"),
    };
    let about = if path.is_empty() { "" } else { schema["description"].as_str().unwrap_or_default() };
    let _ = writeln!(text, "### {title}\n{}", flowing(about));
    if !about.is_empty() {
        text.push('\n');
    }
    let here: Vec<&Shared> =
        shared.iter().filter(|shared| shared.home != Some(path) && has_all(schema, &shared.keys)).collect();
    rows(text, schema, defs, &here);
    match path {
        // A machine of a fleet has every other table of the file, and one of its own.
        "node" => section(text, &schema["properties"]["match"], "node.match", false, defs, shared),
        _ => below(text, schema, path, defs, shared),
    }
}

fn has_all(schema: &Value, keys: &[String]) -> bool {
    keys.iter().all(|key| schema["properties"].get(key).is_some())
}

/// Sections of the tables in `schema`.
fn below(text: &mut String, schema: &Value, path: &str, defs: &Map<String, Value>, shared: &[Shared]) {
    for (key, value) in properties(schema) {
        if shared
            .iter()
            .any(|shared| shared.home.is_none() && shared.keys.contains(key) && has_all(schema, &shared.keys))
        {
            continue;
        }
        let Some((inner, is_list)) = table(value, defs) else { continue };
        let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
        // Selectors of disks are described once.
        let is_selector = shared.iter().any(|shared| {
            shared.home.is_some_and(|home| home != path)
                && properties(&inner).count() == shared.keys.len()
                && has_all(&inner, &shared.keys)
        });
        if !is_selector {
            section(text, &inner, &path, is_list, defs, shared);
        }
    }
}

fn rows(text: &mut String, schema: &Value, defs: &Map<String, Value>, shared: &[&Shared]) {
    let required: Vec<&str> =
        schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let mut keys: Vec<_> = properties(schema).collect();
    keys.retain(|(key, _)| !shared.iter().any(|shared| shared.keys.contains(key)));
    keys.sort_by_key(|(key, _)| (!required.contains(&key.as_str()), (*key).clone()));
    *text += "| key | | |\n|---|---|---|\n";
    for (key, value) in keys {
        let need = if required.contains(&key.as_str()) { "required".to_owned() } else { default(value) };
        let _ = writeln!(text, "| `{key}` | {need} | {} |", meaning(value, defs));
    }
    for shared in shared {
        let link = shared.title.to_lowercase().replace(['[', ']', '.'], "").replace(' ', "-");
        let _ =
            writeln!(text, "| … | | and the keys of [{}](#{link}) |", shared.title.trim_matches(['[', ']']));
    }
    text.push('\n');
}

fn default(value: &Value) -> String {
    match value.get("default") {
        None | Some(Value::Null) => String::new(),
        Some(Value::Array(list)) if list.is_empty() => String::new(),
        Some(Value::Object(_)) => String::new(),
        Some(default) => format!("`{default}`"),
    }
}

fn meaning(value: &Value, defs: &Map<String, Value>) -> String {
    let whole = resolved(value, defs);
    let mut parts = Vec::new();
    let about = value["description"].as_str().or(whole["description"].as_str()).unwrap_or_default();
    parts.push(flowing(about));
    let words = words(&whole).or_else(|| words(&resolved(&whole["items"], defs)));
    parts.extend(words);
    let range = (whole["minimum"].as_u64(), whole["maximum"].as_u64());
    if let (Some(low), Some(high)) = range
        && low != high
    {
        parts.push(format!("{low} to {high}."));
    }
    let examples = whole["examples"].as_array().into_iter().flatten().map(|example| format!("`{example}`"));
    let examples: Vec<_> = examples.collect();
    if !examples.is_empty() {
        parts.push(format!("Such as {}.", examples.join(", ")));
    }
    parts.retain(|part| !part.is_empty());
    parts.join(" ").replace('|', "\\|")
}

/// The words that a key may hold, with what each means where that is said.
fn words(schema: &Value) -> Option<String> {
    if let Some(list) = schema["enum"].as_array() {
        let words: Vec<_> =
            list.iter().filter(|word| !word.is_null()).map(|word| format!("`{word}`")).collect();
        return Some(format!("One of {}.", words.join(", ")));
    }
    let list = schema["oneOf"].as_array()?;
    let words = list.iter().flat_map(|word| match word["enum"].as_array() {
        Some(several) => several.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>(),
        None => {
            let about = flowing(word["description"].as_str().unwrap_or_default());
            let about = about.trim_end_matches('.');
            vec![format!("`{}`{}{about}", word["const"], if about.is_empty() { "" } else { ": " })]
        }
    });
    Some(format!("{}.", words.collect::<Vec<_>>().join("; ")))
}

fn flowing(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
