//! docs/fields.md says of every field of KubeVirt's whether it is supported: written from the definitions that the API server
//! gets, so that it cannot be wrong.
//!
//! `UPDATE=1 cargo test -p sheaf-api --test fields` writes it again after a change of types or refusals.

use std::{collections::BTreeMap, fmt::Write as _, fs, path::Path};

use serde_json::Value;
use sheaf_api::crd;

/// What a part has in common with another, where it is described.
const SAME: &[(&str, &str, &str)] = &[
    ("VirtualMachine", "spec.template.spec", "VirtualMachineInstance, spec"),
    ("VirtualMachine", "spec.dataVolumeTemplates[].spec", "DataVolume, spec"),
    ("VirtualMachinePool", "spec.virtualMachineTemplate.spec", "VirtualMachine, spec"),
    ("VirtualMachineInstanceReplicaSet", "spec.template.spec", "VirtualMachineInstance, spec"),
];
/// Groups whose kinds are KubeVirt's and CDI's.
const GROUPS: &[&str] = &["kubevirt.io"];
/// What a refusal begins with.
const REFUSED: &str = "not supported by Sheaf";

const HEAD: &str = "# Fields of KubeVirt's API\n\n\
    Written from the definitions of this release by `controller/api/tests/fields.rs`; do not edit. A field in the column \
    \"supported\" does what KubeVirt's does ([vms.md](vms.md#what-is-honoured) says how); with everything below it, unless a line \
    of its own says otherwise. A field in the column \"refused\" is refused by name when an object has it. All of it is so \
    since release 0.1.0; a part without a line has nothing that is refused.\n";

/// The refused fields of `schema` itself, with what the API server says.
fn refused(schema: &Value) -> BTreeMap<String, String> {
    let rules = schema["x-kubernetes-validations"].as_array().into_iter().flatten();
    let of = |rule: &Value| {
        let (field, says) = (rule["fieldPath"].as_str()?, rule["message"].as_str()?);
        says.starts_with(REFUSED).then(|| (field.trim_start_matches('.').to_owned(), says.to_owned()))
    };
    rules.filter_map(of).collect()
}

/// Rows for `schema` at `path`, and for all below it.
fn rows(kind: &str, path: &str, schema: &Value, text: &mut String) {
    if let Some((_, _, other)) = SAME.iter().find(|(of, at, _)| *of == kind && *at == path) {
        let _ = writeln!(text, "| `{path}` | as {other} | |");
        return;
    }
    let refused = refused(schema);
    let Some(properties) = schema["properties"].as_object() else { return };
    if !refused.is_empty() {
        let known = properties.keys().filter(|name| !refused.contains_key(*name));
        let known: Vec<String> = known.map(|name| format!("`{name}`")).collect();
        // Fields without a reason of their own in one go, the others by themselves.
        let mut by_reason: BTreeMap<&str, Vec<String>> = BTreeMap::new();
        for (field, says) in &refused {
            let reason = says[REFUSED.len()..].trim_start_matches(" yet").trim_start_matches(':');
            let reason = reason.trim_end_matches("; remove it").trim();
            by_reason.entry(reason).or_default().push(format!("`{field}`"));
        }
        let no: Vec<String> = by_reason
            .iter()
            .map(|(reason, fields)| match reason.is_empty() {
                true => fields.join(", "),
                false => format!("{}: {reason}", fields.join(", ")),
            })
            .collect();
        let _ = writeln!(text, "| `{path}` | {} | {} |", known.join(", "), no.join(". "));
    }
    for (name, property) in properties {
        if refused.contains_key(name) {
            continue;
        }
        let below = format!("{path}.{name}");
        match property["items"].is_object() {
            true => rows(kind, &format!("{below}[]"), &property["items"], text),
            false => rows(kind, &below, property, text),
        }
    }
}

#[test]
fn the_list_of_fields_is_what_the_api_server_checks() {
    let mut text = HEAD.to_owned();
    for definition in crd::all().unwrap() {
        let definition = serde_json::to_value(definition).unwrap();
        let group = definition["spec"]["group"].as_str().unwrap();
        if !GROUPS.iter().any(|known| group == *known || group.ends_with(&format!(".{known}"))) {
            continue;
        }
        let kind = definition["spec"]["names"]["kind"].as_str().unwrap();
        let schema = &definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"];
        let mut table = String::new();
        rows(kind, "spec", schema, &mut table);
        let _ = write!(text, "\n## {kind} (`{group}`)\n");
        match table.is_empty() {
            true => text += "Nothing of it is refused.\n",
            false => {
                let _ = write!(text, "| at | supported | refused |\n|---|---|---|\n{table}");
            }
        }
    }
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/fields.md");
    if std::env::var_os("UPDATE").is_some() {
        fs::write(&file, &text).unwrap();
    }
    assert!(
        fs::read_to_string(&file).unwrap_or_default() == text,
        "docs/fields.md is not what the definitions say; run UPDATE=1 cargo test -p sheaf-api --test fields"
    );
}
