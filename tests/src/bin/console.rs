//! `make console`: the administration console on a control plane of processes, for who works on it.
//!
//! Why here: a change of the page or of the server is to be seen on the real API server within a minute, without a machine. A node
//! is played, as in tests: its machines are objects and run nowhere. Route in: `console [ADDRESS:PORT]`, as root. Route out: address and
//! code on the terminal; Ctrl+C ends it, and nothing is left.

use anyhow::{Context as _, Result};
use kube::api::{Api, PostParams};
use serde_json::json;
use sheaf_agent::claim::by_hand;
use sheaf_api::VirtualMachine;
use sheaf_tests::console::{Served, code_in, node_config};
use sheaf_tests::played::{PlayedNode, cluster, vm};
use std::net::SocketAddr;

/// Where it listens unless an argument says otherwise.
const LISTEN: &str = "127.0.0.1:8443";
/// Machines, and whether they run.
const MACHINES: [(&str, bool); 4] = [("web", true), ("database", true), ("build", false), ("archive", false)];
/// A second project with one machine.
const PROJECT: &str = "shop";

fn main() -> Result<()> {
    let listen: SocketAddr = std::env::args()
        .nth(1)
        .unwrap_or_else(|| LISTEN.into())
        .parse()
        .context("usage: console [ADDRESS:PORT]")?;
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?.block_on(run(listen))
}

async fn run(listen: SocketAddr) -> Result<()> {
    println!("console: starting a control plane; it takes half a minute");
    let on = cluster().await?;
    let node = PlayedNode::start(&on).await?;
    let mut guests = Vec::new();
    let machines: Api<VirtualMachine> = Api::default_namespaced(on.client.clone());
    for (name, runs) in MACHINES {
        let strategy = if runs { "Always" } else { "Halted" };
        machines.create(&PostParams::default(), &vm(name, strategy)?).await?;
        if runs {
            guests.push(node.run(&on, name, "").await?);
        }
    }
    on.kubectl(&["create", "namespace", PROJECT])?;
    let mut till = serde_json::to_value(vm("till", "Halted")?)?;
    till["metadata"]["namespace"] = json!(PROJECT);
    Api::<VirtualMachine>::namespaced(on.client.clone(), PROJECT)
        .create(&PostParams::default(), &serde_json::from_value(till)?)
        .await?;

    let mut console = Served::at(&on.plane, listen).await?;
    let said = by_hand::new(&on.plane.paths, &node_config()?).await?;
    println!("console: {}/", console.address);
    println!("console: certificate, SHA-256: {}", console.fingerprint);
    println!("console: code of the first administrator: {}", code_in(&said)?);
    println!("console: kubectl --kubeconfig {} get vms -A", on.plane.kubeconfig().display());
    tokio::select! {
        ended = console.ended() => ended?,
        ended = tokio::signal::ctrl_c() => ended?,
    }
    println!("console: ended");
    Ok(())
}
