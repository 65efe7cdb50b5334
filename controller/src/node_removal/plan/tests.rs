//! Each turn of a removal, with the words that people read.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};
use sheaf_api::{
    names::LEFT_CONDITION,
    node_removal::{NodeRemoval, Wipe},
};

use super::{
    remove::{LEAVE_WITHIN, REFUSED_AFTER},
    *,
};
use crate::{
    node_removal::observed::{Busy, ControlPlaneNode, Identity, Kind},
    replicas::owns,
    volumes::testing::{GIB, volume},
};

const NOW: i64 = 1_800_000_000; // 2027-01-15T08:00:00Z

fn now() -> Timestamp {
    Timestamp::from_second(NOW).unwrap()
}

pub(super) fn removal(spec: Value, status: Value) -> NodeRemoval {
    let mut all = json!({"nodeName": "n1"});
    all.as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
    serde_json::from_value(json!({
        "apiVersion": "sheaf.dev/v1alpha1", "kind": "NodeRemoval",
        "metadata": {"name": "n1", "uid": "r-1", "generation": 1, "finalizers": [REMOVAL_FINALIZER]},
        "spec": all, "status": status,
    }))
    .unwrap()
}

/// A Node; one that is silent has been for ten minutes.
pub(super) fn node(ready: &str, cordoned: bool, out_of_service: bool) -> Node {
    let taints = match out_of_service {
        true => json!([{"key": OUT_OF_SERVICE_TAINT, "value": "nodeshutdown", "effect": "NoExecute"}]),
        false => json!([]),
    };
    serde_json::from_value(json!({
        "metadata": {"name": "n1", "uid": "node-1"}, "spec": {"unschedulable": cordoned, "taints": taints},
        "status": {"conditions": [{"type": "Ready", "status": ready, "lastTransitionTime": "2027-01-15T07:50:00Z"}]},
    }))
    .unwrap()
}

pub(super) fn maintenance(phase: &str, own: bool) -> NodeMaintenance {
    let owner = json!([{"apiVersion": "sheaf.dev/v1alpha1", "kind": "NodeRemoval", "name": "n1", "uid": "r-1",
        "controller": true}]);
    serde_json::from_value(json!({
        "apiVersion": "sheaf.dev/v1alpha1", "kind": "NodeMaintenance",
        "metadata": {"name": "n1", "uid": "m-1", "ownerReferences": if own { owner } else { json!([]) }},
        "spec": {"nodeName": "n1"}, "status": {"phase": phase, "message": "what the maintenance says"},
    }))
    .unwrap()
}

pub(super) fn pod(name: &str) -> Pod {
    serde_json::from_value(json!({
        "metadata": {"name": name, "namespace": "shop", "uid": format!("uid-of-{name}")},
        "spec": {"nodeName": "n1", "containers": []},
    }))
    .unwrap()
}

fn machine(strategy: &str, selector: Value, state_node: Option<&str>) -> VirtualMachine {
    serde_json::from_value(json!({
        "apiVersion": "kubevirt.io/v1", "kind": "VirtualMachine", "metadata": {"name": "web", "namespace": "shop"},
        "spec": {"runStrategy": strategy, "template": {"spec": {"nodeSelector": selector,
            "domain": {"memory": {"guest": "1Gi"}, "devices": {}}}}},
        "status": {"stateNode": state_node},
    }))
    .unwrap()
}

fn claimed(name: &str) -> LocalVolume {
    let mut volume = volume(name, "n1", 4 * GIB);
    volume.metadata.annotations =
        Some([(sheaf_api::names::CLAIM_ANNOTATION.to_owned(), "shop/data".to_owned())].into());
    volume
}

/// A node that reports and has nothing.
pub(super) fn observed(spec: Value, status: Value) -> Observed {
    Observed {
        removal: removal(spec, status),
        node: Some(node("True", false, false)),
        renewed: None,
        maintenance: None,
        pods: Vec::new(),
        volumes: Vec::new(),
        machines: Vec::new(),
        ended: Vec::new(),
        images: BTreeSet::new(),
        control_plane: vec![ControlPlaneNode { name: "plane".into(), is_ready: true }],
        busy: Vec::new(),
        leftovers: Vec::new(),
        identity: Identity::Key,
    }
}

