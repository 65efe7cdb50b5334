//! What a file is: how it is packed, and which image format is in it.
//!
//! Why here: it is told by the first bytes. What people bring from other hypervisors is named and refused, since taken
//! for a raw image it would be a disk that no guest can boot. Route in: a stream. Route out: the stream unpacked, its
//! [`Format`]; a qcow2 image is looked at before `qemu-img` is, because it may name other files of the node.

use super::FillError;
use sheaf_host::disk::Disk;
use std::io::{self, Read};

/// So many first bytes tell what a file is: VDI's mark lies at byte 64.
const FIRST: usize = 512;
/// Memory that one xz stream may ask for, in KiB: `xz -9` needs 65 MiB to unpack. The header of a file may ask for 4 GiB.
const XZ_MEMORY_KIB: u32 = 128 << 10;
/// Largest window of zstd, as a power of two: 128 MiB, what `zstd --ultra --long=27` writes and RFC 8878 lets a decoder
/// refuse beyond.
const ZSTD_WINDOW_LOG: u32 = 27;

/// Length of the header of a qcow2 image, as far as it is looked at.
pub(crate) const QCOW2_HEAD: usize = 104;

/// What an image is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    /// The bytes of a disk.
    Raw,
    /// QEMU's format.
    Qcow2,
}

/// How a file is packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Packing {
    Xz,
    Zstd,
    Gzip,
}

/// How a file that begins with `first` is packed.
pub(super) fn packing(first: &[u8]) -> Option<Packing> {
    match first {
        [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Some(Packing::Xz),
        [0x28, 0xb5, 0x2f, 0xfd, ..] => Some(Packing::Zstd),
        [0x1f, 0x8b, 8, ..] => Some(Packing::Gzip),
        _ => None,
    }
}

/// What an unpacked file that begins with `first` is.
pub(crate) fn format(first: &[u8]) -> Result<Format, FillError> {
    let refuse = |what: &str| {
        Err(FillError::BadImage(format!(
            "the file is {what}; convert it, for example with qemu-img convert -O qcow2"
        )))
    };
    match first {
        [] => Err(FillError::BadImage("the file is empty".into())),
        [b'Q', b'F', b'I', 0xfb, ..] => Ok(Format::Qcow2),
        [b'K', b'D', b'M', b'V', ..] | [b'C', b'O', b'W', b'D', ..] => refuse("a VMDK image"),
        [b'v', b'h', b'd', b'x', b'f', b'i', b'l', b'e', ..] => refuse("a VHDX image"),
        [b'c', b'o', b'n', b'e', b'c', b't', b'i', b'x', ..] => refuse("a VHD image"),
        _ if first.get(64..68) == Some(&[0x7f, 0x10, 0xda, 0xbe]) => refuse("a VDI image"),
        _ if first.get(257..262) == Some(b"ustar") => {
            Err(FillError::BadImage("the file is a tar archive; give the image in it".into()))
        }
        [b'P', b'K', 3, 4, ..] => {
            Err(FillError::BadImage("the file is a zip archive; give the image in it".into()))
        }
        [b'B', b'Z', b'h', ..] => refuse("compressed with bzip2"),
        _ if packing(first).is_some() => Err(FillError::BadImage("the file is compressed twice".into())),
        _ => Ok(Format::Raw),
    }
}

/// A stream whose first bytes are known and still to be read.
pub(crate) struct Peeked<R> {
    first: Vec<u8>,
    at: usize,
    rest: R,
}

impl<R: Read> Peeked<R> {
    /// Looks at the first bytes of `rest`.
    pub(crate) fn new(mut rest: R) -> Result<Self, FillError> {
        let mut first = Vec::with_capacity(FIRST);
        (&mut rest).take(FIRST as u64).read_to_end(&mut first).map_err(unreadable)?;
        Ok(Self { first, at: 0, rest })
    }

    /// The first bytes.
    pub(crate) fn first(&self) -> &[u8] {
        &self.first
    }
}

impl<R: Read> Read for Peeked<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.at == self.first.len() {
            return self.rest.read(buffer);
        }
        let len = buffer.len().min(self.first.len() - self.at);
        buffer[..len].copy_from_slice(&self.first[self.at..self.at + len]);
        self.at += len;
        Ok(len)
    }
}

/// A stream that cannot be read: the packed data are damaged, or the network failed, which has its own error.
pub(super) fn unreadable(error: io::Error) -> FillError {
    FillError::BadImage(format!("the file cannot be decompressed: {error}"))
}

/// The stream in `packed`; several packed streams one after another are one.
pub(crate) fn unpack<'a, R: Read>(packed: &'a mut Peeked<R>) -> Result<Box<dyn Read + 'a>, FillError> {
    Ok(match packing(packed.first()) {
        None => Box::new(packed),
        Some(Packing::Gzip) => Box::new(flate2::read::MultiGzDecoder::new(packed)),
        Some(Packing::Zstd) => {
            let mut stream = zstd::Decoder::new(packed).map_err(unreadable)?;
            stream.window_log_max(ZSTD_WINDOW_LOG).map_err(unreadable)?;
            Box::new(stream)
        }
        Some(Packing::Xz) => Box::new(lzma_rust2::XzReader::new_mem_limit(packed, true, XZ_MEMORY_KIB)),
    })
}

/// Refuses a qcow2 image that leads elsewhere, that has a part elsewhere, or that the volume cannot hold.
///
/// `qemu-img` would open, as root, whatever file of the node such an image names.
pub(super) fn check_qcow2(disk: &dyn Disk, volume: u64) -> Result<(), FillError> {
    let mut head = [0; QCOW2_HEAD];
    disk.read_at(0, &mut head)?;
    check_qcow2_head(&head, volume)
}

/// [`check_qcow2`] of an image that begins with `head`.
pub(crate) fn check_qcow2_head(head: &[u8; QCOW2_HEAD], volume: u64) -> Result<(), FillError> {
    let word = |at: usize| u32::from_be_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
    let long = |at: usize| u64::from(word(at)) << 32 | u64::from(word(at + 4));
    let bad = |why: &str| Err(FillError::BadImage(format!("the qcow2 image {why}")));
    let (version, backing, bytes, crypt) = (word(4), long(8), long(24), word(32));
    // Dirty, corrupt: qemu-img repairs the first and refuses the second. Compression type, extended L2: it knows them.
    const DATA_FILE: u64 = 1 << 2;
    const KNOWN: u64 = 0b11011;
    match version {
        2 => {}
        3 if long(72) & DATA_FILE != 0 => {
            return bad("has an external data file; convert it into one file with qemu-img convert");
        }
        3 if long(72) & !KNOWN != 0 => {
            return bad("needs features that this version of Sheaf does not support");
        }
        3 => {}
        other => return bad(&format!("has version {other}; versions 2 and 3 are supported")),
    }
    if backing != 0 {
        return bad("has a backing file; convert it into one file with qemu-img convert");
    }
    if crypt != 0 {
        return bad("is encrypted; convert it first");
    }
    if bytes > volume {
        return Err(FillError::TooLarge { image: Some(bytes), volume });
    }
    Ok(())
}
