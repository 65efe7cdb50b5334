//! Pulls one image and keeps the disk in it.
//!
//! Blocks: run it off the agent's thread. Route in: an image as a tenant wrote it, the servers that may be asked. Route out: the
//! disk in the store; [`Failure`] says what is in the way.

use super::index::Kept;
use super::sparse;
use super::store::{Found, Store};
use crate::registry::client::{Client, Image, PullError, servers};
use crate::registry::credentials::Logins;
use crate::registry::layer::{LayerError, Search};
use crate::registry::{Digest, Reference};
use crate::volumes::fill::FillError;
use crate::volumes::fill::image::{self, Format, QCOW2_HEAD};
use sheaf_api::firmware::BOOT_FILE_BYTES;
use sheaf_config::node::Registry;
use sheaf_host::fetch::Fetch;
use sheaf_host::fetch::policy::Policy;
use sheaf_host::qcow2;
use std::fs::{self, File};
use std::io::{self, BufReader, Read, Seek};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

/// What a pull needs besides what it pulls.
pub struct Env {
    /// Where disks are kept.
    pub store: Arc<Store>,
    /// The network.
    pub fetch: Arc<dyn Fetch>,
    /// How registries are reached.
    pub registries: Vec<Registry>,
    /// What tenants may have asked.
    pub policy: Arc<Policy>,
    /// Who asks.
    pub logins: Logins,
    /// Authorities of the registry that a tenant names.
    pub authorities: Option<String>,
    /// Ends it early.
    pub stop: Box<dyn Fn() -> bool + Send + Sync>,
    /// Now, in seconds since 1970.
    pub now: i64,
}

/// Which disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Order {
    /// The image, as a tenant wrote it.
    pub image: String,
    /// The disk in it; otherwise the one in `/disk`.
    pub path: Option<String>,
    /// It is a kernel or an initrd, and no disk.
    pub is_boot_file: bool,
    /// Who pulls it, as part of a file name: nobody pulls two at a time.
    pub by: String,
}

/// Why there is no disk.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The image.
    #[error(transparent)]
    Pull(#[from] PullError),
    /// What is in it.
    #[error("{image}: {source}")]
    Layer {
        /// The image.
        image: String,
        /// What is wrong.
        source: LayerError,
    },
    /// The disk in it.
    #[error("{image}: {path}: {source}")]
    Disk {
        /// The image.
        image: String,
        /// The disk.
        path: String,
        /// What is wrong.
        source: FillError,
    },
    /// There is no room.
    #[error(
        "{image} needs {needed} MiB, and {room} MiB of /data may be used; remove VMs or images from this node"
    )]
    NoRoom {
        /// The image.
        image: String,
        /// For its layers, in MiB.
        needed: u64,
        /// What is there, in MiB.
        room: u64,
    },
    /// The folder of disks.
    #[error("the container disks of this node cannot be written; is /data full, read-only or damaged?")]
    Store(#[from] io::Error),
}

/// Makes the disk of `order` present; `told` hears how far it is: bytes and bytes in all.
pub fn pull(env: &Env, order: &Order, told: &dyn Fn(u64, u64)) -> Result<Kept, Failure> {
    let reference = Reference::parse(&order.image).map_err(PullError::from)?;
    let servers = servers(&reference, &env.registries, &env.policy, env.authorities.as_ref());
    let mut client = Client::new(&*env.fetch, &reference, servers, &env.logins, &*env.stop);
    let image = client.resolve()?;
    let path = order.path.as_deref();
    if let Some(kept) = env.store.index().of_digest(&image.digest, path, order.is_boot_file).cloned() {
        env.store.took(&order.image, kept.clone(), env.now)?;
        return Ok(kept);
    }
    make_room(env, &order.image, &image)?;
    let (unfinished, file) = env.store.unfinished(&order.by)?;
    let found = find(env, &mut client, &image, order, &file, told)?;
    let inspect = if order.is_boot_file { look_at_boot_file } else { look };
    let found = inspect(&file, &unfinished, &image.digest, path).map_err(|source| Failure::Disk {
        image: order.image.clone(),
        path: format!("/{found}"),
        source,
    })?;
    let kept = env.store.keep(&unfinished, &order.image, &found, env.now)?;
    for layer in &image.layers {
        let _ = fs::remove_file(env.store.part(&order.by, &layer.digest));
    }
    Ok(kept)
}

