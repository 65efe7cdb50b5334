//! A node of Sheaf in a Kubernetes that kubeadm made.
//!
//! Why here: what a node asks for must be what Kubernetes documents (bootstrap tokens, `cluster-info`, certificate requests, Node, Lease):
//! an own control plane would hide what only it has. Nothing of Sheaf is installed in the cluster. Route in: kubeadm's own
//! phases, the agent's own code. Route out: the Node as kubectl shows it.

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::certificates::v1::CertificateSigningRequest;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Node;
use kube::api::{Api, ListParams};
use sheaf_agent::cluster::Hosts;
use sheaf_agent::status::Phase;
use sheaf_host::fakes::{FakeRun, FakeUnits};
use sheaf_host::run::{Command, Run as _, System};
use sheaf_tests::cluster::{AgentNode, RunningAgent, TOKEN, kube_binary};
use sheaf_tests::controlled::wait;
use sheaf_tests::kubeadm::KubeadmCluster;
use std::sync::Arc;
use std::time::Duration;

/// Longest wait for anything here; the machine is shared with other tests.
const TIMEOUT: Duration = Duration::from_secs(120);

fn started(plane: &KubeadmCluster, token: &str) -> Result<(AgentNode, RunningAgent)> {
    let text = format!(
        "version = 1\n[system]\nhostname = \"n1\"\n[cluster]\nmode = \"join\"\nserver = \"{}\"\ntoken = \"{token}\"\n\
         ca-hash = \"{}\"\n",
        plane.server, plane.ca_hash
    );
    let node = AgentNode::new(&text, "aaaa")?;
    let hosts = Hosts { run: Arc::new(FakeRun::default()), units: Arc::new(FakeUnits::default()) };
    let agent = node.start_at(plane.near_address(), hosts)?;
    Ok((node, agent))
}

async fn ready(agent: &RunningAgent) -> Result<()> {
    let mut status = agent.ctx.status.subscribe();
    let found = tokio::time::timeout(TIMEOUT, status.wait_for(|status| status.cluster.phase == Phase::Ready))
        .await
        .is_ok();
    ensure!(found, "the node is not ready: {:#?}", agent.ctx.status.subscribe().borrow().cluster);
    Ok(())
}

fn kubectl(plane: &KubeadmCluster, words: &[&str]) -> Result<String> {
    let command = Command::new(kube_binary()?)
        .args(["kubectl", "--kubeconfig"])
        .arg(&plane.kubeconfig)
        .args(words.iter().copied());
    Ok(System.run(&command)?.text())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_joins_a_cluster_that_kubeadm_made_is_ready_there_and_is_cordoned_and_drained_by_kubectl()
-> Result<()> {
    let plane = KubeadmCluster::start(TOKEN).await?;
    let (node, agent) = started(&plane, TOKEN)?;
    ready(&agent).await.with_context(|| plane.tails())?;

    let nodes: Api<Node> = Api::all(plane.admin.clone());
    let object = nodes.get("n1").await?;
    let labels = object.metadata.labels.clone().context("labels")?;
    ensure!(labels["sheaf.dev/vm-node"] == "true", "{labels:?}");
    // No container of the cluster is sent to a node that runs none.
    let taints = object.spec.context("spec")?.taints.context("taints")?;
    ensure!(taints.iter().any(|taint| taint.key == "sheaf.dev/vm-only" && taint.effect == "NoSchedule"));
    let text = std::fs::read_to_string(node.paths().node_toml)?;
    ensure!(text.contains("token = \"redeemed\""), "{text}");

    let leases: Api<Lease> = Api::namespaced(plane.admin.clone(), "kube-node-lease");
    let renewed = async || Ok(leases.get("n1").await?.spec.and_then(|lease| lease.renew_time));
    let first = wait("a lease", renewed).await?;
    wait("the lease is renewed", async || Ok(renewed().await?.filter(|time| *time > first))).await?;

    // kube-controller-manager approved and signed it: it knows clients of nodes.
    let requests: Api<CertificateSigningRequest> = Api::all(plane.admin.clone());
    let signed = requests.list(&ListParams::default()).await?.items.into_iter().any(|request| {
        request.spec.signer_name == "kubernetes.io/kube-apiserver-client-kubelet"
            && request.status.is_some_and(|status| status.certificate.is_some())
    });
    ensure!(signed, "no certificate of the node was asked for as kubelets do it");

    kubectl(&plane, &["drain", "n1", "--ignore-daemonsets", "--timeout=60s"])?;
    let shown = kubectl(&plane, &["get", "node", "n1", "--no-headers"])?;
    ensure!(shown.contains("Ready,SchedulingDisabled"), "{shown}");
    kubectl(&plane, &["uncordon", "n1"])?;

    // It is the same node after a restart, without a token.
    drop(agent);
    let hosts = Hosts { run: Arc::new(FakeRun::default()), units: Arc::new(FakeUnits::default()) };
    let again = node.start_at(plane.near_address(), hosts)?;
    ready(&again).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_that_kubeadm_does_not_know_is_named_with_its_remedy() -> Result<()> {
    let plane = KubeadmCluster::start(TOKEN).await?;
    let (_node, agent) = started(&plane, "zzzzzz.0123456789abcdef")?;
    let mut status = agent.ctx.status.subscribe();
    let failed = status.wait_for(|status| status.cluster.phase == Phase::Failed);
    let section = tokio::time::timeout(TIMEOUT, failed).await??.cluster.clone();
    ensure!(section.problem.as_deref() == Some("it is not signed for token zzzzzz.***"), "{section:#?}");
    Ok(())
}
