//! A published release: its manifest trusted, its files read from a folder or a server, its images written to a slot
//! and read back, its files on the EFI system partition named.
//!
//! Why a crate: the installer writes a node's first release and the agent every later one; what is trusted, what is
//! written and how it is verified must be the same. Route in: a release folder, a key, a disk. Route out: a slot whose
//! every byte was read back, or which file or frame is wrong.

pub mod boot;
pub mod image;
pub mod keys;
pub mod origin;
pub mod records;
pub mod remote;
pub mod slot;
pub mod trust;
pub mod verity;

pub use sheaf_config::version;
