//! The bytes of a file on a server, hashed as they come, taken up where a connection broke.
//!
//! Why here: what reads the image knows nothing of the network. A thread of its own fetches and hashes, so that the server,
//! the hash and the disk work at the same time. The server is not trusted: how many bytes it may send and how slow it may
//! be is bounded here. Route in: a source. Route out: [`Download`] to read from, [`struct@Hash`] to compare.

use super::FillError;
use super::pace::Pace;
use backon::{BackoffBuilder as _, ExponentialBuilder};
use sha2::{Digest, Sha256};
use sheaf_api::storage::local_volume::Progress;
use sheaf_host::fetch::{Fetch, FetchError, Rest, Source, redacted};
use std::io::{self, Read};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Bytes read at once.
const PIECE: usize = 256 << 10;
/// So many pieces wait for the disk: a few milliseconds of it.
const WAITING: usize = 8;
/// A connection that broke is resumed so often without a byte having come in between.
const TRIES: usize = 5;
/// A file whose server cannot resume is read from its beginning at most so often.
const RESTARTS: usize = 5;
/// Pause before a connection is resumed; doubled each time nothing came in between.
const PAUSE: Duration = Duration::from_millis(400);
/// Progress is reported at most so often.
const REPORT_INTERVAL: Duration = Duration::from_secs(1);

/// A file that is being fetched.
pub(super) struct Download<'a> {
    pieces: Option<Receiver<Result<Vec<u8>, FillError>>>,
    piece: Vec<u8>,
    at: usize,
    bytes: u64,
    total: Option<u64>,
    reported: Instant,
    show: &'a (dyn Fn(Progress) + Sync),
    hash: Hash,
    stop: Arc<AtomicBool>,
}

/// What the reading side learns of the file's hash and of why it ended.
#[derive(Clone)]
pub(super) struct Hash {
    /// As it may be shown.
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
            Some(_) => Err(FillError::Checksum { url: self.url.clone(), wanted }),
            // Reading ended for another reason, which its reader knows.
            None => Ok(()),
        }
    }
}

impl<'a> Download<'a> {
    /// Asks the server, and starts to fetch; never more than `longest` bytes, and only while enough comes in each `window`.
    pub(super) fn start(
        fetch: Arc<dyn Fetch>,
        source: Source,
        (longest, window): (u64, Duration),
        stop: Arc<AtomicBool>,
        show: &'a (dyn Fn(Progress) + Sync),
    ) -> Result<Self, FillError> {
        let rest = fetch.fetch(&source, 0)?;
        let total = rest.total;
        let (sender, pieces) = sync_channel(WAITING);
        let hash = Hash { url: redacted(&source.url), state: Arc::default() };
        let (shown, ending, stopping) = (hash.url.clone(), hash.clone(), stop.clone());
        std::thread::spawn(move || {
            let job = Job { fetch: &*fetch, source: &source, url: &shown, longest, window, stop: &stopping };
            if let Err(error) = job.run(rest, &sender, &ending) {
                // The reader learns of it here, in its place in the stream.
                let _ = sender.send(Err(error));
            }
        });
        show(Progress::of(0, total));
        let reported = Instant::now();
        Ok(Self {
            pieces: Some(pieces),
            piece: Vec::new(),
            at: 0,
            bytes: 0,
            total,
            reported,
            show,
            hash,
            stop,
        })
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
                    if self.reported.elapsed() >= REPORT_INTERVAL {
                        self.reported = Instant::now();
                        (self.show)(Progress::of(self.bytes, self.total));
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
                    (self.show)(Progress::of(self.bytes, self.total));
                }
            }
        }
        let len = buffer.len().min(self.piece.len() - self.at);
        buffer[..len].copy_from_slice(&self.piece[self.at..self.at + len]);
        self.at += len;
        Ok(len)
    }
}

/// One file, from its server to its reader.
struct Job<'a> {
    fetch: &'a dyn Fetch,
    source: &'a Source,
    /// As it may be shown.
    url: &'a str,
    longest: u64,
    window: Duration,
    stop: &'a AtomicBool,
}

