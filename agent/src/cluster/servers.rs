//! The API servers of the cluster, and the way to one that is ready.
//!
//! Why a forwarder: with several control-plane nodes any of them may be away, and an address that moves would be one more thing that
//! elects. Clients of this agent connect to a port of the loopback; behind it is one API server, and when that one is not ready and
//! another is, all connections are closed and new ones go to the other. So no client, and no open watch of one, has to know of it. TLS is between
//! client and API server: the forwarder sees none of it, and clients verify the name [`NAME`], which every API server's certificate
//! has. The list is the ConfigMap `kube-public/sheaf-api-servers`; the last one that was read is kept on disk, for a start while the
//! server of node.toml is away. Beside the servers it has the address for people (`cluster.vip`), which no agent uses and every
//! node guards from its VMs. Route in: the cluster that was joined. Route out: [`Servers::client`].

use super::kubeconfig::{self, Credentials};
use super::{apply, is_status};
use crate::api_server::Joined;
use crate::paths::Paths;
use anyhow::Context as _;
use futures::future::join_all;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Api, Patch, PatchParams, PostParams};
use serde_json::json;
use sheaf_api::join_token::{SERVERS as CONFIG_MAP, SERVERS_NAMESPACE as NAMESPACE, VIP};
use sheaf_host::file::write_atomically;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, watch};
use tokio::task::AbortHandle;

/// The name that clients verify: in every API server's certificate, as Kubernetes makes it for Pods.
pub const NAME: &str = "kubernetes.default.svc";

/// Between two questions whether the API server in use is ready. With the two times below, a client that retries is answered
/// within 10 s of the loss of a server.
const PROBE_INTERVAL: Duration = Duration::from_secs(3);
/// Longest time for the answer.
const PROBE_TIME: Duration = Duration::from_secs(2);
/// Longest time for a connection to open.
const CONNECT_TIME: Duration = Duration::from_secs(2);
/// Least time between two rounds of questions.
const PAUSE: Duration = Duration::from_millis(250);
/// Between two reads of the list.
const REFRESH: Duration = Duration::from_secs(30);
/// The same until it was read for the first time.
const REFRESH_SOON: Duration = Duration::from_secs(2);
/// Longest time for reading it.
const READ_TIME: Duration = Duration::from_secs(8);

/// The cluster behind the port.
#[derive(Clone, Default, PartialEq, Eq)]
struct Cluster {
    /// `https://HOST:PORT`, in order of preference; not empty.
    servers: Vec<String>,
    /// Those that the cluster's list has, once it was read; else empty.
    listed: Vec<String>,
    /// Addresses for people: one, unless the nodes of the control plane disagree.
    vips: BTreeSet<IpAddr>,
    /// CA of the API servers, PEM.
    ca: String,
    /// The server that node.toml names, always in the list.
    configured: String,
    /// The server on this machine, if there is one: the first of the list.
    own: Option<String>,
    /// Where the list is kept.
    file: PathBuf,
}

/// The forwarder and its list; dropped, both end.
pub struct Servers {
    port: u16,
    cluster: watch::Sender<Option<Cluster>>,
    current: watch::Sender<String>,
    tasks: Vec<AbortHandle>,
}

impl Drop for Servers {
    fn drop(&mut self) {
        self.tasks.iter().for_each(AbortHandle::abort);
    }
}

impl Servers {
    /// Starts the forwarder; it leads nowhere until [`Servers::lead_to`].
    pub async fn start(joined: watch::Receiver<Option<Joined>>) -> anyhow::Result<Self> {
        let listener = TcpListener::bind((std::net::Ipv4Addr::LOCALHOST, 0)).await;
        let listener =
            listener.context("127.0.0.1: no port can be opened for connections to the API server")?;
        let port = listener.local_addr()?.port();
        let (cluster, current) = (watch::Sender::new(None), watch::Sender::new(String::new()));
        let failed = Arc::new(Notify::new());
        let tasks = vec![
            tokio::spawn(accept(listener, current.subscribe(), failed.clone())).abort_handle(),
            tokio::spawn(probe(cluster.subscribe(), current.clone(), failed)).abort_handle(),
            tokio::spawn(refresh(cluster.clone(), joined)).abort_handle(),
        ];
        Ok(Self { port, cluster, current, tasks })
    }

