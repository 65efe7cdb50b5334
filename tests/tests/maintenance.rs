//! Maintenance of nodes, and `kubectl drain`, on the real API server and scheduler; the nodes are played by the test.

use anyhow::{Result, ensure};
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::api::{Api, DeleteParams, Patch, PatchParams};
use serde_json::{Value, json};
use sheaf_api::{
    VirtualMachine, VirtualMachineInstance,
    node_maintenance::{NodeMaintenance, NodeMaintenanceStatus, Phase},
};
use sheaf_controller::placeholder;
use sheaf_tests::controlled::{Controlled, wait};

const MAINTENANCE: &str = r"
apiVersion: sheaf.dev/v1alpha1
kind: NodeMaintenance
metadata:
  name: n1
spec:
  nodeName: n1
  reason: new memory
";

/// Registers a node that runs nothing but VMs.
async fn register(on: &Controlled, name: &str) -> Result<()> {
    on.node(name, json!({"taints": [{"key": "sheaf.dev/vm-only", "effect": "NoSchedule"}]})).await
}

/// A VM of 64 MiB without disks.
async fn create(on: &Controlled, name: &str, strategy: &str) -> Result<()> {
    let vm = json!({
        "apiVersion": "kubevirt.io/v1", "kind": "VirtualMachine", "metadata": {"name": name},
        "spec": {"runStrategy": strategy, "template": {"spec": {
            "domain": {"memory": {"guest": "64Mi"}, "devices": {}}, "terminationGracePeriodSeconds": 60}}},
    });
    on.make::<VirtualMachine>(vm).await.map(drop)
}

/// The Pod of the VM's instance, once it is bound to `node`.
async fn bound(on: &Controlled, name: &str, node: &str) -> Result<String> {
    let (instances, pods) = (on.here::<VirtualMachineInstance>(), on.here::<Pod>());
    wait(&format!("VM {name} is placed on {node}"), async || {
        let Some(vmi) = instances.get_opt(name).await? else { return Ok(None) };
        let pod = placeholder::name(&vmi);
        let here = pods.get_opt(&pod).await?.and_then(|pod| pod.spec?.node_name);
        Ok((here.as_deref() == Some(node)).then_some(pod))
    })
    .await
}

/// What the agent writes of `pod`: as a strategic merge, so that conditions of others stay.
async fn node_writes(on: &Controlled, pod: &str, phase: &str, state: Value) -> Result<()> {
    let ready = if phase == "Running" { "True" } else { "False" };
    let status = json!({"status": {"phase": phase,
        "containerStatuses": [{"name": "compute", "image": "vm", "imageID": "", "ready": ready == "True",
                               "restartCount": 0, "containerID": "vm://x", "state": state}],
        "conditions": [{"type": "Ready", "status": ready}]}});
    on.here::<Pod>().patch_status(pod, &PatchParams::default(), &Patch::Strategic(status)).await?;
    Ok(())
}

async fn runs(on: &Controlled, pod: &str) -> Result<()> {
    node_writes(on, pod, "Running", json!({"running": {}})).await
}

/// The guest of an evicted Pod obeys its power button, and the node reports so.
async fn powers_off(on: &Controlled, pod: &str) -> Result<()> {
    let pods = on.here::<Pod>();
    wait(&format!("Pod {pod} is asked to end"), async || {
        let pod = pods.get_opt(pod).await?;
        Ok(pod.filter(|pod| pod.metadata.deletion_timestamp.is_some()))
    })
    .await?;
    node_writes(on, pod, "Succeeded", json!({"terminated": {"exitCode": 0, "reason": "Completed"}})).await?;
    match pods.delete(pod, &DeleteParams::default().grace_period(0)).await {
        // The controller may have been faster.
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
        other => Ok(other.map(drop)?),
    }
}

/// The status of the maintenance, once it is in `phase`.
async fn reaches(on: &Controlled, phase: Phase) -> Result<NodeMaintenanceStatus> {
    let objects: Api<NodeMaintenance> = Api::all(on.client.clone());
    wait(&format!("the maintenance is {phase:?}"), async || {
        let status = objects.get_opt("n1").await?.and_then(|object| object.status);
        Ok(status.filter(|status| status.phase == Some(phase)))
    })
    .await
}

