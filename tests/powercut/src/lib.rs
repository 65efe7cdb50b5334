//! Replays the writes that a disk saw, cut off anywhere, and asks what firmware and boot loader make of each state.
//!
//! Why here: "a power cut at any moment leaves a node that starts" can be shown for every write of an installation and of
//! an update, and for the orders in which a disk may keep them, without booting each. Why a crate of its own: it knows
//! only what is on the disk, not the programs that wrote it, and it compiles in seconds.
//! Route in: recordings of QEMU's blklogwrites, the release folders. Route out: a [`report::Report`];
//! tests/tests/power_cut.rs records and asserts, docs/reliability.md explains.

pub mod content;
pub mod disk;
pub mod log;
pub mod model;
pub mod release;
pub mod replay;
pub mod report;
pub mod states;