    /// Leads to the cluster with this CA, whose server node.toml names as `configured`; `own` is the server on this machine.
    pub fn lead_to(&self, configured: &str, own: Option<&str>, ca: &str, file: PathBuf) {
        let kept = kept(&file);
        let mut cluster = Cluster {
            servers: Vec::new(),
            listed: Vec::new(),
            vips: kept_vips(&file),
            ca: ca.into(),
            configured: configured.into(),
            own: own.map(str::to_owned),
            file,
        };
        cluster.servers = ordered(kept, &cluster);
        self.current.send_if_modified(|current| {
            let stays = cluster.servers.contains(current);
            if !stays {
                *current = cluster.servers.first().cloned().unwrap_or_default();
            }
            !stays
        });
        self.cluster.send_replace(Some(cluster));
    }

    /// A client of whichever API server is in use.
    pub async fn client(&self, ca: &str, credentials: Credentials<'_>) -> anyhow::Result<kube::Client> {
        kubeconfig::client_by_name(
            &format!("https://127.0.0.1:{}", self.port),
            Some(ca),
            credentials,
            Some(NAME),
        )
        .await
    }

    /// Hosts of the control-plane nodes, as URLs have them. The server of node.toml may be an address for people, where no etcd is:
    /// it counts only as long as the cluster's list is not known.
    pub fn hosts(&self) -> Vec<String> {
        let host = |server: String| Some(server.parse::<http::Uri>().ok()?.host()?.to_owned());
        let listed = self.cluster.borrow().as_ref().map(|cluster| cluster.listed.clone()).unwrap_or_default();
        let servers = if listed.is_empty() { self.urls() } else { listed };
        servers.into_iter().filter_map(host).collect()
    }

    /// Waits until the cluster's list was read, for `longest`.
    pub async fn listed(&self, longest: Duration) {
        let mut cluster = self.cluster.subscribe();
        let known = cluster.wait_for(|cluster| cluster.as_ref().is_some_and(|it| !it.listed.is_empty()));
        // A cluster that Sheaf did not make has no list.
        let _ = tokio::time::timeout(longest, known).await;
    }

    /// Addresses for people.
    pub fn vips(&self) -> Vec<IpAddr> {
        let cluster = self.cluster.borrow();
        cluster.iter().flat_map(|cluster| cluster.vips.iter().copied()).collect()
    }

    /// Changes of [`Servers::current`].
    pub fn changes(&self) -> watch::Receiver<String> {
        self.current.subscribe()
    }

    /// All API servers, `https://HOST:PORT`.
    pub fn urls(&self) -> Vec<String> {
        self.cluster.borrow().as_ref().map(|cluster| cluster.servers.clone()).unwrap_or_default()
    }

    /// The API server in use, `https://HOST:PORT`.
    pub fn current(&self) -> String {
        self.current.borrow().clone()
    }
}

/// Where a node keeps the list.
pub fn file(paths: &Paths) -> PathBuf {
    paths.lib.join("api-servers.json")
}

/// The list that was kept there; empty if there is none.
pub fn kept(file: &Path) -> Vec<String> {
    std::fs::read(file).ok().and_then(|text| serde_json::from_slice(&text).ok()).unwrap_or_default()
}

/// Where a node keeps the addresses for people, beside the list.
fn vips_file(file: &Path) -> PathBuf {
    file.with_file_name("api-vips.json")
}

fn kept_vips(file: &Path) -> BTreeSet<IpAddr> {
    std::fs::read(vips_file(file))
        .ok()
        .and_then(|text| serde_json::from_slice(&text).ok())
        .unwrap_or_default()
}

/// Each once: the server of this machine, those of the list, and at last that of node.toml.
fn ordered(mut listed: Vec<String>, cluster: &Cluster) -> Vec<String> {
    listed.sort();
    let mut servers: Vec<String> = Vec::new();
    for server in cluster.own.iter().chain(&listed).chain([&cluster.configured]) {
        let server = server.trim_end_matches('/');
        if !servers.iter().any(|known| known == server) {
            servers.push(server.to_owned());
        }
    }
    servers
}

