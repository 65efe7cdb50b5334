//! Controller `dhcp`: the DHCP server of the node's private network.
//!
//! Why here: an address is given by the agent's own knowledge, one for each MAC, and by nothing that a guest sends; so the
//! server keeps no state, and there is no pool that a guest could exhaust (docs/decisions: leases of the private network).
//! Reads: the channel `leases`, requests on `masq0`. Owns: UDP port 67 of `masq0`. Never touches: links, addresses, files.
//! Route in: payloads of UDP. Route out: [`message::answer`], sent as a frame to the one guest that asked.

pub mod message;

use crate::channels::Context;
use sheaf_api::names::MASQUERADE_BRIDGE;
use sheaf_host::dhcp::DhcpSockets;
use std::sync::Arc;
use std::time::Duration;

/// Retry interval while the link is not there: networkd makes it at boot.
const RETRY: Duration = Duration::from_secs(2);
/// Largest request that is read, in bytes: clients send at most what fits an Ethernet frame.
const LARGEST: usize = 1500;

/// Runs until shutdown.
pub async fn run(ctx: Context, sockets: Arc<dyn DhcpSockets>) -> anyhow::Result<()> {
    run_with(ctx, sockets, RETRY).await
}

async fn run_with(ctx: Context, sockets: Arc<dyn DhcpSockets>, retry: Duration) -> anyhow::Result<()> {
    let mut shutdown = ctx.shutdown.clone();
    let mut failed = false;
    loop {
        let ended = tokio::select! {
            ended = serve(&ctx, sockets.as_ref()) => ended,
            () = shutdown.requested() => return Ok(()),
        };
        let Err(error) = ended;
        if !std::mem::replace(&mut failed, true) {
            tracing::warn!("DHCP on {MASQUERADE_BRIDGE}: {error}; retrying every {} s", retry.as_secs());
        } else {
            tracing::debug!("DHCP on {MASQUERADE_BRIDGE}: {error}");
        }
        tokio::select! {
            () = tokio::time::sleep(retry) => {}
            () = shutdown.requested() => return Ok(()),
        }
    }
}

/// Answers until the sockets fail.
async fn serve(ctx: &Context, sockets: &dyn DhcpSockets) -> std::io::Result<std::convert::Infallible> {
    let mut socket = sockets.open(MASQUERADE_BRIDGE)?;
    let server = socket.mac();
    let mut buffer = [0; LARGEST];
    loop {
        let length = socket.recv(&mut buffer).await?;
        let Some(request) = message::Request::parse(&buffer[..length]) else { continue };
        let frame = message::answer(&request, &ctx.leases.borrow(), server);
        if let Some(frame) = frame {
            socket.send(&frame)?;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::message::tests::{MAC, discover};
    use super::*;
    use crate::paths::Paths;
    use sheaf_host::fakes::FakeDhcp;
    use std::path::Path;

    /// Waits until `sockets` were opened `opened` times and sent `frames`.
    async fn wait(sockets: &FakeDhcp, opened: usize, frames: usize) {
        let reached = async {
            while (sockets.opened(), sockets.frames().len()) != (opened, frames) || sockets.pending() > 0 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        let reached = tokio::time::timeout(Duration::from_secs(10), reached).await;
        reached.unwrap_or_else(|_| panic!("{} opened, {} frames", sockets.opened(), sockets.frames().len()));
    }

    #[tokio::test]
    async fn requests_are_answered_by_leases_as_they_are_now_also_after_the_link_went_away() {
        let config =
            sheaf_config::load::parse_node_config("n", "version = 1\nsystem.hostname = \"a\"\n").unwrap();
        let (ctx, publish) = crate::channels::open(Paths::under(Path::new("/nonexistent")), config);
        let sockets = FakeDhcp::default();
        sockets.fails_to_open(2);
        let task = tokio::spawn(run_with(ctx, Arc::new(sockets.clone()), Duration::from_millis(5)));
        sockets.request(&discover(MAC)); // nobody's lease
        wait(&sockets, 1, 0).await;
        publish.leases.send_replace([(MAC, "100.127.240.7".parse().unwrap())].into());
        sockets.request(b"nonsense");
        sockets.request(&discover(MAC));
        sockets.breaks();
        sockets.request(&discover(MAC));
        wait(&sockets, 2, 2).await;
        publish.shutdown.send_replace(true);
        task.await.unwrap().unwrap();
    }
}
