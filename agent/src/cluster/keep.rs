//! Keeps the node a member: lease, status, certificates.
//!
//! Why here: what continues for as long as the node runs. Route in: a [`Member`], and all that changes. Route out: Node,
//! Lease and certificates that are never old. It returns only with a failure that joining again must look at.

use super::csr::{self, Purpose, Unsigned};
use super::failure::Failure;
use super::identity::{CLIENT, Identity, SERVING, Store};
use super::join::Member;
use super::kubeconfig::Credentials;
use super::machine::Machine;
use super::node_status::{self, Observed, Reserve};
use super::report::Reporter;
use super::servers::Servers;
use super::{Publish, is_status, node};
use crate::api_server::Joined;
use crate::authorities::fetch::fetch;
use crate::channels::Context;
use crate::status::Phase;
use crate::without_lease;
use k8s_openapi::api::core::v1::{Node, NodeStatus};
use kube::ResourceExt as _;
use sheaf_api::restart_elsewhere;
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::sync::watch;
use tokio::time::Instant;

/// Between two renewals of the lease, and two computations of the status: a kubelet's own cadence.
const BEAT: Duration = Duration::from_secs(10);

/// After a beat that failed: several more fit into the time after which a lease counts as over.
const BEAT_AGAIN: Duration = Duration::from_secs(2);

/// Longest time for one renewal: several tries fit into the time after which VMs stop without one.
const LEASE_TIME: Duration = Duration::from_secs(3);

/// After a renewal that failed, from its beginning.
const LEASE_AGAIN: Duration = Duration::from_millis(1500);

/// An unchanged status is posted this often.
const REPOST: Duration = Duration::from_secs(5 * 60);

/// Between two looks at the age of certificates, and after a failed request.
const CERTIFICATE_INTERVAL: Duration = Duration::from_secs(32);

/// Between two looks at the cluster's CA, whose certificate is made again two years before its end.
const CA_INTERVAL: Duration = Duration::from_secs(6 * 3600);

/// Longest time one request to the API server may take.
const REQUEST_TIME: Duration = Duration::from_secs(8);

/// What does not change while the node is a member.
#[derive(Clone)]
pub struct Membership {
    /// The way to the API servers.
    pub servers: Arc<Servers>,
    /// The cluster CA, PEM.
    pub ca: String,
    /// Name of the Node.
    pub name: String,
    /// Facts of the machine.
    pub machine: Machine,
    /// What is kept from VMs.
    pub reserve: Reserve,
    /// Where certificates lie.
    pub store: Store,
}

impl Membership {
    /// A client that speaks as this node.
    pub async fn client(&self, identity: &Identity) -> anyhow::Result<kube::Client> {
        let credentials = Credentials::Certificate(&identity.certificate, &identity.key);
        self.servers.client(&self.ca, credentials).await
    }

    fn observed(&self, ctx: &Context) -> Observed {
        Observed {
            hypervisor: ctx.hypervisor.borrow().clone(),
            network: ctx.network.borrow().clone(),
            images: ctx.images.borrow().clone(),
            container_disks: ctx.container_disks.borrow().kept.clone(),
            health: ctx.health.borrow().clone(),
            etcd: ctx.etcd.borrow().clone(),
            certificates: ctx.certificates.borrow().clone(),
            api_port: *ctx.api_port.borrow(),
            shutting_down: *ctx.shutting_down.borrow() || *ctx.leaving.borrow(),
        }
    }

    fn status(&self, observed: &Observed) -> anyhow::Result<NodeStatus> {
        node_status::status(&self.name, &self.machine, observed, self.reserve)
    }

    fn labels(&self, ctx: &Context, observed: &Observed) -> BTreeMap<String, String> {
        let config = ctx.config.borrow();
        let configured = config.cluster.as_ref().map(|cluster| cluster.labels.clone()).unwrap_or_default();
        node_status::labels(&self.name, &observed.images, &observed.hypervisor, &configured)
    }

    /// Makes the Node, or takes the existing one over.
    pub async fn register(&self, ctx: &Context, client: &kube::Client) -> Result<Node, Failure> {
        let fail = |cause: anyhow::Error| {
            Failure::new(
                "registering the node",
                cause,
                "it is retried; if this persists, the API server refuses this node: the message says why",
            )
        };
        node::claimable(client, &self.name, &self.machine).await?;
        let observed = self.observed(ctx);
        let status = self.status(&observed).map_err(fail)?;
        let taints =
            ctx.config.borrow().cluster.as_ref().map(|cluster| cluster.taints.clone()).unwrap_or_default();
        let labels = self.labels(ctx, &observed);
        node::register(client, &self.name, &labels, &taints, &status).await.map_err(fail)
    }
}

