//! Which addresses are the cluster's own.
//!
//! Pure. Route in: Nodes, ServiceCIDRs, the API server's EndpointSlice. Route out: the networks that no node fetches images
//! from, in an order that stays the same.

use std::{collections::BTreeSet, net::IpAddr};

use k8s_openapi::api::{core::v1::Node, discovery::v1::EndpointSlice, networking::v1::ServiceCIDR};
use sheaf_api::import_policy::ProtectedNetwork;

/// Addresses of one node that count, as many as a node with a dozen VLANs has: it writes them itself.
const ADDRESSES: usize = 32;

/// The networks, each once.
pub fn protected(
    nodes: &[Node],
    services: &[ServiceCIDR],
    servers: Option<&EndpointSlice>,
) -> Vec<ProtectedNetwork> {
    let mut all = BTreeSet::new();
    let mut add = |cidr: Option<String>, what: String| {
        all.extend(cidr.map(|cidr| ProtectedNetwork { cidr, what }));
    };
    for node in nodes {
        let name = node.metadata.name.as_deref().unwrap_or_default();
        let addresses = node.status.iter().flat_map(|status| status.addresses.iter().flatten());
        // Names among them are no addresses.
        for address in addresses.filter_map(|address| single(&address.address)).take(ADDRESSES) {
            add(Some(address), format!("node {name}"));
        }
    }
    for service in services.iter().flat_map(|service| &service.spec) {
        service.cidrs.iter().flatten().for_each(|cidr| add(Some(cidr.clone()), "Services".into()));
    }
    for endpoint in servers.iter().flat_map(|slice| slice.endpoints.iter().flatten()) {
        endpoint.addresses.iter().for_each(|address| add(single(address), "the API server".into()));
    }
    all.into_iter().collect()
}

/// `address` as a network of one.
fn single(address: &str) -> Option<String> {
    let address: IpAddr = address.parse().ok()?;
    Some(format!("{address}/{}", if address.is_ipv4() { 32 } else { 128 }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn addresses_of_nodes_services_and_the_api_server_are_protected_and_names_are_not() {
        let node = json!({"metadata": {"name": "n1"}, "status": {"addresses": [
            {"type": "InternalIP", "address": "192.0.2.10"}, {"type": "InternalIP", "address": "2001:db8::10"},
            {"type": "Hostname", "address": "n1"}, {"type": "InternalIP", "address": "0.0.0.0/0"}]}});
        let services = json!({"metadata": {"name": "kubernetes"}, "spec": {"cidrs": ["10.96.0.0/16"]}});
        let servers = json!({"metadata": {"name": "kubernetes"}, "addressType": "IPv4",
                             "endpoints": [{"addresses": ["192.0.2.1"]}], "ports": []});
        let nodes: Vec<Node> = vec![serde_json::from_value(node).unwrap(); 2];
        let services: Vec<ServiceCIDR> = vec![serde_json::from_value(services).unwrap()];
        let servers: EndpointSlice = serde_json::from_value(servers).unwrap();
        let found = protected(&nodes, &services, Some(&servers));
        let found: Vec<_> = found.iter().map(|one| (one.cidr.as_str(), one.what.as_str())).collect();
        assert_eq!(
            found,
            [
                ("10.96.0.0/16", "Services"),
                ("192.0.2.1/32", "the API server"),
                ("192.0.2.10/32", "node n1"),
                ("2001:db8::10/128", "node n1"),
            ]
        );
    }

    #[test]
    fn a_node_that_claims_many_addresses_fills_no_object() {
        let addresses: Vec<_> = (0..5000)
            .map(|n| json!({"type": "InternalIP", "address": format!("10.0.{}.{}", n / 250, n % 250)}))
            .collect();
        let node = json!({"metadata": {"name": "n1"}, "status": {"addresses": addresses}});
        assert_eq!(protected(&[serde_json::from_value(node).unwrap()], &[], None).len(), ADDRESSES);
    }
}
