//! Fetches files over http and https, from any byte on.
//!
//! Why here: the network is an effect. Route in: a URL and how much of it is here already. Route out: a reader of
//! the rest; errors name the URL and say whether another try can help.

mod proxy;

use crate::trust::{Trust, TrustError};
use std::io::Read;
use std::time::Duration;

/// Until a connection stands: a server that is far away answers within a tenth of it.
const CONNECT: Duration = Duration::from_secs(20);
/// Until the answer begins: object stores look a while for cold files.
const ANSWER: Duration = Duration::from_secs(60);
/// Between two pieces of the answer: a connection that is silent for longer is dead.
const SILENCE: Duration = Duration::from_secs(60);

/// The rest of a file.
pub struct Rest {
    /// Where it begins: the byte asked for, or 0 when the server can not begin elsewhere.
    pub from: u64,
    /// Length of the whole file, when the server says so.
    pub total: Option<u64>,
    /// The bytes.
    pub reader: Box<dyn Read + Send>,
}

/// Why there is nothing to read.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// No answer.
    #[error("{url} can not be reached")]
    Reach {
        /// What was asked for.
        url: String,
        /// Why not.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The server said no.
    #[error("{url} is answered with HTTP status {status}")]
    Refused {
        /// What was asked for.
        url: String,
        /// HTTP status.
        status: u16,
    },
    /// The file ends before the byte asked for.
    #[error("{url} is shorter than the {from} bytes that are here already")]
    PastEnd {
        /// What was asked for.
        url: String,
        /// The byte asked for.
        from: u64,
    },
}

/// Something that fetches: [`Http`], or [`crate::fakes::FakeFetch`] in tests.
pub trait Fetch: Send + Sync {
    /// The file at `url`, from the byte `from` on. Blocks.
    fn fetch(&self, url: &str, from: u64) -> Result<Rest, FetchError>;
}

/// How servers are reached and believed.
#[derive(Clone, Default)]
pub struct Settings {
    /// Proxy for `http://…`, `http://USER:PASSWORD@HOST:PORT`; without one servers are reached directly.
    pub http_proxy: Option<String>,
    /// Proxy for `https://…`.
    pub https_proxy: Option<String>,
    /// Names, domains (`.example.org`), addresses and networks that are reached directly.
    pub no_proxy: Vec<String>,
    /// Whom to believe.
    pub trust: Trust,
}

/// The network.
#[derive(Clone, Debug)]
pub struct Http {
    direct: ureq::Agent,
    for_http: Option<ureq::Agent>,
    for_https: Option<ureq::Agent>,
    no_proxy: Vec<String>,
}

fn config() -> ureq::config::ConfigBuilder<ureq::typestate::AgentScope> {
    ureq::Agent::config_builder()
        .http_status_as_error(false)
        .user_agent("sheaf")
        .timeout_connect(Some(CONNECT))
        .timeout_recv_response(Some(ANSWER))
        .timeout_per_read(Some(SILENCE))
        // Those of the environment do not count.
        .proxy(None)
}

impl From<ureq::Agent> for Http {
    fn from(direct: ureq::Agent) -> Self {
        Self { direct, for_http: None, for_https: None, no_proxy: Vec::new() }
    }
}

impl Default for Http {
    fn default() -> Self {
        Self::from(ureq::Agent::from(config().build()))
    }
}

impl Http {
    /// Fetches from servers that `trust` believes.
    pub fn trusting(trust: &Trust) -> Result<Self, TrustError> {
        trust.agent(config()).map(Self::from)
    }

    /// One with `settings`. A proxy that can not be read is one that can not be reached: it is never passed by.
    pub fn new(settings: Settings) -> Result<Self, TrustError> {
        let unusable = || ureq::Proxy::new("http://unusable-proxy.invalid:1").ok();
        let by = |url: Option<String>| {
            url.map(|url| {
                let proxy = ureq::Proxy::new(&url).ok().or_else(unusable);
                settings.trust.agent(config().proxy(proxy))
            })
            .transpose()
        };
        Ok(Self {
            for_http: by(settings.http_proxy.clone())?,
            for_https: by(settings.https_proxy.clone())?,
            direct: settings.trust.agent(config())?,
            no_proxy: settings.no_proxy,
        })
    }

    /// Gives up a connection that is silent for longer than `silence`.
    #[must_use]
    pub fn silent_for(silence: Duration) -> Self {
        Self::from(ureq::Agent::from(config().timeout_per_read(Some(silence)).build()))
    }

    /// The agent for `url`.
    fn agent(&self, url: &str) -> &ureq::Agent {
        let Ok(uri) = url.parse::<ureq::http::Uri>() else { return &self.direct };
        let proxied = if uri.scheme_str() == Some("https") { &self.for_https } else { &self.for_http };
        match proxied {
            Some(agent) if !proxy::passes_by(uri.host().unwrap_or_default(), &self.no_proxy) => agent,
            _ => &self.direct,
        }
    }
}

