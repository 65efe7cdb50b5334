//! Decides on a request for the certificate by which a node speaks.
//!
//! Why here: Kubernetes' own approver gives any token any name, that of a living control-plane node too. Here a token is
//! good for one node, and a name that is taken goes to the same key alone, until an administrator releases it. Pure. Route
//! in: the request and [`Facts`]. Route out: [`Decision`].

use k8s_openapi::api::certificates::v1::CertificateSigningRequest;

use super::{Decision, Requester, deny, requester, subject, usages};
use crate::csr::{identities::Identities, request::Request, tokens::Token};

/// What a decision rests on.
pub struct Facts<'a> {
    /// Which key has which name.
    pub identities: &'a Identities,
    /// The token that the requester used; none if it is not valid (any more).
    pub token: Option<&'a Token>,
    /// Whether there is a Node of the name that is asked for.
    pub node_exists: bool,
}

/// Decides.
pub fn decide(csr: &CertificateSigningRequest, request: &Request, facts: &Facts<'_>) -> Decision {
    let by = requester(csr);
    if by == Requester::Other {
        return Decision::Leave;
    }
    let checked = subject(request).and_then(|name| usages(csr, "client auth").map(|()| name));
    let name = match checked {
        Ok(name) => name,
        Err(denied) => return denied,
    };
    if request.other_names || !request.dns.is_empty() || !request.addresses.is_empty() {
        return deny("WrongNames", "a client certificate must not have DNS names or addresses");
    }
    match by {
        Requester::Node(node) if node == name => renewal(name, request, facts),
        Requester::Node(node) => {
            deny("ForeignSubject", format!("node {node} gets no certificate for node {name}"))
        }
        Requester::Token(id) => enrolment(id, name, request, facts),
        Requester::Other => Decision::Leave,
    }
}

/// A node that has a certificate asks for the next one.
fn renewal(name: &str, request: &Request, facts: &Facts<'_>) -> Decision {
    if let Some(denied) = removed(name, facts) {
        return denied;
    }
    let released = facts.identities.get(name).is_some_and(|identity| identity.released);
    if released && !facts.identities.has_key(name, &request.key) {
        return deny(
            "NameReleased",
            format!("an administrator released the name {name}: join again with a new token"),
        );
    }
    Decision::Approve
}

/// Denies what is asked for the name of a node that was removed, until the name is released.
fn removed(name: &str, facts: &Facts<'_>) -> Option<Decision> {
    let removed = facts.identities.get(name).is_some_and(|identity| identity.removed);
    removed.then(|| {
        deny(
            "NodeRemoved",
            format!(
                "node {name} was removed from the cluster. For another machine of that name, release it with `sheaf-agent \
                 node release {name}` on a control-plane node, then join with a new token"
            ),
        )
    })
}

/// A machine with a token asks for its first certificate, or for another after the last one expired.
fn enrolment(id: &str, name: &str, request: &Request, facts: &Facts<'_>) -> Decision {
    let another = "make another with `sheaf-agent token create` on a control-plane node";
    let Some(token) = facts.token else {
        return deny("TokenExpired", format!("token {id}.*** is no longer valid; {another}"));
    };
    if let Some(used) = &token.used_by
        && (used.node != name || used.key != request.key)
    {
        return deny(
            "TokenUsed",
            format!("token {id}.*** was used by node {}: a token is good for one node; {another}", used.node),
        );
    }
    if let Some(only) = token.only_for.as_ref().filter(|only| *only != name) {
        return deny("TokenForAnotherNode", format!("token {id}.*** is for node {only}; {another}"));
    }
    if let Some(denied) = removed(name, facts) {
        return denied;
    }
    let free = match facts.identities.get(name) {
        Some(identity) => identity.released || identity.keys.contains(&request.key),
        None => !facts.node_exists,
    };
    if !free {
        return deny(
            "NameTaken",
            format!(
                "node {name} has another key. If this machine replaces it, release the name with `sheaf-agent node \
                 release {name}` on a control-plane node; else choose another system.hostname"
            ),
        );
    }
    Decision::Approve
}

