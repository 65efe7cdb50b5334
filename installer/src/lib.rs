//! Installs a release on exactly one disk of this machine.
//!
//! Why a library: the program is a thin shell around it, and tests drive the same code on files.
//! Route in: [`sources`] find the medium and the node config, [`inventory`] says what the machine has.
//! [`network`] is tried before a disk is touched.
//! [`plan`] turns these into an [`plan::InstallPlan`] without touching anything; [`claim`] opens and holds its disks;
//! [`execute`] carries it out, one arm per step, and [`progress`] says on every console how far it is. Route out: a disk that boots, or a disk
//! without a partition table and the reason on the screen. [`offline`] does the same onto a file, for `sheaf disk`. [`recovery`] is what
//! a node's disk starts when no slot of it can be started.

pub mod claim;
pub mod execute;
pub mod inventory;
pub mod network;
pub mod offline;
pub mod plan;
pub mod progress;
pub mod record;
pub mod recovery;
pub mod session;
pub mod sources;
pub mod tui;
pub mod webhook;
