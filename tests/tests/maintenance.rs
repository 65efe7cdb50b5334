//! Maintenance of nodes, and `kubectl drain`, on the real API server and scheduler; the nodes are played by the test.

use anyhow::{Result, ensure};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, Patch, PatchParams};
use serde_json::json;
use sheaf_api::{
    VirtualMachine,
    node_maintenance::{NodeMaintenance, NodeMaintenanceStatus, Phase},
};
use sheaf_tests::controlled::{Controlled, wait};
use sheaf_tests::evicted::{bound, cordoned, create, powers_off, register, runs};

const MAINTENANCE: &str = r"
apiVersion: sheaf.dev/v1alpha1
kind: NodeMaintenance
metadata:
  name: n1
spec:
  nodeName: n1
  reason: new memory
";

/// The status of the maintenance, once it is in `phase`.
async fn reaches(on: &Controlled, phase: Phase) -> Result<NodeMaintenanceStatus> {
    let objects: Api<NodeMaintenance> = Api::all(on.client.clone());
    wait(&format!("the maintenance is {phase:?}"), async || {
        let status = objects.get_opt("n1").await?.and_then(|object| object.status);
        Ok(status.filter(|status| status.phase == Some(phase)))
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
    cordoned(&on, "n1", true).await?;
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
    cordoned(&on, "n1", false).await
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
    cordoned(&on, "n1", true).await
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
