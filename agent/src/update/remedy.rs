//! What a person does about a write that failed: which disk or file system, and why.
//!
//! Why here: an error names the file and what was done to it; whether a file has to go or a disk to be replaced follows from
//! the place and the kernel's code together. Route in: an error of a step. Route out: a clause for its message. Pure.

use super::bundle::BundleError;
use sheaf_host::disk::DiskError;
use sheaf_host::esp::EspError;
use sheaf_host::file::WriteError;
use sheaf_release::image::ImageError;
use sheaf_release::verity::VerityError;
use std::error::Error;
use std::io;

/// Where a write failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    BootPartition,
    State,
    Slot,
}

fn place(error: &(dyn Error + 'static)) -> Option<Place> {
    let is_disk = error.is::<DiskError>()
        || matches!(error.downcast_ref(), Some(ImageError::Disk(_)))
        || matches!(error.downcast_ref(), Some(VerityError::Disk(_)));
    match () {
        () if error.is::<EspError>() => Some(Place::BootPartition),
        () if error.is::<WriteError>() => Some(Place::State),
        () if matches!(error.downcast_ref(), Some(BundleError::Keep(_) | BundleError::KeepUki { .. })) => {
            Some(Place::State)
        }
        () if is_disk => Some(Place::Slot),
        () => None,
    }
}

/// What to do about `error`; none where the error says so itself, or where the kernel did not refuse a write.
pub fn of(error: &anyhow::Error) -> Option<&'static str> {
    if error.chain().any(is_of_source) {
        return None;
    }
    // What the updater removes from the state partition has no type of its own.
    let place = error.chain().find_map(place).unwrap_or(Place::State);
    let kind = error.chain().find_map(|cause| cause.downcast_ref::<io::Error>())?.kind();
    Some(match (place, kind) {
        (Place::BootPartition, io::ErrorKind::StorageFull) => {
            "the EFI system partition is full: remove files from it that are not Sheaf's"
        }
        (Place::State, io::ErrorKind::StorageFull) => {
            "the state partition is full: see `du -x /state`, and remove what is not needed"
        }
        (Place::Slot, io::ErrorKind::StorageFull) => {
            "the storage behind the boot disk is full: give it more room, then the step is tried again"
        }
        (_, io::ErrorKind::ReadOnlyFilesystem) => {
            "its file system became read-only after an error: see `journalctl -k`, and restart the node, which checks it"
        }
        (_, _) if is_io(error) => {
            "the boot disk may be failing: see its BlockDevice and `journalctl -k`, and replace it if errors are repeated"
        }
        _ => return None,
    })
}

/// The release cannot be read where it comes from.
fn is_of_source(error: &(dyn Error + 'static)) -> bool {
    matches!(error.downcast_ref(), Some(BundleError::Fetch { .. } | BundleError::Read { .. }))
        || matches!(error.downcast_ref(), Some(ImageError::Read { .. }))
}

/// EIO, for which the standard library has no kind.
fn is_io(error: &anyhow::Error) -> bool {
    const EIO: i32 = 5;
    error
        .chain()
        .filter_map(|cause| cause.downcast_ref::<io::Error>())
        .any(|io| io.raw_os_error() == Some(EIO))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn esp(code: i32) -> anyhow::Error {
        let source = io::Error::from_raw_os_error(code);
        EspError { path: "/run/sheaf/esp/grub/grubenv".into(), verb: "written", source }.into()
    }

    #[test]
    fn the_remedy_follows_from_the_place_and_the_kernels_code() {
        for (error, remedy) in [
            (esp(28), Some("the EFI system partition is full: remove files from it that are not Sheaf's")),
            (
                esp(30),
                Some(
                    "its file system became read-only after an error: see `journalctl -k`, and restart the node, which checks it",
                ),
            ),
            (
                esp(5),
                Some(
                    "the boot disk may be failing: see its BlockDevice and `journalctl -k`, and replace it if errors are \
                     repeated",
                ),
            ),
            (
                anyhow::Error::from(ImageError::Disk(DiskError::Sync {
                    path: "/dev/vda6".into(),
                    source: io::Error::from_raw_os_error(28),
                })),
                Some(
                    "the storage behind the boot disk is full: give it more room, then the step is tried again",
                ),
            ),
            (
                anyhow::Error::from(io::Error::from_raw_os_error(28)),
                Some("the state partition is full: see `du -x /state`, and remove what is not needed"),
            ),
            (
                anyhow::Error::from(ImageError::Read {
                    file: "root.erofs.zst".into(),
                    source: io::Error::from_raw_os_error(5),
                }),
                None,
            ),
            (esp(13), None),
            (anyhow::anyhow!("no release is kept"), None),
        ] {
            assert_eq!(of(&error), remedy, "{error:#}");
        }
    }
}
