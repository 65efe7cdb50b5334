//! Which address belongs to whom: a node must claim no address of another node, of the API server or of Services.
//!
//! Why here: a node writes its own addresses, and what is written there decides where the API server connects and which
//! names a serving certificate may have. The record is the ConfigMap `sheaf-system/node-addresses`; the policy
//! `sheaf-node-status` ([`crate::policy::node_status`]) reads it at every write of a node. Pure. Route in: Nodes, the
//! record so far, what the control plane says of itself ([`ControlPlane`]). Route out: the record.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use ipnet::IpNet;
use k8s_openapi::api::core::v1::Node;
use kube::ResourceExt;
use sheaf_api::names::CONTROL_PLANE_ROLE_LABEL;

/// Owner of an address of the API server that no control-plane node has now. No Node can have this name.
pub const API_SERVER: &str = "(API server)";

/// What the control plane says of itself: data of the ConfigMap `sheaf-system/control-plane`. The node that made the cluster
/// writes `addresses`, `names` and `services`; each that joined the control plane writes `addresses.NODE` and `names.NODE`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ControlPlane {
    /// Addresses by which the API server is reached.
    pub addresses: BTreeSet<IpAddr>,
    /// Names by which it is reached.
    pub names: BTreeSet<String>,
    /// Addresses of Services.
    pub services: Vec<IpNet>,
}

impl ControlPlane {
    /// Reads the ConfigMap's data; what cannot be read is left out.
    pub fn read(data: &BTreeMap<String, String>) -> Self {
        let words = |key: &str| data.get(key).map(String::as_str).unwrap_or_default().split_whitespace();
        let all = |kind: &'static str| {
            let own = move |key: &str| {
                key.strip_prefix(kind).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
            };
            data.iter().filter(move |(key, _)| own(key)).flat_map(|(_, text)| text.split_whitespace())
        };
        Self {
            addresses: all("addresses").filter_map(|word| word.parse().ok()).collect(),
            names: all("names").map(str::to_owned).collect(),
            services: words("services").filter_map(|word| word.parse().ok()).collect(),
        }
    }
}

/// Addresses that Node `node` claims.
pub fn claimed(node: &Node) -> BTreeSet<IpAddr> {
    let addresses = node.status.as_ref().and_then(|status| status.addresses.as_ref());
    addresses.into_iter().flatten().filter_map(|address| address.address.parse().ok()).collect()
}

/// Whether the cluster counts `node` to its control plane: a label that no node may give itself (NodeRestriction).
pub fn is_control_plane(node: &Node) -> bool {
    node.labels().contains_key(CONTROL_PLANE_ROLE_LABEL)
}

/// Whether the node is silent: its lease ran out, and the node lifecycle controller says so. Its addresses may be given
/// to another machine by then (DHCP).
fn is_silent(node: &Node) -> bool {
    let conditions = node.status.as_ref().and_then(|status| status.conditions.as_ref());
    conditions
        .into_iter()
        .flatten()
        .any(|condition| condition.type_ == "Ready" && condition.status == "Unknown")
}

/// Whether no node may ever have this address.
pub fn is_no_nodes(address: &IpAddr, plane: &ControlPlane) -> bool {
    let local = match address {
        IpAddr::V4(four) => four.is_link_local() || four.is_broadcast(),
        IpAddr::V6(six) => six.is_unicast_link_local() || six.to_ipv4_mapped().is_some(),
    };
    local
        || address.is_loopback()
        || address.is_unspecified()
        || address.is_multicast()
        || plane.services.iter().any(|services| services.contains(address))
}

