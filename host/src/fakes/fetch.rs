//! Files on servers in memory.

use crate::fetch::{Fetch, FetchError, Rest, Source, redacted};
use std::collections::BTreeMap;
use std::io::{Cursor, Read};
use std::sync::Mutex;

/// Files by URL, and a log of what was asked for.
#[derive(Debug, Default)]
pub struct FakeFetch {
    /// What each URL holds; others are answered with status 404.
    pub files: BTreeMap<String, Vec<u8>>,
    /// Connections break after this many bytes, once for each number.
    pub breaks: Mutex<Vec<usize>>,
    /// The server always begins at the beginning.
    pub without_ranges: bool,
    /// What the server says of the length of every file, when that is not the truth.
    pub claims: Option<u64>,
    /// URLs that are refused with status 401 unless the request has this `Authorization`.
    pub passwords: BTreeMap<String, String>,
    /// What it answers with such a status (`WWW-Authenticate`).
    pub challenge: Option<String>,
    /// URL and first byte of every request so far.
    pub asked: Mutex<Vec<(String, u64)>>,
}

impl Fetch for FakeFetch {
    fn fetch(&self, source: &Source, from: u64) -> Result<Rest, FetchError> {
        // No addresses in memory: judged as behind a proxy.
        source.judge_name()?;
        let url = source.url.as_str();
        if let Ok(mut asked) = self.asked.lock() {
            asked.push((url.to_owned(), from));
        }
        if let Some(password) = self.passwords.get(url) {
            let shown = source.access.headers().get("authorization");
            if shown.is_none_or(|shown| shown.as_bytes() != password.as_bytes()) {
                return Err(FetchError::Unauthorized {
                    url: redacted(url),
                    challenge: self.challenge.clone(),
                });
            }
        }
        let Some(file) = self.files.get(url) else {
            return Err(FetchError::Refused { url: redacted(url), status: 404 });
        };
        let from = if self.without_ranges { 0 } else { from };
        let total = file.len() as u64;
        let start = match usize::try_from(from) {
            Ok(start) if from == 0 || start < file.len() => start,
            _ => return Err(FetchError::PastEnd { url: redacted(url), from }),
        };
        let rest = Cursor::new(file[start..].to_vec());
        let broken =
            self.breaks.lock().ok().and_then(|mut breaks| (!breaks.is_empty()).then(|| breaks.remove(0)));
        let reader: Box<dyn Read + Send> = match broken {
            Some(after) => Box::new(rest.take(after as u64).chain(Broken)),
            None => Box::new(rest),
        };
        Ok(Rest { from, total: Some(self.claims.unwrap_or(total)), reader })
    }
}

struct Broken;

impl Read for Broken {
    fn read(&mut self, _: &mut [u8]) -> std::io::Result<usize> {
        Err(std::io::ErrorKind::ConnectionReset.into())
    }
}
