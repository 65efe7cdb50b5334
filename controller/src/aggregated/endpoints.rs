//! Keeps this replica among the endpoints of the aggregated server, and removes replicas that are gone.
//!
//! Why here: kube-apiserver takes a random endpoint for each request, so one that is dead fails requests and stalls the
//! deletion of namespaces. Each replica has an EndpointSlice of its own and changes an annotation of it every few seconds; one
//! that did not change for [`STALE`] on the clock of the replica that looks is deleted by any other. No clocks are compared. Route in:
//! the address that is listened at. Route out: EndpointSlices in `sheaf-system`.

use std::{
    collections::HashMap,
    net::SocketAddr,
    time::{Duration, Instant},
};

use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::{
    Api, Client,
    api::{DeleteParams, ListParams, Patch, PatchParams, Preconditions},
};
use serde_json::{Value, json};
use sheaf_api::names::{AGGREGATED_SERVICE, SYSTEM_NAMESPACE};

/// Between two renewals.
const RENEW: Duration = Duration::from_secs(3);
/// A slice that did not change for this long is of a replica that is gone: three renewals failed. While it is there, a request that is sent
/// to it takes 30 s to fail. One that is slow and not gone is back with its next renewal.
const STALE: Duration = Duration::from_secs(10);
/// Annotation that changes with every renewal.
const RENEWED: &str = "sheaf.dev/renewed";
/// Label by which kube-apiserver finds the slices of a Service.
const SERVICE_LABEL: &str = "kubernetes.io/service-name";

/// Label that tells Kubernetes' own controllers that a slice is not theirs.
const MANAGED_LABEL: &str = "endpointslice.kubernetes.io/managed-by";

/// Name of the slice of the replica at `address`.
pub fn name(address: SocketAddr) -> String {
    let address_part: String =
        address.ip().to_string().chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
    // A name neither begins nor ends with a dash, which an IPv6 address may.
    format!("{AGGREGATED_SERVICE}-{address_part}-p{}", address.port())
}

/// Renews until dropped.
pub async fn keep(client: Client, address: SocketAddr) {
    let slices: Api<EndpointSlice> = Api::namespaced(client, SYSTEM_NAMESPACE);
    let own = name(address);
    let how = PatchParams::apply(&own).force();
    let mut observed = Observed::default();
    for round in 0_u64.. {
        let renewal = format!("{}-{round}", std::process::id());
        if let Err(error) = slices.patch(&own, &how, &Patch::Apply(slice(address, &renewal))).await {
            tracing::warn!("EndpointSlice {own} cannot be renewed: {error}");
        }
        let which = ListParams::default().labels(&format!("{SERVICE_LABEL}={AGGREGATED_SERVICE}"));
        match slices.list(&which).await {
            Ok(listed) => {
                for (name, uid) in observed.stale(&listed.items, &own, Instant::now()) {
                    tracing::warn!("EndpointSlice {name} is of a replica that is gone; it is removed");
                    let only = Preconditions { uid: Some(uid), resource_version: None };
                    let how = DeleteParams::default().preconditions(only);
                    if let Err(error) = crate::object::ok_if_gone(slices.delete(&name, &how).await) {
                        tracing::warn!("EndpointSlice {name} cannot be removed: {error}");
                    }
                }
            }
            Err(error) => tracing::warn!("EndpointSlices cannot be listed: {error}"),
        }
        tokio::time::sleep(RENEW).await; // the next renewal
    }
}

/// The endpoint of the replica at `address`.
fn slice(address: SocketAddr, renewal: &str) -> Value {
    json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": {"name": name(address), "labels": {SERVICE_LABEL: AGGREGATED_SERVICE, MANAGED_LABEL: AGGREGATED_SERVICE}, "annotations": {RENEWED: renewal}},
        "addressType": if address.is_ipv4() { "IPv4" } else { "IPv6" },
        "endpoints": [{"addresses": [address.ip()], "conditions": {"ready": true}}],
        "ports": [{"name": "https", "port": address.port(), "protocol": "TCP"}],
    })
}

/// When each slice last changed, as this replica observed it.
#[derive(Default)]
struct Observed(HashMap<String, (String, Instant)>);

impl Observed {
    /// Slices other than `own` that did not change for [`STALE`]: name and UID.
    fn stale(&mut self, listed: &[EndpointSlice], own: &str, now: Instant) -> Vec<(String, String)> {
        let mut seen = HashMap::new();
        let mut stale = Vec::new();
        for slice in listed {
            let Some(name) = slice.metadata.name.clone().filter(|name| name != own) else { continue };
            let annotation = slice.metadata.annotations.as_ref().and_then(|all| all.get(RENEWED));
            let renewal = annotation.cloned().unwrap_or_default();
            let since = match self.0.get(&name) {
                Some((before, since)) if *before == renewal => *since,
                _ => now,
            };
            if now.saturating_duration_since(since) >= STALE {
                stale.push((name.clone(), slice.metadata.uid.clone().unwrap_or_default()));
            }
            seen.insert(name, (renewal, since));
        }
        self.0 = seen;
        stale
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listed(address: &str, renewal: &str) -> EndpointSlice {
        let mut slice = slice(address.parse().unwrap(), renewal);
        slice["metadata"]["uid"] = json!("u");
        serde_json::from_value(slice).unwrap()
    }

    #[test]
    fn a_replica_that_no_longer_renews_is_removed_and_one_that_does_is_not() {
        let (own, other, dead) = ("192.0.2.1:1", "192.0.2.2:1", "[2001:db8::]:1");
        let own_name = name(own.parse().unwrap());
        let mut observed = Observed::default();
        let start = Instant::now();
        for round in 0..5 {
            let now = start + STALE / 4 * round;
            let all = [listed(own, "x"), listed(other, &round.to_string()), listed(dead, "7")];
            let stale = observed.stale(&all, &own_name, now);
            let expected =
                if round == 4 { vec![(name(dead.parse().unwrap()), "u".to_owned())] } else { Vec::new() };
            assert_eq!(stale, expected, "round {round}");
        }
    }

    #[test]
    fn names_are_dns_labels() {
        for address in ["192.0.2.1:10913", "[::1]:1", "[2001:db8::]:65535"] {
            let name = name(address.parse().unwrap());
            assert!(name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-'), "{name}");
            assert!(!name.ends_with('-'));
        }
    }
}
