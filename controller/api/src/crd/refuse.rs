//! Adds every field of KubeVirt's that Sheaf does not support, with a rule that refuses it by name.
//!
//! Why here: a field that a schema does not know is dropped by the API server, and the user believes it works.
//! Route in: `facts/kubevirt-v1.txt`, lines of `<type> <field> <kind>` made by `facts/main.go`.
//! Route out: additional properties and `x-kubernetes-validations`, in place. [`super::refusals`] has the reasons.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::refusals;

/// What the API server answers to a field that Sheaf does not support, unless [`refusals`] has a reason; it puts the
/// field's path in front.
pub const MESSAGE: &str = "not supported by Sheaf; remove it";

/// Types with their fields and each field's kind.
type Facts = BTreeMap<&'static str, BTreeMap<&'static str, &'static str>>;

/// Goes through `schema`, which describes KubeVirt's type `fact`, and refuses the fields it lacks.
pub fn unsupported(schema: &mut Value, fact: &str) {
    go(schema, fact, &facts());
}

fn facts() -> Facts {
    let mut facts = Facts::new();
    for line in include_str!("../../facts/kubevirt-v1.txt").lines() {
        let mut words = line.split(' ');
        if let (Some(of), Some(field), Some(kind)) = (words.next(), words.next(), words.next()) {
            facts.entry(of).or_default().insert(field, kind);
        }
    }
    facts
}

fn go(schema: &mut Value, fact: &str, facts: &Facts) {
    let Some(fields) = facts.get(fact) else { return };
    let mut refused = Vec::new();
    for (field, kind) in fields {
        match schema.pointer_mut(&format!("/properties/{field}")) {
            // The supported fields of a supported type may be types with unsupported fields.
            Some(property) => match kind.split_once("object:") {
                Some(("", of)) => go(property, of, facts),
                Some(("list:", of)) => go(&mut property["items"], of, facts),
                _ => {}
            },
            None => refused.push((*field, *kind)),
        }
    }
    for (field, kind) in refused {
        schema["properties"][field] = of_kind(kind);
        // False is the same as absent for every field that is not supported.
        let or_false = if kind == "boolean" { format!(" || !self.{field}") } else { String::new() };
        let rule = json!({
            "rule": format!("!has(self.{field}){or_false}"),
            "fieldPath": format!(".{field}"),
            "reason": "FieldValueForbidden",
            "message": refusals::reason(fact, field).unwrap_or(MESSAGE),
        });
        match schema.get_mut("x-kubernetes-validations").and_then(Value::as_array_mut) {
            Some(rules) => rules.push(rule),
            None => schema["x-kubernetes-validations"] = json!([rule]),
        }
    }
}

/// A schema that accepts anything of a kind: it must be of the right type for the rule to be asked at all.
fn of_kind(kind: &str) -> Value {
    match kind.split_once(':') {
        Some(("list", item)) => json!({"type": "array", "items": of_kind(item)}),
        Some(_) => json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true}),
        None if kind == "object" => json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true}),
        None if kind == "int-or-string" => json!({"x-kubernetes-int-or-string": true}),
        None => json!({"type": kind}),
    }
}
