//! HTTP/1.1: GET and HEAD, whole files or from a byte on.
//!
//! Connections stay open, as UEFI's client expects (RFC 9112 §9.3); a range lets an installer resume where a
//! connection broke (RFC 9110 §14). After anything but a GET or HEAD the connection is closed: a body may follow, and
//! would be read as the next request. Route in: a connection, plain or TLS. Route out: what a [`Site`] answers.

use super::report;
use percent_encoding::percent_decode_str;
use std::fs::File;
use std::io::{self, Cursor, Read, Seek, SeekFrom, Write};
use std::net::{IpAddr, Shutdown, TcpStream};
use std::path::Path;
use std::time::{Duration, Instant};

/// For a whole request, and for each piece of an answer that the client takes: firmware under load needs seconds.
pub(super) const TIMEOUT: Duration = Duration::from_secs(60);
/// A client that takes less than this many bytes a second on average is cut off: it would hold one of few connections.
const SLOWEST: u64 = 16 << 10;
/// How long a client that is refused may continue sending.
const LINGER: Duration = Duration::from_secs(2);
/// Largest request in bytes, with its headers.
const LARGEST: usize = 16 << 10;
/// Most headers of a request.
const HEADERS: usize = 64;

/// What is served.
pub(super) trait Site: Send + Sync {
    /// The answer to a GET or HEAD from `peer`.
    fn answer(&self, request: &Request, peer: IpAddr) -> Answer;
}

/// Answers the requests of one connection until the client is done.
pub(super) fn converse(
    stream: &mut (impl Read + Write),
    socket: &TcpStream,
    peer: IpAddr,
    site: &dyn Site,
) -> io::Result<()> {
    socket.set_write_timeout(Some(TIMEOUT))?;
    let mut received = Vec::new();
    loop {
        let request = match receive(stream, socket, &mut received)? {
            Received::Request(request) => request,
            Received::Nothing => return Ok(()),
            Received::Malformed(status) => {
                report(peer, "malformed request", status);
                send(stream, &Answer::empty(status), false, true)?;
                return linger(socket);
            }
        };
        let reads = ["GET", "HEAD"].contains(&request.method.as_str());
        let answer = match reads {
            true => site.answer(&request, peer),
            false => Answer { header: "Allow: GET, HEAD\r\n".into(), ..Answer::empty(NOT_ALLOWED) },
        };
        report(peer, &format!("{} {}", request.method, request.path), answer.status);
        let close = request.close || !reads;
        send(stream, &answer, request.method == "GET", close)?;
        match close {
            true if reads => return Ok(()),
            true => return linger(socket),
            false => {}
        }
    }
}

/// Lets the client read the answer: a socket that is closed with unread bytes resets the connection, and the answer is
/// lost (RFC 9112 §9.6).
fn linger(mut socket: &TcpStream) -> io::Result<()> {
    socket.shutdown(Shutdown::Write)?;
    let deadline = Instant::now() + LINGER;
    let mut piece = [0; 4096];
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(());
        }
        socket.set_read_timeout(Some(left))?;
        if socket.read(&mut piece)? == 0 {
            return Ok(());
        }
    }
}

const NOT_ALLOWED: &str = "405 Method Not Allowed";
const NOT_FOUND: &str = "404 Not Found";

/// What came on a connection.
enum Received {
    Request(Request),
    /// The client closed the connection between two requests.
    Nothing,
    Malformed(&'static str),
}

/// Reads the next request; what came after it stays in `received`.
fn receive(stream: &mut impl Read, socket: &TcpStream, received: &mut Vec<u8>) -> io::Result<Received> {
    let deadline = Instant::now() + TIMEOUT;
    let mut piece = [0; 4096];
    loop {
        match Request::parse(received) {
            Parsed::Whole(request, length) => {
                received.drain(..length);
                return Ok(Received::Request(request));
            }
            Parsed::Malformed => return Ok(Received::Malformed("400 Bad Request")),
            Parsed::Part if received.len() >= LARGEST => {
                return Ok(Received::Malformed("431 Request Header Fields Too Large"));
            }
            Parsed::Part => {}
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        socket.set_read_timeout(Some(left))?;
        match stream.read(&mut piece)? {
            0 => return Ok(Received::Nothing),
            read => received.extend_from_slice(&piece[..read]),
        }
    }
}

/// What a client asks.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Request {
    pub method: String,
    /// Decoded; without query.
    pub path: String,
    range: Option<String>,
    /// Value of [`sheaf_config::handover::HEADER`].
    pub introduction: Option<String>,
    close: bool,
}

/// What the bytes at the beginning of a connection are.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Parsed {
    /// A request and its length in bytes.
    Whole(Request, usize),
    /// The beginning of one.
    Part,
    /// None.
    Malformed,
}

