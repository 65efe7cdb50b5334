//! Every plan of the controller over whatever objects can be stored: no panic, no overflow, and once a plan was done the next
//! one writes no status again.
//!
//! Why here: one file that lists the plans and the objects that they are made from. Tenants write specs, nodes write statuses,
//! within what the schemas let through. Route in: objects of the right shape, changed at random. Route out: [`sheaf_fuzz`].

use std::sync::Arc;

use k8s_openapi::{api::storage::v1::CSIStorageCapacity, jiff::Timestamp};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use sheaf_api::{cluster_config::ClusterConfigSpec, cluster_update::ClusterUpdate, storage::LocalVolume};
use sheaf_fuzz::{Random, fuzz, json::change};

use crate::instancetype::Sized;
use crate::{
    cluster_update, import_policy,
    networks::Networks,
    node_maintenance, node_network, node_removal, nodes,
    placeholder::end,
    vm, vmi,
    volumes::{
        capacity,
        claim::{self, source},
        class, datavolume, reclaim, room, snapshot,
        testing::{self, GIB, UID, in_phase},
    },
};

const NOW: Timestamp = Timestamp::constant(1_800_000_000, 0);

/// `object` after some changes, if it is one still.
fn changed<K: DeserializeOwned>(random: &mut Random, object: &Value) -> Option<K> {
    let mut object = object.clone();
    change(random, &mut object, 3);
    serde_json::from_value(object).ok()
}

fn value(object: impl serde::Serialize) -> Value {
    serde_json::to_value(object).unwrap()
}

/// A claim, bound or not, and all that its plans are made from.
struct Objects {
    claims: [Value; 2],
    class: Value,
    pool: Value,
    volume: Value,
    persistent: Value,
}

impl Objects {
    fn new() -> Self {
        let name = format!("pvc-{UID}");
        let annotations = json!({"annotations": {"volume.kubernetes.io/selected-node": "n1"}});
        let mut volume = value(in_phase(testing::volume(&name, "n1", 4 * GIB), "Ready", "Ready"));
        volume["metadata"]["labels"] = json!({"sheaf.dev/retained": "true"});
        let mut bound = value(testing::claim(
            json!({}),
            json!({"volumeName": name, "resources": {"requests": {"storage": "6Gi"}}}),
        ));
        bound["status"] = json!({"phase": "Bound", "capacity": {"storage": "4Gi"}});
        Self {
            claims: [value(testing::claim(annotations, json!({"selector": null}))), bound],
            class: value(testing::class()),
            pool: value(testing::pool("n1", 10 * GIB)),
            volume,
            persistent: value(testing::persistent(&name, "Released", "Delete")),
        }
    }
}

#[test]
fn claims_and_their_growth() {
    let objects = Objects::new();
    fuzz("plans of claims", |random| {
        let which = random.below(2);
        let Some(mut claim) = changed(random, &objects.claims[which]) else { return false };
        let Some(class) = changed(random, &objects.class) else { return false };
        let (pool, volume) =
            (changed(random, &objects.pool), changed::<LocalVolume>(random, &objects.volume));
        let persistent = changed(random, &objects.persistent).filter(|_| random.once_in(2));
        let pools: Vec<_> = pool.into_iter().map(Arc::new).collect();
        let volumes: Vec<_> = volume.into_iter().map(Arc::new).collect();
        let volume = volumes.first().map(AsRef::as_ref);
        let mut writes = 0;
        for _ in 0..2 {
            let source = source::wanted(&claim).map(|wanted| match wanted {
                source::Wanted::Anywhere(_) => (wanted, None),
                wanted => {
                    let found = source::of_claim("x", Some(&claim), persistent.as_ref(), volume);
                    (wanted, Some(found))
                }
            });
            let observed = claim::plan::Observed {
                claim: &claim,
                class: &class,
                pools: &pools,
                volumes: &volumes,
                volume,
                persistent: persistent.as_ref(),
                source,
            };
            let plan = claim::plan::plan(&observed, NOW).unwrap();
            for action in &plan.actions {
                match action {
                    claim::plan::Action::CreateVolume(made) => {
                        let pool = pools.first().expect("a volume is made in a pool");
                        assert!(room::size(made) <= room::Room::of(pool, &volumes).left);
                    }
                    claim::plan::Action::Grow { to, .. } => {
                        assert!(*to > volume.unwrap().spec.size_bytes, "volumes never shrink");
                    }
                    claim::plan::Action::DeleteVolume { .. } => {
                        assert!(persistent.is_none(), "a PersistentVolume refers to it");
                    }
                    claim::plan::Action::RecordEvent(event) => assert!(!event.note.is_empty()),
                    claim::plan::Action::WriteStatus(status) => {
                        claim.status = Some((**status).clone());
                        writes += 1;
                    }
                    _ => {}
                }
            }
        }
        assert!(writes < 2, "the same status is written again");
        true
    });
}

