//! Links in the spelling of node.toml: keys with dashes, `[[network.nic]]` once for each.
//!
//! Why here: the types of [`sheaf_links`] are written in JSON's spelling; the words are the same. Route in: [`Links`] and
//! their schema. Route out: the tables of `[network]` and the schema that editors and the reference use.

use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::ser::SerializeMap as _;
use serde::{Serialize, Serializer};
use serde_json::{Map, Value};
use sheaf_links::{Kind, Links};
use std::borrow::Cow;

/// The key of a link, `lacpRate`, as `lacp-rate`.
fn key(key: &str) -> String {
    key.chars()
        .flat_map(|c| c.is_ascii_uppercase().then_some('-').into_iter().chain([c.to_ascii_lowercase()]))
        .collect()
}

/// The key of a list of links, `bonds`, as `bond`: there is a table for each.
fn list(name: &str) -> &str {
    match name {
        "nics" => Kind::Nic.key(),
        "bonds" => Kind::Bond.key(),
        "vlans" => Kind::Vlan.key(),
        "bridges" => Kind::Bridge.key(),
        other => other,
    }
}

/// Writes the tables of `links`, the name of each link first.
pub(super) fn serialize<S: Serializer>(links: &Links, serializer: S) -> Result<S::Ok, S::Error> {
    let value = serde_json::to_value(links).map_err(serde::ser::Error::custom)?;
    let mut map = serializer.serialize_map(None)?;
    for (name, links) in value.as_object().into_iter().flatten() {
        let links: Vec<_> = links.as_array().into_iter().flatten().map(Table).collect();
        map.serialize_entry(list(name), &links)?;
    }
    map.end()
}

/// A table whose keys are spelled differently.
struct Table<'v>(&'v Value);

impl Serialize for Table<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Value::Object(object) => {
                let mut map = serializer.serialize_map(Some(object.len()))?;
                let is_name = |key: &str| key == "name";
                let name = object.iter().filter(|(key, _)| is_name(key));
                for (name, value) in name.chain(object.iter().filter(|(key, _)| !is_name(key))) {
                    map.serialize_entry(&key(name), &Table(value))?;
                }
                map.end()
            }
            Value::Array(array) => serializer.collect_seq(array.iter().map(Table)),
            other => other.serialize(serializer),
        }
    }
}

/// Stands for [`Links`] where a schema is made.
pub(super) struct Tables;

impl JsonSchema for Tables {
    fn schema_name() -> Cow<'static, str> {
        "Links".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let settings = SchemaSettings::draft2020_12().with(|settings| settings.inline_subschemas = true);
        let whole = settings.into_generator().into_root_schema_for::<Links>().to_value();
        let mut properties = Map::new();
        for (name, links) in whole["properties"].as_object().into_iter().flatten() {
            properties.insert(list(name).into(), spelt(links.clone()));
        }
        // A policy may leave them out where it extends a bond of node.toml.
        if let Some(required) = properties[Kind::Bond.key()]["items"]["required"].as_array_mut() {
            required.push("ports".into());
        }
        let mut schema = Schema::default();
        schema.insert("type".into(), "object".into());
        schema.insert("properties".into(), properties.into());
        schema
    }
}

/// A schema below a list of links: other keys, none that are not known, no words for the API server.
fn spelt(schema: Value) -> Value {
    match schema {
        Value::Object(object) => {
            let is_table = object.contains_key("properties");
            let mut spelt_object = Map::new();
            for (word, value) in object.into_iter().filter(|(word, _)| !word.starts_with("x-kubernetes")) {
                let value = match (word.as_str(), value) {
                    ("properties", Value::Object(properties)) => {
                        properties.into_iter().map(|(name, value)| (key(&name), spelt(value))).collect()
                    }
                    ("required", Value::Array(names)) => {
                        names.iter().filter_map(Value::as_str).map(key).collect()
                    }
                    (_, value) => spelt(value),
                };
                spelt_object.insert(word, value);
            }
            if is_table {
                spelt_object.insert("additionalProperties".into(), false.into());
            }
            spelt_object.into()
        }
        Value::Array(array) => array.into_iter().map(spelt).collect(),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_spelt_with_dashes_and_the_list_of_vlans_is_not_that_of_a_bridge() {
        assert_eq!(
            (key("transmitHashPolicy").as_str(), key("gateway6").as_str()),
            ("transmit-hash-policy", "gateway6")
        );
        assert_eq!((list("vlans"), key("vlans").as_str()), ("vlan", "vlans"));
        let schema = Tables::json_schema(&mut SchemaGenerator::default()).to_value();
        let bridge = &schema["properties"]["bridge"]["items"];
        assert!(bridge["properties"]["vlan-aware"].is_object() && bridge["properties"]["vlans"].is_object());
        assert!(!schema.to_string().contains("x-kubernetes"), "{schema}");
    }
}
