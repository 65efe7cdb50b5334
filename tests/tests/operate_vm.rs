//! A VM that runs on a node, operated by virtctl and kubectl: typed into, seen, reached, paused, reset, stopped, started.
//!
//! Why a whole machine: QEMU's sockets, libvirt's rights and the node's certificates are those of the image.

use anyhow::{Context as _, Result, ensure};
use sheaf_host::run::{Command, System};
use sheaf_host::wait::until;
use sheaf_machine::ports;
use sheaf_tests::harness::{Cluster, case, field};
use sheaf_tests::virtctl::Virtctl;
use std::collections::BTreeSet;
use std::io::Read as _;
use std::net::TcpStream;
use std::path::Path;
use std::time::Duration;

/// Longest wait for an answer of a guest or a node under emulation.
const STEP: Duration = Duration::from_secs(180);
/// Between two looks.
const LOOK: Duration = Duration::from_secs(1);

const VM: &str = r"
apiVersion: kubevirt.io/v1
kind: VirtualMachine
metadata: {name: web}
spec:
  runStrategy: Manual
  template:
    spec:
      terminationGracePeriodSeconds: 60
      domain:
        memory: {guest: 128Mi}
        devices:
          disks: [{name: system}, {name: seed}]
          interfaces: [{name: out, masquerade: {}}]
      networks: [{name: out, pod: {}}]
      volumes:
        - name: system
          hostDisk: {path: /data/images/guest.raw, type: Disk}
        - name: seed
          cloudInitNoCloud: {userData: '# hostname: web'}
";

/// Keeps typing a line into `program` until what it shows holds `answer`; the guest's shell wakes up at the first Enter.
fn types(program: &str, line: &str, answer: &str, folder: &Path) -> Result<()> {
    let log = folder.join("typed");
    let typing = format!("while :; do printf '\\n{line}\\n'; sleep 2; done | {program}");
    let command = Command::new("bash").args(["-c", &typing]).log(&log);
    let mut running = System.start(&command)?;
    let said = || String::from_utf8_lossy(&std::fs::read(&log).unwrap_or_default()).into_owned();
    let found = until(STEP, LOOK, || said().contains(answer).then_some(()));
    running.kill().ok();
    running.wait()?;
    found.with_context(|| {
        format!("{program} does not show \"{answer}\" within {} s: {}", STEP.as_secs(), said())
    })
}

/// Waits until what `program` forwards to `port` of this machine greets as it should. The program ends at the first
/// connection that fails, so it is started again until the other side is there.
fn greeted(program: &Command, log: &Path, port: u16, expected: &str) -> Result<()> {
    let mut last = String::new();
    let found = until(STEP, LOOK, || {
        let mut running = System.start(program).ok()?;
        until(Duration::from_secs(20), LOOK, || {
            let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
            stream.set_read_timeout(Some(Duration::from_secs(20))).ok()?;
            let mut bytes = vec![0; expected.len()];
            last = match stream.read_exact(&mut bytes) {
                Ok(()) => String::from_utf8_lossy(&bytes).into_owned(),
                Err(error) => error.to_string(),
            };
            Some(())
        });
        running.kill().ok();
        running.wait().ok();
        (last == expected).then_some(())
    });
    found.with_context(|| {
        let said = std::fs::read_to_string(log).unwrap_or_default();
        format!("port {port} greets with \"{last}\" instead of \"{expected}\"; {program} said: {said}")
    })
}

fn asks(virtctl: &Virtctl, words: &[&str], expected: &str) -> Result<()> {
    let (good, said) = virtctl.run(words)?;
    ensure!(good && said.contains(expected), "virtctl {}: {said}", words.join(" "));
    Ok(())
}

const DASHBOARD: &str = include_str!("../../docs/examples/grafana.json");

/// Waits until kubectl shows `status` for the VM.
fn is(cluster: &Cluster, status: &str) -> Result<()> {
    cluster.operator.wait(&format!("VM web {status}"), &["vm", "web"], STEP, |vm| {
        (vm["status"]["printableStatus"] == status).then_some(())
    })?;
    Ok(())
}