#[test]
fn snapshots() {
    let objects = Objects::new();
    let snapshot = json!({
        "apiVersion": "snapshot.storage.k8s.io/v1", "kind": "VolumeSnapshot",
        "metadata": {"name": "monday", "namespace": "shop", "uid": "s-1",
                     "finalizers": [sheaf_api::snapshot::SNAPSHOT_FINALIZER]},
        "spec": {"source": {"persistentVolumeClaimName": "disk"}},
        "status": {"readyToUse": false, "error": {"message": "x", "time": "2026-01-01T00:00:00Z"}},
    });
    let content = json!({
        "apiVersion": "snapshot.storage.k8s.io/v1", "kind": "VolumeSnapshotContent",
        "metadata": {"name": "snapcontent-s-1", "finalizers": [sheaf_api::snapshot::CONTENT_FINALIZER]},
        "spec": {"deletionPolicy": "Delete", "driver": "lvm.sheaf.dev", "source": {"volumeHandle": "x"},
                 "volumeSnapshotRef": {"namespace": "shop", "name": "monday", "uid": "s-1"}},
        "status": {"readyToUse": true, "restoreSize": 4_294_967_296_i64, "creationTime": 1},
    });
    let class = class::snapshot_class();
    fuzz("plans of snapshots", |random| {
        let Some(mut snapshot) = changed::<sheaf_api::snapshot::VolumeSnapshot>(random, &snapshot) else {
            return false;
        };
        if random.once_in(4) {
            snapshot.metadata.deletion_timestamp = Some(crate::conditions::seconds(NOW));
        }
        let (class, claim) = (changed(random, &class), changed(random, &objects.claims[1]));
        let mut content = changed::<sheaf_api::snapshot::VolumeSnapshotContent>(random, &content);
        let (persistent, pool) = (changed(random, &objects.persistent), changed(random, &objects.pool));
        let origin = changed::<LocalVolume>(random, &objects.volume);
        let own = changed::<LocalVolume>(random, &objects.volume).filter(|_| random.once_in(2));
        let volumes: Vec<_> = origin.iter().chain(&own).cloned().map(Arc::new).collect();
        let pools: Vec<_> = pool.into_iter().map(Arc::new).collect();
        let mut writes = 0;
        for _ in 0..2 {
            let observed = snapshot::plan::Observed {
                snapshot: &snapshot,
                class: class.as_ref(),
                claim: claim.as_ref(),
                persistent: persistent.as_ref(),
                content: content.as_ref(),
                pools: &pools,
                volumes: &volumes,
                volume: own.as_ref(),
                origin: origin.as_ref(),
            };
            let plan = snapshot::plan::plan(&observed, NOW);
            let status = &plan.status;
            assert!(
                plan.requeue.is_none()
                    || snapshot.metadata.deletion_timestamp.is_some()
                    || status.error.is_some()
            );
            for action in plan.actions {
                match action {
                    snapshot::plan::Action::CreateVolume(made) => {
                        let origin = origin.as_ref().expect("a snapshot has an origin");
                        assert_eq!(made.spec.node_name, origin.spec.node_name);
                        assert!(room::size(&made) >= room::size(origin), "all of it may come to differ");
                    }
                    snapshot::plan::Action::WriteStatus(status) => {
                        snapshot.status = Some(*status);
                        writes += 1;
                    }
                    snapshot::plan::Action::WriteContentStatus(status) => {
                        content.as_mut().unwrap().status = Some(*status);
                    }
                    _ => {}
                }
            }
        }
        assert!(writes < 2, "the same status is written again");
        true
    });
}