#[cfg(test)]
mod tests {
    use super::super::testing::{csr, reason, request};
    use super::super::{CLIENT_SIGNER, Decision};
    use super::*;
    use crate::csr::tokens::Use;
    use proptest::prelude::*;

    const USAGES: [&str; 2] = ["digital signature", "client auth"];

    fn token() -> Token {
        Token { id: "abcdef".into(), used_by: None, only_for: None }
    }

    fn known(name: &str, key: &str) -> Identities {
        let mut identities = Identities::default();
        identities.record(name, key);
        identities
    }

    fn by_token(
        name: &str,
        key: &str,
        identities: &Identities,
        token: Option<&Token>,
        node_exists: bool,
    ) -> Decision {
        let asks = Request { key: key.into(), ..request(&format!("system:node:{name}"), &[], &[]) };
        decide(
            &csr("system:bootstrap:abcdef", CLIENT_SIGNER, &USAGES),
            &asks,
            &Facts { identities, token, node_exists },
        )
    }

    #[test]
    fn a_new_machine_gets_a_free_name_by_a_valid_token() {
        assert_eq!(
            by_token("n2", "sha256:aa", &Identities::default(), Some(&token()), false),
            Decision::Approve
        );
    }

    #[test]
    fn the_name_of_a_node_is_given_to_its_own_key_alone_until_it_is_released() {
        let mut identities = known("n1", "sha256:aa");
        let token = token();
        assert_eq!(reason(by_token("n1", "sha256:bb", &identities, Some(&token), true)), "NameTaken");
        // Its Node was deleted: the certificate of the old key is still valid.
        assert_eq!(reason(by_token("n1", "sha256:bb", &identities, Some(&token), false)), "NameTaken");
        assert_eq!(by_token("n1", "sha256:aa", &identities, Some(&token), true), Decision::Approve);
        identities.release("n1");
        assert_eq!(by_token("n1", "sha256:bb", &identities, Some(&token), true), Decision::Approve);
        // A Node that is older than the record.
        assert_eq!(reason(by_token("n0", "sha256:bb", &identities, Some(&token), true)), "NameTaken");
    }

    #[test]
    fn a_token_is_good_for_one_node() {
        let used = Token { used_by: Some(Use { node: "n2".into(), key: "sha256:aa".into() }), ..token() };
        let none = Identities::default();
        assert_eq!(reason(by_token("n3", "sha256:bb", &none, Some(&used), false)), "TokenUsed");
        assert_eq!(reason(by_token("n2", "sha256:bb", &none, Some(&used), false)), "TokenUsed");
        assert_eq!(by_token("n2", "sha256:aa", &none, Some(&used), false), Decision::Approve);
        assert_eq!(reason(by_token("n2", "sha256:aa", &none, None, false)), "TokenExpired");
        let bound = Token { only_for: Some("n9".into()), ..token() };
        assert_eq!(reason(by_token("n2", "sha256:aa", &none, Some(&bound), false)), "TokenForAnotherNode");
    }

    #[test]
    fn a_node_renews_its_own_certificate_and_no_other() {
        let identities = known("n1", "sha256:aa");
        let facts = Facts { identities: &identities, token: None, node_exists: true };
        let by = |user: &str, asks: &Request, usages: &[&str]| {
            reason(decide(&csr(user, CLIENT_SIGNER, usages), asks, &facts))
        };
        let own = request("system:node:n1", &[], &[]);
        assert_eq!(by("system:node:n1", &own, &USAGES), "approved");
        assert_eq!(by("system:node:n2", &own, &USAGES), "ForeignSubject");
        assert_eq!(by("system:node:n1", &own, &["digital signature", "server auth"]), "WrongUsages");
        assert_eq!(by("system:node:n1", &request("system:node:n1", &["n1"], &[]), &USAGES), "WrongNames");
        assert_eq!(by("alice", &own, &USAGES), "left");
        let mut masters = own.clone();
        masters.organizations.push("system:masters".into());
        assert_eq!(by("system:node:n1", &masters, &USAGES), "ForeignSubject");
    }

