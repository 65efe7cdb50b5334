//! What the next step follows from.
//!
//! Route in: the node's files, etcd, what the control-plane nodes share. Route out: [`Observed`].

use super::keys::Ring;
use super::plan::{Observed, needs_stored};
use super::serve::is_served;
use super::stored::stored;
use crate::etcd::program::Etcd;
use crate::etcd::store::{Snapshot, Store};
use crate::paths::Paths;
use crate::reconcile::blocking;
use crate::shared_keys::{self, Place};
use anyhow::Context as _;
use sheaf_host::run::Run;

/// All of it.
pub async fn observe(place: &Place<'_>) -> anyhow::Result<Observed> {
    let (run, paths) = (place.hosts.run.clone(), place.paths.clone());
    let observed = blocking(move || local(&*run, &paths)).await?;
    let underway = !observed.ring.is_settled() || !observed.is_served;
    let shared = shared_keys::observe(place, observed.ring.generation, underway).await?;
    Ok(Observed { shared, ..observed })
}

/// What this node and etcd say. Blocks.
fn local(run: &dyn Run, paths: &Paths) -> anyhow::Result<Observed> {
    let ring = Ring::load(paths)?
        .context("this control plane has no keys of Secrets yet; the agent makes them at its start")?;
    let is_served = is_served(paths, &ring);
    let stored = match needs_stored(&ring, is_served) {
        true => Some(stored(&Etcd::of(paths), run).context("etcd cannot be asked for its Secrets")?),
        false => None,
    };
    let store = Store::of(paths);
    // A folder that cannot be read may hold snapshots: no key is forgotten.
    let oldest_snapshot = match ring.retired.is_empty() || !store.dir().exists() {
        true => None,
        false => store.list().map_or(Some(0), |listed| listed.iter().map(Snapshot::seconds).min()),
    };
    Ok(Observed { ring, is_served, stored, oldest_snapshot, shared: None })
}
