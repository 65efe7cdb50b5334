//! Replica sets of instances and pools of VMs, on the real API server.

use anyhow::{Result, ensure};
use k8s_openapi::api::apps::v1::ControllerRevision;
use kube::api::{Api, ListParams, Patch, PatchParams};
use serde_json::json;
use sheaf_api::{
    VirtualMachine, VirtualMachineInstance,
    replica_set::VirtualMachineInstanceReplicaSet,
    vm_pool::{REVISION_LABEL, VirtualMachinePool},
};
use sheaf_tests::controlled::{Controlled, wait};

/// As in KubeVirt's `vmi-replicaset-cirros`.
const SET: &str = r#"
apiVersion: kubevirt.io/v1
kind: VirtualMachineInstanceReplicaSet
metadata:
  name: vmi-replicaset-cirros
spec:
  replicas: 3
  selector:
    matchLabels:
      kubevirt.io/vmReplicaSet: vmi-replicaset-cirros
  template:
    metadata:
      labels:
        kubevirt.io/vmReplicaSet: vmi-replicaset-cirros
    spec:
      domain:
        devices:
          disks:
          - disk:
              bus: virtio
            name: containerdisk
        memory:
          guest: 128Mi
        resources: {}
      terminationGracePeriodSeconds: 0
      volumes:
      - containerDisk:
          image: registry:5000/kubevirt/cirros-container-disk-demo:devel
        name: containerdisk
"#;

/// As in KubeVirt's `vm-pool-cirros`.
const POOL: &str = r#"
apiVersion: pool.kubevirt.io/v1beta1
kind: VirtualMachinePool
metadata:
  name: vm-pool-cirros
spec:
  replicas: 3
  selector:
    matchLabels:
      kubevirt.io/vmpool: vm-pool-cirros
  virtualMachineTemplate:
    metadata:
      creationTimestamp: null
      labels:
        kubevirt.io/vmpool: vm-pool-cirros
    spec:
      runStrategy: Always
      template:
        metadata:
          creationTimestamp: null
          labels:
            kubevirt.io/vmpool: vm-pool-cirros
        spec:
          domain:
            devices:
              disks:
              - disk:
                  bus: virtio
                name: containerdisk
            memory:
              guest: 128Mi
            resources: {}
          terminationGracePeriodSeconds: 0
          volumes:
          - containerDisk:
              image: registry:5000/kubevirt/cirros-container-disk-demo:devel
            name: containerdisk
"#;

/// Names of the instances of the replica set, when they are so many.
async fn instances(on: &Controlled, many: usize) -> Result<Vec<String>> {
    let instances: Api<VirtualMachineInstance> = Api::default_namespaced(on.client.clone());
    let of_set = ListParams::default().labels("kubevirt.io/vmReplicaSet=vmi-replicaset-cirros");
    wait(&format!("the replica set has {many} instances"), async || {
        let all = instances.list(&of_set).await?.items;
        let live = all.into_iter().filter(|vmi| vmi.metadata.deletion_timestamp.is_none());
        let names: Vec<_> = live.filter_map(|vmi| vmi.metadata.name).collect();
        Ok((names.len() == many).then_some(names))
    })
    .await
}

