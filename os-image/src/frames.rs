//! zstd in independent frames of 4 MiB: each can be checked, decoded and fetched on its own.
//!
//! Frames are cached by the hash of their raw bytes: after a small change of the image only the frames it falls
//! into are compressed again. Route in: a raw file. Route out: the compressed one and its description for the
//! manifest; the same bytes for the same input, whatever was cached and however many threads there are.

use crate::error::BuildError;
use crate::inputs::Digest;
use crate::stage::{forget_unused, touch};
use sheaf_config::manifest::{Compressed, Frame};
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// Raw bytes of a frame: large enough for zstd to find repeats, small enough for a reader's memory and for a
/// failed check to name a small part.
pub const FRAME: u64 = 4 << 20;

/// Frames in memory at once: 256 MiB, enough to keep many processors busy.
const BATCH: usize = 64;

/// Frames that no build used for this long are removed.
const UNUSED: Duration = Duration::from_secs(14 * 24 * 3600);

/// Compressed frames by raw hash and level.
pub struct Cache(PathBuf);

impl Cache {
    /// The cache in `dir`.
    pub fn open(dir: &Path) -> Result<Self, BuildError> {
        fs::create_dir_all(dir).map_err(BuildError::io(dir))?;
        Ok(Self(dir.to_owned()))
    }

    /// Compresses `raw`, or finds it done.
    fn frame(&self, raw: &[u8], level: i32) -> Result<Vec<u8>, BuildError> {
        let path = self.0.join(format!("{}-{level}", Digest::of(raw)));
        if let Ok(frame) = fs::read(&path) {
            touch(&path)?;
            return Ok(frame);
        }
        let frame = compress_frame(raw, level).map_err(BuildError::io(&path))?;
        // Complete or absent, also when two builds write the same frame.
        let new =
            path.with_extension(format!("new-{}-{:?}", std::process::id(), std::thread::current().id()));
        fs::write(&new, &frame).and_then(|()| fs::rename(&new, &path)).map_err(BuildError::io(&path))?;
        Ok(frame)
    }

    /// Removes what was not used for long.
    pub fn forget_old(&self) -> Result<(), BuildError> {
        forget_unused(&self.0, UNUSED)
    }
}

/// One frame that says its raw length and carries zstd's own checksum.
fn compress_frame(raw: &[u8], level: i32) -> io::Result<Vec<u8>> {
    let mut encoder = zstd::bulk::Compressor::new(level)?;
    encoder.include_contentsize(true)?;
    encoder.include_checksum(true)?;
    encoder.compress(raw)
}

/// Writes `raw` to `to` in frames.
pub fn compress(raw: &Path, to: &Path, level: i32, cache: &Cache) -> Result<Compressed, BuildError> {
    let mut input = File::open(raw).map_err(BuildError::io(raw))?;
    let mut output = File::create(to).map_err(BuildError::io(to))?;
    let mut frames = Vec::new();
    loop {
        let batch = read_batch(&mut input).map_err(BuildError::io(raw))?;
        if batch.is_empty() {
            break;
        }
        for (raw, packed) in batch.iter().zip(in_parallel(&batch, |raw| cache.frame(raw, level))) {
            let packed = packed?;
            output.write_all(&packed).map_err(BuildError::io(to))?;
            let sha256 = Digest::of(&packed).to_string();
            frames.push(Frame { size: packed.len() as u64, raw_size: raw.len() as u64, sha256 });
        }
    }
    Ok(Compressed {
        file: to.file_name().unwrap_or_default().to_string_lossy().into_owned(),
        size: frames.iter().map(|frame| frame.size).sum(),
        raw_size: frames.iter().map(|frame| frame.raw_size).sum(),
        raw_sha256: Digest::of_file(raw)?.to_string(),
        frames,
    })
}

/// The next frames, raw; none at the end.
fn read_batch(input: &mut impl Read) -> io::Result<Vec<Vec<u8>>> {
    let mut batch = Vec::new();
    while batch.len() < BATCH {
        let mut frame = Vec::new();
        input.by_ref().take(FRAME).read_to_end(&mut frame)?;
        if frame.is_empty() {
            break;
        }
        batch.push(frame);
    }
    Ok(batch)
}

/// `work` on each item, on all processors; results in the order of the items.
fn in_parallel<T: Sync, R: Send>(items: &[T], work: impl Fn(&T) -> R + Sync) -> Vec<R> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let next = AtomicUsize::new(0);
    let results = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while let Some((index, item)) =
                    items.iter().enumerate().nth(next.fetch_add(1, Ordering::Relaxed))
                {
                    let result = work(item);
                    results.lock().unwrap_or_else(PoisonError::into_inner).push((index, result));
                }
            });
        }
    });
    let mut results = results.into_inner().unwrap_or_else(PoisonError::into_inner);
    results.sort_by_key(|(index, _)| *index);
    results.into_iter().map(|(_, result)| result).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bytes that compress, differ from frame to frame and end in the middle of one.
    fn raw_file(dir: &Path) -> PathBuf {
        let path = dir.join("raw");
        let bytes: Vec<u8> = (0..2 * FRAME + 4096).map(|at| (at / 97 % 251) as u8).collect();
        fs::write(&path, bytes).unwrap();
        path
    }

    #[test]
    fn frames_decode_one_by_one_to_the_raw_bytes_and_match_their_description() {
        let dir = tempfile::tempdir().unwrap();
        let (raw, packed) = (raw_file(dir.path()), dir.path().join("raw.zst"));
        let cache = Cache::open(&dir.path().join("frames")).unwrap();
        let described = compress(&raw, &packed, 3, &cache).unwrap();
        let (raw, packed) = (fs::read(raw).unwrap(), fs::read(packed).unwrap());
        assert_eq!(
            described.frames.iter().map(|frame| frame.raw_size).collect::<Vec<_>>(),
            [FRAME, FRAME, 4096]
        );
        assert_eq!((described.size, described.raw_size), (packed.len() as u64, raw.len() as u64));
        let mut decoded = Vec::new();
        let mut at = 0;
        for frame in &described.frames {
            let bytes = &packed[at..at + frame.size as usize];
            assert_eq!(Digest::of(bytes).to_string(), frame.sha256);
            decoded.extend(zstd::bulk::decompress(bytes, frame.raw_size as usize).unwrap());
            at += frame.size as usize;
        }
        assert!(decoded == raw, "decoded bytes differ");
        assert_eq!(Digest::of(&decoded).to_string(), described.raw_sha256);
    }

    #[test]
    fn an_unchanged_frame_is_taken_from_the_cache() {
        let dir = tempfile::tempdir().unwrap();
        let (raw, packed) = (raw_file(dir.path()), dir.path().join("raw.zst"));
        let home = dir.path().join("frames");
        let cache = Cache::open(&home).unwrap();
        let first = compress(&raw, &packed, 3, &cache).unwrap();
        let mut bytes = fs::read(&raw).unwrap();
        bytes[FRAME as usize + 5] ^= 1;
        fs::write(&raw, bytes).unwrap();
        let second = compress(&raw, &packed, 3, &cache).unwrap();
        let same: Vec<_> = first.frames.iter().zip(&second.frames).map(|(a, b)| a == b).collect();
        assert_eq!(same, [true, false, true]);
        assert_eq!(fs::read_dir(&home).unwrap().count(), 4, "three frames and the changed one");
    }

    #[test]
    fn results_come_in_the_order_of_the_items() {
        let items: Vec<u32> = (0..100).collect();
        assert_eq!(
            in_parallel(&items, |item| item * 2),
            items.iter().map(|item| item * 2).collect::<Vec<_>>()
        );
    }
}
