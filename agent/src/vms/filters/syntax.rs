//! The JSON of nft: objects, rules and expressions (libnftables-json(5)).
//!
//! Why here: the rules read as rules. Pure. Route in: names and values. Route out: commands for
//! [`sheaf_host::nft::Filter::apply`].

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

/// A table: family and name.
#[derive(Clone, Copy, Debug)]
pub(super) struct Table {
    /// `bridge`, `inet`.
    pub family: &'static str,
    /// Its name.
    pub name: &'static str,
}

impl Table {
    /// Adds the table; nothing when it is there.
    pub fn add(self) -> Value {
        add(json!({"table": {"family": self.family, "name": self.name}}))
    }

    /// Adds an object; nothing when it is there.
    pub fn add_object(self, kind: &str, name: &str, mut properties: Value) -> Value {
        properties["family"] = json!(self.family);
        properties["table"] = json!(self.name);
        properties["name"] = json!(name);
        add(json!({kind: properties}))
    }

    /// Adds a chain of a hook.
    pub fn add_hook(self, chain: &str, hook: &str, priority: i32, policy: &str) -> Value {
        let properties = json!({"type": "filter", "hook": hook, "prio": priority, "policy": policy});
        self.add_object("chain", chain, properties)
    }

    /// Adds elements to a set or map.
    pub fn add_elements(self, set: &str, elements: &Value) -> Value {
        add(self.elements(set, elements))
    }

    /// Deletes elements of a set or map.
    pub fn delete_elements(self, set: &str, elements: &Value) -> Value {
        json!({"delete": self.elements(set, elements)})
    }

    /// Deletes an object.
    pub fn delete(self, kind: &str, name: &str) -> Value {
        json!({"delete": self.object(kind, name)})
    }

    /// Removes the rules of a chain or the elements of a set.
    pub fn flush(self, kind: &str, name: &str) -> Value {
        json!({"flush": self.object(kind, name)})
    }

    /// Appends `rules` to `chain`; the first carries `version` as its comment.
    pub fn add_rules(self, chain: &str, rules: Vec<Rule>, version: &str) -> Vec<Value> {
        let mut commands: Vec<Value> = rules
            .into_iter()
            .map(|rule| {
                add(json!({"rule": {"family": self.family, "table": self.name, "chain": chain, "expr": rule}}))
            })
            .collect();
        if let Some(first) = commands.first_mut().filter(|_| !version.is_empty()) {
            first["add"]["rule"]["comment"] = json!(version);
        }
        commands
    }

    fn object(self, kind: &str, name: &str) -> Value {
        json!({kind: {"family": self.family, "table": self.name, "name": name}})
    }

    fn elements(self, set: &str, elements: &Value) -> Value {
        json!({"element": {"family": self.family, "table": self.name, "name": set, "elem": elements}})
    }
}

/// Expressions of one rule, in order.
pub(super) type Rule = Vec<Value>;

/// Tells rules from others: 64 bits of a hash.
pub(super) fn version(of: &Value) -> String {
    let hash = Sha256::digest(of.to_string());
    hash[..8].iter().map(|byte| format!("{byte:02x}")).collect()
}

fn add(object: Value) -> Value {
    json!({"add": object})
}

pub(super) fn is(left: Value, right: Value) -> Value {
    json!({"match": {"op": "==", "left": left, "right": right}})
}

pub(super) fn differs(left: Value, right: Value) -> Value {
    json!({"match": {"op": "!=", "left": left, "right": right}})
}

/// Whether `left` is in the set `name`.
pub(super) fn is_in(left: Value, name: &str) -> Value {
    is(left, json!(format!("@{name}")))
}

pub(super) fn meta(key: &str) -> Value {
    json!({"meta": {"key": key}})
}

pub(super) fn field(protocol: &str, field: &str) -> Value {
    json!({"payload": {"protocol": protocol, "field": field}})
}

/// `bits` at `offset` bits of a header: `ll` Ethernet's, `nh` the network's, `th` the transport's.
pub(super) fn raw(base: &str, offset: u32, bits: u32) -> Value {
    json!({"payload": {"base": base, "offset": offset, "len": bits}})
}

pub(super) fn masked(left: Value, mask: &str) -> Value {
    json!({"&": [left, mask]})
}

/// More than `rate` packets a second, after `burst` of them at once.
pub(super) fn exceeds(rate: u32, burst: u32) -> Value {
    json!({"limit": {"rate": rate, "burst": burst, "per": "second", "inv": true}})
}

pub(super) fn update(set: &str, element: Value) -> Value {
    json!({"set": {"op": "update", "elem": element, "set": format!("@{set}")}})
}

pub(super) fn accept() -> Value {
    json!({"accept": null})
}

/// Counts a packet in the counter `name` and drops it.
pub(super) fn count_and_drop(name: &str) -> [Value; 2] {
    [json!({"counter": name}), json!({"drop": null})]
}