/// `HOST:PORT` of `https://HOST:PORT`.
fn authority(server: &str) -> Option<String> {
    let uri: http::Uri = server.parse().ok()?;
    let authority = uri.authority()?;
    Some(format!("{}:{}", authority.host(), authority.port_u16().unwrap_or(443)))
}

async fn accept(listener: TcpListener, current: watch::Receiver<String>, failed: Arc<Notify>) {
    loop {
        match listener.accept().await {
            Ok((near, _)) => drop(tokio::spawn(carry(near, current.clone(), failed.clone()))),
            Err(error) => {
                tracing::warn!("connections to the API server: {error}");
                tokio::time::sleep(PAUSE).await; // no file descriptor is free: until others are closed
            }
        }
    }
}

/// Carries bytes until one end closes, or another API server is in use.
async fn carry(mut near: TcpStream, mut current: watch::Receiver<String>, failed: Arc<Notify>) {
    let server = current.borrow_and_update().clone();
    let Some(authority) = authority(&server) else { return };
    let far = tokio::time::timeout(CONNECT_TIME, TcpStream::connect(&authority)).await;
    let Ok(Ok(mut far)) = far else {
        failed.notify_one();
        return;
    };
    near.set_nodelay(true).and_then(|()| far.set_nodelay(true)).ok();
    tokio::select! {
        _ = tokio::io::copy_bidirectional(&mut near, &mut far) => {}
        _ = current.changed() => {}
    }
    // A server that ended closes its connections: whether it is ready is asked at once.
    failed.notify_one();
}

/// Changes over to an API server that is ready when the one in use is not.
async fn probe(
    mut cluster: watch::Receiver<Option<Cluster>>,
    current: watch::Sender<String>,
    failed: Arc<Notify>,
) {
    let mut clients: Vec<(String, kube::Client)> = Vec::new();
    let mut ca = String::new();
    loop {
        tokio::select! {
            () = tokio::time::sleep(PROBE_INTERVAL) => {}
            () = failed.notified() => {}
            changed = cluster.changed() => if changed.is_err() { return },
        }
        let Some(Cluster { servers, ca: now, .. }) = cluster.borrow().clone() else { continue };
        if servers.len() > 1 {
            if ca != now {
                clients.clear();
                ca = now;
            }
            clients.retain(|(server, _)| servers.contains(server));
            for server in &servers {
                if !clients.iter().any(|(known, _)| known == server) {
                    let client =
                        kubeconfig::client_by_name(server, Some(&ca), Credentials::Anonymous, Some(NAME));
                    match client.await {
                        Ok(client) => clients.push((server.clone(), client)),
                        Err(error) => tracing::warn!("{server}: {error:#}"),
                    }
                }
            }
            change_over(&servers, &clients, &current).await;
        }
        tokio::time::sleep(PAUSE).await; // the least time between two rounds
    }
}

async fn change_over(
    servers: &[String],
    clients: &[(String, kube::Client)],
    current: &watch::Sender<String>,
) {
    let used = current.borrow().clone();
    let client =
        |server: &String| clients.iter().find(|(known, _)| known == server).map(|(_, client)| client);
    if let Some(client) = client(&used).filter(|_| servers.contains(&used))
        && is_ready(client).await
    {
        return;
    }
    let others: Vec<_> = servers.iter().filter(|server| **server != used).collect();
    let answers = join_all(others.iter().map(|server| async {
        match client(server) {
            Some(client) => is_ready(client).await,
            None => false,
        }
    }));
    let answers = answers.await;
    if let Some((server, _)) = others.iter().zip(answers).find(|(_, ready)| *ready) {
        tracing::warn!("the API server {used} is not ready; {server} is used from now on");
        current.send_replace((*server).clone());
    }
}

/// Anybody may ask this (ClusterRole `system:public-info-viewer`).
async fn is_ready(client: &kube::Client) -> bool {
    let Ok(request) = http::Request::get("/readyz").body(Vec::new()) else { return false };
    matches!(tokio::time::timeout(PROBE_TIME, client.request_text(request)).await, Ok(Ok(_)))
}

