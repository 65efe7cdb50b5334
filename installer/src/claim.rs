//! The disks of a plan, held open from the moment they were chosen until the installation ends.
//!
//! Why: between the scan of the machine and the first write, a disk may be unplugged and another one may get its name
//! in /dev. So all disks are opened first, each for us alone (O_EXCL), and scanned again while they are open: the kernel
//! gives neither the number nor the name of an open device to another one, so this scan is about the disks that will
//! be written. A disk that differs in anything from the one the plan was made for ends the installation.
//! Route in: a plan, the inventory it was made from, the machine. Route out: [`Claimed`], or [`ClaimError`]; nothing was
//! written in either case.

use crate::execute::Open;
use crate::inventory::{self, Disk as Found, Inventory, Reserved};
use crate::plan::InstallPlan;
use sheaf_host::disk::{Disk, DiskError, Hold};
use sheaf_host::run::{Command, Run};
use std::path::{Path, PathBuf};

/// The disks of one plan, open and held.
pub struct Claimed {
    /// The disk that is installed on.
    pub target: Box<dyn Disk>,
    /// Disks that are emptied besides.
    pub data: Vec<Box<dyn Disk>>,
}

/// Why the disks of a plan may not be written.
#[derive(Debug, thiserror::Error)]
pub enum ClaimError {
    /// One cannot be opened, or another program holds it.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// They cannot be scanned again.
    #[error("the disks cannot be scanned")]
    Scan(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// One is not what it was when the plan was made.
    #[error("{}: changed since the plan was made: {}", .disk.display(), .changes.join(", "))]
    Changed {
        /// Its path in the plan.
        disk: PathBuf,
        /// `serial is "B", was "A"`.
        changes: Vec<String>,
    },
}

impl ClaimError {
    /// What an operator can do about it.
    pub fn remedy(&self) -> &'static str {
        match self {
            Self::Disk(DiskError::Busy { .. }) => "another program uses the disk: boot the medium again",
            Self::Disk(_) => "check the disk's cable and its write protection",
            Self::Scan(_) => {
                "boot the medium again; if this happens again, a disk or its controller is failing"
            }
            Self::Changed { .. } => {
                "do not plug disks in or out during an installation; start it again, and check which disk is chosen"
            }
        }
    }
}

/// The machine whose disks are claimed.
#[derive(Clone, Copy)]
pub struct Machine<'m> {
    /// Opens a disk.
    pub open: &'m Open<'m>,
    /// Runs lsblk and wipefs.
    pub run: &'m dyn Run,
    /// Its tree.
    pub root: &'m Path,
    /// Devices that the installer itself reads from.
    pub reserved: Reserved<'m>,
}

/// Opens every disk of `plan`, which was made from `planned`, and compares it with what it was then.
pub fn claim(plan: &InstallPlan, planned: &Inventory, machine: &Machine<'_>) -> Result<Claimed, ClaimError> {
    let target = (machine.open)(&plan.disk.path)?;
    let data = plan.data_disks.iter().map(|path| (machine.open)(path)).collect::<Result<Vec<_>, _>>()?;
    // What happened before they were open reaches udev's records. A udev that does not settle is no reason to stop:
    // then a record that is too old differs, or is that of the same disk.
    let _ = machine.run.run(&Command::new("udevadm").args(["settle", "--timeout=10"]));
    let disks = || [&target].into_iter().chain(&data);
    disks().try_for_each(|disk| disk.hold(Hold::Alone))?;
    let is_ours = |number: Option<&str>, path: &Path| {
        disks().any(|disk| disk.number().as_deref() == number && disk.path() == path)
    };
    let now = inventory::disks(machine.run, machine.root, machine.reserved, &|device| {
        is_ours(device.number.as_deref().map(str::trim), &device.path)
    })
    .map_err(|error| ClaimError::Scan(error.into()))?;
    for disk in disks() {
        let path = disk.path();
        let before = planned.disks.iter().find(|found| found.path == path);
        let after = now.iter().find(|found| found.path == path);
        let changes = match (before, after) {
            (Some(before), Some(after)) => changes(before, after),
            _ => vec!["it is gone".to_owned()],
        };
        if !changes.is_empty() {
            return Err(ClaimError::Changed { disk: path.to_owned(), changes });
        }
    }
    Ok(Claimed { target, data })
}

/// What differs between a disk when the plan was made and the one that is open now.
fn changes(before: &Found, after: &Found) -> Vec<String> {
    let text = |text: &Option<String>| text.as_ref().map_or("none".into(), |text| format!("\"{text}\""));
    let mut changes = Vec::new();
    let mut compare = |name: &str, was: String, is: String| {
        if was != is {
            changes.push(format!("{name} is {is}, was {was}"));
        }
    };
    compare("serial", text(&before.serial), text(&after.serial));
    compare("wwn", text(&before.wwn), text(&after.wwn));
    compare("model", text(&before.model), text(&after.model));
    compare("size", format!("{} bytes", before.size), format!("{} bytes", after.size));
    compare("sector size", format!("{} bytes", before.sector_size), format!("{} bytes", after.sector_size));
    if !before.read_only && after.read_only {
        changes.push("it is read-only now".into());
    }
    let number = |number: Option<u64>| number.map_or("none".into(), |number| number.to_string());
    if before.sequence != after.sequence {
        changes.push(format!(
            "it was unplugged, or its medium was changed (diskseq is {}, was {})",
            number(after.sequence),
            number(before.sequence)
        ));
    }
    if let Some(error) = &after.unreadable {
        changes.push(format!("it cannot be searched for present contents ({error})"));
    }
    if before.signatures != after.signatures || before.older != after.older {
        let contents = |found: &Found| {
            let contents = crate::plan::contents(found);
            if contents.is_empty() { "nothing".into() } else { contents.join(", ") }
        };
        let (was, is) = (contents(before), contents(after));
        match was == is {
            true => changes.push(format!("its contents ({is}) are at other offsets")),
            false => changes.push(format!("it holds {is}, held {was}")),
        }
    }
    changes
}
