//! A server of one file or of a folder, as a node's machine sees it: at 10.0.2.2, QEMU's name for this host.
//!
//! Why here: images and releases come by http, and what a node makes of a server that stops in the middle is a case. Route
//! in: bytes, or a folder. Route out: a URL; the server ends with its process.

use anyhow::{Context as _, Result};
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// What is served.
enum Contents {
    /// At every path.
    File(Vec<u8>),
    /// The files in it, by their names.
    Folder(PathBuf),
}

impl Contents {
    fn at(&self, path: &str) -> Option<Vec<u8>> {
        match self {
            Self::File(bytes) => Some(bytes.clone()),
            Self::Folder(folder) => std::fs::read(folder.join(path.rsplit('/').next()?)).ok(),
        }
    }
}

/// The server.
pub struct Server {
    port: u16,
    shared: Arc<Shared>,
}

struct Shared {
    contents: Contents,
    /// Answers end after so many bytes of the file, and the connection stays open.
    stall_at: AtomicU64,
    /// Bytes of the file that were sent so far.
    sent: AtomicU64,
}

impl Server {
    /// Serves `file`, also from the middle (Range).
    pub fn start(file: Vec<u8>) -> Result<Self> {
        Self::of(Contents::File(file))
    }

    /// Serves the files in `folder`.
    pub fn folder(folder: &Path) -> Result<Self> {
        Self::of(Contents::Folder(folder.to_owned()))
    }

    fn of(contents: Contents) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").context("a port for the image")?;
        let port = listener.local_addr()?.port();
        let shared =
            Arc::new(Shared { contents, stall_at: AtomicU64::new(u64::MAX), sent: AtomicU64::new(0) });
        let serving = shared.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let shared = serving.clone();
                // A client that goes away is its own matter.
                std::thread::spawn(move || drop(answer(stream, &shared)));
            }
        });
        Ok(Self { port, shared })
    }

    /// Where a machine finds it.
    pub fn url(&self) -> String {
        format!("http://10.0.2.2:{}/image", self.port)
    }

    /// From now on the file stops coming after `bytes`; nothing is said about it.
    pub fn stall_at(&self, bytes: u64) {
        self.shared.stall_at.store(bytes, Ordering::SeqCst);
    }

    /// How much was sent so far.
    pub fn sent(&self) -> u64 {
        self.shared.sent.load(Ordering::SeqCst)
    }
}

fn answer(mut stream: TcpStream, shared: &Shared) -> Result<()> {
    let (mut from, mut path) = (0, None);
    let mut lines = BufReader::new(stream.try_clone()?).lines();
    for line in lines.by_ref() {
        let line = line?;
        if path.is_none() {
            path = line.split(' ').nth(1).map(str::to_owned);
        }
        let line = line.to_lowercase();
        if let Some(range) = line.strip_prefix("range: bytes=") {
            from = range.trim_end_matches('-').parse()?;
        }
        if line.is_empty() {
            break;
        }
    }
    let Some(file) = shared.contents.at(&path.unwrap_or_default()) else {
        return Ok(write!(
            stream,
            "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        )?);
    };
    let total = file.len();
    let rest = file.get(from..).unwrap_or_default();
    let head = match from {
        0 => "HTTP/1.1 200 OK\r\n".to_owned(),
        _ => format!("HTTP/1.1 206 Partial Content\r\nContent-Range: bytes {from}-{}/{total}\r\n", total - 1),
    };
    write!(stream, "{head}Content-Length: {}\r\nConnection: close\r\n\r\n", rest.len())?;
    for (index, piece) in rest.chunks(64 << 10).enumerate() {
        let at = (from + index * (64 << 10)) as u64;
        if at >= shared.stall_at.load(Ordering::SeqCst) {
            // Until the client gives up, or its machine is off.
            lines.next();
            return Ok(());
        }
        stream.write_all(piece)?;
        shared.sent.fetch_add(piece.len() as u64, Ordering::SeqCst);
    }
    Ok(())
}
