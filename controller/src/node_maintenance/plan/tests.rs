//! Each turn of a maintenance, with the words that people read.

use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};

use super::*;

const NOW: i64 = 1_800_000_000; // 2027-01-15T08:00:00Z

fn now() -> Timestamp {
    Timestamp::from_second(NOW).unwrap()
}

pub(super) fn maintenance(spec: Value, status: Value) -> NodeMaintenance {
    let mut all = json!({"nodeName": "n1"});
    all.as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
    serde_json::from_value(json!({
        "apiVersion": "sheaf.dev/v1alpha1", "kind": "NodeMaintenance",
        "metadata": {"name": "n1", "uid": "m-1", "generation": 1, "finalizers": [MAINTENANCE_FINALIZER]},
        "spec": all, "status": status,
    }))
    .unwrap()
}

pub(super) fn node(cordoned: bool) -> Node {
    serde_json::from_value(json!({"metadata": {"name": "n1"}, "spec": {"unschedulable": cordoned}})).unwrap()
}

/// A VM of the node with this template; `more` is put into its Pod's metadata.
pub(super) fn vm(name: &str, strategy: &str, template: Value, more: Value) -> Vm {
    let mut spec = json!({"domain": {"memory": {"guest": "1Gi"}, "devices": {}}});
    spec.as_object_mut().unwrap().extend(template.as_object().unwrap().clone());
    let machine = json!({
        "apiVersion": "kubevirt.io/v1", "kind": "VirtualMachine",
        "metadata": {"name": name, "namespace": "shop", "uid": format!("vm-{name}")},
        "spec": {"runStrategy": strategy, "template": {"spec": spec}},
    });
    let owner = json!({"apiVersion": "kubevirt.io/v1", "kind": "VirtualMachine", "name": name,
        "uid": format!("vm-{name}"), "controller": true});
    let instance = json!({
        "apiVersion": "kubevirt.io/v1", "kind": "VirtualMachineInstance",
        "metadata": {"name": name, "namespace": "shop", "uid": format!("vmi-{name}"), "ownerReferences": [owner]},
        "spec": spec, "status": {"phase": "Running"},
    });
    let mut meta = json!({"name": format!("virt-launcher-{name}"), "namespace": "shop", "uid": format!("pod-{name}"),
        "labels": {"app": name}});
    meta.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let pod: Pod =
        serde_json::from_value(json!({"metadata": meta, "spec": {"containers": [], "nodeName": "n1"}}))
            .unwrap();
    Vm {
        name: name.into(),
        pod,
        machine: serde_json::from_value(machine).unwrap(),
        instance: serde_json::from_value(instance).unwrap(),
        claims_here: Vec::new(),
    }
}

fn plain(name: &str) -> Vm {
    vm(name, "Always", json!({}), json!({}))
}

fn budget(name: &str, app: &str, allowed: i32) -> PodDisruptionBudget {
    serde_json::from_value(json!({
        "metadata": {"name": name, "namespace": "shop"},
        "spec": {"selector": {"matchLabels": {"app": app}}},
        "status": {"disruptionsAllowed": allowed, "currentHealthy": 1, "desiredHealthy": 1, "expectedPods": 1},
    }))
    .unwrap()
}

/// A cordoned node under maintenance for ten seconds, with these VMs.
fn observed(vms: Vec<Vm>) -> Observed {
    let status = json!({"since": "2027-01-15T07:59:50Z", "wasCordoned": false});
    Observed {
        maintenance: maintenance(json!({}), status),
        node: Some(node(true)),
        vms,
        known: Vec::new(),
        budgets: Vec::new(),
        control_plane: vec!["n1".into(), "n2".into()],
    }
}

fn status(plan: &Plan) -> NodeMaintenanceStatus {
    let written = plan.actions.iter().find_map(|action| match action {
        Action::WriteStatus(status) => Some((**status).clone()),
        _ => None,
    });
    written.expect("the status is written")
}

