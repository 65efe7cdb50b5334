//! Volumes on the real control plane: where a claim goes, that nothing is promised twice, how it grows, is copied, ends.
//!
//! Why here: only kube-scheduler knows where it puts a Pod, and only kube-controller-manager when a claim is bound. The
//! nodes are played by the test: their pools and what they say of LocalVolumes, as agents would.

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::{
    api::{
        core::v1::{Event, Node, PersistentVolume, PersistentVolumeClaim, Pod},
        storage::v1::{CSIStorageCapacity, StorageClass},
    },
    jiff::Timestamp,
};
use kube::{
    Api, Client, Resource,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams},
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};
use sheaf_api::{
    VirtualMachine,
    cdi::{DataVolume, DataVolumePhase},
    snapshot::{VolumeSnapshot, VolumeSnapshotContent},
    status::PrintableStatus,
    storage::{LocalVolume, StoragePool},
};
use sheaf_tests::controlled::{Controlled, wait};
use std::time::Duration;

const GIB: u64 = 1 << 30;
/// Between two looks of the nodes at what they are to do.
const NODES_LOOK: Duration = Duration::from_millis(200);
const SELECTED_NODE: &str = "volume.kubernetes.io/selected-node";

/// A bench whose nodes do as they are told.
struct Cluster {
    bench: Controlled,
    nodes: tokio::task::JoinHandle<()>,
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.nodes.abort();
    }
}

impl Cluster {
    /// One with these nodes, each with a pool of so many GiB.
    async fn start(nodes: &[(&str, u64)]) -> Result<Self> {
        let bench = Controlled::start().await?;
        for (name, gib) in nodes {
            node(&bench, name, gib * GIB).await?;
        }
        let names: Vec<String> = nodes.iter().map(|(name, _)| (*name).to_string()).collect();
        let nodes = tokio::spawn(play_nodes(bench.client.clone(), names));
        let cluster = Self { bench, nodes };
        let told: Api<CSIStorageCapacity> = Api::namespaced(cluster.client(), "sheaf-system");
        wait("every node's room is told", async || {
            let told = told.list(&ListParams::default()).await?.items.len();
            Ok((told == cluster.all::<StoragePool>().list(&ListParams::default()).await?.items.len())
                .then_some(()))
        })
        .await?;
        Ok(cluster)
    }

    fn client(&self) -> Client {
        self.bench.client.clone()
    }

    fn all<K>(&self) -> Api<K>
    where
        K: Resource<DynamicType = (), Scope = k8s_openapi::ClusterResourceScope>,
    {
        Api::all(self.client())
    }

    fn here<K>(&self) -> Api<K>
    where
        K: Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>,
    {
        Api::default_namespaced(self.client())
    }

    async fn make<K>(&self, object: Value) -> Result<K>
    where
        K: Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>
            + Clone
            + std::fmt::Debug
            + Serialize
            + DeserializeOwned,
    {
        Ok(self.here::<K>().create(&PostParams::default(), &serde_json::from_value(object)?).await?)
    }

    /// A claim of so many GiB, with a further field of its spec.
    async fn claim(&self, name: &str, gib: u64, more: Value) -> Result<PersistentVolumeClaim> {
        let mut spec = json!({"accessModes": ["ReadWriteOnce"],
                              "resources": {"requests": {"storage": format!("{gib}Gi")}}});
        for (key, value) in more.as_object().into_iter().flatten() {
            spec[key] = value.clone();
        }
        self.make(json!({"metadata": {"name": name}, "spec": spec})).await
    }

    /// A Pod that uses a claim, as a VM's would.
    async fn pod(&self, name: &str, claim: &str) -> Result<Pod> {
        self.make(json!({
            "metadata": {"name": name},
            "spec": {
                "containers": [{"name": "compute", "image": "x"}],
                "volumes": [{"name": "claim", "persistentVolumeClaim": {"claimName": claim}}],
            },
        }))
        .await
    }

    /// The claim, once it is bound, with its volume.
    async fn bound(&self, name: &str) -> Result<(PersistentVolumeClaim, LocalVolume)> {
        let claims = self.here::<PersistentVolumeClaim>();
        let claim = wait(&format!("claim {name} is bound"), async || {
            let claim = claims.get_opt(name).await?;
            Ok(claim.filter(|claim| phase_of(claim) == "Bound"))
        })
        .await?;
        let volume =
            claim.spec.as_ref().and_then(|spec| spec.volume_name.clone()).context("it names its volume")?;
        Ok((claim, self.all::<LocalVolume>().get(&volume).await?))
    }

