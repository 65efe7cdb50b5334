//! Several control-plane nodes: one is created, two join, each is lost in turn.
//!
//! Why here: only etcd and the API servers show that what one takes is read from another, that a majority goes on, and that a
//! member is never there twice. Route in: three machines in network namespaces on one bridge, and a worker; the agent's own code
//! makes all of them. Route out: what the API servers answer, and how soon.

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Api, PostParams};
use serde_json::json;
use sheaf_agent::cluster::create::UNITS;
use sheaf_agent::cluster::planes::invite;
use sheaf_agent::etcd::program::{self, Etcd, Member};
use sheaf_api::node_removal::{NodeRemoval, Phase};
use sheaf_tests::planes::{Network, Plane, TIMEOUT, answered, first, invited, joined, worker};
use std::time::Duration;

/// What a client of an agent's list may wait for an answer after the loss of an API server.
const CHANGE_OVER: Duration = Duration::from_secs(10);

fn members(of: &Plane) -> Result<Vec<Member>> {
    Ok(program::members(&of.hosts.run.run(&Etcd::of(&of.paths()).members())?.text())?)
}

fn voters(of: &Plane) -> Result<Vec<String>> {
    let mut names: Vec<_> =
        members(of)?.into_iter().filter(|member| !member.is_learner).map(|member| member.name).collect();
    names.sort();
    Ok(names)
}

/// Waits until the worker's lease is renewed once more.
async fn renewed(of: &Plane) -> Result<()> {
    let leases: Api<Lease> = Api::namespaced(of.admin().await?, "kube-node-lease");
    let time = async || -> Result<_> { Ok(leases.get("w").await?.spec.and_then(|spec| spec.renew_time)) };
    let before = time().await?;
    let again = async {
        while time().await.is_ok_and(|now| now <= before) {
            tokio::time::sleep(Duration::from_millis(500)).await; // until the next look
        }
    };
    tokio::time::timeout(Duration::from_secs(60), again).await.context("the worker's lease is not renewed")
}

