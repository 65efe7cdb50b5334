//! Debian's packages beside the image: fetched and unpacked for guests and for benchmarks.
//!
//! Why here: neither is installed anywhere; the host may have no dpkg, and its own packages are another release's. Route
//! in: the tools chroot's apt with lists and archive of its own, Debian's mirror (`SHEAF_MIRROR`). Route out: one tree
//! with the packages' files; no maintainer script runs.

use crate::Tools;
use sheaf_host::chroot::{Chroot, Privilege};
use sheaf_host::run::{Command, Run, RunError, System};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Some 50 MB over a slow line.
const DEADLINE: Duration = Duration::from_secs(600);

/// Sets `$@` to the words that apt-get and apt-cache are called with, and reads the mirror's lists.
const LISTS: &str = r#"set -eu
cd /mnt/work
mkdir -p apt/lists/partial apt/archives/partial tree
: > apt/status
set -- -q -o Dir::State::lists=/mnt/work/apt/lists -o Dir::State::status=/mnt/work/apt/status \
    -o Dir::Cache=/mnt/work/apt -o Dir::Etc::sourcelist=/mnt/work/sources.list -o Dir::Etc::sourceparts=/dev/null \
    -o APT::Sandbox::User=root -o Acquire::Languages=none
apt-get "$@" update
"#;

const UNPACK: &str = r#"
for package in apt/archives/*.deb; do dpkg-deb -x "$package" tree; done"#;

/// Packages that could not be had.
#[derive(Debug, thiserror::Error)]
pub enum PackagesError {
    /// A file could not be written.
    #[error("{}", .path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// apt or dpkg failed.
    #[error("Debian's packages cannot be fetched")]
    Fetch(#[source] RunError),
}

/// Fetches with `fetch`, a script that calls `apt-get "$@"` for `$PACKAGES` and leaves them in `apt/archives`; gives the
/// folder of their files. `work` keeps left-overs and the log.
pub fn unpack(tools: &Tools, work: &Path, fetch: &str, packages: &str) -> Result<PathBuf, PackagesError> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        |source| PackagesError::File { path, source }
    };
    std::fs::create_dir_all(work).map_err(failed(work))?;
    let mirror = mirror();
    let sources = work.join("sources.list");
    std::fs::write(&sources, format!("deb {mirror} trixie main\n")).map_err(failed(&sources))?;
    inside(tools, work, &format!("{LISTS}{fetch}{UNPACK}"), packages).map_err(PackagesError::Fetch)?;
    Ok(work.join("tree"))
}

/// Debian's mirror: `SHEAF_MIRROR`, or Debian's own.
pub fn mirror() -> String {
    std::env::var("SHEAF_MIRROR").unwrap_or_else(|_| "http://deb.debian.org/debian".into())
}

/// Runs `script` in the tools chroot, which sees `work` as `/mnt/work`.
pub fn inside(tools: &Tools, work: &Path, script: &str, packages: &str) -> Result<(), RunError> {
    let command = Command::new("sh").args(["-c", script]).env("PACKAGES", packages);
    let chroot = Chroot::new(tools.root(), Privilege::current()).network().write(work, "work");
    System.run(&chroot.enter(&command).log(work.join("packages.log")).deadline(DEADLINE)).map(drop)
}