/// A removal that cannot be cancelled any more, for half a minute.
fn removing(spec: Value, revoked: Option<&str>) -> Observed {
    let status = json!({"phase": "Removing", "removing": "2027-01-15T07:59:30Z", "nodeUid": "node-1", "revoked": revoked});
    let mut o = observed(spec, status);
    o.node = Some(node("True", true, false));
    o.maintenance = Some(maintenance("InMaintenance", true));
    if revoked.is_some() {
        o.identity = Identity::Removed;
    }
    o
}

const REVOKED: Option<&str> = Some("2027-01-15T07:59:50Z");

fn status(o: &Observed) -> NodeRemovalStatus {
    let written = plan(o, now()).actions.into_iter().find_map(|action| match action {
        Action::WriteStatus(status) => Some(*status),
        _ => None,
    });
    written.unwrap_or_else(|| o.removal.status.clone().unwrap_or_default())
}

fn words(o: &Observed) -> (Phase, String) {
    let status = status(o);
    (status.phase.unwrap(), status.message.unwrap())
}

/// What is done beside reports.
fn steps(o: &Observed) -> Vec<String> {
    let word = |action: &Action| match action {
        Action::WriteStatus(_) | Action::RecordEvent(_) => None,
        Action::AddFinalizer => Some("add finalizer".to_owned()),
        Action::RemoveFinalizer => Some("remove finalizer".to_owned()),
        Action::CreateMaintenance(_) => Some("create maintenance".to_owned()),
        Action::DeleteMaintenance(uid) => Some(format!("delete maintenance {uid}")),
        Action::OutOfService(is_out) => Some(format!("out of service {is_out}")),
        Action::DeletePod { name, .. } => Some(format!("delete pod {name}")),
        Action::Revoke => Some("revoke".to_owned()),
        Action::DeleteVolume(volume) => {
            Some(format!("delete volume {}", volume.metadata.name.clone().unwrap()))
        }
        Action::ClaimEvent { namespace, name, .. } => Some(format!("event of claim {namespace}/{name}")),
        Action::DeleteInstance { namespace, name, uid } => {
            Some(format!("delete instance {namespace}/{name} {uid}"))
        }
        Action::ForgetState(_) => Some("forget state".to_owned()),
        Action::Delete(leftover) => Some(format!("delete {:?} {}", leftover.kind, leftover.name)),
        Action::DeleteNode(uid) => Some(format!("delete node {uid}")),
    };
    plan(o, now()).actions.iter().filter_map(word).collect()
}

fn blockers(o: &Observed) -> Vec<String> {
    assert_eq!(status(o).phase, Some(Phase::Blocked));
    assert_eq!(steps(o), [""; 0], "a removal that is blocked does something");
    let all = status(o).blockers;
    all.into_iter().map(|found| format!("{}: {}; {}", found.what, found.why, found.remedy)).collect()
}

#[test]
fn a_node_that_reports_is_drained_by_a_maintenance_that_is_the_removals_own() {
    let mut o = observed(json!({"reason": "sold", "deadlineSeconds": 600}), json!({}));
    let planned = plan(&o, now());
    let made = planned.actions.iter().find_map(|action| match action {
        Action::CreateMaintenance(made) => Some(made),
        _ => None,
    });
    let made = made.unwrap();
    assert_eq!(made.spec.reason.as_deref(), Some("NodeRemoval: sold"));
    assert_eq!((made.spec.node_name.as_str(), made.spec.deadline_seconds), ("n1", Some(600)));
    assert!(owns(Some("r-1"), &**made));
    assert_eq!(words(&o), (Phase::Draining, "n1 is being put to rest".into()));
    o.maintenance = Some(maintenance("Draining", true));
    assert_eq!(words(&o), (Phase::Draining, "what the maintenance says".into()));
    assert_eq!(steps(&o), [""; 0]);
    o.maintenance = Some(maintenance("Blocked", true));
    assert_eq!(words(&o), (Phase::Blocked, "what the maintenance says".into()));
    o.maintenance = Some(maintenance("Cancelled", true));
    assert_eq!(words(&o), (Phase::Cancelled, "what the maintenance says".into()));
    o.maintenance = Some(maintenance("Cancelled", false));
    let message = "NodeMaintenance n1: was cancelled by its deadline; delete it";
    assert_eq!(words(&o), (Phase::Blocked, message.into()));
}

