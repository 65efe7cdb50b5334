//! Sheaf's own kinds on the real API server: what may not change, and what a node may not write.
//!
//! Why here: rules about a change need an object that was there before; rules about nodes need a node's name, which the
//! administrator borrows here. Objects that are bad from the start lie in `tests/manifests/bad`.

use anyhow::{Result, ensure};
use serde_json::json;
use sheaf_tests::controlled::Controlled;

/// A disk of n1, as its agent would make it.
const DISK: &str = r#"{"apiVersion": "sheaf.dev/v1alpha1", "kind": "BlockDevice",
    "metadata": {"name": "n1.serial-a", "labels": {"sheaf.dev/node": "n1"}},
    "spec": {"nodeName": "n1", "identity": {"serial": "A", "model": "Disk"}}}"#;
/// A pool of n1.
const POOL: &str = r#"{"apiVersion": "sheaf.dev/v1alpha1", "kind": "StoragePool",
    "metadata": {"name": "fast.n1", "labels": {"sheaf.dev/pool": "fast"}},
    "spec": {"nodeName": "n1", "pool": "fast", "devices": ["n1.serial-a"]}}"#;

/// Words by which kubectl acts for a node's agent.
const N1: [&str; 2] = ["--as=system:node:n1", "--as-group=system:nodes"];
const N2: [&str; 2] = ["--as=system:node:n2", "--as-group=system:nodes"];

