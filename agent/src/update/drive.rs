//! A release on a drive that was plugged into the node: mounted read-only for the time of one step.
//!
//! Why by a unit: the agent's own sandbox permits no mounts, and a mount that a stopped agent left behind would keep the drive
//! busy. Route in: the label of a file system. Route out: the folder in it that holds a release.

use super::Hosts;
use sheaf_config::manifest::FILE;
use sheaf_host::systemd::UnitError;
use std::path::{Path, PathBuf};

/// Folder of a release on our own media.
const MEDIUM: &str = "sheaf";

/// Why there is no release on a drive.
#[derive(Debug, thiserror::Error)]
pub enum DriveError {
    /// It is not there.
    #[error(
        "no drive labelled {label} is at this node; plug it in, or label its file system (vfat, ext4, iso9660) so"
    )]
    Absent {
        /// The label.
        label: String,
    },
    /// It cannot be mounted.
    #[error("the drive labelled {label} cannot be mounted; format it as vfat or ext4")]
    Mount {
        /// The label.
        label: String,
        /// Why not.
        source: UnitError,
    },
    /// There is no release on it.
    #[error("the drive labelled {label} has no {FILE} in {looked}; copy the folder of the release onto it")]
    NoRelease {
        /// The label.
        label: String,
        /// Where it was looked for.
        looked: String,
    },
}

/// The unit that mounts the drive labelled `label`; letters that a unit's name gives another meaning are written as
/// systemd-escape(1) does.
fn unit(label: &str) -> String {
    format!("sheaf-drive@{}.service", label.replace('-', "\\x2d"))
}

/// Mounts the drive labelled `label` until [`release`]; gives where its files are.
pub async fn mount<V>(hosts: &Hosts<V>, label: &str) -> Result<PathBuf, DriveError> {
    if !hosts.labels.join(label).exists() {
        return Err(DriveError::Absent { label: label.to_owned() });
    }
    let mounted = hosts.units.start(&unit(label)).await;
    mounted.map_err(|source| DriveError::Mount { label: label.to_owned(), source })?;
    Ok(hosts.drive.clone())
}

/// Unmounts it.
pub async fn release<V>(hosts: &Hosts<V>, label: &str) -> Result<(), UnitError> {
    hosts.units.stop(&unit(label)).await
}

/// The folder below `mounted` that holds the release called `title` (`sheaf-0.2.0`): itself, that of our own media, or one of
/// that name. Blocks.
pub fn folder(mounted: &Path, label: &str, title: &str) -> Result<PathBuf, DriveError> {
    let places = [title, MEDIUM, ""];
    let found = places.iter().map(|place| mounted.join(place)).find(|folder| folder.join(FILE).exists());
    found.ok_or_else(|| DriveError::NoRelease {
        label: label.to_owned(),
        looked: places.map(|place| format!("/{place}")).join(", "),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_release_is_found_in_its_own_folder_in_that_of_a_medium_or_at_the_top() {
        let drive = tempfile::tempdir().unwrap();
        let found = || folder(drive.path(), "SHEAF-UPDATE", "sheaf-0.2.0");
        assert_eq!(
            found().unwrap_err().to_string(),
            "the drive labelled SHEAF-UPDATE has no manifest.json in /sheaf-0.2.0, /sheaf, /; copy the folder of the release \
             onto it"
        );
        for place in ["", "sheaf", "sheaf-0.2.0"] {
            let place = drive.path().join(place);
            std::fs::create_dir_all(&place).unwrap();
            std::fs::write(place.join(FILE), "{}").unwrap();
            assert_eq!(found().unwrap().join(FILE), place.join(FILE));
        }
    }

    #[test]
    fn a_label_is_written_into_the_name_of_its_unit_as_systemd_escapes_it() {
        assert_eq!(unit("SHEAF-UPDATE"), "sheaf-drive@SHEAF\\x2dUPDATE.service");
        assert_eq!(unit("sheaf_0.2.0"), "sheaf-drive@sheaf_0.2.0.service");
    }
}
