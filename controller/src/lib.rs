//! The cluster-wide half of Sheaf: what no single node may decide.
//!
//! Why here: a node's certificate cannot create Pods, hold a Lease or write the status of VMs, and must not.
//! Route in: VirtualMachines, their instances and Pods, certificate requests, seen over watches.
//! Route out: instances, placeholder Pods, statuses, approvals. One replica leads ([`lease`]); it installs what
//! the cluster needs ([`install`]) and then runs the controllers: [`vm`], [`vmi`], [`csr`], [`nodes`],
//! [`node_lost`] (of which every replica observes), [`node_network`], [`cluster_update`], [`replica_set`], [`vm_pool`], [`vm_snapshot`], [`vm_restore`], [`vm_clone`], [`vm_export`], and those of [`volumes`]. Every replica, the leader or not, serves [`aggregated`] and [`node_reads`].

use std::{path::PathBuf, sync::Arc, time::Duration};

use anyhow::Context;
use kube::{Client, Config, config::KubeConfigOptions, config::Kubeconfig};
use tokio::sync::watch;

pub mod aggregated;
pub mod cluster_update;
pub mod csr;
#[cfg(test)]
mod fuzz;
pub mod guest;
pub mod import_policy;
pub mod install;
pub mod instancetype;
pub mod lease;
pub mod macs;
pub mod networks;
pub mod node_lost;
pub mod node_maintenance;
pub mod node_network;
pub mod node_reads;
pub mod node_removal;
pub mod nodes;
pub mod object;

pub mod events;
pub mod placeholder;
pub mod policy;
pub mod reader_pod;
pub mod replica_set;
pub mod replicas;
pub mod resolve;
pub mod tenants;
pub mod upload_proxy;
pub mod vm;
pub mod vm_clone;
pub mod vm_export;
pub mod vm_pool;
pub mod vm_restore;
pub mod vm_snapshot;
pub mod vmi;
pub mod volumes;

pub use sheaf_api::conditions;

/// Between two tries of something that needs the API server, while it is away.
const API_RETRY: Duration = Duration::from_secs(3);

/// How the program is run.
#[derive(Clone, Debug)]
pub struct Options {
    /// Kubeconfig of the identity `sheaf-controller`.
    pub kubeconfig: PathBuf,
    /// Folder of the certificates of the aggregated server ([`aggregated::Certificates`]).
    pub certificates: PathBuf,
    /// Port of the aggregated server; 0 is any free one.
    pub port: u16,
}

/// Runs until SIGTERM or SIGINT.
pub async fn run(options: &Options) -> anyhow::Result<()> {
    let config = connection(&options.kubeconfig).await?;
    let client = Client::try_from(config.clone()).context("making a client of the API server")?;
    // What is missing is made by the node's agent, which then starts this program again; all else goes on meanwhile.
    let certificates = aggregated::Certificates::read(&options.certificates)
        .inspect_err(|error| {
            tracing::error!(
                "subresources.kubevirt.io is not served: {error:#}; restart sheaf-agent, which makes it"
            )
        })
        .ok();
    let (address_out, address) = watch::channel(None);
    let serve = async {
        match certificates.clone() {
            Some(certificates) => {
                let port = options.port;
                aggregated::run(client.clone(), config.clone(), certificates, port, address_out).await
            }
            None => std::future::pending().await,
        }
    };
    let authority = certificates.as_ref().map(|certificates| certificates.authority.as_str());
    let nodes = certificates.as_ref().and_then(|certificates| {
        let nodes = aggregated::node::Nodes::new(&config, &certificates.nodes);
        nodes.inspect_err(|error| tracing::error!("no guest can be frozen: {error:#}")).ok().map(Arc::new)
    });
    let guests = guest::Guests::new(client.clone(), nodes);
    let downloads = vm_export::Downloads { address, authority: authority.map(str::to_owned) };
    let leases = node_lost::Observer::new(client.clone());
    let shared = Shared { guests, downloads, leases: leases.clone() };
    tokio::select! {
        result = stand(&client, authority, &shared) => result,
        () = node_reads::run() => Ok(()),
        () = leases.run() => Ok(()),
        () = serve => Ok(()),
    }
}

