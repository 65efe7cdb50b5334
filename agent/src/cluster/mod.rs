//! The node's part in Kubernetes: makes a control plane when asked to, joins, keeps Node, lease and certificates.
//!
//! Reads: node config, network state, hypervisor state, images.
//! Owns: `/var/lib/sheaf/pki`, `/var/lib/kubernetes`, control-plane units, this node's Node and Lease objects.
//! Never touches: Pods, domains, links. Never deletes the Node object.

pub mod apply;
pub mod create;
pub mod csr;
pub mod discovery;
pub mod failure;
pub mod identity;
pub mod join;
pub mod keep;
pub mod keys;
pub mod kubeconfig;
pub mod leave;
pub mod machine;
pub mod node;
pub mod node_status;
pub mod planes;
pub mod redeem;
pub mod release;
pub mod report;
pub mod servers;
pub mod time;
pub mod token;

use crate::api_server::Joined;
use crate::channels::Context;
use crate::status::{ClusterSection, Phase, Section};
use anyhow::anyhow;
use failure::{Failure, Remedy as _};
use identity::Store;
use join::{Standing, Target};
use keep::Membership;
use kube::ResourceExt as _;
use node_status::Reserve;
use report::Reporter;
use servers::Servers;
use sheaf_config::node::{Cluster, ClusterMode, Role};
use sheaf_config::pin::CaPin;
use sheaf_host::run::Run;
use sheaf_host::systemd::Units;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::sync::watch;
use tokio::time::Instant;

/// Longest wait for a time server before certificates are judged by the clock as it is.
const TIME_WAIT: Duration = Duration::from_secs(30);

/// After a failure it is tried again: soon, then less often, as Kubernetes' own clients do.
const FIRST_PAUSE: Duration = Duration::from_secs(2);
const LONGEST_PAUSE: Duration = Duration::from_secs(32);

/// Longest time for registering: requests that are never answered must not keep the node from trying another API server.
const REGISTER_TIME: Duration = Duration::from_secs(30);

/// How long the first node's own token lives.
const OWN_TOKEN_LIFE: Duration = Duration::from_secs(15 * 60);

/// What this controller does to the machine.
#[derive(Clone)]
pub struct Hosts {
    /// Runs kubeadm.
    pub run: Arc<dyn Run>,
    /// Starts the control plane.
    pub units: Arc<dyn Units>,
}

/// The channels that this controller writes.
pub struct Publish {
    /// The cluster, once this node is part of it.
    pub joined: watch::Sender<Option<Joined>>,
    /// When the last renewal of the lease that succeeded was begun.
    pub lease: watch::Sender<Option<Instant>>,
}