/// Waits until the node is cordoned, or is not.
async fn cordoned(on: &Controlled, expected: bool) -> Result<()> {
    let nodes: Api<Node> = Api::all(on.client.clone());
    wait(&format!("n1 is cordoned: {expected}"), async || {
        let spec = nodes.get_opt("n1").await?.and_then(|node| node.spec);
        let is = spec.and_then(|spec| spec.unschedulable) == Some(true);
        Ok((is == expected).then_some(()))
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_comes_to_rest_when_nothing_blocks_and_is_as_before_when_the_maintenance_is_deleted()
-> Result<()> {
    let on = Controlled::start().await?;
    register(&on, "n1").await?;
    create(&on, "web", "Always").await?;
    create(&on, "once", "Once").await?;
    let (web, once) = (bound(&on, "web", "n1").await?, bound(&on, "once", "n1").await?);
    runs(&on, &web).await?;
    runs(&on, &once).await?;
    register(&on, "n2").await?;
    let said = on.kubectl_with(&["apply"], MAINTENANCE)?;
    ensure!(said.contains("created"), "{said}");

    // One VM is in the way: it is named, and none is stopped.
    let status = reaches(&on, Phase::Blocked).await?;
    let message = "VM default/once: its runStrategy Once does not start it again; stop it (virtctl stop once -n default), or \
                   change its runStrategy to RerunOnFailure";
    ensure!(status.message.as_deref() == Some(message), "{status:?}");
    cordoned(&on, true).await?;
    ensure!(
        on.here::<Pod>().get(&web).await?.metadata.deletion_timestamp.is_none(),
        "web is stopped for nothing"
    );
    let said = on.kubectl(&["get", "nodemaintenances"])?;
    ensure!(said.contains("Blocked") && said.contains("new memory"), "{said}");

    // The remedy: both VMs power off, and start on the other node.
    let patch = Patch::Merge(json!({"spec": {"runStrategy": "RerunOnFailure"}}));
    on.here::<VirtualMachine>().patch("once", &PatchParams::default(), &patch).await?;
    powers_off(&on, &web).await?;
    powers_off(&on, &once).await?;
    for name in ["web", "once"] {
        let pod = bound(&on, name, "n2").await?;
        runs(&on, &pod).await?;
    }
    let status = reaches(&on, Phase::InMaintenance).await?;
    let message = "no VM runs on n1; delete this object to end the maintenance";
    ensure!(status.message.as_deref() == Some(message) && status.blockers.is_empty(), "{status:?}");

    let said = on.kubectl(&["delete", "nodemaintenance", "n1"])?;
    ensure!(said.contains("deleted"), "{said}");
    cordoned(&on, false).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_budget_blocks_a_maintenance_and_a_node_that_was_cordoned_by_hand_stays_cordoned() -> Result<()> {
    let on = Controlled::start().await?;
    register(&on, "n1").await?;
    create(&on, "web", "Always").await?;
    let web = bound(&on, "web", "n1").await?;
    runs(&on, &web).await?;
    let said = on.kubectl(&["cordon", "n1"])?;
    ensure!(said.contains("cordoned"), "{said}");
    let budget = r#"{"apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": {"name": "always-one"},
        "spec": {"minAvailable": 1, "selector": {"matchLabels": {"vm.kubevirt.io/name": "web"}}}}"#;
    let said = on.kubectl_with(&["create"], budget)?;
    ensure!(said.contains("created"), "{said}");
    let said = on.kubectl_with(&["apply"], MAINTENANCE)?;
    ensure!(said.contains("created"), "{said}");
    let status = reaches(&on, Phase::Blocked).await?;
    let message = status.message.unwrap_or_default();
    ensure!(message.contains("PodDisruptionBudget always-one allows no disruption now"), "{message}");

    let said = on.kubectl(&["delete", "poddisruptionbudget", "always-one"])?;
    ensure!(said.contains("deleted"), "{said}");
    powers_off(&on, &web).await?;
    reaches(&on, Phase::InMaintenance).await?;
    let said = on.kubectl(&["delete", "nodemaintenance", "n1"])?;
    ensure!(said.contains("deleted"), "{said}");
    cordoned(&on, true).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_vm_that_kubectl_drain_evicts_starts_elsewhere_though_its_guest_obeyed() -> Result<()> {
    let on = Controlled::start().await?;
    register(&on, "n1").await?;
    create(&on, "web", "RerunOnFailure").await?;
    let web = bound(&on, "web", "n1").await?;
    runs(&on, &web).await?;
    register(&on, "n2").await?;
    // It waits for the end of the Pod, which the node reports afterwards here.
    let said = on.kubectl(&["drain", "n1", "--timeout=3s"])?;
    ensure!(said.contains(&format!("evicting pod default/{web}")), "{said}");
    powers_off(&on, &web).await?;
    bound(&on, "web", "n2").await?;
    let said = on.kubectl(&["get", "events", "-o", "name", "--field-selector=reason=Evicted"])?;
    ensure!(said.contains("event"), "{said}");
    Ok(())
}
