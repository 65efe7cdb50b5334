//! Two builds from one lock give the same bytes: in other folders, at other times, as another user, with one worker or two.
//!
//! Why here and not in os-image: everything is compiled twice, which takes an hour on two cores. `cargo test -p sheaf-tests
//! --features all --test reproducible` runs it alone. Route in: the checkout, its lock, a mirror that has the lock's packages.
//! Route out: the first file that differs.

use anyhow::{Context as _, Result, ensure};
use sha2::{Digest as _, Sha256};
use sheaf_host::run::{Command, Run as _, System};
use sheaf_tests::harness::{Case, case};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Packages, compilers and compression from nothing, on two busy cores.
const BUILD: Duration = Duration::from_secs(2 * 3600);
/// The recipe that is built.
const RECIPE: &str = "configs/images/sheaf.toml";

/// One way to build.
struct Way<'a> {
    /// Where: a checkout and a cache of its own below it.
    folder: &'a str,
    /// Processors that programs may use.
    processors: &'a str,
    /// What the clock, user and language of the builder are called by their variables.
    environment: [(&'a str, &'a str); 3],
}

/// SHA-256 of each file of a release, by name.
fn sums(release: &Path) -> Result<BTreeMap<String, String>> {
    let mut sums = BTreeMap::new();
    for entry in std::fs::read_dir(release).with_context(|| release.display().to_string())? {
        let entry = entry?;
        let digest = Sha256::digest(std::fs::read(entry.path())?);
        let hex = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        sums.insert(entry.file_name().to_string_lossy().into_owned(), hex);
    }
    Ok(sums)
}

/// Builds the committed state of the checkout in another place; gives the release folder.
fn build(case: &Case, sheaf: &Path, key: &str, way: &Way<'_>) -> Result<PathBuf> {
    let checkout = case.work().join(way.folder);
    System.run(&Command::new("git").args(["clone", "--quiet"]).arg(case.root()).arg(&checkout))?;
    let mut command = Command::new("taskset")
        .args(["--cpu-list", way.processors])
        .arg(sheaf)
        .args(["build", "--locked", "--ship", RECIPE])
        .dir(&checkout)
        .env("SHEAF_CACHE", checkout.join("cache"))
        .env("GOFLAGS", "-a")
        .env("SHEAF_SIGNING_KEY", key)
        .log(case.artefacts().join(format!("{}.log", way.folder)))
        .deadline(BUILD);
    for (name, value) in way.environment {
        command = command.env(name, value);
    }
    Ok(checkout.join(System.run(&command)?.text()))
}

#[test]
fn two_builds_from_one_lock_are_byte_identical() {
    case("reproducible", |case| {
        let sheaf = case.built()?.sheaf;
        // Its throw-away key serves as one to ship with: both builds must have the same.
        let key = std::fs::read_to_string(throw_away_key()?)?;
        let one = Way {
            folder: "one",
            processors: "0",
            environment: [("USER", "alice"), ("LANG", "C"), ("TZ", "UTC")],
        };
        let other = Way {
            folder: "other/and/deeper",
            processors: "0-1",
            environment: [("USER", "bob"), ("LANG", "de_DE.UTF-8"), ("TZ", "Asia/Tokyo")],
        };
        let [first, second] =
            [one, other].map(|way| build(case, &sheaf, &key, &way).and_then(|dir| sums(&dir)));
        let (first, second) = (first?, second?);
        ensure!(first.keys().eq(second.keys()), "other files: {:?}, {:?}", first.keys(), second.keys());
        let differ: Vec<_> =
            first.iter().filter(|(name, sum)| second[*name] != **sum).map(|(name, _)| name).collect();
        ensure!(differ.is_empty(), "these files differ: {differ:?}; compare them: sheaf diff ONE OTHER");
        Ok(())
    });
}

/// The key that the release of the other cases was signed with.
fn throw_away_key() -> Result<PathBuf> {
    let given = std::env::var_os("SHEAF_CACHE").map(PathBuf::from);
    let default = || {
        let home = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
        Some(home.or_else(|| Some(std::env::home_dir()?.join(".cache")))?.join("sheaf"))
    };
    Ok(given.or_else(default).context("this user has no home directory")?.join("throw-away.key"))
}
