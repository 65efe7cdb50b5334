//! Snapshots of etcd and the way back, on the real control plane.
//!
//! Why here: only etcd and the API server show that a snapshot is one, that objects come back, and that revisions only grow. Route
//! in: the agent's own code, the `kube` binary's etcd, etcdctl and etcdutl. Route out: what the API server answers afterwards.

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Api, DeleteParams, PostParams};
use serde_json::json;
use sheaf_agent::channels;
use sheaf_agent::cluster::Hosts;
use sheaf_agent::cluster::create::control_plane;
use sheaf_agent::cluster::report::Reporter;
use sheaf_agent::etcd::by_hand::{save, save_keys, status, take_one};
use sheaf_agent::etcd::program::Etcd;
use sheaf_agent::etcd::restore::{Request, restore};
use sheaf_agent::etcd::store::Store;
use sheaf_agent::etcd::take::health;
use sheaf_agent::paths::Paths;
use sheaf_config::load::parse_node_config;
use sheaf_host::systemd::{Answer, Changes, UnitError, Units};
use sheaf_tests::cluster::ControlPlane;
use std::fs;
use std::net::IpAddr;
use std::sync::Arc;

const NODE: &str = "plane";
const AGENT: &str = "sheaf-agent.service";

/// Units of a control plane whose agent, once started, makes the control plane as `sheaf-agent run` does.
struct WithAgent {
    paths: Paths,
    address: IpAddr,
    hosts: Hosts,
}

impl WithAgent {
    async fn agent(&self) -> Result<()> {
        let text = format!("version = 1\nsystem.hostname = \"{NODE}\"\n[cluster]\nmode = \"create\"\n");
        let config = parse_node_config("node.toml", &text).map_err(|errors| anyhow::anyhow!("{errors}"))?;
        let (_ctx, publish) = channels::open(self.paths.clone(), config.clone());
        let section = config.cluster.clone().context("the config makes a cluster")?;
        let report = Reporter::new(publish.sections.cluster);
        let made = control_plane(&self.paths, &config, &section, self.address, &self.hosts, &report).await;
        made.map(drop).map_err(|failure| anyhow::anyhow!("{failure}"))
    }
}

impl Units for WithAgent {
    fn start<'a>(&'a self, unit: &'a str) -> Answer<'a, ()> {
        Box::pin(async move {
            match unit {
                AGENT => self.agent().await.map_err(|error| UnitError::Ask {
                    verb: "start",
                    unit: AGENT.into(),
                    source: error.into(),
                }),
                _ => self.hosts.units.start(unit).await,
            }
        })
    }

    fn restart<'a>(&'a self, unit: &'a str) -> Answer<'a, ()> {
        self.hosts.units.restart(unit)
    }

    fn stop<'a>(&'a self, unit: &'a str) -> Answer<'a, ()> {
        self.hosts.units.stop(unit)
    }

    fn state<'a>(&'a self, unit: &'a str) -> Answer<'a, String> {
        self.hosts.units.state(unit)
    }

    fn changes<'a>(&'a self, unit: &'a str) -> Answer<'a, Changes> {
        self.hosts.units.changes(unit)
    }

    fn reboot(&self) -> Answer<'_, ()> {
        self.hosts.units.reboot()
    }
}

fn hosts(plane: &ControlPlane) -> Hosts {
    let units = WithAgent { paths: plane.paths.clone(), address: plane.address, hosts: plane.hosts.clone() };
    Hosts { run: plane.hosts.run.clone(), units: Arc::new(units) }
}

fn maps(plane: &ControlPlane) -> Api<ConfigMap> {
    Api::namespaced(plane.admin.clone(), "default")
}

async fn create(plane: &ControlPlane, name: &str) -> Result<ConfigMap> {
    let map = serde_json::from_value(json!({"metadata": {"name": name}, "data": {"of": name}}))?;
    Ok(maps(plane).create(&PostParams::default(), &map).await?)
}

async fn is_there(plane: &ControlPlane, name: &str) -> Result<bool> {
    Ok(maps(plane).get_opt(name).await?.is_some())
}

fn revision(plane: &ControlPlane) -> Result<i64> {
    Ok(health(&Etcd::of(&plane.paths), &*plane.hosts.run)?.revision)
}

/// Name of the newest snapshot.
fn newest(plane: &ControlPlane) -> Result<String> {
    let last = Store::of(&plane.paths).list()?.pop();
    Ok(last.context("a snapshot is there")?.name)
}

