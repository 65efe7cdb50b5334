//! Disks that are added to a VM while it runs, and removed: by request and by a changed template, on the real control plane; and
//! what libvirt says to the XML that the agent writes for it.
//!
//! Why here: kube-scheduler alone binds an attachment Pod, and policies of the API server alone refuse what others try. The node is
//! played by the test: what it reports of its Pods. Pools need device mapper, so real volumes are for whole machines.

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams};
use serde_json::{Value, json};
use sheaf_agent::vms::domain_xml::{free_target, render_attached};
use sheaf_agent::vms::guest::{Disk, DiskOptions, Format, Source};
use sheaf_api::{VirtualMachine, VirtualMachineInstance, devices::DiskBus, volume_status::VolumePhase};
use sheaf_tests::controlled::wait;
use sheaf_tests::domains::{Domain, NAME, guest};
use sheaf_tests::played::{PlayedNode, act, as_node, claim, cluster, vm};

/// What the node reports of an attachment Pod.
async fn says(pods: &Api<Pod>, pod: &str, state: Value) -> Result<()> {
    let status = json!({"status": {"phase": "Running", "containerStatuses": [{"name": "hotplug-disk", "image": "x",
        "imageID": "", "ready": true, "restartCount": 0, "state": state}]}});
    pods.patch_status(pod, &PatchParams::default(), &Patch::Merge(&status)).await?;
    Ok(())
}

