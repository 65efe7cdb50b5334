//! Writes files so that a power cut leaves the old content or the new, never a part.
//!
//! Route in: whole contents. Route out: temporary file, fsync, rename, fsync of the directory.

use crate::files::{Files, Kernel, unless_missing, write_all};
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

/// A file that could not be written.
#[derive(Debug, thiserror::Error)]
#[error("{}: cannot be written", .path.display())]
pub struct WriteError {
    path: PathBuf,
    source: io::Error,
}

/// Replaces `path` by `contents` with permission bits `mode`; its directory is made when missing.
pub fn write_atomically(path: &Path, contents: &[u8], mode: u32) -> Result<(), WriteError> {
    write_atomically_by(&Kernel, path, contents, mode)
}

/// The same, by the calls of `files`.
pub fn write_atomically_by(
    files: &dyn Files,
    path: &Path,
    contents: &[u8],
    mode: u32,
) -> Result<(), WriteError> {
    replace(files, path, |temporary| {
        let file = files.create(temporary, mode)?;
        write_all(files, temporary, &file, 0, contents)?;
        files.sync(temporary, &file)
    })
}

/// Replaces `path` by a symbolic link to `target`; its directory is made when missing.
pub fn link_atomically(path: &Path, target: &str) -> Result<(), WriteError> {
    replace(&Kernel, path, |temporary| std::os::unix::fs::symlink(target, temporary))
}

/// Puts what `make` makes in the place of `path`: anyone who looks finds the old or the new, also after a power cut.
fn replace(
    files: &dyn Files,
    path: &Path,
    make: impl FnOnce(&Path) -> io::Result<()>,
) -> Result<(), WriteError> {
    let replace = || -> io::Result<()> {
        let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
        files.create_folders(dir)?;
        let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?.to_string_lossy();
        let temporary = dir.join(format!(".{name}.new"));
        // Removed first: a left-over could carry wider permissions than those that are asked for.
        unless_missing(files.remove(&temporary))?;
        make(&temporary)?;
        files.rename(&temporary, path)?;
        files.sync_folder(dir)
    };
    replace().map_err(|source| WriteError { path: path.to_owned(), source })
}

/// Makes everything under `path` durable: contents of files, then the directories that name them.
pub fn sync_tree(path: &Path) -> Result<(), WriteError> {
    let sync = || -> io::Result<()> {
        if path.is_dir() {
            for entry in fs::read_dir(path)? {
                sync_tree(&entry?.path()).map_err(io::Error::other)?;
            }
        }
        File::open(path)?.sync_all()
    };
    sync().map_err(|source| WriteError { path: path.to_owned(), source })
}

/// Moves the file `from` over `to` on the same file system, durably.
pub fn rename_durably(from: &Path, to: &Path) -> Result<(), WriteError> {
    let rename = || -> io::Result<()> {
        fs::rename(from, to)?;
        for dir in [to.parent(), from.parent()].into_iter().flatten() {
            File::open(dir)?.sync_all()?;
        }
        Ok(())
    };
    rename().map_err(|source| WriteError { path: to.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn contents_and_mode_are_as_asked_and_no_temporary_is_left() {
        let dir = std::env::temp_dir().join(format!("sheaf-file-{}", std::process::id()));
        let path = dir.join("deep/secret");
        write_atomically(&path, b"first", 0o600).unwrap();
        write_atomically(&path, b"second", 0o600).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"second");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
        fs::remove_dir_all(dir).unwrap();
    }
}