    /// The node that a Pod was given.
    async fn placed(&self, name: &str) -> Result<String> {
        wait(&format!("Pod {name} has a node"), async || {
            Ok(self.here::<Pod>().get(name).await?.spec.and_then(|spec| spec.node_name))
        })
        .await
    }

    /// A Pod has no node, for want of space. (Just after it lost a race, the scheduler has other words.)
    async fn has_no_room(&self, name: &str) -> Result<()> {
        wait(&format!("Pod {name} cannot be placed for want of space"), async || {
            let status = self.here::<Pod>().get(name).await?.status.unwrap_or_default();
            let conditions = status.conditions.unwrap_or_default();
            let scheduled = conditions.into_iter().find(|condition| condition.type_ == "PodScheduled");
            let why = scheduled
                .filter(|condition| condition.status == "False")
                .and_then(|condition| condition.message);
            Ok(why.is_some_and(|why| why.contains("did not have enough free storage")).then_some(()))
        })
        .await
    }

    /// An Event about an object of that name whose note has these words.
    async fn told(&self, about: &str, words: &str) -> Result<String> {
        let of = ListParams::default().fields(&format!("involvedObject.name={about}"));
        wait(&format!("an Event of {about} says {words:?}"), async || {
            let events = self.here::<Event>().list(&of).await?.items;
            Ok(events.into_iter().filter_map(|event| event.message).find(|message| message.contains(words)))
        })
        .await
    }

    async fn patch<K>(&self, api: Api<K>, name: &str, patch: Value) -> Result<()>
    where
        K: Clone + std::fmt::Debug + DeserializeOwned,
    {
        api.patch(name, &PatchParams::default(), &Patch::Merge(&patch)).await?;
        Ok(())
    }

    /// A Pod ends as its node would end it.
    async fn end(&self, pod: &str) -> Result<()> {
        self.here::<Pod>().delete(pod, &DeleteParams::default().grace_period(0)).await?;
        Ok(())
    }

    /// Nothing of any claim or snapshot is left.
    async fn empty(&self) -> Result<()> {
        let every = ListParams::default();
        wait("nothing is left", async || {
            let left = [
                names(&self.all::<LocalVolume>().list(&every).await?.items),
                names(&self.all::<PersistentVolume>().list(&every).await?.items),
                names(&self.all::<VolumeSnapshotContent>().list(&every).await?.items),
                names(&self.here::<VolumeSnapshot>().list(&every).await?.items),
                names(&self.here::<PersistentVolumeClaim>().list(&every).await?.items),
                names(&self.here::<DataVolume>().list(&every).await?.items),
            ]
            .concat();
            Ok(left.is_empty().then_some(()))
        })
        .await
    }
}

fn names<K: Resource>(objects: &[K]) -> Vec<String> {
    objects.iter().filter_map(|object| object.meta().name.clone()).collect()
}

fn phase_of(claim: &PersistentVolumeClaim) -> &str {
    claim.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or_default()
}

fn capacity_of(claim: &PersistentVolumeClaim) -> Option<&str> {
    Some(claim.status.as_ref()?.capacity.as_ref()?.get("storage")?.0.as_str())
}

/// A node with a pool, as its agent would show them.
async fn node(bench: &Controlled, name: &str, bytes: u64) -> Result<()> {
    bench.node(name, json!({})).await?;
    let pools: Api<StoragePool> = Api::all(bench.client.clone());
    let pool = json!({"apiVersion": "sheaf.dev/v1alpha1", "kind": "StoragePool",
        "metadata": {"name": format!("default.{name}"), "labels": {"sheaf.dev/pool": "default"}},
        "spec": {"nodeName": name, "pool": "default"}});
    pools.create(&PostParams::default(), &serde_json::from_value(pool)?).await?;
    let status = json!({"status": {"phase": "Ready", "totalBytes": bytes, "freeBytes": bytes}});
    pools.patch_status(&format!("default.{name}"), &PatchParams::default(), &Patch::Merge(&status)).await?;
    Ok(())
}

