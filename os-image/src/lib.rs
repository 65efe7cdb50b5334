//! Recipe to release: packages, root file system, hash tree, boot programs, signed manifest.
//!
//! A build is a row of stages ([`mod@build`] says which takes what from which). A stage is done again when the
//! SHA-256 of its inputs changes ([`inputs`], [`stage`]); it runs Debian's own tools in the tools chroot
//! ([`tools`]). What the image holds is data under `image/`: package lists, an overlay tree, dracut modules,
//! kernel arguments and `customize.sh`.
//! Route in: [`sheaf_config::recipe::Recipe`]. Route out: a folder that crate iso makes a medium of.

mod build;
pub mod build_host;
pub mod contents;
pub mod control;
pub mod crates;
pub mod debian;
mod debs;
mod error;
pub mod files;
mod frames;
pub mod go;
pub mod inputs;
mod lists;
pub mod lock;
pub mod npm;
mod pe;
pub mod progress;
pub mod release;
pub mod sbom;
pub mod signing;
pub mod source;
pub mod stage;
pub mod stages;
pub mod tools;

pub use build::{Built, build};
pub use error::BuildError;
