//! Decides on certificate requests of nodes: [`client`], by which a node speaks, and [`serving`], by which it answers.
//!
//! Why here: Kubernetes approves by who asks, not by whose name is asked for; which machine may be which node, only the
//! cluster's maker knows. Pure. Route in: the request as the object and as [`Request`], and what the cluster knows
//! (`observe` of the controller). Route out: a [`Decision`].

pub mod client;
pub mod serving;

use std::collections::BTreeSet;

use k8s_openapi::api::certificates::v1::CertificateSigningRequest;

use super::request::Request;

/// Signer of the certificates by which nodes speak to the API server.
pub const CLIENT_SIGNER: &str = "kubernetes.io/kube-apiserver-client-kubelet";
/// Signer of the certificates by which nodes answer.
pub const SERVING_SIGNER: &str = "kubernetes.io/kubelet-serving";
/// Group of nodes, and organization in their certificates.
const NODES: &str = "system:nodes";
/// What a user name of a node begins with.
const NODE_PREFIX: &str = "system:node:";
/// What a user name of a bootstrap token begins with; the rest is the token's id.
const TOKEN_PREFIX: &str = "system:bootstrap:";
/// Group of bootstrap tokens.
const BOOTSTRAPPERS: &str = "system:bootstrappers";

/// What becomes of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// It may be signed.
    Approve,
    /// It may never be signed.
    Deny {
        /// Why, in one CamelCase word.
        reason: &'static str,
        /// Why, in a sentence, with what to do.
        message: String,
    },
    /// It cannot be decided yet.
    Wait {
        /// What is missing.
        message: String,
    },
    /// Not a request of a node or a token: an administrator decides.
    Leave,
}

fn deny(reason: &'static str, message: impl Into<String>) -> Decision {
    Decision::Deny { reason, message: message.into() }
}

/// Which of the two a request is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// To speak to the API server.
    Client,
    /// To answer.
    Serving,
}

/// What a request is for, if it is for a node.
pub fn purpose(csr: &CertificateSigningRequest) -> Option<Purpose> {
    match csr.spec.signer_name.as_str() {
        CLIENT_SIGNER => Some(Purpose::Client),
        SERVING_SIGNER => Some(Purpose::Serving),
        _ => None,
    }
}

/// Whether nobody has decided on a request yet.
pub fn is_open(csr: &CertificateSigningRequest) -> bool {
    let Some(status) = &csr.status else { return true };
    status.certificate.is_none() && status.conditions.as_ref().is_none_or(Vec::is_empty)
}

/// Who asks, by the user name and groups that the API server recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Requester<'a> {
    /// The node of this name, by its certificate.
    Node(&'a str),
    /// The holder of the bootstrap token with this id.
    Token(&'a str),
    /// Somebody else.
    Other,
}

/// Who asks.
pub fn requester(csr: &CertificateSigningRequest) -> Requester<'_> {
    let user = csr.spec.username.as_deref().unwrap_or_default();
    let in_group = |name: &str| csr.spec.groups.iter().flatten().any(|group| group == name);
    let rest = |prefix| user.strip_prefix(prefix).filter(|rest| !rest.is_empty());
    match (rest(NODE_PREFIX), rest(TOKEN_PREFIX)) {
        (Some(node), _) if in_group(NODES) => Requester::Node(node),
        (_, Some(id)) if in_group(BOOTSTRAPPERS) => Requester::Token(id),
        _ => Requester::Other,
    }
}

/// The node whose certificate is asked for: the subject must be O=system:nodes, CN=system:node:NAME and nothing else.
pub fn subject(request: &Request) -> Result<&str, Decision> {
    let wrong = || {
        deny(
            "ForeignSubject",
            format!(
                "the subject must be O={NODES}, CN={NODE_PREFIX}NAME and nothing else, not O={:?}, CN={:?}{}",
                request.organizations,
                request.common_names,
                if request.other_subject.is_empty() { "" } else { " and more" },
            ),
        )
    };
    let [name] = request.common_names.as_slice() else { return Err(wrong()) };
    let name = name.strip_prefix(NODE_PREFIX).filter(|name| is_node_name(name)).ok_or_else(wrong)?;
    if request.organizations != [NODES] || !request.other_subject.is_empty() {
        return Err(wrong());
    }
    Ok(name)
}

