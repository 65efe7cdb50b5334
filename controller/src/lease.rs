//! Leader election over a Lease: of several controllers, one acts.
//!
//! Why here: two actors would not start a VM twice (names are fixed), but they would undo each other's statuses.
//! A holder counts as gone when its record did not change for the lease's duration by our own clock, so clocks
//! need not agree. Route in: the Lease. Route out: the Lease; [`Elector::acquire`] and [`Elector::keep`] return
//! on a change.

use std::time::{Duration, Instant};

use k8s_openapi::{
    api::coordination::v1::Lease, apimachinery::pkg::apis::meta::v1::MicroTime, jiff::Timestamp,
};
use kube::{
    Api, Client,
    api::{ObjectMeta, PostParams},
};
use sheaf_api::names::{CONTROLLER_MANAGER, SYSTEM_NAMESPACE};

/// Name of the Lease.
const NAME: &str = CONTROLLER_MANAGER;
/// Without a renewal for this long, another may lead. Twice what kube-scheduler takes: a busy disk makes etcd slow for
/// ten seconds and more, and a leader that gives up then only adds to the load. One that ends releases the Lease at once.
const DURATION: Duration = Duration::from_secs(30);
/// The leader gives up when it could not renew for this long: before another may lead.
const RENEW_DEADLINE: Duration = Duration::from_secs(22);
/// Between two looks at the Lease.
const PERIOD: Duration = Duration::from_secs(3);

/// A name for this process on `host` that no other has; people read in the Lease which machine leads.
pub fn identity(host: &str) -> String {
    format!("{host}_{}_{}", std::process::id(), Timestamp::now().as_nanosecond())
}

/// A candidate.
pub struct Elector {
    leases: Api<Lease>,
    identity: String,
    /// The last record of the Lease, and when it was first observed.
    seen: Option<(String, Instant)>,
}

impl Elector {
    /// A candidate called `identity`.
    pub fn new(client: Client, identity: String) -> Self {
        Self { leases: Api::namespaced(client, SYSTEM_NAMESPACE), identity, seen: None }
    }

    /// Returns when this candidate leads.
    pub async fn acquire(&mut self) {
        loop {
            match self.take().await {
                Ok(true) => return,
                Ok(false) => {}
                Err(error) => tracing::warn!("lease {SYSTEM_NAMESPACE}/{NAME}: {error}; trying again"),
            }
            tokio::time::sleep(PERIOD).await; // the next look at the Lease
        }
    }

    /// Renews; returns when leading has become unsafe.
    pub async fn keep(&mut self) {
        let mut renewed = Instant::now();
        while renewed.elapsed() < RENEW_DEADLINE {
            tokio::time::sleep(PERIOD).await; // until the next renewal is due
            let left = RENEW_DEADLINE.saturating_sub(renewed.elapsed());
            match tokio::time::timeout(left, self.take()).await {
                Ok(Ok(true)) => renewed = Instant::now(),
                Ok(Ok(false)) => return,
                Ok(Err(error)) => tracing::warn!("renewing lease {SYSTEM_NAMESPACE}/{NAME}: {error}"),
                Err(_) => return,
            }
        }
    }

    /// Gives the Lease up, so that another need not wait; best effort.
    pub async fn release(&mut self) {
        if let Ok(Some(mut lease)) = self.leases.get_opt(NAME).await {
            let spec = lease.spec.get_or_insert_default();
            if spec.holder_identity.as_deref() == Some(&self.identity) {
                spec.holder_identity = None;
                let _ = self.leases.replace(NAME, &PostParams::default(), &lease).await;
            }
        }
    }

    /// Takes or renews the Lease if it is ours, free or abandoned; true if we hold it now.
    async fn take(&mut self) -> Result<bool, kube::Error> {
        let now = MicroTime(Timestamp::now());
        let Some(mut lease) = self.leases.get_opt(NAME).await? else {
            let mut lease = Lease {
                metadata: ObjectMeta { name: Some(NAME.into()), ..ObjectMeta::default() },
                spec: None,
            };
            self.sign(&mut lease, now, true);
            return won(self.leases.create(&PostParams::default(), &lease).await);
        };
        let holder = lease.spec.as_ref().and_then(|spec| spec.holder_identity.clone()).unwrap_or_default();
        let ours = holder == self.identity;
        if !ours && !holder.is_empty() {
            let record = serde_json::to_string(&lease.spec).unwrap_or_default();
            match &self.seen {
                Some((seen, since)) if *seen == record && since.elapsed() >= DURATION => {}
                Some((seen, _)) if *seen == record => return Ok(false),
                _ => {
                    self.seen = Some((record, Instant::now()));
                    return Ok(false);
                }
            }
        }
        self.sign(&mut lease, now, !ours);
        // The resource version in `lease` makes a race between two candidates end in a conflict for one.
        won(self.leases.replace(NAME, &PostParams::default(), &lease).await)
    }

    fn sign(&self, lease: &mut Lease, now: MicroTime, first: bool) {
        let spec = lease.spec.get_or_insert_default();
        spec.holder_identity = Some(self.identity.clone());
        spec.lease_duration_seconds = i32::try_from(DURATION.as_secs()).ok();
        spec.renew_time = Some(now.clone());
        if first {
            spec.acquire_time = Some(now);
            spec.lease_transitions = Some(spec.lease_transitions.unwrap_or(0) + 1);
        }
    }
}

/// A conflict means that another was faster.
fn won(result: Result<Lease, kube::Error>) -> Result<bool, kube::Error> {
    match result {
        Ok(_) => Ok(true),
        Err(kube::Error::Api(status)) if status.code == 409 => Ok(false),
        Err(error) => Err(error),
    }
}
