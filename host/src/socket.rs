//! Talks between two programs of one node over a Unix socket: a request, answers, and bytes, if any follow.
//!
//! Why here: sockets are effects, and a stream that goes from one program into another must not be read ahead. Requests
//! and answers are one line of JSON each. Route in: the socket's path. Route out: a [`Talk`] on either side. Only root
//! may begin one: the socket's mode is 0600.

use serde::{Serialize, de::DeserializeOwned};
use std::fs::Permissions;
use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A line is no longer: enough for two names and a checksum, or a sentence.
const LINE: usize = 4096;

/// Why a talk did not come about, or ended.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// The socket can not be made or reached.
    #[error("socket {}", .path.display())]
    Open {
        /// Its path.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The other side is gone or silent.
    #[error("the other side does not go on")]
    Broken(#[source] io::Error),
    /// A line that is not what was agreed on.
    #[error("the other side speaks another language")]
    Words(#[source] serde_json::Error),
}

/// Where talks begin.
#[derive(Debug)]
pub struct Door {
    listener: UnixListener,
}

impl Door {
    /// Opens the door at `path`; one that a process before left there is replaced.
    pub fn open(path: &Path) -> Result<Self, SocketError> {
        let failed = |source| SocketError::Open { path: path.to_owned(), source };
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).map_err(failed)?;
        }
        match std::fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
            _ => {}
        }
        let listener = UnixListener::bind(path).map_err(failed)?;
        std::fs::set_permissions(path, Permissions::from_mode(0o600)).map_err(failed)?;
        Ok(Self { listener })
    }

    /// The next who comes. Blocks.
    pub fn next(&self) -> Result<Talk, SocketError> {
        let (stream, _) = self.listener.accept().map_err(SocketError::Broken)?;
        Ok(Talk { stream })
    }
}

/// One side of a talk.
#[derive(Debug)]
pub struct Talk {
    stream: UnixStream,
}

impl Talk {
    /// Begins one with whoever opened the door at `path`.
    pub fn with(path: &Path) -> Result<Self, SocketError> {
        let stream = UnixStream::connect(path)
            .map_err(|source| SocketError::Open { path: path.to_owned(), source })?;
        Ok(Self { stream })
    }

    /// From now on the other side counts as gone when it is silent, or does not take what is sent, for so long.
    pub fn patience(&self, time: Option<Duration>) -> Result<(), SocketError> {
        self.stream.set_read_timeout(time).map_err(SocketError::Broken)?;
        self.stream.set_write_timeout(time).map_err(SocketError::Broken)
    }

    /// Says one line.
    pub fn say<T: Serialize>(&mut self, words: &T) -> Result<(), SocketError> {
        let mut line = serde_json::to_vec(words).map_err(SocketError::Words)?;
        line.push(b'\n');
        self.stream.write_all(&line).map_err(SocketError::Broken)
    }

    /// Hears one line, and not a byte of what follows it.
    pub fn hear<T: DeserializeOwned>(&mut self) -> Result<T, SocketError> {
        let mut line = Vec::new();
        let mut byte = [0];
        while !line.ends_with(b"\n") {
            let gone = match self.stream.read(&mut byte) {
                Ok(0) => io::ErrorKind::UnexpectedEof.into(),
                Ok(_) if line.len() >= LINE => io::ErrorKind::InvalidData.into(),
                Ok(_) => {
                    line.push(byte[0]);
                    continue;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => error,
            };
            return Err(SocketError::Broken(gone));
        }
        serde_json::from_slice(&line).map_err(SocketError::Words)
    }

    /// Tells the other side that no bytes follow; answers are still heard.
    pub fn end(&self) -> Result<(), SocketError> {
        self.stream.shutdown(Shutdown::Write).map_err(SocketError::Broken)
    }

    /// The same talk for another thread.
    pub fn twin(&self) -> Result<Self, SocketError> {
        Ok(Self { stream: self.stream.try_clone().map_err(SocketError::Broken)? })
    }
}

impl Read for Talk {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.stream.read(buffer)
    }
}

impl Write for Talk {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.stream.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(name: &str) -> PathBuf {
        std::env::temp_dir().join(format!("sheaf-socket-{name}-{}", std::process::id()))
    }

    #[test]
    fn a_line_is_heard_without_the_bytes_that_follow_it() {
        let path = place("line");
        for _ in 0..2 {
            // The second finds the socket of the first.
            let door = Door::open(&path).unwrap();
            let mut guest = Talk::with(&path).unwrap();
            let mut host = door.next().unwrap();
            guest.say(&["a", "b"]).unwrap();
            guest.write_all(b"[1]\nbytes").unwrap();
            guest.end().unwrap();
            assert_eq!(host.hear::<Vec<String>>().unwrap(), ["a", "b"]);
            let mut rest = String::new();
            host.read_to_string(&mut rest).unwrap();
            assert_eq!(rest, "[1]\nbytes");
            host.say(&7).unwrap();
            assert_eq!(guest.hear::<u8>().unwrap(), 7);
        }
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        std::fs::remove_file(path).unwrap();
    }

    #[test]
    fn a_line_without_end_a_silent_side_and_one_that_is_gone_are_errors() {
        let path = place("broken");
        let door = Door::open(&path).unwrap();
        let mut guest = Talk::with(&path).unwrap();
        let mut host = door.next().unwrap();
        guest.write_all(&[b' '; 2 * LINE]).unwrap();
        assert!(
            matches!(host.hear::<u8>(), Err(SocketError::Broken(e)) if e.kind() == io::ErrorKind::InvalidData)
        );
        guest.patience(Some(Duration::from_millis(10))).unwrap();
        assert!(
            matches!(guest.hear::<u8>(), Err(SocketError::Broken(e)) if e.kind() == io::ErrorKind::WouldBlock)
        );
        drop(host);
        guest.patience(None).unwrap();
        assert!(matches!(guest.hear::<u8>(), Err(SocketError::Broken(_))));
        drop(door);
        assert!(matches!(Talk::with(&path), Err(SocketError::Open { .. })));
        std::fs::remove_file(path).unwrap();
    }
}
