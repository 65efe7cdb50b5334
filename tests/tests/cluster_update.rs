//! Updates of a whole cluster on the real API server: order, a failure, what a person made, cancelled and deleted, the
//! controller killed in the middle.
//!
//! Why here: only the API server knows whether the controller may cordon a Node, what its patches do to one that changed, and
//! what becomes of NodeUpdates whose owner goes. Nodes are played: the test writes what an agent reports.

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::{
    api::{coordination::v1::Lease, core::v1::Node},
    apimachinery::pkg::apis::meta::v1::MicroTime,
    jiff::Timestamp,
};
use kube::{
    Api, Client, ResourceExt as _,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams},
};
use serde_json::{Value, json};
use sheaf_api::{
    cluster_update::{ClusterUpdate, Phase},
    node_update::{Action, NodeUpdate},
};
use sheaf_tests::controlled::{Controlled, wait};
use std::time::Duration;

/// Between two heartbeats of a node; Kubernetes counts it as lost after 50 s without one.
const HEARTBEAT: Duration = Duration::from_secs(10);
const CORDONED_BY: &str = "sheaf.dev/cordoned-by";

/// A cluster whose nodes are played, and its objects.
struct Bench {
    on: Controlled,
    updates: Api<ClusterUpdate>,
    requests: Api<NodeUpdate>,
    nodes: Api<Node>,
    hearts: tokio::task::JoinHandle<()>,
}

impl Drop for Bench {
    fn drop(&mut self) {
        self.hearts.abort();
    }
}

/// Renews the leases of the nodes, as their agents do.
async fn beat(client: Client, names: Vec<String>) {
    let leases: Api<Lease> = Api::namespaced(client, "kube-node-lease");
    let mut beats = tokio::time::interval(HEARTBEAT);
    loop {
        beats.tick().await;
        for name in &names {
            let lease = json!({
                "apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": name},
                "spec": {"holderIdentity": name, "leaseDurationSeconds": 40, "renewTime": MicroTime(Timestamp::now())},
            });
            let how = PatchParams::apply("test").force();
            // One that is lost is followed by the next.
            drop(leases.patch(name, &how, &Patch::Apply(&lease)).await);
        }
    }
}

impl Bench {
    /// With these nodes; those whose name begins with c are of the control plane.
    async fn start(names: &[&str]) -> Result<Self> {
        let on = Controlled::start().await?;
        let client = on.client.clone();
        let nodes: Api<Node> = Api::all(client.clone());
        for name in names {
            on.node(name, json!({})).await?;
            if name.starts_with('c') {
                let label = json!({"metadata": {"labels": {"node-role.kubernetes.io/control-plane": ""}}});
                nodes.patch(name, &PatchParams::default(), &Patch::Merge(&label)).await?;
            }
        }
        let names = names.iter().map(ToString::to_string).collect();
        let hearts = tokio::spawn(beat(client.clone(), names));
        Ok(Self { on, updates: Api::all(client.clone()), requests: Api::all(client), nodes, hearts })
    }

    async fn create(&self, name: &str, version: &str, more: Value) -> Result<()> {
        let mut spec = json!({"version": version, "source": {"url": "https://releases.example.org/sheaf"}});
        if let (Some(spec), Some(more)) = (spec.as_object_mut(), more.as_object()) {
            spec.extend(more.clone());
        }
        let object = json!({"apiVersion": "sheaf.dev/v1alpha1", "kind": "ClusterUpdate",
            "metadata": {"name": name}, "spec": spec});
        self.updates.create(&PostParams::default(), &serde_json::from_value(object)?).await?;
        Ok(())
    }

    async fn change(&self, name: &str, spec: Value) -> Result<()> {
        let patch = json!({"spec": spec});
        self.updates.patch(name, &PatchParams::default(), &Patch::Merge(&patch)).await?;
        Ok(())
    }

    /// Waits until `node` is asked for the version, and is cordoned.
    async fn begun(&self, node: &str, version: &str) -> Result<NodeUpdate> {
        wait(&format!("{node} is begun"), async || {
            let request = self.requests.get_opt(node).await?;
            Ok(request
                .filter(|request| request.spec.version == version && request.spec.action == Action::Apply))
        })
        .await
    }

