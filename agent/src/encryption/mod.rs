//! Controller `encryption`: Secrets are encrypted in etcd, all of them, with the key that is in use.
//!
//! Reads: Secrets as etcd has them, snapshots of etcd. Owns: `pki/encryption-keys.json`, `/run/sheaf/encryption.*`; rewrites
//! every Secret as it is. Never touches: what a Secret says; etcd itself.
//!
//! [`observe`] → [`plan`] → [`apply`], a step at a time until nothing is left ([`settle`]). Where a change of keys stands is
//! told from the file of keys, from what kube-apiserver was started with, and from etcd: it continues after a kill at any
//! step, by the first of the two to run, `sheaf-agent encryption rotate` ([`by_hand`]) or the agent ([`crate::shared_keys`], which
//! also brings them to the other control-plane nodes).
//! docs/cluster.md is for operators; docs/decisions/0045 says why it is like this. Source:
//! <https://kubernetes.io/docs/tasks/administer-cluster/encrypt-data/>.

mod apply;
pub mod by_hand;
pub mod keys;
mod observe;
pub mod plan;
mod serve;
pub mod stored;

pub use serve::{is_served, prepare, served};

use crate::paths::Paths;
use crate::shared_keys::{self, Follow, Place, Progress};
use anyhow::Context as _;
use keys::Ring;

/// Does one step of what is left; none when nothing is. The caller holds the lock of keys.
pub async fn step(place: Place<'_>, say: &(dyn Fn(&str) + Sync)) -> anyhow::Result<Option<plan::Step>> {
    let observed = observe::observe(&place).await?;
    let Some(step) = plan::plan(&observed)? else { return Ok(None) };
    if !matches!(step, plan::Step::Follow(Follow::Wait(_))) {
        say(&step.to_string());
    }
    apply::apply(&place, observed, &step).await.with_context(|| format!("cannot {step}"))?;
    Ok(Some(step))
}

/// Does steps until nothing is left or other nodes come first; each is told to `say`. The caller holds the lock of keys.
pub async fn settle(place: Place<'_>, say: &(dyn Fn(&str) + Sync)) -> anyhow::Result<Progress> {
    let waits = |step: &plan::Step| match step {
        plan::Step::Follow(Follow::Wait(names)) => Some(names.clone()),
        _ => None,
    };
    shared_keys::settle("the change of the keys of Secrets", || step(place, say), waits).await
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

#[cfg(test)]
mod cluster_tests;