/// Runs until the node must join again.
pub async fn keep(
    ctx: &Context,
    membership: &Membership,
    member: Member,
    publish: &Publish,
    report: &Reporter,
) -> Failure {
    tokio::select! {
        failure = beat(ctx.clone(), membership, &publish.joined, report) => failure,
        never = lease(ctx.clone(), membership, publish) => match never {},
        failure = renew_client(membership, member.identity, &publish.joined, report) => failure,
        failure = keep_serving(ctx.clone(), membership, publish.joined.subscribe()) => failure,
        never = keep_ca(membership, publish.joined.subscribe()) => match never {},
    }
}

fn current(joined: &watch::Receiver<Option<Joined>>) -> Option<Joined> {
    joined.borrow().clone()
}

/// The lease, apart from the status: neither waits for the other. Failures are reported by [`beat`], which has the same ones.
async fn lease(mut ctx: Context, membership: &Membership, publish: &Publish) -> Infallible {
    let joined = publish.joined.subscribe();
    // Another API server is in use: what failed by the former one is done at once.
    let mut server = membership.servers.changes();
    loop {
        let begun = Instant::now();
        let current = current(&joined);
        // A node that cannot do its work lets its lease end: its VMs are wanted elsewhere.
        let is_able = ctx.health.borrow().problems.is_empty();
        let renewal = async {
            match &current {
                Some(joined) if is_able => {
                    node::renew_lease(&joined.client, &joined.node, &joined.node_uid).await.is_ok()
                }
                _ => false,
            }
        };
        let renewed = tokio::select! {
            renewed = tokio::time::timeout(LEASE_TIME, renewal) => renewed.unwrap_or(false),
            // The former one will not answer.
            _ = server.changed() => continue,
        };
        if renewed {
            publish.lease.send_replace(Some(begun));
        }
        let pause = match (renewed || !is_able, without_lease::is_armed(&ctx.paths)) {
            (false, _) => LEASE_AGAIN,
            (true, true) => restart_elsewhere::RENEWAL,
            (true, false) => BEAT,
        };
        tokio::select! {
            () = tokio::time::sleep_until(begun + pause) => {}
            _ = server.changed() => {}
            _ = ctx.health.changed() => {}
        }
    }
}

/// The status.
async fn beat(
    mut ctx: Context,
    membership: &Membership,
    publish: &watch::Sender<Option<Joined>>,
    report: &Reporter,
) -> Failure {
    let joined = publish.subscribe();
    let mut node: Option<Node> = None;
    let mut posted: Option<(Observed, Instant)> = None;
    let mut ticks = tokio::time::interval(BEAT);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    // Another API server is in use: what failed by the former one is done at once.
    let mut server = membership.servers.changes();
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            _ = server.changed() => {}
            _ = ctx.hypervisor.changed() => {}
            _ = ctx.network.changed() => {}
            _ = ctx.images.changed() => {}
            _ = ctx.health.changed() => {}
            _ = ctx.etcd.changed() => {}
            _ = ctx.certificates.changed() => {}
            _ = ctx.api_port.changed() => {}
            _ = ctx.shutting_down.changed() => {}
            _ = ctx.leaving.changed() => {}
        }
        let Some(Joined { client, .. }) = current(&joined) else { continue };
        let observed = membership.observed(&ctx);
        let beat = async {
            let known = match node.take() {
                Some(known) => known,
                None => {
                    membership.register(&ctx, &client).await.map_err(|failure| anyhow::anyhow!(failure))?
                }
            };
            let due =
                posted.as_ref().is_none_or(|(before, at)| *before != observed || at.elapsed() >= REPOST);
            if due {
                let labelled = node::relabel(&client, known, &membership.labels(&ctx, &observed)).await?;
                let status = membership.status(&observed)?;
                node::post_status(&client, &membership.name, &status).await?;
                return Ok(labelled);
            }
            anyhow::Ok(known)
        };
        match tokio::time::timeout(REQUEST_TIME, beat).await {
            Ok(Ok(now)) => {
                if posted.as_ref().is_none_or(|(before, at)| *before != observed || at.elapsed() >= REPOST) {
                    posted = Some((observed.clone(), Instant::now()));
                }
                // A Node that somebody deleted was made again: others must learn its UID.
                let uid = now.uid().unwrap_or_default();
                publish.send_if_modified(|joined| match joined {
                    Some(joined) if joined.node_uid != uid => {
                        joined.node_uid = uid;
                        true
                    }
                    _ => false,
                });
                node = Some(now);
                report.recovered();
                let ready = observed.is_ready();
                report.phase(if ready { Phase::Ready } else { Phase::NotReady });
                report.update(|cluster| {
                    cluster.server = Some(membership.servers.current());
                    cluster.servers = membership.servers.urls();
                    cluster.vips = membership.servers.vips();
                    cluster.step = match (observed.health.problems.first(), ready) {
                        _ if observed.shutting_down => "the node is shutting down".into(),
                        (None, true) => "the node is ready for VMs".into(),
                        (None, false) => "waiting for libvirt".into(),
                        (Some(problem), _) => format!("the lease is not renewed: {problem}"),
                    };
                });
            }
            Ok(Err(error)) => {
                let gone = error.downcast_ref::<kube::Error>().is_some_and(|error| is_status(error, 401));
                let failure = Failure::new(
                    "reporting to the cluster that the node is alive",
                    error,
                    "VMs keep running; the API server must be reachable, and this node's clock correct",
                );
                if gone {
                    return failure;
                }
                posted = None;
                ticks.reset_after(BEAT_AGAIN);
                report.failed(&failure);
            }
            Err(_) => {
                posted = None;
                ticks.reset_after(BEAT_AGAIN);
                report.failed(&Failure::new(
                    "reporting to the cluster that the node is alive",
                    anyhow::anyhow!("no answer within {} s", REQUEST_TIME.as_secs()),
                    "VMs keep running; the API server must be reachable: check the network and the control plane",
                ));
            }
        }
    }
}

