//! SPDY/3.1, as far as `kubectl port-forward` speaks it inside a WebSocket.
//!
//! Why here: Kubernetes forwards ports of Pods by streams of SPDY, and no crate speaks it. Frames and header blocks are those
//! of draft-mbelshe-httpbis-spdy-00; neither kubectl's side nor kube-apiserver has flow control, so there is none here. Pure.
//! Route in: bytes. Route out: [`Frame`]s, and frames as bytes.

mod headers;

pub use headers::{Headers, Inflater, empty};

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};

/// Longest frame that is read, in bytes: kubectl copies by 32 KiB.
const MOST_FRAME: usize = 1 << 20;
/// Bytes before what a frame holds.
const HEAD: usize = 8;
/// Bit that makes a frame a control frame; the version follows it.
const CONTROL: u16 = 0x8003;
/// Flag: nothing follows on this stream.
const FIN: u8 = 1;

const SYN_STREAM: u16 = 1;
const SYN_REPLY: u16 = 2;
const RST_STREAM: u16 = 3;
const PING: u16 = 6;
const GOAWAY: u16 = 7;

/// RST_STREAM: the stream breaks a rule.
pub const PROTOCOL_ERROR: u32 = 1;
/// RST_STREAM: there are too many.
pub const REFUSED_STREAM: u32 = 3;

/// What the peer sends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame {
    /// It opens a stream; its header block is to be inflated.
    Open {
        /// Number of the stream.
        stream: u32,
        /// Packed.
        headers: Bytes,
    },
    /// Bytes of a stream.
    Data {
        /// Number of the stream.
        stream: u32,
        /// The bytes.
        bytes: Bytes,
        /// Nothing follows.
        is_last: bool,
    },
    /// It gives a stream up.
    Reset {
        /// Number of the stream.
        stream: u32,
    },
    /// To be sent back.
    Ping {
        /// Its number.
        id: u32,
    },
    /// It opens no more streams.
    GoAway,
    /// Means nothing here: settings, windows.
    Other,
}

/// Bytes that are no SPDY.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SpdyError {
    /// A frame is too long.
    #[error("a frame of {0} bytes is too long")]
    TooLong(usize),
    /// A frame is cut off, or of another version.
    #[error("a frame is not one of SPDY/3")]
    Malformed,
    /// A header block cannot be read.
    #[error("a header block cannot be read")]
    Headers,
}

/// The next frame in `buffer`, which is taken off it; nothing if more bytes are needed.
pub fn take(buffer: &mut BytesMut) -> Result<Option<Frame>, SpdyError> {
    let Some(&[first, second, third, fourth, flags, a, b, c]) = buffer.first_chunk::<HEAD>() else {
        return Ok(None);
    };
    let length = usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c);
    if length > MOST_FRAME {
        return Err(SpdyError::TooLong(length));
    }
    if buffer.len() < HEAD + length {
        return Ok(None);
    }
    let mut held = buffer.split_to(HEAD + length).freeze();
    held.advance(HEAD);
    if first & 0x80 == 0 {
        let stream = u32::from_be_bytes([first, second, third, fourth]);
        return Ok(Some(Frame::Data { stream, bytes: held, is_last: flags & FIN != 0 }));
    }
    if u16::from_be_bytes([first, second]) != CONTROL {
        return Err(SpdyError::Malformed);
    }
    control(u16::from_be_bytes([third, fourth]), held).map(Some)
}

fn control(kind: u16, mut held: Bytes) -> Result<Frame, SpdyError> {
    let mut number = || held.try_get_u32().map_err(|_| SpdyError::Malformed);
    let frame = match kind {
        SYN_STREAM => {
            let stream = number()?;
            // The stream that it belongs to, its priority.
            number()?;
            held.try_get_u16().map_err(|_| SpdyError::Malformed)?;
            Frame::Open { stream, headers: held }
        }
        RST_STREAM => Frame::Reset { stream: number()? },
        PING => Frame::Ping { id: number()? },
        GOAWAY => Frame::GoAway,
        _ => Frame::Other,
    };
    Ok(frame)
}

fn control_frame(kind: u16, held: &[u8]) -> Bytes {
    let mut frame = BytesMut::with_capacity(HEAD + held.len());
    frame.put_u16(CONTROL);
    frame.put_u16(kind);
    // No flags; what we send is far shorter than 16 MiB.
    frame.put_u32(held.len() as u32);
    frame.put_slice(held);
    frame.freeze()
}

/// Bytes of `stream`; the last ones if nothing follows.
pub fn data(stream: u32, bytes: &[u8], is_last: bool) -> Bytes {
    let mut frame = BytesMut::with_capacity(HEAD + bytes.len());
    frame.put_u32(stream);
    frame.put_u32((bytes.len() as u32) | u32::from(if is_last { FIN } else { 0 }) << 24);
    frame.put_slice(bytes);
    frame.freeze()
}

/// Takes `stream`; `headers` is an empty block of [`Headers`].
pub fn reply(stream: u32, headers: &[u8]) -> Bytes {
    control_frame(SYN_REPLY, &[&stream.to_be_bytes(), headers].concat())
}

/// Gives `stream` up.
pub fn reset(stream: u32, status: u32) -> Bytes {
    control_frame(RST_STREAM, &[stream.to_be_bytes(), status.to_be_bytes()].concat())
}

/// Answers a ping.
pub fn pong(id: u32) -> Bytes {
    control_frame(PING, &id.to_be_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn frames_are_read_however_they_are_cut_and_the_rest_is_kept() {
        let all = [data(3, b"GET /", false).as_ref(), &pong(7), &data(3, b"", true), b"\0\0"].concat();
        let mut buffer = BytesMut::new();
        let mut seen = Vec::new();
        for byte in all {
            buffer.put_u8(byte);
            seen.extend(take(&mut buffer).unwrap());
        }
        let bytes = |text: &'static [u8]| Bytes::from_static(text);
        assert_eq!(
            seen,
            [
                Frame::Data { stream: 3, bytes: bytes(b"GET /"), is_last: false },
                Frame::Ping { id: 7 },
                Frame::Data { stream: 3, bytes: bytes(b""), is_last: true },
            ]
        );
        assert_eq!(buffer.len(), 2);
    }

    #[test]
    fn what_is_too_long_or_of_another_version_ends_the_connection() {
        let take = |bytes: &[u8]| take(&mut BytesMut::from(bytes));
        assert_eq!(take(b"\0\0\0\x01\0\x10\0\x01"), Err(SpdyError::TooLong((1 << 20) + 1)));
        assert_eq!(take(b"\x80\x02\0\x06\0\0\0\x04\0\0\0\x01"), Err(SpdyError::Malformed));
        assert_eq!(take(b"\x80\x03\0\x06\0\0\0\x01\0"), Err(SpdyError::Malformed));
    }

    proptest! {
        #[test]
        fn no_bytes_of_a_peer_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let mut buffer = BytesMut::from(bytes.as_slice());
            let mut inflater = Inflater::default();
            while let Ok(Some(frame)) = take(&mut buffer) {
                if let Frame::Open { headers, .. } = frame {
                    let _ = inflater.headers(&headers);
                }
            }
            let _ = inflater.headers(&bytes);
        }
    }
}
