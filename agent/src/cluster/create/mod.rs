//! Makes a control plane on this node and keeps it running.
//!
//! Why here: `mode = "create"`. Every step looks before it acts, so that a power cut at any point, or the hundredth
//! time, continues from what is there; so the same steps, taken again from time to time, renew what gets old
//! ([`upkeep`]). Route in: node config, this node's address. Route out: [`ControlPlane`] up,
//! with what a node needs to join it.

pub mod authentication;
pub mod authorization;
pub mod console;
pub mod controller;
pub mod kubeadm;
pub mod objects;
pub mod pki;
pub mod serving;
pub mod shared;
pub mod upkeep;

use super::failure::{Failure, Remedy};
use super::planes::{Joining, member};
use super::report::Reporter;
use super::token::{self, Token};
use super::{Hosts, kubeconfig, servers};
use crate::administrators;
use crate::encryption;
use crate::etcd::program;
use crate::etcd::restore::pending;
use crate::paths::Paths;
use crate::reconcile::blocking;
use crate::service_accounts;
use anyhow::Context as _;
use kubeadm::ControlPlane;
use pki::Pki;
use sheaf_config::node::{Cluster, NodeConfig};
use sheaf_host::file::write_atomically;
use std::net::IpAddr;
use std::path::Path;
use std::time::{Duration, SystemTime};

/// Addresses of Services when node.toml names none: kubeadm's choice.
pub const SERVICE_CIDR: &str = "10.96.0.0/16";

/// Units of a control plane, as they are stopped: each before those that it asks.
pub const UNITS: [&str; 6] = [
    "sheaf-console.service",
    "sheaf-controller.service",
    "kube-scheduler.service",
    "kube-controller-manager.service",
    "kube-apiserver.service",
    "etcd.service",
];

/// How long the API server may take to become ready: 40 s on an emulated CPU, more after a power cut.
const READY_TIME: Duration = Duration::from_secs(300);

/// Between two questions whether it is ready.
const READY_INTERVAL: Duration = Duration::from_millis(250);

/// What a node needs to join the control plane of this machine.
pub struct Local {
    /// `https://ADDRESS:6443`.
    pub server: String,
    /// The cluster CA, PEM.
    pub ca: String,
    /// May do everything.
    pub admin: kube::Client,
}

/// Brings the control plane up on the node that creates the cluster. `address` is where others reach this node.
pub async fn control_plane(
    paths: &Paths,
    config: &NodeConfig,
    cluster: &Cluster,
    address: IpAddr,
    hosts: &Hosts,
    report: &Reporter,
) -> Result<Local, Failure> {
    bring_up(paths, config, cluster, address, hosts, report, None).await
}

