//! Archives in the "newc" format: what Linux unpacks as its first file system. Pure.

/// An archive being written. Everything in it belongs to root and has time 0.
#[derive(Default)]
pub(super) struct Cpio {
    bytes: Vec<u8>,
    inode: u32,
}

const FILE: u32 = 0o100_000;
const FOLDER: u32 = 0o040_000;
const LINK: u32 = 0o120_000;

impl Cpio {
    pub(super) fn file(&mut self, path: &str, mode: u32, contents: &[u8]) {
        self.entry(path, FILE | mode, contents);
    }

    pub(super) fn folder(&mut self, path: &str) {
        self.entry(path, FOLDER | 0o755, &[]);
    }

    pub(super) fn link(&mut self, path: &str, target: &str) {
        self.entry(path, LINK | 0o777, target.as_bytes());
    }

    pub(super) fn finish(mut self) -> Vec<u8> {
        self.inode = 0;
        self.entry("TRAILER!!!", 0, &[]);
        self.bytes
    }

    /// Fields of the header: inode, mode, uid, gid, links, time, size, device ×2, special device ×2, name size, check.
    fn entry(&mut self, path: &str, mode: u32, contents: &[u8]) {
        self.inode += 1;
        let (size, name) = (contents.len(), path.len() + 1);
        let fields = [self.inode, mode, 0, 0, 1, 0, size as u32, 0, 0, 0, 0, name as u32, 0];
        self.bytes.extend_from_slice(b"070701");
        for field in fields {
            self.bytes.extend_from_slice(format!("{field:08x}").as_bytes());
        }
        self.bytes.extend_from_slice(path.as_bytes());
        self.bytes.push(0);
        self.pad();
        self.bytes.extend_from_slice(contents);
        self.pad();
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_begin_at_multiples_of_four_and_the_trailer_ends_them() {
        let mut cpio = Cpio::default();
        cpio.folder("etc");
        cpio.file("etc/rc", 0o755, b"#!/bin/sh\n");
        cpio.link("bin", "usr/bin");
        let bytes = cpio.finish();
        assert_eq!(bytes.len() % 4, 0);
        let starts = bytes.windows(6).enumerate().filter(|(_, w)| w == b"070701").map(|(at, _)| at);
        assert!(starts.clone().all(|at| at % 4 == 0));
        assert_eq!(starts.count(), 4);
        assert!(bytes.windows(10).any(|w| w == b"TRAILER!!!"));
    }
}
