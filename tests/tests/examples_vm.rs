//! KubeVirt's own example manifests on a node: which run, and what the others wait for.
//!
//! Why a whole machine: that a manifest is accepted says nothing of QEMU, firmware and AppArmor. Every image is the guest of
//! these tests, under the name that the examples have for it, in a registry of this machine. Route in: KubeVirt's module. Route
//! out: `kubevirt-examples.md` among the artefacts of each case, a line for each file.

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use sheaf_host::wait::until;
use sheaf_tests::examples::{DEFINITIONS, OTHER_KINDS, REFUSED, examples};
use sheaf_tests::harness::{Case, Cluster, READY, case};
use sheaf_tests::registry::Registry;
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A VM that has not begun to run after so long waits for something that does not come.
const RUNS: Duration = Duration::from_secs(150);
/// Between two looks.
const LOOK: Duration = Duration::from_secs(1);
/// How many must run: all that KubeVirt itself runs on a node without such devices.
const BAR: usize = 22;
/// Why a VM with an instancetype and an amount of memory of its own does not start; KubeVirt's `pkg/instancetype/apply/memory.go` says the
/// same of these examples.
const CONFLICT: &str = "spec.template.spec.domain.memory.guest conflicts with selected instance type";
/// All of them take an hour of emulation: a case for each quarter.
const PARTS: usize = 4;
/// What the claim of a GPU is made from: KubeVirt's `pgpu-resource-claim-tmpl.yaml`, whose version this Kubernetes serves no more.
const CLAIM_TEMPLATE: &str = r"
apiVersion: resource.k8s.io/v1
kind: ResourceClaimTemplate
metadata: {name: pgpu-resource-claim-tmpl}
spec:
  spec:
    devices:
      requests: [{name: pgpu, exactly: {deviceClassName: gpu.example.com}}]
";
/// The image that a VM boots its kernel from, and where kernel and initrd are in it.
const KERNEL: (&str, [&str; 2]) =
    ("kubevirt/alpine-ext-kernel-boot-demo", ["boot/vmlinuz-virt", "boot/initramfs-virt"]);
/// Examples that do not run here, and a word of why; in KubeVirt neither.
const WAITING: &[(&str, &str)] = &[
    ("vm-cirros-clarge.yaml", CONFLICT),
    ("vm-cirros-clarge-virtio.yaml", CONFLICT),
    ("vm-cirros-clarge-windows.yaml", CONFLICT),
    ("vm-cirros-cluster-csmall.yaml", CONFLICT),
    ("vm-cirros-csmall.yaml", CONFLICT),
    ("vm-windows-clarge-windows.yaml", CONFLICT),
    // The node has no processors for one VM alone, and no such devices.
    ("vmi-fedora-isolated.yaml", "selector"),
    ("vmi-gpu.yaml", "Insufficient nvidia.com/GP102GL_Tesla_P40"),
    ("vmi-usb.yaml", "Insufficient kubevirt.io/storage"),
    ("vmi-sriov.yaml", "Insufficient intel.com/virtual-function"),
    ("vmi-dra-pgpu.yaml", "device class gpu.example.com does not exist"),
];

/// The words after `key:` in all of `text`.
fn values<'t>(text: &'t str, key: &str) -> BTreeSet<&'t str> {
    text.lines()
        .filter_map(|line| line.trim().trim_start_matches("- ").strip_prefix(key)?.strip_prefix(": "))
        .collect()
}

