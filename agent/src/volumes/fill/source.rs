//! The bytes of a file on a server, hashed as they come, taken up where a connection broke.
//!
//! Why here: whoever reads the image knows of no network. A thread of its own fetches and hashes, so that the server, the
//! hash and the disk work at the same time. Route in: a URL. Route out: [`Download`] to read from, [`Hash`] to compare.

use super::FillError;
use sha2::{Digest, Sha256};
use sheaf_api::storage::local_volume::Progress;
use sheaf_host::fetch::{Fetch, FetchError, Rest};
use std::io::{self, Read};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Bytes read at once.
const PIECE: usize = 256 << 10;
/// So many pieces wait for the disk: a few milliseconds of it.
const WAITING: usize = 8;
/// A connection that broke is taken up so often without a byte having come in between.
const TRIES: u32 = 5;
/// Progress is told at most so often.
const TELL: Duration = Duration::from_secs(1);

/// A file that is being fetched.
pub(super) struct Download<'a> {
    pieces: Option<Receiver<Result<Vec<u8>, FillError>>>,
    piece: Vec<u8>,
    at: usize,
    bytes: u64,
    total: Option<u64>,
    told: Instant,
    show: &'a (dyn Fn(Progress) + Sync),
    hash: Hash,
    stop: Arc<AtomicBool>,
}

/// What the reading side comes to know of the file's hash and of why it ended.
#[derive(Clone)]
pub(super) struct Hash {
    url: String,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    /// Set when the whole file came.
    found: Option<String>,
    /// Set when it did not.
    error: Option<FillError>,
}

impl Hash {
    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the file was `wanted`, `sha256:…`; an error of the network, if the file never came whole.
    pub(super) fn finish(&self, wanted: Option<&str>) -> Result<(), FillError> {
        let mut state = self.state();
        if let Some(error) = state.error.take() {
            return Err(error);
        }
        let Some(wanted) = wanted else { return Ok(()) };
        let wanted = wanted.strip_prefix("sha256:").unwrap_or(wanted).to_ascii_lowercase();
        match state.found.take() {
            Some(found) if found == wanted => Ok(()),
            Some(found) => Err(FillError::Checksum { url: self.url.clone(), found, wanted }),
            // Reading ended for another reason, which its reader knows.
            None => Ok(()),
        }
    }
}

impl<'a> Download<'a> {
    /// Asks the server, and starts to fetch.
    pub(super) fn start(
        fetch: Arc<dyn Fetch>,
        url: &str,
        stop: Arc<AtomicBool>,
        show: &'a (dyn Fn(Progress) + Sync),
    ) -> Result<Self, FillError> {
        let rest = fetch.fetch(url, 0)?;
        let total = rest.total;
        let (sender, pieces) = sync_channel(WAITING);
        let hash = Hash { url: url.to_owned(), state: Arc::default() };
        let (url, ending, stopping) = (url.to_owned(), hash.clone(), stop.clone());
        std::thread::spawn(move || {
            if let Err(error) = run(&*fetch, &url, rest, &sender, &ending, &stopping) {
                // The reader hears of it here, in its place in the stream.
                let _ = sender.send(Err(error));
            }
        });
        show(progress(0, total));
        let told = Instant::now();
        Ok(Self { pieces: Some(pieces), piece: Vec::new(), at: 0, bytes: 0, total, told, show, hash, stop })
    }

    /// Length of the file, when the server says so.
    pub(super) fn total(&self) -> Option<u64> {
        self.total
    }

    /// Its hash, to be asked after the file was read to its end.
    pub(super) fn hash(&self) -> Hash {
        self.hash.clone()
    }

    /// Reads the rest without keeping it.
    pub(super) fn drain(&mut self) -> Result<(), FillError> {
        match io::copy(self, &mut io::sink()) {
            Ok(_) => Ok(()),
            Err(_) if self.stop.load(Ordering::Relaxed) => Err(FillError::Stopped),
            // The network's own words are kept beside the hash.
            Err(_) => Ok(()),
        }
    }
}

fn progress(bytes: u64, total: Option<u64>) -> Progress {
    let percent = total.filter(|total| *total > 0).map(|total| (bytes.min(total) * 100 / total) as u8);
    Progress { done_bytes: bytes, total_bytes: total, percent }
}

