//! Makes a derived schema say exactly what is meant: no nulls, keyed lists, no borrowed descriptions.
//!
//! Why here: schemars describes what serde can read; the API server's schema also decides how objects merge and
//! which values exist at all. Route in: the schema that `kube` derives. Route out: the same, changed in place.

use serde_json::{Value, json};

/// Lists whose items are told apart by their name: duplicates are refused and server-side apply merges by item.
const NAMED_LISTS: [&str; 6] = ["disks", "interfaces", "volumes", "networks", "inputs", "features"];

/// Kubernetes' own types: their descriptions are Kubernetes' to explain.
const FOREIGN: [&str; 4] = ["affinity", "tolerations", "topologySpreadConstraints", "dnsConfig"];

/// The longest quantity that anyone needs to write; bounds the cost of comparing quantities.
const QUANTITY_MAX_LENGTH: u32 = 32;

/// Changes `schema` and everything below it.
pub fn tidy(schema: &mut Value) {
    visit("", false, schema);
    // The status has lists of the same names; it is written by the controller alone.
    if let Some(spec) = schema.pointer_mut("/properties/spec") {
        name_lists(spec);
    }
}

fn visit(name: &str, foreign: bool, schema: &mut Value) {
    let Some(object) = schema.as_object_mut() else { return };
    // An absent field has one spelling, or the rules would meet two. Go's tools write this one null.
    if name != "creationTimestamp" {
        object.remove("nullable");
    }
    if foreign {
        object.remove("description");
    }
    if object.get("x-kubernetes-int-or-string").is_some() && object.contains_key("pattern") {
        object.insert("maxLength".into(), json!(QUANTITY_MAX_LENGTH));
    }
    if name == "requests" || name == "limits" {
        object.insert("maxProperties".into(), json!(8)); // bounds the cost of looking at each
    }
    for (key, value) in object.iter_mut() {
        match (key.as_str(), value) {
            ("properties", Value::Object(properties)) => {
                for (name, property) in properties {
                    visit(name, foreign || FOREIGN.contains(&name.as_str()), property);
                }
            }
            ("items" | "additionalProperties", inner) => visit("", foreign, inner),
            _ => {}
        }
    }
}

fn name_lists(schema: &mut Value) {
    let Some(properties) = schema.get_mut("properties").and_then(Value::as_object_mut) else { return };
    for (name, property) in properties {
        // A CPU has a list of features; a machine has an object of the same name.
        if NAMED_LISTS.contains(&name.as_str()) && property["type"] == "array" {
            property["x-kubernetes-list-type"] = json!("map");
            property["x-kubernetes-list-map-keys"] = json!(["name"]);
        }
        name_lists(property);
    }
}
