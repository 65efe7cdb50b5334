//! File systems in files, for disks that nodes and guests are given.
//!
//! Route in: the tools chroot's mke2fs. Route out: the file, filled.

use crate::Tools;
use sheaf_host::run::{Run, RunError, System};
use std::path::Path;

/// Makes a file system on the whole of the file `image`, labelled `label`, with what is in `folder`.
pub fn make(tools: &Tools, image: &Path, label: &str, folder: Option<&Path>) -> Result<(), RunError> {
    let mkfs = tools.command("usr/sbin/mke2fs").args(["-q", "-F", "-t", "ext4", "-L", label]);
    let mkfs = mkfs.args(["-O", "^has_journal", "-E", "root_owner=0:0"]);
    let mkfs = folder.into_iter().fold(mkfs, |mkfs, folder| mkfs.arg("-d").arg(folder));
    System.run(&mkfs.arg(image).env("MKE2FS_CONFIG", tools.file("etc/mke2fs.conf"))).map(drop)
}