/// What examples refer to and do not have: classes of storage, claims with the guest on them, and networks.
fn bring(cluster: &Cluster, text: &str) -> Result<()> {
    let classes = values(text, "storageClassName");
    for class in classes.into_iter().filter(|name| !name.is_empty() && *name != "sheaf") {
        let class = json!({
            "apiVersion": "storage.k8s.io/v1", "kind": "StorageClass", "metadata": {"name": class},
            "provisioner": "lvm.sheaf.dev", "volumeBindingMode": "WaitForFirstConsumer", "allowVolumeExpansion": true,
        });
        cluster.operator.wait_apply(&class.to_string(), READY)?;
    }
    for claim in values(text, "claimName") {
        let volume = json!({
            "apiVersion": "cdi.kubevirt.io/v1beta1", "kind": "DataVolume", "metadata": {"name": claim},
            "spec": {
                "source": {"registry": {"url": "docker://registry:5000/kubevirt/cirros-container-disk-demo:devel"}},
                "storage": {"resources": {"requests": {"storage": "2Gi"}}},
            },
        });
        cluster.operator.wait_apply(&volume.to_string(), READY)?;
    }
    let is_function = text.contains("sriov: {}");
    for network in values(text, "networkName") {
        let (namespace, name) = network.split_once('/').unwrap_or(("default", network));
        if namespace != "default" {
            let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}});
            cluster.operator.wait_apply(&namespace.to_string(), READY)?;
        }
        let config = match is_function {
            true => json!({"cniVersion": "0.3.1", "type": "sriov", "vlan": 100}),
            false => json!({"cniVersion": "0.3.1", "type": "bridge", "bridge": "br0", "vlan": 100}),
        };
        let network = json!({
            "apiVersion": "k8s.cni.cncf.io/v1", "kind": "NetworkAttachmentDefinition",
            "metadata": {
                "name": name, "namespace": namespace, "labels": {"sheaf.dev/shared": "true"},
                "annotations": {"k8s.v1.cni.cncf.io/resourceName": "intel.com/virtual-function"},
            },
            "spec": {"config": config.to_string()},
        });
        cluster.operator.wait_apply(&network.to_string(), READY)?;
    }
    Ok(())
}

fn items(cluster: &Cluster, kind: &str) -> Result<Vec<Value>> {
    let list: Value = serde_json::from_str(&cluster.operator.kubectl(&["get", kind, "-o", "json"])?)?;
    Ok(list["items"].as_array().cloned().unwrap_or_default())
}

/// Starts what is halted, as `virtctl start` would.
fn start_halted(cluster: &Cluster) -> Result<()> {
    for vm in items(cluster, "vm")? {
        let strategy = &vm["spec"]["runStrategy"];
        if strategy == "Halted" || vm["spec"]["running"] == false {
            let name = vm["metadata"]["name"].as_str().context("a VM has a name")?;
            let patch = json!({"spec": {"runStrategy": "Always", "running": null}}).to_string();
            cluster.operator.kubectl(&["patch", "vm", name, "--type=merge", "-p", &patch])?;
        }
    }
    Ok(())
}

/// What VMs and instances say that they wait for.
fn reasons(cluster: &Cluster) -> Result<String> {
    let mut said = String::new();
    for object in items(cluster, "vm")?.into_iter().chain(items(cluster, "vmi")?) {
        let (status, spaces) = (&object["status"], |text: &str| text.replace(['\n', '|'], " "));
        let state = status["printableStatus"].as_str().or(status["phase"].as_str()).unwrap_or("nothing");
        let _ = write!(said, "{} {state}: ", object["kind"].as_str().unwrap_or_default());
        for condition in status["conditions"]
            .as_array()
            .into_iter()
            .flatten()
            .filter(|one| one["status"] != "True" || one["type"] == "Failure")
        {
            let _ = write!(said, "{}; ", spaces(condition["message"].as_str().unwrap_or_default()));
        }
    }
    Ok(said)
}

/// Tries one file; nothing if all its VMs run, or what they wait for.
fn try_file(cluster: &Cluster, path: &Path) -> Result<Option<String>> {
    let (file, text) = (path.display().to_string(), std::fs::read_to_string(path)?);
    bring(cluster, &text)?;
    cluster.operator.kubectl(&["apply", "-f", &file])?;
    start_halted(cluster)?;
    let run = until(RUNS, LOOK, || {
        let all = items(cluster, "vmi").ok()?;
        (!all.is_empty() && all.iter().all(|vmi| vmi["status"]["phase"] == "Running")).then_some(())
    });
    let waits = if run.is_some() { None } else { Some(reasons(cluster)?) };
    cluster.operator.kubectl(&["delete", "-f", &file, "--wait=true", "--timeout=180s"])?;
    until(READY, LOOK, || items(cluster, "vmi").is_ok_and(|all| all.is_empty()).then_some(()))
        .with_context(|| format!("the VMs of {file} do not go"))?;
    cluster.operator.kubectl(&["delete", "dv", "--all", "--wait=true", "--timeout=180s"])?;
    Ok(waits)
}

