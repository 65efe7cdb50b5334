//! Slot images, as an installation writes and verifies them: the crate `sheaf-release` does both.
//!
//! Route in: a [`Payload`]. Route out: its bytes on the disk, flushed; errors in the words of an installation.

use super::{Env, StepError};
use crate::plan::Payload;
use sheaf_host::disk::Hold;
use sheaf_release::image::{self, Image, ImageError};
use sheaf_release::origin::Origin;

fn image(payload: &Payload) -> Image<'_> {
    let Payload { file, size, raw_size, raw_sha256, frames } = payload;
    Image { file, size: *size, raw_size: *raw_size, raw_sha256, frames }
}

fn origin<'e>(env: &Env<'e>) -> Origin<'e> {
    env.remote.map_or(Origin::Folder(env.medium), Origin::Server)
}

fn explained(env: &Env<'_>, error: ImageError) -> StepError {
    match error {
        ImageError::Read { file, source } => env.unreadable(&file, source),
        ImageError::Differs { file, what } => env.damaged(&file, what),
        ImageError::ReadBack { disk, file } => StepError::ReadBack { disk, what: file },
        ImageError::Disk(error) => error.into(),
    }
}

/// Checks every frame against the manifest, of a server's image only the first; decodes and writes nothing.
pub(super) fn check(env: &Env<'_>, payload: &Payload) -> Result<(), StepError> {
    let advance = |bytes| env.progress.advance(bytes);
    image::check(&origin(env), &image(payload), &advance).map_err(|error| explained(env, error))
}

/// Writes the image at `offset`, each frame checked again before it is decoded.
pub(super) fn write(env: &Env<'_>, payload: &Payload, offset: u64) -> Result<(), StepError> {
    env.disk.hold(Hold::Alone)?;
    env.progress.expect(payload.raw_size);
    let advance = |bytes| env.progress.advance(bytes);
    image::write(&origin(env), &image(payload), env.disk, offset, &advance)
        .map_err(|error| explained(env, error))
}

/// Reads the image back from the disk and compares its hash.
pub(super) fn verify(env: &Env<'_>, payload: &Payload, offset: u64) -> Result<(), StepError> {
    env.progress.expect(payload.raw_size);
    let advance = |bytes| env.progress.advance(bytes);
    image::verify(&image(payload), env.disk, offset, &advance).map_err(|error| explained(env, error))
}
