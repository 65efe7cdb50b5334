//! The agent as a process, real libvirt and QEMU, the real control plane: Pods that are virtual machines.

use anyhow::{Context as _, Result, anyhow};
use k8s_openapi::api::core::v1::{Event, Pod};
use kube::api::{Api, DeleteParams, ListParams};
use serde_json::{Value, json};
use sheaf_host::run::{Command, Run as _, System};
use sheaf_tests::lab::{GREETING, Lab};

fn running_vm(disks: Value, volumes: Value) -> Value {
    json!({"domain": {"memory": {"guest": "64Mi"}, "devices": {
        "disks": disks, "rng": {}, "interfaces": [{"name": "default", "bridge": {}, "macAddress": "02:00:00:00:00:07"}]}},
        "networks": [{"name": "default", "pod": {}}], "volumes": volumes})
}

fn tiny() -> Value {
    running_vm(
        json!([{"name": "root", "disk": {"bus": "virtio"}}, {"name": "scratch", "disk": {"bus": "sata"}},
               {"name": "seed", "cdrom": {"bus": "sata"}}]),
        json!([{"name": "root", "hostDisk": {"path": "/data/images/tiny.raw", "type": "Disk"}},
               {"name": "scratch", "emptyDisk": {"capacity": "1Gi"}},
               {"name": "seed", "cloudInitNoCloud": {"userData": "#cloud-config\n"}}]),
    )
}

fn phase(pod: &Pod) -> Option<String> {
    pod.status.as_ref()?.phase.clone()
}

fn is_ready(pod: &Pod) -> Option<()> {
    let conditions = pod.status.as_ref()?.conditions.as_ref()?;
    conditions.iter().any(|condition| condition.type_ == "Ready" && condition.status == "True").then_some(())
}

/// Phase and reason, once the Pod has ended.
fn end(pod: &Pod) -> Option<(String, String)> {
    let status = pod.status.clone()?;
    let phase = status.phase.filter(|phase| phase == "Failed" || phase == "Succeeded")?;
    Some((phase, status.reason.unwrap_or_default()))
}

const VMI: &str = "0b0e6d2c-6a4e-4c9f-9a53-0d0e1f2a3b4c";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_vm_is_placed_survives_its_agent_and_ends_with_its_pod() -> Result<()> {
    let mut lab = Lab::start().await?;
    lab.place("web", VMI, tiny()).await?;
    lab.wait_pod("web", "readiness", is_ready).await?;
    let qemu = lab.libvirt.qemu("default_web").context("QEMU runs")?;
    let folder = lab.node.paths().data.join("vms").join(VMI);
    lab.wait("greeting on the console", async || {
        let log = std::fs::read_to_string(folder.join("console.log")).unwrap_or_default();
        Ok(log.contains(GREETING).then_some(()))
    })
    .await?;
    lab.wait_pod("web", "console tail", |pod| {
        let tail = pod.metadata.annotations.as_ref()?.get("sheaf.dev/console-tail")?;
        tail.contains(GREETING).then_some(())
    })
    .await?;

    // Named by the VMI's UID; there before the guest could send.
    let tap = sheaf_agent::names::tap(VMI, 0);
    assert!(lab.filter()?.ports[&tap].version.is_some());
    lab.wait_pod("web", "interfaces", |pod| {
        let seen = pod.metadata.annotations.as_ref()?.get("sheaf.dev/interfaces")?;
        (seen == r#"[{"name":"default","infoSource":"domain"}]"#).then_some(())
    })
    .await?;

    lab.kill_agent();
    std::fs::remove_file(lab.node.paths().status_json())?;
    assert_eq!(lab.libvirt.qemu("default_web"), Some(qemu), "the VM outlives its agent");
    lab.start_agent()?;
    lab.wait("VM in the status of the new agent", async || {
        let json = std::fs::read_to_string(lab.node.paths().status_json()).unwrap_or_default();
        Ok((json.contains("default/web") && json.contains("\"Running\"")).then_some(()))
    })
    .await?;
    assert_eq!(lab.libvirt.qemu("default_web"), Some(qemu), "the new agent leaves it as it is");
    assert_eq!(phase(&lab.pods().get("web").await?).as_deref(), Some("Running"));

    lab.pods().delete("web", &DeleteParams::default()).await?;
    lab.wait("end of the Pod", async || Ok(lab.pods().get_opt("web").await?.is_none().then_some(()))).await?;
    assert_eq!(lab.libvirt.qemu("default_web"), None);
    lab.wait("end of the folder", async || Ok((!folder.exists()).then_some(()))).await?;
    lab.wait("end of its filters", async || Ok(lab.filter()?.ports.is_empty().then_some(()))).await?;
    let log = std::fs::read_to_string(lab.root().join("agent.log"))?;
    let (button, switch) = (log.find("PressPowerButton"), log.find("Destroy"));
    assert!(button.context("the button")? < switch.context("the switch")?, "ACPI first:\n{log}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_ends_or_can_not_run_is_said_in_its_pod() -> Result<()> {
    let lab = Lab::start().await?;
    let uid = |n: u32| format!("0b0e6d2c-6a4e-4c9f-9a53-{n:012}");

    let stolen = running_vm(
        json!([{"name": "d"}]),
        json!([{"name": "d", "hostDisk": {"path": "/etc/shadow", "type": "Disk"}}]),
    );
    lab.place("stolen", &uid(1), stolen).await?;
    assert_eq!(lab.wait_pod("stolen", "end", end).await?, ("Failed".into(), "InvalidSpec".into()));

    let absent = json!([{"name": "d", "hostDisk": {"path": "/data/images/absent.raw", "type": "Disk"}}]);
    lab.place("absent", &uid(2), running_vm(json!([{"name": "d"}]), absent)).await?;
    assert_eq!(lab.wait_pod("absent", "end", end).await?, ("Failed".into(), "ImageNotPresent".into()));

    lab.place("crash", &uid(3), tiny()).await?;
    lab.wait_pod("crash", "readiness", is_ready).await?;
    let qemu = lab.libvirt.qemu("default_crash").ok_or_else(|| anyhow!("QEMU runs"))?;
    System.run(&Command::new("kill").args(["-9", &qemu.to_string()]))?;
    assert_eq!(lab.wait_pod("crash", "end", end).await?, ("Failed".into(), "Crashed".into()));

    lab.create(json!({
        "metadata": {"name": "container"},
        "spec": {"nodeName": "n1", "automountServiceAccountToken": false,
                 "tolerations": [{"operator": "Exists"}], "containers": [{"name": "c", "image": "i"}]},
    }))
    .await?;
    let waiting = |pod: &Pod| {
        let container = pod.status.as_ref()?.container_statuses.as_ref()?.first()?.clone();
        container.state?.waiting?.reason
    };
    assert_eq!(lab.wait_pod("container", "reason", waiting).await?, "UnsupportedRuntime");
    let events: Api<Event> = Api::namespaced(lab.plane.admin.clone(), "default");
    let told = events.list(&ListParams::default().fields("involvedObject.name=container")).await?.items;
    let reasons = told.iter().filter(|event| event.reason.as_deref() == Some("UnsupportedRuntime")).count();
    assert_eq!(reasons, 1, "{told:?}");
    lab.pods().delete("container", &DeleteParams::default()).await?;
    lab.wait("end of the Pod", async || Ok(lab.pods().get_opt("container").await?.is_none().then_some(())))
        .await
}
