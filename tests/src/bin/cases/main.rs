//! Runs the cases of this crate, each as a process of its own, and keeps the ledger.
//!
//! Why here: `cargo test` begins from nothing each time; a run of all cases takes hours and gets interrupted. Route in:
//! the test programs that cargo builds, the release that `sheaf build` left. Route out: a line per case, a log per case
//! under `target/sheaf/test/cases/`, `target/sheaf/ledger.jsonl`, and the line `test result: …` that scripts/test counts. What
//! docs/testing.jsonl has of the same release counts as if it had run here: all cases take longer than one sitting.
//!
//! `cases`: those that fit CI's hour, all of them. `cases --all`: every case that has not passed on this release yet;
//! `--only FILE,FILE`: those of these files alone, in this order.
//! `cases --step NAME --tests N --seconds N`: records a step that scripts/test ran itself. `cases --write`: writes the
//! results of this release into docs/testing.md and docs/testing.jsonl.

mod run;

use anyhow::{Context as _, Result, bail, ensure};
use run::Test;
use serde::Deserialize;
use sha2::{Digest as _, Sha256};
use sheaf_host::run::{Command, Run as _, System};
use sheaf_tests::ledger::{self, Entry, Ledger};
use std::path::{Path, PathBuf};

/// How many of the slowest cases are printed at the end.
const SLOWEST: usize = 10;
/// Lines of a failed case's log that are printed.
const LOG_TAIL: usize = 40;
/// Results that are part of the checkout.
const KEPT: &str = "docs/testing.jsonl";
/// What a release is made of, as patterns of git: everything but tests, documentation, and what only a desk uses.
const PRODUCT: [&str; 15] = [
    ".",
    ":!tests",
    ":!docs",
    ":!scripts",
    ":!.ci",
    ":!Makefile",
    ":!*.md",
    ":!clippy.toml",
    ":!deny.toml",
    ":!rustfmt.toml",
    ":(exclude,glob)**/tests.rs",
    ":(exclude,glob)**/tests/**",
    ":(exclude,glob)**/any_order.rs",
    ":!console/web/test",
    // Made of the types, for people to read; a test keeps them so.
    ":!controller/api/crds",
];
/// The program of all cases (tests/Cargo.toml).
const TARGET: &str = "all";

/// What cargo says of a program that it built: the fields of its JSON messages that matter here.
#[derive(Deserialize)]
struct Message {
    executable: Option<PathBuf>,
    target: Option<Target>,
}

#[derive(Deserialize)]
struct Target {
    name: String,
}

#[derive(Default)]
struct Arguments {
    all: bool,
    write: bool,
    /// Files of cases, in the order to run them; none: every file.
    only: Vec<String>,
    step: Option<(String, u32, f64)>,
}

fn main() -> Result<()> {
    let arguments = arguments()?;
    let root = sheaf_machine::workspace()?;
    let made = root.join("target/sheaf");
    let release = release(&root)?;
    let kept = root.join(KEPT);
    let mut ledger = Ledger::open(&made.join("ledger.jsonl"), &[&kept], &release)?;
    let (commit, date) = (commit(&root)?, today()?);
    if let Some((case, tests, seconds)) = arguments.step {
        let entry = Entry { case, release, commit, date, passed: true, tests, seconds, emulator_retries: 0 };
        return ledger.append(entry);
    }
    let mut tests = tests(&root, arguments.all)?;
    if !arguments.only.is_empty() {
        let place = |test: &Test| arguments.only.iter().position(|file| file == test.file());
        tests.retain(|test| place(test).is_some());
        tests.sort_by_key(place);
    }
    if arguments.write {
        let (path, cases) =
            (root.join("docs/testing.md"), tests.iter().map(|test| test.case.clone()).collect::<Vec<_>>());
        let document = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        let text = ledger::insert(&document, &ledger.table(&cases))?;
        sheaf_host::file::write_atomically(&path, text.as_bytes(), 0o644)?;
        sheaf_host::file::write_atomically(&kept, ledger.lines()?.as_bytes(), 0o644)?;
        println!("written: {} and {}", path.display(), kept.display());
        return Ok(());
    }
    let logs = made.join("test/cases");
    std::fs::create_dir_all(&logs).with_context(|| logs.display().to_string())?;
    let total = tests.len();
    if arguments.all {
        tests.retain(|test| !ledger.has_passed(&test.case));
        println!("{} of {total} cases passed earlier on this release", total - tests.len());
    }
    let mut passed = total - tests.len();
    let (mut failed, mut slowest) = (Vec::new(), Vec::new());
    run::all(tests, &root, &logs, |ran| {
        let verdict = if ran.passed { "ok" } else { "FAILED" };
        let retries = match ran.retries {
            0 => String::new(),
            retries => format!(", begun again {retries} time(s): the emulator broke its machine"),
        };
        passed += usize::from(ran.passed);
        let ended = passed + failed.len() + usize::from(!ran.passed);
        println!("[{ended}/{total}] {}: {verdict}, {:.0} s{retries}", ran.case, ran.seconds);
        if !ran.passed {
            println!("{}\n    ({})", tail(&ran.log), ran.log.display());
            failed.push(ran.case.clone());
        }
        slowest.push((ran.seconds, ran.case.clone()));
        ledger.append(Entry {
            case: ran.case,
            release: release.clone(),
            commit: commit.clone(),
            date: date.clone(),
            passed: ran.passed,
            tests: 1,
            seconds: ran.seconds,
            emulator_retries: ran.retries,
        })
    })?;
    slowest.sort_by(|one, other| other.0.total_cmp(&one.0));
    println!("slowest:");
    for (seconds, case) in slowest.iter().take(SLOWEST) {
        println!("{seconds:>8.0} s {case}");
    }
    let retries: u32 = ledger.results().map(|entry| entry.emulator_retries).sum();
    println!("release {release}; cases begun again because the emulator broke a machine: {retries}");
    let result = if failed.is_empty() { "ok" } else { "FAILED" };
    println!("test result: {result}. {passed} passed; {} failed; 0 ignored", failed.len());
    ensure!(failed.is_empty(), "failed: {}", failed.join(", "));
    Ok(())
}