#[test]
fn a_node_leaves_only_when_it_is_cordoned_and_no_pod_of_a_vm_is_left() {
    let mut o = observed(json!({}), json!({"phase": "Draining"}));
    o.maintenance = Some(maintenance("InMaintenance", true));
    assert_eq!(status(&o).removing, None, "the node is not cordoned");
    o.node = Some(node("True", true, false));
    o.pods = vec![pod("a")];
    assert_eq!(words(&o), (Phase::Draining, "1 Pods of its VMs are yet to go".into()));
    o.pods.clear();
    assert_eq!(words(&o), (Phase::Removing, "n1 leaves the cluster".into()));
    assert_eq!(status(&o).node_uid.as_deref(), Some("node-1"));
    assert_eq!(steps(&o), [""; 0], "something is done before it is written that there is no way back");
}

#[test]
fn what_is_lost_blocks_until_each_is_confirmed_by_its_name() {
    let mut o = observed(json!({"acceptLoss": ["LocalVolume/pvc-1"]}), json!({}));
    o.volumes = vec![claimed("pvc-1"), claimed("pvc-2")];
    o.machines = vec![machine("Halted", json!({}), Some("n1"))];
    o.images = BTreeSet::from(["debian-13".to_owned()]);
    assert_eq!(
        blockers(&o),
        [
            "Image/debian-13: is on n1 only (image debian-13, which no other node has) and is lost with it; give it to another \
             node (`[[image]]` in its node.toml), or add its name to spec.acceptLoss",
            "LocalVolume/pvc-2: is on n1 only (claim shop/data, 4Gi) and is lost with it; copy it away (virtctl vmexport) and \
             delete it, or add its name to spec.acceptLoss",
            "VirtualMachine/shop/web: is on n1 only (its UEFI variables and TPM) and is lost with it; copy it away and delete \
             the VM, or add its name to spec.acceptLoss",
        ]
    );
    assert_eq!(status(&o).losses.len(), 4, "what is confirmed is still listed");
    let all = status(&o).losses.into_iter().map(|loss| loss.name).collect();
    o.removal.spec.accept_loss = all;
    assert_eq!(steps(&o), ["create maintenance"]);
}

#[test]
fn pools_that_are_erased_are_lost_by_name_and_those_that_stay_are_not() {
    let pool = || Leftover { kind: Kind::StoragePool, name: "default.n1".into(), uid: "p-1".into() };
    let mut o = observed(json!({"wipe": {"confirmNode": "n1"}}), json!({}));
    o.leftovers = vec![pool()];
    assert_eq!(steps(&o), ["create maintenance"]);
    o.removal.spec.wipe = Some(Wipe { confirm_node: "n1".into(), pools: true });
    assert_eq!(
        blockers(&o),
        [
            "StoragePool/default.n1: is on n1 only (a pool that is erased, with whatever is in it) and is lost with it; remove \
             spec.wipe.pools to keep it, or add its name to spec.acceptLoss"
        ]
    );
    o.removal.spec.accept_loss = vec!["StoragePool/default.n1".into()];
    assert_eq!(steps(&o), ["create maintenance"]);
}

#[test]
fn a_node_that_does_not_report_cannot_erase_itself() {
    for (spec, left) in [(json!({"poweredOff": true}), 1), (json!({}), 2)] {
        let mut o = observed(spec, json!({}));
        o.removal.spec.wipe = Some(Wipe { confirm_node: "n1".into(), pools: false });
        o.node = Some(node("Unknown", false, false));
        let found = blockers(&o);
        assert_eq!(found.len(), left, "{found:?}");
        assert_eq!(
            found[left - 1],
            "spec.wipe: n1 does not report, so it cannot erase itself; remove spec.wipe, and erase its disks before they leave the \
             house"
        );
        // It may be restarting.
        o.renewed = Timestamp::from_second(NOW - 100).ok();
        assert_eq!(words(&o).0, Phase::Checking);
    }
}

