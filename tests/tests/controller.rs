//! The controller on the real control plane: what is refused, what a VM becomes, when it runs, who gets certificates.
//!
//! Why here: only the API server knows what it accepts, and only the scheduler where a Pod goes. The node is played
//! by the test: it writes Pod statuses and ends Pods, as an agent would. `UPDATE=1` writes the `.err` files again.

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api, Client,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams},
};
use serde_json::{Value, json};
use sheaf_api::{
    VirtualMachine, VirtualMachineInstance,
    placeholder::PlacedVmi,
    status::{Phase, PrintableStatus},
};
use sheaf_tests::controlled::{Controlled, wait};
use std::{
    fs,
    path::{Path, PathBuf},
};

/// A control plane with a controller that leads it, and what the test knows of VMs on it.
struct Bench {
    on: Controlled,
    client: Client,
}

impl Bench {
    async fn start() -> Result<Self> {
        let on = Controlled::start().await?;
        Ok(Self { client: on.client.clone(), on })
    }

    /// What kubectl says, on either stream.
    fn kubectl(&self, words: &[&str]) -> Result<String> {
        self.on.kubectl(words)
    }

    fn machines(&self) -> Api<VirtualMachine> {
        Api::default_namespaced(self.client.clone())
    }

    fn instances(&self) -> Api<VirtualMachineInstance> {
        Api::default_namespaced(self.client.clone())
    }

    fn pods(&self) -> Api<Pod> {
        Api::default_namespaced(self.client.clone())
    }

    /// A node that runs nothing but VMs.
    async fn node(&self) -> Result<()> {
        let spec = json!({"taints": [{"key": "sheaf.dev/vm-only", "effect": "NoSchedule"}]});
        self.on.node("n1", spec).await
    }

    async fn vm(&self, name: &str, strategy: &str, memory: &str) -> Result<()> {
        let vm: VirtualMachine = serde_json::from_value(json!({
            "apiVersion": "kubevirt.io/v1", "kind": "VirtualMachine", "metadata": {"name": name},
            "spec": {"runStrategy": strategy, "template": {"spec": {
                "domain": {"cpu": {"cores": 2}, "memory": {"guest": memory}, "devices": {"disks": [{"name": "root"}]}},
                "volumes": [{"name": "root", "hostDisk": {"path": "/data/images/debian-13", "type": "Disk"}}]}}},
        }))?;
        self.machines().create(&PostParams::default(), &vm).await?;
        Ok(())
    }

    async fn strategy(&self, name: &str, strategy: &str) -> Result<()> {
        let patch = json!({"spec": {"runStrategy": strategy}});
        self.machines().patch(name, &PatchParams::default(), &Patch::Merge(&patch)).await?;
        Ok(())
    }

    async fn says(&self, name: &str, status: PrintableStatus) -> Result<()> {
        wait(&format!("VM {name} is {status}"), async || {
            let vm = self.machines().get_opt(name).await?;
            Ok(vm.filter(|vm| vm.status.as_ref().and_then(|status| status.printable_status) == Some(status)))
        })
        .await
        .map(drop)
    }

    /// The Pod of `name`, bound to a node, that is not the Pod called `not`.
    async fn placed(&self, name: &str, not: &str) -> Result<Pod> {
        let mine = ListParams::default().labels(&format!("vm.kubevirt.io/name={name}"));
        wait(&format!("a Pod of {name} is placed"), async || {
            let pods = self.pods().list(&mine).await?.items;
            Ok(pods.into_iter().find(|pod| {
                let node = pod.spec.as_ref().and_then(|spec| spec.node_name.as_ref());
                node.is_some() && pod.metadata.name.as_deref() != Some(not)
            }))
        })
        .await
    }
}

fn name_of(pod: &Pod) -> &str {
    pod.metadata.name.as_deref().unwrap_or_default()
}

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn yaml_files(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut files: Vec<PathBuf> = fs::read_dir(folder)
        .with_context(|| folder.display().to_string())?
        .map(|entry| Ok(entry?.path()))
        .collect::<Result<_>>()?;
    files.retain(|file| file.extension().is_some_and(|extension| extension == "yaml"));
    files.sort();
    Ok(files)
}

#[tokio::test(flavor = "multi_thread")]
async fn every_bad_manifest_is_refused_in_exactly_these_words_and_every_example_accepted() -> Result<()> {
    let bench = Bench::start().await?;
    let mut wrong = Vec::new();
    let bad = yaml_files(&workspace().join("tests/manifests/bad"))?;
    ensure!(bad.len() >= 25, "the bad manifests are missing");
    for file in bad {
        let path = file.display().to_string();
        let said =
            in_order(&bench.kubectl(&["create", "--dry-run=server", "-f", &path])?.replace(&path, "FILE"));
        let expected = file.with_extension("err");
        if std::env::var_os("UPDATE").is_some() && !said.contains("created (server dry run)") {
            fs::write(&expected, &said)?;
        }
        if in_order(&fs::read_to_string(&expected).unwrap_or_default()) != said {
            wrong.push(format!("{path}: {said}"));
        }
    }
    for file in yaml_files(&workspace().join("docs/examples"))? {
        let said = bench.kubectl(&["create", "--dry-run=server", "-f", &file.display().to_string()])?;
        if !said.ends_with("created (server dry run)\n") {
            wrong.push(format!("{}: {said}", file.display()));
        }
    }
    ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
    Ok(())
}