/// Gets the next client certificate in time.
async fn renew_client(
    membership: &Membership,
    mut identity: Identity,
    publish: &watch::Sender<Option<Joined>>,
    report: &Reporter,
) -> Failure {
    let share = random_share();
    loop {
        let until = super::time::rfc3339(identity.facts.not_after);
        report.update(|cluster| cluster.certificate_until = Some(until));
        while SystemTime::now() < identity.renew_at(share) {
            tokio::time::sleep(CERTIFICATE_INTERVAL).await;
        }
        let Some(joined) = current(&publish.subscribe()) else { continue };
        match renew(membership, &joined.client, CLIENT, Purpose::Client, &[]).await {
            Ok(next) => match membership.client(&next).await {
                Ok(client) => {
                    tracing::info!("the node's certificate was renewed");
                    publish.send_modify(|joined| {
                        if let Some(joined) = joined {
                            joined.client = client
                        }
                    });
                    identity = next;
                    continue;
                }
                Err(error) => tracing::error!("the renewed certificate cannot be used: {error:#}"),
            },
            Err(error) => {
                tracing::error!("the node's certificate cannot be renewed: {error:#}; it is tried again")
            }
        }
        if identity.expired(SystemTime::now()) {
            return Failure::new(
                "renewing the node's certificate",
                anyhow::anyhow!("it expired before the cluster signed another"),
                "put a new token into node.toml and restart the agent; VMs keep running",
            );
        }
        tokio::time::sleep(CERTIFICATE_INTERVAL).await;
    }
}

/// Keeps a serving certificate for the addresses the node has.
async fn keep_serving(
    ctx: Context,
    membership: &Membership,
    joined: watch::Receiver<Option<Joined>>,
) -> Failure {
    let share = random_share();
    loop {
        let addresses = ctx.network.borrow().addresses.clone();
        let good = membership.store.load(SERVING).is_some_and(|identity| {
            SystemTime::now() < identity.renew_at(share)
                && addresses.iter().all(|address| identity.facts.addresses.contains(address))
        });
        if let (false, false, Some(joined)) = (good, addresses.is_empty(), current(&joined)) {
            // Approved by sheaf-controller, once its address is in the Node's status.
            match renew(membership, &joined.client, SERVING, Purpose::Serving, &addresses).await {
                Ok(_) => tracing::info!("the node has a serving certificate for {addresses:?}"),
                Err(error) => tracing::warn!("no serving certificate yet: {error:#}; it is tried again"),
            }
        }
        tokio::time::sleep(CERTIFICATE_INTERVAL).await;
    }
}

/// Keeps the node's copy of the cluster's CA as the cluster has it.
async fn keep_ca(membership: &Membership, joined: watch::Receiver<Option<Joined>>) -> Infallible {
    loop {
        if let Some(joined) = current(&joined) {
            match tokio::time::timeout(REQUEST_TIME, fetch(&joined.client, &membership.store)).await {
                Ok(Ok(true)) => tracing::info!("the certificate of the cluster's CA was renewed"),
                Ok(Ok(false)) | Err(_) => {}
                Ok(Err(error)) => tracing::warn!("the cluster's CA: {error:#}; it is tried again"),
            }
        }
        tokio::time::sleep(CA_INTERVAL).await; // until the next look
    }
}

async fn renew(
    membership: &Membership,
    client: &kube::Client,
    name: &str,
    purpose: Purpose,
    addresses: &[std::net::IpAddr],
) -> anyhow::Result<Identity> {
    let key = membership.store.pending(name)?;
    match csr::certificate(client, &membership.name, purpose, &key, addresses).await {
        Ok(certificate) => membership.store.save(name, &certificate, &key),
        Err(error) => {
            if matches!(error, Unsigned::Refused { .. }) {
                membership.store.forget_pending(name)?;
            }
            Err(error.into())
        }
    }
}

/// Spreads a fleet's renewals, so that they do not all come at once.
fn random_share() -> f64 {
    let mut byte = [0];
    if getrandom::fill(&mut byte).is_err() {
        return 0.5;
    }
    f64::from(byte[0]) / 255.0
}
