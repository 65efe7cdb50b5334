//! The node config: from a drive labelled SHEAF-CONF, else from the medium.
//!
//! Why this order: a drive that someone plugged in for this machine says more than what a medium for many machines
//! carries. Route in: block devices, the medium. Route out: [`Found`], which says which source won; a drive that is
//! labelled but holds no valid config is an error, never a reason to take the next source in silence.

use super::medium::{FOLDER, Medium};
use sheaf_config::diagnose::Errors;
use sheaf_config::load;
use sheaf_config::node::NodeConfig;
use sheaf_host::block::Device;
use sheaf_host::mount::{Mount, MountError};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Label of a drive that holds a node config.
pub const LABEL: &str = "SHEAF-CONF";
/// The config's file name, on every source.
pub const FILE: &str = "node.toml";
/// A node config is text of a few kilobytes; more, in bytes, is another file under its name.
const LARGEST: u64 = 1 << 20;
/// File systems that a labelled drive may have.
const FSTYPES: [&str; 3] = ["vfat", "ext4", "iso9660"];

/// A valid node config and where it came from.
#[derive(Clone, Debug)]
pub struct Found {
    /// The drive or medium, in words.
    pub origin: String,
    /// The drive, when it came from one.
    pub device: Option<PathBuf>,
    /// The file as it was written.
    pub text: String,
    /// What it says.
    pub config: NodeConfig,
}

/// Why there is no config to install by.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// No source had one.
    #[error(
        "no {FILE} found: no drive is labelled {LABEL}, and the medium {} holds no /{FOLDER}/{FILE}; \
         give one by a USB stick or second drive ({}) with the label {LABEL} and the file {FILE} in its root, \
         or make the medium with `sheaf iso RELEASE --config {FILE}`",
        .medium.display(), FSTYPES.join(", ")
    )]
    None {
        /// Device of the medium.
        medium: PathBuf,
    },
    /// More than one drive claims to have it.
    #[error("several drives are labelled {LABEL}: {drives}; leave only the one with this machine's {FILE}")]
    Several {
        /// Their paths.
        drives: String,
    },
    /// The labelled drive can not be read.
    #[error(
        "the drive {} labelled {LABEL} has the file system \"{fstype}\"; format it as one of: {}",
        .drive.display(), FSTYPES.join(", ")
    )]
    Fstype {
        /// Its path.
        drive: PathBuf,
        /// What it has.
        fstype: String,
    },
    /// It can not be mounted.
    #[error("the drive labelled {LABEL} can not be used")]
    Mount(#[from] MountError),
    /// The file can not be read.
    #[error("{origin}: {FILE} can not be read; put it into the root of the drive, or remove the drive")]
    Read {
        /// Where it should be.
        origin: String,
        /// Why not.
        source: io::Error,
    },
    /// The file is there and wrong; every line names file and line already.
    #[error("{FILE} of {origin} is refused:\n{errors}")]
    Invalid {
        /// Where it is.
        origin: String,
        /// Every mistake, with its line.
        errors: Errors,
    },
}

/// Finds the node config; drives are mounted below `mounts` for the time of reading.
pub fn find(
    devices: &[Device],
    medium: &Medium,
    mount: &dyn Mount,
    mounts: &Path,
) -> Result<Found, ConfigError> {
    let labelled = |device: &&Device| device.label.as_deref() == Some(LABEL);
    let drives: Vec<_> = devices.iter().flat_map(Device::tree).filter(labelled).collect();
    match drives[..] {
        [] => from_medium(medium),
        [drive] => from_drive(drive, mount, &mounts.join("config")),
        _ => {
            let paths: Vec<_> = drives.iter().map(|drive| drive.path.display().to_string()).collect();
            Err(ConfigError::Several { drives: paths.join(", ") })
        }
    }
}

fn from_drive(drive: &Device, mount: &dyn Mount, target: &Path) -> Result<Found, ConfigError> {
    let fstype = drive.fstype.clone().unwrap_or_default();
    if !FSTYPES.contains(&fstype.as_str()) {
        return Err(ConfigError::Fstype { drive: drive.path.clone(), fstype });
    }
    let dir = mount.read_only(&drive.path, &fstype, target)?;
    let origin = format!("drive {} labelled {LABEL}", drive.path.display());
    let text = read(&dir.join(FILE)).map_err(|source| ConfigError::Read { origin: origin.clone(), source });
    mount.unmount(target)?;
    valid(origin, Some(drive.path.clone()), text?)
}

fn from_medium(medium: &Medium) -> Result<Found, ConfigError> {
    let origin = format!("medium {}", medium.device.display());
    match read(&medium.folder.join(FILE)) {
        Ok(text) => valid(origin, None, text),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Err(ConfigError::None { medium: medium.device.clone() })
        }
        Err(source) => Err(ConfigError::Read { origin, source }),
    }
}

fn read(path: &Path) -> io::Result<String> {
    if fs::metadata(path)?.len() > LARGEST {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, "larger than 1 MiB: this is no node config"));
    }
    fs::read_to_string(path)
}

fn valid(origin: String, device: Option<PathBuf>, text: String) -> Result<Found, ConfigError> {
    let config = load::parse_node_config(FILE, &text)
        .map_err(|errors| ConfigError::Invalid { origin: origin.clone(), errors })?;
    Ok(Found { origin, device, text, config })
}
