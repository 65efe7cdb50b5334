//! VMs operated by the requests of virtctl and kubectl, on the real API server.

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::authorization::v1::SubjectAccessReview;
use kube::api::{Api, PostParams};
use serde_json::{Value, json};
use sheaf_api::{VirtualMachine, VirtualMachineInstance};
use sheaf_host::libvirt::DomainStats;
use sheaf_tests::cluster::kube_binary;
use sheaf_tests::controlled::{Controlled, wait};
use sheaf_tests::played::{GROUP, PlayedNode, act, as_node, cluster, vm};
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream, UnixListener};

/// Longest wait for kubectl to connect; the machine is shared with other tests.
const TIMEOUT: Duration = Duration::from_secs(90);

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
        ("update", "virtualmachineinstances/addvolume", [false, true, true, false]),
        ("update", "virtualmachines/removevolume", [false, true, true, false]),
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
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_running_vm_is_paused_frozen_reset_and_read_through_its_node() -> Result<()> {
    let on = cluster().await?;
    let node = PlayedNode::start(&on).await?;
    let machines: Api<VirtualMachine> = Api::default_namespaced(on.client.clone());
    machines.create(&PostParams::default(), &vm("web", "Always")?).await?;
    let (vmi, serial) = node.run(&on, "web", "one\ntwo\nthree\n").await?;
    let firmware = vmi.spec.domain.firmware.as_ref();
    let uuid =
        firmware.and_then(|firmware| firmware.uuid.clone()).context("the controller gives it a UUID")?;
    let pod = sheaf_controller::placeholder::name(&vmi);

    // kubectl logs.
    let said = on.kubectl(&["logs", &pod, "--tail=2"])?;
    ensure!(said == "two\nthree\n", "{said}");
    let said = on.kubectl(&["logs", &pod, "--timestamps"])?;
    ensure!(said.contains("has no times"), "{said}");
    let said = on.kubectl(&["logs", &pod, "--previous"])?;
    ensure!(said.contains("previous terminated container"), "{said}");
    let said = on.kubectl(&["exec", &pod, "--", "true"])?;
    ensure!(said.contains("not offered") && said.contains("exit code 1"), "{said}");
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
    for what in ["--freeze", "--unfreeze"] {
        let freezer = ["/usr/bin/virt-freezer", what, "--name", "web", "--namespace", "default"];
        let said = on.kubectl(&[&["exec", &pod, "-c", "compute", "--"], &freezer[..]].concat())?;
        ensure!(said.is_empty(), "{said}");
    }
    let expected: Vec<String> = ["pause", "reboot", "reset", "freeze", "thaw", "freeze", "thaw"]
        .map(|what| format!("{what} {uuid}"))
        .into();
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

    attach(&on, &pod, &serial).await?;
    forward(&on, &pod).await?;
    top(&on, &node, &pod).await?;
    machines.delete("web", &Default::default()).await?;
    on.node_ends(&pod).await?;
    Ok(())
}
/// Types into the serial port by kubectl and reads what the guest answers.
async fn attach(on: &Controlled, pod: &str, serial: &UnixListener) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let log = folder.path().join("said");
    let line = format!(
        "echo hello | {} kubectl --kubeconfig {} attach -i {pod}",
        kube_binary()?.display(),
        on.plane.kubeconfig().display()
    );
    let kubectl = sheaf_host::run::Command::new("sh").args(["-c", &line]).log(&log);
    let mut kubectl = sheaf_host::run::System.start(&kubectl)?;
    let guest = async {
        let (mut guest, _) = serial.accept().await?;
        let mut typed = [0; 6];
        guest.read_exact(&mut typed).await?;
        guest.write_all(b"the guest heard you\n").await?;
        anyhow::Ok(typed)
    };
    let typed = tokio::time::timeout(TIMEOUT, guest).await;
    let (ended, said) = (kubectl.wait()?, std::fs::read_to_string(&log)?);
    let typed = typed.with_context(|| format!("nobody connected to the serial port: {said}"))??;
    ensure!(&typed == b"hello\n", "{typed:?}");
    ensure!(ended.success() && said.contains("the guest heard you"), "{said}");
    Ok(())
}

/// Connects twice to a port of the guest by kubectl.
async fn forward(on: &Controlled, pod: &str) -> Result<()> {
    let guest = TcpListener::bind((on.plane.near_address(), 0)).await?;
    let port = guest.local_addr()?.port();
    // The guest's address, as its node reports it.
    let address = on.plane.near_address().to_string();
    as_node(on, pod, &json!({"status": {"podIP": address, "podIPs": [{"ip": address}]}})).await?;
    let folder = tempfile::tempdir()?;
    let log = folder.path().join("said");
    let here = sheaf_machine::ports::free_port()?;
    let kubectl = sheaf_host::run::Command::new(kube_binary()?.display().to_string())
        .args(["kubectl", "--kubeconfig", &on.plane.kubeconfig().display().to_string()])
        .args(["port-forward", &format!("pod/{pod}"), &format!("{here}:{port}")])
        .log(&log);
    let mut kubectl = sheaf_host::run::System.start(&kubectl)?;
    let greetings = async {
        wait("kubectl listens", async || {
            Ok(std::fs::read_to_string(&log).is_ok_and(|said| said.contains("Forwarding from")).then_some(()))
        })
        .await?;
        for greeting in ["first", "other"] {
            let mut client = TcpStream::connect(("127.0.0.1", here)).await?;
            let (mut served, _) = guest.accept().await?;
            served.write_all(greeting.as_bytes()).await?;
            let mut said = [0; 5];
            client.read_exact(&mut said).await?;
            ensure!(said == greeting.as_bytes(), "{said:?}");
            client.write_all(b"typed").await?;
            served.read_exact(&mut said).await?;
            ensure!(&said == b"typed", "{said:?}");
        }
        anyhow::Ok(())
    };
    let done = tokio::time::timeout(TIMEOUT, greetings).await;
    kubectl.kill()?;
    kubectl.wait()?;
    let said = std::fs::read_to_string(&log)?;
    done.with_context(|| format!("nothing is forwarded: {said}"))?.with_context(|| said)
}

/// What the node and the VM use, as kubectl shows it.
async fn top(on: &Controlled, node: &PlayedNode, pod: &str) -> Result<()> {
    let numbers = [("cpu.time", 5_000_000_000), ("balloon.rss", 64 << 10)];
    node.vms.count(vec![DomainStats {
        name: "default_web".into(),
        numbers: numbers.map(|(name, number)| (name.to_owned(), number)).into(),
        texts: Default::default(),
    }]);
    let of_pod = wait("two readings of the VM", async || {
        let said = on
            .kubectl(&["top", "pod", "--no-headers"])
            .map_err(|error| kube::Error::Service(error.into()))?;
        Ok(said.starts_with(pod).then_some(said))
    })
    .await?;
    ensure!(of_pod.split_whitespace().collect::<Vec<_>>() == [pod, "0m", "64Mi"], "{of_pod}");
    let selected = on.kubectl(&["top", "pod", "--no-headers", "-l", "vm.kubevirt.io/name=db"])?;
    ensure!(selected.contains("No resources found"), "{selected}");
    let of_node = on.kubectl(&["top", "node", "n1", "--no-headers"])?;
    ensure!(of_node.starts_with("n1 ") && of_node.contains('%'), "{of_node}");
    Ok(())
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
async fn the_nodes_api_is_closed_to_clients_that_are_not_allowed() -> Result<()> {
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
