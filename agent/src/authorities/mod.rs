//! The certificates of the cluster's CAs: made again, for the same key and name, long before they end.
//!
//! Reads and owns: `pki/{ca,front-proxy-ca,etcd/ca,kubelet-serving-ca,aggregated-ca}.crt`. Never touches: the keys of CAs. Why the same
//! key: whatever a CA signed stays signed, its hash (`ca-hash`) stays, and a node that was off for years is still a node of this
//! cluster; the certificate of before and the new one can be mixed in any order. So no node is waited for. What uses them is
//! restarted by the steps of the control plane ([`crate::cluster::create`]), whose kubeconfigs hold the cluster's CA.
//!
//! [`observe`] → [`mod@plan`] → [`apply`], by the agents of control-plane nodes ([`crate::shared_keys`]): one makes them, the others take
//! them, so that all have the same bytes. Other nodes fetch them ([`fetch`]). docs/decisions/0051 says why it is like this.

pub mod certificates;
pub mod fetch;
pub mod plan;

use crate::cluster::create::pki::Pki;
use crate::shared_keys::{self, Place, Progress};
use anyhow::Context as _;
use certificates::Certificates;
use plan::{Observed, Step, plan};

async fn observe(place: &Place<'_>) -> anyhow::Result<Option<Observed>> {
    let pki = Pki { dir: place.paths.kubernetes.clone() };
    let Some(held) = Certificates::load(&pki)? else { return Ok(None) };
    let due = held.due(place.now);
    let generation = shared_keys::Document::generation(&held);
    let shared = shared_keys::observe(place, generation, !due.is_empty()).await?;
    Ok(Some(Observed { held, due, shared }))
}

async fn apply(place: &Place<'_>, observed: Observed, step: &Step) -> anyhow::Result<()> {
    let pki = Pki { dir: place.paths.kubernetes.clone() };
    match step {
        Step::Adopt(shared) => shared.replace(&observed.held, &pki),
        Step::Report => shared_keys::report(place.paths, &observed.held).await,
        Step::Wait(_) => Ok(()),
        Step::Renew(names) => {
            let renewed = observed.held.renewed(&pki, names, place.now)?;
            // If another node was faster its certificates are taken next.
            if observed.shared.is_some() && !shared_keys::publish(place.paths, &renewed).await? {
                return Ok(());
            }
            renewed.replace(&observed.held, &pki)
        }
    }
}

/// Does one step of what is left; none when nothing is. The caller holds the lock of keys.
pub async fn step(place: Place<'_>, say: &(dyn Fn(&str) + Sync)) -> anyhow::Result<Option<Step>> {
    let Some(observed) = observe(&place).await? else { return Ok(None) };
    let Some(step) = plan(&observed) else { return Ok(None) };
    if !matches!(step, Step::Wait(_)) {
        say(&step.to_string());
    }
    apply(&place, observed, &step).await.with_context(|| format!("cannot {step}"))?;
    Ok(Some(step))
}

/// Does steps until nothing is left or another node comes first. The caller holds the lock of keys.
pub async fn settle(place: Place<'_>, say: &(dyn Fn(&str) + Sync)) -> anyhow::Result<Progress> {
    let waits = |step: &Step| match step {
        Step::Wait(names) => Some(names.clone()),
        _ => None,
    };
    shared_keys::settle("the renewal of the certificates of CAs", || step(place, say), waits).await
}
