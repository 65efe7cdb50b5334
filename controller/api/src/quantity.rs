//! Amounts as Kubernetes writes them: `512Mi`, `2`, `500m`, `1.5Gi`.
//!
//! Why here: k8s-openapi's `Quantity` refuses the integers that people write in manifests and cannot be
//! computed with. Route in: a field of a manifest. Route out: bytes or thousandths, or the same text again.

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize};

/// An amount of bytes, CPUs or other countable things, kept as it was written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Amount(String);

/// The text of an [`Amount`] that is not one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a quantity such as 512Mi, 2 or 500m")]
pub struct NotAQuantity(String);

/// What the schema accepts; the API server compares text with it, and a test compares it with the parser.
pub const PATTERN: &str =
    r"^\+?([0-9]+(\.[0-9]*)?|\.[0-9]+)(Ki|Mi|Gi|Ti|Pi|Ei|m|k|M|G|T|P|E|[eE][0-9]{1,2})?$";

impl Amount {
    /// An amount of `bytes`, written in the largest binary unit that is exact.
    pub fn of_bytes(bytes: u64) -> Self {
        let units = [(1u64 << 40, "Ti"), (1 << 30, "Gi"), (1 << 20, "Mi"), (1 << 10, "Ki")];
        match units.iter().find(|(unit, _)| bytes >= *unit && bytes.is_multiple_of(*unit)) {
            Some((unit, suffix)) => Self(format!("{}{suffix}", bytes / unit)),
            None => Self(bytes.to_string()),
        }
    }

    /// An amount of thousandths, such as CPU time.
    pub fn of_milli(milli: u64) -> Self {
        if milli.is_multiple_of(1000) { Self((milli / 1000).to_string()) } else { Self(format!("{milli}m")) }
    }

    /// The text as written.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The value in whole units (bytes, for memory and disks), rounded up.
    pub fn units(&self) -> Result<u64, NotAQuantity> {
        u64::try_from(self.thousandths()?.div_ceil(1000)).map_err(|_| NotAQuantity(self.0.clone()))
    }

    /// The value in thousandths (millicores, for CPU), rounded up.
    pub fn milli(&self) -> Result<u64, NotAQuantity> {
        u64::try_from(self.thousandths()?).map_err(|_| NotAQuantity(self.0.clone()))
    }

    /// The value times 1000, rounded up.
    fn thousandths(&self) -> Result<u128, NotAQuantity> {
        parse(&self.0).ok_or_else(|| NotAQuantity(self.0.clone()))
    }
}

/// `text` times 1000, or nothing if it is not a quantity or is larger than a `u64` of units.
fn parse(text: &str) -> Option<u128> {
    let text = text.strip_prefix('+').unwrap_or(text);
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, suffix) = text.split_at(end);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') || number.len() > 24 {
        return None;
    }
    let digits: u128 = format!("{whole}{fraction}").parse().ok()?;
    let scale = 10u128.checked_pow(fraction.len() as u32)?;
    let thousandths_per_unit: u128 = match suffix {
        "m" => 1,
        "" => 1000,
        "k" => 1000 * 1000,
        "M" => 1000 * 10u128.pow(6),
        "G" => 1000 * 10u128.pow(9),
        "T" => 1000 * 10u128.pow(12),
        "P" => 1000 * 10u128.pow(15),
        "E" => 1000 * 10u128.pow(18),
        "Ki" => 1000 << 10,
        "Mi" => 1000 << 20,
        "Gi" => 1000 << 30,
        "Ti" => 1000 << 40,
        "Pi" => 1000 << 50,
        "Ei" => 1000 << 60,
        exponent => {
            let power: u32 = exponent.strip_prefix(['e', 'E'])?.parse().ok()?;
            (power <= 18).then(|| 1000 * 10u128.pow(power))?
        }
    };
    let value = digits.checked_mul(thousandths_per_unit)?.div_ceil(scale);
    (value <= u128::from(u64::MAX) * 1000).then_some(value)
}

impl From<&Amount> for Quantity {
    fn from(amount: &Amount) -> Self {
        Quantity(amount.0.clone())
    }
}

impl TryFrom<&Quantity> for Amount {
    type Error = NotAQuantity;

    fn try_from(quantity: &Quantity) -> Result<Self, NotAQuantity> {
        match parse(&quantity.0) {
            Some(_) => Ok(Self(quantity.0.clone())),
            None => Err(NotAQuantity(quantity.0.clone())),
        }
    }
}

impl<'de> Deserialize<'de> for Amount {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged, expecting = "a quantity such as 512Mi, 2 or 500m")]
        enum Written {
            Text(String),
            Integer(u64),
        }
        let text = match Written::deserialize(deserializer)? {
            Written::Text(text) => text,
            Written::Integer(number) => number.to_string(),
        };
        match parse(&text) {
            Some(_) => Ok(Self(text)),
            None => Err(serde::de::Error::custom(NotAQuantity(text))),
        }
    }
}

impl JsonSchema for Amount {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Amount".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "x-kubernetes-int-or-string": true,
            "anyOf": [{"type": "integer"}, {"type": "string"}],
            "pattern": PATTERN,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn amount(text: &str) -> Amount {
        serde_json::from_value(text.into()).unwrap()
    }

    #[test]
    fn units_are_read_as_kubernetes_writes_them() {
        for (text, bytes) in [
            ("1", 1),
            ("512Mi", 512 << 20),
            ("1.5Gi", 3 << 29),
            ("1G", 1_000_000_000),
            ("1e3", 1000),
            ("100m", 1),
            (".5Ki", 512),
            ("2.", 2),
            ("+3k", 3000),
        ] {
            assert_eq!(amount(text).units(), Ok(bytes), "{text}");
        }
    }

    #[test]
    fn cpu_is_read_in_thousandths() {
        assert_eq!(amount("250m").milli(), Ok(250));
        assert_eq!(amount("1.5").milli(), Ok(1500));
    }

    #[test]
    fn integers_in_a_manifest_are_quantities_too() {
        assert_eq!(serde_json::from_value::<Amount>(2.into()).unwrap(), amount("2"));
    }

    #[test]
    fn text_that_is_no_quantity_is_refused() {
        for text in ["", "Mi", "1 Gi", "1Gib", "-1", "1.2.3", "1e99", "99999999Ei", "0x10"] {
            assert!(serde_json::from_value::<Amount>(text.into()).is_err(), "{text:?} was accepted");
        }
    }

    #[test]
    fn amounts_are_written_in_the_largest_exact_unit() {
        assert_eq!(Amount::of_bytes(512 << 20).as_str(), "512Mi");
        assert_eq!(Amount::of_bytes(1025).as_str(), "1025");
        assert_eq!(Amount::of_milli(2000).as_str(), "2");
        assert_eq!(Amount::of_milli(100).as_str(), "100m");
    }
}
