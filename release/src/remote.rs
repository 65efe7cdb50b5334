//! A release folder on a server.
//!
//! Why streamed: images larger than memory shall install too. A connection that stalls or is cut is taken up again
//! where it broke off; an answer of another length, or a page of a proxy in place of the file, is refused. Nothing that
//! comes is believed but what the signed manifest vouches for, so it does not matter whether TLS protects it.
//! Route in: a URL, [`Fetch`]. Route out: readers of its files.

use sheaf_host::fetch::{Fetch, FetchError, Rest, Source};
use sheaf_host::wait;
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;
use std::time::Duration;

/// How long a file may bring no byte: a switch that restarts is back in two minutes, a server in five.
const TIMEOUT: Duration = Duration::from_secs(300);
/// Between two tries.
const PAUSE: Duration = Duration::from_secs(2);
/// Largest manifest in bytes: a hundred times what builds make.
pub(crate) const LARGEST_MANIFEST: u64 = 64 << 20;
/// Bytes of one read.
const READ: usize = 1 << 20;

/// A release folder on a server.
pub struct Remote<'f> {
    base: String,
    fetch: &'f dyn Fetch,
    timeout: Duration,
    pause: Duration,
}

impl<'f> Remote<'f> {
    /// The folder at `url`.
    pub fn new(url: &str, fetch: &'f dyn Fetch) -> Self {
        Self { base: url.trim_end_matches('/').to_owned(), fetch, timeout: TIMEOUT, pause: PAUSE }
    }

    /// Gives up when a file brings no byte for `timeout`.
    #[must_use]
    pub fn with_timeout(mut self, timeout: Duration, pause: Duration) -> Self {
        (self.timeout, self.pause) = (timeout, pause);
        self
    }

    /// Its URL.
    pub fn url(&self) -> &str {
        &self.base
    }

    /// The whole of `file`, which is small: a manifest or its signature.
    pub fn text(&self, file: &str) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        self.open(file, None).take(LARGEST_MANIFEST).read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    /// Reads `file` from its beginning; `length` is what it must have, in bytes.
    pub fn open(&self, file: &str, length: Option<u64>) -> Resuming<'_> {
        self.open_at(file, length, 0)
    }

    /// The same from the byte `at` on.
    pub fn open_at(&self, file: &str, length: Option<u64>, at: u64) -> Resuming<'_> {
        Resuming {
            remote: self,
            url: format!("{}/{file}", self.base),
            length,
            at,
            reader: None,
            last: String::new(),
        }
    }

    /// Copies `file` of `length` bytes to `target`.
    pub fn bring(
        &self,
        file: &str,
        length: u64,
        target: &Path,
        mut advance: impl FnMut(u64),
    ) -> io::Result<()> {
        if let Some(folder) = target.parent() {
            std::fs::create_dir_all(folder)?;
        }
        let mut out = File::create(target)?;
        let mut source = self.open(file, Some(length));
        let mut buffer = vec![0; READ];
        loop {
            let read = source.read(&mut buffer)?;
            if read == 0 {
                return Ok(());
            }
            out.write_all(&buffer[..read])?;
            advance(read as u64);
        }
    }
}

/// Whether `bytes` are HTML: a page that a proxy or a login form put in the place of a file.
pub fn is_page(bytes: &[u8]) -> bool {
    bytes.trim_ascii_start().first() == Some(&b'<')
}

/// A file that is read on when its connection breaks.
pub struct Resuming<'r> {
    remote: &'r Remote<'r>,
    url: String,
    length: Option<u64>,
    at: u64,
    reader: Option<Box<dyn Read + Send>>,
    /// Why the last connection ended.
    last: String,
}

impl Resuming<'_> {
    /// A connection that continues at the byte we are at.
    fn connect(&mut self) -> io::Result<()> {
        let connected = wait::until(self.remote.timeout, self.remote.pause, || {
            match self.remote.fetch.fetch(&Source::trusted(&self.url), self.at) {
                Ok(rest) => match self.accept(rest) {
                    Err(error) if error.kind() != io::ErrorKind::InvalidData => {
                        self.last = error.to_string();
                        None
                    }
                    accepted => Some(accepted),
                },
                Err(FetchError::Refused { status, .. }) if (400..500).contains(&status) && status != 429 => {
                    // Object stores answer 403 where they do not say what is missing.
                    let kind = match status {
                        403 | 404 | 410 => io::ErrorKind::NotFound,
                        _ => io::ErrorKind::Other,
                    };
                    Some(Err(io::Error::new(kind, format!("{} answers with HTTP status {status}", self.url))))
                }
                Err(FetchError::Unauthorized { .. }) => {
                    Some(Err(io::Error::other(format!("{} answers with HTTP status 401", self.url))))
                }
                Err(FetchError::PastEnd { .. }) => Some(Err(self.wrong_length("less"))),
                Err(error) => {
                    let source =
                        std::error::Error::source(&error).map(|s| format!(": {s}")).unwrap_or_default();
                    self.last = format!("{error}{source}");
                    None
                }
            }
        });
        match connected {
            Some(Ok(reader)) => {
                self.reader = Some(reader);
                Ok(())
            }
            Some(Err(error)) => Err(error),
            None => Err(io::Error::new(
                io::ErrorKind::TimedOut,
                format!(
                    "{} broke at byte {} and stalled for {} s: {}",
                    self.url,
                    self.at,
                    self.remote.timeout.as_secs(),
                    self.last
                ),
            )),
        }
    }

    /// The reader of an answer that is the file we want, moved to the byte we are at.
    fn accept(&self, mut rest: Rest) -> io::Result<Box<dyn Read + Send>> {
        if let (Some(length), Some(total)) = (self.length, rest.total)
            && length != total
        {
            return Err(self.wrong_length(&total.to_string()));
        }
        let skipped = self.at.checked_sub(rest.from).ok_or_else(|| self.wrong_length("other"))?;
        io::copy(&mut rest.reader.by_ref().take(skipped), &mut io::sink())?;
        Ok(rest.reader)
    }

    fn wrong_length(&self, has: &str) -> io::Error {
        let wanted = self.length.map_or("more".into(), |length| length.to_string());
        let text = format!("{} has {has} bytes on the server, the manifest says {wanted}", self.url);
        io::Error::new(io::ErrorKind::InvalidData, text)
    }
}

impl Read for Resuming<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() || self.length == Some(self.at) {
            return Ok(0);
        }
        // Each connection that brings nothing costs time; one that brings a byte begins again.
        let mut silent = 0;
        loop {
            if self.reader.is_none() {
                self.connect()?;
            }
            let Some(reader) = &mut self.reader else { continue };
            let left = self.length.map_or(u64::MAX, |length| length - self.at);
            let wanted = buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            match reader.read(&mut buffer[..wanted]) {
                Ok(0) if self.length.is_none() => return Ok(0),
                Ok(0) => self.last = "the server closed the connection early".into(),
                Ok(read) => {
                    self.at += read as u64;
                    return Ok(read);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => self.last = error.to_string(),
            }
            self.reader = None;
            silent += 1;
            let tries = self.remote.timeout.as_secs_f64() / self.remote.pause.as_secs_f64().max(0.001);
            if f64::from(silent) > tries.max(3.0) {
                let text = format!("{} breaks at byte {} repeatedly: {}", self.url, self.at, self.last);
                return Err(io::Error::new(io::ErrorKind::TimedOut, text));
            }
        }
    }
}
