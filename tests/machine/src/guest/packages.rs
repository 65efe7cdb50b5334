//! Debian's packages of the guest, fetched and unpacked.
//!
//! Route in: the tools chroot's apt, with an archive of its own under the work folder. Route out: one tree with the
//! packages' files; no maintainer script runs.

use super::{GuestError, fresh_folder, write};
use crate::Tools;
use sheaf_host::chroot::{Chroot, Privilege};
use sheaf_host::run::{Command, Run, System};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Besides the kernel, whose package has its version in its name.
pub(super) const PACKAGES: &str =
    "busybox-static dropbear-bin libc6 libcrypt1 libtomcrypt1 libtommath1 zlib1g";

/// Some 40 MB over a slow line.
const DEADLINE: Duration = Duration::from_secs(600);

/// `dpkg-deb -x` of each, in the chroot: the host may have no dpkg.
const FETCH: &str = r#"set -eu
cd /mnt/work
mkdir -p apt/lists/partial apt/archives/partial debs
: > apt/status
set -- -q -o Dir::State::lists=/mnt/work/apt/lists -o Dir::State::status=/mnt/work/apt/status \
    -o Dir::Cache=/mnt/work/apt -o Dir::Etc::sourcelist=/mnt/work/sources.list -o Dir::Etc::sourceparts=/dev/null \
    -o APT::Sandbox::User=root -o Acquire::Languages=none
apt-get "$@" update
kernel=$(apt-cache "$@" depends linux-image-cloud-amd64 | sed -n 's/.*Depends: \(linux-image-[^ ]*\)$/\1/p')
cd debs
apt-get "$@" download $PACKAGES "$kernel"
for package in *.deb; do dpkg-deb -x "$package" ../tree; done"#;

/// Fetches and unpacks; gives the tree's folder.
pub(super) fn unpack(tools: &Tools, work: &Path) -> Result<PathBuf, GuestError> {
    fresh_folder(work)?;
    let tree = work.join("tree");
    fresh_folder(&tree)?;
    let mirror = std::env::var("SHEAF_MIRROR").unwrap_or_else(|_| "http://deb.debian.org/debian".into());
    write(
        &work.join("sources.list"),
        format!("deb {mirror} trixie main\n").as_bytes(),
        "no list of sources",
    )?;
    let inside = Command::new("sh").args(["-c", FETCH]).env("PACKAGES", PACKAGES);
    let command =
        Chroot::new(tools.root(), Privilege::current()).network().write(work, "work").enter(&inside);
    System
        .run(&command.log(work.join("packages.log")).deadline(DEADLINE))
        .map_err(|source| GuestError::Program { step: "Debian's packages can not be fetched", source })?;
    Ok(tree)
}