/// What is done beside status and Events.
fn acts(plan: &Plan) -> Vec<String> {
    let word = |action: &Action| match action {
        Action::WriteStatus(_) | Action::RecordEvent(_) => None,
        Action::AddFinalizer => Some("add finalizer".to_owned()),
        Action::RemoveFinalizer => Some("remove finalizer".to_owned()),
        Action::Cordon(true) => Some("cordon".to_owned()),
        Action::Cordon(false) => Some("uncordon".to_owned()),
        Action::Evict { pod, uid, .. } => Some(format!("evict {pod} {uid}")),
        Action::Start { vm, requests } => {
            let name = vm.metadata.name.clone().unwrap_or_default();
            Some(format!("start {name} by {} requests", requests.len()))
        }
    };
    plan.actions.iter().filter_map(word).collect()
}

/// Phase, and message.
fn words(plan: &Plan) -> (Phase, String) {
    let status = status(plan);
    (status.phase.unwrap(), status.message.unwrap())
}

fn deleting(mut o: Observed) -> Observed {
    o.maintenance.metadata.deletion_timestamp = Some(seconds(now()));
    o
}

#[test]
fn how_the_node_was_is_written_before_it_is_cordoned_and_no_vm_is_stopped_before_that() {
    let mut o = observed(vec![plain("web")]);
    o.maintenance = maintenance(json!({}), json!({}));
    o.maintenance.metadata.finalizers = None;
    assert_eq!(acts(&plan(&o, now())), ["add finalizer"]);
    o.maintenance = maintenance(json!({}), json!({}));
    o.node = Some(node(false));
    let first = plan(&o, now());
    assert!(matches!(first.actions[0], Action::WriteStatus(_)), "{first:?}");
    assert_eq!(acts(&first), ["cordon"]);
    assert_eq!((status(&first).was_cordoned, status(&first).since), (Some(false), Some(seconds(now()))));
    o.node = Some(node(true));
    o.maintenance.status = Some(status(&first));
    assert_eq!(acts(&plan(&o, now())), ["evict virt-launcher-web pod-web"]);
}

#[test]
fn a_node_without_vms_is_in_maintenance_once_it_is_cordoned() {
    let mut o = observed(Vec::new());
    o.node = Some(node(false));
    assert_eq!(words(&plan(&o, now())), (Phase::Draining, "n1 is being cordoned".into()));
    o.node = Some(node(true));
    let at_rest = plan(&o, now());
    let message = "no VM runs on n1; delete this object to end the maintenance";
    assert_eq!(words(&at_rest), (Phase::InMaintenance, message.into()));
    assert_eq!((status(&at_rest).drained, at_rest.requeue), (Some(seconds(now())), Some(REST)));
    o.maintenance.status = Some(status(&at_rest));
    assert_eq!(plan(&o, now()).actions, [], "nothing more is done or written");
}

#[test]
fn a_vm_that_powers_off_is_waited_for_and_shown_with_its_end() {
    let more = json!({"deletionTimestamp": "2027-01-15T08:01:00Z", "deletionGracePeriodSeconds": 60});
    let drain = plan(&observed(vec![vm("web", "Always", json!({}), more)]), now());
    assert_eq!(words(&drain), (Phase::Draining, "1 of its VMs are yet to power off".into()));
    assert_eq!(
        status(&drain).stopping,
        ["shop/web: is asked to power off, and ended at 2027-01-15T08:01:00Z"]
    );
    assert_eq!(acts(&drain), [""; 0]);
}

/// The only blocker, as one line.
fn blocker(o: &Observed) -> String {
    let plan = plan(o, now());
    let status = status(&plan);
    assert_eq!(status.phase, Some(Phase::Blocked), "{status:?}");
    let [Blocker { what, why, remedy }] = status.blockers.as_slice() else { panic!("{status:?}") };
    let line = format!("{what}: {why}; {remedy}");
    assert_eq!(status.message.as_deref(), Some(line.as_str()));
    assert!(plan.actions.contains(&Action::RecordEvent(Event::warning("Blocked", line.clone()))));
    line
}

