//! Observes etcd and the folder of snapshots.
//!
//! Route in: etcd's programs, the folder. Route out: [`Observed`], and why etcd could not be asked. Blocks.

use super::plan::Observed;
use super::program::Etcd;
use super::store::Store;
use super::take::health;
use crate::paths::Paths;
use sheaf_host::run::Run;
use std::time::{Duration, SystemTime};

/// All of it at `now`, in seconds since 1970.
pub fn observe(
    run: &dyn Run,
    paths: &Paths,
    now: u64,
    defragmented: Option<u64>,
) -> (Observed, Option<String>) {
    let store = Store::of(paths);
    let time = SystemTime::UNIX_EPOCH + Duration::from_secs(now);
    let listed = store.list().and_then(|snapshots| Ok((snapshots, store.left_over(time)?)));
    let (snapshots, left_over) = listed.unwrap_or_else(|error| {
        tracing::warn!("{}: cannot be read: {error}", store.dir().display());
        Default::default()
    });
    let (health, problem) = match health(&Etcd::of(paths), run) {
        Ok(health) => (Some(health), None),
        Err(error) => (None, Some(format!("{:#}", anyhow::Error::from(error)))),
    };
    (Observed { health, snapshots, left_over, now, defragmented }, problem)
}
