//! Snapshots, restores and clones of VMs on the real control plane.
//!
//! Why here: only the API server and kube-controller-manager know what owners, finalizers and claims come to. The node is the
//! agent's own code with libvirt played, so that a freeze goes the whole way; its volumes are played by the test.

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::{
    apps::v1::ControllerRevision,
    core::v1::{PersistentVolumeClaim, Pod},
    events::v1::Event,
};
use kube::{
    Api, Resource,
    api::{DeleteParams, ListParams, Patch, PatchParams},
};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use sheaf_api::{
    VirtualMachine, VirtualMachineInstance,
    cdi::DataVolume,
    conditions::find,
    snapshot::VolumeSnapshot,
    storage::{LocalVolume, local_volume::VolumeKind},
    vm_clone::{ClonePhase, VirtualMachineClone},
    vm_snapshot::{
        Indication, SnapshotPhase, VirtualMachineRestore, VirtualMachineSnapshot,
        VirtualMachineSnapshotContent, VirtualMachineSnapshotStatus,
    },
};
use sheaf_tests::cluster::client_of;
use sheaf_tests::controlled::{Controlled, wait};
use sheaf_tests::played::{PlayedNode, cluster};
use sheaf_tests::played_volumes::PlayedVolumes;
use std::path::Path;
use std::sync::atomic::Ordering;

/// A cluster with one node that has a pool and makes volumes.
struct Bench {
    on: Controlled,
    node: PlayedNode,
    volumes: PlayedVolumes,
}

impl Bench {
    async fn start() -> Result<Self> {
        let on = cluster().await?;
        let node = PlayedNode::start(&on).await?;
        let volumes = PlayedVolumes::start(&on).await?;
        Ok(Self { on, node, volumes })
    }

