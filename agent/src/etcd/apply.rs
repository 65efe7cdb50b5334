//! One arm per step; no decision is taken here.
//!
//! Route in: [`Step`]s. Route out: how each ended; one that fails does not hold up the others, but a compaction that
//! failed leaves the defragmentation after it without use, which does no harm.

use super::plan::Step;
use super::program::Etcd;
use super::store::{Reason, Store};
use super::take::take;
use crate::paths::Paths;
use crate::reconcile::blocking;
use sheaf_host::run::Run;
use std::sync::Arc;
use std::time::SystemTime;

/// Carries `steps` out, one after the other.
pub async fn all(
    run: Arc<dyn Run>,
    paths: Arc<Paths>,
    node: String,
    steps: Vec<Step>,
) -> Vec<(Step, anyhow::Result<()>)> {
    let mut ended = Vec::new();
    for step in steps {
        let (run, paths, node, what) = (run.clone(), paths.clone(), node.clone(), step.clone());
        let done = blocking(move || apply(&*run, &paths, &node, &what)).await;
        ended.push((step, done));
    }
    ended
}

fn apply(run: &dyn Run, paths: &Paths, node: &str, step: &Step) -> anyhow::Result<()> {
    let (etcd, store) = (Etcd::of(paths), Store::of(paths));
    match step {
        Step::Compact(revision) => run.run(&etcd.compact(*revision)).map(drop)?,
        Step::Defragment => run.run(&etcd.defragment()).map(drop)?,
        Step::Disarm => run.run(&etcd.disarm()).map(drop)?,
        Step::Take => take(paths, run, node, Reason::Schedule, SystemTime::now()).map(drop)?,
        Step::Remove(name) => store.remove(name)?,
        Step::Clear(file) => store.remove_file(file)?,
    }
    Ok(())
}
