//! Decides on a request for the certificate by which a node answers.
//!
//! Why here: Kubernetes itself never approves these, because only the cluster's maker knows which names a node may have:
//! in Sheaf its own name, and addresses of its Node object that are no other node's and not the API server's. Pure. Route
//! in: the request, and [`Facts`]. Route out: [`Decision`].

use std::{collections::BTreeMap, net::IpAddr};

use k8s_openapi::api::{certificates::v1::CertificateSigningRequest, core::v1::Node};

use super::{Decision, Requester, deny, requester, subject, usages};
use crate::csr::request::Request;
use crate::nodes::addresses::{ControlPlane, claimed, is_control_plane, is_no_nodes};

/// What a decision rests on.
pub struct Facts<'a> {
    /// The Node of the one who asks.
    pub node: Option<&'a Node>,
    /// Every Node that claims an address, by address.
    pub claims: &'a BTreeMap<IpAddr, Vec<String>>,
    /// What the control plane says of itself.
    pub plane: &'a ControlPlane,
}

/// Decides.
pub fn decide(csr: &CertificateSigningRequest, request: &Request, facts: &Facts<'_>) -> Decision {
    let Requester::Node(by) = requester(csr) else {
        let user = csr.spec.username.as_deref().unwrap_or_default();
        return deny("NotANode", format!("only nodes get serving certificates of this signer, not {user:?}"));
    };
    let checked = subject(request).and_then(|name| usages(csr, "server auth").map(|()| name));
    match checked {
        Ok(name) if name == by => {}
        Ok(name) => return deny("ForeignSubject", format!("node {by} gets no certificate for node {name}")),
        Err(denied) => return denied,
    }
    if request.other_names || (request.dns.is_empty() && request.addresses.is_empty()) {
        return deny("WrongNames", "the certificate must have DNS names or IP addresses, and no other names");
    }
    if let Some(foreign) = request.dns.iter().find(|dns| *dns != by) {
        return deny("ForeignName", format!("{foreign:?} is not the name of node {by}"));
    }
    let Some(node) = facts.node else {
        return Decision::Wait { message: format!("there is no Node {by} yet") };
    };
    // The API server's certificate has the names of the control plane's nodes, too; another node must not be called so.
    if !request.dns.is_empty() && facts.plane.names.contains(by) && !is_control_plane(node) {
        return deny("ForeignName", format!("{by:?} is a name of the API server"));
    }
    let own = claimed(node);
    if own.is_empty() {
        return Decision::Wait { message: format!("Node {by} has not reported its addresses yet") };
    }
    for address in &request.addresses {
        if is_no_nodes(address, facts.plane) {
            return deny(
                "ForeignAddress",
                format!("{address} is a loopback, link-local, multicast or Service address: no node has it"),
            );
        }
        if facts.plane.addresses.contains(address) && !is_control_plane(node) {
            return deny("ForeignAddress", format!("{address} is an address of the API server"));
        }
        let mut others = facts.claims.get(address).into_iter().flatten().filter(|name| *name != by);
        if let Some(other) = others.next() {
            return deny("ForeignAddress", format!("{address} is an address of Node {other}"));
        }
        if !own.contains(address) {
            return deny("ForeignAddress", format!("{address} is not an address of Node {by}"));
        }
    }
    Decision::Approve
}

#[cfg(test)]
mod tests {
    use super::super::SERVING_SIGNER;
    use super::super::testing::{csr, reason, request};
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    const USAGES: [&str; 2] = ["digital signature", "server auth"];

    /// Node n1 on 10.0.2.10; it also claims whatever the tests give it.
    fn node(more: &[&str], labels: serde_json::Value) -> Node {
        let mut addresses = vec![
            json!({"type": "InternalIP", "address": "10.0.2.10"}),
            json!({"type": "Hostname", "address": "n1"}),
            json!({"type": "InternalDNS", "address": "kubernetes.default.svc"}),
        ];
        addresses.extend(more.iter().map(|address| json!({"type": "InternalIP", "address": address})));
        serde_json::from_value(
            json!({"metadata": {"name": "n1", "labels": labels}, "status": {"addresses": addresses}}),
        )
        .unwrap()
    }

    fn plane() -> ControlPlane {
        ControlPlane {
            addresses: ["10.0.2.1".parse().unwrap(), "10.96.0.1".parse().unwrap()].into(),
            names: ["kubernetes".into(), "api.example".into()].into(),
            services: vec!["10.96.0.0/16".parse().unwrap()],
        }
    }

    fn claims() -> BTreeMap<IpAddr, Vec<String>> {
        [
            ("10.0.2.11".parse().unwrap(), vec!["n2".to_owned()]),
            ("10.0.2.10".parse().unwrap(), vec!["n1".to_owned()]),
        ]
        .into()
    }

    fn asked(node: &Node, asks: &Request) -> Decision {
        let (claims, plane) = (claims(), plane());
        let facts = Facts { node: Some(node), claims: &claims, plane: &plane };
        decide(&csr("system:node:n1", SERVING_SIGNER, &USAGES), asks, &facts)
    }