fn map(name: &str) -> Result<ConfigMap> {
    Ok(serde_json::from_value(json!({"metadata": {"name": name}, "data": {"of": name}}))?)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_three_control_plane_nodes_each_may_be_lost_and_a_dead_one_is_removed() -> Result<()> {
    let network = Network::make()?;
    let a = first(&network).await?;
    let approver = a.approver().await?;
    let maps = |client| Api::<ConfigMap>::namespaced(client, "default");
    maps(a.admin().await?).create(&PostParams::default(), &map("written-by-a")?).await?;

    let mut b = invited(&network, &a, "b").await?;
    b.start()?;
    b.up().await?;
    ensure!(voters(&a)? == ["a", "b"], "{:?}", members(&a)?);
    let text = std::fs::read_to_string(b.paths().node_toml)?;
    ensure!(text.matches("redeemed").count() == 2, "the token or its key is still in node.toml");

    // The learner is killed in the middle: after it was added, and again while it catches up.
    let mut c = invited(&network, &b, "c").await?;
    c.start()?;
    let added = async {
        while members(&a).is_ok_and(|members| members.len() < 3) {
            tokio::time::sleep(Duration::from_millis(100)).await; // until the next look
        }
    };
    tokio::time::timeout(TIMEOUT, added).await.context("c is not added to the members")?;
    c.cut_power();
    c.start()?;
    c.section("does not start etcd", |section| {
        let step = section.control_plane.as_ref().map(|plane| plane.step.as_str());
        step.is_some_and(|step| step.contains("has caught up") || step == "the control plane runs")
    })
    .await?;
    c.kill_unit("etcd.service");
    c.kill_agent();
    c.start()?;
    c.up().await?;
    ensure!(voters(&c)? == ["a", "b", "c"] && members(&c)?.len() == 3, "{:?}", members(&c)?);
    maps(c.admin().await?).get("written-by-a").await.context("read through another")?;

    let (_files, agent) = worker(&a).await?;
    drop(approver);
    let mut planes = [a, b, c];
    for lost in 0..3 {
        answered(&agent).await?;
        planes[lost].cut_power();
        let took = answered(&agent).await?;
        println!("without {}: answered after {took:?}", ["a", "b", "c"][lost]);
        ensure!(took <= CHANGE_OVER, "answered after {took:?}");
        let other = &planes[(lost + 1) % 3];
        renewed(other).await?;
        maps(other.admin().await?).create(&PostParams::default(), &map(&format!("without-{lost}"))?).await?;
        planes[lost].start()?;
        planes[lost].up().await?;
        maps(planes[lost].admin().await?)
            .get(&format!("without-{lost}"))
            .await
            .context("it has caught up")?;
    }

    let [a, b, mut c] = planes;
    c.cut_power();
    let refused = invite::remove(&a.paths(), &*a.hosts.run, "b").await.unwrap_err().to_string();
    ensure!(refused.contains("of which 1 answer, and needs 2") && refused.contains("(c)"), "{refused}");
    let removed = invite::remove(&a.paths(), &*a.hosts.run, "c").await?;
    ensure!(
        removed.contains("c is no longer a member of etcd; 2 with a vote are left, an even number"),
        "{removed}"
    );
    ensure!(voters(&b)? == ["a", "b"], "{:?}", members(&b)?);
    // What was removed does not come back by itself.
    c.start()?;
    let problem = c.refusal("is not refused").await?.problem.unwrap_or_default();
    ensure!(problem == "this node is not a member of etcd: it was removed", "{problem}");
    ensure!(voters(&b)? == ["a", "b"], "{:?}", members(&b)?);
    is_retired(&c)
}

/// No unit of its control plane runs.
fn is_retired(plane: &Plane) -> Result<()> {
    let running: Vec<_> = UNITS.into_iter().filter(|unit| plane.pid(unit).is_some()).collect();
    ensure!(running.is_empty(), "{}: {running:?} run", plane.name());
    Ok(())
}

/// Removes the node of `plane` by a NodeRemoval, and waits until the cluster has nothing of it.
async fn removed(by: &Plane, plane: &Plane) -> Result<()> {
    let name = plane.name();
    let removals: Api<NodeRemoval> = Api::all(by.admin().await?);
    let object: NodeRemoval = serde_json::from_value(json!({
        "apiVersion": "sheaf.dev/v1alpha1", "kind": "NodeRemoval", "metadata": {"name": name},
        "spec": {"nodeName": name},
    }))?;
    let mut last = String::new();
    let gone = async {
        // sheaf-controller installs the kind first.
        while let Err(error) = removals.create(&PostParams::default(), &object).await {
            last = error.to_string();
            tokio::time::sleep(Duration::from_millis(500)).await; // until the next try
        }
        loop {
            let status = removals.get(name).await.ok().and_then(|removal| removal.status);
            if status.as_ref().is_some_and(|status| status.phase == Some(Phase::Removed)) {
                return;
            }
            last = format!("{status:?}");
            tokio::time::sleep(Duration::from_millis(500)).await; // until the next look
        }
    };
    let done = tokio::time::timeout(TIMEOUT, gone).await;
    ensure!(done.is_ok(), "{name} is not removed: {last}\n{:?}\n{}", plane.said(), plane.tails());
    Ok(())
}

/// It says that it was removed, and has nothing by which it would be a control plane again.
async fn stays_out(plane: &Plane) -> Result<()> {
    let says = |section: &sheaf_agent::status::ClusterSection| {
        section.problem.as_deref().is_some_and(|problem| problem.contains("was removed from the cluster"))
    };
    plane.section("does not say that it was removed", says).await?;
    is_retired(plane)?;
    let paths = plane.paths();
    for left in
        [paths.kubernetes.join("pki"), paths.kubernetes.join("super-admin.conf"), paths.etcd.join("data")]
    {
        ensure!(!left.exists(), "{} is there", left.display());
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_control_plane_node_that_is_removed_loses_its_member_first_and_stays_out_and_so_does_the_one_that_made_the_cluster()
-> Result<()> {
    let network = Network::make()?;
    let mut a = first(&network).await?;
    let approver = a.approver().await?;
    let b = joined(&network, &a, "b").await?;
    let mut c = joined(&network, &a, "c").await?;
    drop(approver);
    ensure!(voters(&b)? == ["a", "b", "c"], "{:?}", members(&b)?);

    let _controller = b.controller()?;
    removed(&b, &c).await?;
    ensure!(voters(&b)? == ["a", "b"] && members(&b)?.len() == 2, "{:?}", members(&b)?);
    stays_out(&c).await?;
    removed(&b, &a).await?;
    ensure!(voters(&b)? == ["b"] && members(&b)?.len() == 1, "{:?}", members(&b)?);
    stays_out(&a).await?;

    // Neither comes back by itself, and the first one begins no second cluster.
    for plane in [&mut a, &mut c] {
        plane.cut_power();
        plane.start()?;
        stays_out(plane).await?;
    }
    ensure!(voters(&b)? == ["b"], "{:?}", members(&b)?);
    b.up().await
}
