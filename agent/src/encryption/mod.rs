//! Controller `encryption`: Secrets are encrypted in etcd, all of them, with the key that is in use.
//!
//! Reads: Secrets as etcd has them, snapshots of etcd. Owns: `pki/encryption-keys.json`, `/run/sheaf/encryption.*`; rewrites
//! every Secret as it is. Never touches: what a Secret says; etcd itself.
//!
//! [`observe`] → [`plan`] → [`apply`], a step at a time until nothing is left ([`settle`]). Where a change of keys stands is
//! told from the file of keys, from what kube-apiserver was started with, and from etcd: it continues after a kill at any
//! step, by the first of the two to run, `sheaf-agent encryption rotate` ([`by_hand`]) or the agent ([`controller`]).
//! docs/cluster.md is for operators; docs/decisions/0045 says why it is like this. Source:
//! <https://kubernetes.io/docs/tasks/administer-cluster/encrypt-data/>.

mod apply;
pub mod by_hand;
mod controller;
pub mod keys;
mod observe;
pub mod plan;
mod serve;
pub mod stored;

pub use serve::{is_served, prepare, served};

use crate::channels::Context;
use crate::cluster::Hosts;
use crate::paths::Paths;
use crate::reconcile::{self, Wakes, blocking};
use anyhow::{Context as _, bail};
use controller::{Controller, Source};
use keys::Ring;
use std::fs::{File, TryLockError};
use std::time::SystemTime;

/// Steps after which a change that is not complete has an error of its own: a rotation takes seven.
const MOST_STEPS: usize = 24;

/// Runs until shutdown.
pub async fn run(ctx: Context, hosts: Hosts) -> anyhow::Result<()> {
    let mut wakes = Wakes::new().watch(Source::Joined, ctx.cluster.clone());
    let (handle, shutdown) = (ctx.controllers.register("encryption"), ctx.shutdown.clone());
    let controller = Controller::new(ctx, hosts, &mut wakes);
    reconcile::run(controller, wakes, handle, shutdown).await
}

/// Held by the one process that changes keys; none while another does.
pub fn lock(paths: &Paths) -> anyhow::Result<Option<File>> {
    let path = paths.kubernetes.join("encryption.lock");
    let shown = path.display();
    let file = File::create(&path).with_context(|| format!("{shown}: cannot be opened; run this as root"))?;
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(error)) => Err(error).with_context(|| format!("{shown}: cannot be locked")),
    }
}

/// Does one step of what is left; none when nothing is. The caller holds the [`lock`].
pub async fn step(
    paths: &Paths,
    hosts: &Hosts,
    now: SystemTime,
    say: &(dyn Fn(&str) + Sync),
) -> anyhow::Result<Option<plan::Step>> {
    let (run, files) = (hosts.run.clone(), paths.clone());
    let observed = blocking(move || observe::observe(&*run, &files)).await?;
    let Some(step) = plan::plan(&observed)? else { return Ok(None) };
    say(&step.to_string());
    apply::apply(paths, hosts, observed.ring, &step, now).await.with_context(|| format!("cannot {step}"))?;
    Ok(Some(step))
}

/// Does steps until nothing is left; each is told to `say`. The caller holds the [`lock`].
pub async fn settle(
    paths: &Paths,
    hosts: &Hosts,
    now: SystemTime,
    say: &(dyn Fn(&str) + Sync),
) -> anyhow::Result<()> {
    for _ in 0..MOST_STEPS {
        if step(paths, hosts, now, say).await?.is_none() {
            return Ok(());
        }
    }
    bail!(
        "Secrets are not encrypted with one key after {MOST_STEPS} steps; it is tried again: read `journalctl -u sheaf-agent`"
    )
}

/// Another etcd is in place: what its Secrets are encrypted with is not known, and every key that is kept may be needed.
pub fn unsettle(paths: &Paths) -> anyhow::Result<()> {
    match Ring::load(paths)? {
        Some(ring) if ring.settled.is_some() => Ring { settled: None, ..ring }.save(paths),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests;