fn name_of(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// A word of the reason, if the example waits.
fn expected_to_wait(name: &str) -> Option<&'static str> {
    WAITING.iter().find(|(waiting, _)| *waiting == name).map(|(_, word)| *word)
}

fn files() -> Result<Vec<PathBuf>> {
    let mut all = Vec::new();
    for file in std::fs::read_dir(examples()?)? {
        let path = file?.path();
        let name = name_of(&path);
        let is_other = OTHER_KINDS.contains(&name.as_str()) || DEFINITIONS.contains(&name.as_str());
        if name.ends_with(".yaml") && !is_other && REFUSED.iter().all(|(refused, _)| *refused != name) {
            all.push(path);
        }
    }
    all.sort();
    Ok(all)
}

/// Every image that the examples name, in `registry`, and the node told where it is.
fn serve_images(case: &Case, cluster: &Cluster, registry: &Registry, files: &[PathBuf]) -> Result<()> {
    let mut images = BTreeSet::new();
    for file in files {
        let text = std::fs::read_to_string(file)?;
        images.extend(
            values(&text, "image")
                .iter()
                .filter_map(|image| Some(image.strip_prefix("registry:5000/")?.to_owned())),
        );
    }
    for image in &images {
        let (repository, tag) = image.split_once(':').with_context(|| format!("{image} has no tag"))?;
        let disk = case.guest_disk()?;
        if repository == KERNEL.0 {
            let work = disk.with_file_name("work").join("disk");
            let [kernel, initrd] = KERNEL.1;
            registry.push_files(
                repository,
                tag,
                &[(kernel, &work.join("vmlinuz")), (initrd, &work.join("initrd"))],
            )?;
        } else {
            registry.push(repository, tag, &disk)?;
        }
    }
    let table =
        format!("\\n[[registry]]\\nname = \"registry:5000\"\\nmirrors = [\"{}\"]\\n", registry.mirror());
    cluster.root(&format!("printf '{table}' >> /state/node.toml && systemctl restart sheaf-agent"))?;
    Ok(())
}

/// Every `PARTS`th file, beginning with number `part`.
fn run_part(part: usize) {
    case(&format!("examples-vm-{part}"), |case| {
        let cluster = case.cluster()?;
        let (registry, all) = (Registry::start()?, files()?);
        let must_run = all.iter().filter(|path| expected_to_wait(&name_of(path)).is_none()).count();
        ensure!(must_run >= BAR, "{must_run} examples must run, {BAR} at least");
        let files: Vec<_> = all.into_iter().skip(part).step_by(PARTS).collect();
        serve_images(case, &cluster, &registry, &files)?;
        let folder = examples()?;
        cluster.operator.wait_apply(CLAIM_TEMPLATE, READY)?;
        for file in DEFINITIONS {
            cluster.operator.kubectl(&["apply", "-f", &folder.join(file).display().to_string()])?;
        }
        let (mut table, mut wrong) = (String::from("| example | result |\n|---|---|\n"), Vec::new());
        for path in &files {
            let name = name_of(path);
            let waits = try_file(&cluster, path)?;
            match (&waits, expected_to_wait(&name)) {
                (None, None) => {}
                (Some(reason), Some(word)) if reason.contains(word) => {}
                _ => wrong.push(format!("{name}: {waits:?}")),
            }
            let line = format!("| `{name}` | {} |", waits.as_deref().unwrap_or("Running"));
            eprintln!("{line}");
            table += &(line + "\n");
        }
        std::fs::create_dir_all(case.artefacts())?;
        std::fs::write(case.artefacts().join("kubevirt-examples.md"), &table)?;
        ensure!(wrong.is_empty(), "not as expected:\n{}\n{table}", wrong.join("\n"));
        Ok(())
    });
}

#[test]
fn kubevirts_examples_run_on_a_node_or_wait_with_the_reason_first_quarter() {
    run_part(0);
}

#[test]
fn kubevirts_examples_run_on_a_node_or_wait_with_the_reason_second_quarter() {
    run_part(1);
}

#[test]
fn kubevirts_examples_run_on_a_node_or_wait_with_the_reason_third_quarter() {
    run_part(2);
}

#[test]
fn kubevirts_examples_run_on_a_node_or_wait_with_the_reason_last_quarter() {
    run_part(3);
}