    /// What the agent of `node` reports on what it is asked for now.
    async fn reports(&self, node: &str, phase: &str, message: &str) -> Result<()> {
        let generation = self.requests.get(node).await?.metadata.generation;
        let status =
            json!({"status": {"phase": phase, "message": message, "observedGeneration": generation}});
        self.requests.patch_status(node, &PatchParams::default(), &Patch::Merge(&status)).await?;
        Ok(())
    }

    /// Waits until the update `name` says this.
    async fn is(&self, name: &str, phase: Phase, message: &str) -> Result<()> {
        let mut last = String::new();
        let found = wait(&format!("{name} is {phase:?}: {message}"), async || {
            let status = self.updates.get(name).await?.status.unwrap_or_default();
            last = format!("{:?} {:?}", status.phase, status.message);
            Ok((status.phase == Some(phase) && status.message.as_deref() == Some(message)).then_some(()))
        })
        .await;
        found.with_context(|| format!("instead it is {last}"))
    }

    /// Waits until exactly these nodes are cordoned by `name`.
    async fn holds(&self, name: &str, wanted: &[&str]) -> Result<()> {
        wait(&format!("{name} holds {wanted:?}"), async || {
            let nodes = self.nodes.list(&ListParams::default()).await?.items;
            let held = nodes.into_iter().filter(|node| {
                let is_cordoned = node.spec.as_ref().and_then(|spec| spec.unschedulable) == Some(true);
                is_cordoned && node.annotations().get(CORDONED_BY).map(String::as_str) == Some(name)
            });
            let mut held: Vec<String> = held.map(|node| node.name_any()).collect();
            held.sort();
            Ok((held == wanted).then_some(()))
        })
        .await
    }

    /// The names of all NodeUpdates.
    async fn asked(&self) -> Result<Vec<String>> {
        let mut names: Vec<_> =
            self.requests.list(&ListParams::default()).await?.iter().map(|one| one.name_any()).collect();
        names.sort();
        Ok(names)
    }

