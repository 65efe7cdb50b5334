//! Which files of a node a `hostDisk` may name, and what each means.
//!
//! Why here: the schema refuses other paths, the controller adds the image's node selector, and the agent checks
//! once more, because whoever can create Pods could try to name any file of the node.
//! Route in: `hostDisk.path`. Route out: [`HostDiskPlace`], or the sentence that says what is allowed.

use crate::names::{DISKS_DIR, IMAGES_DIR};

/// What a permitted `hostDisk.path` means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HostDiskPlace {
    /// A base image of the node: the VM writes to an overlay that is lost with the VMI.
    Image {
        /// Name of the image, as in the node label and in node.toml.
        name: String,
    },
    /// A file of the node that the VM writes in place and that outlives it.
    Disk {
        /// Path below the folder of disks, without a leading slash.
        relative: String,
    },
}

/// Why a path is not permitted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "hostDisk path {path:?} is not allowed: use {IMAGES_DIR}/<name> for a base image of the node or \
     {DISKS_DIR}/<file> for a disk that is written in place"
)]
pub struct PathRefused {
    /// The path as given.
    pub path: String,
}

/// Reads `path`: `/data/images/<name>` or `/data/disks/<file or folder/file>`, plain names only.
pub fn place(path: &str) -> Result<HostDiskPlace, PathRefused> {
    let refused = || PathRefused { path: path.to_string() };
    if let Some(name) = path.strip_prefix(IMAGES_DIR).and_then(|rest| rest.strip_prefix('/')) {
        return if is_plain(name) && name.len() <= 63 {
            Ok(HostDiskPlace::Image { name: name.to_string() })
        } else {
            Err(refused())
        };
    }
    let relative =
        path.strip_prefix(DISKS_DIR).and_then(|rest| rest.strip_prefix('/')).ok_or_else(refused)?;
    if relative.split('/').all(is_plain) && path.len() <= 255 {
        Ok(HostDiskPlace::Disk { relative: relative.to_string() })
    } else {
        Err(refused())
    }
}

/// A name of letters, digits, `.`, `_` and `-` that starts and ends with a letter or digit: a label value too.
fn is_plain(name: &str) -> bool {
    let edge = |byte: Option<u8>| byte.is_some_and(|b| b.is_ascii_alphanumeric());
    edge(name.bytes().next())
        && edge(name.bytes().last())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_under_images_is_the_image_of_that_name() {
        assert_eq!(
            place("/data/images/debian-13.qcow2"),
            Ok(HostDiskPlace::Image { name: "debian-13.qcow2".into() })
        );
    }

    #[test]
    fn a_path_under_disks_may_have_folders() {
        assert_eq!(
            place("/data/disks/team-a/db.raw"),
            Ok(HostDiskPlace::Disk { relative: "team-a/db.raw".into() })
        );
    }

    #[test]
    fn paths_that_leave_the_folders_are_refused() {
        for path in [
            "/etc/shadow",
            "/data/images",
            "/data/images/",
            "/data/images/a/b",
            "/data/images/../vms/x",
            "/data/disks/../../state/node.toml",
            "/data/disks/a/./b",
            "/data/disks//a",
            "/data/disks/.hidden",
            "/data/disksx/a",
            "data/disks/a",
            "/data/disks/a b",
        ] {
            assert!(place(path).is_err(), "{path} was accepted");
        }
    }
}
