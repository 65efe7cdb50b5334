//! A server of one file, as a node's machine sees it: at 10.0.2.2, QEMU's name for this host.
//!
//! Why here: images come by http, and what a node makes of a server that stops in the middle is a case. Route in: bytes.
//! Route out: a URL; the server ends with its process.

use anyhow::{Context as _, Result};
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// The server.
pub struct Server {
    port: u16,
    shared: Arc<Shared>,
}

struct Shared {
    file: Vec<u8>,
    /// Answers end after so many bytes of the file, and the connection stays open.
    stall_at: AtomicU64,
    /// Bytes of the file that were sent so far.
    sent: AtomicU64,
}

impl Server {
    /// Serves `file`, also from the middle (Range).
    pub fn start(file: Vec<u8>) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").context("a port for the image")?;
        let port = listener.local_addr()?.port();
        let shared = Arc::new(Shared { file, stall_at: AtomicU64::new(u64::MAX), sent: AtomicU64::new(0) });
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
    let mut from = 0;
    let mut lines = BufReader::new(stream.try_clone()?).lines();
    for line in lines.by_ref() {
        let line = line?.to_lowercase();
        if let Some(range) = line.strip_prefix("range: bytes=") {
            from = range.trim_end_matches('-').parse()?;
        }
        if line.is_empty() {
            break;
        }
    }
    let total = shared.file.len();
    let rest = shared.file.get(from..).unwrap_or_default();
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
