//! `sheaf-agent snapshot restore`: a snapshot becomes the data of this node's etcd.
//!
//! Why a program and not the agent: it stops the agent, which would start etcd again. The new data is made beside the
//! old one; only renames put it in place, and what remains of them after a power cut the agent does before it starts
//! etcd ([`pending`]). VMs are not touched. Route in: a file, or the name of a snapshot; the keys of a cluster. Route
//! out: the control plane with that data.
//!
//! [`observe`] → [`plan`] → [`apply`] → the API server answers → what was done, in words.

mod apply;
pub mod observe;
pub mod pending;
pub mod plan;

use super::keys::Keys;
use super::program::{Etcd, Health};
use super::take::health;
use crate::cluster::Hosts;
use crate::paths::Paths;
use crate::reconcile::blocking;
use anyhow::Context as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

/// What is asked for.
#[derive(Clone, Debug, Default)]
pub struct Request {
    /// A file, or the name of a snapshot on this node.
    pub file: String,
    /// The file with the keys of the snapshot's cluster.
    pub keys: Option<PathBuf>,
    /// Also when the snapshot is of another cluster, or the cluster has more members.
    pub force: bool,
    /// Only say what would be done.
    pub dry_run: bool,
}

/// Restores it on the node `node`; each step is told to `say`. The closing words.
pub async fn restore(
    paths: &Paths,
    hosts: &Hosts,
    node: &str,
    request: &Request,
    say: &(dyn Fn(&str) + Sync),
) -> anyhow::Result<String> {
    let paths = Arc::new(paths.clone());
    let keys = request.keys.as_deref().map(Keys::read).transpose()?;
    let (run, files, asked, given) = (hosts.run.clone(), paths.clone(), request.clone(), keys.clone());
    let facts = blocking(move || observe::observe(&*run, &files, &asked.file, given.as_ref())).await?;
    let part = facts.data.clone();
    let ended = async {
        plan::judge(&facts, request.force)?;
        let steps = plan::plan(&facts, node);
        if request.dry_run {
            let steps: Vec<String> = steps.iter().map(|step| format!("would {step}")).collect();
            return anyhow::Ok(steps.join("\n"));
        }
        let pending = pending::Pending::at(SystemTime::now(), keys.is_some());
        apply::all(&paths, hosts, keys.as_ref(), &pending, &steps, say).await?;
        let (run, files) = (hosts.run.clone(), paths.clone());
        let Health { revision, .. } = blocking(move || Ok(health(&Etcd::of(&files), &*run)?))
            .await
            .context("the API server answers, but etcd does not say its revision")?;
        anyhow::Ok(plan::closing(&facts, revision, &pending.kept(&paths)))
    };
    let ended = ended.await;
    if let Some(part) = part.filter(|part| part.extension().is_some_and(|end| end == "part")) {
        // One that stays is removed by the agent in an hour.
        let _ = std::fs::remove_file(part);
    }
    ended
}

#[cfg(test)]
mod tests;