/// What kubectl says, its list of reasons sorted: the API server evaluates the rules of sibling fields in no fixed order.
fn in_order(said: &str) -> String {
    let mut lines: Vec<&str> = said.split_inclusive('\n').collect();
    lines.sort_by_key(|line| line.strip_prefix("* "));
    lines.concat()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_vm_is_placed_runs_fails_waits_and_starts_again_but_never_twice() -> Result<()> {
    let bench = Bench::start().await?;
    bench.node().await?;
    bench.vm("web", "Always", "1Gi").await?;
    let first = bench.placed("web", "").await?;
    let spec = first.spec.clone().context("a Pod has a spec")?;
    ensure!(spec.runtime_class_name.as_deref() == Some("sheaf-vm"));
    let requests: Value = serde_json::to_value(&spec.containers[0].resources)?["requests"].clone();
    ensure!(requests["memory"] == "1158Mi" && requests["devices.kubevirt.io/kvm"] == "1", "{requests}");
    let annotation = &first.metadata.annotations.clone().unwrap_or_default()["sheaf.dev/vmi"];
    let placed = PlacedVmi::from_annotation(annotation)?;

    bench.on.node_says(name_of(&first), "Running", "").await?;
    bench.says("web", PrintableStatus::Running).await?;
    let vmi = wait("the instance runs", async || {
        let vmi = bench.instances().get_opt("web").await?;
        Ok(vmi.filter(|vmi| vmi.status.as_ref().and_then(|status| status.phase) == Some(Phase::Running)))
    })
    .await?;
    let status = vmi.status.unwrap_or_default();
    ensure!(status.node_name.as_deref() == Some("n1"));
    ensure!(status.interfaces[0].ip_address.as_deref() == Some("192.0.2.50"));

    // Anyone who deletes the instance restarts the VM; but the Pod still runs, so nothing else may yet.
    bench.instances().delete("web", &DeleteParams::default()).await?;
    bench.says("web", PrintableStatus::Stopping).await?;
    let names: Vec<String> =
        bench.pods().list(&ListParams::default()).await?.iter().map(|pod| name_of(pod).to_owned()).collect();
    ensure!(names == [name_of(&first)], "beside the first Pod: {names:?}");
    bench.on.node_ends(name_of(&first)).await?;
    let second = bench.placed("web", name_of(&first)).await?;
    let annotation = &second.metadata.annotations.clone().unwrap_or_default()["sheaf.dev/vmi"];
    let again = PlacedVmi::from_annotation(annotation)?;
    ensure!(again.spec == placed.spec, "UUID or MAC address changed between two starts");
    ensure!(again.uid != placed.uid);

    // A crash soon after the start makes the next start wait. (The API server removes a Pod that is over at once.)
    bench.on.node_says(name_of(&second), "Failed", "GuestCrashed").await?;
    bench.says("web", PrintableStatus::CrashLoopBackOff).await?;
    let third = bench.placed("web", name_of(&second)).await?;

    bench.machines().delete("web", &DeleteParams::default()).await?;
    bench.says("web", PrintableStatus::Terminating).await?;
    bench.on.node_ends(name_of(&third)).await?;
    wait("the VM is gone", async || Ok(bench.machines().get_opt("web").await?.is_none().then_some(()))).await
}

#[tokio::test(flavor = "multi_thread")]
async fn run_strategies_decide_what_follows_a_clean_stop() -> Result<()> {
    let bench = Bench::start().await?;
    bench.node().await?;
    bench.vm("job", "RerunOnFailure", "512Mi").await?;
    bench.vm("big", "Always", "64Gi").await?;
    bench.says("big", PrintableStatus::ErrorUnschedulable).await?;

    let pod = bench.placed("job", "").await?;
    bench.on.node_says(name_of(&pod), "Running", "").await?;
    bench.says("job", PrintableStatus::Running).await?;
    bench.on.node_says(name_of(&pod), "Succeeded", "").await?;
    bench.says("job", PrintableStatus::Stopped).await?;
    // Halted removes what is left; Always begins again.
    bench.strategy("job", "Halted").await?;
    wait("no instance is left", async || Ok(bench.instances().get_opt("job").await?.is_none().then_some(())))
        .await?;
    bench.says("job", PrintableStatus::Stopped).await?;
    bench.strategy("job", "Always").await?;
    bench.placed("job", name_of(&pod)).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_else_makes_placeholder_pods_and_no_instance_is_changed() -> Result<()> {
    let bench = Bench::start().await?;
    let pod: Pod = serde_json::from_value(json!({
        "metadata": {"name": "forged"},
        "spec": {"runtimeClassName": "sheaf-vm", "containers": [{"name": "compute", "image": "x"}]},
    }))?;
    // A policy is in force some moments after it was made.
    let tried = PostParams { dry_run: true, ..PostParams::default() };
    let refused = wait("such a Pod is refused", async || {
        Ok(bench.pods().create(&tried, &pod).await.err().map(|error| error.to_string()))
    })
    .await?;
    ensure!(refused.contains("create a VirtualMachine instead"), "{refused}");

    bench.vm("web", "Always", "1Gi").await?;
    wait("it has an instance", async || bench.instances().get_opt("web").await).await?;
    let patch = json!({"spec": {"hostname": "other"}});
    let changed = bench.instances().patch("web", &PatchParams::default(), &Patch::Merge(&patch)).await;
    let refused = changed.map(drop).unwrap_err().to_string();
    ensure!(refused.contains("an instance cannot be changed"), "{refused}");
    Ok(())
}
