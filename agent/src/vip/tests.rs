//! Rounds of the controller against an API server that keeps Leases in memory, on a kernel in memory.

use super::controller::Controller;
use super::*;
use crate::channels::{self, Publish};
use crate::paths::Paths;
use crate::reconcile::{Controller as _, Woken};
use crate::status::VipSection;
use bytes::Bytes;
use http::{Method, Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use sheaf_config::load::parse_node_config;
use sheaf_host::fakes::{FakeSegments, FakeVirtualAddresses};
use sheaf_host::segment::{Interface, Segment};
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};
use tokio::net::TcpListener;

/// etcd behind the API servers of the test: one Lease.
#[derive(Default)]
struct Etcd {
    lease: Option<Value>,
    version: u64,
}

/// An API server of one machine.
#[derive(Clone, Default)]
struct Server {
    etcd: Arc<Mutex<Etcd>>,
    /// What /readyz says is no.
    unready: Arc<Mutex<bool>>,
}

impl Server {
    async fn answer(self, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
        let (parts, body) = request.into_parts();
        let body = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
        let (code, value) = self.decide(&parts.method, parts.uri.path(), &body);
        let answer = Response::builder().status(code).header("content-type", "application/json");
        Ok(answer.body(Full::new(Bytes::from(value.to_string()))).unwrap())
    }

    fn decide(&self, method: &Method, path: &str, body: &[u8]) -> (u16, Value) {
        let failure = |code: u16| {
            let reason = if code == 404 { "NotFound" } else { "Conflict" };
            let status =
                json!({"kind": "Status", "status": "Failure", "message": "", "reason": reason, "code": code});
            (code, status)
        };
        if path == "/readyz" {
            return if *self.unready.lock().unwrap() { failure(500) } else { (200, json!("ok")) };
        }
        let mut etcd = self.etcd.lock().unwrap_or_else(PoisonError::into_inner);
        if *method == Method::GET {
            return etcd.lease.clone().map_or(failure(404), |lease| (200, lease));
        }
        let mut lease: Value = serde_json::from_slice(body).unwrap();
        let version = |lease: &Value| lease["metadata"]["resourceVersion"].as_str().map(str::to_owned);
        let is_current =
            etcd.lease.as_ref().map_or(*method == Method::POST, |now| version(now) == version(&lease));
        if !is_current {
            return failure(409);
        }
        etcd.version += 1;
        lease["metadata"]["resourceVersion"] = json!(etcd.version.to_string());
        etcd.lease = Some(lease.clone());
        (200, lease)
    }

    async fn listen(&self) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, server) = (listener.local_addr().unwrap(), self.clone());
        tokio::spawn(async move {
            while let Ok((connection, _)) = listener.accept().await {
                let server = server.clone();
                let serve = service_fn(move |request| server.clone().answer(request));
                tokio::spawn(
                    hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(connection), serve),
                );
            }
        });
        address
    }
}

struct Machine {
    _root: tempfile::TempDir,
    ctx: Context,
    publish: Publish,
    server: Server,
    addresses: Arc<FakeVirtualAddresses>,
    controller: Controller,
}

impl Machine {
    async fn new(name: &str, etcd: &Arc<Mutex<Etcd>>) -> Self {
        let root = tempfile::tempdir().unwrap();
        let text = format!(
            "version = 1\nsystem.hostname = \"{name}\"\n[cluster]\nmode = \"create\"\nvip = \"192.0.2.100\"\n"
        );
        let config = parse_node_config("node.toml", &text).unwrap();
        let (ctx, mut publish) = channels::open(Paths::under(root.path()), config);
        publish.network.send_modify(|network| network.addresses = vec![[192, 0, 2, 10].into()]);
        let server = Server { etcd: etcd.clone(), ..Server::default() };
        let kubeconfig = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "c",
            "clusters": [{"name": "c", "cluster": {"server": format!("http://{}", server.listen().await)}}],
            "users": [{"name": "u", "user": {}}],
            "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
        });
        std::fs::create_dir_all(&ctx.paths.kubernetes).unwrap();
        std::fs::write(ctx.paths.kubernetes.join("super-admin.conf"), kubeconfig.to_string()).unwrap();
        let addresses = Arc::new(FakeVirtualAddresses::default());
        let segments = FakeSegments::default();
        segments.set(Segment {
            interfaces: vec![Interface {
                link: "br0".into(),
                mac: None,
                address: Some(([192, 0, 2, 10].into(), 24)),
            }],
            ..Segment::default()
        });
        let hosts = Hosts { segments: Arc::new(segments), addresses: addresses.clone() };
        let sections = std::mem::replace(&mut publish.sections, crate::status::open().1);
        let controller = Controller::new(ctx.clone(), sections.vip, hosts);
        Self { _root: root, ctx, publish, server, addresses, controller }
    }

    async fn round(&mut self) -> VipSection {
        self.controller.round(&Woken::start()).await;
        self.ctx.status.read().vip.clone()
    }

    fn has_it(&self) -> bool {
        self.addresses.had().held.is_some()
    }
}