impl Read for Download<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.at == self.piece.len() {
            if self.stop.load(Ordering::Relaxed) {
                return Err(io::Error::other("stopped"));
            }
            let Some(pieces) = &self.pieces else { return Ok(0) };
            match pieces.recv_timeout(Duration::from_secs(1)) {
                Ok(Ok(piece)) => {
                    (self.piece, self.at) = (piece, 0);
                    self.bytes += self.piece.len() as u64;
                    if self.told.elapsed() >= TELL {
                        self.told = Instant::now();
                        (self.show)(progress(self.bytes, self.total));
                    }
                }
                Ok(Err(error)) => {
                    let words = error.to_string();
                    self.hash.state().error = Some(error);
                    self.pieces = None;
                    return Err(io::Error::other(words));
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => {
                    self.pieces = None;
                    (self.show)(progress(self.bytes, self.total));
                }
            }
        }
        let len = buffer.len().min(self.piece.len() - self.at);
        buffer[..len].copy_from_slice(&self.piece[self.at..self.at + len]);
        self.at += len;
        Ok(len)
    }
}

/// Fetches to the end; a break is followed by a request for the rest.
fn run(
    fetch: &dyn Fetch,
    url: &str,
    mut rest: Rest,
    sender: &SyncSender<Result<Vec<u8>, FillError>>,
    ending: &Hash,
    stop: &AtomicBool,
) -> Result<(), FillError> {
    let mut hash = Sha256::new();
    let (mut bytes, mut tries) = (0_u64, 0);
    let total = rest.total;
    loop {
        let broken = loop {
            if stop.load(Ordering::Relaxed) {
                return Err(FillError::Stopped);
            }
            let mut piece = vec![0; PIECE];
            match read_full(&mut *rest.reader, &mut piece) {
                (0, None) => break None,
                (read, error) => {
                    piece.truncate(read);
                    hash.update(&piece);
                    bytes += read as u64;
                    if read > 0 {
                        tries = 0;
                        // A reader that is gone does not want the rest.
                        if sender.send(Ok(piece)).is_err() {
                            return Ok(());
                        }
                    }
                    if let Some(error) = error {
                        break Some(error);
                    }
                }
            }
        };
        let short = total.is_some_and(|total| bytes < total);
        let source = match (broken, short) {
            (None, false) => break,
            (Some(error), _) => error,
            (None, true) => io::ErrorKind::UnexpectedEof.into(),
        };
        rest = loop {
            tries += 1;
            if tries > TRIES {
                return Err(FillError::Broken { url: url.to_owned(), bytes, source });
            }
            pause(stop, tries);
            match fetch.fetch(url, bytes) {
                Ok(rest) if rest.from == bytes => break rest,
                // It can not begin in the middle: what has come is skipped, since it is in the image already.
                Ok(rest) => break skip(rest, bytes, url)?,
                Err(FetchError::Reach { .. }) => {}
                Err(FetchError::PastEnd { .. }) => {
                    return Err(FillError::NoRange { url: url.to_owned(), bytes });
                }
                Err(other) => return Err(other.into()),
            }
        };
    }
    let found = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    ending.state().found = Some(found);
    Ok(())
}

/// Waits a moment that grows with `tries`, or until it is stopped.
fn pause(stop: &AtomicBool, tries: u32) {
    let longest = Duration::from_millis(200 << tries.min(6));
    sheaf_host::wait::until(longest, Duration::from_millis(20), || {
        stop.load(Ordering::Relaxed).then_some(())
    });
}

fn skip(mut rest: Rest, bytes: u64, url: &str) -> Result<Rest, FillError> {
    match io::copy(&mut (&mut rest.reader).take(bytes - rest.from), &mut io::sink()) {
        Ok(skipped) if skipped == bytes - rest.from => Ok(Rest { from: bytes, ..rest }),
        _ => Err(FillError::NoRange { url: url.to_owned(), bytes }),
    }
}

/// Fills `piece` as far as the stream goes; how far, and why no further.
fn read_full(reader: &mut dyn Read, piece: &mut [u8]) -> (usize, Option<io::Error>) {
    let mut at = 0;
    while at < piece.len() {
        match reader.read(&mut piece[at..]) {
            Ok(0) => break,
            Ok(read) => at += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return (at, Some(error)),
        }
    }
    (at, None)
}
