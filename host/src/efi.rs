//! Variables of the UEFI firmware: what it boots, in which order.
//!
//! Route in: names and bytes. Route out: [`Variables`], in efivarfs or in memory; attributes are ours to add.

use rustix::fs::IFlags;
use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// Namespace of the variables that the UEFI specification defines.
const GLOBAL: &str = "8be4df61-93ca-11d2-aa0d-00e098032b8c";
/// Kept over power cuts, seen by boot loaders and by systems.
const ATTRIBUTES: u32 = 0b111;

/// A variable that the firmware would not give or take.
#[derive(Debug, thiserror::Error)]
#[error("firmware variable {name}: {action} failed")]
pub struct EfiError {
    name: String,
    action: &'static str,
    source: io::Error,
}

impl EfiError {
    /// `action` on the variable `name` failed.
    pub fn new(name: &str, action: &'static str, source: io::Error) -> Self {
        Self { name: name.to_owned(), action, source }
    }
}

/// The specification's variables: [`EfiVars`], or [`crate::fakes::FakeVariables`] in tests.
pub trait Variables: Send + Sync {
    /// Names of all that are set.
    fn names(&self) -> Result<Vec<String>, EfiError>;
    /// Contents of one; none when it is not set.
    fn read(&self, name: &str) -> Result<Option<Vec<u8>>, EfiError>;
    /// Sets one.
    fn write(&self, name: &str, contents: &[u8]) -> Result<(), EfiError>;
}

/// The machine's own, as efivarfs shows them.
#[derive(Clone, Debug)]
pub struct EfiVars {
    folder: PathBuf,
}

impl Default for EfiVars {
    fn default() -> Self {
        Self::below(Path::new("/"))
    }
}

impl EfiVars {
    /// Those of the machine whose tree is at `root`.
    pub fn below(root: &Path) -> Self {
        Self { folder: root.join("sys/firmware/efi/efivars") }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.join(format!("{name}-{GLOBAL}"))
    }
}

impl Variables for EfiVars {
    fn names(&self) -> Result<Vec<String>, EfiError> {
        let fail = |source| EfiError::new("*", "listing", source);
        let mut names = Vec::new();
        for entry in std::fs::read_dir(&self.folder).map_err(fail)? {
            let name = entry.map_err(fail)?.file_name().to_string_lossy().into_owned();
            names.extend(name.strip_suffix(&format!("-{GLOBAL}")).map(str::to_owned));
        }
        Ok(names)
    }

    fn read(&self, name: &str) -> Result<Option<Vec<u8>>, EfiError> {
        match std::fs::read(self.path(name)) {
            Ok(bytes) => Ok(Some(bytes.get(4..).unwrap_or_default().to_vec())), // attributes come first
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(EfiError::new(name, "reading", error)),
        }
    }

    fn write(&self, name: &str, contents: &[u8]) -> Result<(), EfiError> {
        let path = self.path(name);
        let write = || -> io::Result<()> {
            if path.exists() {
                // The kernel guards variables against a careless `rm`.
                let file = File::open(&path)?;
                let flags = rustix::fs::ioctl_getflags(&file)?;
                rustix::fs::ioctl_setflags(&file, flags - IFlags::IMMUTABLE)?;
            }
            // One write for all: efivarfs hands each write to the firmware as the whole variable.
            let bytes = [&ATTRIBUTES.to_le_bytes(), contents].concat();
            File::options().write(true).create(true).truncate(false).open(&path)?.write_all(&bytes)
        };
        write().map_err(|source| EfiError::new(name, "writing", source))
    }
}