#[test]
fn every_vm_that_must_not_be_stopped_is_named_with_the_remedy_and_then_none_is_stopped() {
    let bare = {
        let mut bare = plain("web");
        bare.machine = None;
        bare.instance.as_mut().unwrap().metadata.owner_references = None;
        bare
    };
    let file = json!({"volumes": [{"name": "a", "hostDisk": {"path": "/data/disks/shop/a.raw", "type": "DiskOrCreate"}}]});
    for (refused, line) in [
        (
            vm("web", "Always", json!({"evictionStrategy": "LiveMigrate"}), json!({})),
            "VM shop/web: its evictionStrategy LiveMigrate forbids to stop it, and Sheaf does not migrate VMs yet; stop it \
             (virtctl stop web -n shop), or set evictionStrategy: LiveMigrateIfPossible in its template",
        ),
        (
            vm("web", "Once", json!({}), json!({})),
            "VM shop/web: its runStrategy Once does not start it again; stop it (virtctl stop web -n shop), or change its \
             runStrategy to RerunOnFailure",
        ),
        (
            bare,
            "VM shop/web: it is an instance without a VirtualMachine: nothing starts it again; delete it: kubectl delete vmi \
             web -n shop",
        ),
        (
            vm("web", "Always", file, json!({})),
            "VM shop/web: its disk /data/disks/shop/a.raw is a file of this node, and it may start on another one without it; \
             stop it (virtctl stop web -n shop), or set nodeSelector kubernetes.io/hostname: n1 in its template",
        ),
    ] {
        let o = observed(vec![refused, plain("other")]);
        assert_eq!(blocker(&o), line);
        assert_eq!(acts(&plan(&o, now())), [""; 0], "others are not stopped for nothing");
    }
}

#[test]
fn a_vm_may_be_stopped_whatever_its_other_strategies_are() {
    let pinned = json!({"nodeSelector": {"kubernetes.io/hostname": "n1"},
        "volumes": [{"name": "a", "hostDisk": {"path": "/data/disks/shop/a.raw", "type": "Disk"}}]});
    let image =
        json!({"volumes": [{"name": "a", "hostDisk": {"path": "/data/images/debian-13", "type": "Disk"}}]});
    let mut replica = plain("replica");
    replica.machine = None;
    for one in [
        vm("a", "Always", json!({"evictionStrategy": "None"}), json!({})),
        vm("b", "RerunOnFailure", json!({"evictionStrategy": "LiveMigrateIfPossible"}), json!({})),
        vm("c", "Manual", json!({}), json!({})),
        vm("d", "Always", pinned, json!({})),
        vm("e", "Always", image, json!({})),
        replica,
    ] {
        let name = one.name.clone();
        assert_eq!(
            acts(&plan(&observed(vec![one]), now())),
            [format!("evict virt-launcher-{name} pod-{name}")]
        );
    }
}

#[test]
fn a_disruption_budget_blocks_its_vm_and_no_other() {
    let mut o = observed(vec![plain("web"), plain("db")]);
    o.budgets = vec![budget("two-at-least", "web", 0)];
    assert_eq!(
        blocker(&o),
        "VM shop/web: PodDisruptionBudget two-at-least allows no disruption now; run more VMs of its selector on other \
         nodes, or change the PodDisruptionBudget"
    );
    assert_eq!(acts(&plan(&o, now())), ["evict virt-launcher-db pod-db"]);
    o.budgets = vec![budget("two-at-least", "web", 1)];
    assert_eq!(acts(&plan(&o, now())).len(), 2);
    o.budgets = vec![budget("one", "web", 1), budget("two", "web", 1)];
    assert_eq!(
        blocker(&o),
        "VM shop/web: several PodDisruptionBudgets match it: one, two; leave one that matches it"
    );
}