#[test]
fn at_the_end_it_is_said_whether_the_node_erases_itself() {
    let end = |wipe: bool, leaves: bool| {
        let mut o = removing(json!({}), None);
        o.removal.spec.wipe = wipe.then(|| Wipe { confirm_node: "n1".into(), pools: false });
        let conditions = o
            .node
            .as_mut()
            .and_then(|node| node.status.as_mut())
            .and_then(|status| status.conditions.as_mut());
        if leaves {
            let left = json!({"type": LEFT_CONDITION, "status": "True"});
            conditions.unwrap().push(serde_json::from_value(left).unwrap());
        }
        let mut status = status(&o);
        assert_eq!(status.erasing.is_some(), wipe && leaves);
        // All of it is gone since.
        status.revoked = Some(serde_json::from_value(json!(REVOKED)).unwrap());
        o.removal.status = Some(status);
        (o.node, o.maintenance, o.identity) = (None, None, Identity::Removed);
        words(&o)
    };
    let free =
        "nothing of n1 is left; its name is free for another machine after `sheaf-agent node release n1`";
    assert_eq!(end(false, true), (Phase::Removed, free.into()));
    assert_eq!(
        end(true, true),
        (Phase::Removed, format!("{free}. It erases itself; its screen shows when that is done"))
    );
    let late = "It did not leave in time, so it is not erased: erase its disks before they leave the house";
    assert_eq!(end(true, false), (Phase::Removed, format!("{free}. {late}")));
}

#[test]
fn a_node_of_the_control_plane_that_is_drained_loses_its_member_of_etcd_before_it_leaves() {
    let node_of_plane = |name: &str| ControlPlaneNode { name: name.into(), is_ready: true };
    let mut o = observed(json!({}), json!({"phase": "Draining"}));
    o.control_plane = ["n1", "n2", "n3"].map(node_of_plane).to_vec();
    assert_eq!(steps(&o), ["create maintenance"], "VMs first");
    o.maintenance = Some(maintenance("InMaintenance", true));
    o.node = Some(node("True", true, false));
    let message = "another control-plane node takes the member of n1 out of etcd; if it does not, run `sheaf-agent etcd remove n1` \
                   there";
    assert_eq!(words(&o), (Phase::Demoting, message.into()));
    assert_eq!((steps(&o).len(), status(&o).removing), (0, None), "it can be cancelled");
    // The others could not decide any more.
    o.control_plane[1].is_ready = false;
    assert_eq!(words(&o).0, Phase::Blocked);
    o.control_plane = vec![node_of_plane("n2"), node_of_plane("n3")];
    assert_eq!(words(&o), (Phase::Removing, "n1 leaves the cluster".into()));
}

#[test]
fn a_node_of_the_control_plane_is_refused_whatever_is_confirmed() {
    let mut o = observed(json!({"poweredOff": true}), json!({}));
    o.node = Some(node("Unknown", false, false));
    let plane = |ready: &[bool]| {
        let node = |(at, is_ready): (usize, &bool)| ControlPlaneNode {
            name: format!("n{}", at + 1),
            is_ready: *is_ready,
        };
        ready.iter().enumerate().map(node).collect::<Vec<_>>()
    };
    for (ready, expected) in [
        (
            &[true][..],
            "Node n1: is the only node of the control plane: the cluster ends with it; remove the other nodes, or nothing; then \
             install this machine again",
        ),
        (
            &[true, true, false][..],
            "Node n1: is one of 3 nodes of the control plane, and of the others 1 are Ready: etcd needs 2; repair the other \
             nodes of the control plane first",
        ),
        (
            &[false, true, true][..],
            "Node n1: is a node of the control plane, with a member of etcd, and does not report; run `sheaf-agent etcd remove n1` \
             on another control-plane node",
        ),
    ] {
        o.control_plane = plane(ready);
        assert_eq!(blockers(&o), [expected]);
    }
}

