//! The end of a control plane on a node that left the cluster: its units stop, its data and the cluster's keys are moved aside.
//!
//! Why here: the units would restart without end, and with the keys in place the next start of the agent would bring a control plane up
//! again; on the node that created the cluster, that of a second cluster. Nothing is deleted: a person may still need a snapshot of
//! it. A reset erases it. Whatever is cut off in the middle is completed by the next call. Route in: the node's files, its record of
//! the removal ([`crate::cluster::leave`]). Route out: no unit of the control plane runs, `/var/lib/etcd/data` and what was in
//! `/var/lib/kubernetes` have names that nothing reads.
//!
//! observe → [`plan`] → apply.

use crate::cluster::create::UNITS;
use crate::paths::Paths;
use crate::reconcile::blocking;
use anyhow::Context as _;
use sheaf_host::file::rename_durably;
use sheaf_host::systemd::Units;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// Name of the folder of etcd's data, and of what is there already aside.
const DATA: &str = "data";
/// How the names begin of what was moved aside; the time follows, in seconds since 1970.
const ASIDE: &str = "removed-";

/// What there is of a control plane.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Observed {
    /// etcd has data here.
    has_data: bool,
    /// Names in `/var/lib/kubernetes`.
    keys: Vec<String>,
}

/// One thing to do.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Step {
    /// Stop this unit.
    Stop(&'static str),
    /// Move etcd's data aside.
    Data,
    /// Move this of `/var/lib/kubernetes` aside.
    Keys(String),
}

fn observe(paths: &Paths) -> anyhow::Result<Observed> {
    let mut keys = Vec::new();
    match std::fs::read_dir(&paths.kubernetes) {
        Ok(entries) => {
            for entry in entries {
                let entry = entry.with_context(|| unread(&paths.kubernetes))?;
                keys.push(entry.file_name().to_string_lossy().into_owned());
            }
        }
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => return Err(error).with_context(|| unread(&paths.kubernetes)),
    }
    keys.sort();
    Ok(Observed { has_data: paths.etcd.join(DATA).exists(), keys })
}

fn unread(path: &Path) -> String {
    format!("{}: cannot be read", path.display())
}

/// Nothing on a node that never had a control plane, or whose was retired.
fn plan(observed: &Observed) -> Vec<Step> {
    let keys: Vec<_> = observed.keys.iter().filter(|name| !name.starts_with(ASIDE)).cloned().collect();
    if !observed.has_data && keys.is_empty() {
        return Vec::new();
    }
    let stops = UNITS.into_iter().map(Step::Stop);
    stops.chain(observed.has_data.then_some(Step::Data)).chain(keys.into_iter().map(Step::Keys)).collect()
}

/// Ends the control plane of this node; does nothing where there is none.
pub async fn retire(paths: &Paths, units: &dyn Units) -> anyhow::Result<()> {
    let of = paths.clone();
    let steps = plan(&blocking(move || observe(&of)).await?);
    let seconds = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
    for step in steps {
        match step {
            Step::Stop(unit) => units.stop(unit).await?,
            Step::Data => {
                let (from, to) = (paths.etcd.join(DATA), paths.etcd.join(format!("{DATA}.{ASIDE}{seconds}")));
                moved(from, to).await?;
            }
            Step::Keys(name) => {
                let aside = paths.kubernetes.join(format!("{ASIDE}{seconds}"));
                moved(paths.kubernetes.join(&name), aside.join(&name)).await?;
            }
        }
    }
    Ok(())
}

/// Stops the units of a control plane whose member of etcd was removed: they could only fail and restart.
pub async fn stop(units: &dyn Units) -> anyhow::Result<()> {
    for unit in UNITS {
        units.stop(unit).await?;
    }
    Ok(())
}

async fn moved(from: PathBuf, to: PathBuf) -> anyhow::Result<()> {
    blocking(move || {
        if let Some(folder) = to.parent() {
            std::fs::create_dir_all(folder)
                .with_context(|| format!("{}: cannot be created", folder.display()))?;
        }
        rename_durably(&from, &to)
            .with_context(|| format!("{}: cannot be moved to {}", from.display(), to.display()))
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;
    use sheaf_host::fakes::FakeUnits;
    use sheaf_host::file::write_atomically;

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<_> = std::fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
            .collect();
        names.sort();
        names
    }

    fn files(root: &Path) -> Paths {
        let paths = Paths::under(root);
        write_atomically(&paths.kubernetes.join("pki/ca.key"), b"key", 0o600).unwrap();
        write_atomically(&paths.kubernetes.join("super-admin.conf"), b"admin", 0o600).unwrap();
        write_atomically(&paths.etcd.join("data/member/wal"), b"log", 0o600).unwrap();
        paths
    }

    #[tokio::test]
    async fn a_control_plane_is_stopped_before_its_data_and_keys_are_moved_aside_and_nothing_is_deleted() {
        let root = tempfile::tempdir().unwrap();
        let (paths, units) = (files(root.path()), FakeUnits::default());
        retire(&paths, &units).await.unwrap();
        assert_eq!(units.asked(), UNITS.map(|unit| format!("stop {unit}")));
        assert!(!paths.etcd.join("data").exists() && !crate::cluster::was_made(&paths));
        let aside = names(&paths.kubernetes);
        assert!(matches!(&aside[..], [only] if only.starts_with("removed-")), "{aside:?}");
        assert_eq!(names(&paths.kubernetes.join(&aside[0])), ["pki", "super-admin.conf"]);
        assert!(names(&paths.etcd)[0].starts_with("data.removed-"));
        // Again, as at each later start.
        retire(&paths, &units).await.unwrap();
        assert_eq!((units.asked().len(), names(&paths.kubernetes)), (UNITS.len(), aside));
    }

    #[tokio::test]
    async fn a_unit_that_does_not_stop_leaves_data_and_keys_where_they_are() {
        let root = tempfile::tempdir().unwrap();
        let (paths, units) = (files(root.path()), FakeUnits::default());
        units.fail("etcd.service", "timeout");
        assert!(retire(&paths, &units).await.is_err());
        assert!(paths.etcd.join("data").exists() && crate::cluster::was_made(&paths));
    }

    #[test]
    fn of_a_worker_no_unit_is_stopped_and_what_a_power_cut_left_is_moved_later() {
        assert_eq!(plan(&Observed::default()), []);
        let aside = Observed { has_data: false, keys: vec!["removed-1".into()] };
        assert_eq!(plan(&aside), []);
        let half = Observed { has_data: false, keys: vec!["pki".into(), "removed-1".into()] };
        assert_eq!(plan(&half).last(), Some(&Step::Keys("pki".into())));
    }
}
