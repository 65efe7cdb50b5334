//! Whatever a server sends as an image: nothing panics, hangs, takes much memory or writes beyond the volume.
//!
//! Route in: packed and plain images, changed at random by their bytes and lengths. Route out: [`sheaf_fuzz`].

use super::image::{Format, Peeked, check_qcow2, format, unpack};
use super::pour::{Sink, pour};
use super::tests::{gzip, qcow2, xz};
use sheaf_fuzz::{Random, fuzz};
use sheaf_host::fakes::FakeDisk;

/// Size of the volume.
const VOLUME: u64 = 1 << 20;

fn corpus() -> Vec<Vec<u8>> {
    let raw: Vec<u8> = (0..5000_u32).map(|at| (at % 251) as u8).collect();
    let zeros = vec![0; 3 << 20];
    let image = qcow2(VOLUME, |head| head.truncate(2000));
    let packed = [&raw, &zeros, &image]
        .map(|bytes| [gzip(bytes), xz(bytes), zstd::encode_all(&bytes[..], 1).unwrap(), bytes.clone()]);
    packed.into_iter().flatten().chain([Vec::new()]).collect()
}

fn change(bytes: &mut Vec<u8>, random: &mut Random) {
    // Headers are short, and most is decided there.
    let at = match random.below(3) {
        0 => random.below(bytes.len()),
        _ => random.below(bytes.len().min(120)),
    };
    match random.below(6) {
        0 => bytes.truncate(at),
        1 => bytes.insert(at.min(bytes.len()), random.byte()),
        2 if at < bytes.len() => drop(bytes.remove(at)),
        3 if at < bytes.len() => bytes[at] ^= 1 << random.below(8),
        4 if at < bytes.len() => bytes[at] = *random.of(&[0, 0xff, 0x7f, 0x80]),
        _ => {
            let end = (at + random.below(40)).min(bytes.len());
            let piece = bytes.get(at..end).unwrap_or_default().to_vec();
            bytes.extend(piece);
        }
    }
}

/// What filling does with the bytes that come; whether they were taken.
fn feed(bytes: &[u8]) -> bool {
    let disk = FakeDisk::new("/dev/vg/pvc-1", VOLUME);
    let taken = || {
        let mut packed = Peeked::new(bytes)?;
        let mut image = Peeked::new(unpack(&mut packed)?)?;
        let format = format(image.first())?;
        pour(&mut image, &mut Sink::new(&disk)?)?;
        if format == Format::Qcow2 {
            check_qcow2(&disk, VOLUME)?;
        }
        Ok::<_, super::FillError>(())
    };
    let taken = taken();
    for (offset, len) in disk.writes() {
        assert!(offset + len as u64 <= VOLUME, "wrote {len} bytes at {offset}");
    }
    if let Err(error) = &taken {
        assert!(!error.to_string().is_empty());
    }
    taken.is_ok()
}

#[test]
fn random_changes_of_images_break_no_promise() {
    let corpus = corpus();
    fuzz("images and their headers", |random| {
        let mut bytes = random.of(&corpus).clone();
        for _ in 0..=random.below(4) {
            change(&mut bytes, random);
        }
        feed(&bytes)
    });
}
