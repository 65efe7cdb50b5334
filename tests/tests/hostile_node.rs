//! A hostile node: what somebody tries who holds one node's certificate, or a bootstrap token, on the real API server.
//!
//! Why here: what the API server refuses, only the API server can say: Node authorizer, NodeRestriction, RBAC, the
//! authorization configuration, Sheaf's policies and the approver together. Every row of the table below is tried and
//! printed (`cargo test -p sheaf-tests --features all --test all hostile_node -- --nocapture`); docs/security.md shows the same rows.

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::certificates::v1::CertificateSigningRequest;
use k8s_openapi::api::core::v1::Node;
use kube::api::{Api, Patch, PatchParams, PostParams};
use kube::{Client, ResourceExt as _};
use serde_json::{Value, json};
use sheaf_agent::cluster::Hosts;
use sheaf_agent::cluster::identity::{CLIENT, Identity, SERVING, Store};
use sheaf_agent::cluster::keys::{Key, Subject};
use sheaf_agent::cluster::kubeconfig::{self, Credentials};
use sheaf_agent::cluster::planes::{invite, parcel, parcel::CertificateKey};
use sheaf_agent::cluster::token::{self, Grant, Token};
use sheaf_agent::status::Phase;
use sheaf_host::fakes::{FakeRun, FakeUnits};
use sheaf_tests::cluster::{AgentNode, RunningAgent, TOKEN};
use sheaf_tests::controlled::{Controlled, wait};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

/// Longest wait for anything here; the machine is shared with other tests.
const TIMEOUT: Duration = Duration::from_secs(90);
/// Addresses of the two nodes.
const VICTIM: &str = "192.0.2.7";
const HOSTILE: &str = "192.0.2.8";

/// A node that joined, its files, and the identity that it got.
struct Joined {
    _agent: RunningAgent,
    node: AgentNode,
    client: Client,
}

/// A cluster with a control-plane node, a node n1, and the hostile n2.
struct Scene {
    on: Controlled,
    victim: Joined,
    hostile: Joined,
    /// What was tried, and what came of it.
    rows: Vec<(&'static str, &'static str, String)>,
}

async fn new_token(on: &Controlled) -> Result<Token> {
    let token = Token::generate()?;
    let grant = Grant { lifetime: token::LIFETIME, description: "a test", only_for: None };
    token::allow(&on.client, &token, grant).await?;
    Ok(token)
}

async fn join(on: &Controlled, name: &str, address: &str, token: &str) -> Result<Joined> {
    let node = on.plane.joining(name, name, token, &on.plane.ca_hash)?;
    let hosts = Hosts { run: Arc::new(FakeRun::default()), units: Arc::new(FakeUnits::default()) };
    let agent = node.start_at(address.parse()?, hosts)?;
    let mut status = agent.ctx.status.subscribe();
    let ready = status.wait_for(|status| status.cluster.phase == Phase::Ready);
    tokio::time::timeout(TIMEOUT, ready).await.with_context(|| format!("{name} does not become ready"))??;
    let identity = Store::of(&node.paths()).load(CLIENT).context("it has a certificate")?;
    let ca = Store::of(&node.paths()).ca().context("it knows the CA")?;
    let credentials = Credentials::Certificate(&identity.certificate, &identity.key);
    let client = kubeconfig::client(&on.plane.server, Some(&ca), credentials).await?;
    Ok(Joined { _agent: agent, node, client })
}

impl Scene {
    async fn start() -> Result<Self> {
        let on = Controlled::start().await?;
        // The control plane's own node, which the other cases do without.
        let nodes: Api<Node> = Api::all(on.client.clone());
        let plane = json!({
            "metadata": {"name": "plane", "labels": {"node-role.kubernetes.io/control-plane": ""}},
            "status": {"addresses": [{"type": "InternalIP", "address": on.plane.address}]},
        });
        nodes.create(&PostParams::default(), &serde_json::from_value(plane.clone())?).await?;
        nodes.patch_status("plane", &PatchParams::default(), &Patch::Merge(&plane)).await?;
        let victim = join(&on, "n1", VICTIM, TOKEN).await?;
        let hostile = join(&on, "n2", HOSTILE, &new_token(&on).await?.reveal()).await?;
        let scene = Self { on, victim, hostile, rows: Vec::new() };
        // The record of addresses must know both before it can protect them.
        scene.enforced().await?;
        Ok(scene)
    }

