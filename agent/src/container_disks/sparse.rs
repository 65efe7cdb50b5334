//! Writes a disk into a file, with holes where it is zero.
//!
//! Route in: a stream. Route out: the file, as long as the stream.

use crate::volumes::fill::pour::is_zero;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;

/// What is zero is left out in blocks of this size: the usual block of a file system, many times.
const BLOCK: usize = 64 << 10;

/// Pours `stream` into the empty `file`, of which at most `most` bytes may be written. `is_over` ends it early.
pub fn pour(stream: &mut dyn Read, file: &File, most: u64, is_over: &dyn Fn() -> bool) -> io::Result<()> {
    let mut block = vec![0; BLOCK];
    let (mut at, mut written) = (0_u64, 0_u64);
    loop {
        let mut filled = 0;
        while filled < BLOCK {
            match stream.read(&mut block[filled..]) {
                Ok(0) => break,
                Ok(read) => filled += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        if filled == 0 {
            return file.set_len(at);
        }
        if is_over() {
            return Err(io::ErrorKind::Interrupted.into());
        }
        if !is_zero(&block[..filled]) {
            written += filled as u64;
            if written > most {
                return Err(io::Error::new(io::ErrorKind::StorageFull, "there is no room for it on /data"));
            }
            file.write_all_at(&block[..filled], at)?;
        }
        at += filled as u64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt;

    fn poured(bytes: &[u8], most: u64) -> io::Result<(Vec<u8>, u64)> {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        pour(&mut &*bytes, file.as_file(), most, &|| false)?;
        let mut read = Vec::new();
        file.read_to_end(&mut read).unwrap();
        Ok((read, file.as_file().metadata().unwrap().blocks() * 512))
    }

    #[test]
    fn what_is_zero_takes_no_room_and_is_read_as_zero() {
        let mut disk = vec![0; 10 * BLOCK + 7];
        disk[3 * BLOCK] = 1;
        let (read, room) = poured(&disk, BLOCK as u64).unwrap();
        assert!(read == disk && room <= 2 * BLOCK as u64, "{room}");
        assert_eq!(poured(&disk, 1).unwrap_err().kind(), io::ErrorKind::StorageFull);
        assert_eq!(poured(&[], 0).unwrap().0, Vec::<u8>::new());
    }
}
