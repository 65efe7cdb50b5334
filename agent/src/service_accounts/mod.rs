//! Keys that sign tokens of service accounts: one signs, and those before it verify until the last of their tokens has ended.
//!
//! Reads: Secrets with tokens of service accounts. Owns: `pki/service-accounts.json`, `pki/sa.key`, `pki/sa.pub`,
//! `/run/sheaf/service-accounts.served`; has kube-controller-manager make the tokens in those Secrets again. Never touches: service
//! accounts, other Secrets.
//!
//! [`observe`] → [`plan`] → [`apply`], a step at a time ([`settle`]), by `sheaf-agent service-accounts rotate` ([`by_hand`]) and by
//! the agent ([`crate::shared_keys`], which also brings the keys to the other control-plane nodes). docs/cluster.md is for operators;
//! docs/decisions/0051 says why it is like this. Source: `pkg/serviceaccount` of Kubernetes.

mod apply;
pub mod by_hand;
pub mod keys;
mod observe;
pub mod plan;
mod serve;
mod tokens;

pub use serve::{prepare, served};

use crate::shared_keys::{self, Follow, Place, Progress};
use anyhow::Context as _;

/// Does one step of what is left; none when nothing is. The caller holds the lock of keys.
pub async fn step(place: Place<'_>, say: &(dyn Fn(&str) + Sync)) -> anyhow::Result<Option<plan::Step>> {
    let Some(observed) = observe::observe(&place).await? else { return Ok(None) };
    let Some(step) = plan::plan(&observed) else { return Ok(None) };
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
    shared_keys::settle("the change of the keys of service accounts", || step(place, say), waits).await
}