    /// A VM with a disk of its own, a claim and cloud-init that runs, and whose guest has an agent; its instance.
    async fn running(&self) -> Result<VirtualMachineInstance> {
        self.on
            .make::<PersistentVolumeClaim>(json!({"metadata": {"name": "web-data"}, "spec": {
            "accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}}))
            .await?;
        self.on.make::<VirtualMachine>(json!({
            "apiVersion": "kubevirt.io/v1", "kind": "VirtualMachine",
            "metadata": {"name": "web", "labels": {"team": "a"}},
            "spec": {
                "runStrategy": "Always",
                "dataVolumeTemplates": [{"metadata": {"name": "web-root"}, "spec": {"source": {"blank": {}},
                    "storage": {"resources": {"requests": {"storage": "1Gi"}}}}}],
                "template": {"spec": {
                    "domain": {"memory": {"guest": "64Mi"}, "devices": {
                        "interfaces": [{"name": "default", "masquerade": {}}]}},
                    "networks": [{"name": "default", "pod": {}}],
                    "terminationGracePeriodSeconds": 5,
                    "volumes": [{"name": "root", "dataVolume": {"name": "web-root"}},
                                {"name": "data", "persistentVolumeClaim": {"claimName": "web-data"}},
                                {"name": "seed", "cloudInitNoCloud": {"userData": "#cloud-config"}}]}},
            },
        }))
        .await?;
        let (vmi, serial) = self.node.run(&self.on, "web", "").await?;
        drop(serial);
        let seen =
            json!([{"name": "default", "ipAddresses": ["192.0.2.50"], "infoSource": "domain, guest-agent"}]);
        let patch = json!({"metadata": {"annotations": {"sheaf.dev/interfaces": seen.to_string()}}});
        let pod = sheaf_controller::placeholder::name(&vmi);
        // Only the node and the controller may write this.
        let trusted = client_of(&self.on.plane.controller_kubeconfig()).await?;
        let pods: Api<Pod> = Api::default_namespaced(trusted);
        pods.patch(&pod, &PatchParams::default(), &Patch::Merge(&patch)).await?;
        wait("the guest's agent is connected", async || {
            let vmi = self.on.here::<VirtualMachineInstance>().get_opt("web").await?;
            Ok(vmi.filter(|vmi| {
                let conditions =
                    vmi.status.as_ref().map(|status| status.conditions.clone()).unwrap_or_default();
                find(&conditions, "AgentConnected").is_some_and(|agent| agent.status == "True")
            }))
        })
        .await
    }

    async fn snapshot(&self, name: &str) -> Result<VirtualMachineSnapshot> {
        self.on.make(json!({
            "apiVersion": "snapshot.kubevirt.io/v1beta1", "kind": "VirtualMachineSnapshot", "metadata": {"name": name},
            "spec": {"source": {"apiGroup": "kubevirt.io", "kind": "VirtualMachine", "name": "web"}},
        }))
        .await
    }

    async fn succeeded(&self, name: &str) -> Result<VirtualMachineSnapshotStatus> {
        wait(&format!("snapshot {name} succeeds"), async || {
            let snapshot = self.on.here::<VirtualMachineSnapshot>().get_opt(name).await?;
            let status = snapshot.and_then(|snapshot| snapshot.status).unwrap_or_default();
            let done = status.phase == Some(SnapshotPhase::Succeeded) && status.ready_to_use == Some(true);
            Ok(done.then_some(status))
        })
        .await
    }

    async fn restore(&self, name: &str, target: &str, more: Value) -> Result<VirtualMachineRestore> {
        let mut spec = json!({
            "target": {"apiGroup": "kubevirt.io", "kind": "VirtualMachine", "name": target},
            "virtualMachineSnapshotName": "nightly",
        });
        for (key, value) in more.as_object().into_iter().flatten() {
            spec[key] = value.clone();
        }
        let kind = "VirtualMachineRestore";
        self.on.make(json!({"apiVersion": "snapshot.kubevirt.io/v1beta1", "kind": kind, "metadata": {"name": name}, "spec": spec}))
            .await
    }

    async fn complete(&self, name: &str) -> Result<VirtualMachineRestore> {
        wait(&format!("restore {name} is complete"), async || {
            let restore = self.on.here::<VirtualMachineRestore>().get_opt(name).await?;
            let done = |restore: &VirtualMachineRestore| {
                restore.status.as_ref().and_then(|status| status.complete) == Some(true)
            };
            Ok(restore.filter(done))
        })
        .await
    }

    /// The node was asked to freeze and to thaw, in this order.
    fn frozen_and_thawed(&self) -> Vec<String> {
        let words = self.node.vms.asked().into_iter();
        let first = words.filter_map(|line| line.split(' ').next().map(str::to_owned));
        first.filter(|word| word == "freeze" || word == "thaw").collect()
    }

    async fn gone<K>(&self, what: &str) -> Result<()>
    where
        K: Resource<DynamicType = ()> + Clone + std::fmt::Debug + DeserializeOwned,
    {
        let all: Api<K> = Api::all(self.on.client.clone());
        wait(&format!("no {what} is left"), async || {
            Ok(all.list(&ListParams::default()).await?.items.is_empty().then_some(()))
        })
        .await
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_running_vm_is_frozen_snapshotted_restored_and_cloned_and_nothing_is_left() -> Result<()> {
    let bench = Bench::start().await?;
    let machines = bench.on.here::<VirtualMachine>();
    let vmi = bench.running().await?;

    bench.snapshot("nightly").await?;
    let status = bench.succeeded("nightly").await?;
    ensure!(bench.frozen_and_thawed() == ["freeze", "thaw"], "{:?}", bench.node.vms.asked());
    ensure!(status.indications == [Indication::Online, Indication::GuestAgent], "{status:?}");
    let volumes = status.snapshot_volumes.clone().unwrap_or_default();
    ensure!(
        volumes.included_volumes == ["root", "data"] && volumes.excluded_volumes == ["seed"],
        "{volumes:?}"
    );
    let free = async |what: &str| {
        wait(what, async || {
            let status = machines.get("web").await?.status.unwrap_or_default();
            Ok((status.snapshot_in_progress.is_none() && status.restore_in_progress.is_none()).then_some(()))
        })
        .await
    };
    free("the VM is released by its snapshot").await?;
    let shown = bench.on.kubectl(&["get", "vmsnapshot", "nightly"])?;
    ensure!(shown.contains("Succeeded") && shown.contains("true"), "{shown}");

    // It runs: a restore that does not wait fails; one that waits is done when it is stopped.
    let failing = json!({"targetReadinessPolicy": "FailImmediate"});
    bench.restore("at-once", "web", failing).await?;
    wait("the restore fails", async || {
        let status =
            bench.on.here::<VirtualMachineRestore>().get("at-once").await?.status.unwrap_or_default();
        Ok(find(&status.conditions, "Failure").is_some().then_some(()))
    })
    .await?;
    let changed = json!({"spec": {"template": {"spec": {"hostname": "changed"}}}});
    machines.patch("web", &PatchParams::default(), &Patch::Merge(&changed)).await?;
    bench.restore("back", "web", json!({"targetReadinessPolicy": "StopTarget"})).await?;
    bench.on.node_ends(&sheaf_controller::placeholder::name(&vmi)).await?;
    let restore = bench.complete("back").await?;
    let uid = restore.metadata.uid.clone().context("a UID")?;
    let vm = machines.get("web").await?;
    let spec = serde_json::to_value(&vm.spec)?;
    ensure!(spec["template"]["spec"].get("hostname").is_none() && spec["runStrategy"] == "Halted", "{spec}");
    let volumes = &spec["template"]["spec"]["volumes"];
    ensure!(volumes[0]["dataVolume"]["name"] == format!("restore-{uid}-root"), "{volumes}");
    ensure!(volumes[1]["persistentVolumeClaim"]["claimName"] == format!("restore-{uid}-data"), "{volumes}");
    let deleted = restore.status.unwrap_or_default().deleted_data_volumes;
    ensure!(deleted == ["web-root"], "{deleted:?}");
    wait("the former disk is deleted", async || {
        Ok(bench.on.here::<DataVolume>().get_opt("web-root").await?.is_none().then_some(()))
    })
    .await?;
    free("the VM is released by its restore").await?;
    ensure!(bench.on.here::<PersistentVolumeClaim>().get_opt("web-data").await?.is_some(), "a claim is kept");

    // A clone, and what it took.
    bench
        .on.make::<VirtualMachineClone>(json!({
            "apiVersion": "clone.kubevirt.io/v1beta1", "kind": "VirtualMachineClone", "metadata": {"name": "copy"},
            "spec": {"source": {"apiGroup": "kubevirt.io", "kind": "VirtualMachine", "name": "web"},
                     "target": {"apiGroup": "kubevirt.io", "kind": "VirtualMachine", "name": "web2"},
                     "labelFilters": ["!team"], "newMacAddresses": {"default": "52:54:00:00:00:02"}},
        }))
        .await?;
    let status = wait("the clone succeeds and has removed what it took", async || {
        let clone = bench.on.here::<VirtualMachineClone>().get("copy").await?;
        let status = clone.status.unwrap_or_default();
        let done = status.phase == Some(ClonePhase::Succeeded) && status.restore_name.is_none();
        Ok(done.then_some(status))
    })
    .await?;
    ensure!(status.target_name.as_deref() == Some("web2"), "{status:?}");
    let copy = machines.get("web2").await?;
    ensure!(copy.metadata.labels.unwrap_or_default().is_empty());
    let spec = serde_json::to_value(&copy.spec)?;
    let interface = &spec["template"]["spec"]["domain"]["devices"]["interfaces"][0];
    ensure!(interface["macAddress"] == "52:54:00:00:00:02" && spec["runStrategy"] == "Halted", "{spec}");
    wait("only the snapshot of the user is left", async || {
        let left = bench.on.here::<VirtualMachineSnapshot>().list(&ListParams::default()).await?.items;
        Ok((left.len() == 1).then_some(()))
    })
    .await?;

    for (kind, name, field) in [
        ("vmsnapshot", "nightly", json!({"failureDeadline": "1h"})),
        ("vmrestore", "back", json!({"virtualMachineSnapshotName": "other"})),
        ("vmclone", "copy", json!({"newSMBiosSerial": "7"})),
    ] {
        let patch = json!({"spec": field}).to_string();
        let said = bench.on.kubectl(&["patch", kind, name, "--type=merge", "-p", &patch])?;
        ensure!(
            said.contains("spec: Forbidden: a VirtualMachine") && said.contains("create another"),
            "{said}"
        );
    }

    let all = DeleteParams::default();
    bench.on.here::<VirtualMachineSnapshot>().delete("nightly", &all).await?;
    for name in ["web", "web2"] {
        machines.delete(name, &all).await?;
    }
    bench.gone::<VirtualMachine>("VM").await?;
    bench.gone::<VirtualMachineClone>("clone").await?;
    bench.gone::<VirtualMachineRestore>("restore").await?;
    bench.gone::<VirtualMachineSnapshotContent>("content").await?;
    bench.gone::<VolumeSnapshot>("VolumeSnapshot").await?;
    // Restored claims are of nobody, as the one that they are of.
    let claims = bench.on.here::<PersistentVolumeClaim>();
    let names = async || {
        let claims = claims.list(&ListParams::default()).await?.items.into_iter();
        Ok::<_, kube::Error>(claims.filter_map(|claim| claim.metadata.name).collect::<Vec<_>>())
    };
    wait("the claims of DataVolumes are gone", async || {
        Ok(names().await?.iter().all(|name| name.ends_with("-data")).then_some(()))
    })
    .await?;
    for name in names().await? {
        claims.delete(&name, &all).await?;
    }
    bench.gone::<LocalVolume>("LocalVolume").await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_controller_that_dies_while_a_guest_is_frozen_leaves_it_to_its_successor_to_thaw() -> Result<()> {
    let bench = Bench::start().await?;
    bench.running().await?;
    let options = bench.on.plane.controller_options();
    let successor = tokio::spawn(async move { sheaf_controller::run(&options).await });
    bench.volumes.takes_snapshots.store(false, Ordering::Relaxed);
    bench.snapshot("nightly").await?;
    wait("the guest is frozen and its volumes are asked for", async || {
        let volumes: Api<LocalVolume> = Api::all(bench.on.client.clone());
        let volumes = volumes.list(&ListParams::default()).await?.items;
        let asked = volumes.iter().filter(|volume| volume.spec.kind == VolumeKind::Snapshot).count();
        Ok((asked == 2 && bench.frozen_and_thawed() == ["freeze"]).then_some(()))
    })
    .await?;
    bench.on.kill_controller();
    bench.volumes.takes_snapshots.store(true, Ordering::Relaxed);
    let status = bench.succeeded("nightly").await?;
    let asked = bench.frozen_and_thawed();
    // On a slow machine the node was faster than the successor.
    ensure!(
        asked[0] == "freeze" && asked[1..].iter().all(|word| word == "thaw") && asked.len() > 1,
        "{asked:?}"
    );
    ensure!(status.indications.starts_with(&[Indication::Online, Indication::GuestAgent]), "{status:?}");
    successor.abort();
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_snapshot_that_is_deleted_before_it_is_taken_thaws_its_guest_and_leaves_nothing() -> Result<()> {
    let bench = Bench::start().await?;
    bench.running().await?;
    bench.volumes.takes_snapshots.store(false, Ordering::Relaxed);
    bench.snapshot("nightly").await?;
    wait("the guest is frozen", async || Ok((bench.frozen_and_thawed() == ["freeze"]).then_some(()))).await?;
    bench.on.here::<VirtualMachineSnapshot>().delete("nightly", &DeleteParams::default()).await?;
    bench.gone::<VirtualMachineSnapshot>("snapshot").await?;
    ensure!(bench.frozen_and_thawed() == ["freeze", "thaw"], "{:?}", bench.node.vms.asked());
    bench.gone::<VirtualMachineSnapshotContent>("content").await?;
    bench.gone::<VolumeSnapshot>("VolumeSnapshot").await?;
    let status = bench.on.here::<VirtualMachine>().get("web").await?.status.unwrap_or_default();
    ensure!(status.snapshot_in_progress.is_none(), "{status:?}");
    Ok(())
}

/// Waits until an Event about the restore holds `words`.
async fn is_said(on: &Controlled, restore: &str, words: &str) -> Result<()> {
    let events: Api<Event> = Api::default_namespaced(on.client.clone());
    wait(&format!("an Event of {restore} says {words:?}"), async || {
        let all = events.list(&ListParams::default()).await?.items;
        let is = |event: &Event| {
            event.regarding.as_ref().and_then(|about| about.name.as_deref()) == Some(restore)
                && event.note.as_deref().is_some_and(|note| note.contains(words))
        };
        Ok(all.iter().any(is).then_some(()))
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_snapshot_has_what_a_tpm_kept_and_the_size_of_its_vm_and_restores_and_clones_have_both()
-> Result<()> {
    let bench = Bench::start().await?;
    let machines = bench.on.here::<VirtualMachine>();
    let size = json!({"apiVersion": "instancetype.kubevirt.io/v1beta1", "kind": "VirtualMachineInstancetype",
        "metadata": {"name": "mine"}, "spec": {"cpu": {"guest": 1}, "memory": {"guest": "64Mi"}}});
    ensure!(bench.on.kubectl_with(&["create"], &size.to_string())?.contains("created"), "an instancetype");
    bench
        .on
        .make::<VirtualMachine>(json!({
            "apiVersion": "kubevirt.io/v1", "kind": "VirtualMachine", "metadata": {"name": "web"},
            "spec": {
                "runStrategy": "Always",
                "instancetype": {"name": "mine", "kind": "VirtualMachineInstancetype"},
                "dataVolumeTemplates": [{"metadata": {"name": "web-root"}, "spec": {"source": {"blank": {}},
                    "storage": {"resources": {"requests": {"storage": "1Gi"}}}}}],
                "template": {"spec": {"domain": {"devices": {"tpm": {"persistent": true}}},
                    "terminationGracePeriodSeconds": 5,
                    "volumes": [{"name": "root", "dataVolume": {"name": "web-root"}}]}},
            },
        }))
        .await?;
    let (vmi, serial) = bench.node.run(&bench.on, "web", "").await?;
    drop(serial);
    let uuid = vmi.spec.domain.firmware.clone().and_then(|firmware| firmware.uuid).context("a UUID")?;
    let data = bench.node.node.paths().data;
    let states = data.join("state/default");
    let keys = |folder: &str| states.join(folder).join("tpm/tpm2-00.permall");
    let (of_vm, read) = (keys(&format!("libvirt-{uuid}")), |path: &Path| std::fs::read_to_string(path));
    std::fs::create_dir_all(of_vm.parent().context("a folder")?)?;
    std::fs::write(&of_vm, "monday")?;
    wait("the VM knows where its state is", async || {
        let status = machines.get("web").await?.status.unwrap_or_default();
        Ok((status.state_node.as_deref() == Some("n1")).then_some(()))
    })
    .await?;

    let snapshot = bench.snapshot("nightly").await?;
    bench.succeeded("nightly").await?;
    let uid = snapshot.metadata.uid.context("a UID")?;
    let copy = keys(&format!("snapshot-{uid}"));
    ensure!(read(&copy)? == "monday", "the copy differs");

    // Both change; then the VM is stopped, and the restore waits for its node.
    let revisions: Api<ControllerRevision> = Api::default_namespaced(bench.on.client.clone());
    let of_web = wait("the VM has a revision", async || {
        let status = machines.get("web").await?.status.unwrap_or_default();
        Ok(status.instancetype_ref.and_then(|known| known.revision().map(str::to_owned)))
    })
    .await?;
    let larger = json!({"spec": {"cpu": {"guest": 2}}}).to_string();
    let said = bench.on.kubectl(&["patch", "vminstancetype", "mine", "--type=merge", "-p", &larger])?;
    ensure!(said.contains("patched"), "{said}");
    std::fs::write(&of_vm, "tuesday")?;
    bench.restore("back", "web", json!({"targetReadinessPolicy": "StopTarget"})).await?;
    bench.on.node_ends(&sheaf_controller::placeholder::name(&vmi)).await?;
    is_said(&bench.on, "back", "n1: default/web runs on this node; stop it first").await?;
    ensure!(read(&of_vm)? == "tuesday", "a TPM is changed under its VM");
    std::fs::remove_dir_all(data.join("vms").join(vmi.metadata.uid.as_deref().context("a UID")?))?;
    bench.complete("back").await?;
    ensure!(read(&of_vm)? == "monday", "the TPM is not what it was");
    let vm = machines.get("web").await?;
    let matcher = vm.spec.instancetype.clone().context("an instancetype")?;
    ensure!(matcher.revision_name.as_ref() == Some(&of_web), "{matcher:?}");

    // A clone has a copy of both of its own.
    bench
        .on
        .make::<VirtualMachineClone>(json!({
            "apiVersion": "clone.kubevirt.io/v1beta1", "kind": "VirtualMachineClone", "metadata": {"name": "copy"},
            "spec": {"source": {"apiGroup": "kubevirt.io", "kind": "VirtualMachine", "name": "web"},
                     "target": {"apiGroup": "kubevirt.io", "kind": "VirtualMachine", "name": "web2"}},
        }))
        .await?;
    wait("the clone succeeds and has removed what it took", async || {
        let status = bench.on.here::<VirtualMachineClone>().get("copy").await?.status.unwrap_or_default();
        Ok((status.phase == Some(ClonePhase::Succeeded) && status.restore_name.is_none()).then_some(()))
    })
    .await?;
    let vm = machines.get("web2").await?;
    ensure!(vm.status.clone().unwrap_or_default().state_node.as_deref() == Some("n1"), "{:?}", vm.status);
    let resolved = sheaf_controller::resolve::resolve(
        &vm.spec.template.spec,
        vm.metadata.uid.as_deref().context("a UID")?,
    );
    let own = resolved.domain.firmware.and_then(|firmware| firmware.uuid).context("a UUID")?;
    ensure!(own != uuid && read(&keys(&format!("libvirt-{own}")))? == "monday", "the clone's TPM differs");
    let named = vm.spec.instancetype.and_then(|matcher| matcher.revision_name).context("a revision")?;
    let revision = revisions.get(&named).await?;
    ensure!(named.starts_with("web2-mine-") && revision.data.0["spec"]["cpu"]["guest"] == 1, "{revision:?}");
    let owner = revision.metadata.owner_references.and_then(|mut owners| owners.pop()).context("an owner")?;
    ensure!(owner.name == "web2", "{owner:?}");

    // The copies go with their snapshots.
    bench.on.here::<VirtualMachineSnapshot>().delete("nightly", &DeleteParams::default()).await?;
    bench.gone::<VirtualMachineSnapshot>("snapshot").await?;
    bench.gone::<VirtualMachineSnapshotContent>("content").await?;
    let left = std::fs::read_dir(&states)?.collect::<std::io::Result<Vec<_>>>()?;
    ensure!(left.len() == 2, "{left:?}");
    Ok(())
}
