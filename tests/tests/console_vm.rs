//! The administration console of a node, as a browser asks it, down to a guest: claimed by the code of the node, an image sent in,
//! a machine made of it that boots, what it uses, a snapshot, a clone, the node's journal and support bundle, a token for one more node.
//!
//! Why a whole machine: the unit has a user and credentials of its own, and reads agents by their certificates; an image passes the
//! console, sheaf-controller and the agent to a logical volume, and a guest boots from it. Route in: curl as a browser, at the
//! node's port 443. Route out: the guest's own line on its console, states of objects.

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use sheaf_host::run::{Command, Run as _, System};
use sheaf_host::wait::until;
use sheaf_tests::console::{Browser, ask, claimable};
use sheaf_tests::harness::{Cluster, READY, case};
use std::time::Duration;

/// Longest wait for one step of an emulated node.
const STEP: Duration = Duration::from_secs(300);
/// Twice the interval at which the console asks agents, on an emulated node.
const MEASURED: Duration = Duration::from_secs(150);
const LOOK: Duration = Duration::from_secs(2);
const VOLUMES: &str = "/api/apis/cdi.kubevirt.io/v1beta1/namespaces/default/datavolumes";
const MACHINES: &str = "/api/apis/kubevirt.io/v1/namespaces/default/virtualmachines";
const SNAPSHOTS: &str = "/api/apis/snapshot.kubevirt.io/v1beta1/namespaces/default/virtualmachinesnapshots";
const CLONES: &str = "/api/apis/clone.kubevirt.io/v1beta1/namespaces/default/virtualmachineclones";

fn volume() -> Value {
    json!({
        "apiVersion": "cdi.kubevirt.io/v1beta1", "kind": "DataVolume",
        "metadata": {
            "name": "image", "namespace": "default", "labels": {"console.sheaf.dev/image": "disk"},
            "annotations": {"cdi.kubevirt.io/storage.bind.immediate.requested": "true"},
        },
        "spec": {"source": {"upload": {}}, "storage": {"resources": {"requests": {"storage": "128Mi"}}}},
    })
}

fn machine() -> Value {
    let root = json!({
        "metadata": {"name": "web-root"},
        "spec": {
            "source": {"pvc": {"name": "image", "namespace": "default"}},
            "storage": {"resources": {"requests": {"storage": "128Mi"}}},
        },
    });
    json!({
        "apiVersion": "kubevirt.io/v1", "kind": "VirtualMachine", "metadata": {"name": "web", "namespace": "default"},
        "spec": {"runStrategy": "Always", "dataVolumeTemplates": [root], "template": {"spec": {
            "domain": {"memory": {"guest": "128Mi"}, "devices": {"disks": [{"name": "root"}]}},
            "volumes": [{"name": "root", "dataVolume": {"name": "web-root"}}],
        }}},
    })
}

/// A copy of a machine's state, as `kind` of `group` makes it of the machine web.
fn copy(group: &str, kind: &str, mut spec: Value) -> Value {
    spec["source"] = json!({"apiGroup": "kubevirt.io", "kind": "VirtualMachine", "name": "web"});
    json!({"apiVersion": format!("{group}/v1beta1"), "kind": kind,
           "metadata": {"name": "one", "namespace": "default"}, "spec": spec})
}

/// Makes an object. The API server does not know all kinds at once after its start.
fn made(browser: &Browser, path: &str, object: &Value) -> Result<()> {
    let mut last = (0, String::new());
    let taken = until(READY, LOOK, || {
        last = browser.ask("POST", path, Some(object)).ok()?.said();
        (last.0 != 503).then_some(last.0 == 201)
    });
    ensure!(taken == Some(true), "{path}: {} {}", last.0, last.1);
    Ok(())
}

/// Waits until the console shows the object at `path` in the state that is meant.
fn shown(browser: &Browser, path: &str, is_meant: impl Fn(&Value) -> bool) -> Result<()> {
    let mut last = String::new();
    let seen = until(STEP, LOOK, || {
        last =
            browser.ask("GET", path, None).map_or_else(|error| format!("{error:#}"), |answer| answer.text());
        is_meant(&serde_json::from_str(&last).unwrap_or_default()).then_some(())
    });
    seen.with_context(|| format!("{path}: {last}"))
}

/// Numbers of the last hour that the console has, if the last one is known.
fn measured(browser: &Browser, query: &str) -> Result<Value> {
    let mut last = String::new();
    let found = until(MEASURED, LOOK, || {
        last = browser.ask("GET", &format!("/console/metrics?{query}&span=hour"), None).ok()?.text();
        let numbers: Value = serde_json::from_str(&last).ok()?;
        numbers["processors"].as_array()?.last()?.is_number().then_some(numbers)
    });
    found.with_context(|| format!("{query}: {last}"))
}

