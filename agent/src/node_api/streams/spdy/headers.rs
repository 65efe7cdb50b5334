//! Header blocks: pairs of names and values, packed by one zlib stream for the whole connection.
//!
//! Why here: both streams begin with the dictionary of the specification (§2.6.10.1; `dictionary.bin`). The inflater that the
//! agent has anyway takes no dictionary; what it has unpacked before does the same, so the dictionary is given to it first,
//! as a block that is not packed. Nothing is packed on the way out, for our only block is empty. Route in: a block.
//! Route out: its pairs.

use super::SpdyError;
use bytes::{Buf as _, BufMut as _};
use flate2::{Decompress, FlushDecompress, Status};
use std::collections::BTreeMap;

/// The names and values that a stream begins with, of SPDY/3.
const DICTIONARY: &[u8; 1423] = include_bytes!("dictionary.bin");
/// What a zlib stream with that dictionary begins with (RFC 1950): two bytes, of which the flag of a dictionary is one, and
/// the Adler-32 of the dictionary.
const BEGIN: [u8; 6] = [0x78, 0xbb, 0xe3, 0xc6, 0xa7, 0xc2];
/// Longest block when it is unpacked, in bytes.
const MOST_BLOCK: usize = 16 << 10;

/// Pairs of a block, names in lower case.
pub type Headers = BTreeMap<String, String>;

/// `bytes` as a block of deflate that is not packed and not the last (RFC 1951, §3.2.4).
fn stored(bytes: &[u8]) -> Vec<u8> {
    let length = bytes.len() as u16;
    let mut block = vec![0];
    block.put_u16_le(length);
    block.put_u16_le(!length);
    block.put_slice(bytes);
    block
}

/// An empty block, `is_first` on its connection or not.
///
/// An empty block of deflate follows the pairs, as zlib's flush writes it: Go's inflater (kubectl, kube-apiserver) gives what it has
/// unpacked at that, and otherwise reads on to the end of the frame, which it takes for the end of the connection's stream.
pub fn empty(is_first: bool) -> Vec<u8> {
    let begin: &[u8] = if is_first { &BEGIN } else { &[] };
    [begin, &stored(&0_u32.to_be_bytes()), &stored(&[])].concat()
}

/// The stream of blocks of one peer.
pub struct Inflater {
    stream: Decompress,
    has_begun: bool,
}

impl Default for Inflater {
    fn default() -> Self {
        Self { stream: Decompress::new(false), has_begun: false }
    }
}

impl Inflater {
    /// The pairs of the next block.
    pub fn headers(&mut self, block: &[u8]) -> Result<Headers, SpdyError> {
        let mut packed = block;
        if !self.has_begun {
            let (begin, rest) = block.split_first_chunk::<6>().ok_or(SpdyError::Headers)?;
            if begin[0] & 0x0f != 8 || begin[1] & 0x20 == 0 || begin[2..] != BEGIN[2..] {
                return Err(SpdyError::Headers);
            }
            self.inflate(&stored(DICTIONARY))?;
            self.has_begun = true;
            packed = rest;
        }
        pairs(&self.inflate(packed)?)
    }

    fn inflate(&mut self, mut packed: &[u8]) -> Result<Vec<u8>, SpdyError> {
        let mut unpacked = Vec::with_capacity(MOST_BLOCK);
        loop {
            let before = self.stream.total_in();
            let status = self.stream.decompress_vec(packed, &mut unpacked, FlushDecompress::Sync);
            let status = status.map_err(|_| SpdyError::Headers)?;
            let taken = usize::try_from(self.stream.total_in() - before).unwrap_or_default();
            packed = packed.get(taken..).unwrap_or_default();
            if packed.is_empty() {
                return Ok(unpacked);
            }
            // Nothing was taken, the stream ended, or there is no room for more.
            if taken == 0 || status == Status::StreamEnd || unpacked.len() == unpacked.capacity() {
                return Err(SpdyError::Headers);
            }
        }
    }
}

fn pairs(mut block: &[u8]) -> Result<Headers, SpdyError> {
    let count = block.try_get_u32().map_err(|_| SpdyError::Headers)?;
    let mut text = || {
        let length = block.try_get_u32().ok().and_then(|length| usize::try_from(length).ok());
        let (text, rest) =
            block.split_at_checked(length.ok_or(SpdyError::Headers)?).ok_or(SpdyError::Headers)?;
        block = rest;
        String::from_utf8(text.to_vec()).map_err(|_| SpdyError::Headers)
    };
    // A pair has eight bytes at least, so a count that lies ends at the end of the block.
    (0..count).map(|_| Ok((text()?.to_ascii_lowercase(), text()?))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Written by moby/spdystream 0.5.1, which kubectl is built with: streamtype, port and requestid of two streams.
    const FIRST: &str = "78f9e3c6a7c202253a703a2b294a4dcc851625aca9a0808614cb45a024cc6464c4c0c0c0590489c44c50e2663400000000ffff";
    const SECOND: &str = "c2aa15540a2512d209000000ffff";

    fn hex(text: &str) -> Vec<u8> {
        hex::decode(text).unwrap()
    }

    #[test]
    fn blocks_that_kubectl_packs_are_read_one_after_the_other() {
        let mut inflater = Inflater::default();
        let of = |kind: &str| -> Headers {
            [("streamtype", kind), ("port", "22"), ("requestid", "0")]
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .into()
        };
        assert_eq!(inflater.headers(&hex(FIRST)), Ok(of("error")));
        assert_eq!(inflater.headers(&hex(SECOND)), Ok(of("data")));
        // The second does not stand alone.
        assert_eq!(Inflater::default().headers(&hex(SECOND)), Err(SpdyError::Headers));
    }

    #[test]
    fn our_empty_block_is_one_that_every_inflater_reads() {
        let mut inflater = Inflater::default();
        assert_eq!(inflater.headers(&empty(true)), Ok(Headers::new()));
        assert_eq!(inflater.headers(&empty(false)), Ok(Headers::new()));
        assert!(empty(false).ends_with(b"\0\0\xff\xff"), "flushed: Go's inflater asks for it");
        // RFC 1950: the first two bytes are a multiple of 31.
        assert_eq!(u16::from_be_bytes([BEGIN[0], BEGIN[1]]) % 31, 0);
    }

    #[test]
    fn a_small_block_that_unpacks_to_a_large_one_is_refused() {
        let mut bomb = hex(&FIRST[..12]);
        let mut packed = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::best());
        std::io::Write::write_all(&mut packed, &vec![0; 1 << 20]).unwrap();
        bomb.extend(packed.finish().unwrap());
        assert_eq!(Inflater::default().headers(&bomb), Err(SpdyError::Headers));
    }
}
