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
use sheaf_agent::cluster::planes::invite;
use sheaf_agent::etcd::program::{self, Etcd, Member};
use sheaf_tests::planes::{Network, Plane, TIMEOUT, answered, first, invited, worker};
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
    let section = c
        .section("is not refused", |section| {
            section.control_plane.as_ref().is_some_and(|plane| plane.problem.is_some())
        })
        .await?;
    let problem = section.control_plane.and_then(|plane| plane.problem).unwrap_or_default();
    ensure!(problem == "this node is not a member of etcd: it was removed", "{problem}");
    ensure!(voters(&b)? == ["a", "b"], "{:?}", members(&b)?);
    Ok(())
}
