//! VMs operated by virtctl, kubectl and requests of theirs, on the real API server.
//!
//! The node is the agent's own code: it joins, gets its certificates and serves its API; libvirt is played, the guest's serial
//! port is a socket of the test.

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::authorization::v1::SubjectAccessReview;
use k8s_openapi::api::core::v1::{Node, Pod};
use k8s_openapi::kube_aggregator::pkg::apis::apiregistration::v1::APIService;
use kube::api::{Api, PostParams};
use serde_json::{Value, json};
use sheaf_agent::listed::{self, Listed};
use sheaf_agent::node_api;
use sheaf_agent::vms::guest::{Folder, Identity};
use sheaf_agent::vms::record::{Record, Started};
use sheaf_api::{VirtualMachine, VirtualMachineInstance, status::Phase};
use sheaf_host::fakes::{FakeRun, FakeUnits, FakeVms};
use sheaf_host::libvirt::{Domain, State};
use sheaf_tests::cluster::{AgentNode, RunningAgent, TOKEN};
use sheaf_tests::controlled::{Controlled, wait};
use sheaf_tests::virtctl::Virtctl;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixListener;
use tokio::sync::watch;

/// Longest wait for anything here; the machine is shared with other tests.
const TIMEOUT: Duration = Duration::from_secs(90);
/// The group that virtctl asks.
const GROUP: &str = "/apis/subresources.kubevirt.io/v1";

/// A cluster whose aggregated server is available.
async fn cluster() -> Result<Controlled> {
    let on = Controlled::start().await?;
    let announced: Api<APIService> = Api::all(on.client.clone());
    for version in ["v1", "v1alpha3"] {
        wait(&format!("{version} of the aggregated API is available"), async || {
            let found = announced.get_opt(&format!("{version}.subresources.kubevirt.io")).await?;
            let conditions = found.and_then(|found| found.status?.conditions).unwrap_or_default();
            Ok(conditions.iter().any(|one| one.type_ == "Available" && one.status == "True").then_some(()))
        })
        .await?;
    }
    Ok(on)
}

fn vm(name: &str, strategy: &str) -> Result<VirtualMachine> {
    Ok(serde_json::from_value(json!({
        "apiVersion": "kubevirt.io/v1", "kind": "VirtualMachine", "metadata": {"name": name},
        "spec": {"runStrategy": strategy, "template": {"spec": {"domain": {
            "memory": {"guest": "64Mi"}, "devices": {}}, "terminationGracePeriodSeconds": 5}}},
    }))?)
}

