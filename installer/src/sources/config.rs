//! The node config: from the kernel argument's URL, else a drive labelled SHEAF-CONF, else the medium.
//!
//! Why this order: anyone who writes a boot entry means this very start, a drive that someone plugged in means this
//! machine, and a medium may be for many. Route in: [`Places`]. Route out: [`Found`], which says which source won and
//! why the others did not; a source that is there but wrong is an error, never a reason to take the next one in silence.

use super::arguments::{ConfigArgument, ConfigUrl};
use super::medium::{FOLDER, Medium};
pub use super::url::Timeouts;
use sheaf_config::diagnose::Errors;
use sheaf_config::handover::Introduction;
use sheaf_config::load;
use sheaf_config::node::{Identity, NodeConfig};
use sheaf_host::block::Device;
use sheaf_host::call::Call;
use sheaf_host::mount::{Mount, MountError};
use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Label of a drive that holds a node config.
pub const LABEL: &str = "SHEAF-CONF";
/// The config's file name, on every source.
pub const FILE: &str = "node.toml";
/// A node config is text of a few kilobytes; more, in bytes, is another file under its name.
pub(super) const LARGEST: u64 = 1 << 20;
/// File systems that a labelled drive may have.
const FSTYPES: [&str; 3] = ["vfat", "ext4", "iso9660"];

/// Where a node config may be.
pub struct Places<'a> {
    /// What the kernel's command line says.
    pub argument: Option<&'a ConfigArgument>,
    /// Block devices of the machine.
    pub devices: &'a [Device],
    /// The medium, when the release is on one.
    pub medium: Option<&'a Medium>,
    /// Mounts drives below `mounts` for the time of reading.
    pub mount: &'a dyn Mount,
    /// A folder to mount in.
    pub mounts: &'a Path,
    /// Asks servers.
    pub call: &'a dyn Call,
    /// What this machine says of itself, for a file that is for many.
    pub machine: &'a Identity,
    /// The kernel's random name of this boot; empty where it has none.
    pub boot: &'a str,
    /// How long servers are asked.
    pub timeouts: Timeouts,
    /// Hears of tries that failed.
    pub tell: &'a dyn Fn(&str),
}

/// A valid node config and where it came from.
#[derive(Clone, Debug)]
pub struct Found {
    /// The source that won, in words.
    pub origin: String,
    /// The drive, when it came from one.
    pub device: Option<PathBuf>,
    /// The file as it was written; of one for many machines the part that is for this one.
    pub text: String,
    /// What it says.
    pub config: NodeConfig,
    /// The other sources.
    pub others: Vec<Other>,
}

/// A source that did not win.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Other {
    /// The source, in words.
    pub source: String,
    /// Why not it.
    pub why: &'static str,
}

impl fmt::Display for Other {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.source, self.why)
    }
}

