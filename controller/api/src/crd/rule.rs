//! One rule between fields, as the API server will check it (CEL), with the sentence it answers.
//!
//! Why here: the tables of rules are beside what they are about; how a rule is said to the API server is said once.
//! Route in: a table. Route out: `x-kubernetes-validations` at the place that each rule names.

use serde_json::{Map, Value, json};

/// One rule.
pub struct Rule {
    /// Where it is checked, as a path below the root of its table; `self` in the rule is the value there.
    pub at: &'static str,
    /// What must hold.
    pub rule: &'static str,
    /// What is said if it does not.
    pub says: &'static str,
    /// The field that the answer names, below `at`.
    pub field: &'static str,
    /// In what sense it is wrong.
    pub reason: Reason,
}

/// In what sense a value is wrong: the API server's words.
#[allow(missing_docs)] // the names say it
pub enum Reason {
    Invalid,
    Required,
    Forbidden,
}

impl Rule {
    /// Adds the rule to the schema of its place.
    pub fn add_to(&self, schema: &mut Value) {
        let mut entry = Map::new();
        entry.insert("rule".into(), json!(self.rule));
        entry.insert("message".into(), json!(self.says));
        if !self.field.is_empty() {
            entry.insert("fieldPath".into(), json!(self.field));
        }
        let reason = match self.reason {
            Reason::Invalid => "FieldValueInvalid",
            Reason::Required => "FieldValueRequired",
            Reason::Forbidden => "FieldValueForbidden",
        };
        entry.insert("reason".into(), json!(reason));
        match schema.get_mut("x-kubernetes-validations").and_then(Value::as_array_mut) {
            Some(rules) => rules.push(Value::Object(entry)),
            None => schema["x-kubernetes-validations"] = json!([entry]),
        }
    }
}
