//! What a stage depends on, summed up in one SHA-256.
//!
//! Why here: a stage is done again exactly when its digest changes, so everything it reads must pass through here.
//! Route in: texts, files, trees and the digests of earlier stages. Route out: the [`Digest`] that names the
//! stage's place in the cache.

use sha2::{Digest as _, Sha256};
use std::fmt;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// SHA-256 in hex.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Digest(String);

impl Digest {
    /// Of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        Self::hex(&Sha256::digest(bytes))
    }

    /// Of the contents of the file at `path`.
    pub fn of_file(path: &Path) -> Result<Self, InputError> {
        let fail = |source| InputError { path: path.to_owned(), source };
        let mut file = File::open(path).map_err(fail)?;
        let mut hash = Sha256::new();
        let mut buffer = vec![0; 1 << 20]; // bytes: large enough that reading costs nothing beside hashing
        loop {
            match file.read(&mut buffer).map_err(fail)? {
                0 => return Ok(Self::hex(&hash.finalize())),
                read => hash.update(&buffer[..read]),
            }
        }
    }

    /// One read back from where it was written as text.
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        (text.len() == 64 && text.bytes().all(|b| b.is_ascii_hexdigit())).then(|| Self(text.to_owned()))
    }

    /// The 64 digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// A UUID (version 8, RFC 9562: own contents) made of this and what it is `for_what`.
    pub fn uuid(&self, for_what: &str) -> String {
        let digest = Self::of(format!("{for_what} {self}").as_bytes()).0;
        // The variant's two bits are 10: of 0–3 → 8–b.
        let variant = ["8", "9", "a", "b"][usize::from(digest.as_bytes()[16]) % 4];
        format!(
            "{}-{}-8{}-{variant}{}-{}",
            &digest[..8],
            &digest[8..12],
            &digest[13..16],
            &digest[17..20],
            &digest[20..32]
        )
    }

    fn hex(bytes: &[u8]) -> Self {
        Self(hex::encode(bytes))
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// An input that could not be read.
#[derive(Debug, thiserror::Error)]
#[error("{}: cannot be read", .path.display())]
pub struct InputError {
    path: PathBuf,
    source: io::Error,
}

/// The inputs of one stage, in the order they are given.
pub struct Inputs(Sha256);

impl Inputs {
    /// Of the stage `name`, whose way of working is at `revision`: raised when the same inputs give another result.
    pub fn new(name: &str, revision: u32) -> Self {
        Self(Sha256::new()).text("stage", name).text("revision", &revision.to_string())
    }

    /// A named text. Lengths go in too, so that no two lists of inputs look the same.
    #[must_use]
    pub fn text(mut self, name: &str, value: &str) -> Self {
        self.add(name.as_bytes(), value.as_bytes());
        self
    }

    /// Several texts of one name.
    #[must_use]
    pub fn texts<'a>(self, name: &str, values: impl IntoIterator<Item = &'a str>) -> Self {
        values.into_iter().fold(self.text(name, "list"), |inputs, value| inputs.text(name, value))
    }

    /// The result of an earlier stage.
    #[must_use]
    pub fn digest(self, name: &str, digest: &Digest) -> Self {
        self.text(name, digest.as_str())
    }

    /// Name, contents and executable bit of a file; names and all of that of what is in a directory.
    pub fn path(mut self, path: &Path) -> Result<Self, InputError> {
        self.walk(path, Path::new(path.file_name().unwrap_or_default()), &[])?;
        Ok(self)
    }

    /// Like [`Self::path`], without entries named in `skip`.
    pub fn path_without(mut self, path: &Path, skip: &[&str]) -> Result<Self, InputError> {
        self.walk(path, Path::new(path.file_name().unwrap_or_default()), skip)?;
        Ok(self)
    }

    /// The sum.
    pub fn sum(self) -> Digest {
        Digest::hex(&self.0.finalize())
    }

    fn add(&mut self, name: &[u8], value: &[u8]) {
        for part in [name, value] {
            self.0.update((part.len() as u64).to_le_bytes());
            self.0.update(part);
        }
    }

    fn walk(&mut self, path: &Path, name: &Path, skip: &[&str]) -> Result<(), InputError> {
        let fail = |source| InputError { path: path.to_owned(), source };
        let facts = fs::symlink_metadata(path).map_err(fail)?;
        let bytes = name.as_os_str().as_bytes();
        if facts.is_symlink() {
            let target = fs::read_link(path).map_err(fail)?;
            self.add(bytes, b"link");
            self.add(bytes, target.as_os_str().as_bytes());
        } else if facts.is_dir() {
            self.add(bytes, b"directory");
            let entries = fs::read_dir(path).map_err(fail)?.collect::<Result<Vec<_>, _>>().map_err(fail)?;
            let mut names: Vec<_> = entries.into_iter().map(|entry| entry.file_name()).collect();
            names.sort();
            for entry in names.iter().filter(|entry| !skip.iter().any(|skipped| *entry == *skipped)) {
                self.walk(&path.join(entry), &name.join(entry), skip)?;
            }
        } else {
            let executable = facts.permissions().mode() & 0o100 != 0;
            self.add(bytes, if executable { b"program" } else { b"file" });
            let contents = Digest::of_file(path)?;
            self.add(bytes, contents.as_str().as_bytes());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sum(change: impl FnOnce(&Path)) -> Digest {
        let dir = tempfile::tempdir().unwrap();
        let tree = dir.path().join("tree");
        fs::create_dir_all(tree.join("etc")).unwrap();
        fs::write(tree.join("etc/motd"), "hello").unwrap();
        change(&tree);
        Inputs::new("root", 1).path_without(&tree, &["tests"]).unwrap().sum()
    }

    #[test]
    fn the_same_tree_sums_up_the_same_wherever_it_lies() {
        assert_eq!(sum(|_| {}), sum(|_| {}));
    }

    #[test]
    fn contents_names_links_and_the_executable_bit_count() {
        let changes: [fn(&Path); 4] = [
            |tree| fs::write(tree.join("etc/motd"), "hullo").unwrap(),
            |tree| fs::rename(tree.join("etc/motd"), tree.join("etc/issue")).unwrap(),
            |tree| std::os::unix::fs::symlink("motd", tree.join("etc/issue")).unwrap(),
            |tree| fs::set_permissions(tree.join("etc/motd"), fs::Permissions::from_mode(0o755)).unwrap(),
        ];
        let mut sums: Vec<_> = changes.into_iter().map(sum).collect();
        sums.push(sum(|_| {}));
        sums.sort();
        sums.dedup();
        assert_eq!(sums.len(), 5);
    }

    #[test]
    fn what_is_skipped_does_not_count() {
        let with_tests = sum(|tree| {
            fs::create_dir(tree.join("tests")).unwrap();
            fs::write(tree.join("tests/case.rs"), "x").unwrap();
        });
        assert_eq!(with_tests, sum(|_| {}));
    }

    #[test]
    fn texts_do_not_run_into_each_other() {
        let of = |name: &str, value: &str| Inputs::new("s", 1).text(name, value).sum();
        assert_ne!(of("ab", "c"), of("a", "bc"));
    }

    #[test]
    fn a_uuid_is_well_formed_and_differs_by_its_use() {
        let digest = Digest::of(b"release");
        let (root, verity) = (digest.uuid("root"), digest.uuid("verity"));
        assert_ne!(root, verity);
        assert_eq!(root.split('-').map(str::len).collect::<Vec<_>>(), [8, 4, 4, 4, 12]);
        assert!(root.as_bytes()[14] == b'8' && b"89ab".contains(&root.as_bytes()[19]), "{root}");
    }
}