/// What the node tells of itself: its journal, node.toml without secrets, a support bundle in which every program succeeded.
fn told(browser: &Browser) -> Result<()> {
    let logs = "/api/api/v1/nodes/node1/proxy/logs";
    let read =
        |path: &str| Ok::<_, anyhow::Error>(browser.ask("GET", &format!("{logs}{path}"), None)?.said());
    let (status, text) = read("?query=sheaf-agent&tailLines=5&boot=0")?;
    ensure!(status == 200 && text.contains(" sheaf-agent["), "{status} {text}");
    ensure!((1..=6).contains(&text.lines().count()), "five lines were asked for: {text}");
    // From the beginning of a line: the request itself is in the journal, too.
    let (status, text) = read("?query=sheaf-agent&pattern=%5Eno-such-word")?;
    ensure!(status == 200 && !text.contains(" sheaf-agent["), "{status} {text}");
    let (status, text) = read("?query=sheaf-agent&boot=-99")?;
    ensure!(status == 500 && text.contains("-99"), "{status} {text}");
    let (status, text) = read("/node.toml")?;
    ensure!(status == 200 && text.contains("hostname = \"node1\""), "{status} {text}");
    let secret = text.lines().find(|line| line.trim_start().starts_with("token") && !line.contains("***"));
    ensure!(secret.is_none(), "{secret:?}");

    let bundle = browser.ask("GET", &format!("{logs}/support-bundle.tar.gz"), None)?;
    ensure!(bundle.status == 200, "{}", bundle.head);
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("bundle.tar.gz");
    std::fs::write(&file, &bundle.body)?;
    System.run(&Command::new("tar").arg("-xzf").arg(&file).arg("-C").arg(folder.path()))?;
    for (name, word) in [
        ("journal.log", "sheaf-agent["),
        ("kernel.log", "Linux version"),
        ("filters.txt", "table"),
        ("pools.json", "\"report\""),
        ("volumes.json", "\"report\""),
        ("disks.json", "\"blockdevices\""),
        ("links.txt", "masq0"),
        ("devices.txt", "P: /"),
        ("space.txt", "/data"),
        ("all-units.txt", "libvirtd"),
        ("processes.txt", "sheaf-agent"),
        ("run-sheaf-status.json", "\"node1\""),
        ("proc-pressure-memory", "some avg10"),
        ("node.toml", "node1"),
    ] {
        let text = std::fs::read(folder.path().join(name)).with_context(|| name.to_owned())?;
        let text = String::from_utf8_lossy(&text);
        ensure!(text.contains(word), "{name}: {}", text.chars().take(400).collect::<String>());
    }
    Ok(())
}

/// Claims the cluster as a person who reads the code on the node.
fn claimed(cluster: &mut Cluster) -> Result<(String, Browser)> {
    let (address, code) = claimable(cluster)?;
    let browser = Browser::claim_by(&address, &code, "anna")?;
    Ok((address, browser))
}

#[test]
fn a_cluster_is_claimed_an_image_sent_in_and_a_machine_made_of_it_boots_is_measured_and_copied() {
    case("console-vm", |case| {
        let mut cluster = case.cluster()?;
        let (address, anna) = claimed(&mut cluster)?;

        made(&anna, VOLUMES, &volume())?;
        shown(&anna, &format!("{VOLUMES}/image"), |volume| volume["status"]["phase"] == "UploadReady")?;
        let file = format!("@{}", case.guest_disk()?.display());
        let words = ["-X", "POST", "-H", "content-type: application/octet-stream", "--data-binary", &file];
        let mut words = [&words[..], &["--max-time", "300"]].concat();
        words.extend(anna.headers().iter().flat_map(|header| ["-H", *header]));
        let (status, said) = ask(&address, &words, "/console/upload/default/image")?.said();
        ensure!(status == 204, "{status} {said}");
        shown(&anna, &format!("{VOLUMES}/image"), |volume| volume["status"]["phase"] == "Succeeded")?;

        made(&anna, MACHINES, &machine())?;
        cluster.console_line("web", "guest: up")?;
        shown(&anna, &format!("{MACHINES}/web"), |machine| {
            machine["status"]["printableStatus"] == "Running"
        })?;
        for query in ["machine=default/web", "node=node1", "cluster"] {
            let numbers = measured(&anna, query)?;
            let memory = numbers["memory"].as_array().and_then(|memory| memory.last()?.as_f64());
            ensure!(memory.is_some_and(|memory| memory > 32e6), "{query}: {numbers}");
        }

        made(&anna, SNAPSHOTS, &copy("snapshot.kubevirt.io", "VirtualMachineSnapshot", json!({})))?;
        shown(&anna, &format!("{SNAPSHOTS}/one"), |snapshot| snapshot["status"]["readyToUse"] == true)?;
        let target = json!({"target": {"apiGroup": "kubevirt.io", "kind": "VirtualMachine", "name": "twin"}});
        made(&anna, CLONES, &copy("clone.kubevirt.io", "VirtualMachineClone", target))?;
        shown(&anna, &format!("{CLONES}/one"), |clone| clone["status"]["phase"] == "Succeeded")?;
        shown(&anna, &format!("{MACHINES}/twin"), |machine| {
            machine["status"]["printableStatus"] == "Stopped"
        })?;

        told(&anna)?;

        let (status, said) =
            anna.ask("POST", "/console/join-tokens", Some(&json!({"node": "node2"})))?.said();
        ensure!(status == 201 && said.contains("mode = \\\"join\\\""), "{status} {said}");
        Ok(())
    });
}