/// [`control_plane`], or one more of a cluster that there is already: `joining` then says what comes from the others.
pub async fn bring_up(
    paths: &Paths,
    config: &NodeConfig,
    cluster: &Cluster,
    address: IpAddr,
    hosts: &Hosts,
    report: &Reporter,
    joining: Option<&Joining>,
) -> Result<Local, Failure> {
    let pki = Pki { dir: paths.kubernetes.clone() };

    let restored = {
        let paths = paths.clone();
        blocking(move || pending::finish(&paths)).await
    };
    if restored.remedy(
        "putting the restored data of etcd in place",
        "look at /var/lib/etcd and /var/lib/kubernetes; run `sheaf-agent snapshot restore` again",
    )? {
        tracing::warn!("a restore of etcd that was interrupted is completed");
    }
    report.step("making the cluster's keys and certificates");
    let broken =
        "the control plane's files in /var/lib/kubernetes are incomplete; read `journalctl -u sheaf-agent`";
    let (plane, made) = {
        let (run, pki, name) = (hosts.run.clone(), pki.clone(), config.system.hostname.clone());
        let sans = names(cluster);
        let service_cidr = match joining {
            Some(joining) => joining.service_cidr.clone(),
            None => cluster.service_cidr.map_or_else(|| SERVICE_CIDR.into(), |cidr| cidr.to_string()),
        };
        blocking(move || {
            let plane = ControlPlane {
                node: name,
                address,
                sans,
                service_cidr,
                version: run.run(&kubeadm::version())?.text(),
            };
            let made = pki.ensure(&plane, run.as_ref(), SystemTime::now())?;
            Ok((plane, made))
        })
        .await
        .remedy("making the cluster's keys and certificates", broken)?
    };
    let read = |name: &str| {
        let path = pki.file(name);
        std::fs::read_to_string(&path).with_context(|| format!("{}: cannot be read", path.display()))
    };
    let ca = read("ca.crt").remedy("reading the cluster's CA", broken)?;
    let ca_key = read("ca.key").remedy("reading the cluster's CA", broken)?;
    let renewed = controller::ensure_kubeconfig(&pki, &plane.server(), &ca, &ca_key, SystemTime::now())
        .remedy("making sheaf-controller's certificate", broken)?;
    let serving = controller::ensure_serving(&pki, &plane, SystemTime::now())
        .remedy("making the aggregated API's certificate", broken)?;
    let console = console::ensure(&pki, &plane, config, (&ca, &ca_key), SystemTime::now())
        .remedy("making the console's identity", broken)?;
    let moved = prepare(paths, &plane).remedy("writing /run/sheaf/control-plane.env", broken)?;
    let moved = moved
        | encryption::prepare(paths, SystemTime::now()).remedy("preparing the keys of Secrets", broken)?
        | service_accounts::prepare(paths).remedy("preparing the keys of service accounts", broken)?;

    let pending = paths.run.join("control-plane.pending");
    let changed = made || moved || pending.exists();
    if changed {
        // Until all of them run with the new files, however often a start fails in between.
        write_atomically(&pending, b"", 0o644).remedy("writing /run/sheaf/control-plane.pending", broken)?;
    }
    match joining {
        Some(joining) => {
            report.step("becoming a member of etcd");
            let (paths, run, place) = (paths.clone(), hosts.run.clone(), joining.place.clone());
            // The error has its remedy already: it is no error of the task.
            let prepared = blocking(move || Ok(member::prepare(&paths, run.as_ref(), &place))).await;
            prepared.remedy("becoming a member of etcd", broken)??;
        }
        None => {
            first_member(paths, &plane).remedy("writing /run/sheaf/etcd.env", FIRST_DATA_LOST)?;
        }
    }
    start(hosts, "etcd.service", changed, report).await?;
    if let Some(joining) = joining {
        member::promoted(paths, &hosts.run, &joining.place, report).await?;
    }
    start(hosts, "kube-apiserver.service", changed, report).await?;
    report.step("waiting for the API server");
    let admin = kubeconfig::client_from_file(&pki.kubeconfig("super-admin"))
        .await
        .remedy("reading super-admin.conf", broken)?;
    ready(&admin).await.remedy(
        "waiting for the API server",
        "read `journalctl -u kube-apiserver -u etcd`; usual causes are a full state partition or a wrong clock",
    )?;

    encryption::served(paths).remedy("noting the keys of Secrets", "look at /run/sheaf")?;

    // Asked only now: it needs a majority of the members, which the API server has.
    if joining.is_some() || !other_servers(paths, &plane).is_empty() {
        let (paths, run) = (paths.clone(), hosts.run.clone());
        let announced = blocking(move || member::announce(&paths, run.as_ref(), address)).await;
        announced.remedy(
            "telling the members of etcd this node's address",
            "read `journalctl -u etcd`; it is retried",
        )?;
    }
    report.step("preparing the cluster for nodes");
    objects::ensure(&admin, &pki, &plane, hosts, joining.is_none())
        .await
        .remedy("preparing the cluster for nodes", broken)?;
    let refused = "correct `[cluster]` of node.toml";
    let token: Option<Token> = cluster
        .token
        .as_ref()
        .map(|token| token.0.parse())
        .transpose()
        .remedy("reading cluster.token", refused)?;
    // The token of a node that joins is its own way in, and not one for others.
    if joining.is_none() {
        token::allow_configured(&admin, token.as_ref())
            .await
            .remedy("making node.toml's token valid", broken)?;
    }
    controller::ensure_rules(&admin).await.remedy("setting up sheaf-controller's access rules", broken)?;
    console::ensure_rules(&admin).await.remedy("setting up the console's access rules", broken)?;
    let console = console
        | console::ensure_shared(&admin, &pki, &plane, config, SystemTime::now())
            .await
            .remedy("agreeing on the certificate of the cluster's consoles", broken)?;
    administrators::keep(&admin, &ca, &ca_key, administrators::configured(cluster), SystemTime::now())
        .await
        .remedy("publishing administrators' certificates", refused)?;

    let [console_unit, controller_unit, scheduler, manager, ..] = UNITS;
    for unit in [manager, scheduler] {
        start(hosts, unit, changed, report).await?;
    }
    start(hosts, controller_unit, changed || renewed || serving, report).await?;
    service_accounts::served(paths).remedy("noting the keys of service accounts", "look at /run/sheaf")?;
    servers::publish(&admin, &plane.node, &plane.server(), cluster.vip)
        .await
        .remedy("adding this node to the list of API servers", broken)?;
    start(hosts, console_unit, changed || console, report).await?;
    if changed {
        std::fs::remove_file(&pending).remedy("removing /run/sheaf/control-plane.pending", broken)?;
    }
    Ok(Local { server: plane.server(), ca, admin })
}

/// Further names and addresses of the API server, in its certificate: those of node.toml, and the address for people, which this node may
/// have at any time.
fn names(cluster: &Cluster) -> Vec<String> {
    let mut names = cluster.sans.clone();
    let vip = cluster.vip.map(|vip| vip.to_string());
    names.extend(vip.filter(|vip| !cluster.sans.contains(vip)));
    names
}

