//! Whatever the network sends, the parsers of HTTP and TFTP neither panic nor let anything out of the folder.
//!
//! Route in: requests as clients send them, changed at random. Route out: [`sheaf_fuzz`].

use super::http::{self, Parsed, Part};
use super::{find, tftp};
use sheaf_config::handover::Introduction;
use sheaf_fuzz::{Random, fuzz};
use std::path::Path;

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

fn change(random: &mut Random, bytes: &mut Vec<u8>) {
    for _ in 0..=random.below(6) {
        let at = random.below(bytes.len() + 1);
        match random.below(4) {
            0 if at < bytes.len() => bytes[at] = random.byte(),
            1 if at < bytes.len() => drop(bytes.drain(at..(at + random.below(8)).min(bytes.len()))),
            2 => bytes.truncate(at),
            _ => drop(bytes.splice(at..at, random.of(&WORDS).iter().copied())),
        }
    }
}

/// Parses `bytes` both ways and holds what comes of them against what is promised; whether they are a request.
fn check(folder: &Path, bytes: &[u8]) -> bool {
    let mut is_request = false;
    let stays_inside = |path: &str| {
        if let Some((_, length)) = find(folder, path) {
            assert_eq!(length, 6, "{path} led out of the folder");
        }
    };
    if let Parsed::Whole(request, length) = http::Request::parse(bytes) {
        assert!(length <= bytes.len());
        is_request = true;
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
        is_request = true;
    }
    is_request
}

#[test]
fn whatever_is_sent_neither_panics_nor_leaves_the_folder() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("served");
    std::fs::create_dir_all(folder.join("sheaf")).unwrap();
    std::fs::write(folder.join("sheaf/root.erofs.zst"), "inside").unwrap();
    std::fs::write(dir.path().join("secret"), "outside the folder").unwrap();
    let folder = folder.canonicalize().unwrap();
    fuzz("requests to sheaf serve and pxe", |random| {
        let all = HTTP.len() + TFTP.len();
        let mut bytes = match random.below(all) {
            n if n < HTTP.len() => HTTP[n].as_bytes().to_vec(),
            n => TFTP[n - HTTP.len()].to_vec(),
        };
        change(random, &mut bytes);
        check(&folder, &bytes)
    });
}