#[test]
fn a_node_that_does_not_report_the_end_of_a_vm_and_one_that_does_not_exist_are_blockers() {
    let more = json!({"deletionTimestamp": "2027-01-15T07:58:59Z", "deletionGracePeriodSeconds": 0});
    assert_eq!(
        blocker(&observed(vec![vm("web", "Always", json!({}), more)])),
        "VM shop/web: node n1 has not reported that the VM stopped, so it may still run there; if n1 is powered off for \
         certain, an administrator sets the taint node.kubernetes.io/out-of-service=nodeshutdown:NoExecute on it; look at \
         the node; its status page is on tty1 and on the serial line"
    );
    let mut o = observed(Vec::new());
    o.node = None;
    assert_eq!(
        blocker(&o),
        "Node n1: does not exist; delete this NodeMaintenance, or wait for the node to join"
    );
}

#[test]
fn the_only_node_of_the_control_plane_is_a_warning_and_no_blocker() {
    let mut o = observed(Vec::new());
    o.control_plane = vec!["n1".into()];
    let status = status(&plan(&o, now()));
    assert_eq!(status.phase, Some(Phase::InMaintenance));
    assert_eq!(
        status.warnings,
        [
            "n1 is the only node of the control plane: while it is switched off, nothing of the cluster can be changed, and \
          VMs of other nodes run on"
        ]
    );
}

#[test]
fn a_vm_with_disks_on_the_node_is_remembered_before_it_is_stopped_and_waits_for_the_end() {
    let mut local = plain("db");
    local.claims_here = vec!["db-root".into()];
    let drain = plan(&observed(vec![local]), now());
    assert!(matches!(drain.actions[0], Action::WriteStatus(_)));
    let entry = &status(&drain).stopped[0];
    assert_eq!((entry.name.as_str(), entry.held, entry.restart), ("db", true, false));
    assert_eq!(acts(&drain), ["evict virt-launcher-db pod-db"]);
    let mut o = observed(Vec::new());
    o.maintenance.status = Some(status(&drain));
    assert_eq!(
        words(&plan(&o, now())).1,
        "no VM runs on n1; 1 wait for their disks here; delete this object to end the maintenance"
    );
}

/// A Manual VM that was stopped, as it is now.
fn manual(phase: Option<&str>, uid: &str, requests: Value) -> Observed {
    let Vm { mut machine, mut instance, .. } = vm("web", "Manual", json!({}), json!({}));
    let entry = StoppedVm {
        namespace: "shop".into(),
        name: "web".into(),
        uid: "vm-web".into(),
        instance: "vmi-web".into(),
        held: false,
        restart: true,
    };
    machine.as_mut().unwrap().status =
        serde_json::from_value(json!({"stateChangeRequests": requests})).unwrap();
    let of_phase = serde_json::from_value(json!({"phase": phase})).unwrap();
    let one = instance.as_mut().unwrap();
    (one.status, one.metadata.uid) = (Some(of_phase), Some(uid.into()));
    let mut o = observed(Vec::new());
    o.maintenance.status.as_mut().unwrap().stopped = vec![entry.clone()];
    o.known = vec![Known { entry, machine, instance: instance.filter(|_| phase.is_some()) }];
    o
}

#[test]
fn a_manual_vm_is_asked_to_start_once_its_instance_has_ended_and_never_twice() {
    let cases = [
        (manual(Some("Running"), "vmi-web", json!([])), vec![], true),
        (manual(Some("Failed"), "vmi-web", json!([])), vec!["start web by 2 requests"], true),
        (manual(None, "", json!([])), vec!["start web by 1 requests"], true),
        (
            manual(
                Some("Failed"),
                "vmi-web",
                json!([{"action": "Stop", "uid": "vmi-web"}, {"action": "Start"}]),
            ),
            vec![],
            false,
        ),
        (manual(Some("Running"), "vmi-2", json!([])), vec![], false),
    ];
    for (o, expected, remembered) in cases {
        let planned = plan(&o, now());
        assert_eq!(acts(&planned), expected);
        assert_eq!(!status(&planned).stopped.is_empty(), remembered, "{expected:?}");
    }
    let mut halted = manual(Some("Failed"), "vmi-web", json!([]));
    halted.known[0].machine.as_mut().unwrap().spec.run_strategy = Some(RunStrategy::Halted);
    assert_eq!(acts(&plan(&halted, now())), [""; 0], "its user does not want it to run any more");
    let mut other = manual(Some("Failed"), "vmi-web", json!([]));
    other.known[0].machine.as_mut().unwrap().metadata.uid = Some("another".into());
    assert_eq!(acts(&plan(&other, now())), [""; 0], "another VM has its name");
}

