//! A control-plane node that joins: receives the keys of the cluster, becomes a member of etcd, starts its control plane.
//!
//! Why beside the membership and not before it: the node is a node first, as every other, and stays one while its control plane
//! cannot start: its lease is renewed and its VMs run. And not after it either, once it was made: after a power cut of all
//! control-plane nodes none of them can register before a majority of them has started etcd. The node that created the cluster does the
//! same as soon as there are others. Every step is found again after a power cut, by what is on disk and what
//! etcd says ([`plan`]). Route in: `role = "control-plane"`, token and certificate-key of node.toml. Route out: a control plane
//! like that of the first node, the label of the Node, this node in the list of API servers; the section `control_plane`.

pub mod demotions;
pub mod invite;
pub mod member;
pub mod parcel;
pub mod plan;
pub mod retire;

use super::create::{self, upkeep};
use super::failure::{Failure, Remedy};
use super::identity::Store;
use super::join::Target;
use super::kubeconfig::{self, Credentials};
use super::node::give_role;
use super::report::Reporter;
use super::servers::Servers;
use super::{Hosts, redeem, was_made};
use crate::channels::Context;
use crate::etcd::program;
use anyhow::{Context as _, anyhow, bail};
use k8s_openapi::api::core::v1::Node;
use kube::api::Api;
use member::Place;
use parcel::{CertificateKey, Parcel};
use serde::{Deserialize, Serialize};
use sheaf_config::node::Cluster;
use sheaf_config::pin::CaPin;
use sheaf_host::file::{rename_durably, write_atomically};
use std::convert::Infallible;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::sync::watch;

/// After a failure it is tried again: soon, then less often.
const FIRST_PAUSE: Duration = Duration::from_secs(2);
const LONGEST_PAUSE: Duration = Duration::from_secs(32);

/// Where keys are put together before they take their place, below `/var/lib/kubernetes`.
const RECEIVING: &str = "receiving";
/// Says that this node's control plane is one of several, below `/var/lib/kubernetes/pki`.
const SETTINGS: &str = "joined.json";

/// What a node that joins needs beyond what the first node has.
#[derive(Clone, Debug)]
pub struct Joining {
    /// Addresses of Services.
    pub service_cidr: String,
    /// Its place among the members of etcd.
    pub place: Place,
}

/// What is the same on all control-plane nodes and in no key.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Settings {
    service_cidr: String,
}

/// What this needs of the node's membership.
pub struct Membership<'a> {
    /// The cluster of node.toml.
    pub target: &'a Target,
    /// The CA that the node trusts.
    pub store: &'a Store,
    /// Where the API servers are.
    pub servers: &'a Servers,
}

/// Longest wait for the list of API servers before etcd's members are looked for: `server` of node.toml may be an address for
/// people, where no etcd answers.
const LIST_TIME: Duration = Duration::from_secs(15);

/// Which control plane a node has.
pub enum Beside<'a> {
    /// That of the node that created the cluster.
    First,
    /// One more.
    Joined(Membership<'a>),
}