impl Request {
    pub fn parse(bytes: &[u8]) -> Parsed {
        let mut headers = [httparse::EMPTY_HEADER; HEADERS];
        let mut head = httparse::Request::new(&mut headers);
        let length = match head.parse(bytes) {
            Ok(httparse::Status::Complete(length)) => length,
            Ok(httparse::Status::Partial) => return Parsed::Part,
            Err(_) => return Parsed::Malformed,
        };
        let (Some(method), Some(target), Some(version)) = (head.method, head.path, head.version) else {
            return Parsed::Malformed;
        };
        let header = |name: &str| {
            let found = head.headers.iter().find(|header| header.name.eq_ignore_ascii_case(name))?;
            Some(std::str::from_utf8(found.value).ok()?.trim().to_owned())
        };
        let request = Self {
            method: method.to_owned(),
            path: percent_decode_str(path(target)).decode_utf8_lossy().into_owned(),
            range: header("range"),
            introduction: header(sheaf_config::handover::HEADER),
            close: version == 0 || header("connection").is_some_and(|how| how.eq_ignore_ascii_case("close")),
        };
        Parsed::Whole(request, length)
    }
}

/// The path of a request's target, which may be a whole URL.
fn path(target: &str) -> &str {
    let path = match target.split_once("://") {
        Some((_, rest)) => rest.find('/').map_or("/", |at| &rest[at..]),
        None => target,
    };
    path.split(['?', '#']).next().unwrap_or_default()
}

/// What is sent back.
pub(super) struct Answer {
    pub status: &'static str,
    header: String,
    body: Body,
}

enum Body {
    Bytes(Vec<u8>),
    /// A file from where it stands, and how many bytes of it.
    File(File, u64),
}

impl Answer {
    /// `status` and nothing else.
    pub fn empty(status: &'static str) -> Self {
        Self { status, header: String::new(), body: Body::Bytes(Vec::new()) }
    }

    /// A text that no cache may keep.
    pub fn secret(text: &str) -> Self {
        let header = "Cache-Control: no-store\r\n".into();
        Self { status: "200 OK", header, body: Body::Bytes(text.as_bytes().to_vec()) }
    }

    fn length(&self) -> u64 {
        match &self.body {
            Body::Bytes(bytes) => bytes.len() as u64,
            Body::File(_, length) => *length,
        }
    }
}

fn send(stream: &mut impl Write, answer: &Answer, with_body: bool, close: bool) -> io::Result<()> {
    let length = answer.length();
    let close = if close { "Connection: close\r\n" } else { "" };
    write!(
        stream,
        "HTTP/1.1 {}\r\nContent-Length: {length}\r\nAccept-Ranges: bytes\r\n{}{close}\r\n",
        answer.status, answer.header
    )?;
    if with_body {
        match &answer.body {
            Body::Bytes(bytes) => copy(&mut Cursor::new(bytes), stream, length)?,
            Body::File(file, _) => copy(&mut file.take(length), stream, length)?,
        }
    }
    stream.flush()
}

/// Copies all of `from`, unless the client takes it too slowly.
fn copy(from: &mut impl Read, to: &mut impl Write, length: u64) -> io::Result<()> {
    let deadline = Instant::now() + TIMEOUT + Duration::from_secs(length / SLOWEST);
    let mut piece = vec![0; 256 << 10];
    loop {
        let read = from.read(&mut piece)?;
        if read == 0 {
            return Ok(());
        }
        if Instant::now() > deadline {
            return Err(io::ErrorKind::TimedOut.into());
        }
        to.write_all(&piece[..read])?;
    }
}

/// The files of a folder, or one file.
impl Site for Box<Path> {
    fn answer(&self, request: &Request, _: IpAddr) -> Answer {
        let Some((file, length)) = super::find(self, &request.path) else { return Answer::empty(NOT_FOUND) };
        let part = request.range.as_deref().map_or(Part::Whole, |range| part(range, length));
        part_of(file, length, part).unwrap_or_else(|_| Answer::empty("500 Internal Server Error"))
    }
}

fn part_of(mut file: File, length: u64, part: Part) -> io::Result<Answer> {
    Ok(match part {
        Part::Whole => Answer { status: "200 OK", header: String::new(), body: Body::File(file, length) },
        Part::Bytes(first, last) => {
            file.seek(SeekFrom::Start(first))?;
            Answer {
                status: "206 Partial Content",
                header: format!("Content-Range: bytes {first}-{last}/{length}\r\n"),
                body: Body::File(file, last - first + 1),
            }
        }
        Part::Beyond => Answer {
            header: format!("Content-Range: bytes */{length}\r\n"),
            ..Answer::empty("416 Range Not Satisfiable")
        },
    })
}