fn holder(etcd: &Mutex<Etcd>) -> Value {
    etcd.lock().unwrap().lease.as_ref().map_or(Value::Null, |lease| lease["spec"]["holderIdentity"].clone())
}

#[tokio::test]
async fn one_of_two_nodes_has_the_address_and_the_other_says_which() {
    let etcd = Arc::default();
    let (mut a, mut b) = (Machine::new("a", &etcd).await, Machine::new("b", &etcd).await);
    let shown = a.round().await;
    assert_eq!((shown.is_here, shown.holder.as_deref(), &shown.problem), (true, Some("a"), &None));
    let had = a.addresses.had();
    let (link, address, lifetime) = had.held.unwrap();
    assert_eq!((link.as_str(), address.to_string().as_str(), had.announced), ("br0", "192.0.2.100", 1));
    assert!(lifetime <= election::HOLD && lifetime > election::HOLD / 2, "{lifetime:?}");
    let shown = b.round().await;
    assert_eq!((shown.is_here, shown.holder.as_deref(), b.has_it()), (false, Some("a"), false));
    a.round().await;
    assert!(a.has_it() && !b.has_it());
}

#[tokio::test]
async fn a_node_whose_api_server_is_not_ready_gives_the_address_up_at_once_and_another_takes_it() {
    let etcd = Arc::default();
    let (mut a, mut b) = (Machine::new("a", &etcd).await, Machine::new("b", &etcd).await);
    a.round().await;
    b.round().await;
    *a.server.unready.lock().unwrap() = true;
    let shown = a.round().await;
    assert!(!a.has_it() && !shown.is_here);
    let problem = shown.problem.unwrap();
    assert!(problem.starts_with("the API server of this node is not ready"), "{problem}");
    assert_eq!(holder(&etcd), json!(""), "the Lease is free: nobody waits for its end");
    assert!(b.round().await.is_here && b.has_it());
    // It does not come back by itself: that would end everybody's connections once more.
    *a.server.unready.lock().unwrap() = false;
    assert!(!a.round().await.is_here && !a.has_it());
}

#[tokio::test]
async fn a_node_that_goes_down_gives_the_address_up_before_its_services_stop() {
    let etcd = Arc::default();
    let mut a = Machine::new("a", &etcd).await;
    a.round().await;
    a.publish.shutting_down.send_replace(true);
    let shown = a.round().await;
    assert_eq!((a.has_it(), shown.problem.as_deref()), (false, Some("the machine is going down")));
    assert_eq!(holder(&etcd), json!(""));
}

#[tokio::test]
async fn an_agent_that_ends_leaves_no_address_and_one_that_was_killed_has_it_removed_at_the_next_start() {
    let etcd = Arc::default();
    let mut a = Machine::new("a", &etcd).await;
    a.round().await;
    a.controller.end().await;
    assert!(!a.has_it() && holder(&etcd) == json!(""));
    // As `kill -9` leaves it; meanwhile another node has taken the Lease.
    a.addresses.change(|had| had.held = Some(("br0".into(), [192, 0, 2, 100].into(), election::HOLD)));
    let mut b = Machine::new("b", &etcd).await;
    b.round().await;
    let again = Machine::new("a", &etcd).await;
    let hosts = Hosts { segments: Arc::new(FakeSegments::default()), addresses: a.addresses.clone() };
    let mut controller = Controller::new(again.ctx.clone(), a.publish.sections.vip, hosts);
    controller.round(&Woken::start()).await;
    assert_eq!(a.addresses.had().held, None);
}

#[tokio::test]
async fn an_address_that_another_machine_has_is_not_taken_and_the_message_names_it() {
    let etcd = Arc::default();
    let mut a = Machine::new("a", &etcd).await;
    a.addresses.change(|had| had.owner = Some("52:54:00:00:00:09".into()));
    let shown = a.round().await;
    assert!(!a.has_it());
    assert_eq!(
        shown.problem.as_deref(),
        Some(
            "192.0.2.100 is answered for by 52:54:00:00:00:09, which is another machine: choose a free address as cluster.vip of all \
             control-plane nodes"
        )
    );
    assert_eq!(holder(&etcd), json!(""));
}

#[tokio::test]
async fn an_address_that_cannot_be_put_on_the_link_is_given_to_another_node() {
    let etcd = Arc::default();
    let (mut a, mut b) = (Machine::new("a", &etcd).await, Machine::new("b", &etcd).await);
    a.addresses.change(|had| had.fails = true);
    let problem = a.round().await.problem.unwrap();
    assert!(problem.starts_with("192.0.2.100: cannot be looked for by ARP on br0"), "{problem}");
    assert!(b.round().await.is_here);
}

#[tokio::test]
async fn a_node_without_such_an_address_asks_nobody() {
    let etcd = Arc::default();
    let mut a = Machine::new("a", &etcd).await;
    let text = "version = 1\nsystem.hostname = \"a\"\n[cluster]\nmode = \"create\"\n";
    a.round().await;
    a.publish.config.send_replace(Arc::new(parse_node_config("node.toml", text).unwrap()));
    assert_eq!(a.round().await, VipSection::default());
    assert!(!a.has_it() && holder(&etcd) == json!(""), "what it had is given up");
}
