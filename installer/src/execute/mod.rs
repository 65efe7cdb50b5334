//! Carries out a plan: one arm for each step, no decisions.
//!
//! Why the order is safe: the old table goes first and the new one comes last, so that a disk on which an
//! installation was cut short at any point has no table and boots nothing. Route in: [`InstallPlan`] and what is needed to
//! carry it out. Route out: how long each phase took; or a [`Failure`] after the half-made table was wiped.

mod addon;
mod bios;
mod boot_entry;
mod check;
mod esp;
mod ext4;
mod payload;
mod table;

use crate::plan::{InstallPlan, Layout, OnFailure, Range, Role, Step};
use crate::progress::Progress;
use crate::sources::remote::Remote;
use serde::Serialize;
use sheaf_host::disk::{Buffer, Disk, DiskError, Hold};
use sheaf_host::efi::Variables;
use sheaf_host::mount::{Mount, MountError};
use sheaf_host::run::{Run, RunError};
use std::collections::BTreeMap;
use std::error::Error;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// Opens the disk at a path.
pub type Open<'a> = dyn Fn(&Path) -> Result<Box<dyn Disk>, DiskError> + Sync + 'a;

/// What carries a plan out.
pub struct Env<'a> {
    /// Runs mkfs and mtools.
    pub run: &'a dyn Run,
    /// Shows images of the medium to mkfs.
    pub mount: &'a dyn Mount,
    /// Says what the firmware boots.
    pub firmware: &'a dyn Variables,
    /// The disk that is written.
    pub disk: &'a dyn Disk,
    /// Disks that are emptied besides.
    pub data_disks: &'a [Box<dyn Disk>],
    /// Folder of the medium with the payload. With [`Env::remote`] a folder in memory, for the files that programs
    /// copy.
    pub medium: &'a Path,
    /// The server that the payload comes from, when it is not on a medium.
    pub remote: Option<&'a Remote<'a>>,
    /// Folder in memory for what file systems are filled from.
    pub scratch: &'a Path,
    /// The node config as it is written to the disk.
    pub node_toml: &'a str,
    /// Who is told how far it is.
    pub progress: &'a Progress,
}