/// Whether a Node could have this name: an RFC 1123 subdomain.
fn is_node_name(name: &str) -> bool {
    let label = |label: &str| {
        let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        !label.is_empty() && label.bytes().all(inner) && !label.starts_with('-') && !label.ends_with('-')
    };
    name.len() <= 253 && name.split('.').all(label)
}

/// The usages must be `digital signature` and `usage`; with an RSA key also `key encipherment`.
fn usages(csr: &CertificateSigningRequest, usage: &str) -> Result<(), Decision> {
    let asked: BTreeSet<&str> = csr.spec.usages.iter().flatten().map(String::as_str).collect();
    let needed = BTreeSet::from(["digital signature", usage]);
    let with_rsa = BTreeSet::from(["digital signature", "key encipherment", usage]);
    if asked == needed || asked == with_rsa {
        return Ok(());
    }
    Err(deny("WrongUsages", format!("usages must be digital signature and {usage}, not {asked:?}")))
}

#[cfg(test)]
mod testing {
    //! Requests as tests need them.

    use super::*;
    use serde_json::json;

    /// A request by `user`, which is in the group that fits its name.
    pub fn csr(user: &str, signer: &str, usages: &[&str]) -> CertificateSigningRequest {
        let group = if user.starts_with(TOKEN_PREFIX) { BOOTSTRAPPERS } else { NODES };
        serde_json::from_value(json!({
            "metadata": {"name": "csr-1"},
            "spec": {"signerName": signer, "request": "", "username": user, "groups": [group, "system:authenticated"],
                     "usages": usages},
        }))
        .unwrap()
    }

    /// What a request asks for.
    pub fn request(cn: &str, dns: &[&str], addresses: &[&str]) -> Request {
        Request {
            common_names: vec![cn.into()],
            organizations: vec![NODES.into()],
            key: "sha256:aa".into(),
            dns: dns.iter().map(ToString::to_string).collect(),
            addresses: addresses.iter().map(|address| address.parse().unwrap()).collect(),
            ..Request::default()
        }
    }

    pub fn reason(decision: Decision) -> &'static str {
        match decision {
            Decision::Deny { reason, .. } => reason,
            Decision::Approve => "approved",
            Decision::Wait { .. } => "waits",
            Decision::Leave => "left",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_of_other_signers_and_decided_ones_are_left_alone() {
        let mut csr = testing::csr("system:node:n1", SERVING_SIGNER, &[]);
        assert_eq!((purpose(&csr), is_open(&csr)), (Some(Purpose::Serving), true));
        csr.status =
            serde_json::from_value(serde_json::json!({"conditions": [{"type": "Denied", "status": "True"}]}))
                .unwrap();
        assert!(!is_open(&csr));
        csr.spec.signer_name = "kubernetes.io/kube-apiserver-client".into();
        assert_eq!(purpose(&csr), None);
    }

    #[test]
    fn a_user_is_a_node_or_a_token_only_with_the_group_that_belongs_to_it() {
        let mut csr = testing::csr("system:node:n1", CLIENT_SIGNER, &[]);
        assert_eq!(requester(&csr), Requester::Node("n1"));
        csr.spec.groups = Some(vec!["system:authenticated".into()]);
        assert_eq!(requester(&csr), Requester::Other);
        assert_eq!(
            requester(&testing::csr("system:bootstrap:abcdef", CLIENT_SIGNER, &[])),
            Requester::Token("abcdef")
        );
        assert_eq!(requester(&testing::csr("alice", CLIENT_SIGNER, &[])), Requester::Other);
    }

    #[test]
    fn a_name_that_no_node_can_have_is_a_foreign_subject() {
        for name in
            ["system:node:", "system:node:N1", "system:node:a/b", "system:node:-a", "n1", "system:node:a\0"]
        {
            assert!(subject(&testing::request(name, &[], &[])).is_err(), "{name:?}");
        }
        assert_eq!(subject(&testing::request("system:node:n1.rack-2", &[], &[])), Ok("n1.rack-2"));
    }
}
