//! Brings an image from a server, or from a sender, into a volume: unpacked, checked, on the disk.
//!
//! Why here: what a file is, its first bytes say, not its name. A raw image is poured into the volume as it comes. A
//! qcow2 image can be read only as a whole: it is poured into a second, thin volume, and `qemu-img` converts it from
//! there; that one is half for all of its life, so that nothing of it stays. Blocks: run it off the agent's thread.
//! Route in: an empty half-made volume, URL, checksum. Route out: the volume filled and flushed, or [`FillError`].

mod error;
mod image;
mod pour;
mod source;
#[cfg(test)]
mod tests;

pub use error::FillError;

use super::{HALF, Hosts, TAG};
use image::{Format, Peeked, unpack};
use pour::{Sink, pour};
use sheaf_api::storage::local_volume::Progress;
use sheaf_host::disk::{Disk, RawDisk};
use sheaf_host::run::Command;
use source::Download;
use std::io::Read;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// Ends the name of the volume that a qcow2 image is kept in while it is converted.
pub const SCRATCH: &str = "-image";
/// What a qcow2 file needs beyond what is in it: its tables, and the slack of files that were made long ago.
const SLACK: u64 = 64 << 20;

/// What is to be done.
#[derive(Clone, Debug)]
pub struct Order {
    /// Group of the volume.
    pub group: String,
    /// The volume.
    pub name: String,
    /// Size of the volume.
    pub bytes: u64,
    /// Where the image lies.
    pub url: String,
    /// What it must be: `sha256:…`. Without one its length alone tells that it is whole.
    pub checksum: Option<String>,
    /// Set by whoever wants it no more.
    pub stop: Arc<AtomicBool>,
}

/// Fills the volume of `order`.
pub fn fill(hosts: &Hosts, order: &Order, show: &(dyn Fn(Progress) + Sync)) -> Result<(), FillError> {
    let target = RawDisk::open(&hosts.devices.join(&order.group).join(&order.name))?;
    let mut download = Download::start(hosts.fetch.clone(), &order.url, order.stop.clone(), show)?;
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
        Format::Qcow2 => {
            let room = match total {
                Some(total) if !is_packed => total,
                _ => order.bytes + order.bytes / 8 + SLACK,
            };
            convert(hosts, order, &mut image, room, target)
        }
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
    hosts.lvm.create_volume(&order.group, &scratch, room.max(1 << 20), &[TAG, HALF])?;
    let mut through = || {
        let path = hosts.devices.join(&order.group).join(&scratch);
        let disk = RawDisk::open(&path)?;
        pour(image, &mut Sink::new(&disk)?)?;
        disk.sync()?;
        image::check_qcow2(&disk, target.size())?;
        let convert = Command::new("qemu-img").args(["convert", "-n", "-f", "qcow2", "-O", "raw"]);
        // Past the page cache; the target reads as zeros already.
        let convert = convert.args(["-T", "none", "-t", "none", "--target-is-zero", "-W"]);
        hosts.run.run(&convert.arg(&path).arg(target.path())).map_err(FillError::Convert)?;
        Ok(())
    };
    let answer = through();
    let removed = hosts.lvm.remove_volume(&order.group, &scratch);
    answer.and(removed.map_err(FillError::from))
}
