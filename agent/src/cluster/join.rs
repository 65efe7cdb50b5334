//! From a token to an identity: this node becomes `system:node:<name>`.
//!
//! Why here: the same way for the first node, a joining node, and one whose certificate ran out. Route in: a
//! [`Target`]. Route out: the cluster's CA and an [`Identity`], both on disk; a node that has them goes straight on.

use super::csr::{self, Purpose, Unsigned};
use super::discovery;
use super::failure::{Failure, Remedy};
use super::identity::{CLIENT, Identity, Store};
use super::kubeconfig::{self, Credentials};
use super::machine::Machine;
use super::node;
use super::report::Reporter;
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

/// The standing that is on disk, if it is of this cluster, this name and not over.
pub fn standing(store: &Store, name: &str, pin: Option<CaPin>, now: SystemTime) -> Option<Member> {
    let (ca, identity) = (store.ca()?, store.load(CLIENT)?);
    let ours = identity.facts.subject.split(',').any(|part| part == format!("CN=system:node:{name}"));
    let same = pin.is_none_or(|pin| CaPin::of_certificate(&ca).is_ok_and(|found| found == pin));
    (ours && same && !identity.expired(now)).then_some(Member { ca, identity })
}

/// Goes the whole way, or as much of it as is left.
pub async fn join(
    target: &Target,
    name: &str,
    machine: &Machine,
    store: &Store,
    report: &Reporter,
) -> Result<Member, Failure> {
    if let Some(member) = standing(store, name, target.pin, SystemTime::now()) {
        return Ok(member);
    }
    let over = store.load(CLIENT).is_some();
    let Some(token) = &target.token else {
        let cause = if over {
            anyhow!("this node's certificate has expired, or is of another cluster or name")
        } else {
            anyhow!("node.toml holds no token")
        };
        let remedy = "put a new token (`sheaf-agent token create` on a control-plane node) into node.toml and restart the agent";
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
        "the cluster refuses the token: it may have expired since; make one with `sheaf-agent token create`";
    let revealed = token.reveal();
    let client = kubeconfig::client(&target.server, Some(&ca), Credentials::Token(&revealed))
        .await
        .remedy(step, refused)?;
    report.step("checking that the name is free");
    node::claimable(&client, name, machine).await?;
    report.step(step);
    let key = store.pending(CLIENT).remedy(step, STATE)?;
    let certificate = match csr::certificate(&client, name, Purpose::Client, &key, &[]).await {
        Ok(certificate) => certificate,
        Err(error) => {
            if matches!(error, Unsigned::Refused { .. }) {
                store.forget_pending(CLIENT).remedy(step, STATE)?;
                return Err(Failure::new(
                    step,
                    error,
                    "ask the cluster's administrator why; the next attempt uses a new key",
                ));
            }
            return Err(Failure::new(step, error, refused));
        }
    };
    store.save_ca(&ca).remedy("keeping the cluster's CA", STATE)?;
    let identity = store.save(CLIENT, &certificate, &key).remedy("keeping the node's certificate", STATE)?;
    Ok(Member { ca, identity })
}
