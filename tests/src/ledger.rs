//! The ledger of results: which case passed on which release.
//!
//! Why here: "all green on one release" has to be a fact that can be shown, also when the run was interrupted and went
//! on. One JSON line per run of a case is appended to `target/sheaf/ledger.jsonl`; the latest line of a case on a release
//! counts. Results that the checkout brings come first. Route in: [`Entry`]s of the case runner (`src/bin/cases.rs`). Route out:
//! what is left to run, the table in docs/testing.md, and the lines that the checkout keeps.

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};

/// One run of one case.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// `file::test`, or the name of a step of scripts/test.
    pub case: String,
    /// Content of the release it ran on, the same on every machine: hexadecimal digits.
    pub release: String,
    /// The checkout's commit; `+` when it had changes.
    pub commit: String,
    /// Day, `2026-11-28`.
    pub date: String,
    /// Whether it passed.
    pub passed: bool,
    /// Tests in it: 1 for a case, more for a step.
    pub tests: u32,
    /// How long it took.
    pub seconds: f64,
    /// How often it began again because the emulator broke its machine.
    #[serde(default)]
    pub emulator_retries: u32,
}

/// The file, and what it holds of one release.
#[derive(Debug)]
pub struct Ledger {
    path: PathBuf,
    /// The release whose results count.
    pub release: String,
    latest: BTreeMap<String, Entry>,
}

impl Ledger {
    /// Reads the results of `release` from the files `earlier`, then from `path`, where further ones go. None need exist. A line
    /// that a power cut left half written is passed over: its case runs again.
    pub fn open(path: &Path, earlier: &[&Path], release: &str) -> Result<Self> {
        let mut latest = BTreeMap::new();
        for file in earlier.iter().copied().chain([path]) {
            let text = match std::fs::read_to_string(file) {
                Ok(text) => text,
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
                Err(error) => return Err(error).context(file.display().to_string()),
            };
            let entries = text.lines().filter_map(|line| serde_json::from_str::<Entry>(line).ok());
            let entries = entries.filter(|entry| entry.release == release);
            latest.extend(entries.map(|entry| (entry.case.clone(), entry)));
        }
        Ok(Self { path: path.to_owned(), release: release.to_owned(), latest })
    }

    /// The latest result of each case as lines, sorted by case, for the checkout.
    pub fn lines(&self) -> Result<String> {
        let lines = self.results().map(|entry| Ok(format!("{}\n", serde_json::to_string(entry)?)));
        lines.collect()
    }

    /// Appends a result.
    pub fn append(&mut self, entry: Entry) -> Result<()> {
        let context = || self.path.display().to_string();
        if let Some(folder) = self.path.parent() {
            std::fs::create_dir_all(folder).with_context(context)?;
        }
        let mut file =
            std::fs::File::options().create(true).append(true).open(&self.path).with_context(context)?;
        // The line end comes first: half a line before it then spoils no other.
        file.write_all(format!("\n{}", serde_json::to_string(&entry)?).as_bytes()).with_context(context)?;
        self.latest.insert(entry.case.clone(), entry);
        Ok(())
    }

    /// Whether `case` has passed on this release.
    pub fn has_passed(&self, case: &str) -> bool {
        self.latest.get(case).is_some_and(|entry| entry.passed)
    }

    /// The latest results on this release, by case.
    pub fn results(&self) -> impl Iterator<Item = &Entry> {
        self.latest.values()
    }

    /// The results of `cases` as Markdown: one line per file, failures and missing ones by name.
    pub fn table(&self, cases: &[String]) -> String {
        let mut files: BTreeMap<&str, Summary> = BTreeMap::new();
        let steps = self.results().filter(|entry| !entry.case.contains("::")).map(|entry| &entry.case);
        for case in cases.iter().chain(steps) {
            let summary = files.entry(case.split("::").next().unwrap_or(case)).or_default();
            match self.latest.get(case) {
                Some(entry) => summary.add(entry),
                None => summary.not_run.push(case),
            }
        }
        let total = files.values().fold(Summary::default(), |sum, file| sum.plus(file));
        let commits: std::collections::BTreeSet<_> =
            self.results().map(|entry| (entry.date.as_str(), entry.commit.as_str())).collect();
        let commits: Vec<String> = commits.iter().map(|(date, commit)| format!("{date} {commit}")).collect();
        let mut text = format!(
            "Release `{}`; run on: {}. {} passed, {} failed, {} not run; begun again because the emulator broke a machine: {}; \
             {:.0} s in all.\n\n| file | passed | failed | not run | seconds |\n|---|---|---|---|---|\n",
            self.release,
            commits.join(", "),
            total.passed,
            total.failed.len(),
            total.not_run.len(),
            total.retries,
            total.seconds,
        );
        for (file, sum) in &files {
            // Writing to a String does not fail.
            let _ = writeln!(
                text,
                "| `{file}` | {} | {} | {} | {:.0} |",
                sum.passed,
                sum.failed.len(),
                sum.not_run.len(),
                sum.seconds
            );
        }
        for (what, names) in [("Failed", &total.failed), ("Not run", &total.not_run)] {
            if !names.is_empty() {
                let _ = writeln!(text, "\n{what}: {}", names.join(", "));
            }
        }
        text
    }
}

/// Results of one file of cases.
#[derive(Clone, Debug, Default)]
struct Summary<'a> {
    passed: u32,
    failed: Vec<&'a str>,
    not_run: Vec<&'a str>,
    seconds: f64,
    retries: u32,
}