/// An act on a VM, as virtctl asks for it: HTTP status and message.
async fn act(on: &Controlled, path: &str, body: &str) -> Result<(u16, String)> {
    let path = format!("{GROUP}/namespaces/default/{path}");
    let request =
        http::Request::put(path).header("content-type", "application/json").body(body.as_bytes().to_vec())?;
    match on.client.request_text(request).await {
        Ok(_) => Ok((200, String::new())),
        Err(kube::Error::Api(status)) => Ok((status.code, status.message.clone())),
        Err(error) => Err(error.into()),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_vm_is_started_stopped_and_restarted_by_request_and_refused_in_kubevirts_words() -> Result<()> {
    let on = cluster().await?;
    let machines: Api<VirtualMachine> = Api::default_namespaced(on.client.clone());
    let instances: Api<VirtualMachineInstance> = Api::default_namespaced(on.client.clone());
    machines.create(&PostParams::default(), &vm("web", "Manual")?).await?;
    let conflict = |why: &str| {
        (409, format!("Operation cannot be fulfilled on virtualmachine.kubevirt.io \"web\": {why}"))
    };
    ensure!(act(&on, "virtualmachines/web/stop", "{}").await? == conflict("VM is not running"));
    ensure!(act(&on, "virtualmachines/web/restart", "").await? == conflict("VM is not running: Halted"));
    ensure!(
        act(&on, "virtualmachines/none/start", "{}").await?
            == (404, "virtualmachine.kubevirt.io \"none\" not found".into())
    );
    // Only asked: nothing is written.
    ensure!(act(&on, "virtualmachines/web/start", r#"{"dryRun":["All"]}"#).await?.0 == 200);
    let asked =
        machines.get("web").await?.status.map(|status| status.state_change_requests).unwrap_or_default();
    ensure!(asked.is_empty(), "a dry run asked for {asked:?}");

    ensure!(act(&on, "virtualmachines/web/start", "{}").await?.0 == 200);
    let first = wait("the VM has an instance", async || instances.get_opt("web").await).await?;
    wait("the request is done", async || {
        let status = machines.get("web").await?.status.unwrap_or_default();
        Ok((status.created && status.state_change_requests.is_empty()).then_some(()))
    })
    .await?;
    let running = conflict("VM is already running");
    wait("a second start is refused", async || {
        let said = act(&on, "virtualmachines/web/start", "{}")
            .await
            .map_err(|error| kube::Error::Service(error.into()))?;
        Ok((said == running).then_some(()))
    })
    .await?;

    ensure!(
        act(&on, "virtualmachines/web/restart", r#"{"gracePeriodSeconds":3}"#).await?
            == (400, "For force restart, only gracePeriod=0 is supported for now".into())
    );
    ensure!(act(&on, "virtualmachines/web/restart", "{}").await?.0 == 200);
    wait("another instance takes the place of the first", async || {
        let now = instances.get_opt("web").await?;
        Ok(now.filter(|now| {
            now.metadata.uid != first.metadata.uid && now.metadata.deletion_timestamp.is_none()
        }))
    })
    .await?;
    wait("both requests are done", async || {
        let status = machines.get("web").await?.status.unwrap_or_default();
        Ok(status.state_change_requests.is_empty().then_some(()))
    })
    .await?;
    ensure!(act(&on, "virtualmachines/web/stop", "{}").await?.0 == 200);
    wait("no instance is left", async || Ok(instances.get_opt("web").await?.is_none().then_some(()))).await?;

    machines.create(&PostParams::default(), &vm("always", "Always")?).await?;
    ensure!(act(&on, "virtualmachines/always/stop", "{}").await?.0 == 200);
    let strategy = machines.get("always").await?.spec.run_strategy;
    ensure!(strategy == Some(sheaf_api::RunStrategy::Halted), "{strategy:?}");
    ensure!(act(&on, "virtualmachines/web/migrate", "{}").await?.0 == 501);
    ensure!(act(&on, "virtualmachines/web/nothing", "{}").await?.0 == 404);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn roles_open_what_kubevirts_open_and_nothing_is_open_to_anybody_else() -> Result<()> {
    let on = cluster().await?;
    for role in ["view", "edit", "admin"] {
        let said = on.kubectl(&[
            "create",
            "rolebinding",
            role,
            &format!("--clusterrole={role}"),
            &format!("--user={role}"),
        ])?;
        ensure!(said.contains("created"), "{said}");
    }
    // By view, edit, admin, somebody without a role.
    let table = [
        ("get", "virtualmachineinstances/guestosinfo", [true, true, true, false]),
        ("get", "virtualmachines/expand-spec", [true, true, true, false]),
        ("get", "virtualmachineinstances/console", [false, true, true, false]),
        ("get", "virtualmachineinstances/vnc", [false, true, true, false]),
        ("get", "virtualmachineinstances/portforward", [false, true, true, false]),
        ("update", "virtualmachines/start", [false, true, true, false]),
        ("update", "virtualmachines/restart", [false, true, true, false]),
        ("update", "virtualmachineinstances/pause", [false, true, true, false]),
        ("update", "virtualmachineinstances/freeze", [false, true, true, false]),
        ("delete", "virtualmachines/start", [false, false, false, false]),
    ];
    let mut wrong = Vec::new();
    for (verb, resource, expected) in table {
        let (kind, subresource) = resource.split_once('/').context("kind/subresource")?;
        for (user, expected) in ["view", "edit", "admin", "nobody"].into_iter().zip(expected) {
            if may(&on, user, "default", verb, kind, subresource).await? != expected {
                wrong.push(format!("{user} {verb} {resource}: not {expected}"));
            }
        }
    }
    // In another namespace their roles mean nothing.
    if may(&on, "admin", "kube-public", "update", "virtualmachines", "start").await? {
        wrong.push("admin of default starts VMs of kube-public".into());
    }
    ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
    // Everybody who logged in may ask for the version; nobody who did not.
    let version = on.kubectl(&[
        "get",
        "--raw",
        &format!("{GROUP}/version"),
        "--as=nobody",
        "--as-group=system:authenticated",
    ])?;
    ensure!(version.contains("gitVersion"), "{version}");
    let anonymous = on.kubectl(&[
        "get",
        "--raw",
        &format!("{GROUP}/version"),
        "--as=system:anonymous",
        "--as-group=system:unauthenticated",
    ])?;
    ensure!(anonymous.contains("forbidden"), "{anonymous}");
    Ok(())
}

/// What `kubectl auth can-i` asks; it knows no resource that is a subresource alone.
async fn may(
    on: &Controlled,
    user: &str,
    namespace: &str,
    verb: &str,
    kind: &str,
    subresource: &str,
) -> Result<bool> {
    let review: SubjectAccessReview = serde_json::from_value(json!({
        "spec": {"user": user, "groups": ["system:authenticated"], "resourceAttributes": {
            "group": "subresources.kubevirt.io", "version": "v1", "namespace": namespace, "verb": verb,
            "resource": kind, "subresource": subresource, "name": "web"}},
    }))?;
    let reviews: Api<SubjectAccessReview> = Api::all(on.client.clone());
    let review = reviews.create(&PostParams::default(), &review).await?;
    Ok(review.status.context("the review has an answer")?.allowed)
}

/// A node of that cluster, played by the agent's own code with libvirt played.
struct PlayedNode {
    agent: RunningAgent,
    node: AgentNode,
    vms: Arc<FakeVms>,
    pods: Arc<watch::Sender<Listed<Pod>>>,
    tasks: Vec<tokio::task::JoinHandle<()>>,
}

impl Drop for PlayedNode {
    fn drop(&mut self) {
        self.tasks.iter().for_each(tokio::task::JoinHandle::abort);
    }
}

impl PlayedNode {
    async fn start(on: &Controlled) -> Result<Self> {
        let node = on.plane.joining("n1", "aaaa", TOKEN, &on.plane.ca_hash)?;
        let hosts = sheaf_agent::cluster::Hosts {
            run: Arc::new(FakeRun::default()),
            units: Arc::new(FakeUnits::default()),
        };
        let mut agent = node.start_at(on.plane.near_address(), hosts)?;
        let vms = Arc::new(FakeVms::default());
        let pods = Arc::new(watch::Sender::new(Listed::default()));
        let hosts = node_api::Hosts { vms: vms.clone(), pods: pods.clone(), port: 0 };
        let port = std::mem::replace(&mut agent.publish.api_port, watch::Sender::new(None));
        let (ctx, follow) = (agent.ctx.clone(), (agent.ctx.cluster.clone(), pods.clone()));
        let tasks = vec![
            tokio::spawn(async move { drop(node_api::run(ctx, port, hosts).await) }),
            tokio::spawn(async move {
                listed::follow(follow.0, &follow.1, listed::by_uid, listed::Scope::ThisNode).await
            }),
        ];
        let nodes: Api<Node> = Api::all(on.client.clone());
        wait("the node says where its API is", async || {
            let status = nodes.get_opt("n1").await?.and_then(|node| node.status).unwrap_or_default();
            let port = status
                .daemon_endpoints
                .and_then(|all| all.kubelet_endpoint)
                .map_or(0, |endpoint| endpoint.port);
            Ok((port != 0).then_some(()))
        })
        .await?;
        Ok(Self { agent, node, vms, pods, tasks })
    }

    /// Its VM `name` runs from now on, with this on its console so far. Waits until the instance says so.
    async fn run(
        &self,
        on: &Controlled,
        name: &str,
        console: &str,
    ) -> Result<(VirtualMachineInstance, UnixListener)> {
        let instances: Api<VirtualMachineInstance> = Api::default_namespaced(on.client.clone());
        let vmi = wait("the VM has an instance", async || instances.get_opt(name).await).await?;
        let uid = vmi.metadata.uid.clone().unwrap_or_default();
        let launcher = sheaf_controller::placeholder::name(&vmi);
        let pods: Api<Pod> = Api::default_namespaced(on.client.clone());
        let pod = wait("its Pod is bound to the node", async || {
            let pod = pods.get_opt(&launcher).await?;
            Ok(pod.filter(|pod| pod.spec.as_ref().is_some_and(|spec| spec.node_name.is_some())))
        })
        .await?;
        let id = Identity {
            pod_uid: pod.metadata.uid.clone().unwrap_or_default(),
            pod: launcher.clone(),
            namespace: "default".into(),
            vmi: name.into(),
            vmi_uid: uid.clone(),
        };
        let data = self.node.paths().data.join("vms");
        let started = Started { uuid: uid.clone(), ..Started::default() };
        Record { started: Some(started), ..Record::made(&id) }.write(&data)?;
        let folder = Folder::of(&data, &uid);
        std::fs::write(folder.console_log(), console)?;
        let serial = UnixListener::bind(folder.console_socket())?;
        self.vms.add(Domain {
            uuid: uid,
            name: id.domain(),
            state: State::Running,
            tags: Default::default(),
            devices: Default::default(),
            agent: false,
        });
        on.node_says(&launcher, "Running", "").await?;
        let vmi = wait("the instance runs", async || {
            let vmi = instances.get_opt(name).await?;
            Ok(vmi.filter(|vmi| vmi.status.as_ref().and_then(|status| status.phase) == Some(Phase::Running)))
        })
        .await?;
        Ok((vmi, serial))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_running_vm_is_paused_read_and_typed_into_through_its_node() -> Result<()> {
    let on = cluster().await?;
    let node = PlayedNode::start(&on).await?;
    let machines: Api<VirtualMachine> = Api::default_namespaced(on.client.clone());
    machines.create(&PostParams::default(), &vm("web", "Always")?).await?;
    let (vmi, serial) = node.run(&on, "web", "one\ntwo\nthree\n").await?;
    let uid = vmi.metadata.uid.clone().unwrap_or_default();
    let pod = sheaf_controller::placeholder::name(&vmi);

    // kubectl logs.
    let said = on.kubectl(&["logs", &pod, "--tail=2"])?;
    ensure!(said == "two\nthree\n", "{said}");
    let said = on.kubectl(&["logs", &pod, "--timestamps"])?;
    ensure!(said.contains("has no times"), "{said}");
    let said = on.kubectl(&["logs", &pod, "--previous"])?;
    ensure!(said.contains("previous terminated container"), "{said}");
    let said = on.kubectl(&["exec", &pod, "--", "true"])?;
    ensure!(said.contains("not offered"), "{said}");
    let metrics = on.kubectl(&["get", "--raw", "/api/v1/nodes/n1/proxy/metrics/resource"])?;
    ensure!(metrics.contains("\nnode_memory_working_set_bytes "), "{metrics}");

    // What the node does, as virtctl asks for it.
    for what in ["pause", "softreboot", "reset"] {
        let said = act(&on, &format!("virtualmachineinstances/web/{what}"), "{}").await?;
        ensure!(said.0 == 200, "{what}: {said:?}");
    }
    ensure!(act(&on, "virtualmachineinstances/web/pause", r#"{"dryRun":["All"]}"#).await?.0 == 200);
    let not_paused = act(&on, "virtualmachineinstances/web/unpause", "{}").await?;
    ensure!(not_paused.0 == 409 && not_paused.1.ends_with("VMI is not paused"), "{not_paused:?}");
    ensure!(act(&on, "virtualmachineinstances/web/freeze", r#"{"unfreezeTimeout":"1m0s"}"#).await?.0 == 200);
    ensure!(act(&on, "virtualmachineinstances/web/unfreeze", "{}").await?.0 == 200);
    let expected: Vec<String> =
        ["pause", "reboot", "reset", "freeze", "thaw"].map(|what| format!("{what} {uid}")).into();
    ensure!(node.vms.asked() == expected, "{:?}", node.vms.asked());
    let no_agent = on.kubectl(&[
        "get",
        "--raw",
        &format!("{GROUP}/namespaces/default/virtualmachineinstances/web/guestosinfo"),
    ])?;
    ensure!(no_agent.contains("VMI does not have guest agent connected"), "{no_agent}");
    node.vms.fail("reset", "QEMU does not answer");
    let failed = act(&on, "virtualmachineinstances/web/reset", "{}").await?;
    ensure!(failed.0 == 500 && failed.1.contains("QEMU does not answer"), "{failed:?}");

    let virtctl = Virtctl::new(on.plane.kubeconfig())?;
    let (good, said) = virtctl.run(&["version"])?;
    ensure!(good && said.contains("Server Version"), "{said}");
    ensure!(!said.contains("different"), "virtctl warns: {said}");
    let (good, said) = virtctl.run(&["pause", "vm", "web"])?;
    ensure!(good && said.contains("was scheduled to pause"), "{said}");
    let (good, said) = virtctl.run(&["start", "web"])?;
    ensure!(!good && said.contains("VM is already running"), "{said}");
    let (good, said) = virtctl.run(&["guestosinfo", "web"])?;
    // This one of its clients shows the status code alone; the message is checked above, by request.
    ensure!(!good && said.contains("the server reported a conflict"), "{said}");

    console(&virtctl, &serial).await?;
    let (good, said) = virtctl.run(&["stop", "web"])?;
    ensure!(good && said.contains("was scheduled to stop"), "{said}");
    on.node_ends(&pod).await?;
    let _ = (&node.agent, &node.pods);
    Ok(())
}

/// Types into the console of VM `web` and reads what it answers; `serial` is the guest.
async fn console(virtctl: &Virtctl, serial: &UnixListener) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let log = folder.path().join("console");
    // virtctl wants a terminal.
    let mut command = sheaf_host::run::Command::new("script");
    command = command.args(["-qfec", &format!("{} console web", virtctl.line()), "/dev/null"]).log(&log);
    let mut child = sheaf_host::run::System.start(&command)?;
    let typed = async {
        let (mut guest, _) = serial.accept().await?;
        guest.write_all(b"guest login: ").await?;
        let mut byte = [0; 1];
        let end = Instant::now() + TIMEOUT;
        while !read(&log).contains("guest login: ") {
            ensure!(Instant::now() < end, "the console shows {:?}", read(&log));
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        // Another session takes its place; the first reads its end.
        drop(guest.try_read(&mut byte));
        anyhow::Ok(guest)
    };
    let guest = tokio::time::timeout(TIMEOUT, typed).await.context("nobody connected to the serial port")?;
    let guest = guest.inspect_err(|_| drop(child.kill()))?;
    let second_log = folder.path().join("second");
    let second = sheaf_host::run::Command::new("script")
        .args(["-qfec", &format!("{} console web", virtctl.line()), "/dev/null"])
        .log(&second_log);
    let mut second = sheaf_host::run::System.start(&second)?;
    let taken = async {
        let mut guest = guest;
        let mut rest = Vec::new();
        guest.read_to_end(&mut rest).await?;
        let (mut guest, _) = serial.accept().await?;
        guest.write_all(b"second").await?;
        let end = Instant::now() + TIMEOUT;
        while !read(&second_log).contains("second") {
            ensure!(Instant::now() < end, "the second console shows {:?}", read(&second_log));
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        anyhow::Ok(())
    };
    let taken = tokio::time::timeout(TIMEOUT, taken)
        .await
        .context("the second session did not take the first's place");
    child.kill().ok();
    child.wait()?;
    second.kill().ok();
    second.wait()?;
    taken?
}

fn read(path: &Path) -> String {
    String::from_utf8_lossy(&std::fs::read(path).unwrap_or_default()).into_owned()
}

/// What a request to the node itself is answered with: HTTP status and text.
fn ask_node(port: u16, address: &str, words: &[&str], path: &str) -> Result<(String, String)> {
    let folder = tempfile::tempdir()?;
    let log = folder.path().join("said");
    let command = sheaf_host::run::Command::new("curl")
        .args(["-sk", "--max-time", "20", "-w", "\n%{http_code}"])
        .args(words)
        .arg(format!("https://{address}:{port}{path}"))
        .log(&log);
    sheaf_host::run::System.start(&command)?.wait()?;
    let said = std::fs::read_to_string(&log)?;
    let (text, code) = said.rsplit_once('\n').context("curl prints a status")?;
    Ok((code.to_owned(), text.to_owned()))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_nodes_api_is_closed_to_whoever_is_not_allowed() -> Result<()> {
    let on = cluster().await?;
    let node = PlayedNode::start(&on).await?;
    let port = node.agent.ctx.api_port.borrow().context("the node listens")?;
    let address = on.plane.near_address().to_string();
    let token = |user: &str| -> Result<String> {
        on.kubectl(&["create", "serviceaccount", user])?;
        Ok(on.kubectl(&["create", "token", user])?.trim().to_owned())
    };
    let (nobody, reader, proxy) = (token("nobody")?, token("reader")?, token("proxy")?);
    for (account, rule) in [("reader", "nodes/metrics"), ("proxy", "nodes/proxy")] {
        on.kubectl(&["create", "clusterrole", account, "--verb=get", &format!("--resource={rule}")])?;
        on.kubectl(&[
            "create",
            "clusterrolebinding",
            account,
            &format!("--clusterrole={account}"),
            &format!("--serviceaccount=default:{account}"),
        ])?;
    }
    let bearer = |token: &str| format!("Authorization: Bearer {token}");
    let (nobody, reader, proxy, false_one) =
        (bearer(&nobody), bearer(&reader), bearer(&proxy), bearer("not-a-token"));
    let pki = on.plane.paths.kubernetes.join("pki");
    let own = node.node.paths().lib.join("pki/kubelet-client.pem").display().to_string();
    let kubelet = [pki.join("apiserver-kubelet-client.crt"), pki.join("apiserver-kubelet-client.key")]
        .map(|path| path.display().to_string());
    let front = [pki.join("front-proxy-client.crt"), pki.join("front-proxy-client.key")]
        .map(|path| path.display().to_string());
    let console = "/vms/0b0e6d2c-6a4e-4c9f-9a53-0d0e1f2a3b4c/console";
    let rows: Vec<(&str, Vec<&str>, &str, &str)> = vec![
        ("nobody at all", vec![], "/healthz", "401"),
        ("nobody at all", vec![], "/metrics", "401"),
        ("a false token", vec!["-H", &false_one], "/pods", "401"),
        ("a certificate of another CA", vec!["--cert", &front[0], "--key", &front[1]], "/pods", "000"),
        ("a ServiceAccount without a role", vec!["-H", &nobody], "/metrics", "403"),
        ("a ServiceAccount without a role", vec!["-H", &nobody], "/pods", "403"),
        ("a reader of metrics", vec!["-H", &reader], "/metrics/resource", "200"),
        ("a reader of metrics", vec!["-H", &reader], "/pods", "403"),
        ("get nodes/proxy", vec!["-H", &proxy], "/pods", "200"),
        // The way in that a kubelet has: a WebSocket begins with GET.
        ("get nodes/proxy", vec!["-H", &proxy], console, "403"),
        ("a node's own certificate", vec!["--cert", &own], "/pods", "403"),
        ("kube-apiserver", vec!["--cert", &kubelet[0], "--key", &kubelet[1]], "/pods", "200"),
        ("kube-apiserver", vec!["--cert", &kubelet[0], "--key", &kubelet[1]], console, "404"),
        ("kube-apiserver", vec!["--cert", &kubelet[0], "--key", &kubelet[1]], "/nothing", "404"),
    ];
    let mut wrong = Vec::new();
    for (who, words, path, expected) in rows {
        let (code, text) = ask_node(port, &address, &words, path)?;
        println!("{who}: {path}: {code}");
        if code != expected {
            wrong.push(format!("{who}, {path}: {code} instead of {expected}: {text}"));
        }
    }
    ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
    let (_, text) = ask_node(port, &address, &["-H", &nobody], "/pods")?;
    ensure!(
        text.trim()
            == "Forbidden (user=system:serviceaccount:default:nobody, verb=get, resource=nodes, subresource(s)=[pods proxy])",
        "{text}"
    );
    Ok(())
}

/// The aggregated server believes headers of kube-apiserver alone.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_aggregated_server_believes_nobody_but_kube_apiserver() -> Result<()> {
    let on = cluster().await?;
    let slices: Api<k8s_openapi::api::discovery::v1::EndpointSlice> =
        Api::namespaced(on.client.clone(), "sheaf-system");
    let slice =
        wait("the server has an endpoint", async || Ok(slices.list(&Default::default()).await?.items.pop()))
            .await?;
    let value: Value = serde_json::to_value(&slice)?;
    let port = u16::try_from(value["ports"][0]["port"].as_u64().context("a port")?)?;
    let address = value["endpoints"][0]["addresses"][0].as_str().context("an address")?.to_owned();
    let pki = on.plane.paths.kubernetes.join("pki");
    let path = |name: &str| pki.join(name).display().to_string();
    let (front, front_key) = (path("front-proxy-client.crt"), path("front-proxy-client.key"));
    let (kubelet, kubelet_key) = (path("apiserver-kubelet-client.crt"), path("apiserver-kubelet-client.key"));
    let user = ["-H", "X-Remote-User: admin", "-H", "X-Remote-Group: system:masters"];
    let version = format!("{GROUP}/version");
    let rows: Vec<(Vec<&str>, &str, &str)> = vec![
        (user.to_vec(), &version, "401"),
        ([&user[..], &["--cert", &kubelet, "--key", &kubelet_key]].concat(), &version, "000"),
        (vec!["--cert", &front, "--key", &front_key], &version, "401"),
        ([&user[..], &["--cert", &front, "--key", &front_key]].concat(), &version, "200"),
        (vec![], "/healthz", "200"),
    ];
    for (words, path, expected) in rows {
        let (code, text) = ask_node(port, &address, &words, path)?;
        ensure!(code == expected, "{words:?} {path}: {code} instead of {expected}: {text}");
    }
    Ok(())
}
