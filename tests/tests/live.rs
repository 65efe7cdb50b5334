//! What changes of a VM while it runs, beside disks: media of CD-ROM drives, memory, sockets, on the real control plane; and what
//! libvirt says to the XML that the agent writes for it.
//!
//! Why here: the API server alone resizes a Pod in place, and says to whom; policies and rules of it refuse the rest. The node is
//! played by the test: what it reports of its Pods. What the agent decides is in agent/src/vms/plan/tests.

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams};
use serde_json::{Value, json};
use sheaf_agent::vms::domain_xml::render_medium;
use sheaf_agent::vms::guest::{Disk, DiskOptions, Format, Guest, Hardware, Source};
use sheaf_api::size::{Plugged, Size};
use sheaf_api::{VirtualMachine, VirtualMachineInstance, devices::DiskBus, volume_status::VolumePhase};
use sheaf_host::libvirt::{offering, read_domain};
use sheaf_tests::controlled::{Controlled, wait};
use sheaf_tests::domains::{Domain, NAME, guest};
use sheaf_tests::played::{PlayedNode, act, as_node, claim, cluster, vm};

const MIB: u64 = 1 << 20;

/// Changes the template of VM `web`.
async fn change(on: &Controlled, spec: Value) -> Result<()> {
    let machines: Api<VirtualMachine> = Api::default_namespaced(on.client.clone());
    let patch = json!({"spec": {"template": {"spec": spec}}});
    machines.patch("web", &PatchParams::default(), &Patch::Merge(&patch)).await?;
    Ok(())
}