impl<'a> Summary<'a> {
    fn add(&mut self, entry: &'a Entry) {
        self.seconds += entry.seconds;
        self.retries += entry.emulator_retries;
        if entry.passed {
            self.passed += entry.tests;
        } else {
            self.failed.push(&entry.case);
        }
    }

    fn plus(mut self, other: &Self) -> Self {
        self.passed += other.passed;
        self.failed.extend(&other.failed);
        self.not_run.extend(&other.not_run);
        self.seconds += other.seconds;
        self.retries += other.retries;
        self
    }
}

/// `document` with `text` between the lines `<!-- results -->` and `<!-- /results -->`.
pub fn insert(document: &str, text: &str) -> Result<String> {
    const BEGIN: &str = "<!-- results -->\n";
    const END: &str = "<!-- /results -->";
    let (before, rest) = document.split_once(BEGIN).with_context(|| format!("no line {BEGIN}"))?;
    let (_, after) = rest.split_once(END).with_context(|| format!("no line {END}"))?;
    Ok(format!("{before}{BEGIN}{text}{END}{after}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(case: &str, release: &str, passed: bool) -> Entry {
        Entry {
            case: case.into(),
            release: release.into(),
            commit: "abc".into(),
            date: "2026-11-28".into(),
            passed,
            tests: 1,
            seconds: 2.0,
            emulator_retries: 0,
        }
    }

    fn written(entries: &[Entry]) -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("deep/ledger.jsonl");
        let mut ledger = Ledger::open(&path, &[], "r1").unwrap();
        entries.iter().for_each(|entry| ledger.append(entry.clone()).unwrap());
        (folder, path)
    }

    #[test]
    fn the_latest_result_of_a_case_on_this_release_counts() {
        let (_folder, path) = written(&[
            entry("a::x", "r1", true),
            entry("a::x", "r1", false),
            entry("a::y", "r0", true),
            entry("a::z", "r1", false),
            entry("a::z", "r1", true),
        ]);
        let ledger = Ledger::open(&path, &[], "r1").unwrap();
        assert_eq!(["a::x", "a::y", "a::z"].map(|case| ledger.has_passed(case)), [false, false, true]);
    }

    #[test]
    fn what_the_checkout_brings_counts_until_a_case_runs_again_here() {
        let (_folder, path) = written(&[entry("a::x", "r1", true), entry("a::y", "r1", false)]);
        let brought = [entry("a::x", "r1", false), entry("a::y", "r1", true), entry("a::z", "r1", true)];
        let (_other, earlier) = written(&brought);
        let ledger = Ledger::open(&path, &[&earlier], "r1").unwrap();
        assert_eq!(["a::x", "a::y", "a::z"].map(|case| ledger.has_passed(case)), [true, false, true]);
        std::fs::write(&earlier, ledger.lines().unwrap()).unwrap();
        let again = Ledger::open(&path.with_file_name("none"), &[&earlier], "r1").unwrap();
        assert_eq!(again.lines().unwrap(), ledger.lines().unwrap());
        assert_eq!(again.results().count(), 3);
    }

    #[test]
    fn half_a_line_of_an_interrupted_run_costs_one_result_and_no_other() {
        let (_folder, path) = written(&[entry("a::x", "r1", true), entry("a::y", "r1", true)]);
        let text = std::fs::read(&path).unwrap();
        std::fs::write(&path, &text[..text.len() - 10]).unwrap();
        let mut ledger = Ledger::open(&path, &[], "r1").unwrap();
        ledger.append(entry("a::z", "r1", true)).unwrap();
        let ledger = Ledger::open(&path, &[], "r1").unwrap();
        assert_eq!(["a::x", "a::y", "a::z"].map(|case| ledger.has_passed(case)), [true, false, true]);
    }

    #[test]
    fn the_table_names_what_failed_and_what_was_not_run() {
        let retried = Entry { emulator_retries: 1, ..entry("b::x", "r1", true) };
        let units = Entry { tests: 780, ..entry("units", "r1", true) };
        let (_folder, path) =
            written(&[entry("a::x", "r1", true), entry("a::y", "r1", false), retried, units]);
        let ledger = Ledger::open(&path, &[], "r1").unwrap();
        let cases = ["a::x", "a::y", "b::x", "b::z"].map(str::to_owned);
        let expected = "Release `r1`; run on: 2026-11-28 abc. 782 passed, 1 failed, 1 not run; begun again because the emulator \
             broke a machine: 1; 8 s in all.\n\n| file | passed | failed | not run | seconds |\n|---|---|---|---|---|\n\
             | `a` | 1 | 1 | 0 | 4 |\n| `b` | 1 | 0 | 1 | 2 |\n| `units` | 780 | 0 | 0 | 2 |\n\nFailed: a::y\n\nNot run: b::z\n";
        assert_eq!(ledger.table(&cases), expected);
    }

    #[test]
    fn only_what_stands_between_the_marks_is_replaced() {
        let document = "a\n<!-- results -->\nold\n<!-- /results -->\nb\n";
        assert_eq!(insert(document, "new\n").unwrap(), "a\n<!-- results -->\nnew\n<!-- /results -->\nb\n");
        assert_eq!(insert("a", "new").unwrap_err().to_string(), "no line <!-- results -->\n");
    }
}
