//! The steps of a reset, in order. Pure.
//!
//! Why this order: keys first, file systems when everything is erased, the mark last. Whatever a power cut leaves is observed again
//! with the same mark, and each step may be done twice. A pool's first sectors go last of all its sectors: by LVM's label in them it is found again.
//! Route in: [`Observed`]. Route out: [`Step`]s.

use super::observe::Observed;
use std::fmt;
use std::path::PathBuf;

/// One thing to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Write zeros over all of a partition.
    Overwrite {
        /// `state` or `data`.
        name: &'static str,
        /// The partition.
        device: PathBuf,
    },
    /// Tell the disk that nothing of a device is needed. Not every disk can do that.
    Discard(PathBuf),
    /// Discard a device of a pool, then write zeros over both of its ends, where LVM's marks are; its label last.
    ErasePool {
        /// Name of the pool.
        pool: String,
        /// The device.
        device: PathBuf,
    },
    /// Make the data partition's file system.
    MakeData(PathBuf),
    /// Make the state partition's file system, with node.toml if it is kept.
    MakeState {
        /// The partition.
        device: PathBuf,
        /// node.toml.
        config: Option<String>,
    },
    /// Remove the mark.
    ClearMark(PathBuf),
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Overwrite { name, device } => write!(f, "overwrite {name} ({})", device.display()),
            Self::Discard(device) => write!(f, "discard {}", device.display()),
            Self::ErasePool { pool, device } => write!(f, "erase {} of pool {pool}", device.display()),
            Self::MakeData(_) => f.write_str("make an empty file system for data"),
            Self::MakeState { config: None, .. } => f.write_str("make an empty file system for state"),
            Self::MakeState { config: Some(_), .. } => {
                f.write_str("make a file system for state with node.toml")
            }
            Self::ClearMark(_) => f.write_str("remove the mark of the reset"),
        }
    }
}

/// Decides.
pub fn plan(observed: &Observed) -> Vec<Step> {
    let Observed { mark, records, state, data, pools } = observed;
    let mut steps = Vec::new();
    for (name, device) in [("state", state), ("data", data)] {
        steps.push(Step::Overwrite { name, device: device.clone() });
        steps.push(Step::Discard(device.clone()));
    }
    for pool in pools {
        let erase = |device: &PathBuf| Step::ErasePool { pool: pool.name.clone(), device: device.clone() };
        steps.extend(pool.devices.iter().map(erase));
    }
    steps.push(Step::MakeData(data.clone()));
    steps.push(Step::MakeState { device: state.clone(), config: mark.config.clone() });
    steps.push(Step::ClearMark(records.clone()));
    steps
}