/// Brings the control plane of this node up and keeps it up; the Node gets its role once it is `registered`.
pub async fn keep_up(
    ctx: &Context,
    cluster: &Cluster,
    address: IpAddr,
    hosts: &Hosts,
    beside: Beside<'_>,
    mut registered: watch::Receiver<bool>,
    report: &Reporter,
) -> Infallible {
    let node = ctx.config.borrow().system.hostname.clone();
    if matches!(beside, Beside::Joined(_)) && !was_made(&ctx.paths) {
        // The keys go to no machine whose name was refused.
        until(&mut registered).await;
    }
    let mut pause = FIRST_PAUSE;
    loop {
        let up = async {
            let admin = match &beside {
                Beside::First => {
                    let config = ctx.config.borrow().clone();
                    create::control_plane(&ctx.paths, &config, cluster, address, hosts, report).await?.admin
                }
                Beside::Joined(of) => up(ctx, cluster, address, hosts, of, report).await?,
            };
            until(&mut registered).await;
            let (step, remedy) = ("labelling the node as control plane", "it is retried");
            let found = Api::<Node>::all(admin.clone()).get(&node).await.remedy(step, remedy)?;
            give_role(&admin, &found).await.remedy(step, remedy)
        };
        let wait = match up.await {
            Ok(()) => {
                pause = FIRST_PAUSE;
                report.step("the control plane runs");
                report.recovered();
                upkeep::Cadence::default().look
            }
            Err(failure) => {
                report.failed(&failure);
                if failure.cause.downcast_ref() == Some(&plan::Refusal::Removed) {
                    // They could only fail and restart until a person invites this node again.
                    if let Err(error) = retire::stop(&*hosts.units).await {
                        tracing::warn!("the control plane of this node, which was removed: {error:#}");
                    }
                }
                let wait = pause;
                pause = (pause * 2).min(LONGEST_PAUSE);
                wait
            }
        };
        tokio::time::sleep(wait).await; // until the next try, or the next look at certificates
    }
}

