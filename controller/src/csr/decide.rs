//! Decides on a request for a node's serving certificate.
//!
//! Why here: Kubernetes itself never approves these, because only the cluster's maker knows which names a node
//! may have; in Sheaf, those are the addresses in its Node object. Pure. Route in: the request as object and as
//! [`Request`], and the Node. Route out: [`Decision`].

use std::{collections::BTreeSet, net::IpAddr};

use k8s_openapi::api::{certificates::v1::CertificateSigningRequest, core::v1::Node};

use super::request::Request;

/// The signer whose requests are decided here.
pub const SIGNER: &str = "kubernetes.io/kubelet-serving";
/// Group of nodes, and organization in their certificates.
const NODES: &str = "system:nodes";
/// What a user name of a node begins with.
const NODE_PREFIX: &str = "system:node:";

/// What becomes of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// It may be signed.
    Approve,
    /// It may never be signed.
    Deny {
        /// Why, in one CamelCase word.
        reason: &'static str,
        /// Why, in a sentence.
        message: String,
    },
    /// It can not be decided yet.
    Wait {
        /// What is missing.
        message: String,
    },
}

/// True for a request that is for us and not yet decided.
pub fn is_open(csr: &CertificateSigningRequest) -> bool {
    let decided = csr.status.as_ref().is_some_and(|status| {
        status.certificate.is_some()
            || status.conditions.as_ref().is_some_and(|conditions| !conditions.is_empty())
    });
    csr.spec.signer_name == SIGNER && !decided
}

/// Name of the node that asks, by the user name that the API server recorded.
pub fn node_name(csr: &CertificateSigningRequest) -> Option<&str> {
    csr.spec.username.as_deref()?.strip_prefix(NODE_PREFIX).filter(|name| !name.is_empty())
}

/// Decides.
pub fn decide(csr: &CertificateSigningRequest, request: &Request, node: Option<&Node>) -> Decision {
    let deny = |reason, message: String| Decision::Deny { reason, message };
    let username = csr.spec.username.clone().unwrap_or_default();
    let Some(name) = node_name(csr) else {
        return deny(
            "NotANode",
            format!("only nodes get serving certificates of this signer, not {username:?}"),
        );
    };
    if !csr.spec.groups.iter().flatten().any(|group| group == NODES) {
        return deny("NotANode", format!("{username} is not in group {NODES}"));
    }
    if request.common_names != [username.clone()] {
        return deny(
            "ForeignSubject",
            format!("{username} asks for a certificate of {:?}", request.common_names),
        );
    }
    if request.organizations != [NODES.to_string()] || !request.other_subject.is_empty() {
        return deny(
            "ForeignSubject",
            format!("the subject must be O={NODES}, CN={username} and nothing else"),
        );
    }
    let usages: BTreeSet<&str> = csr.spec.usages.iter().flatten().map(String::as_str).collect();
    let needed = BTreeSet::from(["digital signature", "server auth"]);
    let with_rsa = BTreeSet::from(["digital signature", "key encipherment", "server auth"]);
    if usages != needed && usages != with_rsa {
        return deny(
            "WrongUsages",
            format!("usages must be digital signature and server auth, not {usages:?}"),
        );
    }
    if request.other_names || (request.dns.is_empty() && request.addresses.is_empty()) {
        return deny(
            "WrongNames",
            "the certificate must have DNS names or IP addresses, and no other names".into(),
        );
    }
    let Some(node) = node else {
        return Decision::Wait { message: format!("there is no Node {name} yet") };
    };
    let addresses = node.status.as_ref().and_then(|status| status.addresses.clone()).unwrap_or_default();
    if addresses.is_empty() {
        return Decision::Wait { message: format!("Node {name} has not reported its addresses yet") };
    }
    let known: BTreeSet<IpAddr> =
        addresses.iter().filter_map(|address| address.address.parse().ok()).collect();
    if let Some(foreign) = request.addresses.iter().find(|address| !known.contains(address)) {
        return deny("ForeignAddress", format!("{foreign} is not an address of Node {name}"));
    }
    let is_own = |dns: &&String| *dns == name || addresses.iter().any(|address| address.address == **dns);
    if let Some(foreign) = request.dns.iter().find(|dns| !is_own(dns)) {
        return deny("ForeignName", format!("{foreign:?} is not a name of Node {name}"));
    }
    Decision::Approve
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn csr(user: &str, usages: &[&str]) -> CertificateSigningRequest {
        serde_json::from_value(json!({
            "metadata": {"name": "csr-1"},
            "spec": {"signerName": SIGNER, "request": "", "username": user, "groups": [NODES, "system:authenticated"],
                     "usages": usages},
        }))
        .unwrap()
    }

    fn node() -> Node {
        serde_json::from_value(json!({
            "metadata": {"name": "n1"},
            "status": {"addresses": [{"type": "InternalIP", "address": "10.0.2.10"}, {"type": "Hostname", "address": "n1"}]},
        }))
        .unwrap()
    }

    fn request(cn: &str, dns: &[&str], addresses: &[&str]) -> Request {
        Request {
            common_names: vec![cn.into()],
            organizations: vec![NODES.into()],
            dns: dns.iter().map(ToString::to_string).collect(),
            addresses: addresses.iter().map(|address| address.parse().unwrap()).collect(),
            ..Request::default()
        }
    }

    const USAGES: [&str; 2] = ["digital signature", "server auth"];

    fn reason(decision: Decision) -> &'static str {
        match decision {
            Decision::Deny { reason, .. } => reason,
            Decision::Approve => "approved",
            Decision::Wait { .. } => "waits",
        }
    }

    #[test]
    fn a_node_gets_a_certificate_for_its_own_addresses() {
        let asks = request("system:node:n1", &["n1"], &["10.0.2.10"]);
        assert_eq!(decide(&csr("system:node:n1", &USAGES), &asks, Some(&node())), Decision::Approve);
    }

    #[test]
    fn nobody_gets_a_certificate_for_anything_else() {
        let own = request("system:node:n1", &["n1"], &["10.0.2.10"]);
        let by = |user: &str, asks: &Request, usages: &[&str]| {
            reason(decide(&csr(user, usages), asks, Some(&node())))
        };
        assert_eq!(by("alice", &own, &USAGES), "NotANode");
        assert_eq!(by("system:node:n2", &own, &USAGES), "ForeignSubject");
        assert_eq!(by("system:node:n1", &own, &["digital signature", "client auth"]), "WrongUsages");
        assert_eq!(by("system:node:n1", &request("system:node:n1", &[], &[]), &USAGES), "WrongNames");
        assert_eq!(
            by("system:node:n1", &request("system:node:n1", &[], &["10.0.2.11"]), &USAGES),
            "ForeignAddress"
        );
        assert_eq!(by("system:node:n1", &request("system:node:n1", &["api"], &[]), &USAGES), "ForeignName");
        let mut extra = own.clone();
        extra.organizations.push("system:masters".into());
        assert_eq!(by("system:node:n1", &extra, &USAGES), "ForeignSubject");
    }

    #[test]
    fn a_request_before_its_node_waits() {
        let asks = request("system:node:n1", &["n1"], &[]);
        assert_eq!(reason(decide(&csr("system:node:n1", &USAGES), &asks, None)), "waits");
    }

    #[test]
    fn other_signers_and_decided_requests_are_left_alone() {
        let mut other = csr("system:node:n1", &USAGES);
        assert!(is_open(&other));
        other.spec.signer_name = "kubernetes.io/kube-apiserver-client-kubelet".into();
        assert!(!is_open(&other));
    }
}
