//! Takes one snapshot: ask etcd, judge the space, save, verify, keep.
//!
//! Why here: the schedule, an administrator and an update all take theirs this way. Route in: who asks and why. Route
//! out: the whole [`Snapshot`] in the [`Store`], or why there is none; nothing but a `.part` is left by a failure.
//! Blocks.

use super::program::{self, AnswerError, Contents, Etcd, Health};
use super::store::{self, DamageError, Reason, Snapshot, Store};
use crate::cluster::create::pki::Pki;
use crate::cluster::time::rfc3339;
use crate::encryption::keys::Ring;
use crate::human::binary;
use crate::paths::Paths;
use sheaf_config::pin::CaPin;
use sheaf_host::run::{Run, RunError};
use sheaf_host::space;
use std::path::PathBuf;
use std::time::SystemTime;

/// Percent of the file system that a snapshot leaves free: half of what DiskPressure begins at, so that VMs notice
/// first.
const LEAVE_PERCENT: u64 = 5;
/// And at least so many bytes,
const LEAVE: u64 = 256 << 20;
/// but no more than these: on a large disk, files of VMs are no reason to lose a snapshot.
const LEAVE_MOST: u64 = 2 << 30;

/// Why no snapshot was taken.
#[derive(Debug, thiserror::Error)]
pub enum TakeError {
    /// There is too little space.
    #[error(
        "{} has {} free: a snapshot of {} would leave less than {}; remove files there, or set a lower cluster.snapshots.keep",
        .dir.display(), binary(*.free), binary(*.needed), binary(*.leave)
    )]
    Space {
        /// The folder of snapshots.
        dir: PathBuf,
        /// Bytes that are free.
        free: u64,
        /// Bytes of the snapshot.
        needed: u64,
        /// Bytes that must stay free.
        leave: u64,
    },
    /// A program failed.
    #[error("etcd cannot be asked for a snapshot; read `journalctl -u etcd`")]
    Run(#[from] RunError),
    /// A program printed something else.
    #[error(transparent)]
    Answer(#[from] AnswerError),
    /// What was saved is not whole.
    #[error("the snapshot that was just taken is not whole; the disk may be failing")]
    Damaged(#[from] DamageError),
    /// What was saved is not consistent.
    #[error("the snapshot that was just taken is not consistent; etcd's database may be damaged")]
    Inconsistent(#[source] RunError),
    /// A file could not be written.
    #[error("{}: cannot be written", .dir.display())]
    Write {
        /// The folder of snapshots.
        dir: PathBuf,
        /// Why not.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// A file system with `total` bytes, `free` of them not used: whether `needed` more may be written. The bytes that
/// must stay free if not.
pub fn judge_space(needed: u64, free: u64, total: u64) -> Result<(), u64> {
    let leave = (total / 100).saturating_mul(LEAVE_PERCENT).clamp(LEAVE, LEAVE_MOST);
    if free.saturating_sub(needed) >= leave { Ok(()) } else { Err(leave) }
}

/// etcd of this node, its alarms and members included.
pub fn health(etcd: &Etcd, run: &dyn Run) -> Result<Health, TakeError> {
    let health = Health::parse(&run.run(&etcd.status())?.text())?;
    // Without a leader nobody answers these, and a learner does not.
    if !health.has_leader || health.is_learner {
        return Ok(health);
    }
    let alarms = program::alarms(&run.run(&etcd.alarms())?.text())?;
    let members = program::members(&run.run(&etcd.members())?.text())?;
    Ok(Health { alarms, members, ..health })
}

/// Takes one of the node `node`, whose files are `paths`, at `now`.
pub fn take(
    paths: &Paths,
    run: &dyn Run,
    node: &str,
    reason: Reason,
    now: SystemTime,
) -> Result<Snapshot, TakeError> {
    let (etcd, store) = (Etcd::of(paths), Store::of(paths));
    let dir = || store.dir().to_owned();
    let write = |source: Box<dyn std::error::Error + Send + Sync>| TakeError::Write { dir: dir(), source };
    let health = Health::parse(&run.run(&etcd.status())?.text())?;
    store.prepare().map_err(|error| write(error.into()))?;
    let of = |read: fn(&std::path::Path) -> std::io::Result<u64>| {
        read(store.dir()).map_err(|error| write(error.into()))
    };
    let (free, total) = (of(space::free)?, of(space::total)?);
    judge_space(health.size, free, total).map_err(|leave| TakeError::Space {
        dir: dir(),
        free,
        needed: health.size,
        leave,
    })?;
    let name = store::name(now);
    let part = store.part(&name).map_err(|error| write(error.into()))?;
    // Before it is taken: a rotation that ends meanwhile leaves Secrets of the former key in it.
    let encryption_keys = encryption_keys(paths);
    run.run(&etcd.save(&part))?;
    let (bytes, sha256) = store::verify(&part)?;
    let contents = run.run(&program::contents(&part)).map_err(TakeError::Inconsistent)?;
    let Contents { revision, keys, storage_version } = Contents::parse(&contents.text())?;
    let snapshot = Snapshot {
        name,
        taken: rfc3339(now),
        reason,
        node: node.to_owned(),
        ca_hash: ca_hash(paths).unwrap_or_default(),
        cluster_id: health.cluster_id,
        revision,
        keys,
        bytes,
        sha256,
        etcd_version: health.version,
        storage_version,
        encryption_keys,
    };
    store.keep(&part, &snapshot).map_err(|error| write(error.into()))?;
    Ok(snapshot)
}

/// Names of the keys that Secrets in etcd may be encrypted with. A snapshot is worth more than this list: what cannot be read is
/// left out of it.
fn encryption_keys(paths: &Paths) -> Vec<String> {
    let ring = Ring::load(paths).unwrap_or_else(|error| {
        tracing::warn!("a snapshot does not name the keys of its Secrets: {error:#}");
        None
    });
    ring.map(|ring| ring.keys.iter().map(|key| key.name.clone()).collect()).unwrap_or_default()
}

/// `sha256:…` of this node's cluster CA.
pub fn ca_hash(paths: &Paths) -> Option<String> {
    let pki = Pki { dir: paths.kubernetes.clone() };
    let pem = std::fs::read_to_string(pki.file("ca.crt")).ok()?;
    Some(CaPin::of_certificate(&pem).ok()?.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::etcd::testing::FakeEtcd;
    use std::time::Duration;

    const GIB: u64 = 1 << 30;

    fn at() -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(1_600_000_000)
    }

    fn taken(run: &dyn Run) -> (tempfile::TempDir, Paths, Result<Snapshot, TakeError>) {
        let root = tempfile::tempdir().unwrap();
        let paths = Paths::under(root.path());
        let taken = take(&paths, run, "n1", Reason::Update, at());
        (root, paths, taken)
    }

    #[test]
    fn a_snapshot_says_what_is_in_it_and_is_listed() {
        let (_root, paths, snapshot) = taken(&FakeEtcd::default());
        let snapshot = snapshot.unwrap();
        assert_eq!(snapshot.name, "etcd-20200913T122640Z");
        assert_eq!(
            (snapshot.revision, snapshot.keys, snapshot.bytes, snapshot.cluster_id.as_str()),
            (810, 300, 544, "0000000000000001")
        );
        assert_eq!((snapshot.node.as_str(), snapshot.reason), ("n1", Reason::Update));
        assert_eq!(Store::of(&paths).list().unwrap(), [snapshot]);
    }

    #[test]
    fn a_snapshot_that_was_cut_short_is_not_kept() {
        let (_root, paths, taken) = taken(&FakeEtcd { data: b"half".to_vec(), ..FakeEtcd::default() });
        assert_eq!(
            taken.unwrap_err().to_string(),
            "the snapshot that was just taken is not whole; the disk may be failing"
        );
        assert_eq!(Store::of(&paths).list().unwrap(), []);
    }

    #[test]
    fn a_snapshot_whose_pages_are_not_consistent_is_not_kept() {
        let run = FakeEtcd::default();
        run.fail("snapshot status");
        let (_root, paths, taken) = taken(&run);
        assert_eq!(
            taken.unwrap_err().to_string(),
            "the snapshot that was just taken is not consistent; etcd's database may be damaged"
        );
        assert_eq!(Store::of(&paths).list().unwrap(), []);
    }

    #[test]
    fn a_short_disk_refuses_a_snapshot_and_says_so_before_it_is_asked_for() {
        let run = FakeEtcd { size: u64::MAX / 2, ..FakeEtcd::default() };
        let (_root, paths, taken) = taken(&run);
        let error = taken.unwrap_err().to_string();
        let begin = format!("{} has ", paths.etcd_snapshots().display());
        assert!(error.starts_with(&begin), "{error}");
        assert!(
            error.ends_with("; remove files there, or set a lower cluster.snapshots.keep")
                && error.contains(" free: a snapshot of 8192 PiB would leave less than "),
            "{error}"
        );
        assert!(!run.asked().iter().any(|asked| asked.contains("snapshot save")), "{:?}", run.asked());
    }

    #[test]
    fn five_percent_stay_free_but_at_least_256_mib_and_at_most_2_gib() {
        assert_eq!(judge_space(GIB, 2 * GIB, 20 * GIB), Ok(()));
        assert_eq!(judge_space(GIB + 200, 2 * GIB, 20 * GIB), Err(20 * GIB / 100 * 5));
        assert_eq!(judge_space(0, LEAVE, GIB), Ok(()));
        assert_eq!(judge_space(1, LEAVE, GIB), Err(LEAVE));
        assert_eq!(judge_space(0, 2 * GIB, 9000 * GIB), Ok(()));
        assert_eq!(judge_space(u64::MAX, u64::MAX, u64::MAX), Err(LEAVE_MOST));
    }
}