/// Its layers, and as much again for the disk in them.
fn make_room(env: &Env, image: &str, found: &Image) -> Result<(), Failure> {
    let bytes = found.layers.iter().fold(0_u64, |sum, layer| sum.saturating_add(layer.bytes));
    let needed = bytes.saturating_mul(2);
    for gone in env.store.collect(needed, env.now)? {
        tracing::info!(image = gone.image, file = gone.file, "container disk is removed to make room");
    }
    let room = env.store.room()?;
    match needed > room {
        true => Err(Failure::NoRoom { image: image.to_owned(), needed: needed >> 20, room: room >> 20 }),
        false => Ok(()),
    }
}

/// Brings layers from the highest on until the disk is found; it is in `file` then.
fn find(
    env: &Env,
    client: &mut Client<'_>,
    image: &Image,
    order: &Order,
    file: &File,
    told: &dyn Fn(u64, u64),
) -> Result<String, Failure> {
    let total = image.layers.iter().map(|layer| layer.bytes).fold(0, u64::saturating_add);
    let wrong = |source| Failure::Layer { image: order.image.clone(), source };
    let mut search = Search::new(order.path.as_deref());
    let mut before = 0_u64;
    for layer in image.layers.iter().rev() {
        if search.is_over() {
            break;
        }
        let part = env.store.part(&order.by, &layer.digest);
        client.layer(layer, &part, &|bytes| told(before.saturating_add(bytes), total))?;
        before = before.saturating_add(layer.bytes);
        let room = env.store.room()?;
        let mut keep = |disk: &mut dyn Read| {
            let mut file = file;
            file.set_len(0)?;
            file.rewind()?;
            sparse::pour(disk, file, room, &*env.stop)
        };
        let packed = BufReader::new(File::open(&part)?);
        search.layer(packed, &mut keep).map_err(wrong)?;
    }
    search.end().map_err(wrong)
}

/// What the disk in `file` is; refuses what a VM cannot use, and what would lead QEMU to other files of the node.
fn look<'a>(
    file: &File,
    path: &Path,
    image: &'a Digest,
    asked: Option<&'a str>,
) -> Result<Found<'a>, FillError> {
    let unreadable = |error: io::Error| FillError::BadImage(format!("it cannot be read: {error}"));
    let length = file.metadata().map_err(unreadable)?.len();
    let mut first = vec![0; usize::try_from(length.min(512)).unwrap_or_default()];
    file.read_exact_at(&mut first, 0).map_err(unreadable)?;
    let qcow2 = image::format(&first)? == Format::Qcow2;
    let bytes = match qcow2 {
        true => {
            let head: &[u8; QCOW2_HEAD] = first
                .first_chunk()
                .ok_or_else(|| FillError::BadImage("the qcow2 image is cut off".into()))?;
            image::check_qcow2_head(head, u64::MAX)?;
            qcow2::virtual_size(path).unwrap_or(length)
        }
        false => length,
    };
    Ok(Found { image, path: asked, bytes, qcow2, boot: false })
}

/// The same of a kernel or an initrd: any file that is not too large for the VMs' folders.
fn look_at_boot_file<'a>(
    file: &File,
    _path: &Path,
    image: &'a Digest,
    asked: Option<&'a str>,
) -> Result<Found<'a>, FillError> {
    let unreadable = |error: io::Error| FillError::BadImage(format!("it cannot be read: {error}"));
    let bytes = file.metadata().map_err(unreadable)?.len();
    match bytes {
        0 => Err(FillError::BadImage("it is empty".into())),
        1..=BOOT_FILE_BYTES => Ok(Found { image, path: asked, bytes, qcow2: false, boot: true }),
        _ => {
            let (has, most) = (bytes.div_ceil(1 << 20), BOOT_FILE_BYTES >> 20);
            Err(FillError::BadImage(format!(
                "it has {has} MiB; a kernel or an initrd has at most {most} MiB"
            )))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_boot_file_is_as_large_as_what_is_set_aside_for_it_and_no_larger() {
        let path = std::env::temp_dir().join(format!("sheaf-boot-file-{}", std::process::id()));
        let file = File::options().read(true).write(true).create(true).truncate(true).open(&path).unwrap();
        let digest = Digest::of(b"image");
        file.set_len(BOOT_FILE_BYTES).unwrap();
        assert!(look_at_boot_file(&file, &path, &digest, None).is_ok_and(|found| found.boot));
        file.set_len(BOOT_FILE_BYTES + 1).unwrap();
        let refused = look_at_boot_file(&file, &path, &digest, None).err().unwrap().to_string();
        assert!(refused.contains("it has 129 MiB; a kernel or an initrd has at most 128 MiB"), "{refused}");
        fs::remove_file(path).unwrap();
    }
}
