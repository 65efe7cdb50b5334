//! The aggregated API server of every replica: `subresources.kubevirt.io`, what virtctl asks to start, stop and see VMs, and
//! `metrics.k8s.io`, what `kubectl top` asks ([`usage`]); `upload.cdi.kubevirt.io` and the upload proxy, to which clients send
//! images ([`upload`]).
//!
//! Why here: these are acts and streams, not objects; KubeVirt serves them beside its kinds, and its tools know no other
//! way. kube-apiserver authenticates and authorizes each request, then hands it on with the user's name in headers
//! ([`identity`]). Every replica listens, the leader or not, and has an EndpointSlice of its own ([`endpoints`]), so that the
//! loss of one leaves the others reachable. Acts on a VM are changes of objects ([`life`], pure; [`acts`]); what only the
//! node can do goes to its agent's own API ([`node`]) with this controller's certificate, and streams are relayed there byte
//! by byte. The same listener hands out volumes of exports ([`exports`]), by their tokens alone.
//!
//! Route in: TLS on [`sheaf_api::names::AGGREGATED_PORT`], certificate by the node that made the cluster. Route out: answers
//! as KubeVirt words them; patches of VMs; requests to agents.

mod acts;
mod answer;
mod discovery;
mod endpoints;
mod expand;
mod exports;
mod identity;
pub mod install;
pub mod life;
mod listener;
pub(crate) mod node;
pub(crate) mod options;
pub mod roles;
mod routes;
mod serve;
mod upload;
mod usage;

use std::{
    net::{IpAddr, SocketAddr},
    path::Path,
    sync::Arc,
    time::Duration,
};

use anyhow::Context as _;
use kube::{Client, Config};
use tokio::{net::TcpListener, sync::watch};

/// Between two attempts to listen.
const RETRY: Duration = Duration::from_secs(5);

/// Certificates that the node which made the cluster put beside the kubeconfig, in PEM.
#[derive(Clone)]
pub struct Certificates {
    /// By which this server answers, and its key.
    pub serving: (String, String),
    /// The CA of that certificate, which kube-apiserver is to trust for this server alone.
    pub authority: String,
    /// The CA of nodes' serving certificates.
    pub nodes: String,
}

impl Certificates {
    /// Reads them from `folder`.
    pub fn read(folder: &Path) -> anyhow::Result<Self> {
        let read = |name: &str| {
            let path = folder.join(name);
            std::fs::read_to_string(&path).with_context(|| format!("{}: cannot be read", path.display()))
        };
        Ok(Self {
            serving: (read("sheaf-controller-serving.crt")?, read("sheaf-controller-serving.key")?),
            authority: read("aggregated-ca.crt")?,
            nodes: read("kubelet-serving-ca.crt")?,
        })
    }
}

/// Serves until dropped; what fails is logged and tried again. `port` 0 is any free one. `address_out` says where it listens,
/// while it does.
pub async fn run(
    client: Client,
    config: Config,
    certificates: Certificates,
    port: u16,
    address_out: watch::Sender<Option<SocketAddr>>,
) {
    let nodes = match node::Nodes::new(&config, &certificates.nodes) {
        Ok(nodes) => Arc::new(nodes),
        Err(error) => {
            tracing::error!(
                "subresources.kubevirt.io is not served: {error:#}; correct the kubeconfig, then restart"
            );
            return std::future::pending().await;
        }
    };
    let (headers_out, headers) = watch::channel(None);
    let samples = Arc::new(usage::Samples::default());
    let state = Arc::new(serve::State {
        client: client.clone(),
        nodes: nodes.clone(),
        samples: samples.clone(),
        uploads: upload::Uploads::default(),
    });
    let serve = async {
        loop {
            match bound(&config, port).await {
                Ok((listener, address)) => {
                    tracing::info!("serving subresources.kubevirt.io on {address}");
                    address_out.send_replace(Some(address));
                    tokio::select! {
                        Err(error) = listener::serve(listener, &certificates, headers.clone(), state.clone()) => {
                            tracing::error!("subresources.kubevirt.io is not served: {error}; trying again");
                        }
                        () = endpoints::keep(client.clone(), address) => {}
                    }
                    address_out.send_replace(None);
                }
                Err(error) => {
                    tracing::warn!("subresources.kubevirt.io is not served: {error:#}; trying again")
                }
            }
            tokio::time::sleep(RETRY).await; // the next attempt to listen
        }
    };
    tokio::join!(
        identity::follow(client.clone(), headers_out),
        usage::run(client.clone(), nodes, samples),
        serve
    );
}

/// Listens on the address by which this machine reaches the API server, which is the one by which that reaches it.
async fn bound(config: &Config, port: u16) -> anyhow::Result<(TcpListener, SocketAddr)> {
    let address = own_address(config).await?;
    let listener = TcpListener::bind((address, port))
        .await
        .with_context(|| format!("listening on {address}, port {port}"))?;
    let address = listener.local_addr()?;
    Ok((listener, address))
}

async fn own_address(config: &Config) -> anyhow::Result<IpAddr> {
    let host = config.cluster_url.host().context("the kubeconfig names no API server")?;
    let port = config.cluster_url.port_u16().unwrap_or(443);
    let host = host.trim_matches(['[', ']']);
    let found = tokio::net::lookup_host((host, port)).await;
    let server = found.with_context(|| format!("looking up {host}"))?.next().context("it has no address")?;
    let any: SocketAddr = match server {
        SocketAddr::V4(_) => ([0, 0, 0, 0], 0).into(),
        SocketAddr::V6(_) => ([0_u16; 8], 0).into(),
    };
    // Connecting a UDP socket sends nothing: the kernel chooses the address alone.
    let socket = tokio::net::UdpSocket::bind(any).await?;
    socket.connect(server).await.with_context(|| format!("no route to the API server {server}"))?;
    let address = socket.local_addr()?.ip();
    anyhow::ensure!(
        !address.is_loopback(),
        "the API server is reached over the loopback, by which it reaches no server; name its address in the kubeconfig"
    );
    Ok(address)
}