    /// Waits until a claim of the victim's and of the API server's address is refused: the API server reads the record
    /// of addresses some moments after the controller wrote it.
    async fn enforced(&self) -> Result<()> {
        for address in [VICTIM.to_owned(), self.on.plane.address.to_string()] {
            wait(&format!("{address} is known to be somebody's"), async || {
                Ok(self.claim("InternalIP", &address, true).await.err())
            })
            .await?;
        }
        Ok(())
    }

    /// Reports an address of n2 beside its own.
    async fn claim(&self, kind: &str, address: &str, dry_run: bool) -> kube::Result<Node> {
        let nodes: Api<Node> = Api::all(self.hostile.client.clone());
        let mut addresses = nodes.get("n2").await?.status.unwrap_or_default().addresses.unwrap_or_default();
        addresses
            .push(k8s_openapi::api::core::v1::NodeAddress { type_: kind.into(), address: address.into() });
        // A patch, because the whole Node as it was read a moment ago may bring an old list of taints.
        let claim = Patch::Merge(json!({"status": {"addresses": addresses}}));
        nodes.patch_status("n2", &PatchParams { dry_run, ..PatchParams::default() }, &claim).await
    }

    /// Notes that `tried` was refused with a text that holds `because`; anything else fails the case.
    fn refused<T>(
        &mut self,
        finding: &'static str,
        tried: &'static str,
        because: &str,
        answer: kube::Result<T>,
    ) -> Result<()> {
        let Err(error) = answer else { anyhow::bail!("{finding}: allowed: {tried}") };
        let kube::Error::Api(status) = &error else { anyhow::bail!("{finding}: {tried}: {error}") };
        let text = status.message.replace('\n', " ");
        ensure!(matches!(status.code, 401 | 403 | 422), "{finding}: {tried}: HTTP {}: {text}", status.code);
        ensure!(text.contains(because), "{finding}: {tried}: refused for another reason: {text}");
        self.rows.push((finding, tried, text));
        Ok(())
    }

    /// Posts a certificate request as `client` and returns what the approver decides: type and message.
    async fn asks(&self, client: &Client, signer: &str, request: String) -> Result<(String, String)> {
        match self.post(client, signer, request).await {
            Ok(name) => self.verdict(&name).await,
            // NodeRestriction refuses some of them before there is anything to approve.
            Err(error) => match error.downcast_ref::<kube::Error>() {
                Some(kube::Error::Api(status)) if status.code == 403 => {
                    Ok(("Denied".into(), status.message.clone()))
                }
                _ => Err(error),
            },
        }
    }

    async fn post(&self, client: &Client, signer: &str, request: String) -> Result<String> {
        let usage = if signer.ends_with("serving") { "server auth" } else { "client auth" };
        let object: CertificateSigningRequest = serde_json::from_value(json!({
            "metadata": {"generateName": "hostile-"},
            "spec": {
                "request": k8s_openapi::ByteString(request.into_bytes()),
                "signerName": format!("kubernetes.io/{signer}"), "usages": ["digital signature", usage],
            },
        }))?;
        let requests: Api<CertificateSigningRequest> = Api::all(client.clone());
        Ok(requests.create(&PostParams::default(), &object).await?.name_any())
    }

    async fn verdict(&self, name: &str) -> Result<(String, String)> {
        let requests: Api<CertificateSigningRequest> = Api::all(self.on.client.clone());
        wait(&format!("certificate request {name} is decided"), async || {
            let conditions = requests.get(name).await?.status.and_then(|status| status.conditions);
            let first = conditions.into_iter().flatten().next();
            Ok(first.map(|condition| (condition.type_, condition.message.unwrap_or_default())))
        })
        .await
    }

