//! The address for people, and nodes of the control plane that outlive their own control plane.
//!
//! Why here: only the kernel shows that an address is where it is said to be and goes when its time is over, and only three real
//! API servers that one of them is enough. Route in: three machines in network namespaces on one bridge, made by the
//! agent's own code. Route out: who answers at the address, how soon; leases of nodes.

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::coordination::v1::Lease;
use kube::api::Api;
use sheaf_agent::cluster::planes::invite;
use sheaf_agent::cluster::token::LIFETIME;
use sheaf_agent::status::Phase;
use sheaf_agent::vip::election::HOLD;
use sheaf_tests::planes::{Network, Plane, TIMEOUT};
use std::net::IpAddr;
use std::time::{Duration, Instant};

/// The longest time without an answer at the address after the loss of any machine or API server.
const MOVE: Duration = Duration::from_secs(15);
/// The longest time until the lease of a node whose API server failed is renewed by another.
const CHANGE_OVER: Duration = Duration::from_secs(10);
/// Between two tries.
const AGAIN: Duration = Duration::from_millis(100);

/// Until the API server answers at `vip`, which its certificate has to name; how long that took.
async fn answered(of: &Plane, vip: IpAddr) -> Result<Duration> {
    let read = kube::config::Kubeconfig::read_from(of.paths().kubernetes.join("super-admin.conf"))?;
    let mut config = kube::Config::from_custom_kubeconfig(read, &Default::default()).await?;
    config.cluster_url = format!("https://{vip}:6443").parse()?;
    let begun = Instant::now();
    loop {
        // A new one each time: a connection to a machine without power is never closed.
        let client = kube::Client::try_from(config.clone())?;
        let asked = tokio::time::timeout(Duration::from_secs(1), client.apiserver_version()).await;
        if let Ok(Ok(_)) = asked {
            return Ok(begun.elapsed());
        }
        ensure!(begun.elapsed() < TIMEOUT, "nobody answers at {vip}: {asked:?}");
        tokio::time::sleep(AGAIN).await; // until the next try
    }
}

/// Which of the machines says that it has the address, and has it.
fn holder(planes: &[Plane], vip: IpAddr) -> Result<usize> {
    let having: Vec<usize> = (0..planes.len()).filter(|at| planes[*at].has(vip).unwrap_or(false)).collect();
    ensure!(having.len() == 1, "{} machines have {vip}", having.len());
    ensure!(planes[having[0]].vip().is_here, "{:?}", planes[having[0]].vip());
    Ok(having[0])
}

/// Until the lease of node `name` is renewed, as `by` reads it; how long that took.
async fn renewed(by: &Plane, name: &str) -> Result<Duration> {
    let leases: Api<Lease> = Api::namespaced(by.admin().await?, "kube-node-lease");
    let time = async || leases.get(name).await.ok().and_then(|lease| lease.spec?.renew_time);
    let (before, begun) = (time().await, Instant::now());
    loop {
        if time().await.is_some_and(|now| Some(now) > before) {
            return Ok(begun.elapsed());
        }
        ensure!(begun.elapsed() < TIMEOUT, "the lease of {name} is not renewed");
        tokio::time::sleep(AGAIN).await; // until the next look
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_address_for_people_follows_a_ready_api_server_and_nodes_outlive_their_own_one() -> Result<()> {
    let network = Network::make()?;
    let vip = network.free_address();
    let mut a = Plane::new(&network, "a", &format!("[cluster]\nmode = \"create\"\nvip = \"{vip}\""))?;
    a.start()?;
    let approver = a.approver().await?;
    a.up().await?;
    println!("the first node: answered after {:?}", answered(&a, vip).await?);
    let mut planes = vec![a];
    for name in ["b", "c"] {
        // The list of API servers is published before the table is asked for.
        let table = invite::create(&planes[0].paths(), &*planes[0].hosts.run, LIFETIME, None).await?;
        let by_vip = format!("server = \"https://{vip}:6443\"");
        ensure!(
            table.contains(&by_vip) && table.contains(&format!("vip = \"{vip}\"")),
            "it joins by the address"
        );
        let mut plane = Plane::new(&network, name, &table)?;
        plane.start()?;
        plane.up().await?;
        planes.push(plane);
    }
    drop(approver);
    ensure!(holder(&planes, vip)? == 0, "it does not move without need");

    // What a node has not read yet it cannot change over to; the list is read every 30 s.
    let list = planes[0].paths().lib.join("api-servers.json");
    let known = async {
        while sheaf_agent::cluster::servers::kept(&list).len() < 3 {
            tokio::time::sleep(AGAIN).await; // until the next look
        }
    };
    tokio::time::timeout(TIMEOUT, known).await.context("a does not read the list of API servers")?;

    // The API server of the machine that has the address fails, and its machine runs on.
    let unit = "kube-apiserver.service";
    planes[0].kill_unit(unit);
    let (moved, lease) = tokio::join!(answered(&planes[1], vip), renewed(&planes[1], "a"));
    let (moved, lease) = (moved?, lease?);
    println!("API server of a killed: answered after {moved:?}, its node's lease renewed after {lease:?}");
    ensure!(moved <= MOVE && lease <= CHANGE_OVER, "{moved:?}, {lease:?}");
    let second = holder(&planes, vip)?;
    ensure!(second != 0, "its API server does not run");
    let problem = planes[0].vip().problem.unwrap_or_default();
    ensure!(problem.starts_with("the API server of this node is not ready"), "{problem}");
    planes[0].cut_power();
    planes[0].start()?;
    planes[0].up().await?;

    // The machine that has it loses power, and what its kernel had is there until its time is over: as after kill -9.
    planes[second].cut_power();
    let cut = Instant::now();
    let moved = answered(&planes[0], vip).await?;
    let other = holder(&planes, vip)?;
    println!("power of the holder cut: answered after {moved:?}");
    ensure!(moved <= MOVE && other != second, "{moved:?}, {other}");
    while planes[second].has(vip)? {
        ensure!(cut.elapsed() < HOLD + Duration::from_secs(4), "the kernel keeps the address");
        tokio::time::sleep(AGAIN).await; // until the next look
    }
    planes[second].start()?;
    planes[second].up().await?;

    // Power of all is cut at once: none can register before two of them have started etcd.
    planes.iter_mut().for_each(Plane::cut_power);
    planes.iter_mut().try_for_each(Plane::start)?;
    for plane in &planes {
        plane.up().await?;
    }
    println!("power of all cut: answered after {:?}", answered(&planes[0], vip).await?);
    holder(&planes, vip)?;

    // The first node has lost etcd's data: it stays a node, and begins no cluster of its own.
    planes[0].cut_power();
    std::fs::remove_dir_all(planes[0].paths().etcd.join("data"))?;
    planes[0].start()?;
    let section = planes[0].section("does not stay a node", |section| {
        let problem = section.control_plane.as_ref().and_then(|plane| plane.problem.as_ref());
        section.phase == Phase::Ready && problem.is_some()
    });
    let problem = section.await?.control_plane.and_then(|plane| plane.problem).context("it says why")?;
    ensure!(problem.starts_with("the data of etcd on this node is gone"), "{problem}");
    renewed(&planes[1], "a").await?;
    ensure!(answered(&planes[1], vip).await? <= MOVE && holder(&planes, vip)? != 0);
    Ok(())
}
