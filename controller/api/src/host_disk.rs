//! Which files of a node a `hostDisk` may name, and what each means.
//!
//! Why here: the schema refuses other paths, a policy the disks of other namespaces, the controller adds the image's node
//! selector, and the agent checks once more. Route in: `hostDisk.path` and the VM's namespace. Route out: [`HostDiskPlace`], or the sentence that says what is allowed.

use crate::names::{DISKS_DIR, IMAGES_DIR};

/// The folder at the root that has what is the node's and its VMs'.
const DATA: &str = "data";

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
        /// Path below the folder of disks, without a leading slash; its first folder is the VM's namespace.
        relative: String,
    },
}

/// Why a path is not permitted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "hostDisk path {path:?} is not allowed: use {IMAGES_DIR}/<name> for a base image of the node or \
     {DISKS_DIR}/{namespace}/<file> for a disk that is written in place"
)]
pub struct PathRefused {
    /// The path as given.
    pub path: String,
    /// The namespace of the VM.
    pub namespace: String,
}

/// Reads the `path` of a VM of `namespace`: `/data/images/<name>` or `/data/disks/<namespace>/<file or folder/file>`,
/// plain names only. Base images are shared by all namespaces and never written; a disk belongs to its namespace. A path that
/// is not below `/data` is below the folder of its namespace: no VM has a file of the node's own, and manifests made for
/// other nodes work.
pub fn place(path: &str, namespace: &str) -> Result<HostDiskPlace, PathRefused> {
    let refused = || PathRefused { path: path.to_string(), namespace: namespace.to_string() };
    if let Some(name) = image_name(path) {
        return if is_plain(name) && name.len() <= 63 {
            Ok(HostDiskPlace::Image { name: name.to_string() })
        } else {
            Err(refused())
        };
    }
    let own = || {
        let elsewhere = path.strip_prefix('/').filter(|rest| rest.split('/').next() != Some(DATA))?;
        Some(format!("{namespace}/{elsewhere}"))
    };
    let below = path.strip_prefix(DISKS_DIR).and_then(|rest| rest.strip_prefix('/')).map(str::to_owned);
    let relative = below.or_else(own).ok_or_else(refused)?;
    match relative.split_once('/') {
        Some((first, file))
            if first == namespace
                && is_plain(first)
                && file.split('/').all(is_plain)
                && path.len() <= 255 =>
        {
            Ok(HostDiskPlace::Disk { relative })
        }
        _ => Err(refused()),
    }
}

/// The name of the base image that a path means, whether or not it is a permitted one.
pub fn image_name(path: &str) -> Option<&str> {
    path.strip_prefix(IMAGES_DIR)?.strip_prefix('/')
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
            place("/data/images/debian-13.qcow2", "shop"),
            Ok(HostDiskPlace::Image { name: "debian-13.qcow2".into() })
        );
    }

    #[test]
    fn a_path_under_the_namespaces_disks_may_have_folders() {
        assert_eq!(
            place("/data/disks/shop/team-a/db.raw", "shop"),
            Ok(HostDiskPlace::Disk { relative: "shop/team-a/db.raw".into() })
        );
    }

    #[test]
    fn the_disks_of_another_namespace_are_refused_and_the_message_names_the_own_folder() {
        let refused = place("/data/disks/shop/db.raw", "other").unwrap_err().to_string();
        assert!(refused.contains("/data/disks/other/<file>"), "{refused}");
        for path in ["/data/disks/db.raw", "/data/disks/shop", "/data/disks/shop/", "/data/disks//shop/a"] {
            assert!(place(path, "shop").is_err(), "{path} was accepted");
        }
        assert!(place("/data/disks//a", "").is_err());
    }

    #[test]
    fn a_path_that_is_not_below_data_is_below_the_folder_of_the_namespace() {
        assert_eq!(
            place("/var/data/disk.img", "shop"),
            Ok(HostDiskPlace::Disk { relative: "shop/var/data/disk.img".into() })
        );
        assert_eq!(
            place("/etc/shadow", "shop"),
            Ok(HostDiskPlace::Disk { relative: "shop/etc/shadow".into() })
        );
    }

    #[test]
    fn paths_that_leave_the_folders_are_refused() {
        for path in [
            "/etc/../data/state/node.toml",
            "/etc//shadow",
            "/data",
            "/data/state",
            "/",
            "var/data/disk.img",
            "/data/images",
            "/data/images/",
            "/data/images/a/b",
            "/data/images/../vms/x",
            "/data/disks/shop/../../state/node.toml",
            "/data/disks/shop/../other/a",
            "/data/disks/../disks/shop/a",
            "/data/disks/shop/./b",
            "/data/disks/shop//a",
            "/data/disks/shop/.hidden",
            "/data/disksx/shop/a",
            "//data/disks/other/a",
            "data/disks/shop/a",
            "/data/disks/shop/a b",
        ] {
            assert!(place(path, "shop").is_err(), "{path} was accepted");
        }
    }
}
