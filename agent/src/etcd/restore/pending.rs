//! New folders take the place of old ones, also when the power is cut between two renames.
//!
//! Why a record: without etcd's data folder etcd would begin an empty cluster. The record is written before the first
//! rename and removed after the last; the agent does what is left before it starts etcd. Each rename is found done or
//! to be done by what is there. Route in: [`Pending`] in `/var/lib/kubernetes/restore.json`. Route out: the folders in
//! their places.

use crate::paths::Paths;
use anyhow::{Context as _, ensure};
use serde::{Deserialize, Serialize};
use sheaf_host::file::{rename_durably, write_atomically};
use std::fs::{self, File};
use std::io;
use std::path::PathBuf;
use std::time::SystemTime;

const RECORD: &str = "restore.json";

/// What is to take the place of what.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pending {
    /// Ends the names of what is kept: the time of the restore.
    pub stamp: String,
    /// The keys change too.
    pub keys: bool,
}

/// A folder, what takes its place, and where it is kept.
struct Move {
    from: PathBuf,
    to: PathBuf,
    aside: PathBuf,
}

impl Pending {
    /// A restore at `now`, with keys or without.
    pub fn at(now: SystemTime, keys: bool) -> Self {
        Self { stamp: crate::cluster::time::rfc3339(now).replace(['-', ':'], ""), keys }
    }

    /// Where etcd's new data is made.
    pub fn data(paths: &Paths) -> PathBuf {
        paths.etcd.join("restoring")
    }

    /// Where the new keys are put.
    pub fn keys(paths: &Paths) -> PathBuf {
        paths.kubernetes.join("pki.restoring")
    }

    fn moves(&self, paths: &Paths) -> Vec<Move> {
        let aside = |name: &str| format!("{name}.before-{}", self.stamp);
        let keys = Move {
            from: Self::keys(paths),
            to: paths.kubernetes.join("pki"),
            aside: paths.kubernetes.join(aside("pki")),
        };
        let data = Move {
            from: Self::data(paths),
            to: paths.etcd.join("data"),
            aside: paths.etcd.join(aside("data")),
        };
        self.keys.then_some(keys).into_iter().chain([data]).collect()
    }

    /// Where the former folders are, of those that there were.
    pub fn kept(&self, paths: &Paths) -> Vec<PathBuf> {
        self.moves(paths).into_iter().map(|one| one.aside).filter(|aside| aside.exists()).collect()
    }

    /// Notes that the switch has begun.
    pub fn begin(&self, paths: &Paths) -> anyhow::Result<()> {
        Ok(write_atomically(&paths.kubernetes.join(RECORD), &serde_json::to_vec(self)?, 0o600)?)
    }
}

/// Does what is left of a switch that has begun; true when there was one.
pub fn finish(paths: &Paths) -> anyhow::Result<bool> {
    let record = paths.kubernetes.join(RECORD);
    let text = match fs::read(&record) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(error).with_context(|| format!("{}: cannot be read", record.display())),
    };
    let pending: Pending = serde_json::from_slice(&text).with_context(|| {
        format!("{}: is not a record of a restore; look at /var/lib/etcd, then remove it", record.display())
    })?;
    for Move { from, to, aside } in pending.moves(paths) {
        if !from.exists() {
            continue;
        }
        if to.exists() {
            ensure!(
                !aside.exists(),
                "{} and {} are both there, and {} is to take the place of one: move one of them away",
                to.display(),
                aside.display(),
                from.display()
            );
            rename_durably(&to, &aside)?;
        }
        rename_durably(&from, &to)?;
    }
    // Secrets may be encrypted with what was in use when the snapshot was taken.
    crate::encryption::unsettle(paths)?;
    fs::remove_file(&record)
        .and_then(|()| File::open(&paths.kubernetes)?.sync_all())
        .with_context(|| format!("{}: cannot be removed", record.display()))?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Files of a node whose restore is prepared.
    fn prepared(keys: bool) -> (tempfile::TempDir, Paths, Pending) {
        let root = tempfile::tempdir().unwrap();
        let paths = Paths::under(root.path());
        let pending = Pending { stamp: "1".into(), keys };
        for (folder, text) in [
            (paths.etcd.join("data"), "old"),
            (Pending::data(&paths), "new"),
            (paths.kubernetes.join("pki"), "old"),
        ] {
            fs::create_dir_all(&folder).unwrap();
            fs::write(folder.join("file"), text).unwrap();
        }
        if keys {
            fs::create_dir_all(Pending::keys(&paths)).unwrap();
            fs::write(Pending::keys(&paths).join("file"), "new").unwrap();
        }
        (root, paths, pending)
    }

    fn text(path: PathBuf) -> String {
        fs::read_to_string(path.join("file")).unwrap()
    }

    #[test]
    fn a_restore_that_has_not_begun_leaves_everything_as_it_is() {
        let (_root, paths, _) = prepared(true);
        assert!(!finish(&paths).unwrap());
        assert_eq!(
            (text(paths.etcd.join("data")), text(paths.kubernetes.join("pki"))),
            ("old".into(), "old".into())
        );
    }

    #[test]
    fn after_a_power_cut_at_any_rename_all_of_it_is_in_place_and_the_former_is_kept() {
        for done in 0..=4 {
            let (_root, paths, pending) = prepared(true);
            pending.begin(&paths).unwrap();
            let renames: Vec<_> = pending
                .moves(&paths)
                .into_iter()
                .flat_map(|one| [(one.to.clone(), one.aside), (one.from, one.to)])
                .collect();
            for (from, to) in &renames[..done] {
                fs::rename(from, to).unwrap();
            }
            assert!(finish(&paths).unwrap(), "{done}");
            assert_eq!(text(paths.etcd.join("data")), "new", "{done}");
            assert_eq!(text(paths.kubernetes.join("pki")), "new", "{done}");
            let kept: Vec<_> = pending.kept(&paths).into_iter().map(text).collect();
            assert_eq!(kept, ["old", "old"], "{done}");
            assert!(!finish(&paths).unwrap(), "{done}: it is done once");
        }
    }

    #[test]
    fn keys_stay_where_only_the_data_changes_and_a_machine_without_data_gets_some() {
        let (_root, paths, pending) = prepared(false);
        fs::remove_dir_all(paths.etcd.join("data")).unwrap();
        pending.begin(&paths).unwrap();
        assert!(finish(&paths).unwrap());
        assert_eq!(
            (text(paths.etcd.join("data")), text(paths.kubernetes.join("pki"))),
            ("new".into(), "old".into())
        );
        assert!(pending.kept(&paths).is_empty(), "{:?}", pending.kept(&paths));
    }

    #[test]
    fn data_that_appeared_in_between_is_not_overwritten() {
        let (_root, paths, pending) = prepared(false);
        fs::create_dir_all(paths.etcd.join("data.before-1")).unwrap();
        pending.begin(&paths).unwrap();
        let error = finish(&paths).unwrap_err().to_string();
        assert!(error.ends_with("is to take the place of one: move one of them away"), "{error}");
        assert_eq!(text(paths.etcd.join("data")), "old");
    }
}
