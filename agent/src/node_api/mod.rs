//! The node's own API on port 10250: what a kubelet serves of a node, for VMs instead of containers.
//!
//! Reads: this node's certificates, Pods bound to it, records and console logs of its VMs, libvirt's counters, volumes that an
//! exporter Pod names, with the Secret that holds their token; the journal, and what a support bundle has ([`node_logs`]).
//! Owns: the port, sessions of consoles and displays, the mark of a frozen guest in `/data/vms/<uid>/frozen`, copies of the state
//! of firmware and TPMs in `/data/state/<namespace>/snapshot-<uid>/` ([`states`]).
//! Never touches: objects of the cluster, but for the reviews by which requests are authenticated and authorized.
//!
//! Every request: TLS ([`listener`]) → who ([`authenticate`]) → may he ([`authorize`], by `nodes/<self>` as a kubelet) → what
//! ([`routes`]) → [`serve`]. Denied by default: while the cluster cannot be asked, nobody is let in. What sheaf-controller
//! relays for virtctl lies below `/vms/<uid of the VMI>/`, so that it never reaches a later VM of the same name, and what it
//! relays of volumes below `/exports/<uid of the exporter Pod>/` ([`exports`]); images for volumes come in below
//! `/volumes/<LocalVolume>/` ([`upload`]), whose name has the claim's UID. VMs reach
//! none of it: those behind `masq0` are dropped by table `inet sheaf`, those on a bridge are clients like any on that network.

pub mod acts;
mod answer;
pub mod authenticate;
pub mod authorize;
mod cache;
mod devices;
pub mod exec;
mod exports;
#[cfg(test)]
mod fixture;
mod freeze;
mod guest;
mod listener;
pub mod logs;
pub mod metrics;
mod node_logs;
pub mod routes;
mod screenshot;
mod serve;
mod states;
pub mod streams;
mod upload;
mod vm;

use crate::api_server::Kube;
use crate::channels::Context;
use crate::cluster::identity::{SERVING, Store};
use crate::listed::Listed;
use k8s_openapi::api::core::v1::Pod;

use sheaf_host::libvirt::VmHost;
use sheaf_host::piped::Pipe;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::watch;

/// Between two looks for certificates and for a free port.
const RETRY: Duration = Duration::from_secs(3);
/// Longest queue of connections that are not accepted yet.
const BACKLOG: u32 = 128;
/// Longest wait for the API server's word on a request: the client waits for it.
const REVIEW_TIME: Duration = Duration::from_secs(10);

/// What this controller works with.
pub struct Hosts<V> {
    /// Domains.
    pub vms: Arc<V>,
    /// Pods of this node, by UID.
    pub pods: Arc<watch::Sender<Listed<Pod>>>,
    /// Programs that tell of this machine.
    pub run: Arc<dyn Pipe>,
    /// Where to listen: [`sheaf_api::names::NODE_API_PORT`], or 0 for any.
    pub port: u16,
}

/// Runs until shutdown. `port` says where it listens, while it does.
pub async fn run<V: VmHost>(
    ctx: Context,
    port: watch::Sender<Option<u16>>,
    hosts: Hosts<V>,
) -> anyhow::Result<()> {
    let store = Store::of(&ctx.paths);
    let mut shutdown = ctx.shutdown.clone();
    let kube = Kube::new(ctx.cluster.clone()).with_timeout(REVIEW_TIME);
    let (bound, state) = (hosts.port, Arc::new(serve::State::new(ctx, kube, hosts)));
    freeze::thaw_what_was_left(&state).await;
    let serve = async {
        loop {
            let ready = store.load(SERVING).zip(store.ca());
            match ready.map(|ready| listen(bound).map(|listener| (listener, ready))) {
                None => {}
                Some(Err(error)) => {
                    tracing::warn!("port {bound} cannot be listened at: {error}; it is tried again");
                }
                Some(Ok((listener, (identity, ca)))) => {
                    port.send_replace(listener.local_addr().map(|address| address.port()).ok());
                    let Err(error) = listener::serve(listener, &store, (identity, ca), state.clone()).await;
                    port.send_replace(None);
                    tracing::warn!("the node's API: {error}; it is tried again");
                }
            }
            tokio::time::sleep(RETRY).await;
        }
    };
    tokio::select! {
        () = serve => {}
        () = shutdown.requested() => {}
    }
    port.send_replace(None);
    Ok(())
}

/// Listens at all addresses of the node, of both families where there are two.
fn listen(port: u16) -> std::io::Result<TcpListener> {
    let at = |address: SocketAddr| {
        let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        socket.listen(BACKLOG)
    };
    // Linux takes IPv4 at an IPv6 socket too (net.ipv6.bindv6only = 0).
    at((Ipv6Addr::UNSPECIFIED, port).into()).or_else(|_| at((Ipv4Addr::UNSPECIFIED, port).into()))
}