/// Why there is no config to install by.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// No source had one.
    #[error(
        "no {FILE} found: the kernel argument sheaf.config is not given, no drive is labelled {LABEL}, and {medium}; \
         give one by a USB stick or second drive ({}) with the label {LABEL} and the file {FILE} in its root, \
         by the kernel argument sheaf.config=https://…, or make the medium with `sheaf iso RELEASE --config {FILE}`",
        FSTYPES.join(", ")
    )]
    None {
        /// What is with the medium.
        medium: String,
    },
    /// A server did not give it.
    #[error("{FILE} of {url}: {reason}; {remedy}")]
    Url {
        /// Its URL.
        url: String,
        /// Why not.
        reason: String,
        /// What to do.
        remedy: String,
    },
    /// The kernel argument wants the one of the medium.
    #[error(
        "the kernel argument says sheaf.config=medium, and {medium}; make the medium with `sheaf iso RELEASE \
         --config {FILE}`, or remove the argument"
    )]
    NotInMedium {
        /// What is with the medium.
        medium: String,
    },
    /// More than one drive claims to have it.
    #[error("several drives are labelled {LABEL}: {drives}; leave only the one with this machine's {FILE}")]
    Several {
        /// Their paths.
        drives: String,
    },
    /// The labelled drive cannot be read.
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
    /// It cannot be mounted.
    #[error("the drive labelled {LABEL} cannot be used")]
    Mount(#[from] MountError),
    /// The file cannot be read.
    #[error("{origin}: {FILE} cannot be read; put it into the root of the drive, or remove the drive")]
    Read {
        /// Where it should be.
        origin: String,
        /// Why not.
        source: io::Error,
    },
    /// The part of this machine cannot be written as a file of its own.
    #[error("{FILE} of {origin} cannot be written for this machine")]
    Write {
        /// Where it is.
        origin: String,
        /// Why not.
        source: Box<dyn std::error::Error + Send + Sync>,
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

/// Finds the node config.
pub fn find(places: &Places<'_>) -> Result<Found, ConfigError> {
    let drives = labelled(places.devices);
    let mut found = match (places.argument, &drives[..]) {
        (Some(ConfigArgument::Url(source)), _) => from_url(source, places)?,
        (Some(ConfigArgument::Medium), _) => {
            from_medium(places)?.map_err(|medium| ConfigError::NotInMedium { medium })?
        }
        (None, []) => from_medium(places)?.map_err(|medium| ConfigError::None { medium })?,
        (None, [drive]) => from_drive(drive, places)?,
        (None, _) => {
            let paths: Vec<_> = drives.iter().map(|drive| drive.path.display().to_string()).collect();
            return Err(ConfigError::Several { drives: paths.join(", ") });
        }
    };
    found.others = others(&found, places, &drives);
    Ok(found)
}

/// Drives and partitions with the label.
pub fn labelled(devices: &[Device]) -> Vec<&Device> {
    let has_label = |device: &&Device| device.label.as_deref() == Some(LABEL);
    devices.iter().flat_map(Device::tree).filter(has_label).collect()
}

fn others(found: &Found, places: &Places<'_>, drives: &[&Device]) -> Vec<Other> {
    const LATER: &str = "not read, an earlier source was found";
    let mut others = Vec::new();
    let mut add = |source: String, why| others.push(Other { source, why });
    match places.argument {
        None => add("kernel argument sheaf.config".into(), "not given"),
        Some(ConfigArgument::Medium) => add("kernel argument sheaf.config".into(), "asks for the medium's"),
        Some(ConfigArgument::Url(_)) => {}
    }
    if found.device.is_none() {
        match drives {
            [] => add(format!("drive labelled {LABEL}"), "none is there"),
            _ => drives
                .iter()
                .for_each(|drive| add(format!("drive {} labelled {LABEL}", drive.path.display()), LATER)),
        }
    }
    let is_medium = found.device.is_none() && !matches!(places.argument, Some(ConfigArgument::Url(_)));
    match places.medium {
        Some(medium) if !is_medium => add(format!("medium {}", medium.device.display()), LATER),
        None => add("medium".into(), "the release comes from a server"),
        Some(_) => {}
    }
    others
}

fn from_url(source: &ConfigUrl, places: &Places<'_>) -> Result<Found, ConfigError> {
    let asks = Introduction { boot: places.boot.to_owned(), machine: places.machine.clone() };
    let text = super::url::fetch(source, &asks, places.call, places.timeouts, places.tell)?;
    valid(format!("{} (kernel argument)", source.url), None, text, places.machine)
}

fn from_drive(drive: &Device, places: &Places<'_>) -> Result<Found, ConfigError> {
    let (mount, target) = (places.mount, &places.mounts.join("config"));
    let fstype = drive.fstype.clone().unwrap_or_default();
    if !FSTYPES.contains(&fstype.as_str()) {
        return Err(ConfigError::Fstype { drive: drive.path.clone(), fstype });
    }
    let dir = mount.read_only(&drive.path, &fstype, target)?;
    let origin = format!("drive {} labelled {LABEL}", drive.path.display());
    let text = read(&dir.join(FILE)).map_err(|source| ConfigError::Read { origin: origin.clone(), source });
    mount.unmount(target)?;
    valid(origin, Some(drive.path.clone()), text?, places.machine)
}

/// The config in the medium; or, inside, why there is none.
fn from_medium(places: &Places<'_>) -> Result<Result<Found, String>, ConfigError> {
    let Some(medium) = places.medium else {
        return Ok(Err("the release comes from a server, not from a medium".into()));
    };
    let origin = format!("medium {}", medium.device.display());
    match read(&medium.folder.join(FILE)) {
        Ok(text) => valid(origin, None, text, places.machine).map(Ok),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Ok(Err(format!("the {origin} holds no /{FOLDER}/{FILE}")))
        }
        Err(source) => Err(ConfigError::Read { origin, source }),
    }
}

fn read(path: &Path) -> io::Result<String> {
    if fs::metadata(path)?.len() > LARGEST {
        return Err(io::Error::new(
            io::ErrorKind::FileTooLarge,
            "larger than 1 MiB: this is not a node config",
        ));
    }
    fs::read_to_string(path)
}

fn valid(
    origin: String,
    device: Option<PathBuf>,
    text: String,
    machine: &Identity,
) -> Result<Found, ConfigError> {
    let invalid = |errors| ConfigError::Invalid { origin: origin.clone(), errors };
    let file = load::parse_config_file(FILE, &text).map_err(invalid)?;
    let config = file.for_machine(machine).map_err(invalid)?;
    // A node does not keep the secrets of others, and its name is made out here, once.
    let text = file
        .text_of(&text, &config)
        .map_err(|error| ConfigError::Write { origin: origin.clone(), source: Box::new(error) })?;
    Ok(Found { origin, device, text, config, others: Vec::new() })
}
