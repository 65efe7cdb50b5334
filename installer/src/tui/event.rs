//! What happens to the screens, and what they ask for: all that passes between [`super::state`] and the runner.

use super::file::Ready;
use super::key::Key;
use super::machine::Machine;
use crate::progress::Told;
use sheaf_config::node::{NodeConfig, Then};
use std::time::Duration;

/// Something happened.
#[derive(Debug)]
pub enum Event {
    /// A key was pressed on one of the terminals.
    Key(Key),
    /// Answer to [`Action::Look`]; an error is shown where the disks would be.
    Looked(Result<Box<Machine>, String>),
    /// How far the checks of the network are: all of them, each time.
    Checks {
        /// The number that [`Action::TryNetwork`] gave them.
        run: u32,
        /// In the order of trying.
        checks: Vec<Check>,
        /// No more will come.
        done: bool,
    },
    /// Answer to [`Action::ReadAdminKey`].
    AdminKey(Result<String, String>),
    /// Answer to [`Action::Save`]: where it went, or why not.
    Saved(Result<String, String>),
    /// How far the installation is.
    Told(Told),
    /// The installation ended.
    Ended(Result<(), Failed>),
    /// [`Action::Leave`] did not work.
    StillHere(String),
}

/// Something to do.
#[derive(Clone, Debug)]
pub enum Action {
    /// Look at the machine.
    Look,
    /// Try the network as this config would have it.
    TryNetwork {
        /// Comes back with every event of it.
        run: u32,
        /// The config.
        config: Box<NodeConfig>,
    },
    /// Read `admin.pub` from the drive labelled SHEAF-CONF.
    ReadAdminKey,
    /// Write a file to the drive labelled SHEAF-CONF.
    Save {
        /// Its name.
        name: &'static str,
        /// Its text.
        text: String,
    },
    /// Install.
    Install(Box<Ready>),
    /// Restart or power off: the end.
    Leave(Then),
}

/// One thing of the network that was tried.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// What it is: `DHCP on enp1s0`.
    pub what: String,
    /// Its status.
    pub state: CheckState,
    /// What was found.
    pub found: String,
    /// What to do about it, when it did not pass.
    pub remedy: Option<String>,
    /// The node is of no use when this fails.
    pub required: bool,
    /// What was found is the node's address.
    pub is_address: bool,
    /// How long it took.
    pub took: Duration,
}

/// How far a check is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)] // the names say it
pub enum CheckState {
    Waiting,
    Running,
    Passed,
    Warned,
    Failed,
    Skipped,
}

/// An installation that did not come about, in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failed {
    /// What failed and why.
    pub reason: String,
    /// What to do, when that is known.
    pub remedy: Option<String>,
    /// What became of the disk.
    pub disk: String,
}