#[test]
fn data_volumes() {
    let objects = Objects::new();
    let data = json!({
        "apiVersion": "cdi.kubevirt.io/v1beta1", "kind": "DataVolume",
        "metadata": {"name": "disk", "namespace": "shop", "uid": "d-1", "labels": {"team": "a"}},
        "spec": {"source": {"http": {"url": "https://mirror.example/a.qcow2", "checksum": format!("sha256:{}", "0".repeat(64))},
                            "upload": {}, "pvc": {"name": "golden", "namespace": "shop"}},
                 "storage": {"resources": {"requests": {"storage": "4Gi"}}, "accessModes": ["ReadWriteOnce"]},
                 "pvc": {"volumeMode": "Block"}},
        "status": {"phase": "ImportInProgress", "progress": "5.0%", "restartCount": 1, "conditions": [
            {"type": "Bound", "status": "False", "reason": "Pending", "message": "x"}]},
    });
    let mut owned = objects.claims[1].clone();
    owned["metadata"]["ownerReferences"] =
        json!([{"apiVersion": "v1", "kind": "DataVolume", "name": "disk", "uid": "d-1"}]);
    let classes = [testing::class()];
    fuzz("plans of DataVolumes", |random| {
        let Some(mut data) = changed::<sheaf_api::cdi::DataVolume>(random, &data) else { return false };
        let claim = changed(random, &owned).filter(|_| random.once_in(2));
        let volume = changed::<LocalVolume>(random, &objects.volume).filter(|_| random.once_in(2));
        let bytes = random.number();
        let mut writes = 0;
        for _ in 0..2 {
            let found = source::Found {
                source: Default::default(),
                node: "n1".into(),
                pool: "default".into(),
                bytes,
            };
            let observed = datavolume::plan::Observed {
                data: &data,
                claim: claim.as_ref(),
                volume: volume.as_ref(),
                classes: &classes,
                origin: data.spec.source.pvc.as_ref().map(|_| Ok(found)),
            };
            let Ok(plan) = datavolume::plan::plan(&observed, NOW) else { return false };
            let is_explained = plan
                .status
                .conditions
                .iter()
                .any(|one| one.message.as_ref().is_some_and(|why| !why.is_empty()));
            assert!(plan.requeue.is_none() || is_explained, "it waits, and says not for what");
            for action in plan.actions {
                if let datavolume::plan::Action::WriteStatus(status) = action {
                    data.status = Some(*status);
                    writes += 1;
                }
            }
        }
        assert!(writes < 2, "the same status is written again");
        true
    });
}

#[test]
fn reclaim_of_volumes() {
    let objects = Objects::new();
    fuzz("plans of reclaim", |random| {
        let Some(persistent) = changed(random, &objects.persistent) else { return false };
        let volume = changed::<LocalVolume>(random, &objects.volume);
        let mut copy = testing::volume("pvc-copy", "n1", GIB);
        copy.spec.source = serde_json::from_value(json!({"volume": {"name": format!("pvc-{UID}")}})).unwrap();
        let others = if random.once_in(2) { vec![copy] } else { Vec::new() };
        let steps = reclaim::plan::of_persistent(&persistent, volume.as_ref(), &others);
        let removes = steps.contains(&reclaim::plan::Step::DeleteVolume);
        let phase = persistent.status.as_ref().and_then(|status| status.phase.as_deref());
        assert!(!removes || phase != Some("Bound"), "a claim is bound to it");
        let is_copied = volume.as_ref().is_some_and(|one| one.metadata.name == Some(format!("pvc-{UID}")));
        assert!(!removes || others.is_empty() || !is_copied, "it is being copied");
        assert!(!removes || !steps.contains(&reclaim::plan::Step::Release), "the node first");
        if let Some(volume) = &volume {
            assert_eq!(reclaim::plan::of_orphan(volume, true, &others), [], "it is claimed");
        }
        true
    });
}