    fn reason_for(dns: &[&str], addresses: &[&str]) -> &'static str {
        let claimed: Vec<&str> = addresses.to_vec();
        reason(asked(&node(&claimed, json!({})), &request("system:node:n1", dns, addresses)))
    }

    #[test]
    fn a_node_gets_a_certificate_for_its_own_name_and_addresses() {
        assert_eq!(reason_for(&["n1"], &["10.0.2.10"]), "approved");
    }

    #[test]
    fn no_dns_name_but_the_nodes_is_given_though_the_node_claims_it() {
        for name in ["kubernetes.default.svc", "kubernetes", "api.example", "n2", "localhost", "N1", "n1."] {
            assert_eq!(reason_for(&[name], &["10.0.2.10"]), "ForeignName", "{name}");
        }
        // A node that is called like the API server.
        let asks = request("system:node:kubernetes", &["kubernetes"], &["10.0.2.10"]);
        let (claims, plane, node) = (claims(), plane(), node(&[], json!({})));
        let facts = Facts { node: Some(&node), claims: &claims, plane: &plane };
        let decision = decide(&csr("system:node:kubernetes", SERVING_SIGNER, &USAGES), &asks, &facts);
        assert_eq!(reason(decision), "ForeignName");
    }

    #[test]
    fn no_address_of_others_is_given_though_the_node_claims_it() {
        for address in [
            "10.0.2.11",
            "10.0.2.1",
            "10.96.0.1",
            "10.96.7.7",
            "127.0.0.1",
            "::1",
            "169.254.0.7",
            "fe80::7",
            "0.0.0.0",
            "224.0.0.1",
            "::ffff:10.0.2.10",
        ] {
            assert_eq!(reason_for(&["n1"], &["10.0.2.10", address]), "ForeignAddress", "{address}");
        }
        let asks = request("system:node:n1", &["n1"], &["10.0.2.99"]);
        assert_eq!(reason(asked(&node(&[], json!({})), &asks)), "ForeignAddress");
    }

    #[test]
    fn a_control_plane_node_answers_on_the_api_servers_address() {
        let asks = request("system:node:n1", &["n1"], &["10.0.2.1"]);
        let labels = json!({"node-role.kubernetes.io/control-plane": ""});
        assert_eq!(asked(&node(&["10.0.2.1"], labels), &asks), Decision::Approve);
    }

    #[test]
    fn a_control_plane_node_keeps_its_name_though_the_api_servers_certificate_has_it_too() {
        let asks = request("system:node:n1", &["n1"], &["10.0.2.10"]);
        let (claims, mut plane) = (claims(), plane());
        plane.names.insert("n1".into());
        let decision = |labels| {
            let node = node(&[], labels);
            let facts = Facts { node: Some(&node), claims: &claims, plane: &plane };
            reason(decide(&csr("system:node:n1", SERVING_SIGNER, &USAGES), &asks, &facts))
        };
        assert_eq!(decision(json!({"node-role.kubernetes.io/control-plane": ""})), "approved");
        assert_eq!(decision(json!({})), "ForeignName");
    }

    #[test]
    fn nobody_gets_a_certificate_for_anything_else() {
        let own = request("system:node:n1", &["n1"], &["10.0.2.10"]);
        let node = node(&[], json!({}));
        let (claims, plane) = (claims(), plane());
        let by = |user: &str, asks: &Request, usages: &[&str]| {
            let facts = Facts { node: Some(&node), claims: &claims, plane: &plane };
            reason(decide(&csr(user, SERVING_SIGNER, usages), asks, &facts))
        };
        assert_eq!(by("alice", &own, &USAGES), "NotANode");
        assert_eq!(by("system:bootstrap:abcdef", &own, &USAGES), "NotANode");
        assert_eq!(by("system:node:n2", &own, &USAGES), "ForeignSubject");
        assert_eq!(by("system:node:n1", &own, &["digital signature", "client auth"]), "WrongUsages");
        assert_eq!(by("system:node:n1", &request("system:node:n1", &[], &[]), &USAGES), "WrongNames");
        let mut extra = own.clone();
        extra.organizations.push("system:masters".into());
        assert_eq!(by("system:node:n1", &extra, &USAGES), "ForeignSubject");
    }

    #[test]
    fn a_request_before_its_node_waits() {
        let asks = request("system:node:n1", &["n1"], &["10.0.2.10"]);
        let (claims, plane) = (claims(), plane());
        let facts = Facts { node: None, claims: &claims, plane: &plane };
        assert_eq!(reason(decide(&csr("system:node:n1", SERVING_SIGNER, &USAGES), &asks, &facts)), "waits");
    }

    proptest! {
        /// Whatever a node claims and asks for: what is approved holds its own name and addresses alone.
        #[test]
        fn what_is_approved_is_never_somebody_elses(
            claimed in prop::collection::vec(any::<IpAddr>(), 0..4),
            asked_for in prop::collection::vec(any::<IpAddr>(), 0..4),
            others in prop::collection::vec(any::<IpAddr>(), 0..4),
            dns in prop::collection::vec("[a-z0-9.]{0,4}", 0..3),
        ) {
            let text: Vec<String> = claimed.iter().map(ToString::to_string).collect();
            let node = node(&text.iter().map(String::as_str).collect::<Vec<_>>(), json!({}));
            let mut claims: BTreeMap<IpAddr, Vec<String>> = claims();
            others.iter().for_each(|address| claims.entry(*address).or_default().push("n2".into()));
            let plane = plane();
            // Half of what is asked for is claimed by somebody, so that each rule is met.
            let addresses: Vec<IpAddr> = asked_for.iter().chain(&claimed).chain(others.first()).copied().collect();
            let asks = Request { dns: dns.clone(), addresses: addresses.clone(), ..request("system:node:n1", &[], &[]) };
            let facts = Facts { node: Some(&node), claims: &claims, plane: &plane };
            if decide(&csr("system:node:n1", SERVING_SIGNER, &USAGES), &asks, &facts) == Decision::Approve {
                prop_assert!(dns.iter().all(|name| name == "n1"));
                for address in addresses {
                    prop_assert!(claims.get(&address).is_none_or(|names| names.iter().all(|name| name == "n1")));
                    prop_assert!(!plane.addresses.contains(&address) && !address.is_loopback());
                }
            }
        }
    }
}
