//! npm packages that the console's page is made of, as `package-lock.json` pins them.
//!
//! Why the lock and not what is in the page: a bundler leaves no list. What only builds or tests the page is marked `dev` there, and is
//! not in it. Route in: `console/web/package-lock.json`. Route out: [`Npm`]s by name and version.

use crate::error::BuildError;
use crate::source::Source;
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;

/// Before each path of a package in the lock.
const FOLDER: &str = "node_modules/";

/// One package.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Npm {
    /// `@xterm/xterm`
    pub name: String,
    /// `6.0.0`
    pub version: String,
    /// SPDX expression; none: it has none.
    pub licence: Option<String>,
}

/// `package-lock.json` of version 3, as far as it is read here.
#[derive(Deserialize)]
struct PackageLock {
    packages: BTreeMap<String, Locked>,
}

#[derive(Deserialize)]
struct Locked {
    #[serde(default)]
    version: String,
    license: Option<String>,
    #[serde(default)]
    dev: bool,
}

/// The packages of the page.
pub fn of(source: &Source) -> Result<BTreeSet<Npm>, BuildError> {
    let path = source.path("console/web/package-lock.json");
    let text = fs::read_to_string(&path).map_err(BuildError::io(&path))?;
    parse(&text).map_err(|error| {
        BuildError::wrong(
            format!("{}: {error}", path.display()),
            "restore it: git checkout console/web/package-lock.json",
        )
    })
}

fn parse(text: &str) -> Result<BTreeSet<Npm>, serde_json::Error> {
    let lock: PackageLock = serde_json::from_str(text)?;
    let package = |(path, locked): (String, Locked)| {
        // The last one: a package may have packages of its own. The first entry is the page itself.
        let name = path.rsplit(FOLDER).next().filter(|_| path.starts_with(FOLDER) && !locked.dev)?;
        Some(Npm { name: name.to_owned(), version: locked.version, licence: locked.license })
    };
    Ok(lock.packages.into_iter().filter_map(package).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_in_the_page_is_listed_and_what_only_builds_it_is_not() {
        let lock = r#"{"lockfileVersion": 3, "packages": {
            "": {"name": "sheaf-console-web", "version": "0.0.0"},
            "node_modules/@xterm/xterm": {"version": "6.0.0", "license": "MIT"},
            "node_modules/a/node_modules/b": {"version": "2.0.0"},
            "node_modules/vite": {"version": "8.4.0", "license": "MIT", "dev": true}}}"#;
        let found: Vec<_> = parse(lock).unwrap().into_iter().map(|npm| (npm.name, npm.version)).collect();
        let expected = [("@xterm/xterm", "6.0.0"), ("b", "2.0.0")];
        assert_eq!(found, expected.map(|(name, version)| (name.to_owned(), version.to_owned())));
        parse("<html>").unwrap_err();
    }
}
