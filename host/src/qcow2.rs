//! The size that a guest sees of a qcow2 image.
//!
//! Why here: images, disks and overlays are compared by it. QEMU's docs/interop/qcow2.rst: magic in bytes 0 to 3, virtual size
//! in bytes 24 to 31, big-endian. Route in: a file. Route out: bytes; nothing for what is no qcow2 image or cannot be read.

use std::io::Read;
use std::path::Path;

/// Virtual size in the header of a qcow2 file.
pub fn virtual_size(path: &Path) -> Option<u64> {
    let mut header = [0; 32];
    std::fs::File::open(path).ok()?.read_exact(&mut header).ok()?;
    let size = u64::from_be_bytes(header[24..32].try_into().ok()?);
    header.starts_with(b"QFI\xfb").then_some(size)
}
