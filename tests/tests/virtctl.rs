//! A VM operated by virtctl itself, on the real API server.

use anyhow::{Context as _, Result, ensure};
use kube::api::{Api, PostParams};
use sheaf_api::VirtualMachine;
use sheaf_tests::played::{PlayedNode, cluster, vm};
use sheaf_tests::virtctl::{self, Virtctl};
use std::path::Path;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixListener;

/// Longest wait for anything here; the machine is shared with other tests.
const TIMEOUT: Duration = Duration::from_secs(90);

/// A claim that virtctl finds.
const CLAIM: &str = r#"{"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "data"},
    "spec": {"accessModes": ["ReadWriteOnce"], "storageClassName": "", "resources": {"requests": {"storage": "1Gi"}}}}"#;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn virtctl_pauses_types_into_and_stops_a_vm() -> Result<()> {
    operates(virtctl::SAME, "").await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "builds another virtctl: make test-all"]
async fn the_next_release_of_virtctl_does_the_same_and_says_that_it_is_another() -> Result<()> {
    operates(virtctl::NEXT, "different").await
}

/// What an operator does; `warning` is a word that virtctl says about the versions, and nothing otherwise.
async fn operates(release: virtctl::Release, warning: &str) -> Result<()> {
    let on = cluster().await?;
    let node = PlayedNode::start(&on).await?;
    let machines: Api<VirtualMachine> = Api::default_namespaced(on.client.clone());
    machines.create(&PostParams::default(), &vm("web", "Always")?).await?;
    let (vmi, serial) = node.run(&on, "web", "").await?;
    let pod = sheaf_controller::placeholder::name(&vmi);

    let virtctl = Virtctl::of(release, on.plane.kubeconfig())?;
    let (good, said) = virtctl.run(&["version"])?;
    ensure!(good && said.contains("Server Version"), "{said}");
    let (good, said) = virtctl.run(&["pause", "vm", "web"])?;
    ensure!(good && said.contains("was scheduled to pause"), "{said}");
    let (good, said) = virtctl.run(&["start", "web"])?;
    ensure!(!good && said.contains("VM is already running"), "{said}");
    ensure!(said.contains("different") != warning.is_empty(), "what virtctl says of the versions: {said}");
    let (good, said) = virtctl.run(&["guestosinfo", "web"])?;
    // This one of its clients shows the status code alone; the message is checked above, by request.
    ensure!(!good && said.contains("the server reported a conflict"), "{said}");

    on.kubectl_with(&["create"], CLAIM)?;
    for (what, expected) in [
        (vec!["addvolume", "web", "--volume-name=data", "--persist"], "Successfully submitted add volume"),
        (vec!["addvolume", "web", "--volume-name=data", "--persist"], "already exists"),
        (
            vec!["removevolume", "web", "--volume-name=data", "--persist"],
            "Successfully submitted remove volume",
        ),
    ] {
        let (_, said) = virtctl.run(&what)?;
        ensure!(said.contains(expected), "{what:?}: {said}");
    }

    console(&virtctl, &serial).await?;
    let (good, said) = virtctl.run(&["stop", "web"])?;
    ensure!(good && said.contains("was scheduled to stop"), "{said}");
    on.node_ends(&pod).await
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
