//! Why a volume could not be filled, and what becomes of it.
//!
//! Route in: errors of the network, the image, the disk. Route out: the reason of a condition, and whether another try
//! can help.

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
    /// The connection broke again and again.
    #[error("{url}: the connection broke after {bytes} bytes, again and again")]
    Broken {
        /// The source.
        url: String,
        /// How much came.
        bytes: u64,
        /// Why it broke last.
        source: io::Error,
    },
    /// The server's file changed while it was read.
    #[error("{url}: the server can not go on after {bytes} bytes; it was read from there and begins anew")]
    NoRange {
        /// The source.
        url: String,
        /// How much had come.
        bytes: u64,
    },
    /// The file is another.
    #[error("{url} has SHA-256 {found}, source.http.checksum says {wanted}; correct the URL or the checksum")]
    Checksum {
        /// The source.
        url: String,
        /// What came.
        found: String,
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
    /// `qemu-img` could not read it.
    #[error("the image can not be converted")]
    Convert(#[source] RunError),
    /// The volume.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// LVM.
    #[error(transparent)]
    Lvm(#[from] LvmError),
    /// Nobody wants it any more.
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
            Self::Fetch(FetchError::Refused { .. }) => VolumeReason::SourceRefused,
            Self::Fetch(_) | Self::Broken { .. } | Self::NoRange { .. } => VolumeReason::SourceUnreachable,
            Self::Checksum { .. } => VolumeReason::ChecksumMismatch,
            Self::BadImage(_) => VolumeReason::BadImage,
            Self::TooLarge { .. } => VolumeReason::ImageTooLarge,
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
        !matches!(self, Self::Checksum { .. } | Self::BadImage(_) | Self::TooLarge { .. })
    }
}