/// Waits until it is true; for good once nobody can say so any more.
async fn until(condition: &mut watch::Receiver<bool>) {
    if condition.wait_for(|is| *is).await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// Brings the control plane of a node that joined up, from whatever there is.
async fn up(
    ctx: &Context,
    cluster: &Cluster,
    address: IpAddr,
    hosts: &Hosts,
    of: &Membership<'_>,
    report: &Reporter,
) -> Result<kube::Client, Failure> {
    let paths = &ctx.paths;
    let is_invited = redeem::holds_token(&paths.node_toml)
        .remedy("reading the token of node.toml", "look at the state partition")?;
    let settings = keys(paths, cluster, of, is_invited, report).await?;
    let config = ctx.config.borrow().clone();
    if is_invited {
        of.servers.listed(LIST_TIME).await;
    }
    let own = program::host(address);
    let others = of.servers.hosts().into_iter().filter(|host| *host != own).collect();
    let place = Place { node: config.system.hostname.clone(), address, others, is_invited };
    let joining = Joining { service_cidr: settings.service_cidr, place };
    let local = create::bring_up(paths, &config, cluster, address, hosts, report, Some(&joining)).await?;
    redeem::redeem(&paths.node_toml)
        .remedy("removing the redeemed token from node.toml", "look at the state partition")?;
    Ok(local.admin)
}

/// The cluster's keys, on disk when this returns.
async fn keys(
    paths: &crate::paths::Paths,
    cluster: &Cluster,
    of: &Membership<'_>,
    is_invited: bool,
    report: &Reporter,
) -> Result<Settings, Failure> {
    let step = "receiving the keys of the cluster";
    let state = "look at the state partition: `journalctl -u sheaf-agent`, `df /var`";
    let again = "run `sheaf-agent token create --control-plane` on a control-plane node, write token and certificate-key into \
                 node.toml and restart the agent";
    let ca =
        of.store.ca().ok_or_else(|| anyhow!("this node has not joined yet")).remedy(step, "it is retried")?;
    let pki = paths.kubernetes.join("pki");
    let way_in = match (&of.target.token, &cluster.certificate_key) {
        (Some(token), Some(key)) if is_invited => Some((token, key)),
        _ => None,
    };
    let holder = async |token: &super::token::Token| {
        let revealed = token.reveal();
        kubeconfig::client(&of.target.server, Some(&ca), Credentials::Token(&revealed)).await
    };
    if let Some(settings) = held(&pki, &ca).remedy(
        step,
        "the keys in /var/lib/kubernetes are of another cluster: install this machine again, then join with a new token",
    )? {
        // Received before; a power cut may have come before the end of the parcel.
        if let Some((token, _)) = way_in {
            let discarded = async { parcel::discard(&holder(token).await?, &token.id).await };
            if let Err(error) = discarded.await {
                tracing::warn!("{error:#}; it ends with the token");
            }
        }
        return Ok(settings);
    }
    report.step(step);
    let Some((token, key)) = way_in else {
        return Err(Failure::new(step, anyhow!("node.toml holds no token and certificate-key"), again));
    };
    let key = CertificateKey::parse(key.reveal()).remedy(step, again)?;
    let client = holder(token).await.remedy(step, again)?;
    let received = parcel::receive(&client, &token.id, &key).await.remedy(step, again)?;
    keep(&paths.kubernetes, &received, &ca).remedy(step, state)?;
    parcel::discard(&client, &token.id).await.remedy(step, "it is retried")?;
    let Parcel { service_cidr, .. } = received;
    Ok(Settings { service_cidr })
}

/// What was received before, if it is of the cluster of `ca`.
fn held(pki: &Path, ca: &str) -> anyhow::Result<Option<Settings>> {
    let path = pki.join("ca.crt");
    let Ok(found) = std::fs::read_to_string(&path) else { return Ok(None) };
    if CaPin::of_certificate(&found)? != CaPin::of_certificate(ca)? {
        bail!("{}: is the CA of another cluster", path.display());
    }
    let path = pki.join(SETTINGS);
    let text = std::fs::read(&path).with_context(|| format!("{}: cannot be read", path.display()))?;
    Ok(Some(serde_json::from_slice(&text).with_context(|| format!("{}: is damaged", path.display()))?))
}

/// Puts the keys in place, all or none, if they are of the cluster of `ca`.
fn keep(kubernetes: &Path, parcel: &Parcel, ca: &str) -> anyhow::Result<()> {
    if parcel.keys.ca_hash != CaPin::of_certificate(ca)?.to_string() {
        bail!("the keys are of another cluster: {}", parcel.keys.ca_hash);
    }
    let receiving: PathBuf = kubernetes.join(RECEIVING);
    if receiving.exists() {
        std::fs::remove_dir_all(&receiving)
            .with_context(|| format!("{}: cannot be removed", receiving.display()))?;
    }
    let settings = Settings { service_cidr: parcel.service_cidr.clone() };
    write_atomically(&receiving.join(SETTINGS), &serde_json::to_vec(&settings)?, 0o600)?;
    parcel.keys.write(&receiving)?;
    Ok(rename_durably(&receiving, &kubernetes.join("pki"))?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::etcd::keys::{Keys, tests::make};
    use crate::paths::Paths;

    #[test]
    fn keys_are_kept_whole_and_only_if_they_are_of_the_cluster_that_the_node_joined() {
        let (here, there) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (here, there) = (Paths::under(here.path()), Paths::under(there.path()));
        make(&here);
        let ca = std::fs::read_to_string(here.kubernetes.join("pki/ca.crt")).unwrap();
        let parcel = Parcel { keys: Keys::collect(&here).unwrap(), service_cidr: "10.96.0.0/16".into() };
        let pki = there.kubernetes.join("pki");
        // As a power cut in the middle leaves it.
        write_atomically(&there.kubernetes.join(RECEIVING).join("ca.key"), b"half", 0o600).unwrap();
        assert!(held(&pki, &ca).unwrap().is_none());
        keep(&there.kubernetes, &parcel, &ca).unwrap();
        assert_eq!(held(&pki, &ca).unwrap().unwrap().service_cidr, "10.96.0.0/16");
        assert!(Keys::collect(&there).unwrap() == parcel.keys);
        assert!(!there.kubernetes.join(RECEIVING).exists());

        let (other, _) =
            crate::cluster::keys::Authority::create("kubernetes", std::time::SystemTime::now()).unwrap();
        let error = keep(&there.kubernetes, &parcel, &other).unwrap_err().to_string();
        assert_eq!(error, format!("the keys are of another cluster: {}", parcel.keys.ca_hash));
        let error = held(&pki, &other).err().unwrap().to_string();
        assert_eq!(error, format!("{}: is the CA of another cluster", pki.join("ca.crt").display()));
    }
}
