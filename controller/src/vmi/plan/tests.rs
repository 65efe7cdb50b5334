//! From each state of a Pod to the phase and conditions of its instance.

use serde_json::{Value, json};

use super::*;
use crate::conditions::find;

fn now() -> Timestamp {
    Timestamp::from_second(1_800_000_000).unwrap()
}

fn vmi(phase: Option<&str>, deleting: bool) -> VirtualMachineInstance {
    let mut value = json!({
        "apiVersion": "kubevirt.io/v1", "kind": "VirtualMachineInstance",
        "metadata": {"name": "web", "namespace": "shop", "uid": "u-1", "finalizers": [VMI_FINALIZER]},
        "spec": {"domain": {"memory": {"guest": "1Gi"}, "devices": {}}},
        "status": {"phase": phase},
    });
    if deleting {
        value["metadata"]["deletionTimestamp"] = json!("2027-01-15T08:00:00Z");
    }
    serde_json::from_value(value).unwrap()
}

fn pod(node: Option<&str>, status: Value) -> Pod {
    serde_json::from_value(json!({
        "metadata": {"name": "p", "uid": "p-1"},
        "spec": {"containers": [], "nodeName": node},
        "status": status,
    }))
    .unwrap()
}

fn phase_after(vmi: &VirtualMachineInstance, pods: &[Pod]) -> Option<Phase> {
    plan(vmi, pods, now()).unwrap().status.phase
}

#[test]
fn a_new_instance_is_held_before_anything_else() {
    let mut vmi = vmi(None, false);
    vmi.metadata.finalizers = None;
    assert_eq!(plan(&vmi, &[], now()).unwrap().actions, [Action::Hold]);
}

#[test]
fn an_instance_without_a_pod_gets_one() {
    let plan = plan(&vmi(None, false), &[], now()).unwrap();
    assert!(matches!(plan.actions[0], Action::CreatePod(_)));
    assert_eq!(plan.status.phase, Some(Phase::Scheduling));
}

#[test]
fn a_pod_that_no_node_fits_leaves_its_reason() {
    let pod = pod(
        None,
        json!({"phase": "Pending", "conditions": [{"type": "PodScheduled", "status": "False",
        "reason": "Unschedulable", "message": "0/1 nodes are available: 1 Insufficient memory."}]}),
    );
    let status = plan(&vmi(Some("Scheduling"), false), &[pod], now()).unwrap().status;
    assert_eq!(status.phase, Some(Phase::Scheduling));
    let condition = find(&status.conditions, "PodScheduled").unwrap();
    assert_eq!(condition.reason.as_deref(), Some("Unschedulable"));
    assert_eq!(condition.message.as_deref(), Some("0/1 nodes are available: 1 Insufficient memory."));
}

#[test]
fn a_bound_pod_makes_it_scheduled_and_a_ready_one_running() {
    let bound = pod(Some("n1"), json!({"phase": "Pending"}));
    assert_eq!(phase_after(&vmi(Some("Scheduling"), false), &[bound]), Some(Phase::Scheduled));
    let ready = pod(
        Some("n1"),
        json!({"phase": "Running", "podIPs": [{"ip": "10.0.2.15"}],
        "conditions": [{"type": "Ready", "status": "True"}]}),
    );
    let plan = plan(&vmi(Some("Scheduled"), false), &[ready], now()).unwrap();
    assert_eq!(plan.status.phase, Some(Phase::Running));
    assert_eq!(plan.status.node_name.as_deref(), Some("n1"));
    assert_eq!(plan.status.interfaces[0].ip_address.as_deref(), Some("10.0.2.15"));
    assert!(plan.actions.contains(&Action::LabelNode("n1".into())));
}

#[test]
fn a_running_instance_never_goes_back_when_its_node_falls_silent() {
    let silent =
        pod(Some("n1"), json!({"phase": "Running", "conditions": [{"type": "Ready", "status": "False"}]}));
    let status = plan(&vmi(Some("Running"), false), &[silent], now()).unwrap().status;
    assert_eq!(status.phase, Some(Phase::Running));
    assert_eq!(find(&status.conditions, "Ready").unwrap().status, "False");
}

#[test]
fn the_end_of_the_pod_is_the_end_of_the_instance() {
    let done = pod(Some("n1"), json!({"phase": "Succeeded"}));
    assert_eq!(phase_after(&vmi(Some("Running"), false), &[done]), Some(Phase::Succeeded));
    let failed = pod(
        Some("n1"),
        json!({"phase": "Failed", "reason": "NodeRebooted", "message": "gone with its node"}),
    );
    let status = plan(&vmi(Some("Running"), false), &[failed], now()).unwrap().status;
    assert_eq!((status.phase, status.reason.as_deref()), (Some(Phase::Failed), Some("NodeRebooted")));
    assert_eq!(phase_after(&vmi(Some("Running"), false), &[]), Some(Phase::Failed));
}

#[test]
fn a_finished_instance_never_gets_another_pod() {
    for phase in ["Succeeded", "Failed"] {
        let plan = plan(&vmi(Some(phase), false), &[], now()).unwrap();
        assert!(plan.actions.is_empty(), "{:?}", plan.actions);
    }
}

#[test]
fn a_deleted_instance_is_let_go_only_when_no_pod_remains() {
    let live = pod(Some("n1"), json!({"phase": "Running"}));
    let deleting = vmi(Some("Running"), true);
    let actions = plan(&deleting, &[live], now()).unwrap().actions;
    assert!(actions.contains(&Action::DeletePod { name: "p".into(), uid: "p-1".into() }));
    assert!(!actions.contains(&Action::Release));
    let last = plan(&deleting, &[], now()).unwrap();
    assert!(last.actions.contains(&Action::Release));
    assert_eq!(last.status.phase, Some(Phase::Succeeded));
}

#[test]
fn planning_again_on_the_planned_status_changes_nothing() {
    let ready =
        || pod(Some("n1"), json!({"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}));
    let mut vmi = vmi(Some("Scheduled"), false);
    let first = plan(&vmi, &[ready()], now()).unwrap();
    vmi.status = Some(first.status.clone());
    vmi.metadata.labels = Some([(NODE_NAME_LABEL.to_string(), "n1".to_string())].into());
    let later = Timestamp::from_second(1_800_000_500).unwrap();
    assert_eq!(plan(&vmi, &[ready()], later).unwrap(), Plan { actions: vec![], status: first.status });
}
