//! Replaces a small folder by a copy of another, whole or not at all.
//!
//! Why here: what a program of a guest writes is copied by root, so no link in it is followed and its size is bounded. Owner,
//! group and permissions are kept. Route in: two paths of one file system. Route out: the copy, durable, under its name.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, fchown};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;

use crate::file::sync_tree;

/// Folders in folders that are copied.
const DEEPEST: u32 = 4;

/// Why a folder was not copied.
#[derive(Debug, thiserror::Error)]
pub enum CopyError {
    /// Something that is neither a file nor a folder.
    #[error("{}: is neither a file nor a folder, and is not copied", .0.display())]
    Unfit(PathBuf),
    /// More than it may have.
    #[error("{}: has more than {most} bytes", .path.display())]
    TooLarge {
        /// The folder.
        path: PathBuf,
        /// Bytes that it may have.
        most: u64,
    },
    /// The file system's word.
    #[error("{}: cannot be copied", .path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> CopyError + '_ {
    move |source| CopyError::Io { path: path.to_owned(), source }
}

/// Makes `to` a copy of the folder `from`, which may have `most` bytes; without `from`, an empty folder. What `to` was is
/// removed once the copy has its name.
pub fn replace_by_copy(from: &Path, to: &Path, most: u64) -> Result<(), CopyError> {
    let (Some(folder), Some(name)) = (to.parent(), to.file_name()) else {
        return Err(at(to)(io::ErrorKind::InvalidInput.into()));
    };
    fs::create_dir_all(folder).map_err(at(folder))?;
    let beside = |what: &str| folder.join(format!(".{what}-{}", name.display()));
    let (new, old) = (beside("unfinished"), beside("gone"));
    // Of a copy that was interrupted.
    for left in [&new, &old] {
        remove(left)?;
    }
    fs::create_dir(&new).map_err(at(&new))?;
    let mut left = most;
    if !copy(from, &new, &mut left, DEEPEST)? {
        return Err(CopyError::TooLarge { path: from.to_owned(), most });
    }
    let synced = sync_tree(&new).map_err(io::Error::other);
    synced.map_err(at(&new))?;
    match fs::rename(to, &old) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        renamed => renamed.map_err(at(to))?,
    }
    fs::rename(&new, to).map_err(at(to))?;
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(at(folder))?;
    remove(&old)
}

/// Removes a folder; that there is none is no error.
pub fn remove(path: &Path) -> Result<(), CopyError> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed.map_err(at(path)),
    }
}

/// Copies what is in `from` into `to`; false when there is more than `left`.
fn copy(from: &Path, to: &Path, left: &mut u64, depth: u32) -> Result<bool, CopyError> {
    let entries = match fs::read_dir(from) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(true),
        entries => entries.map_err(at(from))?,
    };
    for entry in entries {
        let name = entry.map_err(at(from))?.file_name();
        let (path, copied) = (from.join(&name), to.join(&name));
        let meta = match fs::symlink_metadata(&path) {
            // It was temporary.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            meta => meta.map_err(at(&path))?,
        };
        if meta.is_dir() && depth > 0 {
            fs::create_dir(&copied).map_err(at(&copied))?;
            if !copy(&path, &copied, left, depth - 1)? {
                return Ok(false);
            }
            let folder = File::open(&copied).map_err(at(&copied))?;
            own(&folder, &meta).map_err(at(&copied))?;
        } else if meta.is_file() {
            if !copy_file(&path, &copied, left)? {
                return Ok(false);
            }
        } else {
            return Err(CopyError::Unfit(path));
        }
    }
    Ok(true)
}

fn copy_file(path: &Path, copied: &Path, left: &mut u64) -> Result<bool, CopyError> {
    // A link that takes its place meanwhile is not followed, a pipe is not waited for.
    let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed();
    let file = match File::options().read(true).custom_flags(flags).open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(true),
        file => file.map_err(at(path))?,
    };
    let meta = file.metadata().map_err(at(path))?;
    if !meta.is_file() {
        return Err(CopyError::Unfit(path.to_owned()));
    }
    let mut new =
        File::options().write(true).create_new(true).mode(0o600).open(copied).map_err(at(copied))?;
    let bytes = io::copy(&mut file.take(left.saturating_add(1)), &mut new).map_err(at(path))?;
    let Some(rest) = left.checked_sub(bytes) else { return Ok(false) };
    *left = rest;
    own(&new, &meta).map_err(at(copied))?;
    Ok(true)
}

/// Gives `file` owner, group and permissions of `meta`.
fn own(file: &File, meta: &fs::Metadata) -> io::Result<()> {
    fchown(file, Some(meta.uid()), Some(meta.gid()))?;
    file.set_permissions(meta.permissions())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    fn folder() -> (tempfile::TempDir, PathBuf, PathBuf) {
        let root = tempfile::tempdir().unwrap();
        let (from, to) = (root.path().join("from"), root.path().join("to"));
        fs::create_dir_all(from.join("tpm")).unwrap();
        fs::write(from.join("nvram.fd"), b"variables").unwrap();
        fs::write(from.join("tpm/permall"), b"keys").unwrap();
        fs::set_permissions(from.join("tpm/permall"), fs::Permissions::from_mode(0o640)).unwrap();
        (root, from, to)
    }

    #[test]
    fn a_copy_takes_the_place_of_what_was_there_and_keeps_permissions() {
        let (root, from, to) = folder();
        fs::create_dir(&to).unwrap();
        fs::write(to.join("former"), b"x").unwrap();
        replace_by_copy(&from, &to, 64).unwrap();
        assert_eq!(fs::read(to.join("nvram.fd")).unwrap(), b"variables");
        let keys = to.join("tpm/permall");
        assert_eq!(fs::read(&keys).unwrap(), b"keys");
        assert_eq!(fs::metadata(&keys).unwrap().permissions().mode() & 0o777, 0o640);
        assert!(!to.join("former").exists());
        assert_eq!(fs::read_dir(root.path()).unwrap().count(), 2, "nothing else is left");
    }

    #[test]
    fn what_an_interrupted_copy_left_is_not_taken_for_one() {
        let (root, from, to) = folder();
        fs::create_dir(root.path().join(".unfinished-to")).unwrap();
        fs::write(root.path().join(".unfinished-to/half"), b"x").unwrap();
        replace_by_copy(&from, &to, 64).unwrap();
        assert!(!to.join("half").exists());
    }

    #[test]
    fn without_its_origin_a_copy_is_empty() {
        let (root, _, to) = folder();
        replace_by_copy(&root.path().join("none"), &to, 64).unwrap();
        assert_eq!(fs::read_dir(&to).unwrap().count(), 0);
    }

    #[test]
    fn links_are_refused_and_so_is_more_than_a_copy_may_have_and_what_was_there_stays() {
        let (_root, from, to) = folder();
        replace_by_copy(&from, &to, 64).unwrap();
        let error = replace_by_copy(&from, &to, 12).unwrap_err();
        assert_eq!(error.to_string(), format!("{}: has more than 12 bytes", from.display()));
        symlink("/etc/shadow", from.join("tpm/link")).unwrap();
        let error = replace_by_copy(&from, &to, 64).unwrap_err();
        let link = from.join("tpm/link");
        let expected = format!("{}: is neither a file nor a folder, and is not copied", link.display());
        assert_eq!(error.to_string(), expected);
        assert_eq!(fs::read(to.join("nvram.fd")).unwrap(), b"variables");
    }
}