#[test]
fn deletion_uncordons_the_node_and_then_releases_the_object() {
    let o = deleting(observed(vec![plain("web")]));
    let end = plan(&o, now());
    assert_eq!(acts(&end), ["uncordon"], "VMs that still run are left alone");
    assert_eq!(words(&end), (Phase::Ending, "n1 takes VMs again".into()));
    let mut next = o.clone();
    next.maintenance.status = Some(status(&end));
    next.node = Some(node(false));
    assert_eq!(acts(&plan(&next, now())), ["remove finalizer"]);
    next.node = None;
    assert_eq!(acts(&plan(&next, now())), ["remove finalizer"], "the node left meanwhile");
}

#[test]
fn a_node_that_was_cordoned_by_hand_stays_cordoned() {
    let mut o = deleting(observed(Vec::new()));
    o.maintenance.status.as_mut().unwrap().was_cordoned = Some(true);
    assert_eq!(acts(&plan(&o, now())), ["remove finalizer"]);
}

#[test]
fn a_manual_vm_that_was_stopped_is_started_before_the_object_is_released() {
    let mut o = deleting(manual(Some("Failed"), "vmi-web", json!([])));
    o.node = Some(node(false));
    let end = plan(&o, now());
    assert_eq!(acts(&end), ["start web by 2 requests"]);
    assert_eq!(words(&end).1, "n1 takes VMs again; 1 to be started as they are Manual");
}

#[test]
fn a_drain_that_takes_longer_than_its_deadline_is_cancelled_and_says_what_blocked() {
    let mut o = observed(vec![vm("web", "Once", json!({}), json!({})), plain("db")]);
    o.maintenance = maintenance(
        json!({"deadlineSeconds": 600}),
        json!({"since": "2027-01-15T07:50:00Z", "wasCordoned": false, "phase": "Blocked"}),
    );
    let early = plan(&o, Timestamp::from_second(NOW - 1).unwrap());
    assert_eq!((acts(&early), early.requeue), (vec![], Some(Duration::from_secs(1))));
    let late = plan(&o, now());
    assert_eq!(acts(&late), ["uncordon"]);
    let message = "not drained within 600 s, so n1 takes VMs again: VM shop/web: its runStrategy Once does not start it \
                   again; VM shop/db: not stopped yet. Remove what blocks, delete this object and create it again";
    assert_eq!(words(&late), (Phase::Cancelled, message.into()));
    assert!(late.actions.contains(&Action::RecordEvent(Event::warning("DeadlineExceeded", message))));
    // Whoever cordons the node from now on wants that for another reason.
    o.maintenance.status = Some(status(&late));
    o.node = Some(node(false));
    let after = plan(&o, now());
    assert_eq!((status(&after).was_cordoned, acts(&after)), (None, vec![]));
    o.maintenance.status = Some(status(&after));
    o.node = Some(node(true));
    assert_eq!(plan(&o, now()).actions, []);
}

#[test]
fn a_deadline_is_for_the_drain_and_not_for_the_rest() {
    let mut o = observed(vec![plain("late")]);
    o.maintenance = maintenance(
        json!({"deadlineSeconds": 600}),
        json!({"since": "2027-01-15T07:00:00Z", "drained": "2027-01-15T07:05:00Z", "wasCordoned": false}),
    );
    assert_eq!(acts(&plan(&o, now())), ["evict virt-launcher-late pod-late"]);
}
