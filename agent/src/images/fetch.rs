//! Receives one image into its `.part` file, going on where the last try broke off.
//!
//! Route in: a URL and the part. Route out: the SHA-256 of the complete part, and whether some of it was here before; none
//! when the agent ends.

use super::store::{ImageError, PIECE, Progress, Steps, Store, digits, disk};
use sha2::{Digest, Sha256};
use sheaf_config::node::Image;
use sheaf_host::fetch::{FetchError, Rest, Source};
use std::fs::File;
use std::io::{Read, Seek, Write};
use std::path::Path;

/// A complete part.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Received {
    /// Its SHA-256.
    pub sha256: String,
    /// Some of it was written by an agent before: a power cut may have left other bytes there than the server sent.
    pub resumed: bool,
}

/// Receives `image` into `part`.
pub(super) fn receive(
    store: &Store,
    image: &Image,
    part: &Path,
    progress: Progress<'_>,
) -> Result<Option<Received>, ImageError> {
    let open = File::options().read(true).write(true).create(true).truncate(false).open(part);
    let mut file = open.map_err(disk(part, "opened"))?;
    let mut hash = Sha256::new();
    let here = file.metadata().map_err(disk(part, "read"))?.len();
    // What is here was written by an earlier try: it counts in the hash, and the end of the file is what we know.
    let show = |bytes| progress("resuming", bytes, Some(here));
    if !store.hash(&mut file, &mut hash, &show).map_err(disk(part, "read"))? {
        return Ok(None);
    }
    let rest = match store.source.fetch(&Source::trusted(&image.url), here) {
        // All of it is here, or the part is of another file: its hash decides.
        Err(FetchError::PastEnd { .. }) if here > 0 => {
            return Ok(Some(Received { sha256: digits(hash), resumed: true }));
        }
        rest => rest?,
    };
    if rest.from != here {
        // The server cannot begin in the middle.
        file.set_len(0).and_then(|()| file.rewind()).map_err(disk(part, "emptied"))?;
        hash = Sha256::new();
    }
    let resumed = rest.from > 0;
    let is_complete = pour(store, image, rest, &mut file, &mut hash, part, progress)?;
    Ok(is_complete.then(|| Received { sha256: digits(hash), resumed }))
}

/// Writes `rest` to `file`; false when the agent ends before.
fn pour(
    store: &Store,
    image: &Image,
    mut rest: Rest,
    file: &mut File,
    hash: &mut Sha256,
    part: &Path,
    progress: Progress<'_>,
) -> Result<bool, ImageError> {
    let mut piece = vec![0; PIECE];
    let (mut bytes, mut steps) = (rest.from, Steps::default());
    let show = |bytes| progress("fetching", bytes, rest.total);
    show(bytes);
    loop {
        if store.end.is_requested() {
            return Ok(false);
        }
        let broken = |source| ImageError::Broken { url: image.url.clone(), bytes, source };
        let read = rest.reader.read(&mut piece).map_err(broken)?;
        if read == 0 {
            break;
        }
        file.write_all(&piece[..read]).map_err(disk(part, "written"))?;
        hash.update(&piece[..read]);
        bytes += read as u64;
        steps.at(bytes, &show);
    }
    match rest.total {
        Some(total) if bytes < total => {
            let source = std::io::ErrorKind::UnexpectedEof.into();
            Err(ImageError::Broken { url: image.url.clone(), bytes, source })
        }
        _ => Ok(true),
    }
}
