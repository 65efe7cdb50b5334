//! Slot images: from frames on the medium to bytes on the disk, and back for comparison.
//!
//! Why a pipeline: one thread reads the medium in order; a few check, decode and write frames, each at its own place,
//! so that reading, hashing, decoding and writing overlap and several writes are in flight.
//! Route in: a [`Payload`]. Route out: its bytes on the disk, flushed; a frame is decoded only after its hash fits.

use super::{Env, StepError};
use crate::plan::Payload;
use sha2::{Digest, Sha256};
use sheaf_config::manifest::Frame;
use sheaf_host::disk::{ALIGNMENT, Buffer, Hold};
use std::fs::File;
use std::io::Read;
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, sync_channel};

/// Bytes of one read when an image is read back: large enough to hide the latency of a disk.
const READ: usize = 4 << 20;
/// Fewest threads: a write in flight while another frame is decoded, also on one processor.
const THREADS: usize = 4;

/// A frame that was read, and where its contents belong.
struct Work<'p> {
    number: usize,
    frame: &'p Frame,
    raw_offset: u64,
    bytes: Vec<u8>,
}

/// Reads the first `frames` frames and hands each to `consume` on one of several threads; the first error ends it.
fn pipeline<S>(
    env: &Env<'_>,
    payload: &Payload,
    frames: usize,
    state: impl Fn() -> S + Sync,
    consume: impl Fn(&mut S, &Work<'_>) -> Result<(), StepError> + Sync,
) -> Result<(), StepError> {
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
        let read = read_frames(env, payload, frames, |work| sender.send(work).is_ok());
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
    env: &Env<'_>,
    payload: &'p Payload,
    frames: usize,
    mut take: impl FnMut(Work<'p>) -> bool,
) -> Result<(), StepError> {
    let fail = |source| env.unreadable(&payload.file, source);
    let mut file: Box<dyn Read + '_> = match env.remote {
        Some(remote) => Box::new(remote.open(&payload.file, Some(payload.size))),
        None => {
            let file = File::open(env.medium.join(&payload.file)).map_err(fail)?;
            let length = file.metadata().map_err(fail)?.len();
            if length != payload.size {
                let what = format!("it has {length} bytes, the manifest says {}", payload.size);
                return Err(env.damaged(&payload.file, what));
            }
            Box::new(file)
        }
    };
    let mut raw_offset = 0;
    for (number, frame) in payload.frames.iter().enumerate().take(frames) {
        let mut bytes = vec![0; frame.size as usize];
        file.read_exact(&mut bytes).map_err(fail)?;
        if !take(Work { number, frame, raw_offset, bytes }) {
            break;
        }
        raw_offset += frame.raw_size;
    }
    Ok(())
}

fn check_hash(env: &Env<'_>, payload: &Payload, work: &Work<'_>) -> Result<(), StepError> {
    match hex::encode(Sha256::digest(&work.bytes)) == work.frame.sha256.to_lowercase() {
        true => Ok(()),
        false => {
            let place = format!("frame {} of {}", work.number + 1, payload.frames.len());
            let page = work.number == 0 && work.bytes.trim_ascii_start().first() == Some(&b'<');
            let page = if page { " (it looks like a web page)" } else { "" };
            let what = format!("{place} does not have the hash in the manifest{page}");
            Err(env.damaged(&payload.file, what))
        }
    }
}

/// Checks every frame against the manifest, of a server's image only the first; decodes and writes nothing.
pub(super) fn check(env: &Env<'_>, payload: &Payload) -> Result<(), StepError> {
    let consume = |_: &mut (), work: &Work<'_>| {
        check_hash(env, payload, work)?;
        env.progress.advance(work.frame.size);
        Ok(())
    };
    let frames = if env.remote.is_some() { 1 } else { usize::MAX };
    pipeline(env, payload, frames, || (), consume)
}

/// What one thread needs to decode.
struct Decoder {
    zstd: std::io::Result<zstd::bulk::Decompressor<'static>>,
    buffer: Buffer,
}

/// Writes the image at `offset`, each frame checked again before it is decoded.
pub(super) fn write(env: &Env<'_>, payload: &Payload, offset: u64) -> Result<(), StepError> {
    env.disk.hold(Hold::Alone)?;
    env.progress.expect(payload.raw_size);
    let largest = payload.frames.iter().map(|frame| frame.raw_size).max().unwrap_or(0) as usize;
    let decoder = || Decoder {
        zstd: zstd::bulk::Decompressor::new(),
        buffer: Buffer::zeroed(largest.next_multiple_of(ALIGNMENT)),
    };
    let consume = |decoder: &mut Decoder, work: &Work<'_>| {
        check_hash(env, payload, work)?;
        let raw_size = work.frame.raw_size as usize;
        let undecodable = |what: String| {
            let place = format!("frame {} of {} {what}", work.number + 1, payload.frames.len());
            env.damaged(&payload.file, place)
        };
        let zstd = decoder
            .zstd
            .as_mut()
            .map_err(|error| undecodable(format!("does not fit into memory: {error}")))?;
        let decoded = zstd
            .decompress_to_buffer(&work.bytes, &mut decoder.buffer[..raw_size])
            .map_err(|error| undecodable(format!("cannot be decoded: {error}")))?;
        if decoded != raw_size {
            return Err(undecodable(format!("has {decoded} bytes, the manifest says {raw_size}")));
        }
        // Only the last frame can end within a page; zeros fill the page.
        let padded = raw_size.next_multiple_of(ALIGNMENT);
        decoder.buffer[raw_size..padded].fill(0);
        env.disk.write_at(offset + work.raw_offset, &decoder.buffer[..padded])?;
        env.progress.advance(work.frame.raw_size);
        Ok(())
    };
    pipeline(env, payload, usize::MAX, decoder, consume)?;
    Ok(env.disk.sync()?)
}

/// Reads the image back from the disk and compares its hash; one thread reads while this one hashes.
pub(super) fn verify(env: &Env<'_>, payload: &Payload, offset: u64) -> Result<(), StepError> {
    env.progress.expect(payload.raw_size);
    let disk = env.disk;
    let (filled, full) = sync_channel::<(Buffer, usize)>(2);
    let (returned, empty) = sync_channel::<Buffer>(2);
    let hash = std::thread::scope(|scope| {
        let reader = scope.spawn(move || {
            let mut done = 0;
            while done < payload.raw_size {
                let mut buffer = empty.try_recv().unwrap_or_else(|_| Buffer::zeroed(READ));
                let length = (payload.raw_size - done).min(READ as u64) as usize;
                disk.read_at(offset + done, &mut buffer[..length.next_multiple_of(ALIGNMENT)])?;
                if filled.send((buffer, length)).is_err() {
                    break;
                }
                done += length as u64;
            }
            Ok::<(), StepError>(())
        });
        let mut hash = Sha256::new();
        for (buffer, length) in full {
            hash.update(&buffer[..length]);
            env.progress.advance(length as u64);
            let _ = returned.try_send(buffer);
        }
        reader
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
            .map(|()| hex::encode(hash.finalize()))
    })?;
    match hash == payload.raw_sha256.to_lowercase() {
        true => Ok(()),
        false => Err(StepError::ReadBack { disk: disk.path().to_owned(), what: payload.file.clone() }),
    }
}