#[test]
fn an_update_a_trial_and_a_vm_that_runs_nowhere_else_are_named_with_the_remedy() {
    let mut o = observed(json!({}), json!({}));
    let busy = |what: &str, remedy: &str| Busy { what: what.into(), remedy: remedy.into() };
    o.busy = vec![busy("ClusterUpdate to-2", "set its spec.cancelled: true")];
    let selector = json!({sheaf_api::names::HOSTNAME_LABEL: "n1"});
    o.machines = vec![machine("Always", selector.clone(), None)];
    assert_eq!(
        blockers(&o),
        [
            "ClusterUpdate to-2: is changing n1 now; wait for its end, or set its spec.cancelled: true",
            "VM shop/web: its nodeSelector kubernetes.io/hostname: n1 lets it run on no other node; change the nodeSelector of \
             its template, or stop it (virtctl stop web -n shop)",
        ]
    );
    // A VM that is Halted is not in the way; what is under way at a node that is off never ends.
    o.machines = vec![machine("Halted", selector, None)];
    o.node = Some(node("Unknown", false, false));
    o.removal.spec.powered_off = true;
    assert_eq!(steps(&o), ["out of service true"]);
}

#[test]
fn a_silent_node_waits_until_it_is_said_to_be_switched_off_and_one_that_reports_is_not_taken_for_one() {
    let mut o = observed(json!({}), json!({}));
    o.node = Some(node("Unknown", false, false));
    o.pods = vec![pod("a")];
    assert_eq!(
        blockers(&o),
        [
            "Node n1: has not reported for 10 min, and may still run its VMs; repair it, or switch it off for good and set \
             spec.poweredOff: true"
        ]
    );
    o.removal.spec.powered_off = true;
    o.node = Some(node("True", false, false));
    assert_eq!(
        blockers(&o),
        ["Node n1: reports, so it is not switched off; remove spec.poweredOff to drain it, or switch it off"]
    );
    // The lease is renewed although the condition is not: its agent runs.
    o.node = Some(node("Unknown", false, false));
    o.renewed = Timestamp::from_second(NOW - 20).ok();
    assert_eq!(blockers(&o).len(), 1);
    // It restarts, maybe.
    o.renewed = Timestamp::from_second(NOW - 100).ok();
    assert_eq!(
        words(&o),
        (Phase::Checking, "n1 has not reported for 100 s: it is checked again in 200 s".into())
    );
    assert_eq!(steps(&o), [""; 0]);
    o.removal.spec.powered_off = false;
    assert_eq!(words(&o).0, Phase::Checking);
}

#[test]
fn of_a_node_that_is_switched_off_the_vms_are_ended_by_the_taint_and_then_by_their_pods() {
    let mut o = observed(json!({"poweredOff": true}), json!({}));
    o.node = Some(node("Unknown", false, false));
    o.pods = vec![pod("a"), pod("b")];
    assert_eq!(words(&o), (Phase::Draining, "n1 is being declared out of service".into()));
    assert!(status(&o).tainted);
    assert_eq!(steps(&o), ["out of service true"]);
    o.removal.status = Some(status(&o));
    o.node = Some(node("Unknown", false, true));
    o.pods[1].metadata.deletion_timestamp = Some(seconds(now()));
    assert_eq!(steps(&o), ["delete pod a"]);
    assert_eq!(words(&o), (Phase::Draining, "2 Pods of its VMs are yet to go".into()));
    o.pods.clear();
    assert_eq!(words(&o).0, Phase::Removing);
    // Somebody else's taint stays when the removal is deleted.
    let mut theirs = observed(json!({"poweredOff": true}), json!({}));
    theirs.node = Some(node("Unknown", false, true));
    theirs.pods = vec![pod("a")];
    assert!(!status(&theirs).tainted);
}

#[test]
fn a_removal_that_is_deleted_in_time_leaves_the_node_as_it_was() {
    let mut o = observed(json!({"poweredOff": true}), json!({"phase": "Draining", "tainted": true}));
    o.removal.metadata.deletion_timestamp = Some(seconds(now()));
    o.node = Some(node("Unknown", true, true));
    o.maintenance = Some(maintenance("Draining", true));
    assert_eq!(steps(&o), ["delete maintenance m-1", "out of service false"]);
    o.maintenance.as_mut().unwrap().metadata.deletion_timestamp = Some(seconds(now()));
    o.node = Some(node("Unknown", true, false));
    assert_eq!(steps(&o), [""; 0], "the maintenance is still giving the node back");
    o.maintenance = Some(maintenance("InMaintenance", false));
    assert_eq!(steps(&o), ["remove finalizer"], "a maintenance of a person stays");
    // A node that reports again is in service without that.
    let mut back = observed(json!({"poweredOff": true}), json!({"phase": "Draining", "tainted": true}));
    back.node = Some(node("True", false, true));
    assert_eq!(steps(&back), ["out of service false"]);
}