#[test]
fn published_capacity() {
    let objects = Objects::new();
    fuzz("plans of capacity", |random| {
        // Names of nodes and classes are DNS names: both may have dots.
        let names = ["a", "b", "a.b", "b.a", "a.b.a"];
        let long = "x".repeat(200);
        let mut classes = Vec::new();
        let mut pools = Vec::new();
        for _ in 0..random.below(4) {
            let mut class = testing::class();
            let name = if random.once_in(8) { long.as_str() } else { *random.of(&names) };
            class.metadata.name = Some(name.to_owned());
            classes.push(class);
            let Some(mut pool) = changed::<sheaf_api::storage::StoragePool>(random, &objects.pool) else {
                continue;
            };
            pool.spec.node_name = (*random.of(&names)).to_owned();
            pools.push(pool);
        }
        classes.sort_by(|a, b| a.metadata.name.cmp(&b.metadata.name));
        classes.dedup_by(|a, b| a.metadata.name == b.metadata.name);
        pools.sort_by(|a, b| (&a.spec.node_name, &a.spec.pool).cmp(&(&b.spec.node_name, &b.spec.pool)));
        pools.dedup_by(|a, b| (&a.spec.node_name, &a.spec.pool) == (&b.spec.node_name, &b.spec.pool));
        let volumes: Vec<LocalVolume> = changed(random, &objects.volume).into_iter().collect();
        let mut published: Vec<CSIStorageCapacity> = Vec::new();
        for round in 0..2 {
            let actions = capacity::plan::plan(&classes, &pools, &volumes, &published).unwrap();
            assert!(round == 0 || actions.is_empty(), "published again: {actions:?}");
            for action in actions {
                match action {
                    capacity::plan::Action::Delete(name) => {
                        published.retain(|one| one.metadata.name.as_ref() != Some(&name));
                    }
                    capacity::plan::Action::Apply(one) => {
                        let name = one.metadata.name.clone();
                        assert!(name.as_ref().is_some_and(|name| name.len() <= 253));
                        assert!(published.iter().all(|other| other.metadata.name != name), "two of one name");
                        published.push(*one);
                    }
                }
            }
        }
        !published.is_empty()
    });
}

#[test]
fn turns_of_node_networks() {
    let policy = json!({
        "apiVersion": "sheaf.dev/v1alpha1", "kind": "NodeNetworkPolicy", "metadata": {"name": "p", "generation": 2},
        "spec": {"maxUnavailable": 1, "nodeSelector": {}, "network": {}},
        "status": {"observedGeneration": 2, "updatingNodes": ["n1", "n9"], "phase": "Progressing"},
    });
    fuzz("plans of node networks", |random| {
        let Some(mut policy) = changed::<sheaf_api::node_network::NodeNetworkPolicy>(random, &policy) else {
            return false;
        };
        let (mut all, mut enactments) = (Vec::new(), Vec::new());
        for number in 0..random.below(6) {
            let name = format!("n{number}");
            let ready = *random.of(&["True", "False", "Unknown"]);
            let node = json!({"metadata": {"name": name, "labels": {sheaf_api::names::VM_NODE_LABEL: "true"}},
                "status": {"conditions": [{"type": "Ready", "status": ready}]}});
            if let Some(mut node) = changed::<k8s_openapi::api::core::v1::Node>(random, &node) {
                node.metadata.name = Some(name.clone()); // no two Nodes have one name
                all.push(node);
            }
            let phase = *random.of(&["Trying", "Applied", "RolledBack", "Refused"]);
            let enactment = json!({"apiVersion": "sheaf.dev/v1alpha1", "kind": "NodeNetworkEnactment",
                "metadata": {"name": format!("p.{name}")}, "spec": {"nodeName": name, "policy": "p"},
                "status": {"generation": 2, "phase": phase, "message": "gateway: silent"}});
            enactments.extend(changed::<sheaf_api::node_network::NodeNetworkEnactment>(random, &enactment));
        }
        let before = policy.status.clone().unwrap_or_default();
        let status = node_network::plan::plan(&policy, &all, &enactments);
        let new = status.updating_nodes.iter().filter(|node| !before.updating_nodes.contains(node)).count();
        let is_same = before.observed_generation == policy.metadata.generation;
        let most = policy.spec.max_unavailable.max(1) as usize;
        assert!(status.failed == 0 || new == 0 || !is_same, "a turn after a failure: {status:?}");
        assert!(status.updating_nodes.len() <= most.max(before.updating_nodes.len()), "{status:?}");
        assert!(status.failed == 0 || status.message.is_some(), "a failure without a word");
        assert!(status.applied <= status.nodes, "{status:?}");
        policy.status = Some(status.clone());
        assert_eq!(node_network::plan::plan(&policy, &all, &enactments), status, "at rest");
        true
    });
}