/// Who has which address: control-plane nodes before others for the API server's; else who had it before, else the
/// older Node. Silent nodes have none, except that an address of the API server stays its control-plane node's: nobody else may
/// have it, and with it the node reports again when it is back.
pub fn owners(
    nodes: &[&Node],
    before: &BTreeMap<IpAddr, String>,
    plane: &ControlPlane,
) -> BTreeMap<IpAddr, String> {
    let mut nodes = nodes.to_vec();
    nodes.sort_by_key(|node| (node.creation_timestamp().map(|time| time.0), node.name_any()));
    let (silent, nodes): (Vec<&Node>, Vec<&Node>) = nodes.into_iter().partition(|node| is_silent(node));
    let mut owners = BTreeMap::new();
    let has_plane = nodes.iter().any(|node| is_control_plane(node));
    for node in &nodes {
        for address in claimed(node).into_iter().filter(|address| !is_no_nodes(address, plane)) {
            // Before the first node has its role, the API server's address is not known to be anybody's.
            if plane.addresses.contains(&address) && has_plane && !is_control_plane(node) {
                continue;
            }
            let name = node.name_any();
            if before.get(&address) == Some(&name) || !owners.contains_key(&address) {
                owners.insert(address, name);
            }
        }
    }
    if has_plane {
        for address in plane.addresses.iter().filter(|address| !is_no_nodes(address, plane)) {
            let mut away = silent.iter().filter(|node| is_control_plane(node));
            let owner = away.find(|node| claimed(node).contains(address)).map(|node| node.name_any());
            owners.entry(*address).or_insert_with(|| owner.unwrap_or_else(|| API_SERVER.to_owned()));
        }
    }
    owners
}

/// Key of an address in the record: ConfigMaps take no colons.
pub fn key(address: &IpAddr) -> String {
    address.to_string().replace(':', "_")
}

/// The record's data: owners by address, and the ranges of Services under `services`.
pub fn data(owners: &BTreeMap<IpAddr, String>, plane: &ControlPlane) -> BTreeMap<String, String> {
    let services: Vec<_> = plane.services.iter().map(ToString::to_string).collect();
    let mut data: BTreeMap<_, _> =
        owners.iter().map(|(address, name)| (key(address), name.clone())).collect();
    data.insert("services".into(), services.join(","));
    data
}

