//! Brings an image from a server, or from a sender, into a volume: unpacked, checked, on the disk.
//!
//! Why here: its first bytes say what a file is, not its name. Nothing about the file is trusted: its length, how fast it
//! comes, and the memory and space that unpacking it takes are bounded. A raw image is poured into the volume as it comes. A
//! qcow2 image can be read only as a whole: it is poured into a second, thin volume, and `qemu-img` converts it from
//! there; that one is incomplete for all of its life, so that nothing of it stays. Blocks: run it off the agent's thread.
//! Route in: an empty, incomplete volume, URL, checksum. Route out: the volume filled and flushed, or [`FillError`].

pub mod credentials;
mod error;
#[cfg(test)]
mod fuzz;
pub(crate) mod image;
pub(crate) mod pace;
pub mod policy;
pub(crate) mod pour;
pub mod registry;
mod source;
#[cfg(test)]
mod tests;

pub use error::FillError;

use super::{Hosts, INCOMPLETE, TAG};
use image::{Format, Peeked, unpack};
use pour::{Sink, pour};
use sheaf_api::storage::local_volume::Progress;
use sheaf_host::disk::{Disk, RawDisk};
use sheaf_host::fetch::Source;
use sheaf_host::run::Command;
use sheaf_host::transient::{Access, Limits, TransientUnit};
use source::Download;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

/// Ends the name of the volume that a qcow2 image is kept in while it is converted.
pub const SCRATCH: &str = "-image";
/// What a qcow2 file needs beyond what is in it: its tables, and the slack of files that were made long ago.
const SLACK: u64 = 64 << 20;
/// Memory of `qemu-img`, in bytes: its tables of a qcow2 image of terabytes and its buffers take a tenth.
const CONVERT_MEMORY: u64 = 1 << 30;
/// Threads of `qemu-img`: its pool has 64 at most.
const CONVERT_TASKS: u32 = 80;
/// Time that `qemu-img` always has.
const CONVERT_LEAST: Duration = Duration::from_secs(600);
/// The slowest that it may be besides, in bytes a second of the volume: a disk that does less is broken.
const CONVERT_RATE: u64 = 4 << 20;
/// LVM gives space in extents of this size.
const EXTENT: u64 = 4 << 20;

/// What is to be done.
#[derive(Clone, Debug)]
pub struct Order {
    /// Group of the volume.
    pub group: String,
    /// The volume.
    pub name: String,
    /// Size of the volume.
    pub bytes: u64,
    /// The image, and which servers may be asked for it.
    pub source: Source,
    /// What it must be: `sha256:…`. Without one its length alone tells that it is whole.
    pub checksum: Option<String>,
    /// Space that is booked for a second volume, from which an image is converted; without it none is made.
    pub scratch: Option<u64>,
    /// Set when the volume is not wanted any more.
    pub stop: Arc<AtomicBool>,
}

/// Largest file that is an image for a volume of `volume` bytes: one that is larger is given up, whatever its server says
/// of its length.
fn longest(volume: u64) -> u64 {
    volume.saturating_add(volume / 8).saturating_add(SLACK)
}

/// Space that an image needs beside its volume of `volume` bytes while it is converted. The server's word for the length of
/// the file, `total`, may make it less and never more.
pub fn scratch_bytes(volume: u64, total: Option<u64>) -> u64 {
    let most = total.unwrap_or(u64::MAX).min(longest(volume)).max(1);
    most.checked_next_multiple_of(EXTENT).unwrap_or(u64::MAX)
}

/// Fills the volume of `order`.
pub fn fill(hosts: &Hosts, order: &Order, show: &(dyn Fn(Progress) + Sync)) -> Result<(), FillError> {
    let target = RawDisk::open(&hosts.devices.join(&order.group).join(&order.name))?;
    let source = order.source.clone();
    let mut download = Download::start(
        hosts.fetch.clone(),
        source,
        (longest(order.bytes), pace::WINDOW),
        order.stop.clone(),
        show,
    )?;
    let hash = download.hash();
    let answer = receive(hosts, order, &mut download, &target);
    if matches!(answer, Ok(()) | Err(FillError::BadImage(_))) {
        // The checksum is of the whole file, also of what follows the image in it; and a file that is not the one asked
        // for explains why it is no image.
        download.drain()?;
    }
    hash.finish(order.checksum.as_deref())?;
    answer?;
    Ok(target.sync()?)
}

fn receive(
    hosts: &Hosts,
    order: &Order,
    download: &mut Download<'_>,
    target: &RawDisk,
) -> Result<(), FillError> {
    let total = download.total();
    let mut packed = Peeked::new(download)?;
    let is_packed = image::packing(packed.first()).is_some();
    let mut image = Peeked::new(unpack(&mut packed)?)?;
    match image::format(image.first())? {
        Format::Raw => pour(&mut image, &mut Sink::new(target)?),
        Format::Qcow2 => match order.scratch {
            Some(booked) => convert(hosts, order, &mut image, booked, target),
            None => {
                let known = total.filter(|_| !is_packed);
                Err(FillError::NeedsScratch { bytes: scratch_bytes(order.bytes, known) })
            }
        },
    }
}

/// By way of a second volume, which is removed whatever happens; after a power cut by the next start.
fn convert(
    hosts: &Hosts,
    order: &Order,
    image: &mut dyn Read,
    room: u64,
    target: &RawDisk,
) -> Result<(), FillError> {
    let scratch = format!("{}{SCRATCH}", order.name);
    hosts.lvm.create_volume(&order.group, &scratch, room, &[TAG, INCOMPLETE])?;
    let mut through = || {
        let path = hosts.devices.join(&order.group).join(&scratch);
        let disk = RawDisk::open(&path)?;
        pour(image, &mut Sink::new(&disk)?)?;
        disk.sync()?;
        image::check_qcow2(&disk, target.size())?;
        let convert = Command::new("qemu-img").args(["convert", "-n", "-f", "qcow2", "-O", "raw"]);
        // Past the page cache; the target reads as zeros already.
        let convert = convert.args(["-T", "none", "-t", "none", "--target-is-zero", "-W"]);
        let convert = convert.arg(&path).arg(target.path());
        hosts.units.run_in(&converter(order, &path, target), &convert).map_err(FillError::Convert)?;
        Ok(())
    };
    let answer = through();
    let removed = hosts.lvm.remove_volume(&order.group, &scratch);
    answer.and(removed.map_err(FillError::from))
}

/// The unit of `qemu-img`, which parses what a tenant named: a user of its own, two devices, bounded memory and time.
fn converter(order: &Order, image: &Path, target: &RawDisk) -> TransientUnit {
    let limits = Limits {
        groups: vec!["disk".into()],
        devices: vec![(image.to_owned(), Access::Read), (target.path().to_owned(), Access::ReadWrite)],
        memory_max: CONVERT_MEMORY,
        runtime_max: CONVERT_LEAST + Duration::from_secs(target.size() / CONVERT_RATE),
        tasks_max: CONVERT_TASKS,
        system_calls: vec!["@system-service".into(), "~@privileged".into()],
    };
    TransientUnit {
        name: format!("sheaf-import-{}", order.name),
        limits: Some(limits),
        ..TransientUnit::default()
    }
}