#[test]
fn updates_of_the_cluster() {
    let update = json!({
        "apiVersion": "sheaf.dev/v1alpha1", "kind": "ClusterUpdate",
        "metadata": {"name": "fall", "uid": "c-1", "generation": 2, "finalizers": [sheaf_api::names::CLUSTER_UPDATE_FINALIZER]},
        "spec": {"version": "0.2.0", "source": {"url": "https://a.example"}, "maxUnavailable": 2, "paused": false, "cancelled": false,
                 "nodeSelector": {"matchExpressions": [{"key": "rack", "operator": "NotIn", "values": ["a"]}]},
                 "window": {"days": ["Monday"], "from": "00:00", "until": "23:59"}},
        "status": {"phase": "Updating", "message": "x", "updatingNodes": ["n1"], "nodes": [
            {"name": "n1", "phase": "Refused", "message": "no", "request": "u-1/1"}]},
    });
    fuzz("plans of cluster updates", |random| {
        let Some(mut update) = changed::<ClusterUpdate>(random, &update) else { return false };
        let (mut nodes, mut requests) = (Vec::new(), Vec::new());
        for number in 0..random.below(6) {
            let name = format!("n{number}");
            let ready = *random.of(&["True", "False", "Unknown"]);
            let mut labels = json!({sheaf_api::names::VM_NODE_LABEL: "true"});
            if random.once_in(3) {
                labels[sheaf_api::names::CONTROL_PLANE_ROLE_LABEL] = json!("");
            }
            let mut node = json!({"metadata": {"name": name, "labels": labels}, "spec": {},
                "status": {"conditions": [{"type": "Ready", "status": ready}]}});
            if random.once_in(3) {
                node["spec"]["unschedulable"] = json!(true);
                node["metadata"]["annotations"] = json!({sheaf_api::names::CORDONED_BY_ANNOTATION: "fall"});
            }
            if let Some(mut node) = changed::<k8s_openapi::api::core::v1::Node>(random, &node) {
                node.metadata.name = Some(name.clone()); // no two Nodes have one name
                nodes.push(node);
            }
            let phase = *random.of(&[
                "Checking",
                "Staging",
                "Restarting",
                "OnTrial",
                "Updated",
                "RolledBack",
                "Refused",
                "Failed",
            ]);
            let owner = json!([{"apiVersion": "sheaf.dev/v1alpha1", "kind": "ClusterUpdate", "name": "fall", "uid": "c-1", "controller": true}]);
            let request = json!({"apiVersion": "sheaf.dev/v1alpha1", "kind": "NodeUpdate",
                "metadata": {"name": name, "uid": format!("u-{number}"), "generation": 1, "ownerReferences": owner},
                "spec": {"nodeName": name, "version": "0.2.0", "source": {"url": "https://a.example"}},
                "status": {"phase": phase, "observedGeneration": 1, "message": "as it is"}});
            if random.once_in(2) {
                requests.extend(changed::<sheaf_api::node_update::NodeUpdate>(random, &request));
            }
        }
        let decide = |update: &ClusterUpdate| {
            let all = std::slice::from_ref(update);
            let observed =
                cluster_update::standing::Observed { update, all, nodes: &nodes, requests: &requests };
            cluster_update::plan::plan(&observed, NOW)
        };
        let plan = decide(&update);
        let begins =
            |one: &&cluster_update::plan::Action| matches!(one, cluster_update::plan::Action::Create(_));
        let begun = plan.actions.iter().filter(begins).count();
        let most = update.spec.max_unavailable.max(1) as usize;
        assert!(begun <= most, "{:?}", plan.actions);
        assert!(begun == 0 || plan.status.failed == 0, "begun after a failure: {:?}", plan.status);
        assert!(begun == 0 || !(update.spec.paused || update.spec.cancelled), "{:?}", plan.actions);
        let status = &plan.status;
        assert!(status.phase.is_none() || status.message.is_some(), "a phase without a word: {status:?}");
        let sum = status.updated + status.remaining + status.failed;
        let is_computed =
            plan.requeue.is_some() && !plan.actions.contains(&cluster_update::plan::Action::AddFinalizer);
        assert!(!is_computed || sum == status.total, "{status:?}");
        update.status = Some(plan.status.clone());
        let again = decide(&update);
        assert!(again.status == plan.status || begun > 0 || !plan.actions.is_empty(), "at rest");
        true
    });
}

