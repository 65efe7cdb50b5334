//! JSON Schema of `node.toml`, made of the types: editors complete and check by it while one writes.
//!
//! It says less than the validator, which knows rules between keys; what the schema refuses, the validator refuses
//! too. Route in: the types of [`crate::node`] and their comments. Route out: configs/schema/node.json, which a test
//! keeps current, and [`crate::reference`].

use crate::node::{Match, NodeConfig};
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

/// The schema of a file for one machine or for many.
pub fn node() -> Value {
    let generator = SchemaSettings::draft2020_12().into_generator();
    let mut schema = generator.into_root_schema_for::<NodeConfig>().to_value();
    let defs = schema["$defs"].as_object().cloned().unwrap_or_default();
    let matches = schemars::schema_for!(Match).to_value();
    let mut machine = partial(&schema, &defs);
    if let Some(machine) = machine.as_object_mut() {
        for key in ["$schema", "$defs", "title"] {
            machine.remove(key);
        }
        machine.insert("required".into(), json!(["match"]));
        machine
            .insert("description".into(), json!("One machine: its keys are laid over the rest of the file."));
    }
    if let Some(keys) = machine["properties"].as_object_mut() {
        keys.remove("version");
        keys.insert("match".into(), without(matches, &["$schema", "title"]));
    }
    schema["title"] = json!("node.toml");
    schema["$id"] = json!("https://sheaf.dev/schema/node-v1.json");
    schema["properties"]["node"] = json!({
        "description": "Machines, where the file is for many.",
        "type": "array",
        "items": machine,
    });
    // Host name and all else may stand in each [[node]].
    schema["required"] = json!(["version"]);
    schema["anyOf"] = json!([{ "required": ["system"] }, { "required": ["node"] }]);
    schema
}

/// `schema` with every definition in place and nothing required: a part of a config.
fn partial(schema: &Value, defs: &Map<String, Value>) -> Value {
    match schema {
        Value::Object(object) => {
            let name = object.get("$ref").and_then(Value::as_str).and_then(|path| path.rsplit('/').next());
            let mut whole = name.and_then(|name| defs.get(name)?.as_object().cloned()).unwrap_or_default();
            whole
                .extend(object.iter().filter(|(key, _)| *key != "$ref").map(|(k, v)| (k.clone(), v.clone())));
            // A key may itself be called "required"; only lists of keys are meant.
            let is_kept = |(key, value): &(&String, &Value)| {
                *key != "default" && !(*key == "required" && value.is_array())
            };
            let kept = whole.iter().filter(is_kept).map(|(key, value)| (key.clone(), partial(value, defs)));
            Value::Object(kept.collect())
        }
        Value::Array(array) => Value::Array(array.iter().map(|element| partial(element, defs)).collect()),
        other => other.clone(),
    }
}

fn without(mut schema: Value, keys: &[&str]) -> Value {
    if let Some(object) = schema.as_object_mut() {
        object.retain(|key, _| !keys.contains(&key.as_str()));
    }
    schema
}