/// What agents do: live, make blank volumes and copies, grow, delete. What comes from a server, the case itself says.
async fn play_nodes(client: Client, names: Vec<String>) {
    loop {
        for name in &names {
            if let Err(error) = live(&client, name).await {
                eprintln!("node {name}: {error}");
            }
        }
        if let Err(error) = serve(&client).await {
            eprintln!("volumes of the nodes: {error}");
        }
        tokio::time::sleep(NODES_LOOK).await;
    }
}

async fn live(client: &Client, name: &str) -> kube::Result<()> {
    let nodes: Api<Node> = Api::all(client.clone());
    let now = Timestamp::from_second(Timestamp::now().as_second()).unwrap_or_default();
    let ready = json!({"status": {"conditions": [
        {"type": "Ready", "status": "True", "reason": "Played", "lastHeartbeatTime": now.to_string()}]}});
    nodes.patch_status(name, &PatchParams::default(), &Patch::Strategic(&ready)).await.map(drop)
}

async fn serve(client: &Client) -> kube::Result<()> {
    let volumes: Api<LocalVolume> = Api::all(client.clone());
    for volume in volumes.list(&ListParams::default()).await? {
        let name = volume.metadata.name.clone().unwrap_or_default();
        if volume.metadata.deletion_timestamp.is_some() {
            let patch = json!({"metadata": {"finalizers": null}});
            volumes.patch(&name, &PatchParams::default(), &Patch::Merge(&patch)).await?;
            continue;
        }
        let made = volume.status.as_ref().and_then(|status| status.size_bytes).unwrap_or_default();
        let by_hand = volume.spec.source.http.is_some() && !volume.is_ready();
        if made < volume.spec.size_bytes && !by_hand {
            says(client, &volume, "Ready", "Ready", "", json!({})).await?;
        }
    }
    Ok(())
}