#[test]
fn maintenance_of_nodes() {
    use node_maintenance::plan::{Action, plan};
    let object = json!({
        "apiVersion": "sheaf.dev/v1alpha1", "kind": "NodeMaintenance",
        "metadata": {"name": "n1", "generation": 2, "finalizers": [sheaf_api::names::MAINTENANCE_FINALIZER]},
        "spec": {"nodeName": "n1", "deadlineSeconds": 60},
        "status": {"phase": "Draining", "since": "2027-01-15T07:59:50Z", "wasCordoned": false, "stopped": [
            {"namespace": "shop", "name": "db", "uid": "vm-2", "instance": "vmi-2", "held": true, "restart": true}]},
    });
    let node = json!({"metadata": {"name": "n1"}, "spec": {"unschedulable": true}});
    let pod = json!({
        "metadata": {"name": "virt", "namespace": "shop", "uid": "p", "deletionTimestamp": "2027-01-15T08:00:00Z"},
        "spec": {"nodeName": "n1", "containers": []},
    });
    let spec = json!({"domain": {"memory": {"guest": "1Gi"}, "devices": {}}, "evictionStrategy": "LiveMigrate",
        "volumes": [{"name": "a", "hostDisk": {"path": "/data/disks/shop/a", "type": "Disk"}}]});
    let machine = json!({
        "apiVersion": "kubevirt.io/v1", "kind": "VirtualMachine", "metadata": {"name": "web", "namespace": "shop", "uid": "vm-1"},
        "spec": {"runStrategy": "Manual", "template": {"spec": spec}},
    });
    let instance = json!({
        "apiVersion": "kubevirt.io/v1", "kind": "VirtualMachineInstance", "metadata": {"name": "web", "namespace": "shop",
            "uid": "vmi-1", "ownerReferences": [{"apiVersion": "kubevirt.io/v1", "kind": "VirtualMachine", "name": "web", "uid": "vm-1", "controller": true}]},
        "spec": spec, "status": {"phase": "Running"},
    });
    fuzz("plans of maintenance", |random| {
        let Some(maintenance) = changed(random, &object) else { return false };
        let Some(pod) = changed(random, &pod) else { return false };
        let vm = node_maintenance::vms::Vm {
            name: "web".into(),
            pod,
            machine: changed(random, &machine),
            instance: changed(random, &instance),
            claims_here: Vec::new(),
        };
        let mut observed = node_maintenance::plan::Observed {
            maintenance,
            node: changed(random, &node),
            vms: vec![vm],
            known: Vec::new(),
            budgets: Vec::new(),
            control_plane: vec!["n1".into()],
        };
        let cordoned =
            observed.node.as_ref().and_then(|node| node.spec.as_ref()?.unschedulable) == Some(true);
        let first = plan(&observed, NOW);
        let evicts = first.actions.iter().any(|action| matches!(action, Action::Evict { .. }));
        assert!(cordoned || !evicts, "a VM is stopped that could come back at once");
        let written = first.actions.iter().find_map(|action| match action {
            Action::WriteStatus(status) => Some((**status).clone()),
            _ => None,
        });
        let Some(written) = written else { return true };
        observed.maintenance.status = Some(written);
        let writes = |action: &Action| matches!(action, Action::WriteStatus(_) | Action::RecordEvent(_));
        let again = plan(&observed, NOW);
        assert!(!again.actions.iter().any(writes), "the same status is written again: {again:?}");
        true
    });
}

