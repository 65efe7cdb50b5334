//! The crates that programs are made of, as cargo resolves them.
//!
//! Why cargo is asked: `Cargo.lock` also has what only tests and other programs use. Route in: `cargo tree` for the node's
//! target, `Cargo.lock` for the sums. Route out: [`Crate`]s by name and version.

use crate::build_host::CARGO;
use crate::error::BuildError;
use crate::source::Source;
use serde::Deserialize;
use sheaf_host::run::{Command, Run};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;

/// What the node's programs are compiled for.
const TARGET: &str = "x86_64-unknown-linux-gnu";

/// One crate of a program.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Crate {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// SPDX expression of its manifest; none: it has none.
    pub licence: Option<String>,
    /// SHA-256 of its archive on crates.io; none: it is one of ours.
    pub sha256: Option<String>,
}

/// `Cargo.lock`, as far as it is read here.
#[derive(Deserialize)]
struct CargoLock {
    package: Vec<Locked>,
}

#[derive(Deserialize)]
struct Locked {
    name: String,
    version: String,
    checksum: Option<String>,
}

/// The crates of `programs`, which are packages of the workspace, with those that build them.
pub fn of(run: &dyn Run, source: &Source, programs: &[&str]) -> Result<BTreeSet<Crate>, BuildError> {
    let tree = Command::new(CARGO.program)
        .args(["tree", "--locked", "--edges", "normal,build", "--target", TARGET])
        .args(["--prefix", "none", "--no-dedupe", "--format", "{p}\t{l}"])
        .args(programs.iter().flat_map(|program| ["--package", program]))
        .dir(source.top());
    let tree = run.run(&tree)?.text();
    let path = source.path("Cargo.lock");
    let text = fs::read_to_string(&path).map_err(BuildError::io(&path))?;
    let lock: CargoLock = toml::from_str(&text).map_err(|error| {
        BuildError::wrong(
            format!("{}: {}", path.display(), error.message()),
            "restore it: git checkout Cargo.lock",
        )
    })?;
    Ok(parse(&tree, lock))
}

/// The lines of `cargo tree`, with the sums of `lock`.
fn parse(tree: &str, lock: CargoLock) -> BTreeSet<Crate> {
    let sums: BTreeMap<_, _> =
        lock.package.into_iter().map(|locked| ((locked.name, locked.version), locked.checksum)).collect();
    let line = |line: &str| {
        let (package, licence) = line.split_once('\t')?;
        let mut words = package.split(' ');
        let (name, version) = (words.next()?.to_owned(), words.next()?.strip_prefix('v')?.to_owned());
        let sha256 = sums.get(&(name.clone(), version.clone())).cloned().flatten();
        let licence = (!licence.is_empty()).then(|| licence.replace('/', " OR "));
        Some(Crate { name, version, licence, sha256 })
    };
    tree.lines().filter_map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn crates_of_others_have_sums_and_ours_have_none() {
        let lock = "version = 4\n[[package]]\nname = \"adler2\"\nversion = \"2.0.1\"\nchecksum = \"32\"\n\
                    [[package]]\nname = \"sheaf-host\"\nversion = \"0.1.0\"\n";
        let tree = "sheaf-host v0.1.0 (/a b/host)\tApache-2.0\nadler2 v2.0.1\tMIT/Apache-2.0\nadler2 v2.0.1\tMIT/Apache-2.0\n\n";
        let found: Vec<_> = parse(tree, toml::from_str(lock).unwrap()).into_iter().collect();
        assert_eq!(found.len(), 2, "{found:?}");
        assert_eq!((found[0].name.as_str(), found[0].sha256.as_deref()), ("adler2", Some("32")));
        assert_eq!(found[0].licence.as_deref(), Some("MIT OR Apache-2.0"));
        assert_eq!((found[1].name.as_str(), &found[1].sha256), ("sheaf-host", &None));
    }
}
