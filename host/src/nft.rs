//! The kernel's packet filter, by nft and its JSON.
//!
//! Why here: nft is a program. Route in: commands of nft's JSON schema (libnftables-json(5)), as values that plans
//! hold. Route out: one transaction, all or nothing; a table as it is.

use crate::run::{Command, Run, RunError, System};
use serde_json::{Value, json};
use std::time::Duration;

/// Longest time for one transaction: milliseconds as a rule, seconds where processors are emulated.
const DEADLINE: Duration = Duration::from_secs(30);

/// Why the filter is not as it was to be.
#[derive(Debug, thiserror::Error)]
pub enum NftError {
    /// nft refused, or could not be run.
    #[error(transparent)]
    Run(#[from] RunError),
    /// It printed something else than its JSON.
    #[error("nft prints no JSON")]
    Json(#[from] serde_json::Error),
    /// The fake was told to fail.
    #[error("{0}")]
    Told(String),
}

/// A packet filter: [`Nft`], or [`crate::fakes::FakeFilter`] in tests.
pub trait Filter: Send + Sync {
    /// Does all `commands`, or none.
    fn apply(&self, commands: &[Value]) -> Result<(), NftError>;
    /// The objects of table `name` of `family`; none when there is no such table.
    fn table(&self, family: &str, name: &str) -> Result<Vec<Value>, NftError>;
}

/// nft on this machine.
#[derive(Clone, Debug)]
pub struct Nft(Command);

impl Default for Nft {
    fn default() -> Self {
        Self::by(Command::new("nft"))
    }
}

impl Nft {
    /// The nft that `command` runs.
    pub fn by(command: Command) -> Self {
        Self(command)
    }

    fn command(&self) -> Command {
        self.0.clone().arg("--json").deadline(DEADLINE)
    }
}

impl Filter for Nft {
    fn apply(&self, commands: &[Value]) -> Result<(), NftError> {
        let text = json!({"nftables": commands}).to_string();
        System.run(&self.command().args(["--file", "-"]).stdin(text))?;
        Ok(())
    }

    fn table(&self, family: &str, name: &str) -> Result<Vec<Value>, NftError> {
        // A table that is not there is an error of nft's in words; a list of tables is not.
        let tables = objects(&System.run(&self.command().args(["list", "tables", family]))?.stdout)?;
        let is_it = |object: &Value| object["table"]["family"] == family && object["table"]["name"] == name;
        if !tables.iter().any(is_it) {
            return Ok(Vec::new());
        }
        Ok(objects(&System.run(&self.command().args(["list", "table", family, name]))?.stdout)?)
    }
}

fn objects(text: &[u8]) -> Result<Vec<Value>, serde_json::Error> {
    let mut document: Value = serde_json::from_slice(text)?;
    serde_json::from_value(document["nftables"].take())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_objects_of_a_listing_are_read_and_anything_else_is_an_error() {
        let text = br#"{"nftables": [{"metainfo": {"json_schema_version": 1}}, {"table": {"family": "bridge", "name": "t"}}]}"#;
        assert_eq!(objects(text).unwrap()[1]["table"]["name"], "t");
        assert!(objects(b"table bridge t {}").is_err());
        assert!(objects(b"{}").is_err());
    }
}
