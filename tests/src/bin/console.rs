//! `make console`: the administration console on a control plane of processes, for who works on it.
//!
//! Why here: a change of the page or of the server is to be seen on the real API server within a minute, without a machine. A node
//! is played, as in tests: its machines are objects and run nowhere. Route in: `console [ADDRESS:PORT]`, as root. Route out: address and
//! code on the terminal; Ctrl+C ends it, and nothing is left.

use anyhow::{Context as _, Result, anyhow};
use kube::api::{Api, PostParams};
use serde_json::json;
use sheaf_agent::claim::by_hand;
use sheaf_api::VirtualMachine;
use sheaf_config::load::parse_node_config;
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

    let options = sheaf_console::Options {
        kubeconfig: on.plane.paths.kubernetes.join("sheaf-console.conf"),
        listen,
        certificate: None,
        node_authority: Some(on.plane.paths.kubernetes.join("pki/kubelet-serving-ca.crt")),
    };
    let console = sheaf_console::open(&options).await?;
    let text = "version = 1\n[system]\nhostname = \"plane\"\n[cluster]\nmode = \"create\"\n";
    let config = parse_node_config("node.toml", text).map_err(|errors| anyhow!("{errors}"))?;
    let said = by_hand::new(&on.plane.paths, &config).await?;
    let code = said.lines().find_map(|line| line.strip_prefix("code: ")).context("a code")?;
    println!("console: https://{}/", console.address);
    println!("console: certificate, SHA-256: {}", console.fingerprint);
    println!("console: code of the first administrator: {code}");
    println!("console: kubectl --kubeconfig {} get vms -A", on.plane.kubeconfig().display());
    tokio::select! {
        () = console.run() => {}
        ended = tokio::signal::ctrl_c() => ended?,
    }
    println!("console: ended");
    Ok(())
}
