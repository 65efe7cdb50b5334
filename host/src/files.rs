//! Calls that change files, one by one, so that each of them can fail in a test.
//!
//! Why here: what a disk that fails leaves behind depends on which call failed. Code that must be right after every one of them
//! (the updater's records, the EFI system partition) makes these calls and no others.
//! Route in: paths and bytes. Route out: the call's result. [`Kernel`], or [`crate::fakes::Faults`] in tests.

use std::fmt::Debug;
use std::fs::{self, File, Permissions};
use std::io::{self, Read};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;
use std::sync::Arc;

/// Bytes of one read while a file is copied.
const PIECE: usize = 1 << 20;

/// Calls that change files.
pub trait Files: Debug + Send + Sync {
    /// Makes the folder `path` and those above it, as far as they are missing.
    fn create_folders(&self, path: &Path) -> io::Result<()>;
    /// Makes the file `path`, empty, with permission bits `mode`; one that is there already is an error.
    fn create(&self, path: &Path, mode: u32) -> io::Result<File>;
    /// Writes at the byte `offset` of `file`, which is `path`; how many bytes were written.
    fn write(&self, path: &Path, file: &File, offset: u64, bytes: &[u8]) -> io::Result<usize>;
    /// Waits until the disk has all of `file`, which is `path`.
    fn sync(&self, path: &Path, file: &File) -> io::Result<()>;
    /// Renames a file; what was called `to` goes.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes the file `path`.
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Removes the folder `path` and all that is in it.
    fn remove_folder(&self, path: &Path) -> io::Result<()>;
    /// Waits until the disk has the names in the folder `path`.
    fn sync_folder(&self, path: &Path) -> io::Result<()>;
}

/// The kernel's.
#[derive(Clone, Copy, Debug, Default)]
pub struct Kernel;

/// [`Kernel`], shared.
pub fn kernel() -> Arc<dyn Files> {
    Arc::new(Kernel)
}

impl Files for Kernel {
    fn create_folders(&self, path: &Path) -> io::Result<()> {
        fs::create_dir_all(path)
    }

    fn create(&self, path: &Path, mode: u32) -> io::Result<File> {
        let file = File::options().write(true).create_new(true).mode(mode).open(path)?;
        // Whatever the umask is.
        file.set_permissions(Permissions::from_mode(mode))?;
        Ok(file)
    }

    fn write(&self, _: &Path, file: &File, offset: u64, bytes: &[u8]) -> io::Result<usize> {
        file.write_at(bytes, offset)
    }

    fn sync(&self, _: &Path, file: &File) -> io::Result<()> {
        file.sync_all()
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn remove_folder(&self, path: &Path) -> io::Result<()> {
        fs::remove_dir_all(path)
    }

    fn sync_folder(&self, path: &Path) -> io::Result<()> {
        File::open(path)?.sync_all()
    }
}

/// Writes all of `bytes` at the byte `offset` of `file`, which is `path`.
pub fn write_all(
    files: &dyn Files,
    path: &Path,
    file: &File,
    mut offset: u64,
    mut bytes: &[u8],
) -> io::Result<()> {
    while !bytes.is_empty() {
        let written = match files.write(path, file, offset, bytes) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => written,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        bytes = bytes.get(written..).unwrap_or_default();
        offset += written as u64;
    }
    Ok(())
}

/// A copy that failed on one of its two sides.
#[derive(Debug)]
pub enum CopyError {
    /// The source cannot be read.
    Read(io::Error),
    /// The copy cannot be written.
    Write(io::Error),
}

/// Writes all that `source` has to the beginning of `file`, which is `path`.
pub fn copy(files: &dyn Files, path: &Path, file: &File, source: &mut dyn Read) -> Result<(), CopyError> {
    let mut piece = vec![0; PIECE];
    let mut offset = 0;
    loop {
        let read = match source.read(&mut piece) {
            Ok(0) => return Ok(()),
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(CopyError::Read(error)),
        };
        write_all(files, path, file, offset, &piece[..read]).map_err(CopyError::Write)?;
        offset += read as u64;
    }
}

/// Success where there was nothing to remove.
pub fn unless_missing(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fakes::{Fault, Faults};

    #[test]
    fn a_short_write_is_continued_where_it_ended_and_a_full_disk_ends_the_copy() {
        let dir = std::env::temp_dir().join(format!("sheaf-files-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        let path = dir.join("copy");
        // Calls: create, write.
        let short = Faults::at(1, Fault::Short);
        let file = short.create(&path, 0o600).unwrap();
        copy(&short, &path, &file, &mut &b"contents"[..]).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"contents");
        assert_eq!(short.calls(), ["create copy", "write copy", "write copy"]);

        fs::remove_file(&path).unwrap();
        let full = Faults::at(1, Fault::NoSpace);
        let file = full.create(&path, 0o600).unwrap();
        let error = copy(&full, &path, &file, &mut &b"contents"[..]).unwrap_err();
        assert!(matches!(&error, CopyError::Write(error) if error.kind() == io::ErrorKind::StorageFull));
        assert_eq!(fs::read(&path).unwrap(), b"cont", "half of it is there");
        fs::remove_dir_all(dir).unwrap();
    }
}