/// A step that failed.
#[derive(Debug, thiserror::Error)]
pub enum StepError {
    /// A file of the medium cannot be read.
    #[error("{file} of the medium cannot be read")]
    MediumRead {
        /// Its path below the medium's folder.
        file: String,
        /// What the kernel said.
        source: io::Error,
    },
    /// A file of the medium is not what the manifest says.
    #[error("{file} of the medium is damaged: {what}")]
    MediumDamaged {
        /// Its path below the medium's folder.
        file: String,
        /// What differs.
        what: String,
    },
    /// A file of the release folder cannot be had.
    #[error("{file} cannot be fetched")]
    Fetch {
        /// Its name in the release folder.
        file: String,
        /// Why not.
        source: io::Error,
    },
    /// A file of the release folder is not what the manifest says.
    #[error("{file} of the release folder does not match the manifest: {what}")]
    Served {
        /// Its name in the release folder.
        file: String,
        /// What differs.
        what: String,
    },
    /// The disk gave back something else than was written.
    #[error("{}: {what} differs from what was written when it is read back", .disk.display())]
    ReadBack {
        /// The disk.
        disk: PathBuf,
        /// What was read.
        what: String,
    },
    /// The data partition that is to stay is not what the table says.
    #[error("{}: its data partition holds no file system of that install", .disk.display())]
    NoData {
        /// The disk.
        disk: PathBuf,
    },
    /// A disk of the plan was not opened before the first write.
    #[error("{}: was not opened when the installation began (bug in sheaf-installer)", .disk.display())]
    NotHeld {
        /// The disk.
        disk: PathBuf,
    },
    /// The disk failed.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// A program failed.
    #[error(transparent)]
    Run(#[from] RunError),
    /// A file of the medium could not be shown to mkfs.
    #[error(transparent)]
    Mount(#[from] MountError),
    /// Memory for the contents of file systems ran out, or the like.
    #[error("{}: cannot be prepared in memory", .path.display())]
    Scratch {
        /// The file or folder.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// The table cannot be rendered.
    #[error("the partition table cannot be made")]
    Table(#[from] gptman::Error),
}

impl Env<'_> {
    /// A file of the payload could not be read.
    fn unreadable(&self, file: &str, source: io::Error) -> StepError {
        let file = file.to_owned();
        match self.remote {
            Some(_) if source.kind() == io::ErrorKind::InvalidData => {
                StepError::Served { file, what: source.to_string() }
            }
            Some(_) => StepError::Fetch { file, source },
            None => StepError::MediumRead { file, source },
        }
    }

    /// A file of the payload is not what the manifest says.
    fn damaged(&self, file: &str, what: String) -> StepError {
        let file = file.to_owned();
        match self.remote {
            Some(_) => StepError::Served { file, what },
            None => StepError::MediumDamaged { file, what },
        }
    }
}

impl DiskState {
    /// What became of the disk at `path`, for people.
    pub fn describe(&self, path: &Path) -> String {
        let path = path.display();
        match self {
            Self::Untouched => format!("Nothing was written to {path}."),
            Self::Wiped => format!("The partition table of {path} was wiped: it boots nothing."),
            Self::Kept => {
                format!("{path} keeps its partition table and data, and boots nothing: install again.")
            }
            Self::Unknown(error) => {
                format!("What boots from {path} could not be wiped ({error}): do not boot from it.")
            }
        }
    }
}

impl StepError {
    /// What an operator can do about it.
    pub fn remedy(&self) -> &'static str {
        match self {
            Self::MediumRead { .. } => {
                "the stick, disc or drive may be failing: try another one, or another port"
            }
            Self::MediumDamaged { .. } => {
                "write the medium again from the ISO (compare its SHA-256) and boot it again"
            }
            Self::Fetch { .. } => {
                "check the server, its log and the network to it; the installation starts again when the machine is reset"
            }
            Self::Served { .. } => {
                "copy the whole folder of one release to the server again, and make sure that no proxy answers in its \
                 place"
            }
            Self::ReadBack { .. } => {
                "the disk, its cable or its controller loses data: replace it or select another disk"
            }
            Self::NoData { .. } => "there is nothing to keep: install without reinstall",
            Self::Disk(DiskError::Busy { .. }) => "another program uses the disk: boot the medium again",
            Self::Disk(DiskError::Replaced { .. }) => {
                "do not plug disks in or out during an installation; start it again, and check which disk is chosen"
            }
            Self::Disk(_) => {
                "the disk may be failing: check its cable and SMART data, or select another disk"
            }
            Self::Run(_) => {
                "the disk may be failing: check its cable and SMART data, then boot the medium again"
            }
            Self::Mount(_) | Self::Scratch { .. } => {
                "the machine may have too little memory: Sheaf installs with 1 GiB"
            }
            Self::Table(_) | Self::NotHeld { .. } => {
                "please report this with the plan that `sheaf-installer run --dry-run` prints"
            }
        }
    }
}

/// An installation that did not come about.
#[derive(Debug, thiserror::Error)]
#[error("{step} failed")]
pub struct Failure {
    /// What was being done, in words.
    pub step: String,
    /// Why it failed.
    #[source]
    pub source: Box<StepError>,
    /// What became of the disk.
    pub disk: DiskState,
}

/// What a failed installation left behind.
#[derive(Debug)]
pub enum DiskState {
    /// Nothing was written.
    Untouched,
    /// The half-made table was wiped: the disk boots nothing.
    Wiped,
    /// Table and data are as they were; whatever could boot was wiped.
    Kept,
    /// It could not be wiped.
    Unknown(DiskError),
}

/// Seconds of each phase, for benchmarks: `sheaf-installer: timing {json}`.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Timing {
    /// Seconds by phase.
    pub seconds: BTreeMap<&'static str, f64>,
    /// Seconds in all.
    pub total: f64,
    /// Bytes read from the medium (each time), and decoded bytes written to slots.
    pub payload_bytes: u64,
}

/// Carries out all steps of `plan`.
pub fn install(plan: &InstallPlan, env: &Env<'_>) -> Result<Timing, Failure> {
    let mut timing = Timing::default();
    let begin = Instant::now();
    for (number, step) in plan.steps.iter().enumerate() {
        let start = Instant::now();
        env.progress.phase(number + 1, plan.steps.len(), &step.to_string());
        perform(step, &plan.layout, env).map_err(|source| Failure {
            step: step.to_string(),
            source: Box::new(source),
            disk: match number > first_write(plan) || writes(step) {
                true => wipe(env.disk, plan),
                false => DiskState::Untouched,
            },
        })?;
        *timing.seconds.entry(phase(step)).or_default() += start.elapsed().as_secs_f64();
        if let Step::WriteImage { payload, .. } = step {
            timing.payload_bytes += payload.raw_size;
        }
    }
    timing.total = begin.elapsed().as_secs_f64();
    Ok(timing)
}

fn writes(step: &Step) -> bool {
    !matches!(step, Step::CheckMedium { .. } | Step::CheckData { .. })
}

fn first_write(plan: &InstallPlan) -> usize {
    plan.steps.iter().position(writes).unwrap_or(plan.steps.len())
}

fn phase(step: &Step) -> &'static str {
    match step {
        Step::CheckMedium { .. } | Step::CheckData { .. } => "check",
        Step::Erase { .. } | Step::EmptyDisk { .. } => "erase",
        Step::WriteImage { .. } => "write",
        Step::VerifyImage { .. } => "verify",
        Step::WriteBios { .. } => "bios",
        Step::MakeEsp { .. } => "esp",
        Step::MakeState { .. } => "state",
        Step::MakeData { .. } => "data",
        Step::WriteTable { .. } => "table",
        Step::PreferDisk { .. } => "boot-entry",
    }
}

