//! Files of the EFI system partition, each changed durably: what boot loaders read is the old or the new at every moment.
//!
//! Why here: a FAT has no journal, so the order of its writes is ours to keep. Route in: names below the partition's
//! mount. Route out: contents; a change is on the disk when the call returns. [`Folder`], or
//! [`crate::fakes::FakeBootFiles`] in tests.

use crate::files::{CopyError, Files, copy, kernel, unless_missing as removed, write_all};
use rustix::fs::Advice;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A file that could not be read or changed.
#[derive(Debug, thiserror::Error)]
#[error("{}: cannot be {verb}", .path.display())]
pub struct EspError {
    /// The file or folder.
    pub path: PathBuf,
    /// `read`, `written`, …
    pub verb: &'static str,
    /// Why not.
    pub source: io::Error,
}

/// Files of one EFI system partition.
pub trait BootFiles: Send + Sync {
    /// Names of the files in `folder`; none where it does not exist.
    fn list(&self, folder: &str) -> Result<Vec<String>, EspError>;
    /// A reader of what the disk holds, not of what memory does; none when there is no such file.
    fn open(&self, file: &str) -> Result<Option<Box<dyn Read + '_>>, EspError>;
    /// Puts a file with `contents` in the place of `file`: a temporary file, then a rename.
    fn replace(&self, file: &str, contents: &mut dyn Read) -> Result<(), EspError>;
    /// Writes `bytes` over the beginning of `file`, in place: one sector at most, which a disk writes whole.
    fn overwrite(&self, file: &str, bytes: &[u8]) -> Result<(), EspError>;
    /// Renames a file within its folder.
    fn rename(&self, from: &str, to: &str) -> Result<(), EspError>;
    /// Removes a file; one that is not there is no error.
    fn remove(&self, file: &str) -> Result<(), EspError>;

    /// The whole of a small file.
    fn read(&self, file: &str) -> Result<Option<Vec<u8>>, EspError> {
        let Some(mut reader) = self.open(file)? else { return Ok(None) };
        let mut bytes = Vec::new();
        let read = reader.read_to_end(&mut bytes);
        read.map_err(|source| EspError { path: file.into(), verb: "read", source })?;
        Ok(Some(bytes))
    }
}

/// Name of the temporary file that [`BootFiles::replace`] makes for `file`; boot loaders pass over it.
pub fn temporary(file: &str) -> String {
    match file.rsplit_once('/') {
        Some((folder, name)) => format!("{folder}/.{name}.new"),
        None => format!(".{file}.new"),
    }
}

/// Permission bits of files; on a FAT those of its mount count.
const MODE: u32 = 0o600;

/// A mounted partition.
#[derive(Clone, Debug)]
pub struct Folder {
    root: PathBuf,
    files: Arc<dyn Files>,
}

fn unless_missing<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        other => other.map(Some),
    }
}

impl Folder {
    /// The partition that is mounted at `root`.
    pub fn new(root: PathBuf) -> Self {
        Self::by(root, kernel())
    }

    /// The same, changed by the calls of `files`.
    pub fn by(root: PathBuf, files: Arc<dyn Files>) -> Self {
        Self { root, files }
    }

    fn sync_folder_of(&self, path: &Path) -> io::Result<()> {
        path.parent().map_or(Ok(()), |folder| self.files.sync_folder(folder))
    }

    fn doing<T>(
        &self,
        verb: &'static str,
        file: &str,
        work: impl FnOnce(&Path) -> io::Result<T>,
    ) -> Result<T, EspError> {
        let path = self.root.join(file);
        work(&path).map_err(|source| EspError { path, verb, source })
    }
}

impl BootFiles for Folder {
    fn list(&self, folder: &str) -> Result<Vec<String>, EspError> {
        self.doing("read", folder, |path| {
            let Some(entries) = unless_missing(fs::read_dir(path))? else { return Ok(Vec::new()) };
            let names = entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()));
            let mut names = names.collect::<io::Result<Vec<_>>>()?;
            names.sort();
            Ok(names)
        })
    }

    fn open(&self, file: &str) -> Result<Option<Box<dyn Read + '_>>, EspError> {
        self.doing("read", file, |path| {
            let Some(file) = unless_missing(File::open(path))? else { return Ok(None) };
            rustix::fs::fadvise(&file, 0, None, Advice::DontNeed)?;
            Ok(Some(Box::new(file) as Box<dyn Read>))
        })
    }

    fn replace(&self, file: &str, contents: &mut dyn Read) -> Result<(), EspError> {
        let new = self.root.join(temporary(file));
        let files = &*self.files;
        self.doing("written", file, |path| {
            if let Some(folder) = path.parent() {
                files.create_folders(folder)?;
            }
            // What a write that was cut short left.
            removed(files.remove(&new))?;
            let written = files.create(&new, MODE)?;
            let copied = copy(files, &new, &written, contents);
            let (CopyError::Read(error) | CopyError::Write(error)) = match copied {
                Ok(()) => return Ok(written),
                Err(error) => error,
            };
            Err(error)
        })
        .and_then(|written| self.doing("flushed to the disk", file, |_| files.sync(&new, &written)))
        .and_then(|()| {
            self.doing("put in place", file, |path| {
                files.rename(&new, path)?;
                self.sync_folder_of(path)
            })
        })
    }

    fn overwrite(&self, file: &str, bytes: &[u8]) -> Result<(), EspError> {
        let opened = self.doing("written", file, |path| {
            let opened = File::options().write(true).open(path)?;
            write_all(&*self.files, path, &opened, 0, bytes)?;
            Ok(opened)
        })?;
        self.doing("flushed to the disk", file, |path| self.files.sync(path, &opened))
    }

    fn rename(&self, from: &str, to: &str) -> Result<(), EspError> {
        self.doing("renamed", from, |path| {
            self.files.rename(path, &self.root.join(to))?;
            self.sync_folder_of(path)
        })
    }

    fn remove(&self, file: &str) -> Result<(), EspError> {
        self.doing("removed", file, |path| {
            removed(self.files.remove(path))?;
            self.sync_folder_of(path)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_replaced_written_over_renamed_and_removed_and_no_temporary_is_left() {
        let root = std::env::temp_dir().join(format!("sheaf-esp-{}", std::process::id()));
        let esp = Folder::new(root.clone());
        assert!(esp.list("EFI/Linux").unwrap().is_empty());
        esp.replace("EFI/Linux/a.efi", &mut &b"first"[..]).unwrap();
        esp.replace("EFI/Linux/a.efi", &mut &b"second"[..]).unwrap();
        esp.overwrite("EFI/Linux/a.efi", b"S").unwrap();
        assert_eq!(esp.read("EFI/Linux/a.efi").unwrap().unwrap(), b"Second");
        esp.rename("EFI/Linux/a.efi", "EFI/Linux/b.efi").unwrap();
        assert_eq!(esp.list("EFI/Linux").unwrap(), ["b.efi"]);
        assert!(esp.read("EFI/Linux/a.efi").unwrap().is_none());
        esp.remove("EFI/Linux/b.efi").unwrap();
        esp.remove("EFI/Linux/b.efi").unwrap();
        assert!(esp.overwrite("EFI/Linux/b.efi", b"S").is_err(), "nothing is made where nothing was");
        fs::remove_dir_all(root).unwrap();
    }
}
