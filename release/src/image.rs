//! Images of slots: from frames of a release to bytes on the disk, and back for comparison.
//!
//! Why a pipeline: one thread reads the frames in order; a few check, decode and write them, each at its own place,
//! so that reading, hashing, decoding and writing overlap and several writes are in flight.
//! Route in: an [`Image`]. Route out: its bytes on the disk, flushed; a frame is decoded only after its hash fits.

use crate::origin::Origin;
use crate::remote::is_page;
use sha2::{Digest, Sha256};
use sheaf_config::manifest::{Compressed, Frame};
use sheaf_host::disk::{ALIGNMENT, Buffer, Disk, DiskError};
use std::io::{self, Read};
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, sync_channel};

/// Bytes of one read when an image is read back: large enough to hide the latency of a disk.
const READ: usize = 4 << 20;
/// Fewest threads: a write in flight while another frame is decoded, also on one processor.
const THREADS: usize = 4;

/// An image that is decoded while it is written.
#[derive(Clone, Copy, Debug)]
pub struct Image<'a> {
    /// Its file in the release folder.
    pub file: &'a str,
    /// Length of that file in bytes.
    pub size: u64,
    /// Length on the disk in bytes.
    pub raw_size: u64,
    /// SHA-256 of what is on the disk, hex.
    pub raw_sha256: &'a str,
    /// Its frames.
    pub frames: &'a [Frame],
}

impl<'a> From<&'a Compressed> for Image<'a> {
    fn from(of: &'a Compressed) -> Self {
        let Compressed { file, size, raw_size, raw_sha256, frames } = of;
        Self { file, size: *size, raw_size: *raw_size, raw_sha256, frames }
    }
}

/// An image that did not come to the disk.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// Its file cannot be read.
    #[error("{file} cannot be read")]
    Read {
        /// Its name in the release folder.
        file: String,
        /// Why not.
        source: io::Error,
    },
    /// Its file is not what the manifest says.
    #[error("{file} does not match the manifest: {what}")]
    Differs {
        /// Its name in the release folder.
        file: String,
        /// What differs.
        what: String,
    },
    /// The disk gave back something else than was written.
    #[error("{}: {file} differs from what was written when it is read back", .disk.display())]
    ReadBack {
        /// The disk.
        disk: PathBuf,
        /// Which image.
        file: String,
    },
    /// The disk failed.
    #[error(transparent)]
    Disk(#[from] DiskError),
}

impl Image<'_> {
    pub(crate) fn unreadable(&self, source: io::Error) -> ImageError {
        let file = self.file.to_owned();
        match source.kind() {
            io::ErrorKind::InvalidData => ImageError::Differs { file, what: source.to_string() },
            _ => ImageError::Read { file, source },
        }
    }

    fn differs(&self, what: String) -> ImageError {
        ImageError::Differs { file: self.file.to_owned(), what }
    }
}

/// Called with the bytes that were done since the last call.
pub type Advance<'a> = dyn Fn(u64) + Sync + 'a;

/// A frame that was read, and where its contents belong.
struct Work<'p> {
    number: usize,
    frame: &'p Frame,
    raw_offset: u64,
    bytes: Vec<u8>,
}

/// Reads the first `frames` frames and hands each to `consume` on one of several threads; the first error ends it.
fn pipeline<S>(
    origin: &Origin<'_>,
    image: &Image<'_>,
    frames: usize,
    state: impl Fn() -> S + Sync,
    consume: impl Fn(&mut S, &Work<'_>) -> Result<(), ImageError> + Sync,
) -> Result<(), ImageError> {
    let threads = std::thread::available_parallelism().map_or(1, |n| n.get()).max(THREADS);
    let (sender, receiver) = sync_channel::<Work<'_>>(threads);
    let receiver = Mutex::new(receiver);
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads)
            .map(|_| {
                scope.spawn(|| {
                    let mut state = state();
                    while let Some(work) = next(&receiver) {
                        if let Err(error) = consume(&mut state, &work) {
                            drain(&receiver);
                            return Err(error);
                        }
                    }
                    Ok(())
                })
            })
            .collect();
        let read = read_frames(origin, image, frames, |work| sender.send(work).is_ok());
        drop(sender);
        let mut result = read;
        for worker in workers {
            let done = worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            // What a thread found wrong with a frame says more than that reading stopped for it.
            result = done.and(result);
        }
        result
    })
}

fn next<'p>(receiver: &Mutex<Receiver<Work<'p>>>) -> Option<Work<'p>> {
    receiver.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).recv().ok()
}

/// Takes what is still on its way, so that the reader is not left waiting for someone to take it.
fn drain(receiver: &Mutex<Receiver<Work<'_>>>) {
    while next(receiver).is_some() {}
}

fn read_frames<'p>(
    origin: &Origin<'_>,
    image: &Image<'p>,
    frames: usize,
    mut take: impl FnMut(Work<'p>) -> bool,
) -> Result<(), ImageError> {
    let fail = |source| image.unreadable(source);
    let mut file = origin.open(image.file, image.size, 0).map_err(fail)?;
    let mut raw_offset = 0;
    for (number, frame) in image.frames.iter().enumerate().take(frames) {
        let mut bytes = vec![0; frame.size as usize];
        file.read_exact(&mut bytes).map_err(fail)?;
        if !take(Work { number, frame, raw_offset, bytes }) {
            break;
        }
        raw_offset += frame.raw_size;
    }
    Ok(())
}

