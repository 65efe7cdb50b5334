//! Sizes of disks and partitions.
//!
//! Route in: `"32GiB"`, `"500GB"`, `"4096"`. Route out: bytes, and the same text again.

use schemars::JsonSchema;
use serde::Serialize;
use std::fmt;
use std::str::FromStr;

/// A number of bytes, written `"32GiB"`, `"500GB"`, `"4096"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, JsonSchema)]
#[serde(into = "String")]
#[schemars(inline, with = "String")]
pub struct Size(pub u64);

impl From<Size> for String {
    fn from(size: Size) -> Self {
        size.to_string()
    }
}

/// Units of a size, largest first; a size is written in the largest that divides it.
const UNITS: [(&str, u64); 6] = [
    ("TiB", 1 << 40),
    ("TB", 1_000_000_000_000),
    ("GiB", 1 << 30),
    ("GB", 1_000_000_000),
    ("MiB", 1 << 20),
    ("MB", 1_000_000),
];

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match UNITS.iter().find(|(_, factor)| self.0 > 0 && self.0.is_multiple_of(*factor)) {
            Some((unit, factor)) => write!(f, "{}{unit}", self.0 / factor),
            None => write!(f, "{}", self.0),
        }
    }
}

impl FromStr for Size {
    type Err = SizeError;

    fn from_str(text: &str) -> Result<Self, SizeError> {
        let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let (number, unit) = text.split_at(digits);
        let unit = unit.trim();
        let factor = match UNITS.iter().find(|(known, _)| *known == unit) {
            Some((_, factor)) => *factor,
            None if unit.is_empty() || unit == "B" => 1,
            None => return Err(SizeError::Unit),
        };
        let number: u64 = number.parse().map_err(|_| SizeError::Number)?;
        number.checked_mul(factor).map(Size).ok_or(SizeError::TooLarge)
    }
}

/// Why a text is no [`Size`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SizeError {
    /// No digits, or too many.
    #[error("does not start with a whole number")]
    Number,
    /// The unit is not one of [`UNITS`].
    #[error("has an unknown unit")]
    Unit,
    /// More than 64 bits.
    #[error("is larger than any disk")]
    TooLarge,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_is_written_as_it_was_read() {
        for text in ["500GB", "465GiB", "2TiB", "4096", "1TB"] {
            assert_eq!(text.parse::<Size>().unwrap().to_string(), text);
        }
        assert_eq!("99999999TiB".parse::<Size>(), Err(SizeError::TooLarge));
        assert_eq!("12 parsecs".parse::<Size>(), Err(SizeError::Unit));
        assert_eq!("GB".parse::<Size>(), Err(SizeError::Number));
    }
}
