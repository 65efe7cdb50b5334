//! The policy by which this node judges the servers of DataVolumes.
//!
//! Why here: the object in the cluster, and what this node protects besides. Pure but for [`follow`], which lists the objects.
//! Route in: ImportPolicies as listed. Route out: a [`Policy`], or why nothing may be imported now: a policy that cannot be read must not count as none.

use crate::channels::Context;
use crate::listed::{self, Listed};
use ipnet::IpNet;
use sheaf_api::import_policy::{IMPORT_POLICY, ImportPolicy, ServerRule};
use sheaf_host::fetch::policy::{Policy, Rule};
use std::net::IpAddr;
use std::sync::Arc;
use tokio::sync::watch;

/// Addresses of VMs with `masquerade`, those of masq0 (20-sheaf-masq0.network).
const MASQUERADE_NETWORK: &str = "100.127.240.0/20";

/// Keeps `policies` equal to the API server's list until shutdown.
pub async fn follow(ctx: Context, policies: Arc<watch::Sender<Listed<ImportPolicy>>>) -> anyhow::Result<()> {
    let mut shutdown = ctx.shutdown.clone();
    tokio::select! {
        () = listed::follow(ctx.cluster, &policies, listed::by_name, listed::Scope::Cluster) => Ok(()),
        () = shutdown.requested() => Ok(()),
    }
}

/// The policy of the cluster; without an object of its name everything is allowed that is not protected.
pub fn of(listed: &Listed<ImportPolicy>) -> Result<Arc<Policy>, String> {
    if !listed.synced {
        return Err("the node has not read the ImportPolicy yet".into());
    }
    let object = listed.objects.get(IMPORT_POLICY);
    let spec = object.map(|object| object.spec.clone()).unwrap_or_default();
    let rules = |field: &str, rules: &[ServerRule]| -> Result<Vec<Rule>, String> {
        rules.iter().map(|one| rule(field, one)).collect()
    };
    let mut protected = vec![(network("masq0", MASQUERADE_NETWORK)?, "VMs behind masq0".to_owned())];
    let of_cluster = object.and_then(|object| object.status.as_ref()).map(|status| &status.protected);
    for one in of_cluster.into_iter().flatten() {
        protected.push((network("status.protected", &one.cidr)?, one.what.clone()));
    }
    Ok(Arc::new(Policy {
        allow: rules("spec.allow", &spec.allow)?,
        deny: rules("spec.deny", &spec.deny)?,
        protected,
        allow_downgrade: spec.allow_downgrade,
        ..Policy::default()
    }))
}

fn rule(field: &str, rule: &ServerRule) -> Result<Rule, String> {
    let networks = rule.cidrs.iter().map(|cidr| network(field, cidr)).collect::<Result<_, _>>()?;
    Ok(Rule { networks, hosts: rule.hosts.clone(), ports: rule.ports.clone() })
}

/// A network, or a single address. In IPv6 notation an IPv4 address is that IPv4 address.
fn network(field: &str, text: &str) -> Result<IpNet, String> {
    let parsed = text.parse::<IpNet>().or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
    parsed.map_err(|_| {
        format!("ImportPolicy {IMPORT_POLICY}: {field}: {text} is not a network; nothing is imported")
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn listed(spec: serde_json::Value, status: serde_json::Value) -> Listed<ImportPolicy> {
        let object: ImportPolicy = serde_json::from_value(json!({
            "apiVersion": "sheaf.dev/v1alpha1", "kind": "ImportPolicy", "metadata": {"name": "default"},
            "spec": spec, "status": status,
        }))
        .unwrap();
        Listed { synced: true, objects: [("default".to_owned(), Arc::new(object))].into() }
    }

    fn is_allowed(policy: &Policy, address: &str) -> bool {
        policy.judge("images.example", 443, address.parse().unwrap()).is_ok()
    }

    #[test]
    fn without_an_object_the_node_protects_itself_and_its_vms() {
        let policy = of(&Listed { synced: true, ..Listed::default() }).unwrap();
        assert!(is_allowed(&policy, "192.0.2.1"));
        for address in ["127.0.0.1", "169.254.169.254", "fe80::1", "100.127.240.1", "100.127.255.254"] {
            assert!(!is_allowed(&policy, address), "{address}");
        }
    }

    #[test]
    fn addresses_of_the_cluster_are_protected_and_an_administrators_rules_are_kept() {
        let protected = json!({"protected": [{"cidr": "10.96.0.0/16", "what": "Services"}]});
        let spec = json!({"allow": [{"cidrs": ["10.0.0.0/8"], "ports": [443]}, {"hosts": ["*.example"]}],
                          "deny": [{"cidrs": ["10.66.0.0/16"]}], "allowDowngrade": true});
        let policy = of(&listed(spec, protected)).unwrap();
        assert!(
            is_allowed(&policy, "10.1.2.3") && is_allowed(&policy, "192.0.2.1") && policy.allow_downgrade
        );
        assert!(!is_allowed(&policy, "10.96.0.1") && !is_allowed(&policy, "10.66.0.1"));
        assert!(policy.judge("elsewhere.test", 443, "192.0.2.1".parse().unwrap()).is_err());
    }

    #[test]
    fn a_policy_that_is_not_read_or_not_understood_allows_nothing() {
        assert_eq!(of(&Listed::default()).unwrap_err(), "the node has not read the ImportPolicy yet");
        let broken = listed(json!({"deny": [{"cidrs": ["10.0.0.0/99"]}]}), json!({}));
        assert!(of(&broken).unwrap_err().contains("spec.deny: 10.0.0.0/99 is not a network"));
    }
}
