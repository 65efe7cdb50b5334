//! Why a volume could not be filled, and what becomes of it.
//!
//! Route in: errors of the network, the image, the disk. Route out: the reason of a condition, and whether another try
//! can help.

use super::registry::PullFailed;
use sheaf_api::storage::local_volume::VolumeReason;
use sheaf_host::disk::DiskError;
use sheaf_host::fetch::FetchError;
use sheaf_host::lvm::LvmError;
use sheaf_host::run::RunError;
use std::io;

/// Why a volume could not be filled.
#[derive(Debug, thiserror::Error)]
pub enum FillError {
    /// The server.
    #[error(transparent)]
    Fetch(#[from] FetchError),
    /// The registry, or what is in its image.
    #[error("{}", .0.source)]
    Pull(#[source] PullFailed),
    /// The connection broke again and again.
    #[error("{url}: the connection broke again and again, last after {bytes} bytes")]
    Broken {
        /// The source.
        url: String,
        /// How much came.
        bytes: u64,
        /// Why it broke last.
        source: io::Error,
    },
    /// It sends too slowly; others wait for the slot.
    #[error("{url}: less than 64 KiB/s came for 5 minutes; it is tried again later")]
    Slow {
        /// The source.
        url: String,
    },
    /// The image is converted from a second volume, whose space is to be booked first. Nothing was written.
    #[error("the image needs {bytes} bytes in addition to the volume while it is converted")]
    NeedsScratch {
        /// How many.
        bytes: u64,
    },
    /// The server's file changed while it was read.
    #[error(
        "{url}: the server cannot continue after {bytes} bytes; the import starts again from the beginning"
    )]
    NoRange {
        /// The source.
        url: String,
        /// How much had come.
        bytes: u64,
    },
    /// The file is another.
    ///
    /// What was found is not reported: somebody who may write a DataVolume but may not read the server could otherwise learn
    /// the hash of any file that the node can reach, and import it in a second try.
    #[error("{url} does not have the SHA-256 {wanted}; correct the URL or the checksum")]
    Checksum {
        /// The source.
        url: String,
        /// What was asked for.
        wanted: String,
    },
    /// It is no image that can be read.
    #[error("{0}")]
    BadImage(String),
    /// It is larger than the volume.
    #[error("the image has {} bytes, the volume {volume}; ask for a larger volume", at_least(*.image))]
    TooLarge {
        /// Size of the image, where it is known.
        image: Option<u64>,
        /// Size of the volume.
        volume: u64,
    },
    /// It continues beyond what can be an image for the volume.
    #[error(
        "the file has more than {longest} bytes, the most that an image for this volume can have; ask for a larger volume"
    )]
    TooLong {
        /// The bound.
        longest: u64,
    },
    /// `qemu-img` could not read it.
    #[error("the image cannot be converted")]
    Convert(#[source] RunError),
    /// The volume.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// LVM.
    #[error(transparent)]
    Lvm(#[from] LvmError),
    /// The volume is not wanted any more, or the agent ends.
    #[error("stopped")]
    Stopped,
}

fn at_least(bytes: Option<u64>) -> String {
    bytes.map_or_else(|| "more".into(), |bytes| bytes.to_string())
}

impl FillError {
    /// The reason of the condition.
    pub fn reason(&self) -> VolumeReason {
        match self {
            Self::Fetch(FetchError::Refused { .. } | FetchError::Unauthorized { .. }) => {
                VolumeReason::SourceRefused
            }
            Self::Fetch(FetchError::Forbidden { .. } | FetchError::BadUrl { .. }) => {
                VolumeReason::SourceForbidden
            }
            Self::Fetch(_) | Self::Broken { .. } | Self::NoRange { .. } | Self::Slow { .. } => {
                VolumeReason::SourceUnreachable
            }
            Self::Pull(failed) => failed.reason,
            Self::NeedsScratch { .. } => VolumeReason::OutOfSpace,
            Self::Checksum { .. } => VolumeReason::ChecksumMismatch,
            Self::BadImage(_) => VolumeReason::BadImage,
            Self::TooLarge { .. } | Self::TooLong { .. } => VolumeReason::ImageTooLarge,
            Self::Disk(DiskError::Transfer { source, .. } | DiskError::Sync { source, .. })
                if source.kind() == io::ErrorKind::StorageFull =>
            {
                VolumeReason::OutOfSpace
            }
            Self::Convert(_) | Self::Disk(_) | Self::Lvm(_) | Self::Stopped => VolumeReason::NodeFailed,
        }
    }

    /// Whether another try can help while the object and the server's file stay as they are.
    pub fn is_passing(&self) -> bool {
        match self {
            Self::Pull(failed) => failed.is_passing,
            Self::Checksum { .. } | Self::BadImage(_) | Self::TooLarge { .. } | Self::TooLong { .. } => false,
            _ => true,
        }
    }
}