#[test]
fn a_vm_on_a_node_is_operated_by_virtctl_and_kubectl() {
    case("operate-vm", |case| {
        let cluster = case.cluster()?;
        let folder = tempfile::tempdir()?;
        let server = cluster.operator.server().context("the cluster has an address")?;
        let virtctl = Virtctl::new(cluster.operator.kubeconfig_file())?.at(server);
        cluster.operator.apply(VM)?;
        is(&cluster, "Stopped")?;
        asks(&virtctl, &["start", "web"], "was scheduled to start")?;
        let first = cluster.console_line("web", "guest: up")?;
        let pod =
            ["get", "pods", "-l", "vm.kubevirt.io/name=web", "-o", "jsonpath={.items[0].metadata.name}"];
        let pod = cluster.operator.kubectl(&pod)?;

        // Its serial port: by virtctl, which wants a terminal, and by kubectl.
        let console = format!("script -qfec '{} console web' /dev/null", virtctl.line());
        types(&console, "echo virtctl-$((6 * 7))", "virtctl-42", folder.path())?;
        let kubectl = cluster.operator.kubectl_command(&["attach", "-i", &pod]).to_string();
        types(&kubectl, "echo kubectl-$((6 * 7))", "kubectl-42", folder.path())?;
        let said = cluster.operator.kubectl(&["logs", &pod])?;
        ensure!(said.contains("kubectl-42") && said.contains("guest: up"), "{said}");

        // Its display, and a port of the guest.
        let (display, ssh, pod_ssh) = (ports::free_port()?, ports::free_port()?, ports::free_port()?);
        let log = folder.path().join("forwarded");
        let vnc = ["vnc", "web", "--proxy-only", "--port", &display.to_string()];
        greeted(&virtctl.command(&vnc).log(&log), &log, display, "RFB 003.008\n")?;
        let picture = folder.path().join("web.png");
        let file = picture.display().to_string();
        let (good, said) = virtctl.run(&["vnc", "screenshot", "web", "--file", &file])?;
        let bytes = std::fs::read(&picture).unwrap_or_default();
        ensure!(good && bytes.starts_with(b"\x89PNG") && bytes.len() > 200, "{} bytes: {said}", bytes.len());
        let forward = ["port-forward", "vm/web", &format!("{ssh}:22")];
        greeted(&virtctl.command(&forward).log(&log), &log, ssh, "SSH-2.0-dropbear")?;
        let forward = ["port-forward", &format!("pod/{pod}"), &format!("{pod_ssh}:22")];
        let kubectl = cluster.operator.kubectl_command(&forward);
        greeted(&kubectl.log(&log), &log, pod_ssh, "SSH-2.0-dropbear")?;

        // What it uses.
        let top = until(STEP, LOOK, || {
            let said = cluster.operator.kubectl(&["top", "pod", "--no-headers"]).ok()?;
            said.starts_with(&pod).then_some(said)
        });
        let top = top.context("kubectl top shows nothing of the VM")?;
        let memory =
            top.split_whitespace().nth(2).and_then(|word| word.strip_suffix("Mi")?.parse::<u64>().ok());
        ensure!(memory.is_some_and(|mebibytes| mebibytes > 32), "{top}");
        let metrics = cluster.operator.kubectl(&["get", "--raw", "/api/v1/nodes/node1/proxy/metrics"])?;
        ensure!(
            metrics.contains(
                "kubevirt_vmi_cpu_usage_seconds_total{node=\"node1\",namespace=\"default\",name=\"web\"}"
            ),
            "{metrics}"
        );
        // The dashboard asks for what nodes have.
        let dashboard: serde_json::Value = serde_json::from_str(DASHBOARD)?;
        let panels = dashboard["panels"].as_array().context("a dashboard has panels")?;
        let asked = panels.iter().flat_map(|panel| panel["targets"].as_array().into_iter().flatten());
        let names: BTreeSet<&str> = asked
            .filter_map(|target| target["expr"].as_str())
            .flat_map(|query| query.split(|c: char| !c.is_ascii_alphanumeric() && c != '_'))
            .filter(|word| ["kubevirt_", "sheaf_", "node_"].iter().any(|start| word.starts_with(start)))
            .collect();
        ensure!(names.len() > 10, "{names:?}");
        let resource = ["get", "--raw", "/api/v1/nodes/node1/proxy/metrics/resource"];
        let all = format!("{metrics}{}", cluster.operator.kubectl(&resource)?);
        let missing: Vec<_> = names.iter().filter(|name| !all.contains(&format!("# TYPE {name} "))).collect();
        ensure!(missing.is_empty(), "the dashboard asks for {missing:?}, which no node has");

        // Its life.
        asks(&virtctl, &["pause", "vm", "web"], "was scheduled to pause")?;
        is(&cluster, "Paused")?;
        asks(&virtctl, &["unpause", "vm", "web"], "was scheduled to unpause")?;
        is(&cluster, "Running")?;
        asks(&virtctl, &["reset", "web"], "was scheduled to reset")?;
        let second = cluster.new_console_line("web", "guest: up", &field(&first, "boot-id"))?;
        asks(&virtctl, &["soft-reboot", "web"], "was scheduled to soft-reboot")?;
        cluster.new_console_line("web", "guest: up", &field(&second, "boot-id"))?;
        let (good, said) = virtctl.run(&["start", "web"])?;
        ensure!(!good && said.contains("VM is already running"), "{said}");
        asks(&virtctl, &["stop", "web"], "was scheduled to stop")?;
        is(&cluster, "Stopped")?;
        Ok(())
    });
}
