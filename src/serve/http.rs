//! HTTP/1.1: GET and HEAD of files, whole or from a byte on.
//!
//! Connections stay open, as UEFI's client expects (RFC 9112 §9.3); a range lets an installer go on where a
//! connection broke (RFC 9110 §14). Route in: a listener. Route out: files.

use super::{find, told};
use anyhow::Result;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

/// How long a client may say nothing: firmware under load needs seconds.
const SILENCE: Duration = Duration::from_secs(60);
/// Largest request in bytes, with its headers.
const LARGEST: u64 = 16 << 10;

/// Answers every connection, each in its own thread.
pub(super) fn serve(listener: &TcpListener, folder: &Arc<Path>) -> Result<()> {
    loop {
        let (stream, peer) = listener.accept()?;
        let folder = folder.clone();
        thread::spawn(move || {
            // A client that goes away is no concern of ours.
            let _ = talk(&stream, &folder, |request, answer| told(peer.ip(), request, answer));
        });
    }
}

/// One connection.
fn talk(stream: &TcpStream, folder: &Path, tell: impl Fn(&str, &str)) -> io::Result<()> {
    stream.set_read_timeout(Some(SILENCE))?;
    stream.set_write_timeout(Some(SILENCE))?;
    let mut reader = BufReader::new(stream);
    while let Some(request) = Request::read(&mut reader)? {
        let mut answer = Answer::to(&request, folder);
        tell(&request.line, answer.status);
        let close = request.close || answer.status.starts_with("400");
        let mut head = format!(
            "HTTP/1.1 {}\r\nContent-Length: {}\r\nAccept-Ranges: bytes\r\n",
            answer.status, answer.length
        );
        head.push_str(&answer.header);
        head.push_str(if close { "Connection: close\r\n\r\n" } else { "\r\n" });
        let mut writer = stream;
        writer.write_all(head.as_bytes())?;
        if let Some(body) = answer.body.take().filter(|_| request.method != "HEAD") {
            io::copy(&mut body.take(answer.length), &mut writer)?;
        }
        writer.flush()?;
        if close {
            break;
        }
    }
    Ok(())
}

/// What a client asks.
struct Request {
    line: String,
    method: String,
    path: String,
    range: Option<String>,
    close: bool,
}

impl Request {
    /// The next one on a connection; none when the client is done.
    fn read(reader: &mut impl BufRead) -> io::Result<Option<Self>> {
        let mut head = reader.take(LARGEST);
        let mut line = String::new();
        if head.read_line(&mut line)? == 0 {
            return Ok(None);
        }
        let line = line.trim_end().to_owned();
        let mut words = line.split(' ');
        let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let mut request = Self {
            method: method.to_owned(),
            path: decoded(path(target)),
            range: None,
            close: words.next() != Some("HTTP/1.1"),
            line: line.clone(),
        };
        loop {
            let mut header = String::new();
            if head.read_line(&mut header)? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let Some((name, value)) = header.trim_end().split_once(':') else { break };
            match name.to_ascii_lowercase().as_str() {
                "range" => request.range = Some(value.trim().to_owned()),
                "connection" => request.close |= value.trim().eq_ignore_ascii_case("close"),
                _ => {}
            }
        }
        Ok(Some(request))
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

/// `%41` → `A`.
fn decoded(path: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = path.as_bytes();
    while let [first, tail @ ..] = rest {
        let hex =
            tail.get(..2).and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok());
        match hex.filter(|_| *first == b'%') {
            Some(byte) => {
                bytes.push(byte);
                rest = &tail[2..];
            }
            None => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// What it is told.
struct Answer {
    status: &'static str,
    header: String,
    length: u64,
    body: Option<File>,
}

impl Answer {
    fn to(request: &Request, folder: &Path) -> Self {
        let empty = |status| Self { status, header: String::new(), length: 0, body: None };
        if !["GET", "HEAD"].contains(&request.method.as_str()) {
            return empty(if request.path.starts_with('/') {
                "405 Method Not Allowed"
            } else {
                "400 Bad Request"
            });
        }
        let Some((mut file, length)) = find(folder, &request.path) else { return empty("404 Not Found") };
        match request.range.as_deref().map(|range| part(range, length)) {
            None | Some(Part::Whole) => {
                Self { status: "200 OK", header: String::new(), length, body: Some(file) }
            }
            Some(Part::Bytes(first, last)) if file.seek(SeekFrom::Start(first)).is_ok() => Self {
                status: "206 Partial Content",
                header: format!("Content-Range: bytes {first}-{last}/{length}\r\n"),
                length: last - first + 1,
                body: Some(file),
            },
            Some(_) => Self {
                header: format!("Content-Range: bytes */{length}\r\n"),
                ..empty("416 Range Not Satisfiable")
            },
        }
    }
}

/// What of a file is asked for.
#[derive(Debug, PartialEq, Eq)]
enum Part {
    /// All: ranges of other kinds may be ignored.
    Whole,
    /// First and last byte.
    Bytes(u64, u64),
    /// None of it is there.
    Beyond,
}

fn part(range: &str, length: u64) -> Part {
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
    use std::net::SocketAddr;

    fn server(dir: &Path) -> SocketAddr {
        std::fs::write(dir.join("a b"), "0123456789").unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let folder: Arc<Path> = dir.canonicalize().unwrap().into();
        thread::spawn(move || serve(&listener, &folder));
        address
    }

    /// Everything the server says to `requests` on one connection.
    fn ask(address: SocketAddr, requests: &str) -> String {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.write_all(requests.as_bytes()).unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        let mut said = String::new();
        stream.read_to_string(&mut said).unwrap();
        said
    }

    #[test]
    fn files_come_whole_or_from_a_byte_on_over_one_connection() {
        let dir = tempfile::tempdir().unwrap();
        let address = server(dir.path());
        let said = ask(
            address,
            "HEAD /a%20b HTTP/1.1\r\n\r\nGET /a%20b HTTP/1.1\r\n\r\n\
             GET http://host/a%20b?x HTTP/1.1\r\nRange: bytes=7-\r\n\r\nGET /a%20b HTTP/1.1\r\nrange: bytes=1-2\r\n\r\n",
        );
        let bodies: Vec<_> =
            said.split("HTTP/1.1 ").skip(1).map(|part| part.split_once("\r\n\r\n").unwrap()).collect();
        assert_eq!(bodies.iter().map(|(_, body)| *body).collect::<Vec<_>>(), ["", "0123456789", "789", "12"]);
        assert!(bodies[0].0.starts_with("200 OK\r\nContent-Length: 10\r\n"), "{said}");
        assert!(
            bodies[2].0.contains("206 Partial Content") && bodies[2].0.contains("bytes 7-9/10"),
            "{said}"
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
        ] {
            let said = ask(address, request);
            assert!(said.starts_with(&format!("HTTP/1.1 {status} ")), "{request}: {said}");
        }
    }

    #[test]
    fn ranges_that_are_not_understood_give_the_whole_file() {
        assert_eq!(part("bytes=0-", 10), Part::Bytes(0, 9));
        assert_eq!(part("bytes=5-100", 10), Part::Bytes(5, 9));
        assert_eq!(part("bytes=-3", 10), Part::Whole);
        assert_eq!(part("lines=1-2", 10), Part::Whole);
        assert_eq!(part("bytes=10-", 10), Part::Beyond);
    }
}