#[test]
fn removals_of_nodes() {
    use node_removal::observed::{ControlPlaneNode, Identity, Kind, Leftover, Observed};
    use node_removal::plan::{Action, plan};
    let object = json!({
        "apiVersion": "sheaf.dev/v1alpha1", "kind": "NodeRemoval",
        "metadata": {"name": "n1", "uid": "r", "generation": 2, "finalizers": [sheaf_api::names::REMOVAL_FINALIZER]},
        "spec": {"nodeName": "n1", "poweredOff": true, "acceptLoss": ["LocalVolume/pvc-1"]},
        "status": {"phase": "Removing", "removing": "2027-01-15T07:50:00Z", "revoked": "2027-01-15T07:59:00Z", "tainted": true,
                   "nodeUid": "node-1", "losses": [{"name": "LocalVolume/pvc-1", "what": "claim shop/data", "bytes": 1}]},
    });
    let node = json!({
        "metadata": {"name": "n1", "uid": "node-1"},
        "spec": {"unschedulable": true, "taints": [{"key": sheaf_api::names::OUT_OF_SERVICE_TAINT, "effect": "NoExecute"}]},
        "status": {"conditions": [{"type": "Ready", "status": "Unknown", "lastTransitionTime": "2027-01-15T07:50:00Z"}]},
    });
    let pod = json!({"metadata": {"name": "virt", "namespace": "shop", "uid": "p"},
        "spec": {"nodeName": "n1", "containers": []}});
    let maintenance = json!({
        "apiVersion": "sheaf.dev/v1alpha1", "kind": "NodeMaintenance", "metadata": {"name": "n1", "uid": "m"},
        "spec": {"nodeName": "n1"}, "status": {"phase": "InMaintenance"},
    });
    let volume = value(testing::volume("pvc-1", "n1", GIB));
    fuzz("plans of removal", |random| {
        let Some(removal) = changed(random, &object) else { return false };
        let mut observed = Observed {
            removal,
            node: changed(random, &node),
            renewed: None,
            maintenance: changed(random, &maintenance),
            pods: changed(random, &pod).into_iter().collect(),
            volumes: changed(random, &volume).into_iter().collect(),
            machines: Vec::new(),
            ended: Vec::new(),
            images: Default::default(),
            control_plane: vec![ControlPlaneNode { name: "plane".into(), is_ready: true }],
            busy: Vec::new(),
            leftovers: vec![Leftover { kind: Kind::Lease, name: "n1".into(), uid: "l".into() }],
            identity: Identity::Removed,
        };
        let first = plan(&observed, NOW);
        let began = observed.removal.status.as_ref().is_some_and(|status| status.removing.is_some());
        let accepted = &observed.removal.spec.accept_loss;
        for action in &first.actions {
            match action {
                Action::DeleteVolume(volume) => {
                    let name = node_removal::losses::name_of_volume(volume);
                    assert!(
                        began && (volume.metadata.deletion_timestamp.is_some() || accepted.contains(&name))
                    );
                }
                Action::DeleteNode(_) => {
                    assert!(began && observed.volumes.is_empty() && observed.pods.is_empty())
                }
                Action::Delete(_) | Action::Revoke => assert!(began),
                Action::OutOfService(true) | Action::DeletePod { .. } => {
                    assert!(observed.removal.spec.powered_off)
                }
                _ => {}
            }
        }
        let written = first.actions.iter().find_map(|action| match action {
            Action::WriteStatus(status) => Some((**status).clone()),
            _ => None,
        });
        let Some(written) = written else { return true };
        // Another phase, or the point of no return, has another status.
        let is_same = observed
            .removal
            .status
            .as_ref()
            .is_some_and(|before| before.phase == written.phase && before.removing == written.removing);
        observed.removal.status = Some(written);
        let writes = |action: &Action| matches!(action, Action::WriteStatus(_) | Action::RecordEvent(_));
        let again = plan(&observed, NOW);
        assert!(!is_same || !again.actions.iter().any(writes), "the same status is written again: {again:?}");
        true
    });
}

#[test]
fn nodes_pods_and_protected_networks() {
    let node = json!({
        "metadata": {"name": "n1", "labels": {sheaf_api::names::CONTROL_PLANE_ROLE_LABEL: "", sheaf_api::names::VM_NODE_LABEL: "true"},
                     "annotations": {sheaf_api::names::CONTROL_PLANE_TAINT_ANNOTATION: "managed"}},
        "spec": {"taints": [{"key": sheaf_api::names::OUT_OF_SERVICE_TAINT, "effect": "NoExecute"},
                            {"key": sheaf_api::names::CONTROL_PLANE_ROLE_LABEL, "effect": "NoSchedule"}]},
        "status": {"conditions": [{"type": "Ready", "status": "False"}],
                   "addresses": [{"type": "InternalIP", "address": "192.0.2.1"}, {"type": "InternalIP", "address": "::"}]},
    });
    let pod = json!({
        "metadata": {"name": "virt", "finalizers": [sheaf_api::names::POD_FINALIZER], "deletionTimestamp": "2026-01-01T00:00:00Z",
                     "deletionGracePeriodSeconds": 9},
        "spec": {"nodeName": "n1", "containers": []},
        "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}],
                   "containerStatuses": [{"name": "c", "image": "", "imageID": "", "ready": false, "restartCount": 0,
                                          "state": {"terminated": {"exitCode": 0}}}]},
    });
    fuzz("plans of Nodes and Pods", |random| {
        let (Some(node), Some(pod)) = (changed(random, &node), changed(random, &pod)) else { return false };
        let actions = end::plan(&pod, Some(&node));
        assert!(actions.is_empty() || end::is_over(&pod, Some(&node)), "a run that may go on is let go");
        assert!(end::plan(&pod, None).is_empty() || end::is_over(&pod, None));
        for (workers, volumes) in [(false, false), (true, false), (true, true)] {
            let patch = nodes::taints::plan(&node, workers, volumes);
            assert!(patch.is_none_or(|patch| patch.is_object()));
        }
        for network in import_policy::plan::protected(std::slice::from_ref(&node), &[], None) {
            let (address, width) = network.cidr.split_once('/').unwrap();
            assert!(address.parse::<std::net::IpAddr>().is_ok() && matches!(width, "32" | "128"));
        }
        true
    });
}