/// Keeps the list as the cluster has it, here and on disk.
async fn refresh(cluster: watch::Sender<Option<Cluster>>, mut joined: watch::Receiver<Option<Joined>>) {
    let mut pause = REFRESH_SOON;
    loop {
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            changed = joined.changed() => if changed.is_err() { return },
        }
        let Some(Joined { client, .. }) = joined.borrow_and_update().clone() else { continue };
        let Ok(Some((listed, vips))) = tokio::time::timeout(READ_TIME, read(&client)).await else { continue };
        pause = REFRESH;
        cluster.send_if_modified(|cluster| {
            let Some(cluster) = cluster else { return false };
            let servers = ordered(listed.clone(), cluster);
            let before = (&cluster.servers, &cluster.listed, &cluster.vips);
            if before == (&servers, &listed, &vips) {
                return false;
            }
            if cluster.servers != servers {
                tracing::info!("API servers: {}", servers.join(" "));
            }
            for (file, text) in [
                (cluster.file.clone(), serde_json::to_vec(&servers)),
                (vips_file(&cluster.file), serde_json::to_vec(&vips)),
            ] {
                if let Err(error) = write_atomically(&file, &text.unwrap_or_default(), 0o644) {
                    tracing::warn!("{}: cannot be written: {error}", file.display());
                }
            }
            (cluster.servers, cluster.listed, cluster.vips) = (servers, listed, vips);
            true
        });
    }
}

/// The list with the addresses for people, if the cluster has one that is not empty: one that Sheaf did not make has none.
async fn read(client: &kube::Client) -> Option<(Vec<String>, BTreeSet<IpAddr>)> {
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), NAMESPACE);
    Some(parse(&maps.get(CONFIG_MAP).await.ok()?.data?)).filter(|(servers, _)| !servers.is_empty())
}

fn parse(data: &BTreeMap<String, String>) -> (Vec<String>, BTreeSet<IpAddr>) {
    let (vips, servers): (Vec<_>, Vec<_>) = data.iter().partition(|(key, _)| key.starts_with(VIP));
    let fits = |server: &&String| server.starts_with("https://") && authority(server).is_some();
    let servers = servers.into_iter().map(|(_, server)| server).filter(fits).cloned().collect();
    (servers, vips.into_iter().filter_map(|(_, vip)| vip.parse().ok()).collect())
}

/// Addresses for people, as an administrator reads them.
pub async fn published_vips(admin: &kube::Client) -> anyhow::Result<Vec<IpAddr>> {
    let maps: Api<ConfigMap> = Api::namespaced(admin.clone(), NAMESPACE);
    let found = maps.get_opt(CONFIG_MAP).await;
    let found = found.with_context(|| format!("ConfigMap {NAMESPACE}/{CONFIG_MAP}: cannot be read"))?;
    Ok(parse(&found.and_then(|map| map.data).unwrap_or_default()).1.into_iter().collect())
}

/// Puts the API server of `node` into the list, with the address for people that its node.toml has, and lets nodes read it.
pub async fn publish(
    admin: &kube::Client,
    node: &str,
    server: &str,
    vip: Option<IpAddr>,
) -> anyhow::Result<()> {
    write(admin, node, json!(server), json!(vip)).await?;
    let metadata = json!({"name": CONFIG_MAP, "namespace": NAMESPACE});
    apply::all(
        admin,
        &[
            json!({
                "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": metadata,
                "rules": [{"apiGroups": [""], "resources": ["configmaps"], "resourceNames": [CONFIG_MAP], "verbs": ["get"]}],
            }),
            json!({
                "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": metadata,
                "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": CONFIG_MAP},
                "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "Group", "name": "system:nodes"}],
            }),
        ],
    )
    .await
}

/// Takes the API server of `node` out of the list.
pub async fn withdraw(admin: &kube::Client, node: &str) -> anyhow::Result<()> {
    write(admin, node, json!(null), json!(null)).await
}

