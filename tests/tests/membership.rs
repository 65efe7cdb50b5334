//! Agents against the real control plane: joining, refusals, restarts, leases.

use k8s_openapi::api::certificates::v1::CertificateSigningRequest;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{ConfigMap, Node, Secret};
use kube::api::{Api, ListParams, Patch, PatchParams};
use serde_json::json;
use sheaf_agent::cluster::create::kubeadm::ControlPlane as Plane;
use sheaf_agent::cluster::create::pki::Pki;
use sheaf_agent::cluster::identity::{CLIENT, Store};
use sheaf_agent::cluster::release::release_with;
use sheaf_agent::cluster::token::{self, Grant, Token};
use sheaf_agent::cluster::{Hosts, keys};
use sheaf_agent::status::{Phase, Status};
use sheaf_host::fakes::{FakeRun, FakeUnits};
use sheaf_tests::cluster::{AgentNode, Approver, ControlPlane, RunningAgent, TOKEN, kubeadm};
use std::sync::Arc;
use std::time::Duration;

/// Longest wait for anything here; the machine is shared with other tests.
const TIMEOUT: Duration = Duration::from_secs(60);

fn hosts() -> Hosts {
    Hosts { run: Arc::new(FakeRun::default()), units: Arc::new(FakeUnits::default()) }
}

/// A control plane that approves nodes' certificates.
async fn plane() -> (ControlPlane, Approver) {
    let plane = ControlPlane::start("").await.unwrap();
    let approver = plane.approver().await.unwrap();
    (plane, approver)
}

/// A new token for one node, valid as long as that of `sheaf-agent token create`.
async fn new_token(plane: &ControlPlane) -> String {
    let token = Token::generate().unwrap();
    let grant = Grant { lifetime: token::LIFETIME, description: "a test", only_for: None };
    token::allow(&plane.admin, &token, grant).await.unwrap();
    token.reveal()
}

async fn status(agent: &RunningAgent, what: &str, holds: impl Fn(&Status) -> bool) -> Status {
    let mut status = agent.ctx.status.subscribe();
    let found = tokio::time::timeout(TIMEOUT, status.wait_for(|status| holds(status))).await;
    match found {
        Ok(found) => found.unwrap().clone(),
        Err(_) => panic!("no {what}; the status is {:#?}", agent.ctx.status.subscribe().borrow().cluster),
    }
}

async fn ready(agent: &RunningAgent) {
    status(agent, "ready node", |status| status.cluster.phase == Phase::Ready).await;
}

/// Step and remedy of the failure the agent ends at.
async fn refusal(agent: &RunningAgent) -> (String, String, String) {
    let cluster = status(agent, "failure", |status| status.cluster.phase == Phase::Failed).await.cluster;
    (cluster.step, cluster.problem.unwrap(), cluster.remedy.unwrap())
}

