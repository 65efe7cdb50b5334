//! Registries: where container disks come from.
//!
//! Why here: a node runs no container runtime, and of an image it wants one file. The protocol is that of the OCI distribution
//! specification 1.1; images are those of the OCI image specification and of Docker's (image manifest version 2, schema 2).
//! No crate of that protocol can be told which addresses may be connected to, so the requests go through
//! [`sheaf_host::fetch`], which judges them as it does those of imports (decision 26). Route in: a [`Reference`], how its
//! registry is reached, credentials. Route out: a digest, and the file of its layers in which a disk lies.

pub mod challenge;
pub mod client;
pub mod credentials;
pub mod layer;
pub mod manifest;
pub mod reference;
#[cfg(test)]
pub(crate) mod testing;

pub use client::{Client, PullError};
pub use reference::{Digest, Reference};