fn said(what: &str, said: &str, expected: &str) -> Result<()> {
    ensure!(said.trim_end() == expected, "{what}:\n  {said}\ninstead of\n  {expected}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_disk_and_a_pool_are_does_not_change_and_a_node_writes_only_what_is_its_own() -> Result<()> {
    let bench = Controlled::start().await?;
    let by =
        |node: [&str; 2], verb: &str, object: &str| bench.kubectl_with(&[verb, node[0], node[1]], object);
    let patch = |more: &[&str], kind: &str, name: &str, patch: serde_json::Value| {
        let patch = patch.to_string();
        let mut words = vec!["patch", kind, name, "--type=merge", "-p", &patch];
        words.extend(more);
        bench.kubectl(&words)
    };

    let refused = "Error from server (Forbidden): error when creating \"FILE\": blockdevices.sheaf.dev \"n1.serial-a\" is \
                   forbidden: ValidatingAdmissionPolicy 'sheaf-node-owns' with binding 'sheaf-node-owns' denied request:";
    said(
        "n2 makes a disk of n1",
        &by(N2, "create", DISK)?,
        &format!(
            "{refused} system:node:n2 writes only what has its own name in spec.nodeName, and this has n1"
        ),
    )?;
    let eager =
        DISK.replace("\"nodeName\": \"n1\"", "\"nodeName\": \"n1\", \"role\": \"pool\", \"pool\": \"fast\"");
    said(
        "n1 gives its disk a role",
        &by(N1, "create", &eager)?,
        &format!("{refused} a node reports its disks; role and wipe are set by the operator"),
    )?;
    said("n1 makes its disk", &by(N1, "create", DISK)?, "blockdevice.sheaf.dev/n1.serial-a created")?;
    said("n1 makes its pool", &by(N1, "create", POOL)?, "storagepool.sheaf.dev/fast.n1 created")?;

    let report = ["--subresource=status"];
    let state = json!({"status": {"state": "Active", "devPath": "/dev/sdb", "usedBy": "pool fast"}});
    let as_n1: Vec<&str> = report.iter().chain(&N1).copied().collect();
    let as_n2: Vec<&str> = report.iter().chain(&N2).copied().collect();
    said(
        "n1 reports",
        &patch(&as_n1, "blockdevice", "n1.serial-a", state.clone())?,
        "blockdevice.sheaf.dev/n1.serial-a patched",
    )?;
    let denied = "Error from server (Forbidden): blockdevices.sheaf.dev \"n1.serial-a\" is forbidden: \
                  ValidatingAdmissionPolicy 'sheaf-node-owns' with binding 'sheaf-node-owns' denied request:";
    // kubectl reads what it patches; what the policy says of the write itself, `hostile_node` shows.
    said(
        "n2 reports on n1",
        &patch(&as_n2, "blockdevice", "n1.serial-a", json!({"status": {"state": "Missing"}}))?,
        "Error from server (Forbidden): blockdevices.sheaf.dev \"n1.serial-a\" is forbidden: User \
         \"system:node:n2\" cannot get resource \"blockdevices/status\" in API group \"sheaf.dev\" at the cluster \
         scope: a node reads only its own objects: list and watch with fieldSelector spec.nodeName=<its own name>",
    )?;
    said(
        "n1 gives its disk away",
        &patch(&N1, "blockdevice", "n1.serial-a", json!({"spec": {"role": "passthrough"}}))?,
        &format!("{denied} a node reports; the spec is for the operator and the controller to change"),
    )?;
    let kept = bench.kubectl(&["delete", "blockdevice", "n1.serial-a", N1[0], N1[1]])?;
    ensure!(kept.contains("cannot delete resource \"blockdevices\""), "n1 deletes its disk: {kept}");

    let invalid = "The BlockDevice \"n1.serial-a\" is invalid:";
    said(
        "the disk moves",
        &patch(&[], "blockdevice", "n1.serial-a", json!({"spec": {"nodeName": "n2"}}))?,
        &format!(
            "{invalid} \n* <nil>: Invalid value: metadata.name is <nodeName>.<id>; the node's agent makes it\n\
             * spec.nodeName: Forbidden: nodeName cannot be changed: a disk that moves to another node gets a new BlockDevice there"
        ),
    )?;
    said(
        "the disk becomes another",
        &patch(&[], "blockdevice", "n1.serial-a", json!({"spec": {"identity": {"serial": "B"}}}))?,
        &format!(
            "{invalid} spec.identity: Forbidden: identity is reported by the disk and cannot be changed"
        ),
    )?;
    said(
        "the operator wipes it for the pool",
        &patch(
            &[],
            "blockdevice",
            "n1.serial-a",
            json!({"spec": {"role": "pool", "pool": "fast", "wipe": {"confirmSerial": "A"}}}),
        )?,
        "blockdevice.sheaf.dev/n1.serial-a patched",
    )?;
    let invalid = "The StoragePool \"fast.n1\" is invalid:";
    said(
        "the pool is renamed",
        &patch(&[], "storagepool", "fast.n1", json!({"spec": {"pool": "slow"}}))?,
        &format!(
            "{invalid} \n* <nil>: Invalid value: metadata.name is <pool>.<nodeName>, so that a node has one pool of a \
             name\n* spec.pool: Forbidden: the name of a pool cannot be changed"
        ),
    )?;
    said(
        "the pool grows",
        &patch(&[], "storagepool", "fast.n1", json!({"spec": {"devices": ["n1.serial-a", "n1.serial-b"]}}))?,
        "storagepool.sheaf.dev/fast.n1 patched",
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_writers_of_finalizers_neither_loses_the_others() -> Result<()> {
    use k8s_openapi::api::core::v1::ConfigMap;
    use kube::{Api, api::PostParams};
    use sheaf_controller::object::{add_finalizer, remove_finalizer};

    let plane = sheaf_tests::cluster::ControlPlane::start("").await?;
    let maps: Api<ConfigMap> = Api::namespaced(plane.admin.clone(), "kube-public");
    let map: ConfigMap = serde_json::from_value(json!({"metadata": {"name": "shared"}}))?;
    let read = maps.create(&PostParams::default(), &map).await?;
    let now = async || anyhow::Ok(maps.get("shared").await?.metadata.finalizers.unwrap_or_default());

    // Both read the object before either wrote.
    add_finalizer(&maps, &read, "example.org/one").await?;
    ensure!(
        add_finalizer(&maps, &read, "example.org/two").await.is_err(),
        "a list that has changed is replaced"
    );
    ensure!(now().await? == ["example.org/one"], "{:?}", now().await?);
    let read = maps.get("shared").await?;
    add_finalizer(&maps, &read, "example.org/two").await?;
    ensure!(
        remove_finalizer(&maps, &read, "example.org/one").await.is_err(),
        "a list that has changed is replaced"
    );
    ensure!(now().await? == ["example.org/one", "example.org/two"], "{:?}", now().await?);

    // A change of something else is no conflict.
    let read = maps.get("shared").await?;
    let data = kube::api::Patch::Merge(json!({"data": {"a": "b"}}));
    maps.patch("shared", &kube::api::PatchParams::default(), &data).await?;
    remove_finalizer(&maps, &read, "example.org/one").await?;
    ensure!(now().await? == ["example.org/two"], "{:?}", now().await?);
    Ok(())
}