/// The message of the condition RestartRequired of VM `web`.
async fn restart_required(on: &Controlled) -> Result<Option<String>> {
    let machines: Api<VirtualMachine> = Api::default_namespaced(on.client.clone());
    let status = machines.get("web").await?.status.unwrap_or_default();
    let found = status.conditions.into_iter().find(|one| one.type_ == "RestartRequired");
    Ok(found.and_then(|one| one.message))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_medium_is_inserted_by_request_and_ejected_by_a_changed_template_and_its_drive_stays() -> Result<()>
{
    let on = cluster().await?;
    let node = PlayedNode::start(&on).await?;
    let machines: Api<VirtualMachine> = Api::default_namespaced(on.client.clone());
    let instances: Api<VirtualMachineInstance> = Api::default_namespaced(on.client.clone());
    let pods: Api<Pod> = Api::default_namespaced(on.client.clone());
    let mut with_drive = vm("web", "Always")?;
    let drives = json!([{"name": "cd", "cdrom": {"bus": "sata"}, "bootOrder": 1}]);
    with_drive.spec.template.spec.domain.devices.disks = serde_json::from_value(drives)?;
    machines.create(&PostParams::default(), &with_drive).await.context("an empty drive is accepted")?;
    let (vmi, _serial) = node.run(&on, "web", "").await?;
    claim(&on, "iso").await?;

    // As virtctl addvolume --disk-name=cd sends it.
    let source = json!({"persistentVolumeClaim": {"claimName": "iso", "hotpluggable": true}});
    let body =
        json!({"name": "cd", "disk": {"disk": {"bus": "scsi"}, "serial": "cd"}, "volumeSource": source});
    let (code, said) = act(&on, "virtualmachines/web/addvolume", &body.to_string()).await?;
    ensure!(code == 200, "{code} {said}");
    let name = sheaf_controller::placeholder::attachment::name(&vmi, "cd");
    let pod = wait("the attachment Pod has the VM's node", async || {
        let pod = pods.get_opt(&name).await?;
        Ok(pod.filter(|pod| pod.spec.as_ref().is_some_and(|spec| spec.node_name.as_deref() == Some("n1"))))
    })
    .await?;
    let attachment = sheaf_api::attachment::Attachment::of(&pod).context("what the Pod carries")?;
    ensure!(attachment.disk.is_drive() && attachment.disk.boot_order == Some(1), "{attachment:?}");
    let running = json!({"status": {"phase": "Running", "containerStatuses": [{"name": "hotplug-disk", "image": "x",
        "imageID": "", "ready": true, "restartCount": 0, "state": {"running": {}}}]}});
    pods.patch_status(&name, &PatchParams::default(), &Patch::Merge(&running)).await?;
    let launcher = sheaf_controller::placeholder::name(&vmi);
    let disks = json!({"metadata": {"annotations": {"sheaf.dev/disks": r#"{"cd":"sda"}"#}}});
    as_node(&on, &launcher, &disks).await?;
    let phase = |wanted: VolumePhase| {
        let instances = instances.clone();
        async move {
            wait(&format!("the medium is {wanted:?}"), async || {
                let status = instances.get("web").await?.status.unwrap_or_default();
                Ok(status.volume_status.into_iter().find(|one| one.phase == Some(wanted)))
            })
            .await
        }
    };
    ensure!(phase(VolumePhase::Ready).await?.target == "sda");

    // Ejected; the guest has locked the tray, which its node says.
    change(&on, json!({"volumes": null})).await?;
    wait("the Pod is marked", async || {
        Ok(pods.get_opt(&name).await?.filter(sheaf_api::attachment::is_to_detach).map(drop))
    })
    .await?;
    let locked = json!({"waiting": {"reason": "TrayLocked", "message": "timed out"}, "running": null});
    let locked = json!({"status": {"phase": "Running", "containerStatuses": [{"name": "hotplug-disk", "image": "x",
        "imageID": "", "ready": true, "restartCount": 0, "state": locked}]}});
    pods.patch_status(&name, &PatchParams::default(), &Patch::Merge(&locked)).await?;
    wait("the instance says that the tray is locked", async || {
        let status = instances.get("web").await?.status.unwrap_or_default();
        Ok(status.volume_status.into_iter().find(|one| one.reason.as_deref() == Some("TrayLocked")).map(drop))
    })
    .await?;
    let gone = json!({"status": {"containerStatuses": [{"name": "hotplug-disk", "image": "x", "imageID": "", "ready": false,
        "restartCount": 0, "state": {"terminated": {"exitCode": 0, "reason": "Detached"}}}]}});
    pods.patch_status(&name, &PatchParams::default(), &Patch::Merge(&gone)).await?;
    wait("the Pod is gone", async || Ok(pods.get_opt(&name).await?.is_none().then_some(()))).await?;
    let now = instances.get("web").await?;
    ensure!(now.metadata.uid == vmi.metadata.uid && now.spec.domain.devices.disks.len() == 1, "{now:?}");
    ensure!(restart_required(&on).await?.is_none(), "its drive is the one that it started with");

    // A disk that is not a drive needs a volume.
    let bare = json!({"domain": {"devices": {"disks": [{"name": "cd", "disk": {"bus": "virtio"}}]}}});
    let refused = change(&on, bare).await.err().context("a disk without a volume was accepted")?;
    ensure!(format!("{refused:#}").contains("only a cdrom may be empty"), "{refused:#}");
    Ok(())
}

/// What the node reports of a VM that can grow to 256 MiB and four sockets, and has this much.
fn report(pod: &Pod, plugged: Size, allocated: Option<&str>, pending: Option<&str>) -> Value {
    let boot = Size { memory: 64 * MIB, sockets: 1 };
    let most = Size { memory: 256 * MIB, sockets: 4 };
    let of = Plugged { size: plugged, taken: plugged.memory, boot, most };
    let mut requests =
        pod.spec.as_ref().and_then(|spec| spec.containers[0].resources.clone()).unwrap_or_default();
    let requests = requests.requests.get_or_insert_default();
    if let Some(memory) = allocated {
        requests
            .insert("memory".into(), k8s_openapi::apimachinery::pkg::api::resource::Quantity(memory.into()));
    }
    let mut conditions = json!([{"type": "Ready", "status": "True"}]);
    if let (Some(message), Some(all)) = (pending, conditions.as_array_mut()) {
        all.push(
            json!({"type": "PodResizePending", "status": "True", "reason": "Deferred", "message": message}),
        );
    }
    json!({
        "metadata": {"annotations": {"sheaf.dev/plugged": of.to_annotation()}},
        "status": {"phase": "Running", "conditions": conditions, "containerStatuses": [{
            "name": "compute", "image": "vm", "imageID": "", "ready": true, "restartCount": 0,
            "state": {"running": {}}, "allocatedResources": requests, "resources": {"requests": requests}}]},
    })
}

/// What the Pod asks for, in MiB.
fn asked(pod: &Pod) -> Option<u64> {
    let requests = pod.spec.as_ref()?.containers.first()?.resources.as_ref()?.requests.as_ref()?;
    let amount = sheaf_api::Amount::try_from(requests.get("memory")?).ok()?;
    Some(amount.units().ok()? / MIB)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_vm_grows_once_its_node_has_set_aside_what_that_needs_and_says_why_while_it_has_not() -> Result<()>
{
    let on = cluster().await?;
    let node = PlayedNode::start(&on).await?;
    let machines: Api<VirtualMachine> = Api::default_namespaced(on.client.clone());
    let instances: Api<VirtualMachineInstance> = Api::default_namespaced(on.client.clone());
    let pods: Api<Pod> = Api::default_namespaced(on.client.clone());
    let mut growing = vm("web", "Always")?;
    growing.spec.template.spec.domain.memory =
        serde_json::from_value(json!({"guest": "64Mi", "maxGuest": "256Mi"}))?;
    growing.spec.template.spec.domain.cpu = serde_json::from_value(json!({"sockets": 1, "maxSockets": 4}))?;
    machines.create(&PostParams::default(), &growing).await?;
    let (vmi, _serial) = node.run(&on, "web", "").await?;
    let launcher = sheaf_controller::placeholder::name(&vmi);
    let boot = Size { memory: 64 * MIB, sockets: 1 };
    let pod = pods.get(&launcher).await?;
    let at_boot = asked(&pod).context("the Pod asks for memory")?;
    as_node(&on, &launcher, &report(&pod, boot, None, None)).await?;
    wait("the instance says that it can grow", async || {
        let status = instances.get("web").await?.status.unwrap_or_default();
        Ok((status.memory.is_some() && status.current_cpu_topology.is_some()).then_some(()))
    })
    .await?;

    // Nobody but the controller changes what is set aside.
    let less =
        json!({"spec": {"containers": [{"name": "compute", "resources": {"requests": {"memory": "1Mi"}}}]}});
    let said = on.kubectl(&[
        "patch",
        "pod",
        &launcher,
        "--subresource=resize",
        "--type=strategic",
        "-p",
        &less.to_string(),
    ])?;
    ensure!(said.contains("may resize the Pod of a VM"), "{said}");

    let size = json!({"memory": {"guest": "128Mi"}, "cpu": {"sockets": 2}});
    change(&on, json!({ "domain": size })).await?;
    let resized = wait("the Pod asks for more", async || {
        let pod = pods.get(&launcher).await?;
        Ok((asked(&pod) > Some(at_boot + 64)).then_some(pod))
    })
    .await?;
    ensure!(Size::wanted(&resized).is_none(), "the node is told nothing before it has allocated it");
    let boot_memory = format!("{at_boot}Mi");
    as_node(&on, &launcher, &report(&resized, boot, Some(&boot_memory), Some("no room on n1"))).await?;
    wait("the instance says why it does not grow", async || {
        let status = instances.get("web").await?.status.unwrap_or_default();
        let is_it = |one: &&sheaf_api::status::Condition| {
            one.type_ == "HotMemoryChange" && one.message.as_deref() == Some("no room on n1")
        };
        Ok(status.conditions.iter().find(is_it).map(drop))
    })
    .await?;
    ensure!(Size::wanted(&pods.get(&launcher).await?).is_none(), "nothing is half done");
    ensure!(restart_required(&on).await?.is_none());

    as_node(&on, &launcher, &report(&resized, boot, None, None)).await?;
    let told =
        wait("the node is told the size", async || Ok(Size::wanted(&pods.get(&launcher).await?))).await?;
    let grown = Size { memory: 128 * MIB, sockets: 2 };
    ensure!(told == grown, "{told:?}");
    as_node(&on, &launcher, &report(&resized, grown, None, None)).await?;
    wait("the change is over", async || {
        let status = instances.get("web").await?.status.unwrap_or_default();
        let is_over = status.conditions.iter().all(|one| !one.type_.starts_with("Hot"));
        let sockets = status.current_cpu_topology.map(|topology| topology.sockets);
        Ok((is_over && sockets == Some(2)).then_some(()))
    })
    .await?;

    // Memory is given back: first by the guest, then what is set aside. A socket stays.
    change(&on, json!({"domain": {"memory": {"guest": "64Mi"}}})).await?;
    let less = Size { memory: 64 * MIB, sockets: 2 };
    wait("the node is told the smaller size", async || {
        let pod = pods.get(&launcher).await?;
        Ok((Size::wanted(&pod) == Some(less)).then_some(()))
    })
    .await?;
    ensure!(asked(&pods.get(&launcher).await?) == asked(&resized), "the guest has it still");
    as_node(&on, &launcher, &report(&resized, less, None, None)).await?;
    wait("the Pod asks for less", async || {
        Ok((asked(&pods.get(&launcher).await?) < asked(&resized)).then_some(()))
    })
    .await?;
    change(&on, json!({"domain": {"cpu": {"sockets": 1}}})).await?;
    let message =
        wait("a restart is required", async || Ok(restart_required(&on).await.unwrap_or_default())).await?;
    ensure!(message.starts_with("spec.template.spec.domain.cpu.sockets changed"), "{message}");
    pods.delete(&launcher, &DeleteParams::default()).await?;
    Ok(())
}

#[test]
fn libvirt_inserts_and_ejects_a_medium_and_plugs_memory_and_processors() -> Result<()> {
    let drive = |source| Disk {
        name: "cd".into(),
        cdrom: true,
        bus: DiskBus::Sata,
        source,
        boot_order: Some(1),
        serial: None,
        cache: None,
        options: DiskOptions::default(),
    };
    let domain = Domain::start("live", |_| {
        Ok(Guest {
            topology: (1, 2, 1),
            hardware: Hardware { most: Some(Size { memory: 192 * MIB, sockets: 3 }), ..Hardware::default() },
            ..guest(vec![drive(Source::NoMedium { awaited: false })])
        })
    })?;
    // A file, for want of a device; the rest of the drive is as the agent writes it.
    let medium = domain.folder().join("medium.iso");
    std::fs::write(&medium, vec![0; 1 << 20])?;
    let full = drive(Source::InPlace { path: medium.clone(), format: Format::Raw, create: None });
    for (name, source) in [("full", full), ("empty", drive(Source::NoMedium { awaited: false }))] {
        let device = domain.write(&format!("{name}.xml"), &render_medium(&source, "sda"))?;
        domain
            .virsh(&["update-device", NAME, &device, "--live"])
            .with_context(|| format!("{name}: {}", domain.log()))?;
        let has = domain.dump()?.contains("medium.iso");
        ensure!(has == (name == "full"), "{name}: {}", domain.dump()?);
    }

    let before = read_domain(&domain.dump()?)?;
    ensure!((before.cpus.current, before.cpus.most) == (2, 6), "{:?}", before.cpus);
    let device = offering(&domain.dump()?, 32 * MIB)?.context("a memory device")?;
    domain
        .virsh(&["update-device", NAME, &domain.write("memory.xml", &device)?, "--live"])
        .with_context(|| format!("{device}\n{}", domain.log()))?;
    domain.virsh(&["setvcpus", NAME, "4", "--live"]).with_context(|| domain.log())?;
    let after = read_domain(&domain.dump()?)?;
    ensure!(after.cpus.current == 4, "{:?}", after.cpus);
    let memory = after.memory.context("a memory device")?;
    ensure!((memory.size, memory.requested) == (128 * MIB, 32 * MIB), "{memory:?}");
    Ok(())
}
