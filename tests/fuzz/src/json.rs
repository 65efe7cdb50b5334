//! Changes of JSON that leave it JSON: what a tenant can store behind a schema that lets a field through.

use crate::Random;
use serde_json::{Value, json};

/// Texts of kinds that fields have: quantities, addresses, names, times.
const TEXTS: [&str; 16] = [
    "",
    "0",
    "-1",
    "1e400",
    "99999999Ei",
    "9223372036854775807",
    "1Gi",
    "255.255.255.255",
    "::",
    "02:00:00:00:00:01",
    "../..",
    "a/b",
    "é\u{202e}\u{0}",
    "2026-01-01T00:00:00Z",
    "true",
    "br0",
];

/// Up to `most` changes.
pub fn change(random: &mut Random, value: &mut Value, most: usize) {
    for _ in 0..random.below(most + 1) {
        change_one(random, value);
    }
}

/// Puts something else in the place of a value deep inside, or takes it away, or doubles it.
fn change_one(random: &mut Random, value: &mut Value) {
    let stop = random.once_in(6);
    match value {
        Value::Array(all) if !all.is_empty() && !stop => {
            let at = random.below(all.len());
            match random.below(8) {
                0 => drop(all.remove(at)),
                1 => all.push(all[at].clone()),
                _ => change_one(random, &mut all[at]),
            }
        }
        Value::Object(all) if !all.is_empty() && !stop => {
            let at = random.below(all.len());
            let Some(key) = all.keys().nth(at).cloned() else { return };
            match random.below(10) {
                0 => drop(all.remove(&key)),
                1 => {
                    let other = all.keys().nth(random.below(all.len())).cloned().unwrap_or_default();
                    all.insert(key, all[&other].clone());
                }
                _ => change_one(random, &mut all[&key]),
            }
        }
        value => *value = other(random),
    }
}

/// A value of any kind.
fn other(random: &mut Random) -> Value {
    match random.below(9) {
        0 => Value::Null,
        1 => json!(random.number()),
        2 => json!(-(random.number() as i64 >> 1)),
        3 => json!("x".repeat(random.below(300))),
        4 => json!([]),
        5 => json!({}),
        6 => json!(random.once_in(2)),
        7 => json!(format!("{}{}", random.number(), random.of(&["", "Ki", "Gi", "Ei", "m"]))),
        _ => json!(random.of(&TEXTS)),
    }
}
