//! TFTP, reading only: what a NIC's own PXE speaks.
//!
//! RFC 1350 with options (RFC 2347) for the size of blocks (RFC 2348) and of files (RFC 2349). Every transfer has a
//! socket and a thread of its own. Route in: a socket. Route out: files.

use super::{Slots, find, report};
use std::fs::File;
use std::io::{self, Read};
use std::net::{SocketAddr, UdpSocket};
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

const READ_REQUEST: u16 = 1;
const DATA: u16 = 3;
const ACKNOWLEDGEMENT: u16 = 4;
const ERROR: u16 = 5;
const OPTIONS: u16 = 6;
/// Error codes of RFC 1350.
const NOT_FOUND: u16 = 1;
const ILLEGAL: u16 = 4;

/// Bytes of a block unless a client asks for others.
const BLOCK: usize = 512;
/// Bounds of what it may ask for: RFC 2348's least, and what fits a datagram without being split up on Ethernet.
const BLOCKS: (usize, usize) = (8, 1468);
/// How long an answer may take before a block is sent again, and how often it is.
const TIMEOUT: Duration = Duration::from_secs(1);
const TRIES: usize = 8;

/// Answers every request, as many at a time as there are `slots`: clients ask again when no answer comes.
pub(super) fn serve(socket: &UdpSocket, slots: &Slots, folder: &Arc<Path>) {
    let mut datagram = [0; 2048];
    loop {
        let Ok((length, peer)) = socket.recv_from(&mut datagram) else { continue };
        let request = Request::parse(&datagram[..length]);
        let Some(slot) = slots.take() else { continue };
        let (folder, local) = (folder.clone(), socket.local_addr());
        thread::spawn(move || {
            let _slot = slot;
            let Ok(own) = local.and_then(|local| UdpSocket::bind(SocketAddr::new(local.ip(), 0))) else {
                return;
            };
            let Some(request) = request else {
                let _ = own.send_to(&error(ILLEGAL, "only reading is served"), peer);
                return;
            };
            let Some((file, size)) = find(&folder, &request.path) else {
                report(peer.ip(), &format!("TFTP {}", request.path), "not found");
                let _ = own.send_to(&error(NOT_FOUND, "no such file"), peer);
                return;
            };
            let how = match send(&own, peer, &request, file, size) {
                Ok(()) => "sent".to_owned(),
                Err(error) => format!("not sent completely: {error}"),
            };
            report(peer.ip(), &format!("TFTP {}", request.path), &how);
        });
    }
}

/// What a client asks.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Request {
    pub path: String,
    block: Option<usize>,
    wants_size: bool,
}

impl Request {
    pub fn parse(datagram: &[u8]) -> Option<Self> {
        let (code, rest) = datagram.split_first_chunk::<2>()?;
        let mut words = rest.split(|byte| *byte == 0).map(|word| String::from_utf8_lossy(word).into_owned());
        let (path, mode) = (words.next()?, words.next()?);
        if u16::from_be_bytes(*code) != READ_REQUEST || !mode.eq_ignore_ascii_case("octet") {
            return None;
        }
        let mut request = Self { path, block: None, wants_size: false };
        while let (Some(name), Some(value)) = (words.next(), words.next()) {
            match name.to_ascii_lowercase().as_str() {
                "blksize" => {
                    request.block = value.parse().ok().map(|size: usize| size.clamp(BLOCKS.0, BLOCKS.1));
                }
                "tsize" => request.wants_size = true,
                _ => {}
            }
        }
        Some(request)
    }

    /// What of its options is granted; none when there are none.
    pub fn options(&self, size: u64) -> Option<Vec<u8>> {
        let block = self.block.map(|block| format!("blksize\0{block}\0"));
        let size = self.wants_size.then(|| format!("tsize\0{size}\0"));
        let granted = [block, size].into_iter().flatten().collect::<String>();
        (!granted.is_empty()).then(|| [&OPTIONS.to_be_bytes()[..], granted.as_bytes()].concat())
    }
}

/// Sends the file: each block again until it is acknowledged.
fn send(
    socket: &UdpSocket,
    peer: SocketAddr,
    request: &Request,
    mut file: File,
    size: u64,
) -> io::Result<()> {
    socket.connect(peer)?;
    socket.set_read_timeout(Some(TIMEOUT))?;
    if let Some(options) = request.options(size) {
        exchange(socket, &options, 0)?;
    }
    let block = request.block.unwrap_or(BLOCK);
    let mut number = 0u16;
    loop {
        // Large files have more blocks than numbers; the count goes round.
        number = number.wrapping_add(1);
        let mut datagram = [DATA.to_be_bytes(), number.to_be_bytes()].concat();
        let read = file.by_ref().take(block as u64).read_to_end(&mut datagram)?;
        exchange(socket, &datagram, number)?;
        if read < block {
            return Ok(());
        }
    }
}