fn say(line: &str) {
    println!("{line}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn objects_that_were_deleted_after_a_snapshot_are_back_and_the_revision_only_grows() -> Result<()> {
    let plane = ControlPlane::start("").await?;
    fs::create_dir_all(&plane.paths.data)?;
    let run = plane.hosts.run.clone();
    let before = create(&plane, "before").await?;
    println!("{}", take_one(&plane.paths, &*run, NODE)?);
    println!("{}", status(&plane.paths, &*run)?);
    let file = newest(&plane)?;
    let taken = Store::of(&plane.paths).list()?.pop().context("a snapshot is there")?;
    ensure!(taken.keys > 100 && taken.storage_version.starts_with("3."), "{taken:?}");
    ensure!(taken.ca_hash == plane.ca_hash, "{} is not {}", taken.ca_hash, plane.ca_hash);
    maps(&plane).delete("before", &DeleteParams::default()).await?;
    create(&plane, "after").await?;
    let last = revision(&plane)?;

    let said =
        restore(&plane.paths, &hosts(&plane), NODE, &Request { file, ..Request::default() }, &say).await;
    println!("{}", said.with_context(|| plane.tails())?);
    ensure!(is_there(&plane, "before").await?, "what was deleted after the snapshot is not back");
    ensure!(!is_there(&plane, "after").await?, "what was created after the snapshot is still there");
    ensure!(revision(&plane)? > last + 1_000_000, "{} after {last}", revision(&plane)?);
    // A watch that began before sees that it must list again, and no event out of order.
    let old = before.metadata.resource_version.context("an object has a version")?;
    let watch =
        format!("/api/v1/namespaces/default/configmaps?watch=1&resourceVersion={old}&timeoutSeconds=5");
    let answer = plane.admin.request_text(http::Request::get(watch).body(Vec::new())?).await;
    let answer = answer.unwrap_or_else(|error| error.to_string());
    ensure!(
        answer.contains("410") || answer.contains("too old"),
        "the watch from an old version got {answer}"
    );
    create(&plane, "later").await?;
    let kept = fs::read_dir(plane.paths.etcd.clone())?.flatten().any(|entry| {
        entry.file_name().to_string_lossy().starts_with("data.before-")
            && entry.path().join("member").exists()
    });
    ensure!(kept, "the former data is gone");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_file_is_refused_and_the_control_plane_keeps_running() -> Result<()> {
    let plane = ControlPlane::start("").await?;
    fs::create_dir_all(&plane.paths.data)?;
    let saved = plane.root().join("away.tar");
    let path = saved.display().to_string();
    save(&plane.paths, &*plane.hosts.run, NODE, None, &path)?;
    create(&plane, "after").await?;
    let whole = fs::read(&saved)?;
    // Both are in what etcd sent, which is nearly all of the file.
    for at in [whole.len() / 3, whole.len() / 2] {
        let mut damaged = whole.clone();
        damaged[at] ^= 1;
        fs::write(&saved, damaged)?;
        let request = Request { file: path.clone(), force: true, ..Request::default() };
        let refused = restore(&plane.paths, &hosts(&plane), NODE, &request, &say).await;
        let why = format!("{:#}", refused.err().context("a damaged file was restored")?);
        ensure!(why.contains("take another copy") || why.contains("cannot be read"), "{why}");
    }
    fs::write(&saved, &whole[..whole.len() / 2])?;
    let request = Request { file: path, force: true, ..Request::default() };
    ensure!(
        restore(&plane.paths, &hosts(&plane), NODE, &request, &say).await.is_err(),
        "half a file was restored"
    );
    ensure!(is_there(&plane, "after").await?, "the control plane has other data");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fresh_machine_becomes_the_cluster_of_a_snapshot_and_its_keys() -> Result<()> {
    let (first, fresh) = (ControlPlane::start("").await?, ControlPlane::start("").await?);
    fs::create_dir_all(&first.paths.data)?;
    fs::create_dir_all(&fresh.paths.data)?;
    create(&first, "of-the-first").await?;
    let (saved, keys) = (first.root().join("away.tar"), first.root().join("keys.json"));
    save(&first.paths, &*first.hosts.run, NODE, None, &saved.display().to_string())?;
    save_keys(&first.paths, &keys.display().to_string())?;
    let request = Request { file: saved.display().to_string(), ..Request::default() };
    let refused = restore(&fresh.paths, &hosts(&fresh), NODE, &request, &say).await;
    let why = format!("{:#}", refused.err().context("another cluster's snapshot was restored")?);
    ensure!(why.contains(&first.ca_hash) && why.contains(&fresh.ca_hash), "{why}");
    let request = Request { keys: Some(keys), ..request };
    let said = restore(&fresh.paths, &hosts(&fresh), NODE, &request, &say).await;
    println!("{}", said.with_context(|| fresh.tails())?);
    // Who trusted the first machine's CA trusts this one's.
    let client = sheaf_tests::cluster::client_of(&fresh.kubeconfig()).await?;
    let found = Api::<ConfigMap>::namespaced(client, "default").get_opt("of-the-first").await?;
    ensure!(found.is_some(), "the object of the first machine is not here");
    let ca = |plane: &ControlPlane| fs::read(plane.paths.kubernetes.join("pki/ca.crt"));
    ensure!(ca(&first)? == ca(&fresh)?, "the CA is another");
    Ok(())
}