/// What helps when the first member's data is gone and others exist.
const FIRST_DATA_LOST: &str = "install this machine again and join it with `sheaf-agent token create --control-plane` of another \
                               control-plane node, after `sheaf-agent etcd remove` of this one there";

/// Has etcd begin a cluster of one member, unless there is data. A node whose cluster has other control-plane nodes never begins
/// another one: that would be a second cluster with the same keys.
fn first_member(paths: &Paths, plane: &ControlPlane) -> anyhow::Result<()> {
    if !member::has_data(paths) {
        let others = other_servers(paths, plane);
        anyhow::ensure!(
            others.is_empty(),
            "the data of etcd on this node is gone, and the cluster has other control-plane nodes: {}",
            others.join(" ")
        );
    }
    let peer = program::peer_url(&program::host(plane.address));
    member::write_environment(&paths.run, &format!("{}={peer}", plane.node), "new")
}

/// API servers on other nodes, as far as this node has learned of them.
fn other_servers(paths: &Paths, plane: &ControlPlane) -> Vec<String> {
    let mut others = servers::kept(&servers::file(paths));
    others.retain(|server| *server != plane.server());
    others
}

async fn start(hosts: &Hosts, unit: &str, changed: bool, report: &Reporter) -> Result<(), Failure> {
    let step = format!("starting {unit}");
    report.step(&step);
    let started = if changed { hosts.units.restart(unit).await } else { hosts.units.start(unit).await };
    started.remedy(&step, format!("read `journalctl -u {unit}`"))
}

/// Asks /readyz until it says ok.
pub(crate) async fn ready(client: &kube::Client) -> anyhow::Result<()> {
    let mut last = anyhow::anyhow!("no answer yet");
    let asked = async {
        loop {
            match client.request_text(http::Request::get("/readyz").body(Vec::new())?).await {
                Ok(_) => return Ok(()),
                Err(error) => last = error.into(),
            }
            tokio::time::sleep(READY_INTERVAL).await;
        }
    };
    match tokio::time::timeout(READY_TIME, asked).await {
        Ok(result) => result,
        Err(_) => Err(last.context(format!("/readyz did not return ok within {} s", READY_TIME.as_secs()))),
    }
}

/// Writes what the unit files leave open, and what the API server begins with; true when a restart is needed.
fn prepare(paths: &Paths, plane: &ControlPlane) -> anyhow::Result<bool> {
    authentication::begin(&paths.run, &paths.lib)?;
    write_environment(&paths.run, plane)
}

/// Writes what the unit files leave open; true when it is not what it was since boot.
fn write_environment(run: &Path, plane: &ControlPlane) -> anyhow::Result<bool> {
    let authorization = authorization::write(run)?;
    let path = run.join("control-plane.env");
    let text = format!(
        "SHEAF_ADDRESS={}\nSHEAF_HOST={}\nSHEAF_NODE={}\nSHEAF_SERVICE_CIDR={}\n",
        plane.address,
        program::host(plane.address),
        plane.node,
        plane.service_cidr
    );
    if std::fs::read_to_string(&path).is_ok_and(|before| before == text) {
        return Ok(authorization);
    }
    write_atomically(&path, text.as_bytes(), 0o644)?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_for_people_is_in_the_certificate_once() {
        let read = |lines: &str| {
            let text =
                format!("version = 1\nsystem.hostname = \"n1\"\n[cluster]\nmode = \"create\"\n{lines}");
            names(&sheaf_config::load::parse_node_config("n", &text).unwrap().cluster.unwrap())
        };
        assert_eq!(read("vip = \"192.0.2.100\"\nsans = [\"api.example\"]"), ["api.example", "192.0.2.100"]);
        assert_eq!(read("vip = \"2001:db8::1\"\nsans = [\"2001:db8::1\"]"), ["2001:db8::1"]);
        assert_eq!(read(""), [""; 0]);
    }

    #[test]
    fn a_first_node_without_its_data_begins_no_second_cluster_beside_other_control_plane_nodes() {
        let root = tempfile::tempdir().unwrap();
        let paths = Paths::under(root.path());
        let plane = pki::tests::plane();
        first_member(&paths, &plane).unwrap();
        let text = std::fs::read_to_string(paths.run.join("etcd.env")).unwrap();
        assert_eq!(text, "SHEAF_ETCD_MEMBERS=n1=https://192.0.2.10:2380\nSHEAF_ETCD_STATE=new\n");
        let list = serde_json::to_vec(&["https://192.0.2.10:6443", "https://192.0.2.11:6443"]).unwrap();
        write_atomically(&servers::file(&paths), &list, 0o644).unwrap();
        assert_eq!(
            first_member(&paths, &plane).unwrap_err().to_string(),
            "the data of etcd on this node is gone, and the cluster has other control-plane nodes: https://192.0.2.11:6443"
        );
        std::fs::create_dir_all(paths.etcd.join("data/member/wal")).unwrap();
        first_member(&paths, &plane).unwrap();
    }
}
