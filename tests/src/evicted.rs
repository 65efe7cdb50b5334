//! VMs whose nodes are played by the test: placed, running, asked to power off.
//!
//! Why here: a maintenance and a removal of a node stop VMs in the same way. Route in: a [`Controlled`] cluster. Route out: what a
//! node's agent would write.

use crate::controlled::{Controlled, wait};
use anyhow::Result;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Node, Pod};
use k8s_openapi::jiff::Timestamp;
use kube::api::{Api, DeleteParams, Patch, PatchParams};
use serde_json::{Value, json};
use sheaf_api::{VirtualMachine, VirtualMachineInstance};
use sheaf_controller::placeholder;
use std::time::Duration;

/// Between two renewals of a lease.
const RENEWAL: Duration = Duration::from_secs(10);

/// Registers a node that runs nothing but VMs.
pub async fn register(on: &Controlled, name: &str) -> Result<()> {
    on.node(name, json!({"taints": [{"key": "sheaf.dev/vm-only", "effect": "NoSchedule"}]})).await
}

/// Renews the lease of a registered node until it is dropped: kube-controller-manager calls a node without one Unknown after 50 s.
pub struct Alive(tokio::task::JoinHandle<()>);

impl Drop for Alive {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Alive {
    /// Of a node that is registered.
    pub fn of(on: &Controlled, name: &str) -> Self {
        let (client, name) = (on.client.clone(), name.to_owned());
        Self(tokio::spawn(async move {
            loop {
                // One that fails is followed by another.
                drop(renewed(&client, &name).await);
                tokio::time::sleep(RENEWAL).await; // a kubelet's own cadence
            }
        }))
    }
}

async fn renewed(client: &kube::Client, name: &str) -> Result<()> {
    let leases: Api<Lease> = Api::namespaced(client.clone(), "kube-node-lease");
    let lease = json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": name},
        "spec": {"holderIdentity": name, "leaseDurationSeconds": 40,
                 "renewTime": format!("{:.6}", Timestamp::now())}});
    leases.patch(name, &PatchParams::apply("played").force(), &Patch::Apply(&lease)).await?;
    Ok(())
}

/// Renews the lease of a registered node once.
pub async fn renew(on: &Controlled, name: &str) -> Result<()> {
    renewed(&on.client, name).await
}

/// Registers a node as [`register`] does, that stays Ready.
pub async fn alive(on: &Controlled, name: &str) -> Result<Alive> {
    register(on, name).await?;
    Ok(Alive::of(on, name))
}

/// A VM of 64 MiB without disks.
pub async fn create(on: &Controlled, name: &str, strategy: &str) -> Result<()> {
    let vm = json!({
        "apiVersion": "kubevirt.io/v1", "kind": "VirtualMachine", "metadata": {"name": name},
        "spec": {"runStrategy": strategy, "template": {"spec": {
            "domain": {"memory": {"guest": "64Mi"}, "devices": {}}, "terminationGracePeriodSeconds": 60}}},
    });
    on.make::<VirtualMachine>(vm).await.map(drop)
}

/// The Pod of the VM's instance, once it is bound to `node`.
pub async fn bound(on: &Controlled, name: &str, node: &str) -> Result<String> {
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

/// The node reports that the VM of `pod` runs.
pub async fn runs(on: &Controlled, pod: &str) -> Result<()> {
    node_writes(on, pod, "Running", json!({"running": {}})).await
}

/// The guest of an evicted Pod obeys its power button, and the node reports so.
pub async fn powers_off(on: &Controlled, pod: &str) -> Result<()> {
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

/// Waits until `node` is cordoned, or is not.
pub async fn cordoned(on: &Controlled, node: &str, expected: bool) -> Result<()> {
    let nodes: Api<Node> = Api::all(on.client.clone());
    wait(&format!("{node} is cordoned: {expected}"), async || {
        let spec = nodes.get_opt(node).await?.and_then(|node| node.spec);
        let is = spec.and_then(|spec| spec.unschedulable) == Some(true);
        Ok((is == expected).then_some(()))
    })
    .await
}