/// What of a file is asked for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// All: ranges of other kinds may be ignored.
    Whole,
    /// First and last byte.
    Bytes(u64, u64),
    /// None of it is there.
    Beyond,
}

pub(super) fn part(range: &str, length: u64) -> Part {
    let Some((first, last)) = range.strip_prefix("bytes=").and_then(|range| range.split_once('-')) else {
        return Part::Whole;
    };
    match (first.parse::<u64>(), last.parse::<u64>()) {
        (Ok(first), _) if first >= length => Part::Beyond,
        (Ok(first), Ok(last)) if first <= last => Part::Bytes(first, last.min(length - 1)),
        (Ok(first), Err(_)) if last.is_empty() => Part::Bytes(first, length - 1),
        _ => Part::Whole,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::serve::{Slots, listen};
    use std::net::{SocketAddr, TcpListener};
    use std::sync::Arc;

    fn server(dir: &Path) -> SocketAddr {
        std::fs::write(dir.join("a b"), "0123456789").unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let folder: Box<Path> = dir.canonicalize().unwrap().into();
        std::thread::spawn(move || listen(&listener, &Slots::default(), None, &Arc::new(folder)));
        address
    }

    /// Everything the server sends for `requests` on one connection.
    fn ask(address: SocketAddr, requests: &str) -> String {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.write_all(requests.as_bytes()).unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    #[test]
    fn files_come_whole_or_from_a_byte_on_over_one_connection() {
        let dir = tempfile::tempdir().unwrap();
        let address = server(dir.path());
        let answer = ask(
            address,
            "HEAD /a%20b HTTP/1.1\r\n\r\nGET /a%20b HTTP/1.1\r\n\r\n\
             GET http://host/a%20b?x HTTP/1.1\r\nRange: bytes=7-\r\n\r\nGET /a%20b HTTP/1.1\r\nrange: bytes=1-2\r\n\r\n",
        );
        let bodies: Vec<_> =
            answer.split("HTTP/1.1 ").skip(1).map(|part| part.split_once("\r\n\r\n").unwrap()).collect();
        assert_eq!(bodies.iter().map(|(_, body)| *body).collect::<Vec<_>>(), ["", "0123456789", "789", "12"]);
        assert!(bodies[0].0.starts_with("200 OK\r\nContent-Length: 10\r\n"), "{answer}");
        assert!(
            bodies[2].0.contains("206 Partial Content") && bodies[2].0.contains("bytes 7-9/10"),
            "{answer}"
        );
    }

    #[test]
    fn what_is_not_there_or_not_reading_is_refused_in_numbers() {
        let dir = tempfile::tempdir().unwrap();
        let address = server(dir.path());
        for (request, status) in [
            ("GET /c HTTP/1.1\r\n\r\n", "404"),
            ("GET /%2e%2e/etc/passwd HTTP/1.1\r\n\r\n", "404"),
            ("PUT /c HTTP/1.1\r\n\r\n", "405"),
            ("GET /a%20b HTTP/1.1\r\nRange: bytes=10-\r\n\r\n", "416"),
            ("nonsense\r\n\r\n", "400"),
            (&format!("GET /{} HTTP/1.1\r\n\r\n", "x".repeat(LARGEST)), "431"),
        ] {
            let answer = ask(address, request);
            assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{request}: {answer}");
        }
    }

    #[test]
    fn the_body_of_a_put_is_not_read_as_the_next_request() {
        let dir = tempfile::tempdir().unwrap();
        let address = server(dir.path());
        let smuggled = "GET /a%20b HTTP/1.1\r\n\r\n";
        let put = format!("PUT /c HTTP/1.1\r\nContent-Length: {}\r\n\r\n{smuggled}", smuggled.len());
        let answer = ask(address, &put);
        assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{answer}");
        assert!(answer.starts_with("HTTP/1.1 405 ") && answer.contains("Connection: close\r\n"), "{answer}");
    }

    #[test]
    fn ranges_that_are_not_understood_give_the_whole_file() {
        assert_eq!(part("bytes=0-", 10), Part::Bytes(0, 9));
        assert_eq!(part("bytes=5-100", 10), Part::Bytes(5, 9));
        assert_eq!(part("bytes=-3", 10), Part::Whole);
        assert_eq!(part("lines=1-2", 10), Part::Whole);
        assert_eq!(part("bytes=10-", 10), Part::Beyond);
        assert_eq!(part("bytes=0-0", 0), Part::Beyond);
    }
}