/// Names of the VMs of the pool, when they are so many.
async fn machines(on: &Controlled, many: usize) -> Result<Vec<String>> {
    let machines: Api<VirtualMachine> = Api::default_namespaced(on.client.clone());
    let of_pool = ListParams::default().labels("kubevirt.io/vmpool=vm-pool-cirros");
    wait(&format!("the pool has {many} VMs"), async || {
        let mut names: Vec<_> =
            machines.list(&of_pool).await?.items.into_iter().filter_map(|vm| vm.metadata.name).collect();
        names.sort();
        Ok((names.len() == many).then_some(names))
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_set_has_as_many_instances_as_it_is_scaled_to() -> Result<()> {
    let on = Controlled::start().await?;
    let said = on.kubectl_with(&["apply"], SET)?;
    ensure!(said.contains("created"), "{said}");
    let first = instances(&on, 3).await?;
    ensure!(first.iter().all(|name| name.starts_with("vmi-replicaset-cirros")), "{first:?}");
    let said = on.kubectl(&["scale", "vmirs/vmi-replicaset-cirros", "--replicas=5"])?;
    ensure!(said.contains("scaled"), "{said}");
    instances(&on, 5).await?;
    let sets: Api<VirtualMachineInstanceReplicaSet> = Api::default_namespaced(on.client.clone());
    wait("its status counts five", async || {
        let status = sets.get("vmi-replicaset-cirros").await?.status.unwrap_or_default();
        let selector = status.label_selector.as_deref();
        Ok((status.replicas == 5
            && status.ready_replicas == 0
            && selector == Some("kubevirt.io/vmReplicaSet=vmi-replicaset-cirros"))
        .then_some(()))
    })
    .await?;
    let said = on.kubectl(&["scale", "vmirs/vmi-replicaset-cirros", "--replicas=1"])?;
    ensure!(said.contains("scaled"), "{said}");
    let last = instances(&on, 1).await?;

    // One that a user deletes is replaced, unless the replica set is paused.
    let pause = |paused: bool| Patch::Merge(json!({"spec": {"paused": paused}}));
    sets.patch("vmi-replicaset-cirros", &PatchParams::default(), &pause(true)).await?;
    wait("it is paused", async || {
        let status = sets.get("vmi-replicaset-cirros").await?.status.unwrap_or_default();
        Ok(status.conditions.iter().any(|one| one.type_ == "ReplicaPaused").then_some(()))
    })
    .await?;
    let said = on.kubectl(&["delete", "vmi", &last[0], "--wait=false"])?;
    ensure!(said.contains("deleted"), "{said}");
    instances(&on, 0).await?;
    sets.patch("vmi-replicaset-cirros", &PatchParams::default(), &pause(false)).await?;
    let next = instances(&on, 1).await?;
    ensure!(next != last, "{next:?}");
    let said = on.kubectl(&["get", "events", "-o", "name", "--field-selector=reason=SuccessfulCreate"])?;
    ensure!(said.contains("vmi-replicaset-cirros"), "{said}");

    let said = on.kubectl(&[
        "patch",
        "vmirs",
        "vmi-replicaset-cirros",
        "--type=merge",
        "-p",
        r#"{"spec":{"selector":{"matchLabels":{"app":"web"}}}}"#,
    ])?;
    ensure!(said.contains("a selector cannot be changed; create another object"), "{said}");
    let said = on.kubectl(&["delete", "vmirs", "vmi-replicaset-cirros"])?;
    ensure!(said.contains("deleted"), "{said}");
    instances(&on, 0).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pool_numbers_its_vms_and_changes_them_with_its_template() -> Result<()> {
    let on = Controlled::start().await?;
    let said = on.kubectl_with(&["apply"], POOL)?;
    ensure!(said.contains("created"), "{said}");
    let names = machines(&on, 3).await?;
    ensure!(names == ["vm-pool-cirros-0", "vm-pool-cirros-1", "vm-pool-cirros-2"], "{names:?}");
    let said = on.kubectl(&["scale", "vmpool/vm-pool-cirros", "--replicas=2"])?;
    ensure!(said.contains("scaled"), "{said}");
    let names = machines(&on, 2).await?;
    ensure!(names == ["vm-pool-cirros-0", "vm-pool-cirros-1"], "{names:?}");
    let pools: Api<VirtualMachinePool> = Api::default_namespaced(on.client.clone());
    wait("its status counts two", async || {
        let status = pools.get("vm-pool-cirros").await?.status.unwrap_or_default();
        Ok((status.replicas == 2).then_some(()))
    })
    .await?;

    // A changed template: the VMs have it, their instances are replaced, the former revision is forgotten.
    let instances: Api<VirtualMachineInstance> = Api::default_namespaced(on.client.clone());
    let before = wait("the first VM has an instance", async || {
        Ok(instances.get_opt("vm-pool-cirros-0").await?.and_then(|vmi| vmi.metadata.uid))
    })
    .await?;
    let more = json!({"spec": {"virtualMachineTemplate": {"spec": {"template": {"spec": {"domain": {
        "memory": {"guest": "256Mi"}}}}}}}});
    let changed = pools.patch("vm-pool-cirros", &PatchParams::default(), &Patch::Merge(&more)).await?;
    let revision = format!("vm-pool-cirros-{}", changed.metadata.generation.unwrap_or_default());
    wait("the instance is another, of the new template", async || {
        let vmi = instances.get_opt("vm-pool-cirros-0").await?;
        let vmi = vmi.filter(|vmi| vmi.metadata.uid.as_ref() != Some(&before));
        let named = vmi.and_then(|vmi| vmi.metadata.labels?.remove(REVISION_LABEL));
        Ok((named.as_ref() == Some(&revision)).then_some(()))
    })
    .await?;
    let revisions: Api<ControllerRevision> = Api::default_namespaced(on.client.clone());
    wait("only the revision in use is kept", async || {
        let names = revisions.list(&ListParams::default()).await?.items.into_iter();
        let names: Vec<_> = names.filter_map(|revision| revision.metadata.name).collect();
        Ok((names == [revision.as_str()]).then_some(()))
    })
    .await?;

    let said = on.kubectl(&[
        "patch",
        "vmpool",
        "vm-pool-cirros",
        "--type=merge",
        "-p",
        r#"{"spec":{"virtualMachineTemplate":{"spec":{"dataVolumeTemplates":[]}}}}"#,
    ])?;
    ensure!(said.contains("create another pool"), "{said}");
    Ok(())
}