/// The owners in the record's data.
pub fn read(data: &BTreeMap<String, String>) -> BTreeMap<IpAddr, String> {
    let address = |key: &String| key.replace('_', ":").parse().ok();
    data.iter().filter_map(|(key, name)| Some((address(key)?, name.clone()))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_api_servers_of_all_control_plane_nodes_are_known() {
        let data = [
            ("addresses", "192.0.2.10 127.0.0.1"),
            ("addresses.n2", "192.0.2.11"),
            ("addressesx", "192.0.2.66"),
            ("names", "n1"),
            ("names.n2", "n2 kubernetes"),
            ("services", "10.96.0.0/16"),
        ];
        let plane = ControlPlane::read(&data.map(|(key, text)| (key.to_owned(), text.to_owned())).into());
        let addresses: Vec<_> = plane.addresses.iter().map(ToString::to_string).collect();
        assert_eq!(addresses, ["127.0.0.1", "192.0.2.10", "192.0.2.11"]);
        assert_eq!(plane.names.into_iter().collect::<Vec<_>>(), ["kubernetes", "n1", "n2"]);
    }

    fn node(name: &str, born: &str, addresses: &[&str], plane: bool, ready: &str) -> Node {
        let addresses: Vec<_> =
            addresses.iter().map(|address| json!({"type": "InternalIP", "address": address})).collect();
        let labels = if plane { json!({CONTROL_PLANE_ROLE_LABEL: ""}) } else { json!({}) };
        serde_json::from_value(json!({
            "metadata": {"name": name, "labels": labels, "creationTimestamp": format!("2026-01-01T00:00:{born}Z")},
            "status": {"addresses": addresses, "conditions": [{"type": "Ready", "status": ready}]},
        }))
        .unwrap()
    }

    fn plane() -> ControlPlane {
        ControlPlane::read(&BTreeMap::from([
            ("addresses".to_owned(), "10.0.0.1 10.96.0.1 nonsense".to_owned()),
            ("services".to_owned(), "10.96.0.0/16".to_owned()),
        ]))
    }

    fn owner(owners: &BTreeMap<IpAddr, String>, address: &str) -> Option<String> {
        owners.get(&address.parse().unwrap()).cloned()
    }

    #[test]
    fn the_api_servers_address_is_its_nodes_and_nobody_elses() {
        let first = node("n1", "10", &["10.0.0.1"], true, "True");
        let thief = node("n2", "05", &["10.0.0.1", "10.0.0.2"], false, "True");
        let found = owners(
            &[&first, &thief],
            &BTreeMap::from([("10.0.0.1".parse().unwrap(), "n2".into())]),
            &plane(),
        );
        assert_eq!(owner(&found, "10.0.0.1").as_deref(), Some("n1"));
        assert_eq!(owner(&found, "10.0.0.2").as_deref(), Some("n2"));
        let moved = node("n1", "10", &["10.0.0.9"], true, "True");
        assert_eq!(
            owner(&owners(&[&moved, &thief], &BTreeMap::new(), &plane()), "10.0.0.1").as_deref(),
            Some(API_SERVER)
        );
        // While the first node registers, it has no role yet.
        let early = node("n1", "10", &["10.0.0.1"], false, "True");
        assert_eq!(owner(&owners(&[&early], &BTreeMap::new(), &plane()), "10.0.0.1").as_deref(), Some("n1"));
    }

    #[test]
    fn who_had_an_address_keeps_it_until_it_is_silent() {
        let old = node("n2", "05", &["10.0.0.2"], false, "True");
        let new = node("n3", "06", &["10.0.0.2"], false, "True");
        assert_eq!(
            owner(&owners(&[&new, &old], &BTreeMap::new(), &plane()), "10.0.0.2").as_deref(),
            Some("n2")
        );
        let before = BTreeMap::from([("10.0.0.2".parse().unwrap(), "n3".to_owned())]);
        assert_eq!(owner(&owners(&[&new, &old], &before, &plane()), "10.0.0.2").as_deref(), Some("n3"));
        let silent = node("n2", "05", &["10.0.0.2"], false, "Unknown");
        assert_eq!(owner(&owners(&[&silent], &BTreeMap::new(), &plane()), "10.0.0.2"), None);
    }

    #[test]
    fn a_control_plane_node_that_was_silent_may_report_with_its_address_of_the_api_server() {
        let plane = ControlPlane::read(&BTreeMap::from([
            ("addresses".to_owned(), "10.0.0.1".to_owned()),
            ("addresses.n2".to_owned(), "10.0.0.2".to_owned()),
        ]));
        let first = node("n1", "05", &["10.0.0.1", "10.0.1.1"], true, "Unknown");
        let second = node("n2", "06", &["10.0.0.2"], true, "True");
        let thief = node("n3", "04", &["10.0.0.1", "10.0.1.1"], false, "True");
        let all = [&first, &second, &thief];
        let found = owners(&all, &BTreeMap::new(), &plane);
        assert_eq!(owner(&found, "10.0.0.1").as_deref(), Some("n1"));
        assert_eq!(owner(&found, "10.0.0.2").as_deref(), Some("n2"));
        assert_eq!(
            owner(&found, "10.0.1.1").as_deref(),
            Some("n3"),
            "another address of a silent node is free"
        );
        // A worker that is silent keeps nothing, and another control-plane node may have taken the address over.
        let worker = node("n4", "03", &["10.0.0.1"], false, "Unknown");
        let other = node("n5", "07", &["10.0.0.1"], true, "True");
        let found = owners(&[&worker, &second], &BTreeMap::new(), &plane);
        assert_eq!(owner(&found, "10.0.0.1").as_deref(), Some(API_SERVER));
        let found = owners(&[&first, &second, &other], &BTreeMap::new(), &plane);
        assert_eq!(owner(&found, "10.0.0.1").as_deref(), Some("n5"));
    }

    #[test]
    fn addresses_that_no_node_has_belong_to_nobody() {
        let odd = [
            "127.0.0.1",
            "::1",
            "169.254.1.1",
            "fe80::1",
            "10.96.0.1",
            "224.0.0.1",
            "0.0.0.0",
            "::ffff:10.0.0.1",
        ];
        let found = owners(&[&node("n2", "05", &odd, false, "True")], &BTreeMap::new(), &plane());
        assert_eq!(found, BTreeMap::new());
    }

    #[test]
    fn the_record_reads_back() {
        let first = node("n1", "10", &["10.0.0.1", "2001:db8::1"], true, "True");
        let found = owners(&[&first], &BTreeMap::new(), &plane());
        let data = data(&found, &plane());
        assert_eq!(data["2001_db8__1"], "n1");
        assert_eq!(data["services"], "10.96.0.0/16");
        assert_eq!(read(&data), found);
    }
}