/// What a replica has whether it leads or not, and its controllers use when it does.
struct Shared {
    /// Agents in guests, by the API of their nodes.
    guests: guest::Guests,
    /// Where exports are downloaded.
    downloads: vm_export::Downloads,
    /// Leases of nodes.
    leases: node_lost::Observer,
}

/// Stands for leadership, and leads, until told to stop.
async fn stand(client: &Client, authority: Option<&str>, shared: &Shared) -> anyhow::Result<()> {
    let identity = lease::identity(&sheaf_host::hostname::current());
    let mut elector = lease::Elector::new(client.clone(), identity.clone());
    let stop = stopped()?;
    tokio::pin!(stop);
    loop {
        tokio::select! {
            () = &mut stop => break,
            () = candidate(client, &mut elector) => {}
        }
        tracing::info!(%identity, "leading");
        tokio::select! {
            () = &mut stop => break,
            () = lead(client, authority, shared) => {}
            () = elector.keep() => tracing::warn!(%identity, "lost the lease; standing by"),
        }
    }
    tracing::info!("asked to stop");
    elector.release().await;
    Ok(())
}

/// Returns when this process leads.
async fn candidate(client: &Client, elector: &mut lease::Elector) {
    while let Err(error) = install::namespace(client).await {
        tracing::warn!("{error}; trying again");
        tokio::time::sleep(API_RETRY).await; // the next look at whether the API server is there
    }
    elector.acquire().await;
}

/// Everything a leader does; ends only by being dropped. Nodes' certificates do not wait for what VMs need: the first
/// node joins meanwhile.
async fn lead(client: &Client, authority: Option<&str>, shared: &Shared) {
    let controllers = install_and_run(client, shared);
    tokio::join!(csr::run(client.clone()), controllers, announce(client, authority));
}

/// Announces the aggregated server, if there is one; `authority` signed its certificate.
async fn announce(client: &Client, authority: Option<&str>) {
    let Some(authority) = authority else { return };
    while let Err(error) = aggregated::install::install(client, authority).await {
        tracing::warn!("announcing subresources.kubevirt.io: {error}; trying again");
        tokio::time::sleep(API_RETRY).await; // the next look at whether the API server takes it
    }
}

/// Installs what VMs need, then runs the controllers that rest on it.
async fn install_and_run(client: &Client, shared: &Shared) {
    let Shared { guests, downloads, leases } = shared;
    while let Err(error) = install::install(client).await {
        tracing::warn!("installing what the cluster needs: {error}; trying again");
        tokio::time::sleep(API_RETRY).await; // the next look at whether the API server takes it
    }
    tracing::info!("CustomResourceDefinitions, RuntimeClass and policies are in place");
    tokio::join!(
        vm::run(client.clone()),
        vmi::run(client.clone()),
        placeholder::end::run(client.clone()),
        import_policy::run(client.clone()),
        upload_proxy::run(client.clone()),
        nodes::run(client.clone()),
        volumes::run(client.clone()),
        vm_snapshot::run(client.clone(), guests.clone()),
        vm_restore::run(client.clone(), guests.clone()),
        vm_clone::run(client.clone()),
        vm_export::run(client.clone(), downloads.clone()),
        node_network::run(client.clone()),
        node_lost::run(leases.clone()),
        node_maintenance::run(client.clone()),
        node_removal::run(client.clone()),
        cluster_update::run(client.clone()),
        replica_set::run(client.clone()),
        vm_pool::run(client.clone()),
    );
}

async fn connection(kubeconfig: &std::path::Path) -> anyhow::Result<Config> {
    let read = Kubeconfig::read_from(kubeconfig)
        .with_context(|| format!("reading kubeconfig {}", kubeconfig.display()))?;
    Config::from_custom_kubeconfig(read, &KubeConfigOptions::default())
        .await
        .with_context(|| format!("using kubeconfig {}", kubeconfig.display()))
}

/// Resolves when the process is asked to stop.
fn stopped() -> anyhow::Result<impl Future<Output = ()>> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate()).context("listening for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("listening for SIGINT")?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}