/// Waits until the instance reports `phase` and `target` of the volume.
async fn is(
    instances: &Api<VirtualMachineInstance>,
    volume: &str,
    phase: VolumePhase,
    target: &str,
) -> Result<()> {
    wait(&format!("volume {volume} is {phase:?} as {target:?}"), async || {
        let status = instances.get("web").await?.status.unwrap_or_default();
        let found = status.volume_status.into_iter().find(|one| one.name == volume);
        Ok(found.filter(|one| one.phase == Some(phase) && one.target == target).map(drop))
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_is_added_by_request_to_a_vm_that_runs_and_its_claim_is_free_once_the_guest_released_it()
-> Result<()> {
    let on = cluster().await?;
    let node = PlayedNode::start(&on).await?;
    let machines: Api<VirtualMachine> = Api::default_namespaced(on.client.clone());
    let instances: Api<VirtualMachineInstance> = Api::default_namespaced(on.client.clone());
    let pods: Api<Pod> = Api::default_namespaced(on.client.clone());
    // With what the API server encodes in its own way.
    let mut web = vm("web", "Always")?;
    web.spec.template.spec.domain.devices.disks = serde_json::from_value(json!([{"name": "seed"}]))?;
    let script = "#!/bin/sh\n[ 1 -lt 2 ] && echo \"<up> & running\" > /dev/console\n";
    let seed = json!([{"name": "seed", "cloudInitNoCloud": {"userData": script}}]);
    web.spec.template.spec.volumes = serde_json::from_value(seed)?;
    machines.create(&PostParams::default(), &web).await?;
    let (vmi, _serial) = node.run(&on, "web", "").await?;
    let launcher = sheaf_controller::placeholder::name(&vmi);
    claim(&on, "data").await?;
    // As virtctl sends it.
    let body = |dry: Value| {
        let source = json!({"persistentVolumeClaim": {"claimName": "data", "hotpluggable": true}});
        json!({"name": "data", "disk": {"disk": {"bus": "scsi"}, "serial": "data"}, "volumeSource": source, "dryRun": dry})
            .to_string()
    };
    let (add, remove) = ("virtualmachines/web/addvolume", "virtualmachines/web/removevolume");
    ensure!(act(&on, add, &body(json!(["All"]))).await?.0 == 200);
    ensure!(machines.get("web").await?.spec.template.spec.volumes.len() == 1, "a dry run changes nothing");
    let (code, said) = act(&on, add, &body(json!([]))).await?;
    ensure!(code == 200, "{code} {said}");
    let (code, said) = act(&on, add, &body(json!([]))).await?;
    ensure!(code == 409 && said.contains("volume with that name already exists"), "{code} {said}");

    // The instance follows; the scheduler binds the attachment Pod to the VM's node.
    let name = sheaf_controller::placeholder::attachment::name(&vmi, "data");
    wait("the attachment Pod has the VM's node", async || {
        let pod = pods.get_opt(&name).await?;
        Ok(pod.filter(|pod| pod.spec.as_ref().is_some_and(|spec| spec.node_name.as_deref() == Some("n1"))))
    })
    .await?;
    is(&instances, "data", VolumePhase::AttachedToNode, "").await?;
    says(&pods, &name, json!({"running": {}})).await?;
    is(&instances, "data", VolumePhase::MountedToPod, "").await?;
    let disks = json!({"metadata": {"annotations": {"sheaf.dev/disks": r#"{"data":"sda"}"#}}});
    // An administrator is no node.
    let said = on.kubectl(&["patch", "pod", &launcher, "--type=merge", "-p", &disks.to_string()])?;
    ensure!(said.contains("may change these annotations"), "{said}");
    as_node(&on, &launcher, &disks).await?;
    is(&instances, "data", VolumePhase::Ready, "sda").await?;
    let status = machines.get("web").await?.status.unwrap_or_default();
    ensure!(status.conditions.iter().all(|one| one.type_ != "RestartRequired"), "{status:?}");

    // A drain deletes the Pod: it stays, and the guest keeps its disk.
    pods.delete(&name, &DeleteParams::default()).await?;
    let drained = pods.get(&name).await?;
    ensure!(!sheaf_api::attachment::is_to_detach(&drained), "{drained:?}");
    is(&instances, "data", VolumePhase::Ready, "sda").await?;

    let name_of = json!({"name": "data"}).to_string();
    let (code, said) = act(&on, "virtualmachineinstances/web/removevolume", &name_of).await?;
    ensure!(code == 409 && said.contains("remove it there"), "{code} {said}");
    let (code, said) = act(&on, remove, &name_of).await?;
    ensure!(code == 200, "{code} {said}");
    wait("the Pod is marked", async || {
        Ok(pods.get_opt(&name).await?.filter(sheaf_api::attachment::is_to_detach).map(drop))
    })
    .await?;
    is(&instances, "data", VolumePhase::Detaching, "sda").await?;
    says(&pods, &name, json!({"terminated": {"exitCode": 0, "reason": "Detached"}})).await?;
    wait("the Pod is gone", async || Ok(pods.get_opt(&name).await?.is_none().then_some(()))).await?;
    let claims: Api<PersistentVolumeClaim> = Api::default_namespaced(on.client.clone());
    claims.delete("data", &DeleteParams::default()).await?;
    wait("the claim is gone", async || Ok(claims.get_opt("data").await?.is_none().then_some(()))).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_changed_template_is_taken_up_as_far_as_disks_go_and_the_rest_is_named() -> Result<()> {
    let on = cluster().await?;
    let node = PlayedNode::start(&on).await?;
    let machines: Api<VirtualMachine> = Api::default_namespaced(on.client.clone());
    let instances: Api<VirtualMachineInstance> = Api::default_namespaced(on.client.clone());
    machines.create(&PostParams::default(), &vm("web", "Always")?).await?;
    let (vmi, _serial) = node.run(&on, "web", "").await?;
    let spec = json!({"domain": {"cpu": {"cores": 2}, "devices": {"disks": [{"name": "more", "disk": {"bus": "scsi"}}]}},
        "volumes": [{"name": "more", "persistentVolumeClaim": {"claimName": "more", "hotpluggable": true}}]});
    let patch = json!({"spec": {"template": {"spec": spec}}});
    machines.patch("web", &PatchParams::default(), &Patch::Merge(&patch)).await?;
    let followed = wait("the instance has the volume", async || {
        let vmi = instances.get("web").await?;
        Ok(vmi.spec.volume("more").is_some().then_some(vmi))
    })
    .await?;
    ensure!(followed.metadata.uid == vmi.metadata.uid && followed.spec.domain.cpu == vmi.spec.domain.cpu);
    is(&instances, "more", VolumePhase::Pending, "").await?;
    let message = wait("a restart is required", async || {
        let status = machines.get("web").await?.status.unwrap_or_default();
        let found = status.conditions.into_iter().find(|one| one.type_ == "RestartRequired");
        Ok(found.and_then(|one| one.message))
    })
    .await?;
    ensure!(
        message
            == "spec.template.spec.domain.cpu.cores changed since this instance was started; restart the VM to use the template",
        "{message}"
    );
    // Nobody else adds a disk to an instance.
    let forged = json!({"spec": {"volumes": [], "domain": {"devices": {"disks": []}}}}).to_string();
    let said = on.kubectl(&["patch", "vmi", "web", "--type=merge", "-p", &forged])?;
    ensure!(said.contains("an instance cannot be changed, except by virtctl addvolume"), "{said}");
    Ok(())
}

/// A disk `name` on `bus`, in a file below `folder`.
fn disk(folder: &std::path::Path, name: &str, bus: DiskBus) -> Result<Disk> {
    let path = folder.join(format!("{name}.raw"));
    std::fs::write(&path, vec![0; 1 << 20])?;
    Ok(Disk {
        name: name.into(),
        cdrom: false,
        bus,
        source: Source::InPlace { path, format: Format::Raw, create: None },
        boot_order: None,
        serial: Some(name.into()),
        cache: None,
        options: DiskOptions::default(),
    })
}

#[test]
fn a_domain_has_four_ports_for_disks_on_virtio_and_any_number_of_disks_on_scsi() -> Result<()> {
    let domain = Domain::start("hotplug", |folder| Ok(guest(vec![disk(folder, "root", DiskBus::Virtio)?])))?;
    let mut taken = vec!["vda".to_owned()];
    for index in 0..6 {
        for bus in [DiskBus::Scsi, DiskBus::Virtio] {
            let name = format!("{}{index}", if bus == DiskBus::Scsi { "s" } else { "v" });
            let target = free_target(bus, taken.iter()).context("a free name")?;
            let disk = domain.write(
                &format!("{name}.xml"),
                &render_attached(&disk(domain.folder(), &name, bus)?, &target),
            )?;
            let added = domain.virsh(&["attach-device", NAME, &disk, "--live"]);
            match (bus, index) {
                (DiskBus::Virtio, 4..) => ensure!(added.is_err(), "{name} has a port that is not there"),
                _ => drop(added.with_context(|| format!("{name}: {}", domain.log()))?),
            }
            taken.push(target);
        }
    }
    Ok(())
}
