//! Where the files of a release are read from: a folder of a medium, or a server.
//!
//! Why here: code that writes images asks for a file and its first byte, and needs not know which of the two it is.
//! Route in: a folder or a [`Remote`]. Route out: readers; a file of another length than the manifest says is refused
//! before its first byte.

use crate::remote::Remote;
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