/// What its node says of a volume.
async fn says(
    client: &Client,
    volume: &LocalVolume,
    phase: &str,
    reason: &str,
    message: &str,
    progress: Value,
) -> kube::Result<()> {
    let name = volume.metadata.name.clone().unwrap_or_default();
    let ready = if phase == "Ready" { "True" } else { "False" };
    let mut status = json!({
        "phase": phase,
        "conditions": [{"type": "Ready", "status": ready, "reason": reason, "message": message}],
    });
    if phase == "Ready" {
        status["sizeBytes"] = json!(volume.spec.size_bytes);
        status["devicePath"] = json!(format!("/dev/sheaf-default/{name}"));
    }
    if progress != json!({}) {
        status["progress"] = progress;
    }
    let volumes: Api<LocalVolume> = Api::all(client.clone());
    let patch = Patch::Merge(json!({"status": status}));
    volumes.patch_status(&name, &PatchParams::default(), &patch).await.map(drop)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_claim_goes_only_where_it_fits_and_nothing_is_promised_twice() -> Result<()> {
    let cluster = Cluster::start(&[("small", 4), ("large", 16)]).await?;
    let class = cluster.all::<StorageClass>().get("sheaf").await?;
    ensure!(class.provisioner == "lvm.sheaf.dev" && class.allow_volume_expansion == Some(true));

    // Nothing is made for nobody.
    cluster.claim("data", 10, json!({"volumeMode": "Block"})).await?;
    cluster.told("data", "waiting for first consumer").await?;
    ensure!(cluster.all::<LocalVolume>().list(&ListParams::default()).await?.items.is_empty());

    // Where it fits.
    cluster.pod("first", "data").await?;
    let (claim, volume) = cluster.bound("data").await?;
    ensure!(volume.spec.node_name == "large" && cluster.placed("first").await? == "large");
    ensure!(volume.spec.size_bytes == 10 * GIB && capacity_of(&claim) == Some("10Gi"));
    let persistent = cluster
        .all::<PersistentVolume>()
        .get(&format!("pvc-{}", claim.metadata.uid.unwrap_or_default()))
        .await?;
    let spec = serde_json::to_value(persistent.spec)?;
    ensure!(spec["csi"]["volumeHandle"] == json!(volume.metadata.name), "{spec}");
    ensure!(spec["persistentVolumeReclaimPolicy"] == "Delete" && spec["volumeMode"] == "Block", "{spec}");
    let told: Api<CSIStorageCapacity> = Api::namespaced(cluster.client(), "sheaf-system");
    wait("the scheduler is told what is left", async || {
        let left = told.get("sheaf.large").await?.maximum_volume_size;
        Ok((left.map(|left| left.0).as_deref() == Some("6Gi")).then_some(()))
    })
    .await?;

    // Where it does not fit it waits, and the scheduler says why.
    cluster.claim("huge", 7, json!({})).await?;
    cluster.pod("second", "huge").await?;
    cluster.has_no_room("second").await?;

    // Two race for the last space.
    for name in ["left", "right"] {
        cluster.claim(name, 5, json!({})).await?;
        cluster.pod(name, name).await?;
    }
    let claims = cluster.here::<PersistentVolumeClaim>();
    let winner = wait("one of two has the space", async || {
        let bound = async |name: &str| claims.get(name).await.map(|claim| phase_of(&claim) == "Bound");
        Ok(match (bound("left").await?, bound("right").await?) {
            (true, false) => Some("left"),
            (false, true) => Some("right"),
            _ => None,
        })
    })
    .await?;
    let loser = if winner == "left" { "right" } else { "left" };
    cluster.has_no_room(loser).await?;

    // A scheduler that did not know yet would have chosen that node for the other, too.
    let stale = json!({"metadata": {"annotations": {SELECTED_NODE: "large"}}});
    cluster.patch(claims.clone(), loser, stale).await?;
    let why = cluster.told(loser, "free, and").await?;
    ensure!(
        why == "pool default of large has 1Gi free, and 5Gi are requested; the scheduler looks for another node",
        "{why}"
    );
    wait("it is given back to the scheduler", async || {
        let annotations = claims.get(loser).await?.metadata.annotations.unwrap_or_default();
        Ok((!annotations.contains_key(SELECTED_NODE)).then_some(()))
    })
    .await?;
    let promised: u64 = cluster
        .all::<LocalVolume>()
        .list(&ListParams::default())
        .await?
        .iter()
        .filter(|volume| volume.spec.node_name == "large")
        .map(|volume| volume.spec.size_bytes)
        .sum();
    ensure!(promised == 15 * GIB, "{promised} bytes are promised of 16 GiB");

    // When the winner goes, the other comes: nothing else is needed.
    cluster.end(winner).await?;
    claims.delete(winner, &DeleteParams::default()).await?;
    cluster.bound(loser).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_claim_grows_is_snapshotted_and_copied_on_its_node_and_leaves_nothing() -> Result<()> {
    let cluster = Cluster::start(&[("n1", 16), ("n2", 64)]).await?;
    let claims = cluster.here::<PersistentVolumeClaim>();
    cluster.patch(cluster.all::<Node>(), "n2", json!({"spec": {"unschedulable": true}})).await?;
    cluster.claim("data", 2, json!({})).await?;
    cluster.pod("user", "data").await?;
    let (_, volume) = cluster.bound("data").await?;
    ensure!(volume.spec.node_name == "n1");
    cluster.patch(cluster.all::<Node>(), "n2", json!({"spec": {"unschedulable": false}})).await?;

    // Grown while it is in use.
    let request = |size: &str| json!({"spec": {"resources": {"requests": {"storage": size}}}});
    cluster.patch(claims.clone(), "data", request("3Gi")).await?;
    wait("the claim has grown", async || {
        let claim = claims.get("data").await?;
        Ok((capacity_of(&claim) == Some("3Gi")).then_some(()))
    })
    .await?;
    let handle = volume.metadata.name.clone().unwrap_or_default();
    ensure!(cluster.all::<LocalVolume>().get(&handle).await?.spec.size_bytes == 3 * GIB);
    let persistent = cluster.all::<PersistentVolume>().get(&handle).await?;
    let capacity = persistent.spec.and_then(|spec| spec.capacity).unwrap_or_default();
    ensure!(capacity["storage"].0 == "3Gi");

    // Beyond what there is it does not, and says so; rolled back, everything works.
    cluster.patch(claims.clone(), "data", request("40Gi")).await?;
    let why = cluster.told("data", "does not grow").await?;
    ensure!(why.ends_with("pool default of n1 has 13Gi free, and 37Gi are requested"), "{why}");
    let condition = async |wanted: bool| {
        wait("the claim says so", async || {
            let conditions = claims.get("data").await?.status.and_then(|status| status.conditions);
            let there = conditions.iter().flatten().any(|one| one.type_ == "ControllerResizeError");
            Ok((there == wanted).then_some(()))
        })
        .await
    };
    condition(true).await?;
    cluster.patch(claims.clone(), "data", request("4Gi")).await?;
    condition(false).await?;
    wait("the claim has grown", async || {
        Ok((capacity_of(&claims.get("data").await?) == Some("4Gi")).then_some(()))
    })
    .await?;

    // A snapshot, and what cannot be one.
    let snapshots = cluster.here::<VolumeSnapshot>();
    let snapshot = |name: &str, of: &str| {
        json!({"apiVersion": "snapshot.storage.k8s.io/v1", "kind": "VolumeSnapshot", "metadata": {"name": name},
               "spec": {"source": {"persistentVolumeClaimName": of}}})
    };
    cluster.make::<VolumeSnapshot>(snapshot("monday", "data")).await?;
    let ready = wait("the snapshot is ready", async || {
        let status = snapshots.get("monday").await?.status.unwrap_or_default();
        Ok((status.ready_to_use == Some(true)).then_some(status))
    })
    .await?;
    ensure!(ready.restore_size.as_ref().map(|size| size.as_str()) == Some("4Gi"), "{ready:?}");
    let content = ready.bound_volume_snapshot_content_name.context("it has a content")?;
    wait("its content is ready", async || {
        let content = cluster.all::<VolumeSnapshotContent>().get(&content).await?;
        Ok(content.status.filter(|status| status.ready_to_use == Some(true)))
    })
    .await?;
    cluster.make::<VolumeSnapshot>(snapshot("never", "nothing")).await?;
    let why = wait("the other says why", async || {
        Ok(snapshots
            .get("never")
            .await?
            .status
            .and_then(|status| status.error)
            .and_then(|error| error.message))
    })
    .await?;
    ensure!(why == "the PersistentVolumeClaim nothing does not exist", "{why}");
    let changed = json!({"spec": {"source": {"persistentVolumeClaimName": "other"}}});
    let refused = cluster.patch(snapshots.clone(), "monday", changed).await.unwrap_err().to_string();
    ensure!(refused.contains("source cannot be changed; create another snapshot"), "{refused}");

    // Copies are made where their origin lies, though the other node has more room.
    let of_snapshot = json!({"dataSource": {"apiGroup": "snapshot.storage.k8s.io", "kind": "VolumeSnapshot", "name": "monday"}});
    cluster.claim("restored", 4, of_snapshot.clone()).await?;
    let of_claim = json!({"dataSourceRef": {"kind": "PersistentVolumeClaim", "name": "data"}});
    cluster.claim("copied", 4, of_claim).await?;
    for (name, origin) in [("restored", "snap-"), ("copied", "pvc-")] {
        let (_, volume) = cluster.bound(name).await?;
        ensure!(volume.spec.node_name == "n1", "{name} is on {}", volume.spec.node_name);
        let source = serde_json::to_value(&volume.spec.source)?;
        let named =
            source.as_object().and_then(|source| source.values().next()).context("it has a source")?;
        ensure!(named["name"].as_str().is_some_and(|name| name.starts_with(origin)), "{source}");
        cluster.pod(name, name).await?;
        ensure!(cluster.placed(name).await? == "n1");
    }
    cluster.claim("short", 1, of_snapshot).await?;
    let why = cluster.told("short", "at least as large").await?;
    ensure!(why == "a copy is at least as large as its origin: 4Gi", "{why}");

    // What can never be says so.
    cluster.claim("shared", 1, json!({"accessModes": ["ReadWriteMany"]})).await?;
    cluster.pod("sharing", "shared").await?;
    let why = cluster.told("shared", "ReadWriteMany").await?;
    ensure!(
        why == "accessModes has ReadWriteMany; volumes of lvm.sheaf.dev are on one node: use ReadWriteOnce",
        "{why}"
    );

    // In any order of deletion nothing stays.
    for pod in ["user", "restored", "copied", "sharing"] {
        cluster.end(pod).await?;
    }
    for claim in ["data", "restored", "copied", "short", "shared"] {
        claims.delete(claim, &DeleteParams::default()).await?;
    }
    for name in ["monday", "never"] {
        snapshots.delete(name, &DeleteParams::default()).await?;
    }
    cluster.empty().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_data_volume_says_in_cdis_words_how_far_it_is() -> Result<()> {
    let cluster = Cluster::start(&[("n1", 16)]).await?;
    let datas = cluster.here::<DataVolume>();
    let checksum = format!("sha256:{}", "0".repeat(64));
    let data = |name: &str, source: Value, storage: Value| {
        json!({"apiVersion": "cdi.kubevirt.io/v1beta1", "kind": "DataVolume", "metadata": {"name": name},
               "spec": {"source": source, "storage": storage}})
    };
    let image = json!({"http": {"url": "https://mirror.example/disk.qcow2", "checksum": checksum}});
    let size = json!({"resources": {"requests": {"storage": "2Gi"}}});
    let says = async |name: &str, phase: DataVolumePhase| {
        wait(&format!("DataVolume {name} is {phase}"), async || {
            let status = datas.get(name).await?.status.unwrap_or_default();
            Ok((status.phase == Some(phase)).then_some(status))
        })
        .await
    };
    cluster.make::<DataVolume>(data("golden", image.clone(), size.clone())).await?;
    says("golden", DataVolumePhase::WaitForFirstConsumer).await?;
    let refused = cluster.patch(
        datas.clone(),
        "golden",
        json!({"spec": {"storage": {"resources": {"requests": {"storage": "3Gi"}}}}}),
    );
    let refused = refused.await.unwrap_err().to_string();
    ensure!(refused.contains("a DataVolume cannot be changed; grow its PersistentVolumeClaim"), "{refused}");

    cluster.pod("user", "golden").await?;
    says("golden", DataVolumePhase::ImportScheduled).await?;
    let volume = wait("its volume is ordered", async || {
        let volumes = cluster.all::<LocalVolume>().list(&ListParams::default()).await?.items;
        Ok(volumes.into_iter().next())
    })
    .await?;
    ensure!(volume.spec.source.http.as_ref().is_some_and(|http| http.checksum == checksum));
    let (node, client) = (&volume, cluster.client());
    let part = json!({"doneBytes": 42, "totalBytes": 100, "percent": 42});
    self::says(&client, node, "Populating", "Populating", "", part).await?;
    let status = says("golden", DataVolumePhase::ImportInProgress).await?;
    ensure!(status.progress.as_deref() == Some("42.0%"), "{status:?}");
    self::says(&client, node, "Ready", "Ready", "", json!({})).await?;
    let status = says("golden", DataVolumePhase::Succeeded).await?;
    ensure!(status.progress.as_deref() == Some("100.0%") && status.claim_name.as_deref() == Some("golden"));
    ensure!(cluster.placed("user").await? == "n1");

    // A copy of it is as large as it is, and made without anybody to use it.
    cluster.make::<DataVolume>(data("copy", json!({"pvc": {"name": "golden"}}), json!({}))).await?;
    says("copy", DataVolumePhase::Succeeded).await?;
    ensure!(capacity_of(&cluster.bound("copy").await?.0) == Some("2Gi"));
    let abroad = json!({"pvc": {"name": "golden", "namespace": "kube-system"}});
    cluster.make::<DataVolume>(data("abroad", abroad, json!({}))).await?;
    let status = says("abroad", DataVolumePhase::Pending).await?;
    let why = status.conditions.iter().find_map(|condition| condition.message.clone()).unwrap_or_default();
    ensure!(why == "the source of a copy must be in the same namespace, default", "{why}");

    // What fails says what the node said.
    cluster.make::<DataVolume>(data("bad", image, size)).await?;
    cluster.pod("never", "bad").await?;
    let volume = wait("its volume is ordered", async || {
        let volumes = cluster.all::<LocalVolume>().list(&ListParams::default()).await?.items;
        Ok(volumes.into_iter().find(|volume| volume.spec.source.http.is_some() && !volume.is_ready()))
    })
    .await?;
    let mismatch = "the file has another SHA-256 than was asked for";
    self::says(&client, &volume, "Failed", "ChecksumMismatch", mismatch, json!({})).await?;
    let status = says("bad", DataVolumePhase::Failed).await?;
    let running =
        status.conditions.iter().find(|condition| condition.type_ == "Running").context("it says why")?;
    ensure!(
        running.reason.as_deref() == Some("ChecksumMismatch") && running.message.as_deref() == Some(mismatch)
    );

    for pod in ["user", "never"] {
        cluster.end(pod).await?;
    }
    for name in ["golden", "copy", "abroad", "bad"] {
        datas.delete(name, &DeleteParams::default()).await?;
    }
    cluster.empty().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_vm_makes_its_disks_is_placed_with_them_and_takes_them_along() -> Result<()> {
    let cluster = Cluster::start(&[("small", 1), ("large", 16)]).await?;
    let machines = cluster.here::<VirtualMachine>();
    cluster.claim("shared-data", 1, json!({})).await?;
    // As in KubeVirt's examples; what a node brings in is left to other cases.
    let vm = json!({
        "apiVersion": "kubevirt.io/v1", "kind": "VirtualMachine",
        "metadata": {"name": "mill", "labels": {"kubevirt.io/vm": "mill"}},
        "spec": {
            "dataVolumeTemplates": [{
                "metadata": {"creationTimestamp": null, "name": "mill-dv"},
                "spec": {"pvc": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "2Gi"}},
                                 "storageClassName": "sheaf"},
                         "source": {"blank": {}}},
            }],
            "running": true,
            "template": {
                "metadata": {"labels": {"kubevirt.io/vm": "mill"}},
                "spec": {
                    "domain": {"devices": {"disks": [{"disk": {"bus": "virtio"}, "name": "root"},
                                                     {"disk": {"bus": "virtio"}, "name": "data"}]},
                               "resources": {"requests": {"memory": "128Mi"}}},
                    "terminationGracePeriodSeconds": 0,
                    "volumes": [{"dataVolume": {"name": "mill-dv"}, "name": "root"},
                                {"persistentVolumeClaim": {"claimName": "shared-data"}, "name": "data"}],
                },
            },
        },
    });
    cluster.make::<VirtualMachine>(vm).await?;
    let of_vm = ListParams::default().labels("vm.kubevirt.io/name=mill");
    let pod = wait("its Pod is placed", async || {
        let pods = cluster.here::<Pod>().list(&of_vm).await?.items;
        Ok(pods.into_iter().find(|pod| pod.spec.as_ref().is_some_and(|spec| spec.node_name.is_some())))
    })
    .await?;
    let spec = pod.spec.clone().unwrap_or_default();
    ensure!(spec.node_name.as_deref() == Some("large"));
    ensure!(spec.containers[0].volume_mounts.is_none() && spec.containers[0].volume_devices.is_none());
    for claim in ["mill-dv", "shared-data"] {
        ensure!(cluster.bound(claim).await?.1.spec.node_name == "large");
    }
    wait("its disk is done", async || {
        let status = cluster.here::<DataVolume>().get("mill-dv").await?.status.unwrap_or_default();
        Ok((status.phase == Some(DataVolumePhase::Succeeded)).then_some(()))
    })
    .await?;

    // Stopped, it keeps them.
    let pod = pod.metadata.name.unwrap_or_default();
    let halted = json!({"spec": {"running": null, "runStrategy": "Halted"}});
    cluster.patch(machines.clone(), "mill", halted).await?;
    cluster.bench.node_ends(&pod).await?;
    wait("it is stopped", async || {
        let status = machines.get("mill").await?.status.and_then(|status| status.printable_status);
        Ok((status == Some(PrintableStatus::Stopped)).then_some(()))
    })
    .await?;
    cluster.bound("mill-dv").await?;

    // Deleted, it takes along what is its own, and leaves what is not.
    machines.delete("mill", &DeleteParams::default()).await?;
    wait("only what is not its own is left", async || {
        let left = names(&cluster.all::<LocalVolume>().list(&ListParams::default()).await?.items);
        Ok((left.len() == 1).then_some(()))
    })
    .await?;
    cluster.bound("shared-data").await?;
    cluster.here::<PersistentVolumeClaim>().delete("shared-data", &DeleteParams::default()).await?;
    cluster.empty().await
}