/// Compares the bytes of frame `number` with the manifest.
pub(crate) fn check_hash(
    image: &Image<'_>,
    number: usize,
    frame: &Frame,
    bytes: &[u8],
) -> Result<(), ImageError> {
    match hex::encode(Sha256::digest(bytes)) == frame.sha256.to_lowercase() {
        true => Ok(()),
        false => {
            let place = format!("frame {} of {}", number + 1, image.frames.len());
            let page = if number == 0 && is_page(bytes) { " (it looks like a web page)" } else { "" };
            Err(image.differs(format!("{place} does not have the hash in the manifest{page}")))
        }
    }
}

/// Checks every frame against the manifest, of a server's image only the first; decodes and writes nothing.
pub fn check(origin: &Origin<'_>, image: &Image<'_>, advance: &Advance<'_>) -> Result<(), ImageError> {
    let consume = |_: &mut (), work: &Work<'_>| {
        check_hash(image, work.number, work.frame, &work.bytes)?;
        advance(work.frame.size);
        Ok(())
    };
    let frames = if origin.is_remote() { 1 } else { usize::MAX };
    pipeline(origin, image, frames, || (), consume)
}

/// What one thread needs to decode.
pub(crate) struct Decoder {
    zstd: io::Result<zstd::bulk::Decompressor<'static>>,
    buffer: Buffer,
}

impl Decoder {
    /// One for the frames of `image`.
    pub(crate) fn of(image: &Image<'_>) -> Self {
        let largest = image.frames.iter().map(|frame| frame.raw_size).max().unwrap_or(0) as usize;
        let buffer = Buffer::zeroed(largest.next_multiple_of(ALIGNMENT));
        Self { zstd: zstd::bulk::Decompressor::new(), buffer }
    }

    /// The contents of a frame whose hash fits. Only the last frame can end within a page; zeros fill the page.
    pub(crate) fn decode(
        &mut self,
        image: &Image<'_>,
        number: usize,
        frame: &Frame,
        bytes: &[u8],
    ) -> Result<&[u8], ImageError> {
        let raw_size = frame.raw_size as usize;
        let undecodable =
            |what: String| image.differs(format!("frame {} of {} {what}", number + 1, image.frames.len()));
        let zstd =
            self.zstd.as_mut().map_err(|error| undecodable(format!("does not fit into memory: {error}")))?;
        let decoded = zstd
            .decompress_to_buffer(bytes, &mut self.buffer[..raw_size])
            .map_err(|error| undecodable(format!("cannot be decoded: {error}")))?;
        if decoded != raw_size {
            return Err(undecodable(format!("has {decoded} bytes, the manifest says {raw_size}")));
        }
        let padded = raw_size.next_multiple_of(ALIGNMENT);
        self.buffer[raw_size..padded].fill(0);
        Ok(&self.buffer[..padded])
    }
}

/// Writes the image at `offset`, each frame checked again before it is decoded, and flushes the disk.
pub fn write(
    origin: &Origin<'_>,
    image: &Image<'_>,
    disk: &dyn Disk,
    offset: u64,
    advance: &Advance<'_>,
) -> Result<(), ImageError> {
    let consume = |decoder: &mut Decoder, work: &Work<'_>| {
        check_hash(image, work.number, work.frame, &work.bytes)?;
        let contents = decoder.decode(image, work.number, work.frame, &work.bytes)?;
        disk.write_at(offset + work.raw_offset, contents)?;
        advance(work.frame.raw_size);
        Ok(())
    };
    pipeline(origin, image, usize::MAX, || Decoder::of(image), consume)?;
    Ok(disk.sync()?)
}

/// Reads the image back from the disk and compares its hash; one thread reads while this one hashes.
pub fn verify(
    image: &Image<'_>,
    disk: &dyn Disk,
    offset: u64,
    advance: &Advance<'_>,
) -> Result<(), ImageError> {
    let (filled, full) = sync_channel::<(Buffer, usize)>(2);
    let (returned, empty) = sync_channel::<Buffer>(2);
    let raw_size = image.raw_size;
    let hash = std::thread::scope(|scope| {
        let reader = scope.spawn(move || {
            let mut done = 0;
            while done < raw_size {
                let mut buffer = empty.try_recv().unwrap_or_else(|_| Buffer::zeroed(READ));
                let length = (raw_size - done).min(READ as u64) as usize;
                disk.read_at(offset + done, &mut buffer[..length.next_multiple_of(ALIGNMENT)])?;
                if filled.send((buffer, length)).is_err() {
                    break;
                }
                done += length as u64;
            }
            Ok::<(), ImageError>(())
        });
        let mut hash = Sha256::new();
        for (buffer, length) in full {
            hash.update(&buffer[..length]);
            advance(length as u64);
            let _ = returned.try_send(buffer);
        }
        reader
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
            .map(|()| hex::encode(hash.finalize()))
    })?;
    match hash == image.raw_sha256.to_lowercase() {
        true => Ok(()),
        false => Err(ImageError::ReadBack { disk: disk.path().to_owned(), file: image.file.to_owned() }),
    }
}
