//! Reads a type from JSON and refuses, by its path, any field that the type does not have.
//!
//! Why here: what a user asked for is either done or refused, never dropped in silence; the agent reads an
//! annotation that the API server did not check. Route in: JSON text. Route out: the value, or an error with the
//! path of the first field that would have been ignored.

use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

/// Why a text was not read.
#[derive(Debug, thiserror::Error)]
pub enum StrictError {
    /// Not JSON, or of another shape than the type.
    #[error("{0}")]
    Shape(String),
    /// A field that the type does not have.
    #[error("{0}: unknown field")]
    Unknown(String),
}

/// Reads `text` as a `T`. Fields that are null, false, zero or empty count as absent.
pub fn from_json<T: DeserializeOwned + Serialize>(text: &str) -> Result<T, StrictError> {
    let shape = |error: serde_json::Error| StrictError::Shape(error.to_string());
    let given: Value = serde_json::from_str(text).map_err(shape)?;
    let read: T = T::deserialize(&given).map_err(shape)?;
    let kept = serde_json::to_value(&read).map_err(shape)?;
    match lost("", &given, &kept) {
        Some(path) => Err(StrictError::Unknown(path)),
        None => Ok(read),
    }
}

/// Path of the first value of `given` that `kept` lacks.
fn lost(path: &str, given: &Value, kept: &Value) -> Option<String> {
    match (given, kept) {
        (Value::Object(given), Value::Object(kept)) => given.iter().find_map(|(key, value)| {
            let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
            match kept.get(key) {
                Some(kept) => lost(&path, value, kept),
                None => (!is_nothing(value)).then_some(path),
            }
        }),
        (Value::Array(given), Value::Array(kept)) => given
            .iter()
            .zip(kept)
            .enumerate()
            .find_map(|(index, (given, kept))| lost(&format!("{path}[{index}]"), given, kept)),
        _ => None,
    }
}

/// True for values that say the same as their absence.
fn is_nothing(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(flag) => !flag,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => text.is_empty(),
        Value::Array(list) => list.is_empty(),
        Value::Object(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vmi::VirtualMachineInstanceSpec;

    #[test]
    fn an_unknown_field_is_named_with_its_path() {
        let text = r#"{"domain":{"devices":{"disks":[{"name":"a","disk":{"bus":"virtio"}},
                      {"name":"b","disk":{"pciAddress":"0000:81:01.0"}}]}}}"#;
        let error = from_json::<VirtualMachineInstanceSpec>(text).unwrap_err();
        assert_eq!(error.to_string(), "domain.devices.disks[1].disk.pciAddress: unknown field");
    }

    #[test]
    fn what_the_types_know_is_read() {
        let text = r#"{"domain":{"memory":{"guest":"512Mi"},"devices":{}},"nodeSelector":{"a":"b"}}"#;
        let spec = from_json::<VirtualMachineInstanceSpec>(text).unwrap();
        assert_eq!(spec.node_selector["a"], "b");
    }
}
