//! One of several: the holder of the Lease `sheaf-system/sheaf-controller` works, the others wait.
//!
//! The protocol is client-go's leader election: who sees a renewal that is older than the lease's duration, by its
//! own clock since it saw it change, may take it; every write names the version it read.
//! Route in: the Lease. Route out: [`Leading`], which ends with an error when the Lease is lost.

use crate::is_status;
use anyhow::bail;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use k8s_openapi::jiff::Timestamp;
use kube::api::{Api, PostParams};
use kube::{Client, ResourceExt};
use sheaf_api::names::{CONTROLLER_USER, SYSTEM_NAMESPACE};
use std::time::{Duration, Instant};

/// A holder that did not renew for so long has lost the Lease: client-go's default.
const LASTS: Duration = Duration::from_secs(15);
/// The holder gives up working before others may begin.
const GIVES_UP: Duration = Duration::from_secs(10);
/// Between two looks or renewals.
const EVERY: Duration = Duration::from_secs(2);

/// The right to work.
pub struct Leading {
    identity: String,
}

/// Waits until the Lease is ours.
pub async fn acquire(client: &Client) -> Leading {
    let identity = identity();
    // What was last seen of another's Lease, and when it changed.
    let mut seen: Option<(Option<String>, Instant)> = None;
    loop {
        match attempt(client, &identity, &mut seen).await {
            Ok(true) => return Leading { identity },
            Ok(false) => {}
            Err(error) => tracing::warn!("the Lease can not be had: {error}"),
        }
        tokio::time::sleep(EVERY).await; // between two looks at the Lease
    }
}

impl Leading {
    /// Who we are in the Lease.
    pub fn identity(&self) -> &str {
        &self.identity
    }

    /// Renews the Lease; returns only when it is lost.
    pub async fn keep(&self, client: &Client) -> anyhow::Error {
        let mut renewed = Instant::now();
        loop {
            tokio::time::sleep(EVERY).await; // between two renewals
            match renew(client, &self.identity).await {
                Ok(()) => renewed = Instant::now(),
                Err(error) if renewed.elapsed() > GIVES_UP => {
                    return error
                        .context(format!("the Lease was not renewed for {} s", renewed.elapsed().as_secs()));
                }
                Err(error) => tracing::warn!("the Lease was not renewed: {error:#}"),
            }
        }
    }
}

/// Different for every process that may hold the Lease.
fn identity() -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/uuid").unwrap_or_default();
    format!("{}_{}", host.trim(), boot.trim())
}

fn leases(client: &Client) -> Api<Lease> {
    Api::namespaced(client.clone(), SYSTEM_NAMESPACE)
}

async fn attempt(
    client: &Client,
    identity: &str,
    seen: &mut Option<(Option<String>, Instant)>,
) -> Result<bool, kube::Error> {
    let api = leases(client);
    let Some(lease) = api.get_opt(CONTROLLER_USER).await? else {
        let mut lease = Lease { spec: Some(held(identity, None)), ..Lease::default() };
        lease.metadata.name = Some(CONTROLLER_USER.into());
        return match api.create(&PostParams::default(), &lease).await {
            Ok(_) => Ok(true),
            Err(error) if is_status(&error, 409) => Ok(false),
            Err(error) => Err(error),
        };
    };
    let version = lease.resource_version();
    let since = match seen {
        Some((last, since)) if *last == version => *since,
        _ => seen.insert((version, Instant::now())).1,
    };
    let spec = lease.spec.clone().unwrap_or_default();
    let free = spec.holder_identity.as_deref().is_none_or(|holder| holder.is_empty() || holder == identity);
    if !free && since.elapsed() < LASTS {
        return Ok(false);
    }
    let lease = Lease { spec: Some(held(identity, Some(&spec))), ..lease };
    match api.replace(CONTROLLER_USER, &PostParams::default(), &lease).await {
        Ok(_) => Ok(true),
        Err(error) if is_status(&error, 409) => Ok(false),
        Err(error) => Err(error),
    }
}

async fn renew(client: &Client, identity: &str) -> anyhow::Result<()> {
    let api = leases(client);
    let lease = api.get(CONTROLLER_USER).await?;
    let spec = lease.spec.clone().unwrap_or_default();
    if spec.holder_identity.as_deref() != Some(identity) {
        bail!("{} holds it now", spec.holder_identity.unwrap_or_default());
    }
    let lease = Lease { spec: Some(held(identity, Some(&spec))), ..lease };
    api.replace(CONTROLLER_USER, &PostParams::default(), &lease).await?;
    Ok(())
}

/// The Lease as `identity` holds it, after `before`.
fn held(identity: &str, before: Option<&LeaseSpec>) -> LeaseSpec {
    let now = MicroTime(Timestamp::now());
    let same = before.is_some_and(|spec| spec.holder_identity.as_deref() == Some(identity));
    let transitions = before.and_then(|spec| spec.lease_transitions).unwrap_or_default();
    let acquired = before.and_then(|spec| spec.acquire_time.clone()).filter(|_| same);
    LeaseSpec {
        holder_identity: Some(identity.to_owned()),
        lease_duration_seconds: Some(LASTS.as_secs() as i32),
        acquire_time: Some(acquired.unwrap_or_else(|| now.clone())),
        renew_time: Some(now),
        lease_transitions: Some(if same || before.is_none() { transitions } else { transitions + 1 }),
        ..LeaseSpec::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_holder_counts_as_a_transition_and_a_renewal_does_not() {
        let first = held("a", None);
        assert_eq!(first.lease_transitions, Some(0));
        let renewed = held("a", Some(&first));
        assert_eq!((renewed.lease_transitions, &renewed.acquire_time), (Some(0), &first.acquire_time));
        assert_eq!(held("b", Some(&renewed)).lease_transitions, Some(1));
    }
}