#[test]
fn a_removal_that_began_is_not_cancelled_by_deleting_it() {
    let mut o = removing(json!({}), None);
    o.removal.metadata.deletion_timestamp = Some(seconds(now()));
    o.node = None;
    assert_eq!(steps(&o), ["revoke"]);
}

#[test]
fn the_agent_has_two_minutes_to_leave_and_then_the_identity_is_revoked_before_anything_is_deleted() {
    let mut o = removing(json!({}), None);
    o.leftovers = vec![Leftover { kind: Kind::BlockDevice, name: "n1.a".into(), uid: "b".into() }];
    assert_eq!(words(&o), (Phase::Removing, "n1 is leaving: its agent forgets its keys".into()));
    assert_eq!(steps(&o), [""; 0]);
    let mut late = o.clone();
    late.removal.status.as_mut().unwrap().removing =
        Some(seconds(Timestamp::from_second(NOW - LEAVE_WITHIN).unwrap()));
    assert_eq!(steps(&late), ["revoke"]);
    let mut silent = o.clone();
    silent.node = Some(node("Unknown", true, false));
    assert_eq!(steps(&silent), ["revoke"]);
    let left = json!({"type": LEFT_CONDITION, "status": "True"});
    let conditions = &mut o.node.as_mut().unwrap().status.as_mut().unwrap().conditions;
    conditions.as_mut().unwrap().push(serde_json::from_value(left).unwrap());
    assert_eq!(steps(&o), ["revoke"]);
    o.identity = Identity::Removed;
    assert_eq!(words(&o), (Phase::Removing, "n1 has no identity any more".into()));
    assert_eq!(steps(&o), [""; 0], "an agent that still runs would create it again");
    o.removal.status = Some(status(&o));
    assert_eq!(o.removal.status.as_ref().unwrap().revoked, Some(seconds(now())));
    let later = plan(&o, Timestamp::from_second(NOW + REFUSED_AFTER).unwrap());
    assert!(later.actions.contains(&Action::Delete(o.leftovers[0].clone())), "{later:?}");
}

#[test]
fn what_is_left_goes_before_the_node_and_the_maintenance_after_it() {
    let mut o = removing(json!({"acceptLoss": ["LocalVolume/pvc-1", "VirtualMachine/shop/web"]}), REVOKED);
    o.volumes = vec![claimed("pvc-1")];
    o.machines = vec![machine("Always", json!({}), Some("n1"))];
    o.leftovers = vec![Leftover { kind: Kind::Lease, name: "n1".into(), uid: "l".into() }];
    assert_eq!(
        steps(&o),
        ["event of claim shop/data", "delete volume pvc-1", "forget state", "delete Lease n1"]
    );
    // The controller of VMs would take the node from it again.
    let ended = json!({"apiVersion": "kubevirt.io/v1", "kind": "VirtualMachineInstance",
        "metadata": {"name": "web", "namespace": "shop", "uid": "vmi-1"}, "spec": o.machines[0].spec.template.spec});
    o.ended = vec![serde_json::from_value(ended).unwrap()];
    assert_eq!(steps(&o)[2], "delete instance shop/web vmi-1");
    (o.volumes, o.machines, o.leftovers) = (Vec::new(), Vec::new(), Vec::new());
    assert_eq!(steps(&o), ["delete node node-1"]);
    o.node = None;
    assert_eq!(steps(&o), ["delete maintenance m-1"]);
    o.maintenance = None;
    assert_eq!(
        words(&o),
        (
            Phase::Removed,
            "nothing of n1 is left; its name is free for another machine after `sheaf-agent node release n1`"
                .into()
        )
    );
    assert_eq!(steps(&o), ["remove finalizer"]);
}

