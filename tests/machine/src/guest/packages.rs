//! Debian's packages of the guest.
//!
//! Route in: [`crate::packages`]. Route out: one tree with their files.

use super::{GuestError, fresh_folder};
use crate::Tools;
use crate::packages::unpack as fetch;
use std::path::{Path, PathBuf};

/// Besides the kernel, whose package has its version in its name.
pub(super) const PACKAGES: &str =
    "busybox-static dropbear-bin libc6 libcrypt1 libgmp10 libtomcrypt1 libtommath1 zlib1g";

/// These alone: what they depend on is for a whole Debian.
const FETCH: &str = r#"
kernel=$(apt-cache "$@" depends linux-image-cloud-amd64 | sed -n 's/.*Depends: \(linux-image-[^ ]*\)$/\1/p')
(cd apt/archives && apt-get "$@" download $PACKAGES "$kernel")"#;

/// Fetches and unpacks; gives the tree's folder.
pub(super) fn unpack(tools: &Tools, work: &Path) -> Result<PathBuf, GuestError> {
    fresh_folder(work)?;
    Ok(fetch(tools, work, FETCH, PACKAGES)?)
}