impl Fetch for Http {
    fn fetch(&self, url: &str, from: u64) -> Result<Rest, FetchError> {
        let mut request = self.agent(url).get(url);
        if from > 0 {
            request = request.header("Range", format!("bytes={from}-"));
        }
        let response = request
            .call()
            .map_err(|source| FetchError::Reach { url: url.to_owned(), source: Box::new(source) })?;
        let header = |name: &str| response.headers().get(name).and_then(|value| value.to_str().ok());
        let (from, total) = match response.status().as_u16() {
            200 => (0, header("content-length").and_then(|length| length.parse().ok())),
            206 => match header("content-range").and_then(content_range) {
                Some((start, total)) if start == from => (from, total),
                _ => return Err(FetchError::Refused { url: url.to_owned(), status: 206 }),
            },
            416 => return Err(FetchError::PastEnd { url: url.to_owned(), from }),
            status => return Err(FetchError::Refused { url: url.to_owned(), status }),
        };
        Ok(Rest { from, total, reader: Box::new(response.into_body().into_reader()) })
    }
}

/// First byte and length of the whole from `bytes 100-199/1000`.
fn content_range(text: &str) -> Option<(u64, Option<u64>)> {
    let (range, total) = text.strip_prefix("bytes ")?.split_once('/')?;
    let (first, _) = range.split_once('-')?;
    Some((first.parse().ok()?, total.parse().ok()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{BufRead, BufReader, Write};
    use std::net::TcpListener;

    const FILE: &[u8] = b"0123456789";

    /// A server that answers one request by `answer`, given the Range header.
    fn serve(answer: fn(Option<u64>) -> String) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/file", listener.local_addr().unwrap());
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut from = None;
            for line in BufReader::new(stream.try_clone().unwrap()).lines() {
                let line = line.unwrap().to_lowercase();
                if let Some(range) = line.strip_prefix("range: bytes=") {
                    from = range.trim_end_matches('-').parse().ok();
                }
                if line.is_empty() {
                    break;
                }
            }
            stream.write_all(answer(from).as_bytes()).unwrap();
        });
        url
    }

    fn partial(from: Option<u64>) -> String {
        let from = from.unwrap_or(0) as usize;
        let rest = std::str::from_utf8(&FILE[from..]).unwrap();
        let (length, total) = (rest.len(), FILE.len());
        let range = format!("bytes {from}-{}/{total}", total - 1);
        format!("HTTP/1.1 206 Partial\r\nContent-Range: {range}\r\nContent-Length: {length}\r\n\r\n{rest}")
    }

    #[test]
    fn the_rest_of_a_file_is_read_from_where_it_broke_off() {
        let mut rest = Http::default().fetch(&serve(partial), 4).unwrap();
        let mut bytes = Vec::new();
        rest.reader.read_to_end(&mut bytes).unwrap();
        assert_eq!((rest.from, rest.total, bytes.as_slice()), (4, Some(10), &FILE[4..]));
    }

    #[test]
    fn a_server_that_begins_at_the_beginning_is_believed() {
        let url = serve(|_| "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n0123456789".into());
        let rest = Http::default().fetch(&url, 4).unwrap();
        assert_eq!((rest.from, rest.total), (0, Some(10)));
    }

    #[test]
    fn a_proxy_is_asked_unless_the_host_is_reached_without() {
        // Answers CONNECT, then as the server.
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let proxy = format!("http://user:word@{}", listener.local_addr().unwrap());
        let seen = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut lines = BufReader::new(stream.try_clone().unwrap()).lines().map(Result::unwrap);
            let head: Vec<String> = lines.by_ref().take_while(|line| !line.is_empty()).collect();
            stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").unwrap();
            let request = lines.next().unwrap();
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi").unwrap();
            (head, request)
        });
        let no_proxy = vec!["127.0.0.0/8".to_owned()];
        let http = Http::new(Settings { http_proxy: Some(proxy), no_proxy, ..Settings::default() }).unwrap();
        let mut text = String::new();
        let mut rest = http.fetch("http://images.example:8080/file", 0).unwrap();
        rest.reader.read_to_string(&mut text).unwrap();
        let (head, request) = seen.join().unwrap();
        assert_eq!((head[0].as_str(), text.as_str()), ("CONNECT images.example:8080 HTTP/1.1", "hi"));
        assert!(
            head.iter().any(|line| line.starts_with("Proxy-Authorization: Basic dXNlcjp3b3Jk")),
            "{head:?}"
        );
        assert_eq!(request, "GET /file HTTP/1.1");
        // The proxy is gone by now: this one does not need it.
        let rest = http.fetch(&serve(partial), 4).unwrap();
        assert_eq!(rest.from, 4);
    }

    #[test]
    fn refusals_are_told_apart() {
        let answer =
            |text: fn(Option<u64>) -> String| Http::default().fetch(&serve(text), 40).map(drop).unwrap_err();
        let missing = answer(|_| "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n".into());
        assert!(matches!(missing, FetchError::Refused { status: 404, .. }), "{missing}");
        let past = answer(|_| "HTTP/1.1 416 Range\r\nContent-Length: 0\r\n\r\n".into());
        assert!(matches!(past, FetchError::PastEnd { from: 40, .. }), "{past}");
    }
}