#[test]
fn vms_and_their_instances() {
    let spec = json!({"domain": {"cpu": {"sockets": 1, "cores": 2, "threads": 1}, "memory": {"guest": "1Gi"},
        "resources": {"requests": {"memory": "2Gi", "cpu": "500m"}},
        "devices": {"disks": [{"name": "a", "disk": {"bus": "virtio"}, "bootOrder": 1}], "interfaces": [{"name": "lan", "bridge": {}}]}},
        "networks": [{"name": "lan", "pod": {}}], "volumes": [{"name": "a", "emptyDisk": {"capacity": "2Gi"}}],
        "terminationGracePeriodSeconds": 30});
    let vm = json!({
        "apiVersion": "kubevirt.io/v1", "kind": "VirtualMachine",
        "metadata": {"name": "web", "namespace": "shop", "uid": "vm-1", "generation": 3, "finalizers": [sheaf_api::names::VM_FINALIZER]},
        "spec": {"runStrategy": "Always", "template": {"metadata": {"labels": {"a": "b"}}, "spec": spec}},
        "status": {"startFailure": {"consecutiveFailCount": 3, "retryAfterTimestamp": "2026-01-01T00:00:00Z"}},
    });
    let vmi = json!({
        "apiVersion": "kubevirt.io/v1", "kind": "VirtualMachineInstance",
        "metadata": {"name": "web", "namespace": "shop", "uid": "vmi-1", "finalizers": [sheaf_api::names::VMI_FINALIZER],
                     "ownerReferences": [{"apiVersion": "kubevirt.io/v1", "kind": "VirtualMachine", "name": "web", "uid": "vm-1", "controller": true}]},
        "spec": spec,
        "status": {"phase": "Scheduled", "nodeName": "n1", "conditions": [{"type": "Ready", "status": "False", "reason": "x"}]},
    });
    let networks = Ok(Networks::default());
    let config = ClusterConfigSpec::default();
    fuzz("plans of VMs", |random| {
        let Some(vm) = changed::<sheaf_api::VirtualMachine>(random, &vm) else { return false };
        let Some(vmi) = changed::<sheaf_api::VirtualMachineInstance>(random, &vmi) else { return false };
        for own in [None, Some(&vmi)] {
            let plan = vm::plan::plan(&Sized::plain(&vm), own, &[], NOW);
            let starts =
                plan.actions.iter().filter(|action| matches!(action, vm::plan::Action::Start(_))).count();
            assert!(starts <= usize::from(own.is_none()), "a second start");
            let mut again = vm.clone();
            again.status = Some(plan.status);
            let second = vm::plan::plan(&Sized::plain(&again), own, &[], NOW);
            let writes = |plan: &vm::plan::Plan| {
                plan.actions.iter().any(|one| matches!(one, vm::plan::Action::WriteStatus(_)))
            };
            assert!(!writes(&second) || starts > 0, "the same status is written again");
        }
        let observed = vmi::plan::Observed {
            vmi: &vmi,
            pod: None,
            node: None,
            earlier: &[],
            networks: &networks,
            config: &config,
            images: &Default::default(),
            volumes: &Default::default(),
        };
        let Ok(plan) = vmi::plan::plan(&observed, NOW) else { return false };
        let pods =
            plan.actions.iter().filter(|action| matches!(action, vmi::plan::Action::CreatePod(_))).count();
        assert!(pods <= 1);
        true
    });
}
