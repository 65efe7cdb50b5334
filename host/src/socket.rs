//! Connections between two programs of one node over a Unix socket: a request, answers, and bytes, if any follow.
//!
//! Why here: sockets are effects, and a stream that goes from one program into another must not be read ahead. Requests
//! and answers are one line of JSON each. Route in: the socket's path. Route out: a [`Connection`] on either side. Only
//! root may connect: the socket's mode is 0600.

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

/// Why there is no connection, or no message.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// The socket cannot be bound or connected to.
    #[error("socket {} cannot be opened", .path.display())]
    Open {
        /// Its path.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The peer is gone or silent.
    #[error("the peer closed the connection or timed out")]
    Broken(#[source] io::Error),
    /// A line that is not the message that was expected.
    #[error("malformed message from the peer")]
    Malformed(#[source] serde_json::Error),
}

/// Where connections come in.
#[derive(Debug)]
pub struct Listener {
    listener: UnixListener,
}

impl Listener {
    /// Listens at `path`; a socket that an earlier process left there is replaced.
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

    /// The next connection. Blocks.
    pub fn accept(&self) -> Result<Connection, SocketError> {
        let (stream, _) = self.listener.accept().map_err(SocketError::Broken)?;
        Ok(Connection { stream })
    }
}

/// One side of a connection.
#[derive(Debug)]
pub struct Connection {
    stream: UnixStream,
}

impl Connection {
    /// Connects to whatever listens at `path`.
    pub fn connect(path: &Path) -> Result<Self, SocketError> {
        let stream = UnixStream::connect(path)
            .map_err(|source| SocketError::Open { path: path.to_owned(), source })?;
        Ok(Self { stream })
    }

    /// From now on reading and writing fail after so long without a byte.
    pub fn set_timeout(&self, time: Option<Duration>) -> Result<(), SocketError> {
        self.stream.set_read_timeout(time).map_err(SocketError::Broken)?;
        self.stream.set_write_timeout(time).map_err(SocketError::Broken)
    }

    /// Sends one line.
    pub fn send<T: Serialize>(&mut self, message: &T) -> Result<(), SocketError> {
        let mut line = serde_json::to_vec(message).map_err(SocketError::Malformed)?;
        line.push(b'\n');
        self.stream.write_all(&line).map_err(SocketError::Broken)
    }

    /// Receives one line, and not a byte of what follows it.
    pub fn recv<T: DeserializeOwned>(&mut self) -> Result<T, SocketError> {
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
        serde_json::from_slice(&line).map_err(SocketError::Malformed)
    }

    /// Tells the peer that no bytes follow; answers still come.
    pub fn end(&self) -> Result<(), SocketError> {
        self.stream.shutdown(Shutdown::Write).map_err(SocketError::Broken)
    }

    /// The same connection for another thread.
    pub fn try_clone(&self) -> Result<Self, SocketError> {
        Ok(Self { stream: self.stream.try_clone().map_err(SocketError::Broken)? })
    }
}

impl Read for Connection {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.stream.read(buffer)
    }
}

impl Write for Connection {
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
    fn a_line_is_received_without_the_bytes_that_follow_it() {
        let path = place("line");
        for _ in 0..2 {
            // The second finds the socket of the first.
            let listener = Listener::open(&path).unwrap();
            let mut guest = Connection::connect(&path).unwrap();
            let mut host = listener.accept().unwrap();
            guest.send(&["a", "b"]).unwrap();
            guest.write_all(b"[1]\nbytes").unwrap();
            guest.end().unwrap();
            assert_eq!(host.recv::<Vec<String>>().unwrap(), ["a", "b"]);
            let mut rest = String::new();
            host.read_to_string(&mut rest).unwrap();
            assert_eq!(rest, "[1]\nbytes");
            host.send(&7).unwrap();
            assert_eq!(guest.recv::<u8>().unwrap(), 7);
        }
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        std::fs::remove_file(path).unwrap();
    }

    #[test]
    fn a_line_without_end_a_silent_peer_and_one_that_is_gone_are_errors() {
        let path = place("broken");
        let listener = Listener::open(&path).unwrap();
        let mut guest = Connection::connect(&path).unwrap();
        let mut host = listener.accept().unwrap();
        guest.write_all(&[b' '; 2 * LINE]).unwrap();
        assert!(
            matches!(host.recv::<u8>(), Err(SocketError::Broken(e)) if e.kind() == io::ErrorKind::InvalidData)
        );
        guest.set_timeout(Some(Duration::from_millis(10))).unwrap();
        assert!(
            matches!(guest.recv::<u8>(), Err(SocketError::Broken(e)) if e.kind() == io::ErrorKind::WouldBlock)
        );
        drop(host);
        guest.set_timeout(None).unwrap();
        assert!(matches!(guest.recv::<u8>(), Err(SocketError::Broken(_))));
        drop(listener);
        assert!(matches!(Connection::connect(&path), Err(SocketError::Open { .. })));
        std::fs::remove_file(path).unwrap();
    }
}
