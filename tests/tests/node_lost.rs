//! Nodes that are lost, on the real API server and scheduler: whose VMs start elsewhere, when, and what a node that returns finds.
//!
//! Why here: the time counts from renewals of a real Lease, and only kube-scheduler shows where the next Pod goes. The agents are
//! played: they say what agents say, and one falls silent. What a node does meanwhile is `agent/src/without_lease`. Route in: a
//! controller that leads, nodes with leases. Route out: where Pods are, and how long that took.

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::core::v1::{Event, Node, Pod};
use kube::api::{Api, ListParams, Patch, PatchParams};
use serde_json::json;
use sheaf_api::VirtualMachine;
use sheaf_api::names::{
    NODE_LOST_ANNOTATION, NODE_LOST_TAINT, RESTART_ELSEWHERE_ANNOTATION, STOPS_ALONE_CONDITION, VM_NAME_LABEL,
};
use sheaf_api::restart_elsewhere::TAKE_OVER_AFTER;
use sheaf_tests::controlled::{Controlled, wait};
use sheaf_tests::evicted::{Alive, alive, bound, renew, runs};
use sheaf_tests::played::claim;
use std::time::{Duration, Instant};

const ARMED: &str = r"
apiVersion: sheaf.dev/v1alpha1
kind: ClusterConfig
metadata: {name: cluster}
spec: {highAvailability: Armed}
";

/// Without the leader another leads after 30 s. One that began to count only then would take this much longer.
const LATE: Duration = Duration::from_secs(28);

/// A VM of 64 MiB that is always to run, with this volume.
async fn create(on: &Controlled, name: &str, volume: serde_json::Value) -> Result<()> {
    let vm = json!({
        "apiVersion": "kubevirt.io/v1", "kind": "VirtualMachine", "metadata": {"name": name},
        "spec": {"runStrategy": "Always", "template": {"spec": {
            "domain": {"memory": {"guest": "64Mi"}, "devices": {"disks": [{"name": "root", "disk": {"bus": "virtio"}}]}},
            "volumes": [volume]}}},
    });
    on.make::<VirtualMachine>(vm).await.map(drop)
}

/// The node reports that it stops the VM of `pod` without a lease.
async fn stops_alone(on: &Controlled, pod: &str) -> Result<()> {
    let status = json!({"status": {"conditions": [{"type": STOPS_ALONE_CONDITION, "status": "True"}]}});
    on.here::<Pod>().patch_status(pod, &PatchParams::default(), &Patch::Strategic(status)).await?;
    Ok(())
}

fn annotation(pod: &Pod, name: &str) -> Option<String> {
    pod.metadata.annotations.as_ref()?.get(name).cloned()
}

/// Nodes of the Pods of VM `name` that are there.
async fn nodes_of(on: &Controlled, name: &str) -> Result<Vec<String>> {
    let of = ListParams::default().labels(&format!("{VM_NAME_LABEL}={name}"));
    let pods = on.here::<Pod>().list(&of).await?.items;
    Ok(pods.into_iter().filter_map(|pod| pod.spec?.node_name).collect())
}

async fn is_tainted(on: &Controlled, name: &str) -> kube::Result<bool> {
    let node = Api::<Node>::all(on.client.clone()).get(name).await?;
    Ok(node
        .spec
        .and_then(|spec| spec.taints)
        .unwrap_or_default()
        .iter()
        .any(|taint| taint.key == NODE_LOST_TAINT))
}

/// Both VMs run on n1, which stops what it may; n2 has room. What keeps each alive.
async fn begun(on: &Controlled) -> Result<(Alive, Alive)> {
    ensure!(on.kubectl_with(&["apply"], ARMED)?.contains("cluster"), "the cluster is not armed");
    let first = alive(on, "n1").await?;
    create(on, "web", json!({"name": "root", "containerDisk": {"image": "registry.example.org/debian:13"}}))
        .await?;
    claim(on, "db-root").await?;
    create(on, "db", json!({"name": "root", "persistentVolumeClaim": {"claimName": "db-root"}})).await?;
    for name in ["web", "db"] {
        let pod = bound(on, name, "n1").await?;
        runs(on, &pod).await?;
        // Of the second one it is no node's to say.
        stops_alone(on, &pod).await?;
        let marked = annotation(&on.here::<Pod>().get(&pod).await?, RESTART_ELSEWHERE_ANNOTATION).is_some();
        ensure!(marked == (name == "web"), "{name}: marked: {marked}");
    }
    let second = alive(on, "n2").await?;
    Ok((first, second))
}

/// The node is silent from now on.
async fn silent(on: &Controlled, name: &str, alive: Alive) -> Result<Instant> {
    drop(alive);
    renew(on, name).await?;
    Ok(Instant::now())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_vm_without_disks_of_its_node_starts_elsewhere_when_the_time_is_over_and_one_with_them_never()
-> Result<()> {
    let on = Controlled::start().await?;
    let (first, _second) = begun(&on).await?;
    let former = bound(&on, "web", "n1").await?;
    let silent = silent(&on, "n1", first).await?;
    let next = bound(&on, "web", "n2").await?;
    let took = silent.elapsed();
    println!("bound to another node after {took:?}");
    ensure!(took >= TAKE_OVER_AFTER && took < TAKE_OVER_AFTER + LATE, "{took:?}");
    ensure!(next != former && is_tainted(&on, "n1").await?, "new VMs may go to n1");
    wait("the former Pod is gone", async || {
        Ok(on.here::<Pod>().get_opt(&former).await?.is_none().then_some(()))
    })
    .await?;
    let events = on.here::<Event>().list(&ListParams::default().fields("reason=NodeLost")).await?.items;
    let note = events.first().and_then(|event| event.message.clone()).context("no Event")?;
    ensure!(note == "its lease was not renewed for 42 s; 1 VMs may start on other nodes", "{note}");

    // It returns: it takes VMs again, and has the one that nobody started elsewhere.
    let _first = Alive::of(&on, "n1");
    wait("n1 takes VMs again", async || Ok((!is_tainted(&on, "n1").await?).then_some(()))).await?;
    ensure!(nodes_of(&on, "web").await? == ["n2"], "{:?}", nodes_of(&on, "web").await?);
    ensure!(nodes_of(&on, "db").await? == ["n1"], "{:?}", nodes_of(&on, "db").await?);
    let db = on.here::<Pod>().get(&bound(&on, "db", "n1").await?).await?;
    ensure!(annotation(&db, NODE_LOST_ANNOTATION).is_none(), "db counts as ended");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_time_counts_on_when_the_leading_controller_was_on_the_node_that_is_lost() -> Result<()> {
    let on = Controlled::start().await?;
    let (first, _second) = begun(&on).await?;
    let _replica = on.replica()?;
    wait("the other replica runs", async || Ok((on.replicas().await?.len() == 2).then_some(()))).await?;
    let silent = silent(&on, "n1", first).await?;
    on.kill_controller();
    bound(&on, "web", "n2").await?;
    let took = silent.elapsed();
    println!("bound to another node after {took:?}, without the leader");
    ensure!(took >= TAKE_OVER_AFTER && took < TAKE_OVER_AFTER + LATE, "{took:?}");
    ensure!(nodes_of(&on, "db").await? == ["n1"], "{:?}", nodes_of(&on, "db").await?);
    Ok(())
}
