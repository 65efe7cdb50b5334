//! The Lease, by the API server of this machine.
//!
//! Why that one alone: renewed by another, it would say nothing about the API server that the address leads to. Route in: a client of
//! it, the address. Route out: [`Record`], a Lease that is taken, renewed or released.

use super::election::{Claim, DURATION, Record};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use k8s_openapi::jiff::Timestamp;
use kube::api::{Api, ObjectMeta, PostParams};
use std::net::IpAddr;

/// Where it is. Nodes may write Leases in `kube-node-lease` only.
pub const NAMESPACE: &str = "kube-system";

/// Its name: `sheaf-vip-192.0.2.100`, `sheaf-vip-2001-0db8-…` with all eight groups. A Lease for each address, so that nodes which
/// disagree about it do not take turns.
pub fn name(vip: IpAddr) -> String {
    match vip {
        IpAddr::V4(v4) => format!("sheaf-vip-{v4}"),
        IpAddr::V6(v6) => {
            let groups: Vec<_> = v6.segments().iter().map(|group| format!("{group:04x}")).collect();
            format!("sheaf-vip-{}", groups.join("-"))
        }
    }
}

/// The Lease of one address.
pub struct Leases {
    api: Api<Lease>,
    name: String,
}

impl Leases {
    /// By `client`, which speaks to the API server of this machine.
    pub fn new(client: kube::Client, vip: IpAddr) -> Self {
        Self { api: Api::namespaced(client, NAMESPACE), name: name(vip) }
    }

    /// As it is now.
    pub async fn read(&self) -> kube::Result<Option<Lease>> {
        self.api.get_opt(&self.name).await
    }

    /// Writes `holder` into what was read; false if somebody else wrote it in between.
    pub async fn write(&self, before: Option<Lease>, holder: &str, claim: Claim) -> kube::Result<bool> {
        let now = MicroTime(Timestamp::now());
        let is_new = before.is_none();
        let metadata = ObjectMeta { name: Some(self.name.clone()), ..ObjectMeta::default() };
        let mut lease = before.unwrap_or(Lease { metadata, spec: None });
        let spec = lease.spec.get_or_insert_default();
        spec.holder_identity = Some(holder.to_owned());
        spec.lease_duration_seconds = i32::try_from(DURATION.as_secs()).ok();
        spec.renew_time = Some(now.clone());
        if claim == Claim::Take {
            spec.acquire_time = Some(now);
            spec.lease_transitions = Some(spec.lease_transitions.unwrap_or(0).saturating_add(1));
        }
        // The resource version that was read makes a race between two end in a conflict for one.
        let answer = match is_new {
            true => self.api.create(&PostParams::default(), &lease).await,
            false => self.api.replace(&self.name, &PostParams::default(), &lease).await,
        };
        match answer {
            Ok(_) => Ok(true),
            Err(kube::Error::Api(status)) if status.code == 409 => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Gives it up, if `holder` has it: another need not wait.
    pub async fn release(&self, holder: &str) -> kube::Result<()> {
        let Some(lease) = self.read().await? else { return Ok(()) };
        if record(&lease).holder == holder {
            self.write(Some(lease), "", Claim::Renew).await?;
        }
        Ok(())
    }
}

/// What a candidate compares.
pub fn record(lease: &Lease) -> Record {
    let spec = lease.spec.clone().unwrap_or_default();
    let all = serde_json::to_string(&spec).unwrap_or_default();
    Record { holder: spec.holder_identity.unwrap_or_default(), all }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_address_has_a_lease_of_its_own_whose_name_kubernetes_takes() {
        assert_eq!(name("192.0.2.100".parse().unwrap()), "sheaf-vip-192.0.2.100");
        let v6 = name("2001:db8::100".parse().unwrap());
        assert_eq!(v6, "sheaf-vip-2001-0db8-0000-0000-0000-0000-0000-0100");
        assert!(v6.len() < 253);
    }
}
