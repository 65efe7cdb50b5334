//! Whatever the network sends, the parsers of HTTP and TFTP neither panic nor let anything out of the folder.
//!
//! Route in: requests as clients send them, changed at random. Route out: the first that breaks this, with the seed. A
//! second in `cargo test`; `scripts/fuzz MINUTES` runs it for longer.

use super::http::{self, Parsed, Part};
use super::{find, tftp};
use sheaf_config::handover::Introduction;
use std::path::Path;
use std::time::{Duration, Instant};

/// Requests to start from.
const HTTP: [&str; 5] = [
    "GET /sheaf/root.erofs.zst HTTP/1.1\r\nHost: a\r\nRange: bytes=10-20\r\n\r\n",
    "HEAD http://host:8080/a%20b?x#y HTTP/1.0\r\nConnection: close\r\n\r\n",
    "GET /../../etc/%2e%2e/passwd HTTP/1.1\r\n\r\n",
    "PUT /a HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello",
    "GET /node.toml HTTP/1.1\r\nSheaf-Installer: eyJib290IjoiYiIsIm1hY2hpbmUiOnt9fQ\r\n\r\n",
];
const TFTP: [&[u8]; 3] = [
    b"\0\x01sheaf.efi\0octet\0blksize\x001468\0tsize\x000\0",
    b"\0\x01../../etc/passwd\0octet\0",
    b"\0\x02file\0netascii\0",
];
/// What requests are made of.
const WORDS: [&[u8]; 14] = [
    b"\r\n",
    b"\r\n\r\n",
    b"%2e%2e/",
    b"%00",
    b"%",
    b"/",
    b"\0",
    b"bytes=",
    b"18446744073709551615",
    b"-",
    b":",
    b" HTTP/1.1",
    b"Range: ",
    b"\xff\xfe",
];

/// xorshift64*: the same again from the same seed.
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 16) as usize % end.max(1)
    }

    fn change(&mut self, bytes: &mut Vec<u8>) {
        for _ in 0..=self.below(6) {
            let at = self.below(bytes.len() + 1);
            match self.below(4) {
                0 if at < bytes.len() => bytes[at] = self.below(256) as u8,
                1 if at < bytes.len() => drop(bytes.drain(at..(at + self.below(8)).min(bytes.len()))),
                2 => bytes.truncate(at),
                _ => drop(bytes.splice(at..at, WORDS[self.below(WORDS.len())].iter().copied())),
            }
        }
    }
}

/// Parses `bytes` both ways and holds what comes of them against what is promised.
fn check(folder: &Path, bytes: &[u8]) {
    let stays_inside = |path: &str| {
        if let Some((_, length)) = find(folder, path) {
            assert_eq!(length, 6, "{path} led out of the folder");
        }
    };
    if let Parsed::Whole(request, length) = http::Request::parse(bytes) {
        assert!(length <= bytes.len());
        stays_inside(&request.path);
        let _ = request.introduction.as_deref().map(Introduction::decode);
    }
    let text = String::from_utf8_lossy(bytes);
    for length in [0, 1, 10, u64::MAX] {
        if let Part::Bytes(first, last) = http::part(&text, length) {
            assert!(first <= last && last < length, "{text}: {first}-{last} of {length}");
        }
    }
    if let Some(request) = tftp::Request::parse(bytes) {
        stays_inside(&request.path);
        let _ = request.options(u64::MAX);
    }
}

#[test]
fn whatever_is_sent_neither_panics_nor_leaves_the_folder() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("served");
    std::fs::create_dir_all(folder.join("sheaf")).unwrap();
    std::fs::write(folder.join("sheaf/root.erofs.zst"), "inside").unwrap();
    std::fs::write(dir.path().join("secret"), "outside the folder").unwrap();
    let folder = folder.canonicalize().unwrap();
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let seed = number("SHEAF_FUZZ_SEED").unwrap_or(0x5eaf);
    let end = Instant::now() + Duration::from_secs(number("SHEAF_FUZZ_SECONDS").unwrap_or(1));
    let mut random = Random(seed.max(1));
    let mut requests = 0u64;
    while Instant::now() < end {
        let all = HTTP.len() + TFTP.len();
        let mut bytes = match random.below(all) {
            n if n < HTTP.len() => HTTP[n].as_bytes().to_vec(),
            n => TFTP[n - HTTP.len()].to_vec(),
        };
        random.change(&mut bytes);
        let checked = std::panic::catch_unwind(|| check(&folder, &bytes));
        assert!(checked.is_ok(), "seed {seed}, request {requests}: {:?}", String::from_utf8_lossy(&bytes));
        requests += 1;
    }
    println!("{requests} requests from seed {seed}");
}
