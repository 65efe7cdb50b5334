//! Every bad lock is refused with exactly the text in the file beside it; every lock of ours is accepted.
//!
//! Route in: `bad-locks/NAME.lock`, each `good.lock` with one thing changed. Route out: `bad-locks/NAME.err`; `UPDATE=1`
//! rewrites them.

use sheaf_os_image::lock::Lock;
use std::path::{Path, PathBuf};

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

fn locks(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<_> =
        entries.filter(|path| path.extension().is_some_and(|end| end == "lock")).collect();
    files.sort();
    files
}

fn good() -> Lock {
    Lock::read(&folder("tests/good.lock")).unwrap_or_else(|error| panic!("{error}"))
}

/// Why a build refuses the lock at `path`, whose recipe and checkout ask for what `good.lock` has.
fn refusal(path: &Path) -> Option<String> {
    let text = std::fs::read_to_string(path).unwrap();
    let name = Path::new("a/sheaf.lock");
    let is_good = |lock: Lock| lock.is_of(&good().wanted, name);
    Lock::parse(name, &text).and_then(is_good).err().map(|error| format!("{error}\n"))
}

#[test]
fn every_bad_lock_is_refused_with_exactly_the_text_beside_it() {
    let files = locks(&folder("tests/bad-locks"));
    assert!(files.len() >= 30, "{} files", files.len());
    let mut wrong = Vec::new();
    for path in files {
        let Some(said) = refusal(&path) else {
            wrong.push(format!("{}: was accepted", path.display()));
            continue;
        };
        let golden = path.with_extension("err");
        if std::env::var_os("UPDATE").is_some() {
            std::fs::write(&golden, &said).unwrap();
        }
        let expected = std::fs::read_to_string(&golden).unwrap_or_default();
        let remedy = said.trim_end().ends_with("sheaf lock a/sheaf.toml");
        let shape = |line: &str| line.starts_with("a/sheaf.lock") && line.contains("; ");
        let stale = said.contains("is not the lock of this recipe");
        if said != expected || !remedy || !(stale || said.lines().all(shape)) {
            wrong.push(format!("{}\nsaid:\n{said}expected:\n{expected}", path.display()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_lock_that_the_bad_ones_are_made_of_is_good_and_is_written_as_it_was_read() {
    let lock = good();
    assert_eq!(Lock::parse(Path::new("again.lock"), &lock.to_string()).unwrap(), lock);
    assert!(lock.is_of(&lock.wanted, Path::new("good.lock")).is_ok());
}

#[test]
fn every_lock_of_ours_is_accepted() {
    let files = locks(&folder("../configs/images"));
    assert!(!files.is_empty());
    for path in files {
        let lock = Lock::read(&path).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(lock.to_string(), std::fs::read_to_string(&path).unwrap(), "{}", path.display());
    }
}

#[test]
fn a_lock_that_is_not_text_is_refused_with_the_byte() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.lock");
    std::fs::write(&path, b"version = 1\nmade = \"\xff\"\n").unwrap();
    let error = Lock::read(&path).unwrap_err().to_string();
    let name = path.display();
    let recipe = path.with_extension("toml");
    assert_eq!(
        error,
        format!(
            "{name}:2: text: byte 0xff is not UTF-8; save the file as UTF-8\n{name}: a lock is not edited; make it again: \
             sheaf lock {}",
            recipe.display()
        )
    );
}
