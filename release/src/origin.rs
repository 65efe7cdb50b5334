//! Where the files of a release are read from: a folder of a medium, or a server.
//!
//! Why here: code that writes images asks for a file and its first byte, and needs not know which of the two it is.
//! Route in: a folder or a [`Remote`]. Route out: readers; a file of another length than the manifest says is refused
//! before its first byte.

use crate::remote::{LARGEST_MANIFEST, Remote};
use std::fs::File;
use std::io::{self, Read, Seek as _, SeekFrom};
use std::path::Path;

/// A release folder.
pub enum Origin<'r> {
    /// On a medium or disk.
    Folder(&'r Path),
    /// On a server.
    Server(&'r Remote<'r>),
}

impl Origin<'_> {
    /// Whether reading it again costs a transfer.
    pub fn is_remote(&self) -> bool {
        matches!(self, Self::Server(_))
    }

    /// The whole of `file`, which is small: a manifest or its signature.
    pub fn text(&self, file: &str) -> io::Result<Vec<u8>> {
        match self {
            Self::Server(remote) => remote.text(file),
            Self::Folder(folder) => {
                let mut bytes = Vec::new();
                File::open(folder.join(file))?.take(LARGEST_MANIFEST).read_to_end(&mut bytes)?;
                Ok(bytes)
            }
        }
    }

    /// The same of a file that not every release has.
    pub fn optional_text(&self, file: &str) -> io::Result<Option<Vec<u8>>> {
        match self.text(file) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            read => read.map(Some),
        }
    }

    /// Copies `file` of `size` bytes to `target`, whose folder exists.
    pub fn bring(&self, file: &str, size: u64, target: &Path) -> io::Result<()> {
        let mut source = self.open(file, size, 0)?;
        io::copy(&mut source, &mut File::create(target)?)?;
        Ok(())
    }

    /// Reads `file`, which has `size` bytes, from the byte `from` on.
    pub fn open(&self, file: &str, size: u64, from: u64) -> io::Result<Box<dyn Read + '_>> {
        match self {
            Self::Server(remote) => Ok(Box::new(remote.open_at(file, Some(size), from))),
            Self::Folder(folder) => {
                let mut opened = File::open(folder.join(file))?;
                let length = opened.metadata()?.len();
                if length != size {
                    let what = format!("it has {length} bytes, the manifest says {size}");
                    return Err(io::Error::new(io::ErrorKind::InvalidData, what));
                }
                opened.seek(SeekFrom::Start(from))?;
                Ok(Box::new(opened))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sheaf_host::fakes::FakeFetch;

    #[test]
    fn a_file_is_copied_whole_from_a_folder_and_from_a_server_or_not_at_all() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("node.efi"), b"kernel").unwrap();
        let fetch = FakeFetch {
            files: [("http://r/node.efi".to_owned(), b"kernel".to_vec())].into(),
            ..FakeFetch::default()
        };
        let remote = Remote::new("http://r", &fetch);
        for origin in [Origin::Folder(dir.path()), Origin::Server(&remote)] {
            let target = dir.path().join("copy");
            origin.bring("node.efi", 6, &target).unwrap();
            assert_eq!(std::fs::read(&target).unwrap(), b"kernel");
            assert_eq!(origin.text("node.efi").unwrap(), b"kernel");
            let error = origin.bring("node.efi", 7, &target).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidData, "{error}");
            assert_eq!(origin.optional_text("keys.json").unwrap(), None);
            assert_eq!(origin.optional_text("node.efi").unwrap(), Some(b"kernel".to_vec()));
        }
    }
}