#[test]
fn nothing_follows_once_a_node_is_removed() {
    let mut o = observed(json!({}), json!({"phase": "Removed"}));
    assert_eq!(plan(&o, now()), Plan { actions: vec![Action::RemoveFinalizer], requeue: None });
    o.removal.metadata.finalizers = None;
    assert_eq!(plan(&o, now()), Plan::default());
}

#[test]
fn a_volume_that_came_after_the_confirmation_stops_the_removal_where_it_is() {
    let mut o = removing(json!({"acceptLoss": ["LocalVolume/pvc-1"]}), REVOKED);
    o.volumes = vec![claimed("pvc-1"), claimed("pvc-2")];
    assert_eq!(steps(&o), ["event of claim shop/data", "delete volume pvc-1"]);
    let (phase, message) = words(&o);
    assert_eq!(phase, Phase::Removing);
    assert!(message.starts_with("LocalVolume/pvc-2: is on n1 only"), "{message}");
    // One that its user deletes waits for a node that does not come back.
    o.volumes[1].metadata.deletion_timestamp = Some(seconds(now()));
    assert_eq!(steps(&o)[1..], ["delete volume pvc-1", "delete volume pvc-2"]);
}

#[test]
fn a_pod_that_was_bound_after_the_drain_stops_the_removal_until_the_machine_is_off() {
    let mut o = removing(json!({}), REVOKED);
    o.pods = vec![pod("late")];
    let message = "Pod shop/late: was bound to n1 after it was drained; delete its VM; then switch n1 off and set \
                   spec.poweredOff: true";
    assert_eq!(words(&o), (Phase::Removing, message.into()));
    assert_eq!(steps(&o), [""; 0]);
    o.removal.spec.powered_off = true;
    assert_eq!(steps(&o), [""; 0], "it reports");
    o.node = Some(node("Unknown", true, false));
    assert_eq!(steps(&o), ["out of service true"]);
    o.node = Some(node("Unknown", true, true));
    assert_eq!(steps(&o), ["delete pod late"]);
    assert_eq!(status(&o).phase, Some(Phase::Removing));
}

#[test]
fn a_name_that_was_released_meanwhile_belongs_to_another_machine() {
    let mut o = removing(json!({}), REVOKED);
    o.identity = Identity::Key;
    o.leftovers = vec![Leftover { kind: Kind::BlockDevice, name: "n1.a".into(), uid: "b".into() }];
    assert_eq!(
        words(&o),
        (Phase::Removed, "the name n1 was released before everything of the former node was deleted".into())
    );
    assert_eq!(steps(&o), ["remove finalizer"]);
}

#[test]
fn of_a_node_that_does_not_exist_only_what_is_left_is_removed_and_vms_that_may_run_are_named() {
    let mut o = observed(json!({}), json!({}));
    o.node = None;
    o.identity = Identity::None;
    let unknown = "Node n1: does not exist, and nothing of it is left; check spec.nodeName, and delete this NodeRemoval";
    assert_eq!(blockers(&o), [unknown]);
    o.removal.spec.powered_off = true;
    assert_eq!(blockers(&o), [unknown]);
    o.pods = vec![pod("a")];
    assert_eq!(
        blockers(&o),
        [
            "Node n1: does not exist, and VMs may still run on that machine: shop/a; switch it off for good and create the Node \
             again with the taint node.kubernetes.io/out-of-service=nodeshutdown:NoExecute"
        ]
    );
    o.pods.clear();
    o.identity = Identity::Key;
    assert_eq!(words(&o).0, Phase::Removing);
    o.removal.spec.powered_off = false;
    assert_eq!(
        blockers(&o),
        [
            "Node n1: does not exist, and things of it are left; wait for it to join again, or switch it off for good and set \
             spec.poweredOff: true"
        ]
    );
}

#[test]
fn the_same_status_is_not_written_twice() {
    let mut o = observed(json!({}), json!({}));
    o.volumes = vec![claimed("pvc-1")];
    o.removal.status = Some(status(&o));
    let again = plan(&o, now());
    assert!(again.actions.is_empty(), "{again:?}");
}
