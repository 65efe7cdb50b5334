//! One file with a snapshot and what is known of it, for a place outside of the node.
//!
//! Why tar: anybody can take `etcd.db` out of it for etcdutl. A file that is only what etcd sent is read too; of which
//! cluster it is, it does not say. Route in: a [`Snapshot`] and its data, or such a file. Route out: a stream, or data
//! that was verified.

use super::store::{DamageError, Snapshot, verify};
use std::fs::{self, File};
use std::io::{self, Read as _, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

/// What is known of it, first in the file.
const ABOUT: &str = "snapshot.json";
/// What etcd sent.
const DATA: &str = "etcd.db";
/// Longest description that is read.
const LONGEST_ABOUT: u64 = 64 << 10; // bytes
/// Where a tar file says that it is one: tar(5).
const MAGIC: (usize, &[u8]) = (257, b"ustar");

/// Why a file gives no snapshot.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// It cannot be read.
    #[error("{}: cannot be read", .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// It is a tar file of something else.
    #[error("{}: holds no {missing}; give a file that `sheaf-agent snapshot save` wrote", .path.display())]
    Other {
        /// The file.
        path: PathBuf,
        /// What is not in it.
        missing: &'static str,
    },
    /// The data is not what the description says.
    #[error("{}: its data does not have the SHA-256 that its snapshot.json names: it is damaged; take another copy", .path.display())]
    Hash {
        /// The file.
        path: PathBuf,
    },
    /// The data is not whole.
    #[error(transparent)]
    Damaged(#[from] DamageError),
    /// What was taken out cannot be written.
    #[error("{}: cannot be written", .path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

/// Writes `snapshot`, whose data is in `data`, to `to`.
pub fn write(to: impl Write, snapshot: &Snapshot, data: &Path) -> io::Result<()> {
    let mut archive = tar::Builder::new(to);
    let header = |length: u64| {
        let mut header = tar::Header::new_ustar();
        header.set_size(length);
        header.set_mode(0o600);
        header.set_mtime(snapshot.seconds());
        header.set_entry_type(tar::EntryType::Regular);
        header
    };
    let about = serde_json::to_vec_pretty(snapshot)?;
    archive.append_data(&mut header(about.len() as u64), ABOUT, &about[..])?;
    let file = File::open(data)?;
    let length = file.metadata()?.len();
    archive.append_data(&mut header(length), DATA, file.take(length))?;
    archive.into_inner()?.flush()
}

/// Puts the data of the file `path` into `part`, verified; what is known of it.
pub fn read(path: &Path, part: &Path) -> Result<Option<Snapshot>, ArchiveError> {
    let fail = |source| ArchiveError::Read { path: path.to_owned(), source };
    let mut file = File::open(path).map_err(fail)?;
    let mut begin = Vec::new();
    (&mut file).take((MAGIC.0 + MAGIC.1.len()) as u64).read_to_end(&mut begin).map_err(fail)?;
    if !begin.ends_with(MAGIC.1) {
        // Verified where it is first: its error names the file that was given.
        verify(path)?;
        copy(path, &mut File::open(path).map_err(fail)?, part)?;
        verify(part)?;
        return Ok(None);
    }
    let mut archive = tar::Archive::new(File::open(path).map_err(fail)?);
    let mut about = None;
    for entry in archive.entries().map_err(fail)? {
        let mut entry = entry.map_err(fail)?;
        let name = entry.path().map_err(fail)?.to_string_lossy().into_owned();
        match name.as_str() {
            ABOUT => {
                let mut text = String::new();
                (&mut entry).take(LONGEST_ABOUT).read_to_string(&mut text).map_err(fail)?;
                about = serde_json::from_str::<Snapshot>(&text).ok();
            }
            DATA => {
                let Some(about) = about else {
                    return Err(ArchiveError::Other { path: path.to_owned(), missing: ABOUT });
                };
                copy(path, &mut entry, part)?;
                let (_, sha256) = verify(part)?;
                if sha256 != about.sha256 {
                    return Err(ArchiveError::Hash { path: path.to_owned() });
                }
                return Ok(Some(about));
            }
            _ => {}
        }
    }
    Err(ArchiveError::Other { path: path.to_owned(), missing: DATA })
}

/// Writes all of `from`, which comes from the file `path`, to `part`, readable by root alone.
fn copy(path: &Path, from: &mut impl io::Read, part: &Path) -> Result<(), ArchiveError> {
    let write = |source| ArchiveError::Write { path: part.to_owned(), source };
    let mut to = create(part).map_err(write)?;
    let mut block = vec![0; 64 << 10];
    loop {
        let length =
            from.read(&mut block).map_err(|source| ArchiveError::Read { path: path.to_owned(), source })?;
        if length == 0 {
            return to.sync_all().map_err(write);
        }
        to.write_all(&block[..length]).map_err(write)?;
    }
}

/// A new file `path`, readable by its owner alone; one that is there is replaced.
pub fn create(path: &Path) -> io::Result<File> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => File::options().write(true).create_new(true).mode(0o600).open(path),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::etcd::store::testing::{file, snapshot};

    fn archive(root: &Path) -> (PathBuf, Snapshot) {
        let data = root.join("data");
        fs::write(&data, file(b"the cluster")).unwrap();
        let known = Snapshot { sha256: verify(&data).unwrap().1, ..snapshot("etcd-a", 1_600_000_000) };
        let path = root.join("saved.tar");
        write(create(&path).unwrap(), &known, &data).unwrap();
        (path, known)
    }

    #[test]
    fn what_was_saved_comes_out_as_it_was() {
        let root = tempfile::tempdir().unwrap();
        let (path, known) = archive(root.path());
        let part = root.path().join("part");
        assert_eq!(read(&path, &part).unwrap(), Some(known));
        assert_eq!(fs::read(&part).unwrap(), file(b"the cluster"));
    }

    #[test]
    fn what_etcd_sent_is_read_without_a_description() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("plain.db");
        fs::write(&path, file(&[7; 4096])).unwrap();
        let part = root.path().join("part");
        assert_eq!(read(&path, &part).unwrap(), None);
        assert_eq!(fs::read(&part).unwrap(), file(&[7; 4096]));
    }

    #[test]
    fn one_changed_byte_anywhere_in_the_data_is_found() {
        let root = tempfile::tempdir().unwrap();
        let (path, _) = archive(root.path());
        let (whole, part) = (fs::read(&path).unwrap(), root.path().join("part"));
        let at = whole.windows(11).position(|bytes| bytes == b"the cluster").unwrap();
        let mut damaged = whole.clone();
        damaged[at] ^= 1;
        fs::write(&path, damaged).unwrap();
        assert_eq!(
            read(&path, &part).unwrap_err().to_string(),
            format!(
                "{}: its contents do not have the SHA-256 at its end: it is damaged; take another copy",
                part.display()
            )
        );
        fs::write(&path, &whole[..at]).unwrap();
        assert!(read(&path, &part).is_err());
    }

    #[test]
    fn data_of_another_snapshot_and_files_of_others_are_refused() {
        let root = tempfile::tempdir().unwrap();
        let (part, path, data) = (root.path().join("p"), root.path().join("x.tar"), root.path().join("d"));
        fs::write(&data, file(b"another")).unwrap();
        write(create(&path).unwrap(), &snapshot("etcd-a", 1), &data).unwrap();
        assert_eq!(
            read(&path, &part).unwrap_err().to_string(),
            format!(
                "{}: its data does not have the SHA-256 that its snapshot.json names: it is damaged; take another copy",
                path.display()
            )
        );
        let mut other = tar::Builder::new(create(&path).unwrap());
        other.append_path_with_name(&data, "pictures").unwrap();
        other.finish().unwrap();
        assert_eq!(
            read(&path, &part).unwrap_err().to_string(),
            format!(
                "{}: holds no etcd.db; give a file that `sheaf-agent snapshot save` wrote",
                path.display()
            )
        );
    }
}