    #[test]
    fn the_holder_of_a_released_name_does_not_renew_it() {
        let mut identities = known("n1", "sha256:aa");
        identities.release("n1");
        let facts = Facts { identities: &identities, token: None, node_exists: true };
        let asks = Request { key: "sha256:bb".into(), ..request("system:node:n1", &[], &[]) };
        let decision = decide(&csr("system:node:n1", CLIENT_SIGNER, &USAGES), &asks, &facts);
        assert_eq!(reason(decision), "NameReleased");
    }

    #[test]
    fn nothing_is_signed_for_a_removed_node_by_its_certificate_or_by_a_token_until_its_name_is_released() {
        let mut identities = known("n1", "sha256:aa");
        identities.remove("n1");
        let asks = request("system:node:n1", &[], &[]);
        let facts = Facts { identities: &identities, token: None, node_exists: true };
        let renewal = decide(&csr("system:node:n1", CLIENT_SIGNER, &USAGES), &asks, &facts);
        assert_eq!(reason(renewal), "NodeRemoved");
        // The former key, and another; the Node exists, or not.
        for (key, node_exists) in [("sha256:aa", true), ("sha256:bb", false)] {
            let Decision::Deny { reason, message } =
                by_token("n1", key, &identities, Some(&token()), node_exists)
            else {
                panic!("it is approved")
            };
            assert_eq!(reason, "NodeRemoved");
            assert_eq!(
                message,
                "node n1 was removed from the cluster. For another machine of that name, release it with `sheaf-agent node \
                 release n1` on a control-plane node, then join with a new token"
            );
        }
        identities.release("n1");
        assert_eq!(by_token("n1", "sha256:bb", &identities, Some(&token()), false), Decision::Approve);
    }

    /// Names, keys and tokens of few values each, so that they meet often.
    fn step() -> impl Strategy<Value = (u8, u8, u8, bool)> {
        (0..3_u8, 0..4_u8, 0..4_u8, any::<bool>())
    }

    proptest! {
        /// Whatever requests come in whatever order, and whatever is released in between: no token ever serves two nodes,
        /// and without a release no name ever gets a second key from a token.
        #[test]
        fn no_order_of_requests_gives_a_token_two_nodes_or_a_name_two_keys(steps in prop::collection::vec(step(), 1..60)) {
            let mut identities = Identities::default();
            let mut tokens: Vec<Token> = (0..4).map(|at| Token { id: format!("token{at}"), ..token() }).collect();
            let mut given: Vec<(u8, u8)> = Vec::new(); // (name, key) since the name was last released
            let mut uses: Vec<Vec<(u8, u8)>> = vec![Vec::new(); 4];
            for (name, key, with, release) in steps {
                let node = format!("n{name}");
                if release && key == 0 {
                    identities.release(&node);
                    given.retain(|(other, _)| *other != name);
                    continue;
                }
                let asks = Request { key: format!("key{key}"), ..request(&format!("system:node:{node}"), &[], &[]) };
                let facts = Facts { identities: &identities, token: Some(&tokens[usize::from(with)]), node_exists: false };
                let user = csr("system:bootstrap:abcdef", CLIENT_SIGNER, &USAGES);
                if decide(&user, &asks, &facts) == Decision::Approve {
                    tokens[usize::from(with)].used_by = Some(Use { node: node.clone(), key: asks.key.clone() });
                    identities.record(&node, &asks.key);
                    uses[usize::from(with)].push((name, key));
                    given.push((name, key));
                }
            }
            for of in &uses {
                prop_assert!(of.iter().all(|one| *one == of[0]), "one token served {of:?}");
            }
            for (name, key) in &given {
                prop_assert!(given.iter().all(|(other, second)| other != name || second == key), "{given:?}");
            }
        }
    }
}