    /// Notes that a certificate request was denied with a message that holds `because`.
    async fn denied(
        &mut self,
        finding: &'static str,
        tried: &'static str,
        because: &str,
        client: &Client,
        signer: &str,
        request: String,
    ) -> Result<()> {
        let (verdict, message) = self.asks(client, signer, request).await?;
        ensure!(verdict == "Denied", "{finding}: {tried}: {verdict}: {message}");
        ensure!(message.contains(because), "{finding}: {tried}: denied for another reason: {message}");
        self.rows.push((finding, tried, message));
        Ok(())
    }

    async fn by_token(&self, token: &Token) -> Result<Client> {
        let ca = Store::of(&self.victim.node.paths()).ca().context("the CA")?;
        kubeconfig::client(&self.on.plane.server, Some(&ca), Credentials::Token(&token.reveal())).await
    }

    /// A raw request as the hostile node.
    async fn call(&self, method: &str, path: &str, body: Value) -> kube::Result<String> {
        let request = http::Request::builder().method(method).uri(path).header(
            "content-type",
            match method {
                "PATCH" => "application/merge-patch+json",
                _ => "application/json",
            },
        );
        let body = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
        self.hostile.client.request_text(request.body(body).expect("a request")).await
    }

    fn print(&self) {
        println!("| finding | tried | answer |\n|---|---|---|");
        for (finding, tried, text) in &self.rows {
            let text: String = text.chars().take(160).collect();
            println!("| {finding} | {tried} | {} |", text.replace('|', "\\|"));
        }
    }
}

