//! From a token to an identity: this node becomes `system:node:<name>`.
//!
//! Why here: the same way for the first node, a joining node, and one whose certificate ran out. Route in: a
//! [`Target`]. Route out: the cluster's CA and an [`Identity`], both on disk; a node that has them goes straight on.

use super::csr::{self, Purpose, Unsigned};
use super::discovery;
use super::failure::{Failure, Remedy};
use super::identity::{CLIENT, Identity, Store};
use super::keys::Key;
use super::kubeconfig::{self, Credentials};
use super::machine::Machine;
use super::node;
use super::report::Reporter;
use super::time::rfc3339;
use super::token::Token;
use anyhow::anyhow;
use sheaf_config::pin::CaPin;
use std::time::{Duration, SystemTime};

/// What helps when the node's own disk fails it.
const STATE: &str = "look at the state partition: `journalctl -u sheaf-agent`, `df /var`";

/// The cluster to join.
#[derive(Clone, Debug)]
pub struct Target {
    /// `https://HOST:6443`.
    pub server: String,
    /// The way in, when there is one.
    pub token: Option<Token>,
    /// The CA's pin, when there is one.
    pub pin: Option<CaPin>,
    /// How long the token's signature may be missing.
    pub signature_time: Duration,
}

/// This node's standing in a cluster.
pub struct Member {
    /// The cluster CA, PEM.
    pub ca: String,
    /// Who this node is.
    pub identity: Identity,
}

/// What this node has of a membership on its disk.
pub enum Standing {
    /// A certificate that is valid now.
    Member(Box<Member>),
    /// One of this cluster and name that is not: its key still proves that this is the same node.
    Lapsed(Box<Identity>),
    /// Nothing of this cluster and name.
    None,
}

/// What is on disk, for this cluster and this name.
pub fn standing(store: &Store, name: &str, pin: Option<CaPin>, now: SystemTime) -> Standing {
    let (Some(ca), Some(identity)) = (store.ca(), store.load(CLIENT)) else { return Standing::None };
    let ours = identity.facts.subject.split(',').any(|part| part == format!("CN=system:node:{name}"));
    let same = pin.is_none_or(|pin| CaPin::of_certificate(&ca).is_ok_and(|found| found == pin));
    match ours && same {
        true if identity.valid(now) => Standing::Member(Box::new(Member { ca, identity })),
        true => Standing::Lapsed(Box::new(identity)),
        false => Standing::None,
    }
}

/// Goes the whole way, or as much of it as is left.
pub async fn join(
    target: &Target,
    name: &str,
    machine: &Machine,
    store: &Store,
    report: &Reporter,
) -> Result<Member, Failure> {
    let now = SystemTime::now();
    let lapsed = match standing(store, name, target.pin, now) {
        Standing::Member(member) => return Ok(*member),
        Standing::Lapsed(identity) => Some(identity),
        Standing::None => None,
    };
    let Some(token) = &target.token else {
        let (cause, remedy) = without_token(lapsed.as_deref(), now);
        return Err(Failure::new("joining the cluster", cause, remedy));
    };
    if store.ca().is_some_and(|ca| {
        target.pin.is_some_and(|pin| CaPin::of_certificate(&ca).is_ok_and(|found| found != pin))
    }) {
        store.forget().remedy("leaving the former cluster", STATE)?;
    }
    let ca = discovery::cluster_ca(&target.server, token, target.pin, target.signature_time, report).await?;

    let step = "asking for the node's certificate";
    let refused =
        "the cluster refuses the token: it was used or has expired; make one with `sheaf-agent token create`";
    let revealed = token.reveal();
    let client = kubeconfig::client(&target.server, Some(&ca), Credentials::Token(&revealed))
        .await
        .remedy(step, refused)?;
    report.step("checking that the name is free");
    node::claimable(&client, name, machine).await?;
    report.step(step);
    // A name is given again to the key it was given to: the lapsed certificate's, unless a newer request is under way.
    let key = match lapsed {
        Some(identity) if !store.is_pending(CLIENT) => Key::from_pem(&identity.key),
        _ => store.pending(CLIENT),
    }
    .remedy(step, STATE)?;
    let certificate = match csr::certificate(&client, name, Purpose::Client, &key, &[]).await {
        Ok(certificate) => certificate,
        Err(error) => {
            if matches!(error, Unsigned::Refused { .. }) {
                store.forget_pending(CLIENT).remedy(step, STATE)?;
                let remedy = "follow the message; it is retried with the token in node.toml";
                return Err(Failure::new(step, error, remedy));
            }
            return Err(Failure::new(step, error, refused));
        }
    };
    store.save_ca(&ca).remedy("keeping the cluster's CA", STATE)?;
    let identity = store.save(CLIENT, &certificate, &key).remedy("keeping the node's certificate", STATE)?;
    Ok(Member { ca, identity })
}

/// Why a node without a token does not join, and what to do.
fn without_token(lapsed: Option<&Identity>, now: SystemTime) -> (anyhow::Error, &'static str) {
    match lapsed {
        Some(identity) if now < identity.facts.not_before => (
            anyhow!(
                "this node's certificate is valid only from {}, and the clock says {}",
                rfc3339(identity.facts.not_before),
                rfc3339(now)
            ),
            "set the clock (a time server in node.toml, or the firmware's clock in UTC); it is tried again",
        ),
        Some(identity) => (
            anyhow!("this node's certificate expired at {}", rfc3339(identity.facts.not_after)),
            "put a new token (`sheaf-agent token create` on a control-plane node) into node.toml and restart the agent; \
             the node still has its key and keeps its name",
        ),
        None => (
            anyhow!("node.toml holds no token, and this node has no certificate of this cluster and name"),
            "put a token (`sheaf-agent token create` on a control-plane node) into node.toml and restart the agent",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::keys::{self, Authority, Subject};

    #[test]
    fn a_certificate_from_the_future_is_no_membership_and_the_clock_is_blamed() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store { dir: dir.path().join("pki") };
        let (authority, ca, _) = Authority::of_tests();
        let key = store.pending(CLIENT).unwrap();
        let valid = Duration::from_secs(3600);
        let (subject, public) = (Subject::node("n1"), key.public_der().unwrap());
        let certificate = authority.issue_client(&subject, &public, valid, SystemTime::now()).unwrap();
        store.save_ca(&ca).unwrap();
        store.save(CLIENT, &certificate, &key).unwrap();
        let now = SystemTime::now();
        assert!(matches!(standing(&store, "n1", None, now), Standing::Member(_)));
        assert!(matches!(standing(&store, "n2", None, now), Standing::None));
        let before = now - 2 * keys::BACKDATE;
        let Standing::Lapsed(identity) = standing(&store, "n1", None, before) else { panic!("it counts") };
        let (cause, remedy) = without_token(Some(&identity), before);
        assert!(cause.to_string().contains("valid only from"), "{cause}");
        assert!(remedy.starts_with("set the clock"), "{remedy}");
        let Standing::Lapsed(identity) = standing(&store, "n1", None, now + valid) else {
            panic!("it counts")
        };
        let (cause, remedy) = without_token(Some(&identity), now + valid);
        assert!(cause.to_string().contains("expired at"), "{cause}");
        assert!(remedy.contains("keeps its name"), "{remedy}");
    }
}