/// Each node has a key of its own, so they do not overwrite one another.
async fn write(
    admin: &kube::Client,
    node: &str,
    value: serde_json::Value,
    vip: serde_json::Value,
) -> anyhow::Result<()> {
    let maps: Api<ConfigMap> = Api::namespaced(admin.clone(), NAMESPACE);
    let data = json!({node: value, format!("{VIP}{node}"): vip});
    let patch = json!({"metadata": {"name": CONFIG_MAP, "namespace": NAMESPACE}, "data": data});
    match maps.patch(CONFIG_MAP, &PatchParams::default(), &Patch::Merge(&patch)).await {
        Err(error) if is_status(&error, 404) && value.is_null() => Ok(()),
        Err(error) if is_status(&error, 404) => {
            let mut made = patch;
            if let Some(data) = made["data"].as_object_mut() {
                data.retain(|_, value| !value.is_null());
            }
            Ok(maps.create(&PostParams::default(), &serde_json::from_value(made)?).await.map(drop)?)
        }
        answer => answer.map(drop).with_context(|| format!("ConfigMap {NAMESPACE}/{CONFIG_MAP}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    #[test]
    fn the_server_of_this_machine_comes_first_and_that_of_node_toml_is_never_lost() {
        let cluster = Cluster {
            configured: "https://api.example:6443".into(),
            own: Some("https://192.0.2.12:6443".into()),
            ..Cluster::default()
        };
        let listed = ["https://192.0.2.12:6443", "https://192.0.2.11:6443"].map(str::to_owned).to_vec();
        assert_eq!(
            ordered(listed, &cluster),
            ["https://192.0.2.12:6443", "https://192.0.2.11:6443", "https://api.example:6443"]
        );
        assert_eq!(ordered(Vec::new(), &cluster).len(), 2);
    }

    #[test]
    fn the_address_for_people_is_in_the_list_and_is_no_server_of_agents() {
        let data = [
            ("a", "https://192.0.2.11:6443"),
            ("b", "https://192.0.2.12:6443"),
            ("c", "http://192.0.2.13"),
            ("VIP_a", "192.0.2.100"),
            ("VIP_b", "192.0.2.100"),
            ("VIP_c", "elsewhere"),
        ];
        let (servers, vips) = parse(&data.map(|(key, value)| (key.to_owned(), value.to_owned())).into());
        assert_eq!(servers, ["https://192.0.2.11:6443", "https://192.0.2.12:6443"]);
        assert_eq!(vips, [IpAddr::from([192, 0, 2, 100])].into());
    }

    #[test]
    fn a_server_is_connected_to_by_host_and_port() {
        assert_eq!(authority("https://[2001:db8::1]:6443").unwrap(), "[2001:db8::1]:6443");
        assert_eq!(authority("https://api.example").unwrap(), "api.example:443");
        assert_eq!(authority("/readyz"), None);
    }

    /// A server that sends `word` on each connection, and keeps it open.
    async fn sends(word: &'static [u8]) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = format!("https://{}", listener.local_addr().unwrap());
        tokio::spawn(async move {
            while let Ok((mut near, _)) = listener.accept().await {
                tokio::spawn(async move {
                    near.write_all(word).await.unwrap();
                    let _ = near.read(&mut [0]).await;
                });
            }
        });
        server
    }

    #[tokio::test]
    async fn when_another_server_is_used_open_connections_are_closed_and_new_ones_go_there() {
        let (first, second) = (sends(b"first!").await, sends(b"second").await);
        let (_joined, receiver) = watch::channel(None);
        let servers = Servers::start(receiver).await.unwrap();
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("api-servers.json");
        std::fs::write(&file, serde_json::to_vec(&[&second]).unwrap()).unwrap();
        servers.lead_to(&first, Some(&first), "", file);
        assert_eq!(servers.current(), first);
        let mut word = [0; 6];
        let mut open = TcpStream::connect(("127.0.0.1", servers.port)).await.unwrap();
        open.read_exact(&mut word).await.unwrap();
        assert_eq!(&word, b"first!");
        servers.current.send_replace(second);
        assert_eq!(open.read(&mut word).await.unwrap(), 0, "it is closed");
        let mut open = TcpStream::connect(("127.0.0.1", servers.port)).await.unwrap();
        open.read_exact(&mut word).await.unwrap();
        assert_eq!(&word, b"second");
    }
}