fn request(node: &str, names: &[&str], addresses: &[IpAddr]) -> String {
    let names: Vec<String> = names.iter().map(ToString::to_string).collect();
    let key = Key::generate().expect("a key");
    key.request(&Subject::node(node), &names, addresses).expect("a request")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_cannot_become_the_api_server_nor_another_node() -> Result<()> {
    let mut scene = Scene::start().await?;
    let api = scene.on.plane.address;
    let client = scene.hostile.client.clone();

    // Finding 3: its status, and serving certificates.
    for (tried, kind, address, because) in [
        (
            "reports the API server's address as its own",
            "InternalIP",
            api.to_string(),
            "is an address of Node plane",
        ),
        (
            "reports another node's address as its own",
            "InternalIP",
            VICTIM.into(),
            "is an address of Node n1",
        ),
        (
            "reports the DNS name kubernetes.default.svc",
            "InternalDNS",
            "kubernetes.default.svc".into(),
            "only addresses of the types InternalIP, ExternalIP and Hostname",
        ),
        ("reports another node's name", "Hostname", "n1".into(), "its own name"),
        ("reports a loopback address", "InternalIP", "127.0.0.1".into(), "no loopback"),
        ("reports a link-local address", "ExternalIP", "169.254.169.254".into(), "no loopback, link-local"),
        ("reports a Service's address", "InternalIP", "10.96.0.1".into(), "Services"),
        (
            "reports another spelling of another node's address",
            "InternalIP",
            format!("::ffff:{VICTIM}"),
            "RFC 5952",
        ),
    ] {
        let answer = scene.claim(kind, &address, false).await;
        scene.refused("S3", tried, because, answer)?;
    }
    for (tried, names, addresses, because) in [
        (
            "asks for a serving certificate of the API server's address",
            &["n2"][..],
            vec![api],
            "is an address of the API server",
        ),
        (
            "asks for a serving certificate of another node's address",
            &["n2"],
            vec![VICTIM.parse()?],
            "is an address of Node n1",
        ),
        (
            "asks for a serving certificate of kubernetes.default.svc",
            &["kubernetes.default.svc"],
            vec![],
            "is not the name of node n2",
        ),
        (
            "asks for a serving certificate of a Service's address",
            &["n2"],
            vec!["10.96.0.1".parse()?],
            "no node has it",
        ),
        (
            "asks for a serving certificate of 127.0.0.1",
            &["n2"],
            vec!["127.0.0.1".parse()?],
            "no node has it",
        ),
    ] {
        let asks = request("n2", names, &addresses);
        scene.denied("S3", tried, because, &client, "kubelet-serving", asks).await?;
    }
    let asks = request("n1", &["n1"], &[VICTIM.parse()?]);
    scene
        .denied(
            "S3",
            "asks for another node's serving certificate",
            "can only create a node CSR with CN=system:node:n2",
            &client,
            "kubelet-serving",
            asks,
        )
        .await?;

    // Its honest serving certificate does not make it the API server either.
    let store = Store::of(&scene.hostile.node.paths());
    let serving = wait("n2 has a serving certificate", async || Ok(store.load(SERVING))).await?;
    let ca = store.ca().context("the CA")?;
    let error = impostor::connect(&serving, &ca).await;
    ensure!(error.contains("UnknownIssuer"), "{error}");
    scene.rows.push(("S3", "answers with its serving certificate in the API server's place", error));

    // Finding 4: client certificates.
    let asks = request("n1", &[], &[]);
    scene
        .denied(
            "S4",
            "renews another node's certificate",
            "can only create a node CSR with CN=system:node:n2",
            &client,
            "kube-apiserver-client-kubelet",
            asks,
        )
        .await?;
    let mut masters = Subject::node("n2");
    masters.organisations.push("system:masters".into());
    let asks = Key::generate()?.request(&masters, &[], &[])?;
    // The API server itself refuses some of these.
    match scene.post(&client, "kube-apiserver-client-kubelet", asks).await {
        Err(error) => {
            scene.rows.push(("S4", "asks for a certificate in group system:masters", format!("{error:#}")))
        }
        Ok(name) => {
            let (verdict, message) = scene.verdict(&name).await?;
            ensure!(verdict == "Denied", "{message}");
            scene.rows.push(("S4", "asks for a certificate in group system:masters", message));
        }
    }
    let token = new_token(&scene.on).await?;
    let by_token = scene.by_token(&token).await?;
    for (tried, name, because) in [
        ("a token's holder asks for another node's name", "n1", "node n1 has another key"),
        ("a token's holder asks for the control-plane node's name", "plane", "node plane has another key"),
    ] {
        scene
            .denied("S4", tried, because, &by_token, "kube-apiserver-client-kubelet", request(name, &[], &[]))
            .await?;
    }
    let (first, second) = (request("n3", &[], &[]), request("n4", &[], &[]));
    let signer = "kube-apiserver-client-kubelet";
    let posted = tokio::join!(scene.post(&by_token, signer, first), scene.post(&by_token, signer, second));
    let verdicts = [scene.verdict(&posted.0?).await?, scene.verdict(&posted.1?).await?];
    let approved = verdicts.iter().filter(|(verdict, _)| verdict == "Approved").count();
    ensure!(approved == 1, "two requests at once by one token: {verdicts:?}");
    let denied = verdicts.into_iter().find(|(verdict, _)| verdict == "Denied").context("one is denied")?.1;
    ensure!(denied.contains("a token is good for one node"), "{denied}");
    scene.rows.push(("S4", "two machines use one token at the same time", denied));
    for (tried, method, path, body) in [
        (
            "reads which key has which name",
            "GET",
            "/api/v1/namespaces/sheaf-system/configmaps/node-identities",
            Value::Null,
        ),
        (
            "releases another node's name",
            "PATCH",
            "/api/v1/namespaces/sheaf-system/configmaps/node-identities",
            json!({"data": {"n1": "{\"released\":true}"}}),
        ),
        (
            "writes whose an address is",
            "PATCH",
            "/api/v1/namespaces/sheaf-system/configmaps/node-addresses",
            json!({"data": {}}),
        ),
        ("reads bootstrap tokens", "GET", "/api/v1/namespaces/kube-system/secrets", Value::Null),
        (
            "makes a bootstrap token",
            "POST",
            "/api/v1/namespaces/kube-system/secrets",
            json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "bootstrap-token-aaaaaa"}, "type": "bootstrap.kubernetes.io/token"}),
        ),
        (
            "approves a certificate request",
            "PATCH",
            "/apis/certificates.k8s.io/v1/certificatesigningrequests/x/approval",
            json!({"status": {}}),
        ),
    ] {
        let answer = scene.call(method, path, body).await;
        scene.refused("S4", tried, "", answer)?;
    }
    // A token for one more control-plane node is out: its keys are for its holder alone.
    let plane_paths = scene.on.plane.paths.clone();
    let table = invite::create(&plane_paths, &*scene.on.plane.hosts.run, token::LIFETIME, None).await?;
    let invitation = table.lines().find_map(|line| line.strip_prefix("token = \"")).context("a token")?;
    let id = invitation.split('.').next().unwrap_or_default();
    let sealed = format!("/api/v1/namespaces/kube-system/secrets/{}", parcel::name(id));
    let answer = scene.call("GET", &sealed, Value::Null).await;
    scene.refused("S4", "reads the keys that are on their way to a control-plane node", "", answer)?;
    let answer = scene.call("DELETE", &sealed, Value::Null).await;
    scene.refused("S4", "deletes the keys that are on their way to a control-plane node", "", answer)?;
    let request = http::Request::get(sealed.as_str()).body(Vec::new())?;
    let answer = scene.by_token(&new_token(&scene.on).await?).await?.request_text(request).await;
    scene.refused(
        "S4",
        "the holder of a worker's token reads the keys of a control-plane node",
        "",
        answer,
    )?;
    let holder = scene.by_token(&invitation.trim_end_matches('"').parse()?).await?;
    for (tried, path) in [
        ("the holder of a control-plane token reads other Secrets", "/api/v1/namespaces/kube-system/secrets"),
        ("the holder of a control-plane token lists Nodes' Pods", "/api/v1/pods"),
    ] {
        let answer = holder.request_text(http::Request::get(path).body(Vec::new())?).await;
        scene.refused("S4", tried, "", answer)?;
    }
    let other = CertificateKey::generate()?;
    let opened = parcel::receive(&holder, id, &other).await.map(drop);
    let without = opened.err().context("opened with another certificate-key")?.to_string();
    ensure!(without == "certificate-key does not decrypt the keys of the cluster", "{without}");
    scene.rows.push(("S4", "opens the keys of the cluster without their certificate-key", without));
    let answer = scene
        .call(
            "PATCH",
            "/api/v1/namespaces/kube-public/configmaps/sheaf-api-servers",
            json!({"data": {"plane": "https://192.0.2.66:6443"}}),
        )
        .await;
    scene.refused("S4", "changes the list of API servers", "", answer)?;
    let label = json!({"metadata": {"labels": {"node-role.kubernetes.io/control-plane": ""}}});
    let answer = scene.call("PATCH", "/api/v1/nodes/n2", label).await;
    scene.refused("S4", "makes its Node one of the control plane", "", answer)?;
    // etcd listens on the node's address, and answers certificates of its own CA alone.
    let identity = Store::of(&scene.hostile.node.paths()).load(CLIENT).context("it has a certificate")?;
    let etcd = format!("https://{api}:2379");
    for credentials in
        [Credentials::Anonymous, Credentials::Certificate(&identity.certificate, &identity.key)]
    {
        let client = kubeconfig::client(&etcd, None, credentials).await?;
        let answer = client.request_text(http::Request::get("/health").body(Vec::new())?).await;
        ensure!(!matches!(answer, Ok(_) | Err(kube::Error::Api(_))), "etcd answers: {answer:?}");
    }
    scene.rows.push((
        "S4",
        "asks etcd on the control plane's address",
        "TLS: a certificate of etcd's CA".into(),
    ));
    // Its labels it does change: images come and go.
    let labels = json!({"metadata": {"labels": {"image.sheaf.dev/guest": "present"}}});
    scene.call("PATCH", "/api/v1/nodes/n2", labels).await.context("its own label")?;
    let answer = scene
        .call(
            "PATCH",
            "/api/v1/nodes/n2",
            json!({"metadata": {"annotations": {"sheaf.dev/control-plane-taint": "off"}}}),
        )
        .await;
    scene.refused(
        "S4",
        "writes the controller's annotations on its Node",
        "are for the controller",
        answer,
    )?;
    scene.print();
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_reads_and_writes_what_is_its_own_alone() -> Result<()> {
    let mut scene = Scene::start().await?;
    // What n1 has: a disk, a pool, a volume with a source.
    let admin: [(&str, Value); 5] = [
        (
            "blockdevices",
            json!({"kind": "BlockDevice", "metadata": {"name": "n1.serial-a"}, "spec": {"nodeName": "n1", "identity": {"serial": "A"}}}),
        ),
        (
            "storagepools",
            json!({"kind": "StoragePool", "metadata": {"name": "default.n1"}, "spec": {"nodeName": "n1", "pool": "default"}}),
        ),
        (
            "localvolumes",
            json!({"kind": "LocalVolume", "metadata": {"name": "pvc-1"}, "spec": {"nodeName": "n1", "pool": "default", "sizeBytes": 8 << 20, "source": {"blank": {}}}}),
        ),
        (
            "nodenetworkstates",
            json!({"kind": "NodeNetworkState", "metadata": {"name": "n1"}, "spec": {"nodeName": "n1"}}),
        ),
        (
            "nodeupdates",
            json!({"kind": "NodeUpdate", "metadata": {"name": "n1"}, "spec": {"nodeName": "n1", "version": "0.2.0"}}),
        ),
    ];
    for (resource, mut object) in admin {
        object["apiVersion"] = json!("sheaf.dev/v1alpha1");
        let body = object.to_string().into_bytes();
        let path = format!("/apis/sheaf.dev/v1alpha1/{resource}");
        let request = http::Request::post(path).header("content-type", "application/json").body(body)?;
        scene.on.client.request_text(request).await.with_context(|| resource.to_owned())?;
    }
    let at = |rest: &str| format!("/apis/sheaf.dev/v1alpha1/{rest}");
    // Its own it may list and watch.
    for resource in [
        "blockdevices",
        "storagepools",
        "localvolumes",
        "nodenetworkstates",
        "nodenetworkenactments",
        "nodeupdates",
    ] {
        scene
            .call("GET", &at(&format!("{resource}?fieldSelector=spec.nodeName%3Dn2")), Value::Null)
            .await
            .with_context(|| format!("its own {resource}"))?;
    }
    scene
        .call("GET", &at("nodenetworkpolicies"), Value::Null)
        .await
        .context("policies are for all to read")?;
    for (tried, path) in [
        ("lists every node's volumes", at("localvolumes")),
        ("lists another node's volumes", at("localvolumes?fieldSelector=spec.nodeName%3Dn1")),
        (
            "lists the volumes of all nodes but its own",
            at("localvolumes?fieldSelector=spec.nodeName%21%3Dn2"),
        ),
        ("watches every node's volumes", at("localvolumes?watch=true&timeoutSeconds=1")),
        ("reads another node's volume", at("localvolumes/pvc-1")),
        ("lists every node's disks", at("blockdevices")),
        ("reads another node's disk", at("blockdevices/n1.serial-a")),
        ("reads another node's disk's status", at("blockdevices/n1.serial-a/status")),
        ("lists every node's pools", at("storagepools?labelSelector=sheaf.dev/node%3Dn2")),
        ("reads another node's pool", at("storagepools/default.n1")),
        ("lists every node's links", at("nodenetworkstates")),
        ("reads another node's links", at("nodenetworkstates/n1")),
        ("lists every node's updates", at("nodeupdates")),
        ("reads another node's update", at("nodeupdates/n1")),
        ("lists what became of every node's network policies", at("nodenetworkenactments")),
        ("lists every node's Pods", "/api/v1/pods".into()),
        ("lists every Secret", "/api/v1/secrets".into()),
        ("reads another node's Node", "/api/v1/nodes/n1".into()),
    ] {
        let answer = scene.call("GET", &path, Value::Null).await;
        scene.refused("S26", tried, "", answer)?;
    }
    let disk = |name: &str, node: &str, more: Value| {
        let mut object = json!({"apiVersion": "sheaf.dev/v1alpha1", "kind": "BlockDevice", "metadata": {"name": name}, "spec": {"nodeName": node, "identity": {"serial": "B"}}});
        if let (Some(spec), Value::Object(more)) = (object["spec"].as_object_mut(), more) {
            spec.extend(more);
        }
        object
    };
    scene
        .call("POST", &at("blockdevices"), disk("n2.serial-b", "n2", json!({})))
        .await
        .context("its own disk")?;
    // As a kubelet makes it: NodeRestriction has nothing against it.
    let uid = Api::<Node>::all(scene.on.client.clone()).get("n2").await?.uid();
    let owner = json!([{"apiVersion": "v1", "kind": "Node", "name": "n2", "uid": uid, "controller": true}]);
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "mirror", "ownerReferences": owner,
            "annotations": {"kubernetes.io/config.mirror": "x"}},
        "spec": {"nodeName": "n2", "containers": [{"name": "a", "image": "a"}]}});
    for (tried, method, path, body, because) in [
        (
            "shows a disk of another node",
            "POST",
            at("blockdevices"),
            disk("n1.serial-b", "n1", json!({})),
            "writes only what has its own name",
        ),
        (
            "has its own disk wiped",
            "POST",
            at("blockdevices"),
            disk("n2.serial-c", "n2", json!({"wipe": {"confirmSerial": "B"}})),
            "set by the operator",
        ),
        (
            "gives its own disk to a pool",
            "PATCH",
            at("blockdevices/n2.serial-b"),
            json!({"spec": {"role": "pool", "pool": "default"}}),
            "the spec is for the operator",
        ),
        (
            "reports on another node's disk",
            "PATCH",
            at("blockdevices/n1.serial-a/status"),
            json!({"status": {"state": "Missing"}}),
            "writes only what has its own name",
        ),
        (
            "reports on another node's volume",
            "PATCH",
            at("localvolumes/pvc-1/status"),
            json!({"status": {"phase": "Ready"}}),
            "writes only what has its own name",
        ),
        ("deletes another node's volume", "DELETE", at("localvolumes/pvc-1"), Value::Null, ""),
        ("makes a volume", "POST", at("localvolumes"), json!({}), ""),
        (
            "orders its own update",
            "POST",
            at("nodeupdates"),
            json!({"apiVersion": "sheaf.dev/v1alpha1", "kind": "NodeUpdate", "metadata": {"name": "n2"}, "spec": {"nodeName": "n2", "version": "0.2.0"}}),
            "",
        ),
        ("makes a network policy", "POST", at("nodenetworkpolicies"), json!({}), ""),
        (
            "makes a CSINode",
            "POST",
            "/apis/storage.k8s.io/v1/csinodes".into(),
            json!({"apiVersion": "storage.k8s.io/v1", "kind": "CSINode", "metadata": {"name": "n2"}, "spec": {"drivers": []}}),
            "may not create csinodes",
        ),
        ("makes a Pod", "POST", "/api/v1/namespaces/default/pods".into(), pod, "may not create pods"),
        (
            "makes a VM",
            "POST",
            "/apis/kubevirt.io/v1/namespaces/default/virtualmachines".into(),
            json!({}),
            "",
        ),
        (
            "takes its own taint off",
            "PATCH",
            "/api/v1/nodes/n2".into(),
            json!({"spec": {"taints": []}}),
            "is not allowed to modify taints",
        ),
        (
            "calls itself a control-plane node",
            "PATCH",
            "/api/v1/nodes/n2".into(),
            json!({"metadata": {"labels": {"node-role.kubernetes.io/control-plane": ""}}}),
            "is not allowed to modify labels",
        ),
        (
            "writes another node's status",
            "PATCH",
            "/api/v1/nodes/n1/status".into(),
            json!({"status": {"phase": "Running"}}),
            "is not allowed to modify node",
        ),
        (
            "renews another node's lease",
            "PATCH",
            "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/n1".into(),
            json!({"spec": {"renewTime": null}}),
            "",
        ),
        (
            "takes the controller's lease",
            "PATCH",
            "/apis/coordination.k8s.io/v1/namespaces/sheaf-system/leases/sheaf-controller".into(),
            json!({"spec": {"holderIdentity": "n2"}}),
            "",
        ),
        (
            "takes the lease of the address for people",
            "PATCH",
            "/apis/coordination.k8s.io/v1/namespaces/kube-system/leases/sheaf-vip-192.0.2.100".into(),
            json!({"spec": {"holderIdentity": "n2"}}),
            "",
        ),
        (
            "makes a lease of the address for people",
            "POST",
            "/apis/coordination.k8s.io/v1/namespaces/kube-system/leases".into(),
            json!({"metadata": {"name": "sheaf-vip-192.0.2.101"}, "spec": {"holderIdentity": "n2"}}),
            "",
        ),
        (
            "publishes an address for people of its own",
            "PATCH",
            "/api/v1/namespaces/kube-public/configmaps/sheaf-api-servers".into(),
            json!({"data": {"VIP_n2": "192.0.2.101"}}),
            "",
        ),
        (
            "changes a policy",
            "PATCH",
            "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicies/sheaf-node-owns".into(),
            json!({"spec": {}}),
            "",
        ),
        (
            "gives nodes another role",
            "PATCH",
            "/apis/rbac.authorization.k8s.io/v1/clusterroles/sheaf:node".into(),
            json!({"rules": []}),
            "",
        ),
    ] {
        let answer = scene.call(method, &path, body).await;
        scene.refused("S26", tried, because, answer)?;
    }
    scene.print();
    Ok(())
}