/// Runs until shutdown.
pub async fn run(
    ctx: Context,
    publish: Publish,
    section: Section<ClusterSection>,
    hosts: Hosts,
) -> anyhow::Result<()> {
    let report = Reporter::new(section);
    // Other controllers' clients lead through it: it outlives every attempt.
    let servers = Arc::new(Servers::start(publish.joined.subscribe()).await?);
    let mut shutdown = ctx.shutdown.clone();
    let mut pause = FIRST_PAUSE;
    loop {
        let begun = std::time::Instant::now();
        let attempt = async {
            let Some(cluster) = ctx.config.borrow().cluster.clone() else {
                report.update(|section| *section = ClusterSection::default());
                return std::future::pending().await;
            };
            attempt(&ctx, &cluster, &publish, &hosts, &servers, &report).await
        };
        let failure = tokio::select! {
            failure = attempt => failure,
            () = shutdown.requested() => return Ok(()),
        };
        report.failed(&failure);
        if begun.elapsed() > LONGEST_PAUSE {
            pause = FIRST_PAUSE;
        }
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = shutdown.requested() => return Ok(()),
        }
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// Goes from nothing to a member and stays one; returns why it ended.
async fn attempt(
    ctx: &Context,
    cluster: &Cluster,
    publish: &Publish,
    hosts: &Hosts,
    servers: &Arc<Servers>,
    report: &Reporter,
) -> Failure {
    let Way { membership, member, address, admin } = match way(ctx, cluster, hosts, servers, report).await {
        Ok(way) => way,
        Err(failure) => return failure,
    };
    let creates = cluster.mode == ClusterMode::Create;
    let is_of_the_plane = cluster.role() == Role::ControlPlane;
    let is_registered = watch::Sender::new(false);
    let node = async {
        let mut pause = FIRST_PAUSE;
        while let Err(failure) =
            enter(ctx, cluster, &membership, &member, admin.as_ref(), publish, report).await
        {
            // The control plane of this node may be what is missing: it is brought up beside this.
            let is_refused =
                failure.cause.downcast_ref::<kube::Error>().is_some_and(|error| is_status(error, 401));
            if !is_of_the_plane || is_refused || !member.identity.valid(SystemTime::now()) {
                return failure;
            }
            report.failed(&failure);
            tokio::time::sleep(pause).await; // until the next try
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
        is_registered.send_replace(true);
        keep::keep(ctx, &membership, member, publish, report).await
    };
    let plane = async {
        if !is_of_the_plane || admin.is_some() {
            return std::future::pending().await;
        }
        let target = configured(cluster);
        let beside = match (creates, &target) {
            (true, _) => planes::Beside::First,
            (false, Ok(target)) => planes::Beside::Joined(planes::Membership {
                target,
                store: &membership.store,
                servers: membership.servers.as_ref(),
            }),
            (false, Err(_)) => return std::future::pending().await,
        };
        let (registered, report) = (is_registered.subscribe(), report.of_the_plane());
        planes::keep_up(ctx, cluster, address, hosts, beside, registered, &report).await
    };
    let renew = || async {
        let config = ctx.config.borrow().clone();
        create::control_plane(&ctx.paths, &config, cluster, address, hosts, report).await.map(drop)
    };
    let upkeep = async {
        match admin.is_some() {
            true => create::upkeep::upkeep(create::upkeep::Cadence::default(), renew).await,
            false => std::future::pending().await,
        }
    };
    let moved = async {
        // The control plane's certificate and cluster-info name this address.
        let mut network = ctx.network.clone();
        let elsewhere = |state: &crate::channels::NetworkState| {
            is_of_the_plane && !state.addresses.is_empty() && !state.addresses.contains(&address)
        };
        if network.wait_for(elsewhere).await.is_err() {
            std::future::pending::<()>().await;
        }
    };
    let removed = leave::ordered(publish.joined.subscribe());
    tokio::select! {
        failure = node => failure,
        () = moved => Failure::new(
            "keeping the control plane",
            anyhow!("this node no longer has the address {address}"),
            "the control plane moves to the new address; give the node a static one",
        ),
        never = upkeep => match never {},
        never = plane => match never {},
        wipe = removed => removed_from(ctx, cluster, &membership, publish, &*hosts.units, wipe).await,
    }
}

/// Whether this node's control plane was made in an earlier life of the agent, or by an earlier attempt.
fn was_made(paths: &crate::paths::Paths) -> bool {
    paths.kubernetes.join("super-admin.conf").exists()
}

/// Whether the node that created the cluster is a node first, and brings its control plane up beside that, as the others do: there are
/// other API servers, by which its lease is renewed if its own fails. The only control-plane node has nobody to report to
/// before its own is up.
fn is_node_first(paths: &crate::paths::Paths, own: &str) -> bool {
    was_made(paths) && servers::kept(&servers::file(paths)).iter().any(|server| server != own)
}

/// Leaves the cluster; no other controller makes requests from then on.
async fn removed_from(
    ctx: &Context,
    cluster: &Cluster,
    membership: &Membership,
    publish: &Publish,
    units: &dyn Units,
    wipe: Option<leave::Erase>,
) -> Failure {
    let target = match named(cluster) {
        Ok(target) => target,
        Err(failure) => return failure,
    };
    match publish.joined.send_replace(None) {
        Some(joined) => leave::leave(&ctx.paths, &membership.store, &target, &joined, units, wipe).await,
        None => {
            Failure::new("leaving the cluster", anyhow!("this node is in no cluster"), "restart the agent")
        }
    }
}

/// Who this node is in its cluster, and how it reaches it.
struct Way {
    membership: Membership,
    member: join::Member,
    address: IpAddr,
    /// May do everything: the control plane of this node was brought up first.
    admin: Option<kube::Client>,
}

async fn way(
    ctx: &Context,
    cluster: &Cluster,
    hosts: &Hosts,
    servers: &Arc<Servers>,
    report: &Reporter,
) -> Result<Way, Failure> {
    let creates = cluster.mode == ClusterMode::Create;
    report.phase(if creates { Phase::Creating } else { Phase::Joining });
    let address = address(ctx, report).await?;
    let (paths, name) = (ctx.paths.clone(), ctx.config.borrow().system.hostname.clone());
    let store = Store::of(&paths);
    let named = named(cluster)?;
    leave::check(&paths, &store, &named, &*hosts.units).await?;
    // A member's certificates are there; only new ones, and those that look expired, depend on the time.
    if !matches!(join::standing(&store, &name, None, SystemTime::now()), Standing::Member(_)) {
        clock(ctx, report).await;
    }
    let machine = machine::observe(&paths);
    let mut admin = None;
    let own_server = create::kubeadm::server(address);
    let is_member = matches!(join::standing(&store, &name, None, SystemTime::now()), Standing::Member(_));
    let (target, own) = if creates && is_member && is_node_first(&paths, &own_server) {
        report.phase(Phase::Joining);
        let signature_time = discovery::FIRST_SIGNATURE_TIME;
        (Target { server: own_server.clone(), token: None, pin: None, signature_time }, None)
    } else if creates {
        let config = ctx.config.borrow().clone();
        let local = create::control_plane(&paths, &config, cluster, address, hosts, report).await?;
        let pin = CaPin::of_certificate(&local.ca)
            .remedy("reading the cluster's CA", "look at /var/lib/kubernetes/pki/ca.crt")?;
        report.phase(Phase::Joining);
        let mut own = None;
        if !matches!(join::standing(&store, &name, Some(pin), SystemTime::now()), Standing::Member(_)) {
            let step = "creating the first node's bootstrap token";
            let remedy = "read `journalctl -u kube-apiserver`";
            let token = token::Token::generate().remedy(step, remedy)?;
            let grant = token::Grant {
                lifetime: OWN_TOKEN_LIFE,
                description: "Bootstrap token of the first node",
                only_for: Some(&name),
            };
            token::allow(&local.admin, &token, grant).await.remedy(step, remedy)?;
            own = Some((token, local.admin.clone()));
        }
        admin = Some(local.admin);
        let target = Target {
            server: local.server,
            token: own.as_ref().map(|own| own.0.clone()),
            pin: Some(pin),
            signature_time: discovery::FIRST_SIGNATURE_TIME,
        };
        (target, own)
    } else {
        (named, None)
    };
    report.update(|section| section.server = Some(target.server.clone()));
    let member = join::join(&target, &name, &machine, &store, report).await?;
    if let Some((token, admin)) = own {
        token::revoke(&admin, &token)
            .await
            .remedy("deleting the first node's bootstrap token", "it expires in 15 minutes")?;
    }
    let is_of_the_plane = cluster.role() == Role::ControlPlane;
    let own = is_of_the_plane.then_some(own_server).filter(|own| {
        // A node that has just joined has no API server yet.
        creates || was_made(&paths) && *own != target.server
    });
    servers.lead_to(&target.server, own.as_deref(), &member.ca, servers::file(&paths));
    let membership = Membership {
        servers: servers.clone(),
        ca: member.ca.clone(),
        name,
        machine,
        reserve: Reserve::of(is_of_the_plane),
        store,
    };
    Ok(Way { membership, member, address, admin })
}

/// Becomes a node of the cluster: its Node is there, and other controllers have a client.
async fn enter(
    ctx: &Context,
    cluster: &Cluster,
    membership: &Membership,
    member: &join::Member,
    admin: Option<&kube::Client>,
    publish: &Publish,
    report: &Reporter,
) -> Result<(), Failure> {
    let is_of_the_plane = cluster.role() == Role::ControlPlane;
    let step = "registering the node";
    report.step(step);
    let client = membership.client(&member.identity).await.remedy(step, "look at /var/lib/sheaf/pki")?;
    let registered = tokio::time::timeout(REGISTER_TIME, membership.register(ctx, &client)).await;
    let node = registered.map_err(|_| {
        Failure::new(
            step,
            anyhow!("no API server answered within {} s", REGISTER_TIME.as_secs()),
            "it is retried; a control-plane node must be up and be reached on TCP port 6443",
        )
    })??;
    if let Some(admin) = admin {
        let step = "labelling the node as control plane";
        node::give_role(admin, &node).await.remedy(step, "read `journalctl -u kube-apiserver`")?;
    }
    // A control-plane node needs its token until its control plane runs.
    if !is_of_the_plane {
        redeem::redeem(&ctx.paths.node_toml)
            .remedy("removing the redeemed token from node.toml", "look at the state partition")?;
    }
    if cluster.mode == ClusterMode::Join {
        leave::returned(&ctx.paths).remedy("forgetting an earlier removal", "look at the state partition")?;
    }
    let hash = CaPin::of_certificate(&member.ca).ok().map(|pin| pin.to_string());
    report.update(|section| {
        section.ca_hash.clone_from(&hash);
        section.join = is_of_the_plane.then(|| "sheaf-agent token create".to_owned());
    });
    let joined = Joined { client, node: membership.name.clone(), node_uid: node.uid().unwrap_or_default() };
    publish.joined.send_replace(Some(joined));
    Ok(())
}

/// Where others reach this node.
async fn address(ctx: &Context, report: &Reporter) -> Result<IpAddr, Failure> {
    let mut network = ctx.network.clone();
    if network.borrow().addresses.is_empty() {
        report.step("waiting for an address");
    }
    let state = network.wait_for(|state| !state.addresses.is_empty()).await;
    let address = state.ok().and_then(|state| state.addresses.first().copied());
    address.ok_or_else(|| {
        Failure::new("waiting for an address", anyhow!("the network controller ended"), "restart the agent")
    })
}

/// Waits, within bounds, until the clock can be trusted.
async fn clock(ctx: &Context, report: &Reporter) {
    let mut network = ctx.network.clone();
    if network.borrow().time_synchronised {
        return;
    }
    report.step("waiting for the time");
    if tokio::time::timeout(TIME_WAIT, network.wait_for(|state| state.time_synchronised)).await.is_err() {
        tracing::warn!("no time server answered within {} s; continuing without it", TIME_WAIT.as_secs());
    }
}

/// The cluster as node.toml names it. That of the node that created it has no server and no token there.
fn named(cluster: &Cluster) -> Result<Target, Failure> {
    let signature_time = discovery::SIGNATURE_TIME;
    match cluster.mode {
        ClusterMode::Create => Ok(Target { server: String::new(), token: None, pin: None, signature_time }),
        ClusterMode::Join => configured(cluster),
    }
}

/// The cluster that node.toml names.
fn configured(cluster: &Cluster) -> Result<Target, Failure> {
    let step = "reading `[cluster]` of node.toml";
    let server = cluster
        .server
        .clone()
        .ok_or_else(|| anyhow!("server is missing"))
        .remedy(step, "name the API server: https://HOST:6443")?;
    let token = cluster
        .token
        .as_ref()
        .map(|token| token.0.parse())
        .transpose()
        .remedy(step, "write the token as it was printed")?;
    let pin = cluster
        .ca_hash
        .as_deref()
        .map(str::parse)
        .transpose()
        .remedy(step, "write the hash as it was printed")?;
    Ok(Target { server, token, pin, signature_time: discovery::SIGNATURE_TIME })
}

/// Whether the API server answered with HTTP status `code`.
pub(crate) fn is_status(error: &kube::Error, code: u16) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == code)
}

/// What is gone already is as well gone.
pub(crate) fn ok_if_gone<T>(answer: kube::Result<T>) -> kube::Result<()> {
    match answer {
        Err(error) if !is_status(&error, 404) => Err(error),
        _ => Ok(()),
    }
}
