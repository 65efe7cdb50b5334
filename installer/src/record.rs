//! What is left of an installation for those who look at it later: the log, and the support bundle.
//!
//! Why on the labelled drive: a machine whose installation failed has no disk and perhaps no network, but often the
//! stick that node.toml came from. Route in: what happened, and the machine. Route out: files on the drive, or in a
//! folder; secrets are masked.

use crate::session::Host;
use crate::sources::config::{LABEL, labelled};
use sheaf_config::node::{Identity, NodeConfig};
use sheaf_host::block::{self, ProbeError};
use sheaf_host::console::Console;
use sheaf_host::file::{WriteError, write_atomically};
use sheaf_host::mount::MountError;
use sheaf_host::run::Run;
use sheaf_host::support::{self, Bundle};
use std::io;
use std::path::{Path, PathBuf};

/// Where the running installer keeps its log, its plan and the masked config, for a bundle made by another program.
pub const FOLDER: &str = "/run/sheaf/record";
/// The log, in [`FOLDER`].
pub const LOG: &str = "install.log";
/// File systems that are written to: every computer can make and read the first.
const WRITABLE: [&str; 2] = ["vfat", "ext4"];
/// What the installation said, and everything else since the machine was started.
const JOURNAL: support::Program =
    ("journal.log", &["journalctl", "--boot", "--no-pager", "--output=short-monotonic"]);

/// A record that could not be kept.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// There is not exactly one drive to write to.
    #[error("{found} labelled {LABEL}; plug one in (FAT, with that label)")]
    Drive {
        /// "no drive is", "2 drives are".
        found: String,
    },
    /// The drive cannot be written to.
    #[error("the drive {} labelled {LABEL} has the file system \"{fstype}\", to which nothing is written", .drive.display())]
    Fstype {
        /// Its path.
        drive: PathBuf,
        /// What it has.
        fstype: String,
    },
    /// The drives cannot be listed.
    #[error(transparent)]
    Probe(#[from] ProbeError),
    /// The drive cannot be mounted.
    #[error(transparent)]
    Mount(#[from] MountError),
    /// A file cannot be written.
    #[error(transparent)]
    Write(#[from] WriteError),
}

/// Name by which one machine's records are told from another's on the same drive.
pub fn name_of(machine: &Identity) -> String {
    let mac = machine.macs.first().map(|mac| mac.replace(':', ""));
    let name = machine.serial.clone().or(mac).unwrap_or_else(|| "machine".into());
    let plain = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' };
    name.chars().map(plain).take(40).collect()
}

/// Puts `bytes` as the file `name` into the root of the labelled drive; says where it went.
pub fn save(host: &Host<'_>, name: &str, bytes: &[u8]) -> Result<String, RecordError> {
    let devices = block::devices(host.run)?;
    let drives = labelled(&devices);
    let drive = match drives[..] {
        [drive] => drive,
        [] => return Err(RecordError::Drive { found: "no drive is".into() }),
        _ => return Err(RecordError::Drive { found: format!("{} drives are", drives.len()) }),
    };
    let fstype = drive.fstype.clone().unwrap_or_default();
    if !WRITABLE.contains(&fstype.as_str()) {
        return Err(RecordError::Fstype { drive: drive.path.clone(), fstype });
    }
    let target = host.scratch.join("mounts/record");
    let folder = host.mount.writable(&drive.path, &fstype, &target)?;
    let written = write_atomically(&folder.join(name), bytes, 0o600);
    // What was written is on the drive once it is unmounted, and it may be taken out then.
    host.mount.unmount(&target)?;
    written?;
    Ok(format!("{name} on {}", drive.path.display()))
}

/// The log as one more console; none where the folder cannot be written.
pub fn open_log(folder: &Path) -> Option<Console> {
    std::fs::create_dir_all(folder).ok()?;
    let log = std::fs::File::options().create(true).append(true).open(folder.join(LOG)).ok()?;
    Some(Console::of(Box::new(log), false))
}

/// Keeps the masked config of the installation for a bundle.
pub fn keep_config(folder: &Path, config: &NodeConfig) {
    let masked = config.to_masked_toml().unwrap_or_default();
    // A bundle without it says less; nothing else depends on it.
    let _ = write_atomically(&folder.join("node.toml"), masked.as_bytes(), 0o600);
}

/// Keeps `text` as the file `name` for a bundle.
pub fn keep(folder: &Path, name: &str, text: &str) {
    let _ = write_atomically(&folder.join(name), text.as_bytes(), 0o600);
}

/// Everything that tells what happened on this machine, in one archive.
pub fn bundle(run: &dyn Run, root: &Path, folder: &Path) -> io::Result<Vec<u8>> {
    let mut bundle = Bundle::new(Vec::new());
    let mut kept: Vec<_> = std::fs::read_dir(folder).into_iter().flatten().flatten().collect();
    kept.sort_by_key(std::fs::DirEntry::file_name);
    for entry in kept {
        let bytes = std::fs::read(entry.path()).unwrap_or_default();
        bundle.add(&entry.file_name().to_string_lossy(), &bytes)?;
    }
    bundle.programs(run, support::PROGRAMS)?;
    bundle.programs(run, &[JOURNAL])?;
    bundle.files(root, support::FILES)?;
    match crate::inventory::probe(run, root, crate::inventory::Reserved::default()) {
        Ok(inventory) => {
            bundle.add("inventory.json", &serde_json::to_vec_pretty(&inventory).unwrap_or_default())?;
        }
        Err(error) => bundle.add("inventory.error", format!("{error:#}").as_bytes())?,
    }
    bundle.finish()
}
