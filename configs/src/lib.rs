//! The files by which Sheaf's programs meet: node config, recipe, release manifest.
//!
//! Why here: one reader for each file, so that the build host, the installer and the agent refuse the same
//! mistakes with the same words. This crate knows no other room and does no I/O but reading the file it is given.
//! Route in: TOML or JSON text. Route out: types that hold only what is valid, or errors that name file and line.

pub mod against;
pub mod claim;
pub mod cluster_info;
pub mod convert;
pub mod diagnose;
pub mod grub;
pub mod handover;
pub mod inventory;
pub mod load;
pub mod manifest;
pub mod node;
pub mod pin;
pub mod recipe;
pub mod reference;
pub mod schema;
pub mod select;
pub mod served;
pub mod spanned;
pub mod syntax;
pub mod time;
pub mod version;