fn arguments() -> Result<Arguments> {
    let mut words = std::env::args().skip(1);
    let mut arguments = Arguments::default();
    let (mut name, mut tests, mut seconds) = (None, None, None);
    while let Some(word) = words.next() {
        let mut value = || words.next().with_context(|| format!("{word}: a value is missing"));
        match word.as_str() {
            "--all" => arguments.all = true,
            "--write" => arguments.write = true,
            "--only" => arguments.only = value()?.split(',').map(str::to_owned).collect(),
            "--step" => name = Some(value()?),
            "--tests" => tests = Some(value()?.parse()?),
            "--seconds" => seconds = Some(value()?.parse()?),
            _ => bail!(
                "{word}: unknown; there are --all, --write, --only FILE,FILE and --step NAME --tests N --seconds N"
            ),
        }
    }
    if let Some(name) = name {
        let tests = tests.context("--step: --tests is missing")?;
        arguments.step = Some((name, tests, seconds.context("--step: --seconds is missing")?));
    }
    Ok(arguments)
}

/// Digits that stand for what is in the release: what it is made of, as git has it, and what was changed since. Builds are
/// byte-identical (reproducible.rs), so that a release has these digits on every machine; its manifest does not, because it is
/// signed with a key of this machine.
fn release(root: &Path) -> Result<String> {
    let git = |args: &[&str]| System.run(&Command::new("git").args(args).arg("--").args(PRODUCT).dir(root));
    let mut digest = Sha256::new();
    digest.update(git(&["ls-files", "--stage"])?.stdout);
    digest.update(git(&["diff"])?.stdout);
    Ok(digest.finalize().iter().take(8).map(|byte| format!("{byte:02x}")).collect())
}

fn commit(root: &Path) -> Result<String> {
    let git = |args: &[&str]| System.run(&Command::new("git").args(args).dir(root));
    let changed = !git(&["status", "--porcelain", "--untracked-files=no"])?.text().is_empty();
    let commit = git(&["rev-parse", "--short", "HEAD"])?.text();
    Ok(if changed { format!("{commit}+") } else { commit })
}

fn today() -> Result<String> {
    Ok(System.run(&Command::new("date").args(["-u", "+%Y-%m-%d"]))?.text())
}

/// Every test of this crate, by name.
fn tests(root: &Path, all: bool) -> Result<Vec<Test>> {
    let features = if all { "sheaf-tests/all" } else { "sheaf-tests/cases" };
    let cargo = Command::new("cargo")
        // The whole workspace: with the features that its unit tests were built with, so that nothing is built again.
        .args(["test", "--workspace", "--test", TARGET, "--no-run", "--message-format", "json"])
        .args(["--features", features])
        .dir(root);
    let mut tests = Vec::new();
    for line in System.run(&cargo)?.text().lines() {
        let Ok(Message { executable: Some(program), target: Some(target) }) = serde_json::from_str(line)
        else {
            continue;
        };
        if target.name != TARGET {
            continue;
        }
        let list = System.run(&Command::new(&program).args(["--list", "--format", "terse"]))?.text();
        let ignored =
            System.run(&Command::new(&program).args(["--list", "--format", "terse", "--ignored"]))?;
        let ignored = ignored.text();
        let names = list.lines().filter(|line| !ignored.lines().any(|other| other == *line));
        let names = names.filter_map(|line| line.strip_suffix(": test"));
        tests.extend(names.map(|case| Test { program: program.clone(), case: case.into() }));
    }
    ensure!(!tests.is_empty(), "cargo built no test of sheaf-tests");
    tests.sort_by(|one, other| one.case.cmp(&other.case));
    Ok(tests)
}

fn tail(log: &Path) -> String {
    let bytes = std::fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    let lines: Vec<&str> = text.lines().collect();
    let tail = &lines[lines.len().saturating_sub(LOG_TAIL)..];
    tail.iter().map(|line| format!("    {line}")).collect::<Vec<_>>().join("\n")
}