/// Sends `datagram` until `number` is acknowledged.
fn exchange(socket: &UdpSocket, datagram: &[u8], number: u16) -> io::Result<()> {
    let wanted = [ACKNOWLEDGEMENT.to_be_bytes(), number.to_be_bytes()].concat();
    let mut answer = [0; 512];
    for _ in 0..TRIES {
        socket.send(datagram)?;
        loop {
            match socket.recv(&mut answer) {
                Ok(length) if answer[..length].starts_with(&wanted) => return Ok(()),
                Ok(length) if answer[..length].starts_with(&ERROR.to_be_bytes()) => {
                    let text =
                        String::from_utf8_lossy(answer[..length].get(4..).unwrap_or_default()).into_owned();
                    return Err(io::Error::other(format!(
                        "the client reports: {}",
                        text.trim_end_matches('\0')
                    )));
                }
                // An acknowledgement of an earlier block that was sent twice: answering it would double everything.
                Ok(_) => {}
                Err(error)
                    if [io::ErrorKind::WouldBlock, io::ErrorKind::TimedOut].contains(&error.kind()) =>
                {
                    break;
                }
                Err(error) => return Err(error),
            }
        }
    }
    Err(io::ErrorKind::TimedOut.into())
}

fn error(code: u16, text: &str) -> Vec<u8> {
    [&ERROR.to_be_bytes()[..], &code.to_be_bytes(), text.as_bytes(), &[0]].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(words: &[&str]) -> Vec<u8> {
        let words: String = words.iter().map(|word| format!("{word}\0")).collect();
        [&READ_REQUEST.to_be_bytes()[..], words.as_bytes()].concat()
    }

    /// A server of one file `f` of `length` bytes; gives a client's socket and the server's address.
    fn served(dir: &Path, length: usize) -> (UdpSocket, SocketAddr) {
        let bytes: Vec<u8> = (0..length).map(|byte| (byte % 251) as u8).collect();
        std::fs::write(dir.join("f"), bytes).unwrap();
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        let folder: Arc<Path> = dir.canonicalize().unwrap().into();
        thread::spawn(move || serve(&socket, &Slots::default(), &folder));
        let client = UdpSocket::bind("127.0.0.1:0").unwrap();
        client.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        (client, address)
    }

    /// Takes a whole file; blocks come with `block` bytes.
    fn take(client: &UdpSocket, block: usize) -> Vec<u8> {
        let mut file = Vec::new();
        let mut datagram = [0; 2048];
        loop {
            let (length, peer) = client.recv_from(&mut datagram).unwrap();
            match datagram[1] {
                6 => {
                    client.send_to(&[0, 4, 0, 0], peer).unwrap();
                }
                3 => {
                    file.extend(&datagram[4..length]);
                    client.send_to(&[0, 4, datagram[2], datagram[3]], peer).unwrap();
                    if length - 4 < block {
                        return file;
                    }
                }
                other => panic!("unexpected {other}"),
            }
        }
    }

    #[test]
    fn a_file_comes_in_blocks_of_512_bytes_and_ends_with_a_short_one() {
        let dir = tempfile::tempdir().unwrap();
        let (client, server) = served(dir.path(), 1024);
        client.send_to(&request(&["f", "octet"]), server).unwrap();
        assert_eq!(take(&client, 512), std::fs::read(dir.path().join("f")).unwrap());
    }

    #[test]
    fn larger_blocks_and_the_size_are_granted_and_the_count_goes_round() {
        let dir = tempfile::tempdir().unwrap();
        let (client, server) = served(dir.path(), 8 * 65_540 + 3);
        client.send_to(&request(&["/f", "octet", "blksize", "8", "tsize", "0"]), server).unwrap();
        let mut answer = [0; 64];
        let (length, peer) = client.recv_from(&mut answer).unwrap();
        assert_eq!(answer[..length], *b"\0\x06blksize\x008\0tsize\x00524323\0");
        client.send_to(&[0, 4, 0, 0], peer).unwrap();
        assert_eq!(take(&client, 8).len(), 8 * 65_540 + 3);
    }

    #[test]
    fn writing_and_what_is_not_there_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let (client, server) = served(dir.path(), 1);
        let mut answer = [0; 64];
        client.send_to(&request(&["../f", "octet"]), server).unwrap();
        client.recv_from(&mut answer).unwrap();
        assert_eq!(answer[..4], [0, 5, 0, 1]);
        client.send_to(b"\0\x02f\0octet\0", server).unwrap();
        client.recv_from(&mut answer).unwrap();
        assert_eq!(answer[..4], [0, 5, 0, 4]);
    }
}