mod impostor {
    //! Somebody who answers in the API server's place with a node's serving certificate.

    use super::*;
    use std::io::{Read as _, Write as _};

    /// What a client says that trusts `ca` and meets a server with `identity`.
    pub async fn connect(identity: &Identity, ca: &str) -> String {
        use rustls::pki_types::pem::PemObject as _;
        let certificate =
            rustls::pki_types::CertificateDer::from_pem_slice(identity.certificate.as_bytes()).unwrap();
        let key = rustls::pki_types::PrivateKeyDer::from_pem_slice(identity.key.as_bytes()).unwrap();
        let config =
            rustls::ServerConfig::builder_with_provider(rustls::crypto::ring::default_provider().into())
                .with_safe_default_protocol_versions()
                .unwrap()
                .with_no_client_auth()
                .with_single_cert(vec![certificate], key)
                .unwrap();
        let listener = std::net::TcpListener::bind((HOSTILE_LISTENS, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        std::thread::spawn(move || {
            for connection in listener.incoming().flatten() {
                let mut tls = rustls::ServerConnection::new(Arc::new(config.clone())).unwrap();
                let mut connection = connection;
                let mut stream = rustls::Stream::new(&mut tls, &mut connection);
                let mut some = [0; 1024];
                if stream.read(&mut some).is_ok() {
                    let body = r#"{"major": "1", "minor": "37", "gitVersion": "v1.37.2"}"#;
                    let _ = write!(
                        stream,
                        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
                        body.len()
                    );
                }
            }
        });
        let server = format!("https://{HOSTILE_LISTENS}:{port}");
        let client = kubeconfig::client(&server, Some(ca), Credentials::Anonymous).await.unwrap();
        match client.apiserver_version().await {
            Ok(version) => format!("believed: {version:?}"),
            Err(error) => format!("{error:?}").chars().take(400).collect(),
        }
    }

    /// The impostor has the loopback; its certificate names another address, which is checked after the issuer.
    const HOSTILE_LISTENS: &str = "127.0.0.1";
}
