//! An EFI system partition in memory, whose power is cut after so many changes.

use crate::esp::{BootFiles, EspError, temporary};
use std::collections::BTreeMap;
use std::io::{self, Cursor, Read};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Files by their path. A replaced file is two changes: the temporary one, then the rename.
#[derive(Default)]
pub struct FakeBootFiles {
    files: Mutex<BTreeMap<String, Vec<u8>>>,
    left: Mutex<Option<usize>>,
}

impl FakeBootFiles {
    /// With `contents` at `file`.
    #[must_use]
    pub fn with(self, file: &str, contents: impl Into<Vec<u8>>) -> Self {
        lock(&self.files).insert(file.to_owned(), contents.into());
        self
    }

    /// The power is cut after `changes` more changes: every later one fails. `None`: it is on again.
    pub fn cut_after(&self, changes: Option<usize>) {
        *lock(&self.left) = changes;
    }

    /// All files.
    pub fn files(&self) -> BTreeMap<String, Vec<u8>> {
        lock(&self.files).clone()
    }

    fn change<T>(
        &self,
        file: &str,
        change: impl FnOnce(&mut BTreeMap<String, Vec<u8>>) -> T,
    ) -> Result<T, EspError> {
        let mut left = lock(&self.left);
        match left.as_mut() {
            Some(0) => {
                let source = io::Error::from_raw_os_error(5); // EIO
                return Err(EspError { path: file.into(), verb: "written", source });
            }
            Some(left) => *left -= 1,
            None => {}
        }
        Ok(change(&mut lock(&self.files)))
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl BootFiles for FakeBootFiles {
    fn list(&self, folder: &str) -> Result<Vec<String>, EspError> {
        let within = |file: &String| {
            let (of, name) = file.rsplit_once('/')?;
            (of == folder).then(|| name.to_owned())
        };
        Ok(lock(&self.files).keys().filter_map(within).collect())
    }

    fn open(&self, file: &str) -> Result<Option<Box<dyn Read + '_>>, EspError> {
        let found = lock(&self.files).get(file).cloned();
        Ok(found.map(|bytes| Box::new(Cursor::new(bytes)) as Box<dyn Read>))
    }

    fn replace(&self, file: &str, contents: &mut dyn Read) -> Result<(), EspError> {
        let mut bytes = Vec::new();
        let read = contents.read_to_end(&mut bytes);
        read.map_err(|source| EspError { path: file.into(), verb: "written", source })?;
        // Half of it is there when the power is cut.
        let half = bytes[..bytes.len() / 2].to_vec();
        lock(&self.files).insert(temporary(file), half);
        self.change(file, |files| files.insert(temporary(file), bytes.clone()))?;
        self.change(file, |files| {
            files.remove(&temporary(file));
            files.insert(file.to_owned(), bytes);
        })
    }

    fn overwrite(&self, file: &str, bytes: &[u8]) -> Result<(), EspError> {
        let written = self.change(file, |files| {
            let of = files.get_mut(file)?;
            of.get_mut(..bytes.len())?.copy_from_slice(bytes);
            Some(())
        })?;
        let missing =
            || EspError { path: file.into(), verb: "written", source: io::ErrorKind::NotFound.into() };
        written.ok_or_else(missing)
    }

    fn rename(&self, from: &str, to: &str) -> Result<(), EspError> {
        let renamed =
            self.change(from, |files| files.remove(from).map(|bytes| files.insert(to.to_owned(), bytes)))?;
        let missing =
            || EspError { path: from.into(), verb: "renamed", source: io::ErrorKind::NotFound.into() };
        renamed.map(drop).ok_or_else(missing)
    }

    fn remove(&self, file: &str) -> Result<(), EspError> {
        self.change(file, |files| drop(files.remove(file)))
    }
}
