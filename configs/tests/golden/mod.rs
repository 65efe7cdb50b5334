//! Bad files and the texts they are refused with, side by side: `NAME.toml` and `NAME.err`.
//!
//! Route in: a folder, and how a file of it is refused. Route out: a panic that shows every difference;
//! `UPDATE=1 cargo test -p sheaf-config` writes the texts again.

use std::path::{Path, PathBuf};

/// The TOML files of `folder`, a path in this crate, by name.
pub fn files(folder: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    let entries = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<_> =
        entries.filter(|path| path.extension().is_some_and(|end| end == "toml")).collect();
    files.sort();
    files
}

#[allow(dead_code)] // some tests only list files
/// Each file of `folder` is refused with exactly the text beside it, and each line of that names file, key and remedy.
pub fn each_is_refused(folder: &str, at_least: usize, refusal: impl Fn(&Path) -> Option<String>) {
    let files = files(folder);
    assert!(files.len() >= at_least, "{} files in {folder}", files.len());
    let mut wrong = Vec::new();
    for path in files {
        let Some(said) = refusal(&path).map(|said| format!("{said}\n")) else {
            wrong.push(format!("{}: was accepted", path.display()));
            continue;
        };
        let golden = path.with_extension("err");
        if std::env::var_os("UPDATE").is_some() {
            std::fs::write(&golden, &said).unwrap();
        }
        let expected = std::fs::read_to_string(&golden).unwrap_or_default();
        let shape = |line: &str| line.contains(".toml:") && line.contains("; ");
        if said != expected || !said.lines().all(shape) {
            wrong.push(format!("{}\nsaid:\n{said}expected:\n{expected}", path.display()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