fn condition(node: &Node, kind: &str) -> String {
    let conditions = node.status.as_ref().and_then(|status| status.conditions.clone()).unwrap_or_default();
    conditions
        .into_iter()
        .find(|condition| condition.type_ == kind)
        .map(|condition| condition.status)
        .unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_joins_by_token_becomes_ready_and_renews_its_lease() {
    let (plane, _approver) = plane().await;
    let node = plane.joining("n1", "aaaa", TOKEN, &plane.ca_hash).unwrap();
    let agent = node.start(hosts()).unwrap();
    ready(&agent).await;

    let nodes: Api<Node> = Api::all(plane.admin.clone());
    let object = nodes.get("n1").await.unwrap();
    assert_eq!(condition(&object, "Ready"), "True");
    let labels = object.metadata.labels.clone().unwrap();
    assert_eq!(labels["sheaf.dev/vm-node"], "true");
    let taints = object.spec.as_ref().unwrap().taints.clone().unwrap();
    assert!(
        taints.iter().any(|taint| taint.key == "sheaf.dev/vm-only" && taint.effect == "NoSchedule"),
        "{taints:?}"
    );
    let capacity = object.status.as_ref().unwrap().capacity.clone().unwrap();
    assert_eq!(capacity["devices.kubevirt.io/kvm"].0, "1k");
    assert_eq!(capacity["bridge.sheaf.dev/br0"].0, "1k");

    let text = std::fs::read_to_string(node.paths().node_toml).unwrap();
    assert!(!text.contains(TOKEN), "{text}");
    assert!(text.contains("token = \"redeemed\""), "{text}");

    let leases: Api<Lease> = Api::namespaced(plane.admin.clone(), "kube-node-lease");
    let renewed = |lease: &Lease| lease.spec.as_ref().unwrap().renew_time.clone().unwrap().0;
    let first = renewed(&leases.get("n1").await.unwrap());
    let again = tokio::time::timeout(Duration::from_secs(25), async {
        loop {
            let now = renewed(&leases.get("n1").await.unwrap());
            if now > first {
                return now;
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    });
    again.await.expect("the lease is renewed every 10 s");

    agent.publish.hypervisor.send_modify(|hypervisor| hypervisor.answers = false);
    status(&agent, "node that waits for libvirt", |status| status.cluster.phase == Phase::NotReady).await;
    assert_eq!(condition(&nodes.get("n1").await.unwrap(), "Ready"), "False");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_wrong_with_token_hash_or_signature_is_named_with_its_remedy() {
    let (plane, _approver) = plane().await;
    let attempt = async |token: &str, hash: &str| {
        let node = plane.joining("n1", "aaaa", token, hash).unwrap();
        let agent = node.start(hosts()).unwrap();
        refusal(&agent).await
    };
    let (step, problem, remedy) = attempt("zzzzzz.0123456789abcdef", &plane.ca_hash).await;
    assert_eq!(
        (step.as_str(), problem.as_str()),
        ("checking the signature of cluster-info", "it is not signed for token zzzzzz.***")
    );
    assert_eq!(
        remedy,
        "the cluster does not know this token, or it was used or has expired: make one with `sheaf-agent token create`"
    );

    let (step, problem, remedy) = attempt("abcdef.zzzzzzzzzzzzzzzz", &plane.ca_hash).await;
    assert_eq!(
        (step.as_str(), problem.as_str()),
        ("checking the signature of cluster-info", "the signature does not match")
    );
    assert!(remedy.starts_with("the second half of the token is wrong"), "{remedy}");

    let wrong = format!("sha256:{}", "0".repeat(64));
    let (step, problem, remedy) = attempt(TOKEN, &wrong).await;
    assert_eq!(step, "comparing the cluster's CA with ca-hash");
    assert_eq!(problem, format!("node.toml says {wrong}, the cluster's is {}", plane.ca_hash));
    assert!(remedy.contains("write its hash"), "{remedy}");

    // Somebody changes cluster-info: kube-controller-manager signs it again, but only for tokens it knows.
    let maps: Api<ConfigMap> = Api::namespaced(plane.admin.clone(), "kube-public");
    let forged = json!({"data": {"jws-kubeconfig-forged": "eyJhbGciOiJub25lIiwia2lkIjoiZm9yZ2VkIn0.."}});
    maps.patch("cluster-info", &PatchParams::default(), &Patch::Merge(&forged)).await.unwrap();
    let (step, problem, _) = attempt("forged.0123456789abcdef", &plane.ca_hash).await;
    assert_eq!(step, "checking the signature of cluster-info");
    assert!(problem.contains("not signed for token") || problem.contains("not HS256"), "{problem}");

    let nodes: Api<Node> = Api::all(plane.admin.clone());
    assert!(
        nodes.list(&ListParams::default()).await.unwrap().items.is_empty(),
        "none of them may have joined"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_killed_while_its_request_is_open_goes_on_with_the_same_key() {
    let (plane, _approver) = plane().await;
    // cluster-info must be signed before its signer goes away.
    let maps: Api<ConfigMap> = Api::namespaced(plane.admin.clone(), "kube-public");
    tokio::time::timeout(TIMEOUT, async {
        while !maps.get("cluster-info").await.unwrap().data.unwrap().contains_key("jws-kubeconfig-abcdef") {
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    })
    .await
    .expect("cluster-info is signed for the token of node.toml");
    // Without an approver the request stays open.
    plane.hosts.units.stop("kube-controller-manager.service").await.unwrap();
    let node = plane.joining("n1", "aaaa", TOKEN, &plane.ca_hash).unwrap();
    let requests: Api<CertificateSigningRequest> = Api::all(plane.admin.clone());
    let open = async || requests.list(&ListParams::default()).await.unwrap().items;
    let first = node.start(hosts()).unwrap();
    tokio::time::timeout(TIMEOUT, async {
        while open().await.is_empty() {
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    })
    .await
    .unwrap_or_else(|_| panic!("no request; {:?}", first.ctx.status.subscribe().borrow().cluster));
    drop(first);

    let second = node.start(hosts()).unwrap();
    status(&second, "wait for the certificate", |status| {
        status.cluster.step == "asking for the node's certificate"
    })
    .await;
    plane.hosts.units.start("kube-controller-manager.service").await.unwrap();
    ready(&second).await;
    let clients = open()
        .await
        .into_iter()
        .filter(|request| request.spec.signer_name.ends_with("client-kubelet"))
        .count();
    assert_eq!(clients, 1, "the second agent went on with the first one's request");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_name_is_refused_to_a_second_machine_and_kept_by_the_first_across_restarts() {
    let (plane, _approver) = plane().await;
    let node = plane.joining("n1", "aaaa", TOKEN, &plane.ca_hash).unwrap();
    let agent = node.start(hosts()).unwrap();
    ready(&agent).await;

    let twin = plane.joining("n1", "bbbb", TOKEN, &plane.ca_hash).unwrap();
    let (step, problem, remedy) = refusal(&twin.start(hosts()).unwrap()).await;
    assert_eq!(step, "checking that the name is free");
    assert_eq!(problem, "another machine (machine-id aaaa) is node n1 and alive");
    assert!(remedy.starts_with("give this machine another `system.hostname`"), "{remedy}");

    let nodes: Api<Node> = Api::all(plane.admin.clone());
    let uid = nodes.get("n1").await.unwrap().metadata.uid;
    drop(agent);
    let again = node.start(hosts()).unwrap();
    ready(&again).await;
    assert_eq!(nodes.get("n1").await.unwrap().metadata.uid, uid);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_first_node_joins_the_control_plane_it_made_and_a_second_start_changes_nothing() {
    let (plane, _approver) = plane().await;
    let text = format!(
        "version = 1\n[system]\nhostname = \"plane\"\n[cluster]\nmode = \"create\"\ntoken = \"{TOKEN}\"\n"
    );
    let node = AgentNode::new(&text, "aaaa").unwrap();
    // Its control plane is the one that runs already.
    std::fs::create_dir_all(node.paths().lib.parent().unwrap()).unwrap();
    std::os::unix::fs::symlink(&plane.paths.kubernetes, &node.paths().kubernetes).unwrap();
    std::fs::create_dir_all(&node.paths().run).unwrap();
    std::fs::copy(plane.paths.run.join("control-plane.env"), node.paths().run.join("control-plane.env"))
        .unwrap();
    let ca = std::fs::read(plane.paths.kubernetes.join("pki/ca.crt")).unwrap();

    let agent = node.start_at(plane.address, plane.hosts.clone()).unwrap();
    ready(&agent).await;
    let cluster = agent.ctx.status.subscribe().borrow().cluster.clone();
    assert_eq!(cluster.ca_hash.as_deref(), Some(plane.ca_hash.as_str()));
    assert_eq!(std::fs::read(plane.paths.kubernetes.join("pki/ca.crt")).unwrap(), ca);
    let text = std::fs::read_to_string(node.paths().node_toml).unwrap();
    assert!(text.contains(TOKEN), "the operator's token stays valid for joining nodes");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_token_of_node_toml_is_good_for_one_node_ends_within_an_hour_and_does_not_come_back() {
    let (plane, _approver) = plane().await;
    let secrets: Api<Secret> = Api::namespaced(plane.admin.clone(), "kube-system");
    let secret = secrets.get("bootstrap-token-abcdef").await.unwrap();
    let end = String::from_utf8(secret.data.unwrap()["expiration"].0.clone()).unwrap();
    let end: k8s_openapi::jiff::Timestamp = end.parse().unwrap();
    let left = end.duration_since(k8s_openapi::jiff::Timestamp::now());
    assert!(left.as_secs() > 0 && left.as_secs() <= 3600, "{left:?}");

    let first = plane.joining("n1", "aaaa", TOKEN, &plane.ca_hash).unwrap();
    let agent = first.start(hosts()).unwrap();
    ready(&agent).await;
    let second = plane.joining("n2", "bbbb", TOKEN, &plane.ca_hash).unwrap();
    let (step, problem, _) = refusal(&second.start(hosts()).unwrap()).await;
    assert_eq!(step, "asking for the node's certificate");
    assert!(
        problem.contains("token abcdef.*** was used by node n1: a token is good for one node"),
        "{problem}"
    );

    // The control plane's regular check finds the same node.toml again.
    secrets.delete("bootstrap-token-abcdef", &Default::default()).await.unwrap();
    token::allow_configured(&plane.admin, Some(&TOKEN.parse().unwrap())).await.unwrap();
    assert!(secrets.get_opt("bootstrap-token-abcdef").await.unwrap().is_none(), "the token came back");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_whose_certificate_expired_joins_again_with_a_new_token_and_its_own_key() {
    let (plane, _approver) = plane().await;
    let node = plane.joining("n1", "aaaa", TOKEN, &plane.ca_hash).unwrap();
    let agent = node.start(hosts()).unwrap();
    ready(&agent).await;
    drop(agent);
    let store = Store::of(&node.paths());
    let identity = store.load(CLIENT).unwrap();
    // The same name and key, by a certificate that is over.
    let (ca, key) = keys::Authority::create("kubernetes", std::time::SystemTime::now()).unwrap();
    let expired = keys::Authority::from_pem(&ca, &key)
        .unwrap()
        .issue_client(
            &keys::Subject::node("n1"),
            &identity.facts.public_der,
            Duration::ZERO,
            std::time::SystemTime::now(),
        )
        .unwrap();
    store.save(CLIENT, &expired, &keys::Key::from_pem(&identity.key).unwrap()).unwrap();

    let without = node.start(hosts()).unwrap();
    let (_, problem, remedy) = refusal(&without).await;
    assert!(problem.starts_with("this node's certificate expired at"), "{problem}");
    assert!(remedy.contains("put a new token"), "{remedy}");
    drop(without);

    let text = std::fs::read_to_string(node.paths().node_toml).unwrap();
    std::fs::write(node.paths().node_toml, text.replace("redeemed", &new_token(&plane).await)).unwrap();
    let again = node.start(hosts()).unwrap();
    ready(&again).await;
    assert_eq!(
        store.load(CLIENT).unwrap().facts.public_der,
        identity.facts.public_der,
        "the key that has the name"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reinstalled_machine_gets_its_name_only_after_an_administrator_released_it() {
    let (plane, _approver) = plane().await;
    let node = plane.joining("n1", "aaaa", TOKEN, &plane.ca_hash).unwrap();
    let agent = node.start(hosts()).unwrap();
    ready(&agent).await;
    drop(agent);
    // It is away: its lease ran out.
    let nodes: Api<Node> = Api::all(plane.admin.clone());
    let away = json!({"status": {"conditions": [{"type": "Ready", "status": "Unknown"}]}});
    nodes.patch_status("n1", &PatchParams::default(), &Patch::Strategic(&away)).await.unwrap();

    let again = plane.joining("n1", "bbbb", &new_token(&plane).await, &plane.ca_hash).unwrap();
    let agent = again.start(hosts()).unwrap();
    let (step, problem, _) = refusal(&agent).await;
    assert_eq!(step, "asking for the node's certificate");
    assert!(problem.contains("node n1 has another key"), "{problem}");
    assert!(problem.contains("`sheaf-agent node release n1`"), "{problem}");
    release_with(&plane.admin, "n1").await.unwrap();
    // The agent tries again by itself.
    ready(&agent).await;
}

#[test]
fn keys_that_a_power_cut_left_half_made_are_made_anew_and_the_rest_stays() {
    let (dir, run) = (tempfile::tempdir().unwrap(), kubeadm().unwrap());
    let pki = Pki { dir: dir.path().join("kubernetes") };
    let plane = Plane {
        node: "n1".into(),
        address: "198.51.100.1".parse().unwrap(),
        sans: Vec::new(),
        service_cidr: "10.96.0.0/16".into(),
        version: "v1.37.2".into(),
    };
    let read = |name: &str| std::fs::read_to_string(pki.file(name)).unwrap();
    assert!(pki.ensure(&plane, run.as_ref(), std::time::SystemTime::now()).unwrap());
    assert!(
        !pki.ensure(&plane, run.as_ref(), std::time::SystemTime::now()).unwrap(),
        "a second time nothing is missing"
    );
    let (ca, etcd) = (read("ca.crt"), read("etcd/server.crt"));

    // Cut between the two files of a pair, and in the middle of making others.
    std::fs::write(pki.file("apiserver.key"), "").unwrap();
    std::fs::create_dir_all(pki.dir.join("making/pki")).unwrap();
    std::fs::write(pki.dir.join("making/pki/ca.crt"), "half").unwrap();
    std::fs::write(pki.kubeconfig("scheduler"), "apiVersion: v1\n").unwrap();
    assert!(pki.ensure(&plane, run.as_ref(), std::time::SystemTime::now()).unwrap());
    let public = keys::Key::from_pem(&read("apiserver.key")).unwrap().public_der().unwrap();
    assert_eq!(keys::facts(&read("apiserver.crt")).unwrap().public_der, public);
    assert!(!pki.dir.join("making").exists());

    // Another address: the certificates of the API server and of etcd have it, the CA stays.
    let moved = Plane { address: "198.51.100.2".parse().unwrap(), ..plane };
    assert!(pki.ensure(&moved, run.as_ref(), std::time::SystemTime::now()).unwrap());
    assert!(keys::facts(&read("apiserver.crt")).unwrap().addresses.contains(&moved.address));
    let scheduler = std::fs::read_to_string(pki.kubeconfig("scheduler")).unwrap();
    assert!(scheduler.contains("https://198.51.100.2:6443"), "{scheduler}");
    assert_eq!(read("ca.crt"), ca);
    // Members of etcd verify each other by address.
    assert_ne!(read("etcd/server.crt"), etcd);
    assert!(keys::facts(&read("etcd/peer.crt")).unwrap().addresses.contains(&moved.address));
}