impl Job<'_> {
    /// Fetches to the end; a break is followed by a request for the rest.
    fn run(
        &self,
        mut rest: Rest,
        sender: &SyncSender<Result<Vec<u8>, FillError>>,
        ending: &Hash,
    ) -> Result<(), FillError> {
        let (mut hash, mut pace) = (Sha256::new(), Pace::over(self.window));
        let (mut bytes, mut restarts) = (0_u64, 0);
        let total = rest.total;
        let mut pauses = pauses();
        loop {
            let broken = loop {
                if self.stop.load(Ordering::Relaxed) {
                    return Err(FillError::Stopped);
                }
                let mut piece = vec![0; PIECE];
                match self.read_full(&mut *rest.reader, &mut piece, &mut pace)? {
                    (0, None) => break None,
                    (read, error) => {
                        piece.truncate(read);
                        hash.update(&piece);
                        bytes += read as u64;
                        if bytes > self.longest {
                            return Err(FillError::TooLong { longest: self.longest });
                        }
                        if read > 0 {
                            pauses = self::pauses();
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
                let Some(pause) = pauses.next() else {
                    return Err(FillError::Broken { url: self.url.to_owned(), bytes, source });
                };
                let begun = Instant::now();
                self.pause(pause);
                let again = self.fetch.fetch(self.source, bytes);
                self.keep_pace(&mut pace, begun.elapsed(), 0)?;
                match again {
                    Ok(rest) if rest.from == bytes => break rest,
                    // It cannot begin in the middle: what has come is skipped, since it is in the image already.
                    Ok(rest) => {
                        restarts += 1;
                        if restarts > RESTARTS {
                            return Err(FillError::Broken { url: self.url.to_owned(), bytes, source });
                        }
                        break self.skip(rest, bytes, &mut pace)?;
                    }
                    Err(FetchError::Reach { .. }) => {}
                    Err(FetchError::PastEnd { .. }) => return Err(self.no_range(bytes)),
                    Err(other) => return Err(other.into()),
                }
            };
        }
        ending.state().found = Some(hex::encode(hash.finalize()));
        Ok(())
    }

    fn no_range(&self, bytes: u64) -> FillError {
        FillError::NoRange { url: self.url.to_owned(), bytes }
    }

    fn keep_pace(&self, pace: &mut Pace, spent: Duration, bytes: u64) -> Result<(), FillError> {
        pace.note(spent, bytes).map_err(|_| FillError::Slow { url: self.url.to_owned() })
    }

    /// Waits for `time`, or until it is stopped.
    fn pause(&self, time: Duration) {
        sheaf_host::wait::until(time, Duration::from_millis(20), || {
            self.stop.load(Ordering::Relaxed).then_some(())
        });
    }

    /// Reads on to the byte `bytes`.
    fn skip(&self, mut rest: Rest, bytes: u64, pace: &mut Pace) -> Result<Rest, FillError> {
        let mut piece = vec![0; PIECE];
        while rest.from < bytes {
            if self.stop.load(Ordering::Relaxed) {
                return Err(FillError::Stopped);
            }
            let len = usize::try_from(bytes - rest.from).unwrap_or(PIECE).min(PIECE);
            match self.read_full(&mut *rest.reader, &mut piece[..len], pace)? {
                (0, _) | (_, Some(_)) => return Err(self.no_range(bytes)),
                (read, None) => rest.from += read as u64,
            }
        }
        Ok(rest)
    }

    /// Fills `piece` as far as the stream goes; how far, and why no further.
    fn read_full(
        &self,
        reader: &mut dyn Read,
        piece: &mut [u8],
        pace: &mut Pace,
    ) -> Result<(usize, Option<io::Error>), FillError> {
        let mut at = 0;
        while at < piece.len() {
            if self.stop.load(Ordering::Relaxed) {
                return Err(FillError::Stopped);
            }
            let begun = Instant::now();
            let read = reader.read(&mut piece[at..]);
            self.keep_pace(pace, begun.elapsed(), read.as_ref().map_or(0, |read| *read as u64))?;
            match read {
                Ok(0) => break,
                Ok(read) => at += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Ok((at, Some(error))),
            }
        }
        Ok((at, None))
    }
}

/// Pauses between tries to resume a connection.
fn pauses() -> impl Iterator<Item = Duration> {
    ExponentialBuilder::new().with_min_delay(PAUSE).with_factor(2.0).with_max_times(TRIES).build()
}
