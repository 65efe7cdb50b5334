//! sheaf-controller with 1000 VMs: its memory, and the requests that it costs the API server.
//!
//! Why here: its caches hold every VM, instance and Pod of the cluster, and what it asks for nothing is paid for by every node. The
//! control plane is the real one, as processes; the nodes are objects, on which the VMs run because the benchmark says so. Route in:
//! the program as it is in a release. Route out: MiB, requests per second.

use crate::{Report, mebibytes, process};
use anyhow::{Context as _, Result, ensure};
use futures::{StreamExt as _, TryStreamExt as _};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Node, Pod, ServiceAccount};
use k8s_openapi::api::rbac::v1::ClusterRoleBinding;
use kube::api::{Api, ListParams, Patch, PatchParams, PostParams};
use serde_json::json;
use sheaf_api::{VirtualMachine, status::PrintableStatus};
use sheaf_host::run::{Command, Run as _, System};
use sheaf_tests::cluster::ControlPlane;
use sheaf_tests::controlled::node_says;
use sheaf_tests::harness::Case;
use std::path::{Path, PathBuf};
use std::process::Child;
use std::time::{Duration, Instant};

const VMS: usize = 1000;
const NODES: usize = 10;
/// Requests of the benchmark at once.
pub const AT_ONCE: usize = 16;
/// How long requests are counted.
const WINDOW: Duration = Duration::from_secs(60);
/// Longest wait for all VMs: some objects and statuses for each.
const ALL: Duration = Duration::from_secs(1800);
/// Between two looks.
const LOOK: Duration = Duration::from_secs(1);
/// Between two renewals of the nodes' leases, which last 40 s.
const RENEWAL: Duration = Duration::from_secs(10);

/// The controller as a process, until it is dropped.
pub struct Controller(Child);

impl Controller {
    fn start(program: &Path, plane: &ControlPlane, log: PathBuf) -> Result<Self> {
        let command = Command::new(program)
            .arg("--kubeconfig")
            .arg(plane.controller_kubeconfig())
            .arg("--certificates")
            .arg(plane.paths.kubernetes.join("pki"))
            .args(["--port", "0"])
            .log(log);
        Ok(Self(System.start(&command)?))
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.0.id()
    }

    /// VmRSS, KiB.
    fn rss(&self) -> Result<String> {
        Ok(process::memory(self.pid())?.all.to_string())
    }

    fn signal(&self, name: &str) -> Result<()> {
        System.run(&Command::new("kill").args([name, &self.0.id().to_string()]))?;
        Ok(())
    }
}