fn perform(step: &Step, layout: &Layout, env: &Env<'_>) -> Result<(), StepError> {
    match step {
        Step::CheckMedium { payloads, files } => check::medium(env, payloads, files),
        Step::CheckData { partition } => check::data(env.disk, partition),
        Step::Erase { ranges } => {
            env.disk.hold(Hold::Alone)?;
            erase(env.disk, ranges)
        }
        Step::EmptyDisk { path, ranges, .. } => {
            let disk = env.data_disks.iter().find(|disk| disk.path() == path);
            let disk = disk.ok_or_else(|| StepError::NotHeld { disk: path.clone() })?;
            disk.hold(Hold::Alone)?;
            erase(disk.as_ref(), ranges)
        }
        Step::WriteImage { payload, offset } => payload::write(env, payload, *offset),
        Step::VerifyImage { payload, offset } => payload::verify(env, payload, *offset),
        Step::MakeEsp { partition, sector_size, files, texts, arguments } => {
            esp::make(env, partition, *sector_size, files, &esp::contents(texts, arguments))
        }
        Step::MakeState { partition } => ext4::state(env, partition),
        Step::MakeData { partition, images } => ext4::data(env, partition, images),
        Step::WriteBios { partition, core } => bios::write_core(env, partition, core),
        Step::WriteTable { boot } => {
            let partition = layout.partition(Role::Bios);
            let code = boot.as_ref().map(|boot| bios::boot_code(env, partition, boot)).transpose()?;
            env.disk.hold(Hold::Alone)?;
            table::write(env.disk, layout, code)
        }
        Step::PreferDisk { esp, sector_size, loader } => {
            // The disk is complete: firmware that takes no entry is no reason to wipe it.
            if let Err(error) = boot_entry::prefer(env.firmware, esp, *sector_size, loader) {
                let reason = error.source().map(|source| format!(": {source}")).unwrap_or_default();
                env.progress.say(&format!(
                    "Note: {error}{reason}; if the machine does not start from the disk, select it in the firmware's menu"
                ));
            }
            Ok(())
        }
    }
}

/// Zeros on `ranges`, on the disk when it returns.
fn erase(disk: &dyn Disk, ranges: &[Range]) -> Result<(), StepError> {
    for range in ranges {
        // Ends of disks need not be a multiple of a page: the odd rest is written apart.
        let zeros = Buffer::zeroed(range.length.min(1 << 20) as usize);
        let mut done = 0;
        while done < range.length {
            let length = (range.length - done).min(zeros.len() as u64);
            disk.write_at(range.offset + done, &zeros[..length as usize])?;
            done += length;
        }
        // One after the other: what firmware boots by goes before what it would boot.
        disk.sync()?;
    }
    Ok(())
}

/// Erases what the plan says, so that nothing takes the disk for an installed one.
fn wipe(disk: &dyn Disk, plan: &InstallPlan) -> DiskState {
    // Even when another program uses the disk, wiping is worth the try.
    let _ = disk.hold(Hold::Alone);
    let OnFailure { erase: places, keeps_table } = &plan.on_failure;
    let results: Vec<_> = places.iter().map(|place| erase(disk, &[*place])).collect();
    match results.into_iter().find_map(Result::err) {
        Some(StepError::Disk(error)) => DiskState::Unknown(error),
        _ if *keeps_table => DiskState::Kept,
        _ => DiskState::Wiped,
    }
}