    /// The node goes all the way.
    async fn succeeds(&self, node: &str, version: &str) -> Result<()> {
        self.begun(node, version).await?;
        for phase in ["Staging", "Restarting", "OnTrial", "Updated"] {
            self.reports(node, phase, "").await?;
        }
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_is_updated_node_by_node_and_stops_at_the_first_that_rolls_back() -> Result<()> {
    let bench = Bench::start(&["w1", "c1", "w2", "w3"]).await?;
    // A person has cordoned w2.
    let cordon = json!({"spec": {"unschedulable": true}});
    bench.nodes.patch("w2", &PatchParams::default(), &Patch::Merge(&cordon)).await?;
    bench.create("fall", "0.2.0", json!({})).await?;

    bench.begun("c1", "0.2.0").await?;
    bench.holds("fall", &["c1"]).await?;
    bench.is("fall", Phase::Updating, "updating c1 (has not reported yet)").await?;
    ensure!(bench.asked().await? == ["c1"], "{:?}", bench.asked().await?);
    bench.succeeds("c1", "0.2.0").await?;
    bench.begun("w1", "0.2.0").await?;
    bench.holds("fall", &["w1"]).await?;
    bench.succeeds("w1", "0.2.0").await?;
    // It was cordoned by a person, and stays so.
    bench.begun("w2", "0.2.0").await?;
    bench.holds("fall", &[]).await?;
    bench.reports("w2", "RolledBack", "not healthy after 600 s: libvirt: it does not answer").await?;
    let message = "w2 ended RolledBack: not healthy after 600 s: libvirt: it does not answer; no other node is begun. To try \
                   it again, delete NodeUpdate w2; to give up, set cancelled";
    bench.is("fall", Phase::Stopped, message).await?;
    ensure!(bench.asked().await? == ["c1", "w1", "w2"], "w3 is begun after a failure");

    // Deleted, it is tried again.
    bench.requests.delete("w2", &DeleteParams::default()).await?;
    bench.succeeds("w2", "0.2.0").await?;
    bench.succeeds("w3", "0.2.0").await?;
    bench.is("fall", Phase::Updated, "4 of 4 nodes run 0.2.0").await?;
    let w2 = bench.nodes.get("w2").await?;
    ensure!(w2.spec.is_some_and(|spec| spec.unschedulable == Some(true)), "w2 was uncordoned");
    bench.holds("fall", &[]).await?;

    // A finished update takes no change, and the next one takes over its NodeUpdates.
    let said = bench.on.kubectl(&[
        "patch",
        "clusterupdate",
        "fall",
        "--type=merge",
        "-p",
        r#"{"spec":{"paused":true}}"#,
    ])?;
    ensure!(
        said.trim_end()
            == "The ClusterUpdate \"fall\" is invalid: spec: Forbidden: this update is finished, and nothing would follow \
                from a change; create another ClusterUpdate",
        "{said}"
    );
    bench.create("winter", "0.3.0", json!({})).await?;
    bench.begun("c1", "0.3.0").await?;
    bench.on.kubectl(&["delete", "clusterupdate", "fall"])?;
    wait("what fall still owned is gone", async || {
        Ok(bench.requests.get_opt("w3").await?.is_none().then_some(()))
    })
    .await?;
    ensure!(bench.requests.get_opt("c1").await?.is_some(), "its NodeUpdate went with the former owner");
    let said = bench.on.kubectl(&["get", "events", "-A", "-o", "jsonpath={.items[*].reason}"])?;
    for reason in
        ["Cordoned", "Uncordoned", "NodeBegun", "NodeUpdated", "NodeRolledBack", "Stopped", "Updated"]
    {
        ensure!(said.split_whitespace().any(|word| word == reason), "no Event {reason}: {said}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_update_asks_its_nodes_first_and_a_deleted_one_goes_when_it_holds_none() -> Result<()> {
    let bench = Bench::start(&["w1", "w2", "w3"]).await?;
    bench.create("fall", "0.2.0", json!({"maxUnavailable": 2})).await?;
    bench.begun("w1", "0.2.0").await?;
    bench.begun("w2", "0.2.0").await?;
    bench.reports("w1", "Staging", "").await?;
    bench.reports("w2", "OnTrial", "").await?;
    // Another one waits for it.
    bench.create("winter", "0.3.0", json!({})).await?;
    bench
        .is(
            "winter",
            Phase::Pending,
            "ClusterUpdate fall is not finished (Updating); this one begins after it",
        )
        .await?;
    bench.change("winter", json!({"cancelled": true})).await?;
    bench.is("winter", Phase::Cancelled, "cancelled; 0 of 3 nodes run 0.3.0").await?;

    bench.change("fall", json!({"cancelled": true})).await?;
    let message = "cancelled; waiting for w1 (has not answered yet that it does not restart), w2 (OnTrial)";
    bench.is("fall", Phase::Cancelled, message).await?;
    wait("w1 is asked to go no further", async || {
        let request = bench.requests.get("w1").await?;
        Ok((request.spec.action == Action::Check).then_some(()))
    })
    .await?;
    bench.reports("w1", "Checked", "").await?;
    bench.holds("fall", &["w2"]).await?;
    ensure!(bench.asked().await? == ["w2"], "{:?}", bench.asked().await?);
    // Deleted, it stays until w2 is through.
    bench.updates.delete("fall", &DeleteParams::default()).await?;
    bench.reports("w2", "OnTrial", "healthy; it must be so for 90 s").await?;
    bench.holds("fall", &["w2"]).await?;
    ensure!(bench.updates.get_opt("fall").await?.is_some());
    bench.reports("w2", "Updated", "").await?;
    bench.holds("fall", &[]).await?;
    wait("it is gone", async || Ok(bench.updates.get_opt("fall").await?.is_none().then_some(()))).await?;
    let said = bench.on.kubectl(&[
        "patch",
        "clusterupdate",
        "winter",
        "--type=merge",
        "-p",
        r#"{"spec":{"cancelled":false}}"#,
    ])?;
    ensure!(
        said.contains("spec.cancelled: Forbidden: cancelled cannot be undone; create another ClusterUpdate"),
        "{said}"
    );
    let said = bench.on.kubectl(&[
        "patch",
        "clusterupdate",
        "winter",
        "--type=merge",
        "-p",
        r#"{"spec":{"version":"0.4.0"}}"#,
    ])?;
    let refused =
        "spec.version: Forbidden: version cannot be changed; cancel this ClusterUpdate and create another";
    ensure!(said.contains(refused), "{said}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_next_controller_goes_on_where_a_killed_one_was_and_what_a_person_made_stays() -> Result<()> {
    let bench = Bench::start(&["c1", "w1", "w2"]).await?;
    // A person updates w1 by hand, to another version.
    let by_hand = json!({"apiVersion": "sheaf.dev/v1alpha1", "kind": "NodeUpdate", "metadata": {"name": "w1"},
        "spec": {"nodeName": "w1", "version": "0.1.5"}});
    bench.requests.create(&PostParams::default(), &serde_json::from_value(by_hand)?).await?;
    bench.reports("w1", "Updated", "0.1.5 runs").await?;
    bench.create("fall", "0.2.0", json!({})).await?;
    bench.begun("c1", "0.2.0").await?;
    bench.holds("fall", &["c1"]).await?;
    bench.on.kill_controller();
    bench.reports("c1", "Updated", "").await?;
    // As if it had died between two requests: w2 is cordoned, and is asked for nothing.
    let held = json!({"metadata": {"annotations": {CORDONED_BY: "fall"}}, "spec": {"unschedulable": true}});
    bench.nodes.patch("w2", &PatchParams::default(), &Patch::Merge(&held)).await?;
    let options = bench.on.plane.controller_options();
    let next = tokio::spawn(async move { sheaf_controller::run(&options).await });
    bench.begun("w2", "0.2.0").await?;
    bench.holds("fall", &["w2"]).await?;
    bench.succeeds("w2", "0.2.0").await?;
    let message =
        "w1 has a NodeUpdate for 0.1.5 that was made by hand; delete it, or set its version to 0.2.0";
    bench.is("fall", Phase::Updating, message).await?;
    ensure!(bench.requests.get("w1").await?.spec.version == "0.1.5", "what a person made is overwritten");
    bench.requests.delete("w1", &DeleteParams::default()).await?;
    bench.succeeds("w1", "0.2.0").await?;
    bench.is("fall", Phase::Updated, "3 of 3 nodes run 0.2.0").await?;
    bench.holds("fall", &[]).await?;
    next.abort();
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_reads_updates_of_the_cluster_and_neither_he_nor_a_node_writes_them() -> Result<()> {
    let bench = Bench::start(&["w1"]).await?;
    let grant = "create clusterrolebinding auditors --clusterrole=view --user=eve";
    bench.on.kubectl(&grant.split(' ').collect::<Vec<_>>())?;
    let may = |by: &[&str], verb: &str| {
        let words = [&["auth", "can-i", verb, "clusterupdates.sheaf.dev"], by].concat();
        Ok::<_, anyhow::Error>(bench.on.kubectl(&words)?.lines().last().unwrap_or_default().to_owned())
    };
    // Aggregated roles are filled by a controller of Kubernetes.
    wait("the role view has the rule", async || {
        Ok(may(&["--as=eve"], "list").is_ok_and(|said| said == "yes").then_some(()))
    })
    .await?;
    let node = ["--as=system:node:w1", "--as-group=system:nodes"];
    for (who, by, verb) in [
        ("eve", &["--as=eve"][..], "create"),
        ("eve", &["--as=eve"], "delete"),
        ("mallory", &["--as=mallory"], "list"),
        ("w1", &node, "create"),
        ("w1", &node, "patch"),
    ] {
        let said = may(by, verb)?;
        ensure!(said == "no", "may {who} {verb}? {said}");
    }
    Ok(())
}