impl Drop for Controller {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

/// What was measured.
struct Measured {
    empty: String,
    full: String,
    seconds: f64,
    /// Requests while the VMs were made, of all programs.
    made: f64,
    /// Requests per second at rest: with the controller, and while it stood still.
    rest: (f64, f64),
}

impl Report {
    /// The section of this file.
    pub fn controller(&mut self, case: &Case) -> Result<()> {
        self.head(
            &format!("sheaf-controller with {VMS} VMs on {NODES} nodes"),
            "VmRSS of /proc/PID/status; apiserver_request_total of the API server's /metrics, over 60 s, and over 60 s while the \
             controller is stopped by SIGSTOP",
            "what | value",
        );
        let build = Command::new("cargo").dir(case.root());
        System.run(&build.args(["build", "--release", "--quiet", "-p", "sheaf-controller"]))?;
        let program = case.root().join("target/release/sheaf-controller");
        let log = case.artefacts().join("controller.log");
        let runtime = tokio::runtime::Runtime::new()?;
        let measured = runtime.block_on(measure(&program, log))?;
        self.row(&["RSS, no VM, MiB", &mebibytes(&measured.empty)]);
        self.row(&[&format!("RSS, {VMS} VMs that run, MiB (bar: 60)"), &mebibytes(&measured.full)]);
        let (with, without) = measured.rest;
        self.row(&["requests per second at rest, all programs", &format!("{with:.2}")]);
        self.row(&["requests per second, controller stopped", &format!("{without:.2}")]);
        self.row(&["requests per second that it costs", &format!("{:.2}", (with - without).max(0.0))]);
        self.row(&["seconds until all run", &format!("{:.0}", measured.seconds)]);
        let each = measured.made / VMS as f64;
        self.row(&[
            "requests per VM until it runs, all programs and the nodes' reports",
            &format!("{each:.1}"),
        ]);
        Ok(())
    }
}

/// A control plane with the controller `program`, which has installed what it needs.
pub async fn led(program: &Path, log: PathBuf) -> Result<(ControlPlane, Controller)> {
    let plane = ControlPlane::start("").await?;
    let controller = Controller::start(program, &plane, log.clone())?;
    let bindings: Api<ClusterRoleBinding> = Api::all(plane.admin.clone());
    let accounts: Api<ServiceAccount> = Api::default_namespaced(plane.admin.clone());
    until("the controller installs what it needs", async || {
        let bound = bindings.get_opt("sheaf:node").await?.is_some();
        Ok(bound && accounts.get_opt("default").await?.is_some())
    })
    .await
    .with_context(|| std::fs::read_to_string(&log).unwrap_or_default())?;
    Ok((plane, controller))
}

async fn measure(program: &Path, log: PathBuf) -> Result<Measured> {
    let (plane, controller) = led(program, log).await?;
    let client = plane.admin.clone();
    for number in 0..NODES {
        node(&client, &format!("n{number}")).await?;
    }
    let renewing = tokio::spawn(renew(client.clone()));
    let empty = controller.rss()?;

    let (begin, before) = (Instant::now(), requests(&client).await?);
    let machines: Api<VirtualMachine> = Api::default_namespaced(client.clone());
    let create = async |number: usize| -> Result<()> {
        machines.create(&PostParams::default(), &serde_json::from_value(vm(number))?).await?;
        Ok(())
    };
    futures::stream::iter(0..VMS).map(create).buffer_unordered(AT_ONCE).try_collect::<Vec<_>>().await?;
    let pods: Api<Pod> = Api::default_namespaced(client.clone());
    let launchers = ListParams::default().labels("kubevirt.io=virt-launcher");
    until("all Pods are bound", async || {
        let bound = |pod: &&Pod| pod.spec.as_ref().is_some_and(|spec| spec.node_name.is_some());
        Ok(pods.list(&launchers).await?.items.iter().filter(bound).count() == VMS)
    })
    .await?;
    let names = pods.list(&launchers).await?.items.into_iter().filter_map(|pod| pod.metadata.name);
    let report = async |name: String| node_says(&pods, &name, "Running", "").await;
    futures::stream::iter(names).map(report).buffer_unordered(AT_ONCE).try_collect::<Vec<_>>().await?;
    until("all VMs run", async || {
        let runs = |vm: &&VirtualMachine| {
            let status = vm.status.as_ref().and_then(|status| status.printable_status);
            status == Some(PrintableStatus::Running)
        };
        Ok(machines.list(&ListParams::default()).await?.items.iter().filter(runs).count() == VMS)
    })
    .await?;
    let (seconds, made) = (begin.elapsed().as_secs_f64(), requests(&client).await? - before);

    // What still follows from the last change is not rest.
    rate(&client).await?;
    let with = rate(&client).await?;
    let full = controller.rss()?;
    controller.signal("-STOP")?;
    let without = rate(&client).await?;
    controller.signal("-CONT")?;
    renewing.abort();
    Ok(Measured { empty, full, seconds, made, rest: (with, without) })
}

/// Requests per second over [`WINDOW`].
async fn rate(client: &kube::Client) -> Result<f64> {
    let (begin, before) = (Instant::now(), requests(client).await?);
    tokio::time::sleep(WINDOW).await; // what is measured
    Ok((requests(client).await? - before) / begin.elapsed().as_secs_f64())
}

/// Requests that the API server has answered.
async fn requests(client: &kube::Client) -> Result<f64> {
    let page = client.request_text(http::Request::get("/metrics").body(Vec::new())?).await?;
    let counters = page.lines().filter(|line| line.starts_with("apiserver_request_total{"));
    let sum: f64 = counters.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum();
    ensure!(sum > 0.0, "the API server counts no requests");
    Ok(sum)
}

/// A node with room for its share of the VMs.
async fn node(client: &kube::Client, name: &str) -> Result<()> {
    let nodes: Api<Node> = Api::all(client.clone());
    let labels = json!({"kubernetes.io/hostname": name, "sheaf.dev/vm-node": "true"});
    let node = json!({"metadata": {"name": name, "labels": labels}});
    nodes.create(&PostParams::default(), &serde_json::from_value(node)?).await?;
    let room = json!({"cpu": "64", "memory": "512Gi", "pods": "250", "ephemeral-storage": "200Gi",
        "devices.kubevirt.io/kvm": "1000", "bridge.sheaf.dev/br0": "1000", "bridge.sheaf.dev/masq0": "1000"});
    let status = json!({"status": {"capacity": room, "allocatable": room,
        "conditions": [{"type": "Ready", "status": "True"}]}});
    nodes.patch_status(name, &PatchParams::default(), &Patch::Merge(&status)).await?;
    let leases: Api<Lease> = Api::namespaced(client.clone(), "kube-node-lease");
    let lease =
        json!({"metadata": {"name": name}, "spec": {"holderIdentity": name, "leaseDurationSeconds": 40}});
    leases.create(&PostParams::default(), &serde_json::from_value(lease)?).await?;
    Ok(())
}

/// The nodes live.
async fn renew(client: kube::Client) {
    let leases: Api<Lease> = Api::namespaced(client, "kube-node-lease");
    loop {
        for number in 0..NODES {
            let now = k8s_openapi::jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%S.000000Z").to_string();
            let patch = Patch::Merge(json!({"spec": {"renewTime": now}}));
            // The next one comes in time.
            let _ = leases.patch(&format!("n{number}"), &PatchParams::default(), &patch).await;
        }
        tokio::time::sleep(RENEWAL).await; // what a lease asks for
    }
}

async fn until(what: &str, mut look: impl AsyncFnMut() -> kube::Result<bool>) -> Result<()> {
    let end = Instant::now() + ALL;
    loop {
        match look().await {
            Ok(true) => return Ok(()),
            Ok(false) => ensure!(Instant::now() < end, "not within {ALL:?}: {what}"),
            Err(error) => ensure!(Instant::now() < end, "not within {ALL:?}: {what}: {error}"),
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// A VM of 64 MiB without a disk.
pub fn vm(number: usize) -> serde_json::Value {
    json!({
        "apiVersion": "kubevirt.io/v1", "kind": "VirtualMachine", "metadata": {"name": format!("many-{number}")},
        "spec": {"runStrategy": "Always", "template": {"spec": {"domain": {
            "memory": {"guest": "64Mi"}, "devices": {}, "resources": {"requests": {"cpu": "10m"}},
        }}}},
    })
}
